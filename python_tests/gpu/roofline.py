"""The roofline on paper, for docs/gpu-performance.md:  python -m gpu.roofline

Bytes and arithmetic of each op from its formulas, the limits from published numbers, registers and warps from
budgets.json. Nothing here was timed.
"""

from __future__ import annotations

from typing import NamedTuple

from gpu import sass


class Gpu(NamedTuple):
    """Published numbers: DRAM in TB/s, arithmetic outside the tensor cores in 1e12 instructions of a lane a second."""

    name: str
    arch: int
    dram: float
    float32: float  # half of the FLOP/s, which count a fused multiply-add as two
    float64: float


GPUS = (
    Gpu("A100 80 GB SXM", 80, 2.039, 19.5 / 2, 9.7 / 2),
    Gpu("H100 SXM", 90, 3.35, 67 / 2, 34 / 2),
    Gpu("B200", 100, 8.0, 75 / 2, 37 / 2),
)
SIZES = {"float": 4, "double": 8, "bf16": 2, "f16": 2, "uint8": 1}


class Case(NamedTuple):
    """One op on one input.

    Attributes:
        op: The op.
        shape: The input, in words.
        element: Its element type.
        kernel: The kernel that does the work, as in budgets.json.
        read: Elements read.
        written: Bytes written, partial sums twice: they are read again.
        arithmetic: Instructions of a lane in the accumulating type: subtractions, multiply-adds, conversions.
        doubles: Those in double.
    """

    op: str
    shape: str
    element: str
    kernel: str
    read: int
    written: int
    arithmetic: int
    doubles: int = 0


def pairs(views: int) -> int:
    return views * (views - 1) // 2


def alignment(points: int, views: int, dims: int, element: str) -> Case:
    """A subtraction and a multiply-add per pair, a multiply-add per norm, a conversion per 16-bit element."""
    few = views <= 10 and element != "double"
    width = 16 // SIZES[element]
    kernel = f"pair_sums<{element}, {views}>" if few else f"tile_sums<{element}, {width}>"
    if few:
        each = 2 * pairs(views) + views + (SIZES[element] == 2) * views
    else:  # 4 x 4 tiles, the diagonal's included: 16 pairs, 4 norms and 8 loads each
        tiles = pairs(-(-views // 4) + 1)
        each = tiles * (2 * 16 + 4 + (SIZES[element] == 2) * 8)
    chunk = 128 * width * 8 if few else 32 * width * 16
    partial = points * -(-dims // chunk) * (pairs(views) + views) * 8
    wide = element == "double"
    work = points * dims * each
    return Case(
        "alignment", f"{points} x {views} x {dims}", element, kernel, points * views * dims, 2 * partial,
        0 if wide else work, work if wide else 0,
    )  # fmt: skip


def gradient(points: int, views: int, dims: int, element: str) -> Case:
    """A subtraction and a multiply-add per ordered pair, and per view a scaling and the radial part."""
    size = points * views * dims
    each = 2 * views + 2 + (SIZES[element] == 2) * 2 + 1
    kernel = f"alignment_gradient<{element}, {16 // SIZES[element]}>"
    return Case("alignment backward", f"{points} x {views} x {dims}", element, kernel, size, size * SIZES[element],
                size * each)  # fmt: skip


def means(points: int, units: int, space: int, element: str) -> Case:
    """An addition per element, in double one in 8 (rows) to 16."""
    size = points * units * space
    width = 16 // SIZES[element]
    kernel = f"sum_rows<{element}, {width}>" if space <= 256 else f"sum_planes<{element}>"
    return Case("unit_means", f"{points} x {units} x {space} (maps)", element, kernel, size, points * units * 4,
                size * (1 + (SIZES[element] == 2)), size // 8)  # fmt: skip


def layer(points: int, views: int, units: int, space: int, element: str) -> Case:
    """alignment, an addition per element, and two of the sums over views."""
    base = alignment(points, views, units * space, element)
    added = points * views * units * space
    return base._replace(
        op="layer_stats", shape=f"{points} x {views} x {units} x {space}", kernel=base.kernel.replace("pair", "layer"),
        written=base.written + points * units * 4, arithmetic=base.arithmetic + added, doubles=added // views,
    )  # fmt: skip


def selectivity(points: int, units: int, element: str) -> Case:
    """Three comparisons and an addition in double per mean."""
    size = points * units
    chunks = min(128, -(-points // 32))
    return Case("selectivity", f"{points} x {units}", element, f"visit_points<{element}, {16 // SIZES[element]}>", size,
                2 * chunks * units * 24, size * 6, size)  # fmt: skip


def median(points: int, units: int) -> Case:
    """Four passes of 8 bits; the table has the bytes of the first."""
    size = points * units
    return Case("median_of_others", f"{points} x {units}", "float", "count_digits<float>", size, units * 4, size * 48)


def views(images: int, views: int, edge: int, size: int, written: int) -> Case:
    """uint8 to an element type of so many bytes. Per element of the result three taps along each axis with their
    loads (20), a third of four color steps of a pixel (30), normalization (6): an estimate."""
    results = images * views * 3 * size * size
    kernel = "make_views<unsigned char, 128, 13312>" if size <= 64 else "make_views<unsigned char, 256, 32768>"
    return Case("views", f"{images} x {views} of {edge} px at {size} px", "uint8", kernel, images * 3 * edge * edge,
                results * written, results * 56)  # fmt: skip


CASES = (
    *(alignment(512, 10, 2048, element) for element in ("float", "bf16")),
    alignment(512, 2, 2048, "float"),
    alignment(64, 10, 65536, "bf16"),
    alignment(512, 32, 2048, "float"),
    gradient(512, 10, 2048, "float"),
    means(512, 256, 196, "float"),
    means(512, 64, 3136, "bf16"),
    layer(64, 10, 256, 196, "float"),
    layer(64, 10, 256, 196, "bf16"),
    selectivity(50000, 2048, "float"),
    median(50000, 2048),
    views(512, 2, 32, 32, 4),
    views(256, 2, 256, 224, 4),
    views(256, 2, 256, 224, 2),
)


def line(case: Case) -> str:
    """One row of the table: what it moves and computes, and per GPU the two limits in microseconds."""
    rows = sass.budgets()
    size = case.read * SIZES[case.element] + case.written
    cells = [case.op, case.shape, case.element, f"`{case.kernel}`", f"{size / 1e6:.1f}",
             f"{(case.arithmetic + case.doubles) / case.read:.0f}"]  # fmt: skip
    for gpu in GPUS:
        row = rows[gpu.arch, case.kernel]
        memory = size / gpu.dram / 1e6
        compute = (case.arithmetic / gpu.float32 + case.doubles / gpu.float64) / 1e6
        limit = "memory" if memory >= compute else "arithmetic"
        cells += [f"{row['registers']} / {row['warps']}", f"{memory:.1f}", f"{compute:.1f}", limit]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    heads = ["op", "input", "dtype", "kernel", "MB", "instructions an element"]
    for gpu in GPUS:
        heads += [f"{gpu.name}: registers / warps", "DRAM µs", "arithmetic µs", "limit"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for case in CASES:
        print(line(case))


if __name__ == "__main__":
    main()
