"""The touch lists of CONTRIBUTING.md are complete: git finds a thing's name in the files of its list and nowhere else.

Each list is compared with one thing that was added by it. Files that speak of the thing for another reason than that it
exists are listed with that reason; a reason that no file needs any more is an error, too.
"""

import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
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
}
ADDED = {
    "New encoder kind": Added("kind", "hf", "hf", {"python_tests/audit/encoders/test_build.py": "all kinds, as text"}),
    "New image reader": Added("reader", "hdf5", "hdf5", {"python_tests/audit/data/test_open.py": "all kinds, as text"}),
    "New export": Added("export", "fiftyone", "fiftyone", {
        "memkern/audit/pipeline.py": "a docstring's example",
        "python_tests/audit/measure/test_audit_shards.py": "a merge that exports",
        "python_tests/audit/run_folder/test_exports.py": "the order of two options",
        "python_tests/frozen/*": "options of stored runs",
        "scripts/frozen/runs.py": "the runs that two checkouts are compared on",
    }),
    "New report section": Added("section", "consistency", "consistency", {
        "python_tests/audit/report/test_audit_report.py": "the whole page",
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
