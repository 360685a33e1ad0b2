"""Launch settings as data: what is launched with which block sizes, and why.

``python -m memkern.triton_kernels.launches`` prints them. Nothing is tuned at the first call: the settings are these.

Chosen by reasoning and by what the compiler makes of them (registers, spills, width of loads: checked for sm_80, sm_90,
sm_100 and gfx942); where a time is named, by timing on an H100 with Triton 3.6. A setting changes no result but for the
rounding of sums; none depends on the device, so results do not either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# One 128-bit load per lane and row, whatever the dtype.
VECTOR_BYTES = 16


@dataclass(frozen=True)
class Setting:
    """Number that a launch uses, with the reason for its value.

    Attributes:
        kernel: The file of the kernel.
        name: The setting.
        value: Its value.
        why: The reason for the value.
    """

    kernel: str
    name: str
    value: int
    why: str


SETTINGS = (
    Setting(
        "alignment", "lanes", 32, "threads per program, one warp: the 55 sums of 10 views are added by shuffles alone, "
        "which two warps cannot",
    ),
    Setting(
        "alignment", "blocks", 8, "128-bit loads of a view that a lane adds in the wide type, then float64: "
        "1024 float32 dims per program, so 2 points of 65536 dims make 128 programs",
    ),
    Setting(
        "alignment", "views", 12, "views that are all held in registers: 66 running sums and 12 loads of 128 bits in "
        "flight a lane; each element is loaded once, which two groups of 5 views would not do",
    ),
    Setting(
        "alignment", "group", 8, "views of a group where there are more: 64 running sums between two groups, "
        "16 loads in flight, each element of 32 views is loaded 4 times",
    ),
    Setting("alignment", "finish_lanes", 32, "threads per point when sums become distances: 45 pairs, no barrier"),
    Setting(
        "alignment", "finish_registers", 168, "per thread of these at most, on NVIDIA; left alone, ptxas saves "
        "registers by spilling some, for an occupancy that a program per point does not need",
    ),
    Setting("alignment", "finish_pairs", 64, "distances made of sums at once, 2 a lane: divisions of doubles are long"),
    Setting("alignment", "finish_sums", 256, "sums loaded at once when pieces are added, 8 a lane"),
    Setting(
        "alignment", "second_look_dims", 4096, "up to here a program recomputes the pairs of its point: two more "
        "launches take longer",
    ),
    Setting("alignment", "exact_block", 128, "dims at once when a distance is recomputed in float64: 4 per lane"),
    Setting("alignment_backward", "lanes", 128, "threads per program, one 128-bit load and store for each and view"),
    Setting(
        "alignment_backward", "rows", 2, "views whose gradients are summed at once; 4 and 8 are slower on an H100",
    ),
    Setting("alignment_backward", "coefficients", 1024, "pairs of views whose coefficients are computed at once"),
    Setting(
        "layer_stats", "blocks", 3, "maps of more blocks than this (128 float32) are read once: smaller ones would "
        "leave lanes of their last block idle, and store the sums of 55 pairs too often",
    ),
    Setting("unit_means", "lanes", 128, "threads per program; a tile is two 128-bit loads for each of them"),
    Setting(
        "unit_means", "side", 256, "elements of a tile along memory: 1 KB of float32; longer sides waste more of their "
        "last block (12 x 256 + 64 of 56 x 56 positions)",
    ),
    Setting(
        "unit_means", "blocks", 64, "blocks of a lane per program: 256 KB; 4 points of 64 units, 10 views, 56 x 56 "
        "still make 192 programs",
    ),
    Setting("unit_means", "divide_block", 256, "means per program when parts are added; there are few"),
    Setting(
        "selectivity", "lanes", 128, "threads per program, a 128-bit load for each; two or four are slower on an H100",
    ),
    Setting("selectivity", "side", 128, "values of a tile along memory: a 128-bit load per lane of a warp in float32"),
    Setting(
        "selectivity", "chunk", 512, "positions per program: 50000 points of 512 units make 392 programs; quicker than "
        "256, because a chunk's lanes are merged half as often",
    ),
    Setting("class_sums", "lanes", 128, "threads per program"),
    Setting("class_sums", "tile", 1024, "values at once, 8 per thread, all loads in flight before the first is added"),
    Setting(
        "class_sums", "side", 256, "units of a tile: rows of a class lie apart, 1 KB of each is read; 128 is slower on "
        "an H100",
    ),
    Setting("views", "lanes", 128, "threads per program"),
    Setting(
        "views", "block", 512, "pixels per program, 4 a thread: a view of 32 x 32 is 2 programs, one of 224 x 224 98; "
        "with 8 a thread the three channels of a hue would spill",
    ),
    Setting("views", "columns", 64, "of a tile of resized rows: 64 bytes of uint8 side by side"),
    Setting("views", "outputs", 128, "whose weights a program finds at once, one a thread"),
    Setting("views", "scratch MB", 256, "of canvases; more views than fit are made one lot after the other"),
)  # fmt: skip

_VALUES = {(setting.kernel, setting.name): setting.value for setting in SETTINGS}


def setting(kernel: str, name: str) -> int:
    """The value of one setting."""
    return _VALUES[kernel, name]


def vector(dtype: torch.dtype) -> int:
    """Elements in one 128-bit load."""
    return VECTOR_BYTES // dtype.itemsize


def warps(lanes: int) -> int:
    """The ``num_warps`` of a launch with this many threads: a warp has 32 of them, on AMD's data-centre GPUs 64."""
    return max(1, lanes // (64 if torch.version.hip else 32))


def registers(most: int) -> dict[str, int]:
    """The setting of a launch that bounds registers per thread; AMD's compiler has none."""
    return {} if torch.version.hip else {"maxnreg": most}


def table() -> str:
    """Every setting, its value and its reason, as text."""
    lines = [f"{s.kernel:<18} {s.name:<16} {s.value:>6}  {s.why}" for s in SETTINGS]
    return "\n".join(["kernel             setting           value  reason", *lines])


if __name__ == "__main__":
    print(table())
