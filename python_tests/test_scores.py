"""The formulas: hand-worked values, the 0/0 and sign rules, scalings, merges of peaks."""

import ast
import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import memkern
from memkern import scores

NAN, INF = math.nan, math.inf
A_G = torch.tensor([0.9, 0.6, 0.5, 0.2], dtype=torch.float64)
A_F = torch.tensor([0.3, 0.5, 0.6, 0.2], dtype=torch.float64)


def close(got, want, dtype=torch.float64):
    want = torch.tensor(want, dtype=dtype)
    torch.testing.assert_close(
        got, want, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps, equal_nan=True
    )


# ---- selectivity --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("peak", "rest", "score"),
    [
        (8, 1 / 3, 0.92),
        (2, 2, 0.0),
        (9, 13 / 3, 0.35),
        (-1, -2.5, -1.5 / 3.5),
        (2, -1.5, 7.0),
        (4, -2, 3.0),
        (5, 0, 1.0),
        (0, 0, 0.0),  # dead
        (0, -1, -1.0),
        (-0.0, 0.0, 0.0),
        (1, -1, NAN),  # zero denominator with signed activations
        (NAN, 1, NAN),
        (1, NAN, NAN),
        (NAN, NAN, NAN),
        (INF, 1, NAN),
        (0, NAN, NAN),
    ],
)
def test_selectivity_score(peak, rest, score, dtype):
    got = scores.selectivity_score(torch.tensor([peak], dtype=dtype), torch.tensor([rest], dtype=dtype))
    want = torch.tensor([score], dtype=torch.float64)
    # 1/3 and 13/3 are rounded before the call; the formula itself is computed in float64.
    torch.testing.assert_close(got, want, rtol=4 * torch.finfo(dtype).eps, atol=0, equal_nan=True)


def test_selectivity_score_is_computed_in_float64():
    peak, rest = torch.tensor([1.0]), torch.tensor([-1.0 + 2.0**-30], dtype=torch.float64)
    assert scores.selectivity_score(peak, rest).item() == (2.0 - 2.0**-30) / 2.0**-30


# ---- SSLMem -------------------------------------------------------------------------------------------------------


def test_the_three_scales():
    close(scores.sslmem_score(A_F, A_G), [0.6, 0.1, -0.1, 0.0])
    close(scores.sslmem_score(A_F, A_G, "ratio"), [0.5, 1 / 11, -1 / 11, 0.0])
    close(scores.sslmem_score(A_F, A_G, "range"), [0.6 / 0.7, 0.1 / 0.7, -0.1 / 0.7, 0.0])
    close(scores.sslmem_score(A_F, A_G, "ratio").mean(), 0.125)  # the mean of ratios; the ratio of sums is 0.157895
    close(scores.sslmem_score(A_F, A_G, "range").mean(), 0.6 / 0.7 / 4)


def test_removal_score_and_its_order():
    removal = scores.removal_score(A_F, A_G)
    close(removal, [1.0, -1 / 3, -8 / 9, -2 / 9])
    assert removal.argsort(descending=True).tolist() == [0, 3, 1, 2]
    assert scores.sslmem_score(A_F, A_G).argsort(descending=True).tolist() == [0, 1, 3, 2]


def test_ratio_of_nothing_is_zero_and_keeps_signs():
    a_f, a_g = torch.tensor([0.0, 1.0, 0.0, NAN]), torch.tensor([0.0, 0.0, 2.0, 1.0])
    close(scores.sslmem_score(a_f, a_g, "ratio"), [0.0, -1.0, 1.0, NAN], torch.float32)


@pytest.mark.parametrize(
    ("differences", "scaled"),
    [
        ([0.5, 0.75, 1.0], [1.0, 1.5, 2.0]),  # one sign: it divides and does not shift, so it leaves [-1, 1]
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.0], [0.0]),
        ([0.5], [NAN]),
        ([0.5, 0.5], [NAN, NAN]),
        ([-1.0, 3.0], [-0.25, 0.75]),
        ([NAN, 1.0, 2.0], [NAN, NAN, NAN]),
        ([], []),
    ],
)
def test_range_scaling_edges(differences, scaled):
    a_g = torch.tensor(differences)
    close(scores.sslmem_score(torch.zeros_like(a_g), a_g, "range"), scaled, torch.float32)


@pytest.mark.parametrize("scale", ["none", "ratio", "range"])
def test_exchanging_the_encoders_turns_the_sign(scale):
    assert torch.equal(scores.sslmem_score(A_G, A_F, scale), -scores.sslmem_score(A_F, A_G, scale))


# ---- delta ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, lambda v: dict(zip("abc", v, strict=True)), iter])
def test_delta_layermem(kind):
    values = [0.25, 0.5, -1.0]
    got = memkern.delta_layermem(kind(values))
    assert all(type(value) is float for value in got)
    assert math.isnan(got[0])
    assert got[1:] == [0.25, -1.5]


