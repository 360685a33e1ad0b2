"""Every example in a docstring and in the README runs and gives what it says."""

import doctest
import importlib
import pkgutil
import re
import warnings
from pathlib import Path

import pytest

import memkern

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
TABLE = re.compile(r"^<!-- table: (\w+) -->\n(.*?)^<!-- end of table -->$", re.MULTILINE | re.DOTALL)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", memkern.MemkernWarning)
        for number, block in enumerate(blocks(page)):
            if ">>>" in block:
                test = doctest.DocTestParser().get_doctest(block, names, f"{page.name}, block {number}", None, 0)
                options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                assert doctest.DocTestRunner(optionflags=options).run(test, clear_globs=False).failed == 0
                names.update(test.globs)
            else:
                exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def tables():
    """The tables of docs/audit.md by the names in their marks, as the registries write them."""
    from memkern.audit.data.open import reader_table
    from memkern.audit.encoders.build import encoder_table
    from memkern.audit.options import options_table

    return {"encoders": encoder_table(), "readers": reader_table(), "options": options_table()}


def test_the_tables_of_the_docs_are_those_of_the_registries():
    """Red after a change of a registry: `python python_tests/contract/test_docs.py` writes the tables anew."""
    page = ROOT / "docs" / "audit.md"
    if not page.exists():
        pytest.skip("an installed package has no docs beside it")
    assert dict(TABLE.findall(page.read_text(encoding="utf-8"))) == tables()


def test_the_readme_has_python_blocks():
    if not (ROOT / "README.md").exists():
        pytest.skip("an installed package has no README beside it")
    assert blocks(ROOT / "README.md")


if __name__ == "__main__":
    path = ROOT / "docs" / "audit.md"
    text = path.read_text(encoding="utf-8")
    written = TABLE.sub(lambda mark: f"<!-- table: {mark[1]} -->\n{tables()[mark[1]]}<!-- end of table -->", text)
    path.write_text(written, encoding="utf-8")
