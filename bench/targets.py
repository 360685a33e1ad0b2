"""The targets of the project, judged on measured cases. A target that nothing measured is printed as such."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Case = dict[str, Any]


def key(case: Case) -> tuple[str, ...]:
    """What tells a case from every other."""
    return (*(case[name] for name in ("op", "shape", "dtype", "layout", "variant")), case.get("backend", "cpu"))


def label(case: Case) -> str:
    """A short name of a case."""
    parts = [case["shape"], case["dtype"], case["layout"] if case["layout"] != "contiguous" else "", case["variant"]]
    return " ".join(part for part in parts if part)


def row(case: Case, name: str) -> dict[str, Any] | None:
    """The row of one peer, if it was timed."""
    return next((r for r in case["rows"] if r["peer"] == name and "ms" in r), None)


def peers(case: Case, *, accurate: bool) -> list[dict[str, Any]]:
    """The timed peers; only the accurate ones, or all."""
    return [r for r in case["rows"] if r["role"] == "peer" and "ms" in r and (r["accurate"] or not accurate)]


def best(case: Case, *, accurate: bool = True, without: str = "") -> dict[str, Any] | None:
    """The fastest peer (``without``: names that hold this text are left out)."""
    found = [r for r in peers(case, accurate=accurate) if not without or without not in r["peer"]]
    return min(found, key=lambda r: r["ms"], default=None)


# A measurement of a target: the case, the value, and a remark such as the peer's name.
Values = Iterator[tuple[Case, float, str]]


def _cases(cases: list[Case], op: str, **wanted: Any) -> Iterator[Case]:
    for case in cases:
        fits = all(case[name] in value if isinstance(value, (set, range)) else case[name] == value
                   for name, value in wanted.items())  # fmt: skip
        if case["op"] == op and fits and row(case, "memkern"):
            yield case


def _over_best(cases: Iterator[Case], *, accurate: bool = True, without: str = "") -> Values:
    for case in cases:
        peer = best(case, accurate=accurate, without=without)
        if peer:
            yield case, peer["factor"], peer["peer"]


def _over(cases: Iterator[Case], *names: str) -> Values:
    for case in cases:
        found = [r for r in case["rows"] if r["peer"] in names and "ms" in r]
        if found:
            peer = min(found, key=lambda r: r["ms"])
            yield case, peer["factor"], peer["peer"]


def _of_sum(cases: Iterator[Case]) -> Values:
    for case in cases:
        yield case, row(case, "memkern")["of_sum"], "x.sum()"


def _slower_than(cases: Iterator[Case], name: str, of: str = "memkern") -> Values:
    """How many times the time of ``of`` the peer ``name`` takes."""
    for case in cases:
        mine, base = row(case, of), row(case, name)
        if mine and base:
            yield case, base["factor"] / mine["factor"], name


PLAIN = {"dtype": "float32", "variant": ""}
ALIGN, BACK = "alignment", "alignment forward+backward"
WARM, FRESH = "warm pages", "fresh pages"
MANY = range(8, 1000)
AT_32 = {"256x2x32x32", "16x10x32x32"}
HALVES = {"bfloat16", "float16"}

# Name, bound, whether the value must be at least (or at most) the bound, measurements.
TARGETS: list[tuple[str, float, bool, Callable[[list[Case]], Values]]] = [
    ("alignment forward, V >= 8: over the best accurate peer", 1.8, True,
     lambda c: _over_best(_cases(c, ALIGN, **PLAIN, views=MANY))),
    ("alignment forward, V = 4, 5: over the best accurate peer", 1.2, True,
     lambda c: _over_best(_cases(c, ALIGN, **PLAIN, views={4, 5}))),
    ("alignment forward, V = 2, 3: over the best accurate peer", 0.95, True,
     lambda c: _over_best(_cases(c, ALIGN, **PLAIN, views={2, 3}))),
    ("alignment forward, V <= 10, DRAM: speed over x.sum()", 0.85, True,
     lambda c: _of_sum(_cases(c, ALIGN, **PLAIN, views=range(11), size="DRAM"))),
    ("alignment of unit length, V >= 4: time over plain", 1.15, False,
     lambda c: _slower_than(_cases(c, ALIGN, **PLAIN, views=range(4, 1000)), "memkern, unit length")),
    ("alignment of unit length, V >= 4, views well apart: time over plain", 1.15, False,
     lambda c: _slower_than(_cases(c, ALIGN, **PLAIN, views=range(4, 1000)), "memkern, unit length, views apart")),
    ("alignment_stats, V <= 10: time over alignment", 1.05, False,
     lambda c: _slower_than(_cases(c, ALIGN, variant={"stats", "stats, unit"}, views=range(11)), "memkern",
                            of="memkern.alignment")),
    ("alignment, bfloat16, V = 16, 32: over torch's bfloat16 products", 1.0, True,
     lambda c: _over(_cases(c, ALIGN, dtype="bfloat16", views={16, 32}), "torch gram in bfloat16")),
    ("forward+backward, V >= 8, warm: over torch.compile of the gram form", 4.0, True,
     lambda c: _over(_cases(c, BACK, dtype="float32", variant=WARM, views=MANY), "torch.compile gram")),
    ("forward+backward, V >= 8, fresh: over torch.compile of the gram form", 1.5, True,
     lambda c: _over(_cases(c, BACK, dtype="float32", variant=FRESH, views=MANY), "torch.compile gram")),
    ("forward+backward, V >= 8, warm: over the best accurate autograd peer", 10.0, True,
     lambda c: _over_best(_cases(c, BACK, dtype="float32", variant=WARM, views=MANY), without="numba")),
    ("forward+backward, V >= 8, warm: over the best accurate peer (hand-written numba too)", 10.0, True,
     lambda c: _over_best(_cases(c, BACK, dtype="float32", variant=WARM, views=MANY))),
    ("unit_means, DRAM: speed over x.sum()", 0.9, True, lambda c: _of_sum(_cases(c, "unit_means", size="DRAM"))),
    ("selectivity, DRAM: speed over x.sum()", 0.9, True, lambda c: _of_sum(_cases(c, "selectivity", size="DRAM"))),
    ("unit_means: over the best accurate peer", 0.95, True, lambda c: _over_best(_cases(c, "unit_means"))),
    ("selectivity: over the best accurate peer", 0.95, True, lambda c: _over_best(_cases(c, "selectivity"))),
    ("unit_means, bfloat16/float16: over eager", 10.0, True,
     lambda c: _over(_cases(c, "unit_means", dtype=HALVES), "torch mean", "torch mean in float32")),
    ("selectivity, bfloat16/float16: over eager", 10.0, True,
     lambda c: _over(_cases(c, "selectivity", dtype=HALVES), "torch mean, max, sum",
                     "torch mean in float32, max, sum")),
    ("median, from [5000, 2048] up: over the scripts' sort", 25.0, True,
     lambda c: _over(_cases(c, "median_of_others", variant="large"), "numpy sort (released scripts)")),
    ("median, from [5000, 2048] up: over the best of torch and numpy", 4.0, True,
     lambda c: _over_best(_cases(c, "median_of_others", variant="large"), without="numba")),
    ("median, [512, 256]: over the best peer", 1.0, True,
     lambda c: _over_best(_cases(c, "median_of_others", shape="512x256"))),
    ("class_sums: over torch index_add in float32", 1.5, True,
     lambda c: _over(_cases(c, "class_sums"), "torch index_add")),
    ("classmem of a matrix: over the best of torch", 1.5, True, lambda c: _over_best(_cases(c, "classmem"))),
    ("layer_stats: time over alignment alone", 1.15, False,
     lambda c: _slower_than(_cases(c, "layer_stats"), "memkern", of="memkern alignment alone")),
    ("hooks on every layer, V = 10: both metrics, % of the rest of the forward pass", 6.0, False,
     lambda c: ((case, row(case, "memkern")["share"], "") for case in _cases(c, "forward hooks", views={10}))),
    ("views, 32 px: over torchvision per image", 50.0, True,
     lambda c: _over(_cases(c, "views", shape=AT_32), "torchvision v2 per image")),
    ("views, 32 px: over kornia", 12.0, True,
     lambda c: _over(_cases(c, "views", shape=AT_32), "kornia batched")),
    ("views, 224 px: over torchvision per image", 8.0, True,
     lambda c: _over(_cases(c, "views", shape={"16x2x256x224"}), "torchvision v2 per image")),
    ("views, 224 px: over kornia", 20.0, True,
     lambda c: _over(_cases(c, "views", shape={"16x2x256x224"}), "kornia batched")),
    ("views, 32 px: a ResNet9 forward pass of the views over their time", 10.0, True,
     lambda c: _over(_cases(c, "views", shape=AT_32), "ResNet9 forward")),
    ("call overhead, 8x2x128: over the eager two-view formula", 1.0, True,
     lambda c: _over_best(_cases(c, "call overhead", shape="8x2x128"))),
]  # fmt: skip


def judge(cases: list[Case]) -> list[dict[str, Any]]:
    """Every target with its worst measurement."""
    judged = []
    cases = [case for case in cases if case.get("backend", "cpu") == "cpu"]
    for name, bound, at_least, measure in TARGETS:
        values = list(measure(cases))
        entry: dict[str, Any] = {"target": name, "bound": bound, "at_least": at_least, "cases": len(values)}
        if values:
            case, value, remark = (min if at_least else max)(values, key=lambda found: found[1])
            met = sum(v >= bound if at_least else v <= bound for _, v, _ in values)
            others = sorted(v for _, v, _ in values)
            entry.update(worst=value, at=label(case), against=remark, met=met, median=others[len(others) // 2])
        judged.append(entry)
    return judged
