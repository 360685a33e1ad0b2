"""The touch lists of CONTRIBUTING.md are complete: git finds a thing's name in the files of its list and nowhere else.

Each list is compared with one thing that was added by it. Files that speak of the thing for another reason than that it
exists are listed with that reason; a reason that no file needs any more is an error, too.
"""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

import memkern

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / ".git").exists() or not shutil.which("git"):
    pytest.skip("the lists are compared with what git knows", allow_module_level=True)


class Added(NamedTuple):
    """One thing that was added."""

    hole: str  # what stands in the braces of the list
    stem: str  # of its files
    words: str  # how other files would name it, an extended regular expression
    elsewhere: dict[str, str]  # pattern of files that name it for another reason -> the reason


ALWAYS = {
    "CHANGELOG.md": "history",
    "CONTRIBUTING.md": "the lists themselves",
    "*README.md": "what users, and newcomers to a folder, read first",
    "docs/*": "pages for users; tables in them are made from the registries",
    "scripts/planned_differences.toml": "what differs between two versions",
}
ADDED = {
    "New op": Added("op", "class_sums", "class_sums", {  # the one that scripts/new_op.py copies
        "bench/gpu_races.py": "races on GPUs: of the ops that are worth one",
        "bench/peers_jax.py": "what JAX makes of it",
        "bench/results/*": "measured numbers",
        "bench/sources.py": "of which ops classmem is made",
        "bench/targets.py": "what its times are held to",
        "memkern/checks/registered.py": "what it requires where it is called directly: one function, of its own kind",
        "memkern/metrics/classes.py": "the metric that calls it",
        "python_tests/cpu/test_isa.py": "the smallest kernel, as an example",
        "python_tests/cuda/test_cuda_cuxray.py": "gates of single GPU kernels",
        "python_tests/cuda/test_cuda_launches.py": "launches of single GPU kernels",
        "python_tests/cuda/test_cuda_nvrtc.py": "takes every kernel through NVRTC",
        "python_tests/cuda/test_cuda_ops.py": "an example in a comment",
        "python_tests/cuda/test_gpu.py": "what only a GPU can show",
        "python_tests/gpu/*": "budgets, tiny cases and planted faults of single GPU kernels",
        "python_tests/gpu_triton/*": "gates and planted faults of single Triton kernels",
        "python_tests/ops/test_compile.py": "what its labels do when traced",
        "python_tests/ops/test_properties.py": "properties of its own",
        "python_tests/ops/test_registered.py": "a call that it refuses",
        "python_tests/test_native.py": "the smallest record, as an example",
        "python_tests/triton_kernels/test_triton_compile.py": "the smallest kernel, as an example",
        "scripts/frozen/*": "bits before and after the redesign",
        "scripts/new_op.py": "copies it",
    }),
    "New encoder kind": Added("kind", "hf", "hf", {
        "memkern/audit/encoders/checkpoints/code_bases.py": "code bases whose files load",
        "memkern/audit/encoders/checkpoints/misfits.py": "what to name where a file is of another library",
        "python_tests/audit/encoders/test_misfits.py": "files of another library",
        "python_tests/audit/encoders/test_build.py": "all kinds, as text",
        "python_tests/audit/measure/test_fitting.py": "a kind with files",
        "memkern/_util/remote.py": "hf:// is an address of a store",
        "python_tests/_util/test_remote.py": "hf:// is an address of a store",
    }),
    "New image reader": Added("reader", "hdf5", "hdf5", {"python_tests/audit/data/test_open.py": "all kinds, as text"}),
    "New export": Added("export", "fiftyone", "fiftyone", {
        "memkern/audit/pipeline.py": "a docstring's example",
        "python_tests/audit/measure/test_run_shards.py": "a merge that exports",
        "python_tests/audit/measure/test_bound_to_plan.py": "files of a finished audit",
        "python_tests/audit/measure/test_full_and_gone.py": "files of a finished audit",
        "python_tests/audit/run_folder/test_exports.py": "the order of two options",
        "python_tests/frozen/*": "options of stored runs",
        "scripts/frozen/runs.py": "the runs that two checkouts are compared on",
    }),
    "New report section": Added("section", "consistency", "consistency", {
        "python_tests/audit/report/test_report.py": "the whole page",
        "python_tests/audit/report/test_sections.py": "the order of sections",
    }),
    "New SSL method": Added("method", "simsiam", "simsiam", {
        "memkern/lab/experiments/*": "experiments that train by it",
        "memkern/lab/presets.py": "widths other than the default's",
        "memkern/lab/training/recipe.py": "the published settings",
    }),
    "New experiment": Added("experiment", "table_34", "table[-_]34", {}),
}  # fmt: skip


