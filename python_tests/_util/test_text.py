"""Lists as parts of sentences and as tables."""

from memkern._util.text import did_you_mean, first_of, markdown_table


def test_the_first_of_a_list() -> None:
    assert first_of("abc") == "a, b, c"
    assert first_of(range(7)) == "0, 1, 2, 3, 4 and 2 more"
    assert first_of("abcd", most=3, separator="; ") == "a; b; c and 1 more"


def test_the_nearest_names() -> None:
    assert did_you_mean("simclt", ["simclr", "dino"]) == "; did you mean `simclr`?"
    assert did_you_mean("layer5", ["layer4", "layer3", "stem"]) == "; did you mean `layer4` or `layer3`?"
    assert did_you_mean("x", ["simclr"]) == ""


def test_a_table_for_the_docs() -> None:
    assert markdown_table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
