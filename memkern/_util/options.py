"""Options declared once: the fields of a dataclass say what they are on a command line and in the docs."""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from memkern._util.arguments import number, whole_number

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
KEY = "option"
READ: Mapping[object, Callable[[str], object]] = {int: whole_number, float: number, Path: Path}
"""Type of a field -> function that reads its values; text stays as it is."""


@dataclass(frozen=True)
class Option:
    """Description of a field as an option of a command line.

    Attributes:
        help: One line for `--help` and for the docs; a function where it depends on what is installed.
        metavar: What stands for the value in `--help`; by default the field's name in capitals.
        group: Heading under which `--help` lists the option; "" for the first.
        choices: All values that are allowed; `None` if they cannot be listed.
        parse: Reads the value from text; by default the field's type does.
        positional: Whether the value is given by its place, without a flag.
        many: Whether one or more values follow the flag, which may be given again; the field is a tuple.
        switches: Name -> help of values any of which may be chosen, each by a flag of its own; `None` for all others.
    """

    help: str | Callable[[], str]
    metavar: str | None = None
    group: str = ""
    choices: Sequence[str] | None = None
    parse: Callable[[str], object] | None = None
    positional: bool = False
    many: bool = False
    switches: Callable[[], Mapping[str, str]] | None = None

    @property
    def text(self) -> str:
        """Help of the option, one line."""
        return self.help if isinstance(self.help, str) else self.help()


def option(
    default: T,
    help: str | Callable[[], str],
    *,
    metavar: str | None = None,
    group: str = "",
    choices: Sequence[str] | None = None,
    parse: Callable[[str], object] | None = None,
    positional: bool = False,
    many: bool = False,
) -> T:
    """Makes the field of an option that may be left out; the arguments are `Option`'s.

    A boolean option is a flag without a value; one that is true by default is turned off with `--no-NAME`.

    Args:
        default: Value where the option is left out.
        help: One line for `--help` and for the docs; a function where the line depends on what is installed.
        metavar: Name that stands for the value in `--help`; by default the field's name in capitals.
        group: Heading under which `--help` lists the option; "" for the first.
        choices: All values that are allowed; `None` if they cannot be listed.
        parse: Reads the value from text; by default the field's type does.
        positional: Whether the value is given by its place, without a flag.
        many: Whether one or more values follow the flag, which may be given again; `default` is a tuple then.

    Returns:
        The dataclass field, typed as its value for the type checker.
    """
    return field(default=default, metadata={KEY: Option(help, metavar, group, choices, parse, positional, many)})


def required(
    kind: type[T], help: str | Callable[[], str], *, metavar: str | None = None, positional: bool = False
) -> T:
    """Makes the field of an option that has to be given, of the type `kind`; the other arguments are `Option`'s.

    Args:
        kind: Type of the field.
        help: One line for `--help` and for the docs; a function where the line depends on what is installed.
        metavar: Name that stands for the value in `--help`; by default the field's name in capitals.
        positional: Whether the value is given by its place, without a flag.

    Returns:
        The dataclass field, typed as its value for the type checker.
    """
    return cast(T, field(metadata={KEY: Option(help, metavar, positional=positional)}))


def switches(names: Callable[[], Mapping[str, str]], *, group: str = "") -> tuple[str, ...]:
    """Makes the field of values any of which may be chosen, each by a flag of its own; by default none is.

    Args:
        names: Gives the names, which are the flags without their dashes, and the help of each.
        group: Heading under which `--help` lists the flags.

    Returns:
        The dataclass field, typed as its value for the type checker: the names that are chosen.
    """
    return cast("tuple[str, ...]", field(default=(), metadata={KEY: Option("", group=group, switches=names)}))


class _Choose(argparse.Action):
    """Adds the name of a flag to those that are chosen."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, flag: str | None = None
    ) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), self.const))


class _Extend(argparse.Action):
    """Adds the values that follow a flag to those of its earlier uses."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, flag: str | None = None
    ) -> None:
        assert isinstance(values, list)
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), *values))


def add_switches(to: argparse._ActionsContainer, dest: str, names: Mapping[str, str]) -> None:
    """Adds a flag for each of several values any of which may be chosen.

    Args:
        to: The command, or a group of it.
        dest: Where the tuple of the chosen names is put.
        names: Name -> help.
    """
    for name, text in names.items():
        to.add_argument(f"--{name}", dest=dest, action=_Choose, nargs=0, const=name, default=(), help=text)


def add_options(
    parser: argparse.ArgumentParser, options: type[DataclassInstance]
) -> dict[str, argparse._ArgumentGroup]:
    """Adds the options of a dataclass to a command.

    Args:
        parser: The command.
        options: The dataclass; each field is made by `option` or `required`.

    Returns:
        The groups of the options by heading.
    """
    kinds = get_type_hints(options)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for each in fields(options):
        info: Option = each.metadata[KEY]
        if info.group and info.group not in groups:
            groups[info.group] = parser.add_argument_group(info.group)
        _add(groups[info.group] if info.group else parser, each, info, kinds[each.name])
    return groups


def _add(to: argparse._ActionsContainer, each: Field[object], info: Option, kind: object) -> None:
    if info.switches is not None:
        add_switches(to, each.name, info.switches())
        return
    if isinstance(each.default, bool):
        action = "store_false" if each.default else "store_true"
        to.add_argument(_flag(each, info), dest=each.name, action=action, help=info.text)
        return
    read = info.parse or READ.get(_without_none(kind), str)
    if info.positional:
        default, nargs = (None, None) if each.default is MISSING else (each.default, "?")
        to.add_argument(each.name, metavar=info.metavar, type=read, help=info.text, default=default, nargs=nargs)
        return
    if info.many:
        to.add_argument(
            _flag(each, info), dest=each.name, type=read, action=_Extend, nargs="+", default=each.default,
            metavar=info.metavar, help=info.text,
        )  # fmt: skip
        return
    given = each.default is not MISSING
    to.add_argument(
        _flag(each, info),
        type=read,
        default=each.default if given else None,
        required=not given,
        metavar=info.metavar,
        choices=info.choices,
        help=info.text + (" (%(default)s)" if given and each.default is not None else ""),
    )


def _flag(each: Field[object], info: Option) -> str:
    name = each.name.replace("_", "-")
    return str(info.metavar) if info.positional else f"--no-{name}" if each.default is True else f"--{name}"


def _without_none(kind: object) -> object:
    """The type of a value that is given: `int` of `int | None`."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind


def option_rows(options: type[DataclassInstance]) -> list[tuple[str, str, str]]:
    """Lists the options of a dataclass for the docs.

    Args:
        options: The dataclass; each field is made by `option` or `required`.

    Returns:
        Flag with what stands for its value, default ("" for none, "required" without one), and help of each option.
    """
    rows = []
    for each in fields(options):
        info: Option = each.metadata[KEY]
        if info.switches is not None:
            rows += [(f"`--{name}`", "", text) for name, text in info.switches().items()]
            continue
        value = "{" + ",".join(info.choices) + "}" if info.choices else info.metavar or each.name.upper()
        bare = info.positional or isinstance(each.default, bool)
        plain = each.default is None or isinstance(each.default, bool) or each.default in ("", ())
        usual = "" if plain else f"`{each.default}`"
        value += "…" if info.many else ""
        rows.append(
            (
                f"`{_flag(each, info)}`" if bare else f"`{_flag(each, info)} {value}`",
                "required" if each.default is MISSING else usual,
                info.text,
            )
        )
    return rows
