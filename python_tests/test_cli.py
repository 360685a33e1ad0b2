"""The command line: what is one line, what is a bug, and the exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from memkern import cli
from memkern.errors import DataError, MemkernError

RUN = ["merge", "part", "--out", "whole"]
AUDIT = ["audit", "memkern:resnet9", "--weights", "f", "--data", "d", "--out", "RUN"]


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def work(args: argparse.Namespace) -> None:
        raise error

    for command in ("merge", "audit"):
        monkeypatch.setitem(cli.COMMANDS, command, work)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DataError("Expected images,\n  got none"), "Expected images, got none"),
        (MemkernError(), "MemkernError"),
        (OSError(errno.ENOSPC, "No space left on device", "RUN"), "[Errno 28] No space left on device: 'RUN'"),
        (MemoryError("no room"), "Out of memory: no room"),
        (torch.OutOfMemoryError("CUDA out of memory."), "Out of memory: CUDA out of memory."),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            "Out of memory: [enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 9 bytes",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, sentence: str
) -> None:
    fails(monkeypatch, error)
    assert cli.main(RUN) == 1
    assert capsys.readouterr().err == f"memkern: error: {sentence}\n"
    with pytest.raises(type(error)):
        cli.main([*RUN, "--debug"])


def test_memory_of_an_audit_names_the_batch_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    assert cli.main(AUDIT) == 1
    line = "memkern: error: Out of memory: CUDA out of memory.; a smaller --batch-size takes less\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), RuntimeError("a bug"), ImportError("a bug")])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_bug_is_shown_as_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, debug: list[str]
) -> None:
    fails(monkeypatch, error)
    assert cli.main([*RUN, *debug]) == cli.BUG == 70
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):")
    assert "in work" in text
    assert text.splitlines()[-1] == cli.REPORT


def test_an_interrupt_says_whether_the_run_can_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fails(monkeypatch, KeyboardInterrupt())
    assert cli.main(RUN) == 130
    assert capsys.readouterr().err == "memkern: interrupted\n"
    (tmp_path / "plan.json").write_text("{}")
    assert cli.main([*AUDIT[:-1], str(tmp_path)]) == 130
    assert capsys.readouterr().err == "memkern: interrupted; go on with --resume\n"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("audit x --weights f --data d --out o --views ten", "--views: Expected a whole number, got 'ten'"),
        ("audit x --weights f --data d --out o --shard 3", "--shard: Expected i/n, 3/8 say, got '3'"),
        ("audit x --weights f --data d --out o --mean a", "--mean: Expected numbers separated by commas, "),
        ("compare a b --seed -1", "--seed: Expected a whole number from 0 to 2**31 - 1, got '-1'"),
        ("compare a b --top x", "--top: Expected a whole number, got 'x'"),
        ("lab train --out o --set epochs", "--set: Expected FIELD=VALUE, got 'epochs'"),
        ("lab run table-1 --threads 0", "--threads: Expected a whole number of 1 or more, got '0'"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(
    capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(line.split())
    assert raised.value.code == 2
    assert f"error: argument {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("lab train --out o --set epoch=3", "Expected fields of a recipe among epochs, batch, "),
        ("lab train --out o --device tpu9", "Expected `device` to be auto, cpu, cuda or cuda:N, got 'tpu9'"),
        ("lab run table-1 table-99", "Expected experiments among "),
        ("lab index .", "Expected pages of `memkern lab run` in ., got none"),
        ("report nowhere", "Expected "),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith(f"memkern: error: {sentence}")


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("audit timm:resnet18 --weights f --data . --out o --transform simclt", "`simclr`"),
        ("audit timm:resnet18 --weights f --data . --out o --transform view.json", "`views.json`"),
        ("audit timm:resnet18 --weights f --data . --out o --distance l3", "'l2'"),
        ("audit timm:resnet18 --weights f --data . --out o --tranform simclr", "`--transform`"),
        ("lab run tabel-1", "`table-1`"),
        ("lab train --out o --method simclt", "`simclr`"),
    ],
)
def test_the_nearest_names_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, near: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "views.json").write_text("{}")
    if line.startswith("lab"):
        pytest.importorskip("sklearn")  # of memkern[lab]
    code: object
    try:
        code = cli.main(line.split())
    except SystemExit as raised:  # argparse knows all choices itself
        code = raised.code
    assert code in (1, 2)
    said = capsys.readouterr().err
    assert near in said.partition("did you mean" if "`" in near else "choose from")[2], said


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete_arguments(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("reference", "shard", "compare", "doctor"))
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
        asked = "COMP_WORDS=(memkern audit --distance '') COMP_CWORD=3; _shtab_memkern; echo ${COMPREPLY[*]}"
        done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, check=True)
        assert {"l2", "cosine"} <= set(done.stdout.split())


def test_doctor_lists_the_extras_of_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for extra, package in (("audit", "pyarrow"), ("lab", "scikit-learn"), ("ssl", "timm"), ("dp", "opacus")):
        assert f" {package} " in next(line for line in text.splitlines() if line.startswith(f"memkern[{extra}]: "))
    assert "encoders and images: datasets " in text

    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "requires", missing)
    assert cli.main(["doctor"]) == 0
    assert "encoders and images: datasets " in capsys.readouterr().out


def test_an_interrupt_that_compiled_code_turned_into_another_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(args: argparse.Namespace) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("could not determine the shape") from None

    monkeypatch.setitem(cli.COMMANDS, "report", work)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert cli.main(["report", "x"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "memkern: interrupted\n"
