// layer_stats: alignment and unit means of one activation, in one read, where up to 10 views fit the registers.
//
// pair_sums with one thing more: the elements' sums over the views stay in shared memory until the chunk is done, and
// are then folded to units. Chunks are cut where units end: whole maps (NCHW), or whole rows of units (tokens, which
// leave partial sums for finish_means).
#pragma once
#include "distances.cuh"
#include "unit_means.cuh"

namespace memkern {

struct LayerPlan {
  int64_t chunk;  // dims of a block
  int64_t space;  // contiguous elements of a unit; 1 where units are innermost
  int64_t units;  // all of them: a row, if innermost
};

// grid: x = points, y = chunks of the dims.  partial: [points, chunks, sums]
template <class T, int views>
__global__ void __launch_bounds__(kPairThreads)
    layer_sums(const Alignment op, const LayerPlan plan, double* partial, const MeansOutput to) {
  constexpr int width = kPack<T>, rounds = kLayerPacks;
  using A = Wide<T>;
  const int64_t point = blockIdx.x;
  const T* const data = static_cast<const T*>(op.z) + point * op.point_stride;
  const int64_t first = int64_t(blockIdx.y) * plan.chunk;
  const int64_t last = first + plan.chunk < op.dims ? first + plan.chunk : op.dims;
  MEMKERN_SHARED(A[rounds * kPairThreads * width], over_views);
  A sum[FewViews<views>::held] = {};
  for (int64_t d = first + int64_t(threadIdx.x) * width; d < last; d += kPairThreads * width) {
    A x[views][width];
#pragma unroll
    for (int v = 0; v < views; ++v) load_some<T, width>(data + v * op.view_stride + d, last - d, x[v]);
    add_pairs<views>(x, sum);
#pragma unroll
    for (int e = 0; e < width; ++e) {
      A total = x[0][e];
#pragma unroll
      for (int v = 1; v < views; ++v) total += x[v][e];
      over_views[d - first + e] = total;
    }
  }
  write_pair_sums<views>(sum, partial + (point * gridDim.y + blockIdx.y) * FewViews<views>::sums);  // and a barrier

  const int64_t size = last - first;
  if (plan.space == 1) {  // units innermost: column sums of the chunk's rows
    const int64_t columns = plan.units < size ? plan.units : size, first_unit = first % plan.units;
    for (int64_t u = threadIdx.x; u < columns; u += kPairThreads) {
      double total = 0;
      for (int64_t at = u; at < size; at += plan.units) total += double(over_views[at]);
      write_sum<A>(to, point, to.parts == 1 ? 0 : blockIdx.y, plan.units, first_unit + u, total);
    }
  } else {  // a warp for each map
    for (int64_t u = warp_index(); u < size / plan.space; u += kPairThreads / kWarp) {
      double total = 0;
      for (int64_t s = lane_index(); s < plan.space; s += kWarp) total += double(over_views[u * plan.space + s]);
      total = warp_sum(total);
      if (lane_index() == 0) write_sum<A>(to, point, 0, plan.units, first / plan.space + u, total);
    }
  }
}

}  // namespace memkern
