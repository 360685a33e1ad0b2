"""Launch settings as data: what is launched with which block sizes, and why.

``python -m memkern.triton_kernels.launches`` prints them. Nothing is tuned at the first call: the settings are these.

Chosen by reasoning and by what the compiler makes of them (registers, spills, width of loads: checked for sm_80, sm_90,
sm_100 and gfx942), not by timing. A setting changes no result but for the rounding of sums; none depends on the device,
so results do not either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# One 128-bit load per lane and row, whatever the dtype.
VECTOR_BYTES = 16


@dataclass(frozen=True)
class Setting:
    """One number that a launch uses.

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
        "alignment", "chunk", 4096, "dims per program: 10 float32 views of a chunk, 160 KB, stay in L2 from tile to "
        "tile (mostly in L1 on sm_90); 2 points of 65536 dims still make 32 programs",
    ),
    Setting(
        "alignment", "rows", 4, "views per tile, all pairs: 16 running sums and 8 loads of 128 bits in flight a lane; "
        "8 x 8 would compute 192 pairs for the 45 of 10 views where this computes 96",
    ),
    Setting("alignment", "anchor_rows", 8, "views per tile, anchor: 8 running sums, 9 loads in flight per lane"),
    Setting(
        "alignment", "lanes", 128, "threads per program; with fewer dims than 128 vectors, the power of two that "
        "covers them, at least one warp",
    ),
    Setting("alignment", "finish_lanes", 128, "threads per point when sums become distances; there is little to do"),
    Setting(
        "alignment", "finish_registers", 168, "per thread of these at most, on NVIDIA; left alone, ptxas saves "
        "registers on sm_100 by spilling some, for an occupancy that a program per point does not need",
    ),
    Setting("alignment", "finish_sums", 256, "sums loaded at once when chunks are added: 16 chunks of up to 16 views"),
    Setting("alignment", "exact_block", 1024, "dims at once when a distance is recomputed in float64: 8 per lane"),
    Setting("alignment_backward", "lanes", 128, "threads per program, one 128-bit load and store for each and view"),
    Setting("alignment_backward", "rows", 4, "views whose gradients are summed at once, as many loads in flight"),
    Setting("alignment_backward", "coefficients", 1024, "pairs of views whose coefficients are computed at once"),
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
    Setting("selectivity", "lanes", 128, "threads per program"),
    Setting("selectivity", "tile", 1024, "values at once: 8 states of 6 registers per thread"),
    Setting("selectivity", "side", 128, "values of a tile along memory: a 128-bit load per lane of a warp in float32"),
    Setting(
        "selectivity", "chunk", 256, "positions per program: 50000 points of 512 units make 784 programs; a chunk's "
        "state of 24 bytes per unit is 2 % of the 1 KB that it sums up",
    ),
    Setting("class_sums", "lanes", 128, "threads per program"),
    Setting("class_sums", "tile", 1024, "values at once, 8 per thread, all loads in flight before the first is added"),
    Setting("class_sums", "side", 128, "units of a tile: rows of a class lie apart, 512 bytes of each are read"),
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
