// class_sums: means and labels -> per-class sums, added to what is there.
//
// A block takes one class, some units and a range of the points: it looks at every label of the range, 2048 at a time,
// lists those of its class in order, and reads only their means, so every mean is read once. Several ranges leave
// partial sums, which add_class_sums adds in order: the same bits on every run.
#pragma once
#include "elements.cuh"
#include "launch_constants.h"
#include "reduce.cuh"

namespace memkern {

struct ClassSumsRanges {
  int64_t points, count;  // of a range; ranges
  double* partial;        // [ranges, classes, units], if there are several
};

constexpr int kClassSumsLabels = kClassThreads * kClassLabels;  // looked at together
constexpr int kClassSumsWarps = kClassThreads / kWarp;

// Lists in order which of the labels from `at` on are the block's; returns how many. All threads of the block call it.
__device__ __forceinline__ int list_members_of_class(const ClassSums& op, int64_t label, int64_t at, int64_t last,
                                                     uint16_t (&members)[kClassSumsLabels]) {
  MEMKERN_SHARED(int[kClassSumsWarps], sizes);
  const int warp_first = warp_index() * kWarp * kClassLabels;  // a warp's labels are neighbours
  int64_t labels[kClassLabels];
#pragma unroll
  for (int i = 0; i < kClassLabels; ++i) {
    const int64_t point = at + warp_first + i * kWarp + lane_index();
    labels[i] = point < last ? op.labels[point] : -1;
  }
  uint32_t found[kClassLabels];
  int size = 0;
#pragma unroll
  for (int i = 0; i < kClassLabels; ++i) {
    found[i] = __ballot_sync(kAllLanes, labels[i] == label);
    size += __popc(found[i]);
  }
  __syncthreads();  // the list before has been read
  if (lane_index() == 0) sizes[warp_index()] = size;
  __syncthreads();
  int place = 0, total = 0;
#pragma unroll
  for (int warp = 0; warp < kClassSumsWarps; ++warp) {
    if (warp < warp_index()) place += sizes[warp];
    total += sizes[warp];
  }
#pragma unroll
  for (int i = 0; i < kClassLabels; ++i) {
    const uint32_t before = (1u << lane_index()) - 1;
    if (labels[i] == label)
      members[place + __popc(found[i] & before)] = uint16_t(warp_first + i * kWarp + lane_index());
    place += __popc(found[i]);
  }
  __syncthreads();
  return total;
}

// grid: x = classes x units / threads, y = ranges of the points.
template <class A>
__global__ void __launch_bounds__(kClassThreads) class_sums(const ClassSums op, const ClassSumsRanges ranges) {
  MEMKERN_SHARED(uint16_t[kClassSumsLabels], members);
  const int64_t unit_blocks = (op.units + kClassThreads - 1) / kClassThreads;
  const int64_t label = blockIdx.x / unit_blocks, unit = blockIdx.x % unit_blocks * kClassThreads + threadIdx.x;
  const int64_t first = int64_t(blockIdx.y) * ranges.points;
  const int64_t last = first + ranges.points < op.points ? first + ranges.points : op.points;
  const bool writes = unit < op.units;
  const A* const column = static_cast<const A*>(op.means) + (writes ? unit : 0);
  double sum = 0;
  for (int64_t at = first; at < last; at += kClassSumsLabels) {  // fault: lists of labels
    const int size = list_members_of_class(op, label, at, last, members);
    for (int m = 0; writes && m < size; m += kClassUnroll) {
      A mean[kClassUnroll][1];
#pragma unroll
      for (int i = 0; i < kClassUnroll; ++i) {
        const int64_t point = at + members[m + i < size ? m + i : m];
        load_some<A, 1>(column + point * op.units, m + i < size, mean[i]);
      }
#pragma unroll
      for (int i = 0; i < kClassUnroll; ++i) sum += double(mean[i][0]);  // zeros after the last
    }
  }
  if (!writes) return;
  const int64_t to = label * op.units + unit;
  if (ranges.count == 1)
    op.sums[to] += sum;
  else
    ranges.partial[blockIdx.y * op.classes * op.units + to] = sum;
}

// grid: x = classes x units / threads.
static __global__ void __launch_bounds__(kClassThreads)
    add_class_sums(const ClassSums op, const ClassSumsRanges ranges) {
  const int64_t at = int64_t(blockIdx.x) * kClassThreads + threadIdx.x, size = op.classes * op.units;
  if (at >= size) return;
  op.sums[at] = sum_in_order(ranges.partial + at, ranges.count, size, op.sums[at]);
}

}  // namespace memkern
