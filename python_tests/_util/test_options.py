"""Options declared once: a command line and a table from the fields of a dataclass."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from memkern._util.arguments import numbers, part_of, seed, whole_number
from memkern._util.options import add_options, option, option_rows, required, switches


@dataclass(frozen=True, kw_only=True)
class Order:
    dish: str = required(str, lambda: "what to eat", metavar="DISH", positional=True)
    table: Path = required(Path, "where to sit")
    guests: int = option(2, "how many", metavar="N", group="people")
    tip: int | None = option(None, "percent")
    drink: str = option("water", "with it", choices=("water", "wine"))
    hot: bool = option(False, "with chili")
    salt: bool = option(True, "leave salt out", group="people")
    prices: tuple[float, ...] | None = option(None, "of each course", parse=numbers)
    extras: tuple[str, ...] = switches(lambda: {"bread": "bread too", "olives": "olives too"}, group="people")


def read(line: str) -> Order:
    parser = argparse.ArgumentParser()
    groups = add_options(parser, Order)
    assert list(groups) == ["people"]
    return Order(**vars(parser.parse_args(line.split())))


def test_a_command_line_from_fields() -> None:
    assert read("soup --table 7") == Order(dish="soup", table=Path("7"))
    line = "soup --table 7 --guests 3 --tip 5 --drink wine --hot --no-salt --prices 1,2.5 --olives"
    assert read(line) == Order(
        dish="soup", table=Path("7"), guests=3, tip=5, drink="wine", hot=True, salt=False, prices=(1.0, 2.5),
        extras=("olives",),
    )  # fmt: skip
    assert read("soup --table 7 --olives --bread").extras == ("olives", "bread")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--table 7", "the following arguments are required: DISH"),
        ("soup", "the following arguments are required: --table"),
        ("soup --table 7 --guests two", "argument --guests: Expected a whole number, got 'two'"),
        ("soup --table 7 --tip 1.5", "argument --tip: Expected a whole number, got '1.5'"),
        ("soup --table 7 --drink gin", "argument --drink: invalid choice: 'gin' (choose from "),
        ("soup --table 7 --prices 1,x", "argument --prices: Expected numbers separated by commas, 0.5,0.5,0.5 say, "),
    ],
)  # fmt: skip
def test_wrong_values_are_wrong_usage(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        read(line)
    assert raised.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_rows_of_a_table() -> None:
    assert option_rows(Order) == [
        ("`DISH`", "required", "what to eat"),
        ("`--table TABLE`", "required", "where to sit"),
        ("`--guests N`", "`2`", "how many"),
        ("`--tip TIP`", "", "percent"),
        ("`--drink {water,wine}`", "`water`", "with it"),
        ("`--hot`", "", "with chili"),
        ("`--no-salt`", "", "leave salt out"),
        ("`--prices PRICES`", "", "of each course"),
        ("`--bread`", "", "bread too"),
        ("`--olives`", "", "olives too"),
    ]


def test_arguments() -> None:
    assert (whole_number("-3"), seed("0"), part_of("3/8"), numbers("1")) == (-3, 0, (3, 8), (1.0,))
    for read_one, text in ((whole_number, "x"), (seed, "-1"), (seed, str(2**31)), (part_of, "3"), (part_of, "a/b")):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"^Expected .*, got '{text}'$"):
            read_one(text)


@dataclass(frozen=True, kw_only=True)
class Party:
    host: str = option("", "who invites", metavar="HOST", positional=True)
    guests: tuple[str, ...] = option((), "who comes", metavar="NAME", many=True)
    share: float = option(0.5, "of the bill", metavar="RATE")


@pytest.mark.parametrize(
    ("line", "party"),
    [
        ("", Party()),
        ("ann --guests bob cy --share 0.25", Party(host="ann", guests=("bob", "cy"), share=0.25)),
        ("ann --guests bob --guests cy dee", Party(host="ann", guests=("bob", "cy", "dee"))),
        ("--share 1 ann", Party(host="ann", share=1.0)),
    ],
)
def test_several_values_and_a_place_that_may_be_empty(line: str, party: Party) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Party)
    assert Party(**vars(parser.parse_args(line.split()))) == party
    rows = option_rows(Party)
    assert rows[0][:2] == ("`HOST`", "")
    assert rows[1] == ("`--guests NAME…`", "", "who comes")
    assert rows[2][1] == "`0.5`"


def test_a_number_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Party)
    with pytest.raises(SystemExit):
        parser.parse_args(["--share", "half"])
    assert "argument --share: Expected a number, got 'half'" in capsys.readouterr().err
