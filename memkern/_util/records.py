"""Records: frozen dataclasses that are written to JSON and read back by the types of their fields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from memkern._util.text import did_you_mean
from memkern.errors import MemkernError, RunFolderError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""Values that a JSON file can hold."""

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Record:
    """The base of a frozen dataclass that is kept as JSON.

    Fields are numbers, text, `None`, tuples, mappings from text, named tuples, and other dataclasses. The file has the
    fields in their order; a record of which a file consists begins with its format and version, "memkern-audit-1".
    Nothing is guessed on reading: a field that the record does not know, or lacks and has no default for, is an error
    that names it.

    Attributes:
        FORMAT: Name of the file's format; "" for a record within another one.
        VERSION: The version that is written.
        UPGRADES: Version -> what makes the next version's JSON of it. One step each, so every older version is read.
        ERROR: What is raised for a file that does not fit.
        SEALED: Whether the file carries a digest of all else that it holds, under `SEAL`. One that was edited by hand,
            or damaged, is refused. Files of before there were digests are read.
    """

    FORMAT: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    UPGRADES: ClassVar[Mapping[int, Callable[[dict[str, Json]], dict[str, Json]]]] = {}
    ERROR: ClassVar[type[MemkernError]] = RunFolderError
    SEALED: ClassVar[bool] = False

    def to_json(self) -> dict[str, Json]:
        """Turns the record into JSON: dicts, lists, numbers, text and `None`."""
        stamp: dict[str, Json] = {"format": f"{self.FORMAT}-{self.VERSION}"} if self.FORMAT else {}
        fields = stamp | {field.name: _encoded(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return fields | {SEAL: json_digest(fields)} if self.SEALED else fields

    @classmethod
    def from_json(cls: type[R], value: object, where: str | Path) -> R:
        """Reads the record.

        Args:
            value: What the JSON file held.
            where: The file, for error messages.

        Returns:
            The record.

        Raises:
            MemkernError: `ERROR`, if the format is another or a later one, or a field is unknown, missing or of another
                kind; the message names the file and the field.
        """
        try:
            given = _upgraded(cls, value, where) if cls.FORMAT else value
            found = typing.cast("R", _record(cls, given, str(where), ""))
            if cls.SEALED:
                _require_seal(typing.cast("dict[str, Json]", value), where)
            return found
        except _Misfit as error:
            raise cls.ERROR(str(error)) from None


SEAL = "sha256"
"""Field of a sealed file: the digest of its other fields."""


def json_digest(value: Json) -> str:
    """Computes the SHA-256 of a value of JSON, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _require_seal(given: dict[str, Json], where: str | Path) -> None:
    fields = {key: each for key, each in given.items() if key != SEAL}
    if SEAL in given and given[SEAL] != json_digest(fields):
        raise _Misfit(
            f"Expected {where} to be as memkern wrote it, got one that its own digest does not fit: it was edited or "
            "damaged; restore it"
        )


class _Misfit(Exception):
    """A value that does not fit a field; becomes the record's own kind of error."""


def _encoded(value: object) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encoded(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _encoded(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encoded(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"Expected what JSON can hold, got {type(value).__name__}")


def _upgraded(cls: type[Record], value: object, where: str | Path) -> dict[str, Json]:
    """The fields of a file in the version of today."""
    wanted = f"{cls.FORMAT}-{cls.VERSION}"
    stamp = value.get("format") if isinstance(value, dict) else type(value).__name__
    name, _, number = str(stamp).rpartition("-")
    if not isinstance(value, dict) or name != cls.FORMAT or not number.isdecimal():
        raise _Misfit(f"Expected {where} to have the format {wanted!r}, got {stamp!r}")
    if int(number) > cls.VERSION:
        raise _Misfit(
            f"Expected {where} to have the format {wanted!r} or an earlier one, got {stamp!r}, written by a later "
            "memkern; upgrade memkern to read it"
        )
    fields = {key: each for key, each in value.items() if key not in ("format", SEAL if cls.SEALED else "")}
    for version in range(int(number), cls.VERSION):
        fields = cls.UPGRADES[version](fields)
    return fields


def _record(cls: type, value: object, where: str, path: str) -> object:
    """A dataclass from the JSON of its fields; `path` names the place within the file."""
    place = f"`{path}` of {where}" if path else where
    if not isinstance(value, Mapping):
        raise _Misfit(f"Expected {place} to hold the fields of a {cls.__name__}, got {_short(value)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in value:
        if key not in fields:
            hint = did_you_mean(key, fields) or f"; its fields are {', '.join(fields)}"
            raise _Misfit(f"{place} has `{key}`, which a {cls.__name__} does not know{hint}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise _Misfit(f"{place} lacks `{name}`, which every {cls.__name__} has")
    kinds = typing.get_type_hints(cls)
    prefix = f"{path}." if path else ""
    try:
        return cls(**{key: _decoded(kinds[key], each, where, f"{prefix}{key}") for key, each in value.items()})
    except (ValueError, TypeError) as error:  # a dataclass that checks its own fields
        raise _Misfit(f"Expected {place} to hold a {cls.__name__}: {error}") from error


def _decoded(kind: object, value: object, where: str, path: str) -> object:
    """The value of a field from its JSON, by the field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where, path)
    if kind is object:
        return value
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, value, where, path)
    if isinstance(value, list) and (kinds := _kinds_of_items(kind, len(value))) is not None:
        numbered = enumerate(zip(kinds, value, strict=True))
        items = [_decoded(each, item, where, f"{path}.{place}") for place, (each, item) in numbered]
        return typing.cast("Callable[..., object]", kind)(*items) if hasattr(kind, "_fields") else tuple(items)
    if isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _decoded(arguments[1], each, where, f"{path}.{key}") for key, each in value.items()}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type(value) is kind or (kind is float and whole):  # a bool is no int here
        return value
    raise _Misfit(f"Expected `{path}` of {where} to be {_words(kind)}, got {_short(value)}")


def _kinds_of_items(kind: object, count: int) -> list[object] | None:
    """The types of the items of a tuple of that length; `None` if the type has no such tuple."""
    arguments = list(typing.get_args(kind))
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        arguments = list(typing.get_type_hints(kind).values())
    elif typing.get_origin(kind) is not tuple:
        return None
    elif arguments[1:] == [Ellipsis]:
        return arguments[:1] * count
    return arguments if len(arguments) == count else None


def _one_of(kinds: tuple[object, ...], value: object, where: str, path: str) -> object:
    """The value by the first kind it fits; if it fits none, the message of the last one that is not null."""
    if value is None and type(None) in kinds:
        return None
    misfit = _Misfit()
    for kind in kinds:
        try:
            return _decoded(kind, value, where, path)
        except _Misfit as error:
            misfit = misfit if kind is type(None) else error
    raise misfit


WORDS: dict[object, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _words(kind: object) -> str:
    sequence = typing.get_origin(kind) is tuple or hasattr(kind, "_fields")
    return WORDS.get(kind, "a list of another length or kind" if sequence else "an object")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