def test_delta_layermem_depends_on_the_listed_taps():
    # Table 1 and Table 18 of arXiv 2409.19069: the same layer against another predecessor.
    assert round(memkern.delta_layermem([0.185, 0.212])[1], 3) == 0.027
    assert (
        round(memkern.delta_layermem({"maxpool": torch.tensor(0.097), "conv2-0": torch.tensor(0.123)})[1], 3) == 0.026
    )
    assert memkern.delta_layermem([]) == []


# ---- merges ---------------------------------------------------------------------------------------------------------

peaks = st.lists(st.sampled_from([-1.0, 0.0, 2.0, INF, -INF, NAN]), min_size=1, max_size=5)


@given(values=peaks, data=st.data())
def test_peaks_merge_in_any_order_to_numpy_like_argmax(values, data):
    ids = data.draw(st.permutations(range(len(values))))
    order = data.draw(st.permutations(range(len(values))))
    merged, rest = None, []
    for place in order:
        one = torch.tensor([values[place]]), torch.tensor([ids[place]])
        if merged is None:
            merged = one
        else:
            peak, index, smaller = scores.merge_peaks(*merged, *one)
            merged = (peak, index)
            rest.append(smaller.item())
    by_id = [value for _, value in sorted(zip(ids, values, strict=True))]
    best = int(torch.tensor(by_id).argmax())  # the first maximum, and the first NaN
    assert merged[1].item() == best
    assert repr(merged[0].item()) == repr(by_id[best])
    others = [value for place, value in enumerate(by_id) if place != best]
    assert sorted(map(repr, rest)) == sorted(map(repr, others))


def test_merging_two_peaks_is_commutative_for_every_pair():
    for a, b in itertools.product([-1.0, 0.0, 1.0, INF, NAN], repeat=2):
        one, two = (torch.tensor([a]), torch.tensor([4])), (torch.tensor([b]), torch.tensor([3]))
        first, second = scores.merge_peaks(*one, *two), scores.merge_peaks(*two, *one)
        assert [repr(part.item()) for part in first] == [repr(part.item()) for part in second]


# ---- once per language ----------------------------------------------------------------------------------------------

PACKAGE = Path(memkern.__file__).parent
# The rule -> how it is written, wherever: comparisons and operations of the syntax tree, names left out.
RULES = {
    "dead units: both are 0": r"\(?[^&|]*(peak|low|minimum)\S* == 0\)? & \(?[^&|]*(peak|low|minimum)\S* == 0\)?",
    "signed units: the smallest mean is negative": r"\S*\b(low|minimum)\b\S* < 0",
    "the mean of the others": r"\S*(rest|others|sum\(0\))\S* / \(\S*(count|classes|points)\S* - 1\)",
    "undefined scores are NaN": r"(\S*score\S*) != \1|\S*score\S*\.isnan\(\)",
    "ties of peaks": r"\S*index_?\w* < \S*index_?\w*",
    "the larger peak": r"\S*peak_?\w* > \S*peak_?\w*",
}
# Kernels have a copy of each rule, one per language; the references are the formulas written once more, on purpose.
ELSEWHERE = {"reference", "triton_kernels"}


def expressions(text):
    """The comparisons and operations of a file as Python writes them, with the function that each stands in."""
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, (ast.Compare, ast.BinOp, ast.Call)):
                    yield function.name, ast.unparse(node)


def places(rule, files):
    return sorted(
        {
            f"{name}:{function}"
            for name, text in files.items()
            for function, expression in expressions(text)
            if re.fullmatch(RULES[rule], expression)
        }
    )


def package_files():
    paths = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    return {str(path): (PACKAGE / path).read_text("utf-8") for path in paths if path.parts[0] not in ELSEWHERE}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_stands_once_in_the_package(rule):
    found = places(rule, package_files())
    assert len(found) == 1, f"{rule}: {found}"
    assert found[0].startswith("scores.py:")


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("dead units: both are 0", 'dead = ((own["peak"] == 0) & (own["low"] == 0)).sum()'),
        ("dead units: both are 0", "dead = (state.minimum == 0) & (state.peak == 0)"),
        ("signed units: the smallest mean is negative", 'signed = state.units["low"] < 0'),
        ("the mean of the others", 'others = own["rest"] / (own["count"] - 1)'),
        ("the mean of the others", "centre = others.sum(0) / (classes - 1)"),
        ("undefined scores are NaN", "n = int(score[-1].isnan().sum())"),
        ("undefined scores are NaN", "n = (self.score != self.score).sum()"),
        ("ties of peaks", "first = other.index < mine.index"),
        ("the larger peak", "wins = other.peak > mine.peak"),
    ],
)
def test_a_second_copy_of_a_rule_is_found(rule, line):
    assert places(rule, {"audit/other.py": f"def copied():\n    {line}\n"}) == ["audit/other.py:copied"]
