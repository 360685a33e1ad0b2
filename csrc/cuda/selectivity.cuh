// selectivity: one value per point and unit -> the state of each unit. Layouts with something to average go through
// unit_means first (selectivity.cu); their means are small beside the activations.
//
// visit_points takes the points by chunks, a pack of units a thread; merge_states joins the chunks' states in order.
#pragma once
#include "elements.cuh"
#include "launch_constants.h"
#include "reduce.cuh"

namespace memkern {

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

  A peak[width], minimum[width];  // minimum: without NaN, which the peak tells
  double rest[width] = {};
  int32_t rise[width] = {};  // where the peak was, counted from `first`
  const auto point_at = [&](int64_t position) { return points.order ? points.order[position] : position; };
  load_some<T, width>(column + point_at(first) * x.point_stride, units, peak);
#pragma unroll
  for (int e = 0; e < width; ++e) minimum[e] = peak[e] = activate(x.activation, peak[e]);
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
        minimum[e] = mean < minimum[e] ? mean : minimum[e];
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
    static_cast<A*>(state.minimum)[to] = peak[e] == peak[e] ? minimum[e] : peak[e];
    state.index[to] = first + rise[e];
    state.rest[to] = rest[e];
  }
}

// grid: x = units / a warp; warps take runs of chunks, the first joins the runs.  from: [chunks, units], the earlier
// points first
template <class A>
__global__ void __launch_bounds__(kMergeWarps* kWarp)
    merge_states(int64_t chunks, int64_t units, const SelectivityState from, const SelectivityState to) {
  const int64_t unit = int64_t(blockIdx.x) * kWarp + lane_index();
  const int64_t run = (chunks + kMergeWarps - 1) / kMergeWarps, first = warp_index() * run;
  const int64_t last = first + run < chunks ? first + run : chunks;
  const auto state_of = [&](int64_t chunk) {
    const int64_t at = chunk * units + unit;
    return UnitState<A>{static_cast<const A*>(from.peak)[at], static_cast<const A*>(from.minimum)[at], from.index[at],
                        from.rest[at]};
  };
  MEMKERN_SHARED(UnitState<A>[kMergeWarps][kWarp], of_runs);
  if (unit < units && first < last) {
    UnitState<A> state = state_of(first);
    for (int64_t chunk = first + 1; chunk < last; ++chunk) join(state, state_of(chunk));
    of_runs[warp_index()][lane_index()] = state;
  }
  __syncthreads();
  if (warp_index() > 0 || unit >= units) return;
  UnitState<A> state = of_runs[0][lane_index()];
  for (int64_t warp = 1; warp * run < chunks; ++warp) join(state, of_runs[warp][lane_index()]);
  static_cast<A*>(to.peak)[unit] = state.peak;
  static_cast<A*>(to.minimum)[unit] = state.minimum;
  to.index[unit] = state.index;
  to.rest[unit] = state.rest;
}

}  // namespace memkern
