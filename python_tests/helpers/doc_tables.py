"""The tables of the docs that are made from the code, between `<!-- table: NAME -->` and `<!-- end of table -->`.

`python python_tests/helpers/doc_tables.py` writes them anew.
"""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

from memkern._util.records import Record
from memkern._util.text import markdown_table
from memkern.audit.data.open import reader_table
from memkern.audit.encoders.build import encoder_table
from memkern.audit.options import options_table
from memkern.audit.run_folder import schema
from memkern.audit.run_folder.columns import TABLES

TABLE = re.compile(r"^<!-- table: (\w+) -->\n(.*?)^<!-- end of table -->$", re.MULTILINE | re.DOTALL)
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", object: "any JSON"}


def kind(annotation: object) -> str:
    """What a field of that type is in JSON."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if type(None) in arguments:
        return " or ".join(kind(each) for each in arguments if each is not type(None)) + ", or null"
    if origin is tuple:
        named = [kind(each) for each in arguments if each is not Ellipsis]
        return f"list: {named[0]}" if Ellipsis in arguments else f"list of {len(named)}: {', '.join(named)}"
    if origin is not None:
        return f"object: text → {kind(arguments[1])}"
    return WORDS.get(annotation) or f"[{annotation.__name__}](#{annotation.__name__.lower()})"


def fields_table(record: type) -> str:
    """The fields of a record: name, what it is in JSON, and the sentence of its docstring."""
    sentences = {}
    for each in reversed(record.__mro__):
        found = re.search(r"^Attributes:\n((?: {4}.*\n?|\n)+)", inspect.getdoc(each) or "", re.MULTILINE)
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", found[1], re.MULTILINE) if found else []
        sentences |= {name: re.sub(r"\s+", " ", text).replace("`None`", "null") for name, text in entries}
    if dataclasses.is_dataclass(record):
        names = [field.name for field in dataclasses.fields(record)]
    else:
        names = list(record._fields)
    kinds = typing.get_type_hints(record)
    rows = [(f"`{name}`", kind(kinds[name]), sentences.get(name, "")) for name in names]
    return markdown_table(("field", "JSON", "meaning"), rows)


def columns_table(kinds: dict[str, str]) -> str:
    """The columns of a table and their Arrow types."""
    return markdown_table(("column", "Arrow type"), [(f"`{name}`", f"{of.rstrip('_')}") for name, of in kinds.items()])


def records() -> list[type]:
    """The records of the files, in the order of schema.py, and what they are made of."""
    homes = (schema.__name__, schema.Significance.__module__)
    own = [value for value in vars(schema).values() if isinstance(value, type) and value.__module__ in homes]
    return [value for value in own if issubclass(value, Record)]


def tables() -> dict[str, dict[str, str]]:
    """Page -> name of a table -> its text."""
    return {
        "audit.md": {"encoders": encoder_table(), "readers": reader_table(), "options": options_table()},
        "run-folder.md": {record.__name__: fields_table(record) for record in [*records(), schema.Block]}
        | {name: columns_table(of) for name, of in TABLES.items()},
    }


def write(docs: Path) -> None:
    """Writes every table anew."""
    for page, made in tables().items():
        path = docs / page
        text = TABLE.sub(
            lambda mark, made=made: f"<!-- table: {mark[1]} -->\n{made[mark[1]]}<!-- end of table -->", path.read_text()
        )
        path.write_text(text)


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "docs")
