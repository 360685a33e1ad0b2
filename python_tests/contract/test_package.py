"""The packages that users install: the source package is complete, its metadata too, and it builds without OpenMP."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path

import pytest
import tomllib

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
if not (ROOT / "setup.py").is_file():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Names and contents of the source package of a copy of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    keep = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "cuda_source")
    for name in ("csrc", "cmake", "memkern"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=keep)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / "tree")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", folder], cwd=folder / "tree", check=True,
        capture_output=True,
    )  # fmt: skip
    with tarfile.open(next(folder.glob("*.tar.gz"))) as tar:
        return {
            member.name.partition("/")[2]: tar.extractfile(member).read()
            for member in tar.getmembers()
            if member.isfile()
        }


@pytest.fixture(scope="module")
def metadata(sdist):
    return Parser().parsestr(sdist["PKG-INFO"].decode())


@pytest.mark.field("package", "the source package")
def test_source_package_has_what_the_build_reads(sdist):
    needed = {path.relative_to(ROOT).as_posix() for part in ("csrc", "cmake") for path in (ROOT / part).rglob("*.*")}
    needed |= {"CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE"}
    assert {name for name in needed if Path(name).suffix != ".pyc"} <= set(sdist)


def test_source_package_has_every_file_of_the_python_package(sdist):
    endings = {".py", ".json", ".npz", ".safetensors", ".j2", ".css", ".typed"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "memkern").rglob("*") if path.suffix in endings}
    assert {name for name in files if "cuda_source" not in name} <= set(sdist)


def test_readme_of_the_package_leads_nowhere_inside_the_repository(metadata):
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert text.startswith("# memkern")
    assert re.findall(r"\]\((?!https?://)", text) == []
    assert "docs/audit.md" in text  # the words of a link stay
    assert len(text) > 0.8 * len((ROOT / "README.md").read_text())


def test_metadata_is_complete(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    authors = re.search(r"authors:\n  - name: \"(.*)\"", (ROOT / "CITATION.cff").read_text())[1]
    assert metadata["Author"] == authors
    assert metadata["License-Expression"] == project["license"]
    assert len(metadata.get_all("Project-URL")) == 2
    versions = {line.rsplit(" ", 1)[1] for line in metadata.get_all("Classifier") if ":: Python :: 3." in line}
    assert {f"3.{minor}" for minor in range(10, 15)} == versions


def test_versions_agree(metadata):
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    assert metadata["Version"] == cited


def test_wheels_are_built_for_every_python_of_the_metadata(metadata):
    wheels = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    versions = {line.rsplit(" ", 1)[1] for line in metadata.get_all("Classifier") if ":: Python :: 3." in line}
    assert {f"cp{version.replace('.', '')}-*" for version in versions} == set(wheels["build"])
    assert "--exclude libgomp.so.1" in wheels["linux"]["repair-wheel-command"]


def configure(folder, *options, **environment):
    if not shutil.which("cmake"):
        pytest.skip("needs cmake")
    command = ["cmake", "-S", ROOT, "-B", folder, "-DMEMKERN_PYTHON=OFF", "-DMEMKERN_CUDA=OFF", *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.field("package", "a compiler without OpenMP")
def test_a_compiler_without_openmp_is_said_and_builds_serial_kernels(tmp_path):
    done = configure(tmp_path, "-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON")
    assert done.returncode == 0, done.stderr
    assert "CPU kernels will run on one thread" in " ".join(done.stderr.split())
    assert "gomp" not in "".join(path.read_text() for path in tmp_path.rglob("link.txt"))


@pytest.mark.field("package", "32-bit processors: refused")
def test_a_32_bit_compiler_is_refused(tmp_path):
    compiler = shutil.which("i686-linux-gnu-g++")
    if compiler is None:
        pytest.skip("needs a compiler for 32 bits (Debian's g++-i686-linux-gnu)")
    done = configure(tmp_path, f"-DCMAKE_CXX_COMPILER={compiler}")
    assert done.returncode != 0
    assert "memkern needs a 64-bit processor" in " ".join(done.stderr.split())


@pytest.mark.field("package", "clang 14 and later")
def test_clang_14_compiles_the_kernels(tmp_path):
    compiler = next(filter(None, map(shutil.which, ("clang++-14", "clang++"))), None)
    if compiler is None:
        pytest.skip("needs clang")
    sources = sorted((ROOT / "csrc" / "cpu").rglob("*.cpp"))
    assert len(sources) > 5
    for path in sources:
        options = [] if path.parent.name == "dispatch" else ["-DMEMKERN_ISA=baseline"]
        command = [compiler, "-std=gnu++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        done = subprocess.run([*command, *options, f"-I{ROOT / 'csrc'}", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.field("package", "a wheel, away from the source tree")
@pytest.mark.long
@pytest.mark.xdist_group("package")
def test_a_wheel_is_built_from_the_source_package_and_runs_away_from_it(sdist, tmp_path):
    missing = [name for name in ("pybind11", "cmake", "ninja") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    for name, content in sdist.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(content)
    pip = [sys.executable, "-m", "pip"]
    wheel = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, tmp_path / "tree"]
    subprocess.run(wheel, check=True)
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", target, *tmp_path.glob("*.whl")], check=True)
    use = (
        "import memkern, torch; print(memkern.__file__); assert memkern.backends()[1].available; "
        "print(float(memkern.alignment(torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]), normalize=False)))"
    )
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", use], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    where, value = done.stdout.split()
    assert Path(where).is_relative_to(target)
    assert float(value) == 5.0
