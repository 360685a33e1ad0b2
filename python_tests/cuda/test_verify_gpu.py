"""scripts/verify_gpu.sh, as far as it goes without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "verify_gpu.sh"
if not SCRIPT.exists():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)


def test_syntax():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run the script itself")
def test_without_a_gpu_it_says_so_and_exits_3(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["bash", SCRIPT, tmp_path / "results"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "verify_gpu: torch finds no GPU; nothing was verified\n"
    assert list(tmp_path.iterdir()) == []


def test_it_names_files_and_tests_that_exist():
    text, root = SCRIPT.read_text(), SCRIPT.parents[1]
    named = [word for word in text.split() if word.startswith("python_tests/")]
    assert len(named) >= 5
    for word in named:
        assert list(root.glob(word)), f"{word} does not exist"
    gpu = (root / "python_tests" / "cuda" / "test_gpu.py").read_text()
    for name in ("sanitized", "profiled"):
        assert f"-k {name}" in text
        assert f"def test_{name}(" in gpu
