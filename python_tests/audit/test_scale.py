"""The worked scripts for several machines give the bytes of one process; a long list is planned in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest

from memkern.audit.options import Options
from memkern.audit.pipeline import merge_runs, run_audit

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "scale"
FILES = ("samples.parquet", "units.parquet", "layers.parquet", "encoders.parquet", "state.safetensors")
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
if not SCRIPTS.is_dir():
    pytest.skip("an installed package has no scripts beside it", allow_module_level=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A small audit; its whole run is in `whole` beside it."""
    given = audit_helpers.options(tmp_path_factory.mktemp("scale"))
    run_audit(replace(given, out=given.out.with_name("whole")))
    return given


def arguments(given: Options) -> list[str]:
    """What the scripts take: the audit's arguments without its folder."""
    line = audit_helpers.arguments(given)[1:]
    at = line.index("--out")
    return [*line[:at], *line[at + 2 :]]


def run(command: list[str], **environment: str) -> None:
    more = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env={**os.environ, **more, "PATH": path, **environment}
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.field("run", "torchrun")
def test_torchrun(given: Options) -> None:
    out = given.out.with_name("torchrun")
    run(["bash", str(SCRIPTS / "torchrun.sh"), str(out), *arguments(given)], PROCESSES="2")
    assert contents(out) == contents(given.out.with_name("whole"))


@pytest.mark.field("run", "Slurm job arrays")
def test_slurm(given: Options) -> None:
    out = given.out.with_name("slurm")
    for task in ("1", "2"):
        command = ["bash", str(SCRIPTS / "slurm.sh"), str(out), *arguments(given)]
        run(command, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2")
    merge_runs([out], out)
    assert contents(out) == contents(given.out.with_name("whole"))


@pytest.mark.field("run", "Kubernetes indexed jobs")
def test_kubernetes(given: Options) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    job = yaml.safe_load((SCRIPTS / "kubernetes.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert int(container["env"][0]["value"]) == job["spec"]["completions"]
    out = given.out.with_name("kubernetes")
    command = [each.replace("/data/run", str(out)) for each in container["command"]]
    for index in ("0", "1"):
        run([*command, *arguments(given)], JOB_COMPLETION_INDEX=index, PARTS="2")
    merge_runs([out], out)
    assert contents(out) == contents(given.out.with_name("whole"))


@pytest.mark.field("run", "Ray tasks")
def test_ray(given: Options) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    out = given.out.with_name("ray")
    run([sys.executable, str(SCRIPTS / "ray_tasks.py"), str(out), "--parts", "2", "--", *arguments(given)])
    assert contents(out) == contents(given.out.with_name("whole"))


@pytest.mark.field("run", "a list of five million images")
def test_five_million_images_are_planned_in_a_minute_and_two_gigabytes() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "many_images.py"), "5000000"], capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    took = json.loads(done.stdout.splitlines()[-1])
    assert took["seconds to plan"] + took["seconds to write the plan"] < 60, took
    assert took["MB at the peak"] < 2 * 10**9 / 10**6, took
