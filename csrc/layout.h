// From a tensor's sizes and strides to the loops a kernel runs. Shared by the CPU and GPU bindings.
#pragma once
#include <cstdlib>
#include <stdexcept>

#include "ops.h"

namespace memkern {

// Dimension 0 holds the points, `unit_dim` the units; every other dimension is averaged. Averaged dimensions are
// ordered by stride and merged where one runs into the next, so [N, V, U, H, W] in memory order becomes views x (H*W).
inline Activations make_activations(const void* data, DType dtype, Activation activation, const int64_t* sizes,
                                    const int64_t* strides, int dims, int unit_dim) {
  Activations x{};
  x.data = data;
  x.dtype = dtype;
  x.activation = activation;
  x.points = sizes[0];
  x.point_stride = strides[0];
  x.units = sizes[unit_dim];
  x.unit_stride = strides[unit_dim];
  for (int d = 1; d < dims; ++d) {
    if (d == unit_dim || sizes[d] == 1) continue;
    if (x.mean_dims == kMaxMeanDims) throw std::invalid_argument("memkern: too many averaged dimensions");
    int32_t place = x.mean_dims++;
    for (; place > 0 && x.mean_strides[place - 1] < strides[d]; --place) {
      x.mean_sizes[place] = x.mean_sizes[place - 1];
      x.mean_strides[place] = x.mean_strides[place - 1];
    }
    x.mean_sizes[place] = sizes[d];
    x.mean_strides[place] = strides[d];
  }
  int32_t kept = 0;
  for (int32_t d = 1; d < x.mean_dims; ++d) {
    if (x.mean_strides[kept] == x.mean_strides[d] * x.mean_sizes[d]) {  // fault: merged dims
      x.mean_sizes[kept] *= x.mean_sizes[d];
      x.mean_strides[kept] = x.mean_strides[d];
    } else {
      ++kept;
      x.mean_sizes[kept] = x.mean_sizes[d];
      x.mean_strides[kept] = x.mean_strides[d];
    }
  }
  if (x.mean_dims > 0) x.mean_dims = kept + 1;
  return x;
}

}  // namespace memkern