def listed(title: str) -> list[str]:
    """The lines of a list."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"CONTRIBUTING.md has no heading {title!r}"
    fenced = re.search(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert fenced, f"{title!r} has no fenced list"
    return fenced[1].split()


def git(*arguments: str) -> set[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: nothing found
    return set(done.stdout.splitlines())


def naming(added: Added) -> set[str]:
    """The files that git finds by the thing's name, in their text or in their own name."""
    named = re.compile(rf"(^|[/_.])({added.stem}|{added.words})\.")
    here = str(Path(__file__).resolve().relative_to(ROOT))
    return {path for path in git("ls-files") if named.search(path)} | git("grep", "-IlwE", added.words) - {here}


@pytest.mark.parametrize("title", ADDED)
def test_a_touch_list_names_the_files_that_git_finds(title: str) -> None:
    added = ADDED[title]
    patterns = [line.format(**{added.hole: added.stem}) for line in listed(title)]
    found, reasons = naming(added), ALWAYS | added.elsewhere
    named = {path for path in found if any(fnmatchcase(path, pattern) for pattern in patterns)}
    unlisted = {path for path in found - named if not any(fnmatchcase(path, pattern) for pattern in reasons)}
    assert not unlisted, f"{title}: add to the list of CONTRIBUTING.md, or give a reason here: {sorted(unlisted)}"
    idle = [pattern for pattern in patterns if not any(fnmatchcase(path, pattern) for path in named)]
    assert not idle, f"{title}: listed, but {added.stem} is not in it: {idle}"
    needless = [pattern for pattern in added.elsewhere if not any(fnmatchcase(path, pattern) for path in found)]
    assert not needless, f"{title}: no such file names {added.stem}: {needless}"


@pytest.mark.parametrize("title", ["New backend", "New instruction set"])
def test_a_list_without_a_name_in_it_names_files_that_exist(title: str) -> None:
    for line in listed(title):
        assert list(ROOT.glob(line.format(op="class_sums"))), f"{title}: {line} does not exist"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_new_op_gives_an_op_that_runs_everywhere_and_is_not_written_yet(tmp_path):
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def run(*command):
        environment = {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'python_tests'}", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
        )

    made = run("scripts/new_op.py", "pair_counts")
    assert made.returncode == 0, made.stderr
    refused = run("scripts/new_op.py", "pair_counts")
    assert refused.returncode == 1
    assert "exists" in refused.stderr
    built = run("setup.py", "build_ext", "--inplace")
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    tests = ["ops", "cuda/test_cuda_ops.py", "agreement", "test_dispatch.py", "test_backends.py", "contract"]
    done = run(
        "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib",
        "-k", "pair_counts or architecture", *(f"python_tests/{name}" for name in tests),
    )  # fmt: skip
    failed = re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    assert failed, done.stdout[-4000:] + done.stderr[-4000:]
    assert {name.partition("__")[2] or name for name in failed} == {"test_not_written_yet", "not_written_yet"}
    for path in ("reference", "cpu", "cuda, emulated", "triton, interpreter"):
        assert re.search(rf"agreement +pair_counts +{path}\S* +\d+ cases", done.stdout), (
            f"{path}: {done.stdout[-4000:]}"
        )
