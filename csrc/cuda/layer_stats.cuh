// layer_stats: alignment and unit means of one activation, in one read, where up to 10 views fit the registers.
//
// pair_sums with one thing more: the elements' sums over the views stay in shared memory until the chunk is done, and
// are then folded to units. Chunks are cut where units end: whole maps (NCHW), or whole rows of units (tokens, which
// leave partial sums for finish_means). One launch takes up to 16 layers.
#pragma once
#include "distances.cuh"
#include "unit_means.cuh"

namespace memkern {

struct LayerTask {
  Alignment op;
  int64_t chunk;  // dims of a block
  int64_t chunks;
  int64_t space;  // contiguous elements of a unit; 1 where units are innermost
  int64_t units;  // all of them: a row, if innermost
  double* sums;   // [points, chunks, sums]
  MeansOutput means;
};

// Over the views, in their order.
template <int views, class A, int piece>
__device__ __forceinline__ Pack<A, piece> sum_views(const A (&x)[views][piece]) {
  Pack<A, piece> sums;
#pragma unroll
  for (int e = 0; e < piece; ++e) {
    sums.element[e] = x[0][e];
#pragma unroll
    for (int v = 1; v < views; ++v) sums.element[e] += x[v][e];
  }
  return sums;
}

// grid: x = points x chunks of the dims, of the batch's tasks.
template <class T, int views>
__global__ void __launch_bounds__(kPairThreads, sizeof(T) == 2 ? kLayerBlocks - 1 : kLayerBlocks)
    layer_sums(const __grid_constant__ Batch<LayerTask> batch) {
  constexpr int width = kPack<T>, piece = kPiece<T>, rounds = kLayerPacks;
  using A = Wide<T>;
  using Sums = Pack<A, piece>;  // stored at once: element by element, lanes would meet in the same banks
  const int index = task_of_block(batch);
  const LayerTask& task = batch.task[index];
  const Alignment& op = task.op;
  const int64_t block = block_in_task(batch, index), point = block / task.chunks, chunk = block % task.chunks;
  const T* const data = static_cast<const T*>(op.z) + point * op.point_stride;
  const int64_t first = chunk * task.chunk, last = first + task.chunk < op.dims ? first + task.chunk : op.dims;
  MEMKERN_SHARED(Sums[rounds * kPairThreads * width / piece], of_pieces);
  A* const over_views = of_pieces[0].element;
  A sum[FewViews<views>::held] = {};
  int64_t d = first + int64_t(threadIdx.x) * width;
  for (; d + width <= last; d += kPairThreads * width) {
    Words<T, width> packs[views];
    load_views(op, data + d, packs);
#pragma unroll
    for (int at = 0; at < width; at += piece) {
      A x[views][piece];
      widen_views(packs, at, x);
      add_pairs<views>(x, sum);
      of_pieces[(d - first + at) / piece] = sum_views(x);
    }
  }
#pragma unroll 1
  for (; d < last; ++d) {  // a last pack that is not whole
    Words<T, 1> packs[views];
    A x[views][1];
    load_views(op, data + d, packs);
    widen_views(packs, 0, x);
    add_pairs<views>(x, sum);
    over_views[d - first] = sum_views(x).element[0];
  }
  write_pair_sums<views>(op, sum, task.sums + block * count_sums(op));  // and a barrier

  const int64_t size = last - first;
  if (task.space == 1) {  // units innermost: column sums of the chunk's rows
    const int64_t columns = task.units < size ? task.units : size, first_unit = first % task.units;
    for (int64_t u = threadIdx.x; u < columns; u += kPairThreads) {
      double total = 0;
      for (int64_t at = u; at < size; at += task.units) total += double(over_views[at]);
      write_sum<A>(task.means, point, task.means.parts == 1 ? 0 : chunk, task.units, first_unit + u, total);
    }
  } else {  // a warp for each map
    for (int64_t u = warp_index(); u < size / task.space; u += kPairThreads / kWarp) {
      double total = 0;
      for (int64_t s = lane_index(); s < task.space; s += kWarp) total += double(over_views[u * task.space + s]);
      total = warp_sum(total);
      if (lane_index() == 0) write_sum<A>(task.means, point, 0, task.units, first / task.space + u, total);
    }
  }
}

}  // namespace memkern
