"""Examples in docstrings and pages run and give what they say; tables are those of the code; links lead somewhere."""

import doctest
import importlib
import pkgutil
import re
import warnings
from pathlib import Path

import doc_tables
import pytest

import memkern
from memkern.audit.run_folder.columns import TABLES

ROOT = Path(memkern.__file__).resolve().parent.parent
# What an example may need besides torch and numpy.
EXTRAS = {
    "torchmetrics",
    "triton",
    "matplotlib",
    "PIL",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "skimage",
    "pyarrow",
    "torchvision",
    "lightly",
    "timm",
    "opacus",
    "mlxtend",
}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(memkern.__path__, "memkern.")
    if not any(part.startswith("_") for part in module.name.split("."))
)


@pytest.mark.parametrize("name", ["memkern", *MODULES])
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        missing = (getattr(error, "name", None) or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        pytest.skip(f"{name} needs the package {missing}, of an extra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", memkern.MemkernWarning)
        failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_every_public_function_and_class_has_an_example_that_ran():
    finder = doctest.DocTestFinder()
    for name in memkern.__all__:
        value = getattr(memkern, name)
        if name.endswith(("Stats", "Warning")):
            continue  # results, shown by the examples of the functions that return them
        examples = [example for test in finder.find(value, name) for example in test.examples]
        assert examples, f"memkern.{name} has no example"
        assert any(example.want for example in examples), f"the example of memkern.{name} shows no result"


def blocks(path):
    """The fenced Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]


@pytest.fixture
def what_pages_speak_of(tmp_path, monkeypatch):
    """The files that the examples name, in the working folder: weights of f and g, images, and who saw which image."""
    monkeypatch.chdir(tmp_path)

    def make(page):
        import audit_helpers  # skips where an extra is missing
        import torch
        from safetensors.torch import save_file

        from memkern.audit.encoders.build import build_encoder

        images = audit_helpers.pictures(tmp_path / "images", count=40, size=32)
        names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
        groups = "".join(f"{name},{'candidate' if n % 4 == 0 else 'extra'}\n" for n, name in enumerate(names))
        (tmp_path / "groups.csv").write_text(f"id,group\n{groups}")
        encoder = "memkern:resnet9" if page.name == "audit.md" else "timm:vit_tiny_patch16_224?img_size=32"
        pytest.importorskip("timm", reason="timm is not installed")
        for seed, role in enumerate("fg"):
            torch.manual_seed(seed)
            save_file(build_encoder(encoder).state_dict(), tmp_path / f"{role}.safetensors")

    return make


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page, what_pages_speak_of):
    found = blocks(page)
    if any("f.safetensors" in block for block in found):
        what_pages_speak_of(page)
    names = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", memkern.MemkernWarning)
        for number, block in enumerate(found):
            if ">>>" in block:
                test = doctest.DocTestParser().get_doctest(block, names, f"{page.name}, block {number}", None, 0)
                options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                assert doctest.DocTestRunner(optionflags=options).run(test, clear_globs=False).failed == 0
                names.update(test.globs)
            else:
                exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_readme_is_short_and_has_python_blocks():
    if not (ROOT / "README.md").exists():
        pytest.skip("an installed package has no README beside it")
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert len(blocks(ROOT / "README.md")) == 2


@pytest.mark.skipif(not (ROOT / "CITATION.cff").exists(), reason="an installed package has no source tree around it")
def test_one_version_everywhere():
    names = ("pyproject.toml", "CITATION.cff", "CHANGELOG.md")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    project = re.search(r'^version = "(.*)"$', texts["pyproject.toml"], re.MULTILINE)[1]
    assert re.search(r"^version: (.*)$", texts["CITATION.cff"], re.MULTILINE)[1] == project
    released, date = re.search(r"^## \[(.*)\](?: - (.*))?$", texts["CHANGELOG.md"], re.MULTILINE).groups()
    if released != "Unreleased":
        assert released == project
        assert re.search(r"^date-released: (.*)$", texts["CITATION.cff"], re.MULTILINE)[1] == date


# ---- tables and links -----------------------------------------------------------------------------------------------

needs_docs = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an installed package has no docs beside it")


@needs_docs
@pytest.mark.parametrize("page", ["audit.md", "run-folder.md"])
def test_the_tables_of_the_docs_are_those_of_the_code(page):
    """Red after a change of a registry or a record: `python python_tests/helpers/doc_tables.py` writes the tables."""
    found = doc_tables.TABLE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert dict(found) == doc_tables.tables()[page]
    assert len(found) == len(doc_tables.tables()[page])


@needs_docs
def test_the_guide_says_what_every_column_means():
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    for name, columns in TABLES.items():
        section = re.search(rf"^`{name}\.parquet`, one row.*?\n\n((?:\|.*\n)+)", text, re.MULTILINE)
        assert section, name
        named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in section[1].splitlines()[2:]))
        assert set(named) == set(columns), name
        assert len(named) == len(columns), name


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
LINKED = [
    *PAGES,
    *sorted((ROOT / "docs").glob("*/*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
]


def prose(page):
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors of a page's headings, as GitHub and myst make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@needs_docs
@pytest.mark.parametrize("page", [page for page in LINKED if page.exists()], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in LINK.findall(prose(page)):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} links to {link}"
