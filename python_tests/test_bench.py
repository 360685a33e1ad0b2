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

from bench import gpu_races, gpu_report, harness, peers  # noqa: E402


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


def test_the_gpu_table_names_the_call_the_device_and_the_best_peer(monkeypatch):
    monkeypatch.setattr(peers, "compiled", lambda formula: formula)
    race = harness.Race(gpu_races.RACES["alignment"][0]("cpu", "cpu", torch.float32, "3x3x20"), seconds=0.01)
    race.round()
    case = race.result() | {"backend": "cuda"}
    ours = next(row for row in case["rows"] if row["role"] == "ours")
    case["rows"].append(ours | {"peer": "memkern, CUDA graph", "role": "variant", "ms": ours["ms"] / 2})
    cells = gpu_report.line(case)
    assert len(cells) == len(gpu_report.COLUMNS)
    assert cells[2] == f"{ours['ms'] * 1e3:.3g} us"
    assert cells[3] == f"{ours['ms'] * 500:.3g} us"
    assert cells[6] == ""  # Triton did not run
    assert "torch" in cells[7]
    assert cells[0] in gpu_report.tables([case])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_backend_that_cannot_run_says_why():
    command = [sys.executable, "-m", "pytest", "bench", "--backend", "triton", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--backend triton cannot run here: " in done.stderr
