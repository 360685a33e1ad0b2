// layer_stats: alignment and unit means of the same activations, which come from memory once.
//
// The alignment's tiles add the views of a point while they are in registers; units are summed from these sums, some
// 1 to 4 KB of each point at a time, in L1. Reading the views a second time, even from L1, is slower.
#include "cpu/dispatch/kernels.h"
#include "cpu/units/unit_means.h"
#include "units_seen.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

template <class A>
void stats(const LayerStats& op, const WorkRange& range) {
  const UnitsSeen<A> units(op);
  const Observer observer = units.observer();
  align_points(op.alignment, slice_dims(op.alignment.dims, op.means.x.units), range, &observer);
}

// Two kernels in turn, over few enough points that the second finds them in L2.
void stats_of_other_layouts(const LayerStats& op, int64_t first, int64_t last) {
  constexpr int64_t kInCache = 512 * 1024;
  const int64_t wide_bytes = op.alignment.dtype == DType::float64 ? 8 : 4;
  const int64_t point_bytes = op.alignment.views * op.alignment.dims * wide_bytes;
  const int64_t points = point_bytes < kInCache ? kInCache / point_bytes : 1;
  for (int64_t p = first; p < last; p += points) {
    const int64_t end = last - p < points ? last : p + points;
    align_points(op.alignment, op.alignment.dims, {WorkRange::What::points, p, end, nullptr}, nullptr);
    write_means(op.means.x, p, end, static_cast<char*>(op.means.means) + p * op.means.x.units * wide_bytes);
  }
}

}  // namespace

void layer_stats(const LayerStats& op, const WorkRange& range) {
  // fault: other layouts
  if (layout_of(op) == ViewLayout::other) return stats_of_other_layouts(op, range.first, range.last);  // not in slices
  if (op.alignment.dtype == DType::float64) return stats<double>(op, range);
  stats<float>(op, range);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
