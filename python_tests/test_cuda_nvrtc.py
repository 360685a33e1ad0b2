"""The same kernels through NVRTC, from the wheels that torch brings: no toolkit, no host compiler."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest
from gpu import build

IN_CI = os.environ.get("CI") == "true"
INCLUDE = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "include"

# NVRTC has no standard headers; of these, the kernels use the names below.
CSTDINT = b"""
#pragma once
using int8_t = signed char; using int16_t = short; using int32_t = int; using int64_t = long long;
using uint8_t = unsigned char; using uint16_t = unsigned short; using uint32_t = unsigned;
using uint64_t = unsigned long long;
using uintptr_t = unsigned long long;
"""

ELEMENTS = {"float": 4, "double": 2, "bf16": 8, "f16": 8}


def kernels() -> dict[str, list[str]]:
    """Every template instance that the launchers use, by header."""
    found: dict[str, list[str]] = {
        stem: [] for stem in ("distances", "layer_stats", "alignment_backward", "unit_means", "selectivity")
    }
    for element, width in ELEMENTS.items():
        found["distances"] += [f"finish_alignment<{element}>"]
        if element != "double":
            found["distances"] += [f"pair_sums<{element}, {views}>" for views in (2, 10)]
            found["layer_stats"] += [f"layer_sums<{element}, {views}>" for views in (2, 10)]
        found["unit_means"] += [f"sum_planes<{element}>", f"sum_elements<{element}>"]
        for pack in (1, width):
            found["distances"] += [f"tile_sums<{element}, {pack}>"]
            found["alignment_backward"] += [f"alignment_gradient<{element}, {pack}>"]
            found["unit_means"] += [f"sum_rows<{element}, {pack}>"]
            found["selectivity"] += [f"visit_points<{element}, {pack}>"]
    for wide in ("float", "double"):
        found["alignment_backward"] += [f"gradient_coefficients<{wide}>"]
        found["unit_means"] += [f"finish_means<{wide}>"]
        found["selectivity"] += [f"merge_states<{wide}>"]
    found["median_of_others"] = ["median_of_others<float>", "median_of_others<double>"]
    found["class_sums"] = ["class_sums<float>", "class_sums<double>", "add_class_sums"]
    blocks = ((256, 40960), (256, 0), (128, 8192))  # threads, bytes of shared memory
    found["views"] = [f"make_views<{pixel}, {a}, {b}>" for pixel in ("unsigned char", "float") for a, b in blocks]
    return found


@pytest.mark.parametrize("arch", [90])  # test_cuda_nvcc.py compiles for all
@pytest.mark.parametrize("stem", kernels())
def test_kernels_compile(stem, arch):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    if not (INCLUDE / "cuda_fp16.h").exists():
        assert not IN_CI
        pytest.skip("torch's wheel brings no CUDA headers")
    source = f'#include "cuda/{stem}.cuh"\n'.encode()
    error, program = nvrtc.nvrtcCreateProgram(source, f"{stem}.cu".encode(), 1, [CSTDINT], [b"cstdint"])
    assert int(error) == 0
    names = [f"memkern::{name}".encode() for name in kernels()[stem]]
    # pasted in, because a name expression must be resolved where memkern's own names are visible
    names = [name.replace(b"<bf16", b"<memkern::bf16").replace(b"<f16", b"<memkern::f16") for name in names]
    for name in names:
        nvrtc.nvrtcAddNameExpression(program, name)
    options = [
        f"--gpu-architecture=sm_{arch}",
        f"-I{build.ROOT / 'csrc'}",
        f"-I{INCLUDE}",
        "--std=c++17",
        "-default-device",
    ]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(error) == 0, log.decode()[:4000]
    for name in names:
        assert nvrtc.nvrtcGetLoweredName(program, name)[1], name
    assert nvrtc.nvrtcGetCUBINSize(program)[1] > 1000
