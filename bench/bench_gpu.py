"""Every op on a GPU beside eager torch and torch.compile: ``pytest bench --backend cuda`` (or triton).

The same races and the same table as on the CPU, timed with CUDA events. An input in the GPU's L2 cache stays there
from call to call, for every peer alike; the table says where each lies.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import data
from bench.gpu_races import FLOAT32_ONLY, RACES

PARAMETERS = [
    pytest.param(name, shape.values[0], dtype, id=f"{name}-{shape.id}-{dtype}", marks=shape.marks)
    for name, (_, shapes, _) in RACES.items()
    for shape in data.shapes(shapes)
    for dtype in (["float32"] if name in FLOAT32_ONLY else ["float32", "bfloat16"])
]


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "shape", "dtype"), PARAMETERS)
def bench_gpu(race: Any, backend: str, name: str, shape: str, dtype: str) -> None:
    race(RACES[name][0]("cuda", backend, data.DTYPES[dtype], shape))
