"""The lists of CONTRIBUTING.md: they name every file that a new thing touches, and no other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memkern

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "CONTRIBUTING.md").is_file():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)

# What fills a hole; of ops the one that scripts/new_op.py copies.
FILL = {
    "op": ["class_sums"],
    "method": [path.stem for path in (PACKAGE / "lab" / "methods").glob("[!_]*.py")],
    "experiment": [path.stem for path in (PACKAGE / "lab" / "experiments").glob("[!_]*.py")],
    "kind": [path.stem for path in (PACKAGE / "audit" / "encoders" / "kinds").glob("[!_]*.py")],
    "reader": [path.stem for path in (PACKAGE / "audit" / "data" / "readers").glob("[!_]*.py")],
    "section": [path.stem for path in (PACKAGE / "audit" / "report" / "sections").glob("[!_]*.py")],
    "export": [path.stem for path in (PACKAGE / "audit" / "run_folder" / "exports").glob("[!_]*.py")],
}
TITLES = (
    "New op", "New backend", "New instruction set", "New SSL method", "New experiment", "New kind of encoder",
    "New kind of image data", "New report section", "New export",
)  # fmt: skip
# Files that name class_sums and are not touched for a new op, and why.
OTHERS = {
    "CHANGELOG.md": "history",
    "CONTRIBUTING.md": "the list itself",
    "bench/gpu_races.py": "races on GPUs: of the ops that are worth one",
    "bench/results/*": "measured numbers",
    "docs/*": "measured numbers",
    "memkern/metrics/classes.py": "the metric that calls it",
    "python_tests/contract/test_touch_lists.py": "this test",
    "python_tests/cpu/test_isa.py": "the smallest kernel, as an example",
    "python_tests/cuda/test_cuda_cuxray.py": "gates of single GPU kernels",
    "python_tests/cuda/test_cuda_launches.py": "launches of single GPU kernels",
    "python_tests/cuda/test_cuda_nvrtc.py": "takes every kernel through NVRTC",
    "python_tests/cuda/test_cuda_ops.py": "an example in a comment",
    "python_tests/cuda/test_gpu.py": "what only a GPU can show",
    "python_tests/gpu/*": "budgets, tiny cases and planted faults of single GPU kernels",
    "python_tests/gpu_triton/*": "gates and planted faults of single Triton kernels",
    "python_tests/mutation/*": "planted faults",
    "python_tests/ops/test_compile.py": "what its labels do when traced",
    "python_tests/ops/test_properties.py": "properties of its own",
    "python_tests/test_native.py": "the smallest record, as an example",
    "python_tests/triton_kernels/test_triton_compile.py": "the smallest kernel, as an example",
    "scripts/frozen/*": "bits before and after the redesign",
    "scripts/new_op.py": "copies it",
}


def listed(title):
    """The lines of a list."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"CONTRIBUTING.md has no heading {title!r}"
    fenced = re.search(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert fenced, f"{title!r} has no fenced list"
    return fenced[1].split()


@pytest.mark.parametrize("title", TITLES)
def test_lists_name_files_that_exist(title):
    for line in listed(title):
        holes = re.findall(r"\{(\w+)\}", line)
        assert set(holes) <= set(FILL), f"{line}: nothing is known to fill {holes}"
        for filling in FILL[holes[0]] if holes else [None]:
            path = line.format(**{holes[0]: filling}) if holes else line
            assert list(ROOT.glob(path)), f"{title}: {path} does not exist"


def test_a_new_op_touches_these_files_and_no_others():
    command = ["git", "-C", str(ROOT), "grep", "-lw", "--untracked", "class_sums"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"needs a checkout: {found.stderr.strip()}")
    naming = {Path(line) for line in found.stdout.split()}
    lines = [line.format(op="class_sums") for line in listed("New op")]
    for line in lines:
        assert any(path.match(line) for path in naming), f"{line}: does not name class_sums"
    for other in OTHERS:
        assert any(path.match(other) for path in naming), f"{other}: does not name class_sums any more"
    unlisted = [path for path in naming if not any(path.match(pattern) for pattern in [*lines, *OTHERS])]
    assert not unlisted, "add these to New op in CONTRIBUTING.md, or to OTHERS with the reason"


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
        assert re.search(rf"agreement +pair_counts +{path} +\d+ cases", done.stdout), f"{path}: {done.stdout[-4000:]}"
