"""Each page of docs/extend: its files are put into a copy of the package, and its command runs the test it shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "extend"
if not FOLDER.is_dir():
    pytest.skip("an installed package has no docs beside it", allow_module_level=True)
pytestmark = pytest.mark.long
PAGES = [path for path in sorted(FOLDER.glob("*.md")) if path.name != "index.md"]
FILE = re.compile(r"^(Write|Add to) `([^`]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\n(python -m pytest .*)\n```\n\Z", re.MULTILINE)
CHANGE = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUILDS = {"op.md", "instruction-set.md"}  # their tests need a compiler


def changed(text: str, root: Path) -> None:
    """Does in the copy what the page says."""
    for verb, name, content in FILE.findall(text):
        path = root / name
        assert path.exists() == (verb == "Add to"), f"{verb} {name}"
        path.write_text((path.read_text() + "\n\n" if path.exists() else "") + content)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a test of a page needs."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("memkern", "python_tests", "memkern.egg-info"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "frozen"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.mark.xdist_group("extend")  # one copy serves all
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in BUILDS], ids=lambda page: page.stem)
def test_the_files_of_a_page_work_in_a_copy(page, tree):
    text = page.read_text(encoding="utf-8")
    command = COMMAND.search(text)
    assert command, f"{page.name} does not end with the command that runs its test"
    changed(text, tree)
    paths = os.pathsep.join([str(tree), str(tree / "python_tests")])
    done = subprocess.run(
        [sys.executable, *shlex.split(command[1])[1:], "-p", "no:cacheprovider"],
        cwd=tree, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout), done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout


def test_the_changes_that_a_page_shows_apply(tmp_path):
    """`git apply` finds the place of every change in the sources of today."""
    shown = CHANGE.findall((FOLDER / "instruction-set.md").read_text(encoding="utf-8"))
    assert len(shown) == 1
    for name in re.findall(r"^--- a/(.*)$", shown[0], re.MULTILINE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "apply", "--check", "-"], cwd=tmp_path, input=shown[0], text=True, check=True)


def test_every_page_is_listed():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    listed = re.search(r"^```{toctree}\n:maxdepth: 1\n\n(.*?)^```$", index, re.MULTILINE | re.DOTALL)[1].split()
    assert sorted(listed) == [page.stem for page in PAGES]
    assert all(f"]({name}.md)" in index for name in listed)
