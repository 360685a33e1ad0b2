// selectivity: one value per point and unit -> the state of each unit. Layouts with something to average go through
// unit_means first (selectivity.cu); their means are small beside the activations.
//
// visit_points takes the points by chunks, a pack of units a thread; merge_states joins the chunks' states in order.
#pragma once
#include "elements.cuh"
#include "settings.h"

namespace memkern {

// The rules, for one value. NaN sticks: nothing replaces a NaN, and a NaN replaces every number. Ties keep the first.
template <class A>
__device__ __forceinline__ bool replaces(A value, A peak) {
  return !(value <= peak) && peak == peak;
}
template <class A>
__device__ __forceinline__ A lower(A value, A low) {
  return (value < low || value != value) && low == low ? value : low;
}

struct Points {
  const int64_t* order;  // the point at each position, or null for 0, 1, 2, ...
  int64_t count, chunk;
};

// grid: x = packs of units / threads, y = chunks of the points.  state: [chunks, units]
template <class T, int width>
__global__ void __launch_bounds__(kStateThreads, kStateBlocks)
    visit_points(const Activations x, const Points points, const SelectivityState state) {
  using A = Wide<T>;
  const int64_t unit = (int64_t(blockIdx.x) * kStateThreads + threadIdx.x) * width, units = x.units - unit;
  if (units <= 0) return;
  const T* const column = static_cast<const T*>(x.data) + unit * x.unit_stride;
  const int64_t first = int64_t(blockIdx.y) * points.chunk;
  const int64_t last = first + points.chunk < points.count ? first + points.chunk : points.count;

  A peak[width], low[width];  // low: without NaN, which the peak tells
  double rest[width] = {};
  int32_t rise[width] = {};  // where the peak was, counted from `first`
  const auto point_at = [&](int64_t position) { return points.order ? points.order[position] : position; };
  load_some<T, width>(column + point_at(first) * x.point_stride, units, peak);
#pragma unroll
  for (int e = 0; e < width; ++e) low[e] = peak[e] = activate(x.activation, peak[e]);
  for (int64_t at = first + 1; at < last; at += kStateUnroll) {
    Words<T, width> raw[kStateUnroll];
#pragma unroll
    for (int i = 0; i < kStateUnroll; ++i) {
      const int64_t point = point_at(at + i < last ? at + i : first);
      raw[i] = load_words<T, width>(column + point * x.point_stride, at + i < last ? units : 0);
    }
#pragma unroll
    for (int i = 0; i < kStateUnroll; ++i) {
      if (at + i >= last) break;
      A value[width];
      unpack(raw[i], value);
#pragma unroll
      for (int e = 0; e < width; ++e) {
        const A mean = activate(x.activation, value[e]);
        const bool rises = replaces(mean, peak[e]);
        rest[e] += double(rises ? peak[e] : mean);
        low[e] = mean < low[e] ? mean : low[e];
        rise[e] = rises ? int32_t(at + i - first) : rise[e];
        peak[e] = rises ? mean : peak[e];
      }
    }
  }

#pragma unroll
  for (int e = 0; e < width; ++e) {
    if (e >= units) break;
    const int64_t to = blockIdx.y * x.units + unit + e;
    static_cast<A*>(state.peak)[to] = peak[e];
    static_cast<A*>(state.low)[to] = peak[e] == peak[e] ? low[e] : peak[e];
    state.index[to] = first + rise[e];
    state.rest[to] = rest[e];
  }
}

// grid: x = units / threads.  from: [chunks, units], the earlier points first
template <class A>
__global__ void __launch_bounds__(kMergeThreads)
    merge_states(int64_t chunks, int64_t units, const SelectivityState from, const SelectivityState to) {
  const int64_t unit = int64_t(blockIdx.x) * kMergeThreads + threadIdx.x;
  if (unit >= units) return;
  const A* const peaks = static_cast<const A*>(from.peak) + unit;
  const A* const lows = static_cast<const A*>(from.low) + unit;
  A peak = peaks[0], low = lows[0];
  int64_t index = from.index[unit];
  double rest = from.rest[unit];
  for (int64_t c = 1; c < chunks; c += kMergeUnroll) {
    A later[kMergeUnroll], lowest[kMergeUnroll];
    int64_t where[kMergeUnroll];
    double others[kMergeUnroll];
#pragma unroll
    for (int i = 0; i < kMergeUnroll; ++i) {
      const int64_t at = (c + i < chunks ? c + i : c) * units;
      later[i] = peaks[at];
      lowest[i] = lows[at];
      where[i] = from.index[at + unit];
      others[i] = from.rest[at + unit];
    }
#pragma unroll
    for (int i = 0; i < kMergeUnroll; ++i) {
      if (c + i >= chunks) break;
      const bool rises = replaces(later[i], peak);
      rest += others[i] + double(rises ? peak : later[i]);
      index = rises ? where[i] : index;
      peak = rises ? later[i] : peak;
      low = lower(lowest[i], low);
    }
  }
  static_cast<A*>(to.peak)[unit] = peak;
  static_cast<A*>(to.low)[unit] = low;
  to.index[unit] = index;
  to.rest[unit] = rest;
}

}  // namespace memkern
