// The two filters of views as a block's threads share them: the windows and weights of a resize along each axis, and
// the weights of a blur.
#pragma once
#include "../resize_filter.h"
#include "launch_constants.h"
#include "reduce.cuh"
#include "views_quad.cuh"

namespace memkern {

// P: the type of a pixel. uint8 images have whole weights, found in double.
template <class P>
struct Weights {
  using Real = double;
  using Sum = int32_t;
};
template <>
struct Weights<float> {
  using Real = float;
  using Sum = float;
};

// One axis of a resize in a block's memory: which inputs each output reads, and their weights, of uint8 images whole
// numbers below 2^15.
struct Axis {
  int outputs;
  int32_t *first, *count;  // [outputs]
  float* weight;           // [taps, outputs]
};

constexpr int kFewTaps = 3;

// True if no output of an axis has more taps than that: a triangle over s inputs on either side meets fewer than 2 s
// + 1.
__device__ __forceinline__ bool few_taps(int input, int output, bool antialias) {
  return !antialias || 4 * int64_t(input) <= 5 * int64_t(output);
}

// Sums over the taps of outputs along an axis; of uint8 images in [0, 256), to be rounded down: weights are in units of
// 2^-precision, and half a number is added.
// P: the type of a pixel.
template <class P>
struct Filter {
  static constexpr bool bytes = sizeof(P) == 1;

  float half, unit;
  __device__ __forceinline__ explicit Filter(int precision)
      : half(bytes ? float(1 << precision >> 1) : 0.0f), unit(bytes ? 1.0f / float(1 << precision) : 1.0f) {}

  // Few taps are kept in registers. One of at most three weights is a third or more, so precision is at most 16 and
  // sums of uint8 images are whole numbers below 2^24: exact in float, in whatever order.
  struct Few {
    int count;
    float weight[kFewTaps];
    __device__ __forceinline__ Few(const Axis& axis, int i) : count(axis.count[i]) {
#pragma unroll
      for (int j = 0; j < kFewTaps; ++j) weight[j] = j < count ? axis.weight[j * axis.outputs + i] : 0.0f;
    }
  };
  // value(j, to): what lies at tap j, of n outputs with the same taps
  template <int n, class Value>
  __device__ __forceinline__ void operator()(const Few& taps, const Value& value, float (&sum)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = half;
#pragma unroll
    for (int j = 0; j < kFewTaps; ++j)
      if (j == 0 || j < taps.count) {
        float x[n];
        value(j, x);
#pragma unroll
        for (int i = 0; i < n; ++i)
          sum[i] = bytes ? fmaf(x[i], taps.weight[j], sum[i]) : sum[i] + product(x[i], taps.weight[j]);
      }
    // Rounding has moved the sum of three weights by 1.5 at most, 2^14 or more: no sum reaches 256.
#pragma unroll
    for (int i = 0; i < n; ++i)
      if (bytes) sum[i] *= unit;
  }

  // Many are read from memory, and summed in 32 bits.
  struct Many {
    int count, outputs;
    const float* weight;
    __device__ __forceinline__ Many(const Axis& axis, int i)
        : count(axis.count[i]), outputs(axis.outputs), weight(axis.weight + i) {}
  };
  template <int n, class Value>
  __device__ __forceinline__ void operator()(const Many& taps, const Value& value, float (&to)[n]) const {
    typename Weights<P>::Sum sum[n];
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = typename Weights<P>::Sum(half);
#pragma unroll 2
    for (int j = 0; j < taps.count; ++j) {
      const float weight = taps.weight[j * taps.outputs];
      float x[n];
      value(j, x);
#pragma unroll
      for (int i = 0; i < n; ++i) sum[i] += typename Weights<P>::Sum(product(x[i], weight));
    }
    // The last 7 of up to 30 digits are far below a unit, and more than a float has.
#pragma unroll
    for (int i = 0; i < n; ++i) {
      if constexpr (bytes) sum[i] &= ~0x7f;
      to[i] = bytes ? fminf(float(sum[i]) * unit, 255.0f) : float(sum[i]);
    }
  }
};

// Fills both axes and returns the precisions of whole weights, of uint8 images. All threads of the block call it; a
// barrier must follow.
struct Precisions {
  int columns, rows;
};
template <class P>
__device__ __forceinline__ Precisions find_taps(int width, int height, bool antialias, const Axis& columns,
                                                const Axis& rows) {
  constexpr bool whole = sizeof(P) == 1;
  using Real = typename Weights<P>::Real;
  const int outputs = columns.outputs + rows.outputs;
  Real widest = 0, highest = 0;
  Precisions precision{0, 0};
  // Whole weights need to know the largest of all first: then the windows are found twice rather than kept.
#pragma unroll 1
  for (int pass = whole ? 0 : 1; pass < 2; ++pass) {
#pragma unroll 1
    for (int k = int(threadIdx.x); k < outputs; k += int(blockDim.x)) {
      const bool down = k >= columns.outputs;
      const Axis axis = down ? rows : columns;
      const int i = down ? k - columns.outputs : k;
      const Window<Real> window = window_of<Real>(i, down ? height : width, axis.outputs, antialias);
      Real total = 0, largest = 0;
#pragma unroll 1
      for (int j = 0; j < window.count; ++j) {
        const Real weight = weight_of(window, j);
        total += weight;
        largest = weight > largest ? weight : largest;
      }
      if (!window.triangle) total = 1;
      if (pass == 0) {
        const Real most = largest / total;
        widest = !down && most > widest ? most : widest;
        highest = down && most > highest ? most : highest;
        continue;
      }
      axis.first[i] = window.first;
      axis.count[i] = window.count;
#pragma unroll 1
      for (int j = 0; j < window.count; ++j) {
        const Real weight = window.triangle ? weight_of(window, j) / total : weight_of(window, j);
        axis.weight[j * axis.outputs + i] =
            whole ? float(whole_weight(weight, down ? precision.rows : precision.columns)) : float(weight);
      }
    }
    if (whole && pass == 0) precision = {precision_of(block_max(widest)), precision_of(block_max(highest))};
  }
  return precision;
}

// Weights of a blur, as csrc/cpu/views/blur.h has them, between zeros: that of tap t at [t + `before`], of `length` in
// all. All threads of the block call it; a barrier must follow.
__device__ __forceinline__ void find_bell(int taps, float sigma, int before, int length, float* weight) {
  const auto bell = [&](int i) {
    const double away = (double(i) - (taps - 1) / 2) / double(sigma);
    return exp(-0.5 * away * away);
  };
  for (int i = int(threadIdx.x); i < length; i += int(blockDim.x)) {
    const int tap = i - before;
    if (tap < 0 || tap >= taps) {
      weight[i] = 0;
      continue;
    }
    double total = 0;
#pragma unroll 1
    for (int j = 0; j < taps; ++j) total += bell(j);
    const double share = bell(tap) / total;
    weight[i] = share < 1e-30 ? 0.0f : float(share);
  }
}

}  // namespace memkern
