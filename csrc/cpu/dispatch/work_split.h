// Points too large for one thread are taken in slices of their dims. These are cut by the shape alone, and the sums of
// a slice are complete before they are added to those of the slices before: the bits do not depend on the threads.
#pragma once
#include "rules.h"

namespace memkern {

// Share of the work that one call of a kernel does.
struct WorkRange {
  enum class What { points, slices, rest } what;
  // points: points [first, last), or whatever else work_of counts, each as a whole.
  // slices: slices [first, last) of the slices of all points, one point after the other, whose sums are only kept.
  // rest: what is left to do for points [first, last) when the sums of all their slices are there.
  int64_t first, last;
  double* kept;  // [points, slices, sums_of_slice(op)]; unless `what` is points
};

// 640 KB of ten views of floats; a multiple of the range that every instruction set adds in the wide type.
constexpr int64_t kSliceDims = 16384, kSliceStep = 4096;
// A slice has sums of all units, which must stay small beside what they are made of.
constexpr int64_t kMostUnitsInSlices = 4096;

// Dims of a slice, for points that have this many units to sum up, or none. (static: see ops.h)
static inline int64_t slice_dims(int64_t dims, int64_t units) {
  if (dims <= kSliceDims || units > kMostUnitsInSlices) return dims;
  const int64_t slices = (dims + kSliceDims - 1) / kSliceDims;
  return ((dims + slices - 1) / slices + kSliceStep - 1) / kSliceStep * kSliceStep;
}

// Layout of the dims of a view in memory: [units, space], [space, units], or neither.
enum class ViewLayout { planes, rows, other };

// A view with one element of each unit is a row: planes of one element are slow.
static inline ViewLayout layout_of(const LayerStats& op) {
  const Activations& x = op.means.x;
  if (x.units == op.alignment.dims) return ViewLayout::rows;
  if (x.units == 1 || x.unit_stride == op.alignment.dims / x.units) return ViewLayout::planes;
  return x.unit_stride == 1 ? ViewLayout::rows : ViewLayout::other;
}

static inline int64_t slices_of(int64_t dims, int64_t units) {
  const int64_t each = slice_dims(dims, units);
  return (dims + each - 1) / each;
}
static inline int64_t slices_of(const Alignment& op) { return slices_of(op.dims, 0); }
static inline int64_t slices_of(const LayerStats& op) {
  return layout_of(op) == ViewLayout::other ? 1 : slices_of(op.alignment.dims, op.means.x.units);
}
static inline int64_t slices_of(const PointwiseStats& op) { return slices_of(op.input); }

// Doubles that a slice leaves: of each pair, each norm, each unit.
static inline int64_t sums_of_slice(const Alignment& op) { return pair_count(op) + (op.normalize ? op.views : 0); }
static inline int64_t sums_of_slice(const LayerStats& op) {
  return sums_of_slice(op.alignment) + (op.means.means ? op.means.x.units : 0);
}
static inline int64_t sums_of_slice(const PointwiseStats& op) {
  int64_t sums = op.input.alignment.alignment ? sums_of_slice(op.input) : 0;
  for (int32_t i = 0; i < op.layers; ++i) sums += sums_of_slice(op.output[i]);  // fault: sums of layers
  return sums;
}

}  // namespace memkern
