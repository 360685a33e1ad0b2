// The two filters of views as a block's threads share them: the windows and weights of a resize along one axis, and the
// weights of a blur.
#pragma once
#include "../taps.h"
#include "reduce.cuh"
#include "settings.h"

namespace memkern {

// P: the type of a pixel. uint8 images have whole weights, found in double.
template <class P>
struct Weights {
  using Stored = int32_t;
  using Real = double;
};
template <>
struct Weights<float> {
  using Stored = float;
  using Real = float;
};

// One axis of a resize in a block's memory.
template <class P>
struct Axis {
  char* memory;
  const int64_t (&part)[3];  // where in it first, count and weights begin
  int outputs;

  __device__ __forceinline__ int32_t* firsts() const { return reinterpret_cast<int32_t*>(memory + part[0]); }
  __device__ __forceinline__ int32_t* counts() const { return reinterpret_cast<int32_t*>(memory + part[1]); }
  // [taps, outputs]
  __device__ __forceinline__ typename Weights<P>::Stored* weights() const {
    return reinterpret_cast<typename Weights<P>::Stored*>(memory + part[2]);
  }
  __device__ __forceinline__ int first(int i) const { return firsts()[i]; }
  __device__ __forceinline__ int count(int i) const { return counts()[i]; }
};

// Fills an axis; returns the precision of whole weights. All threads of the block call it; a barrier must follow.
template <class P>
__device__ __forceinline__ int find_taps(int input, bool antialias, const Axis<P>& axis) {
  using Real = typename Weights<P>::Real;
  constexpr bool whole = sizeof(P) == 1;
  Real largest = 0;
  int precision = 0;
  // Whole weights need to know the largest of all first: then the weights are found twice rather than kept in double.
#pragma unroll 1
  for (int pass = whole ? 0 : 1; pass < 2; ++pass) {
    for (int i = int(threadIdx.x); i < axis.outputs; i += int(blockDim.x)) {
      const Window<Real> window = window_of<Real>(i, input, axis.outputs, antialias);
      Real total = 0;
#pragma unroll 1
      for (int j = 0; j < window.count; ++j) total += weight_of(window, j);
      axis.firsts()[i] = window.first;
      axis.counts()[i] = window.count;
#pragma unroll 1
      for (int j = 0; j < window.count; ++j) {
        Real weight = weight_of(window, j);
        if (window.triangle) weight /= total;
        if constexpr (whole) {
          if (pass == 0)
            largest = weight > largest ? weight : largest;
          else
            axis.weights()[j * axis.outputs + i] = whole_weight(weight, precision);
        } else {
          axis.weights()[j * axis.outputs + i] = weight;
        }
      }
    }
    if (whole && pass == 0) precision = precision_of(block_max(double(largest)));
  }
  return precision;
}

// Weights of a blur, as csrc/cpu/blur.h has them. All threads of the block call it; a barrier must follow.
__device__ __forceinline__ void find_bell(int taps, float sigma, float* weight) {
  const auto bell = [&](int i) {
    const double away = (double(i) - (taps - 1) / 2) / double(sigma);
    return exp(-0.5 * away * away);
  };
  for (int i = int(threadIdx.x); i < taps; i += int(blockDim.x)) {
    double total = 0;
#pragma unroll 1
    for (int j = 0; j < taps; ++j) total += bell(j);
    const double share = bell(i) / total;
    weight[i] = share < 1e-30 ? 0.0f : float(share);
  }
}

}  // namespace memkern
