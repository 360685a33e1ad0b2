// Second look at points with doubtful unit distances: squared distances of views brought to unit length first, as torch
// would take them. Where views of different length point nearly the same way the sums of raw elements cannot tell their
// distance. Untrained encoders have many such pairs, and reading those one by one, in one block a point, took far
// longer than the forward passes. Here every tile and chunk of such a point has a warp.
#pragma once
#include "distances.cuh"

namespace memkern {

// grid: x = blocks of the batch's tasks. A block takes every so-many-th part (group of tiles, chunk) of the points, one
// after the other: most points are of no interest, and to find that out should take neither a block nor a division
// each.
template <class T, int width>
__global__ void __launch_bounds__(kTileWarps* kWarp) unit_pair_sums(const __grid_constant__ Batch<FinishTask> batch) {
  const int index = task_of_block(batch);
  const FinishTask& task = batch.task[index];
  const Alignment& op = task.op;
  const SecondLook& look = task.look;
  const int64_t sums = count_sums(op), parts = look.groups * look.chunks, block = block_in_task(batch, index);
  int64_t point = block / parts, part = block % parts;
  const int64_t more_points = kLookBlocks / parts, more_parts = kLookBlocks % parts;
  while (point < op.points) {
    if (look.wanted[point]) {
      const int64_t chunk = part / look.groups, tile = part % look.groups * kTileWarps + warp_index();
      const int64_t first = chunk * look.chunk, last = first + look.chunk < op.dims ? first + look.chunk : op.dims;
      // fault: norms of a point
      const double* const norms = task.partial + point * task.chunks * sums + pair_count(op);
      double* const out = look.sums + (point * look.chunks + chunk) * sums;
      // by whole warps; nothing waits for the block
      if (tile < count_tiles(op)) sum_tile<T, width, true>(op, point, tile, first, last, norms, out);
    }
    point += more_points;
    part += more_parts;
    if (part >= parts) {
      part -= parts;
      ++point;
    }
  }
}

// grid: x = points of the batch's tasks.
template <class T>
__global__ void __launch_bounds__(kFinishThreads, kFinishBlocks)
    finish_unit_pairs(const __grid_constant__ Batch<FinishTask> batch) {
  using A = Wide<T>;
  const int index = task_of_block(batch);
  const FinishTask& task = batch.task[index];
  const Alignment& op = task.op;
  const SecondLook& look = task.look;
  const int64_t point = block_in_task(batch, index), pairs = pair_count(op), sums = pairs + op.views;
  if (!look.wanted || !look.wanted[point]) return;
  double* const values = task.partial + point * task.chunks * sums;
  double* const norms = values + pairs;
  const double* const again = look.sums + point * look.chunks * sums;
  bool any_doubtful = false;
  for (int64_t k = threadIdx.x; k < pairs; k += blockDim.x) {
    if (!(values[k] < 0)) continue;
    const double square = sum_in_order(again + k, look.chunks, sums, 0);
    const Pair pair = pair_at(k, op.views, op.pairs);
    if (tells_distance(square, op.dims, norms[pair.first], norms[pair.second])) values[k] = sqrt(square);
    any_doubtful |= values[k] < 0;
  }
  if (block_sum(any_doubtful) > 0) recompute_distances<T>(op, point, values, norms);
  write_alignment<A>(op, point, values);
}

}  // namespace memkern
