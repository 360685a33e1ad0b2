"""The benchmark for GPUs, without one: every race checks right on the CPU; what is missing is said."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "bench").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)
pytest.importorskip("numba", reason="needs memkern[bench]")
sys.path.insert(0, str(ROOT))

from bench import gpu_races, harness, peers  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", gpu_races.RACES)
def test_gpu_races_compute_the_same_thing(name, dtype, monkeypatch):
    if dtype == torch.bfloat16 and name in gpu_races.FLOAT32_ONLY:
        pytest.skip("takes means, which are never bfloat16")
    monkeypatch.setattr(peers, "compiled", lambda formula: formula)
    make, _, small = gpu_races.RACES[name]
    race = harness.Race(make("cpu", "cpu", dtype, small), seconds=0.01)
    assert {row["peer"]: row["status"] for row in race.rows if row["status"] != "ok"} == {}
    race.round()
    ours = next(row for row in race.result()["rows"] if row["role"] == "ours")
    assert ours["factor"] == 1.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_backend_that_cannot_run_says_why():
    command = [sys.executable, "-m", "pytest", "bench", "--backend", "triton", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--backend triton cannot run here: " in done.stderr
