// Helpers that launchers share: sizes, alignment of memory, one call per element type.
#pragma once
#include "elements.cuh"
#include "launch_constants.h"

namespace memkern {

using Stream = void*;  // a cudaStream_t

inline cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t multiple) { return ceil_div(a, multiple) * multiple; }

constexpr int64_t kMaxGridX = 2147483647, kMaxGridY = 65535;

// Calls run(T{}) with the element type of `dtype`.
template <class Run>
inline auto for_dtype(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::float64:
      return run(double{});
    case DType::bfloat16:
      return run(bf16{});
    case DType::float16:
      return run(f16{});
    default:
      return run(float{});
  }
}

// True if 16-byte loads work at `data` and at every multiple of these strides (in elements) from it.
template <class... Strides>
inline bool aligned_for_packs(const void* data, DType dtype, Strides... strides) {
  const int64_t pack = 16 / size_of(dtype);
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (... && (strides % pack == 0));  // fault: alignment of packs
}

}  // namespace memkern
