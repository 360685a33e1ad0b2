// class_sums: means and labels -> per-class sums, added to what is there.
//
// A block takes one class, some units and a range of the points: it looks at every label of the range, 32 at a time,
// and reads only the means of its class, so every mean is read once. Several ranges leave partial sums, which
// add_class_sums adds in order: no atomics, the same bits on every run.
#pragma once
#include "elements.cuh"
#include "reduce.cuh"
#include "settings.h"

namespace memkern {

struct ClassRanges {
  int64_t points, count;  // of a range; ranges
  double* partial;        // [ranges, classes, units], if there are several
};

// grid: x = classes x units / threads, y = ranges of the points.
template <class A>
__global__ void __launch_bounds__(kClassThreads) class_sums(const ClassSums op, const ClassRanges ranges) {
  const int64_t unit_blocks = (op.units + kClassThreads - 1) / kClassThreads;
  const int64_t label = blockIdx.x / unit_blocks, unit = blockIdx.x % unit_blocks * kClassThreads + threadIdx.x;
  const int64_t first = int64_t(blockIdx.y) * ranges.points;
  const int64_t last = first + ranges.points < op.points ? first + ranges.points : op.points;
  const bool writes = unit < op.units;
  const A* const column = static_cast<const A*>(op.means) + (writes ? unit : 0);
  double sum = 0;
  for (int64_t at = first; at < last; at += kWarp) {
    const int64_t mine = at + lane_index();
    uint32_t members = __ballot_sync(kAllLanes, mine < last && op.labels[mine] == label);
    for (; members; members &= members - 1) {  // lowest first: the points in order
      A mean[1];
      load_some<A, 1>(column + (at + __ffs(int(members)) - 1) * op.units, writes, mean);
      sum += double(mean[0]);
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
static __global__ void __launch_bounds__(kClassThreads) add_class_sums(const ClassSums op, const ClassRanges ranges) {
  const int64_t at = int64_t(blockIdx.x) * kClassThreads + threadIdx.x, size = op.classes * op.units;
  if (at >= size) return;
  double sum = op.sums[at];
  for (int64_t range = 0; range < ranges.count; ++range) sum += ranges.partial[range * size + at];
  op.sums[at] = sum;
}

}  // namespace memkern
