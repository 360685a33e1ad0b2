// Alignment as other kernels need it: the points themselves, the sums of their views on the way, and to make the
// views just before they are read.
#pragma once
#include "cpu/dispatch/work_split.h"
#include "cpu/simd/simd.h"
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// Dims whose sums stay in the wide type before they are added up in double. In float, the norm of 20000 elements is
// right to 1e-8 then, and to 1e-7 without; the distance of nearly parallel unit vectors shows the difference.
template <class A>
constexpr int64_t kRange = 256 * Lanes<A>::count;

// Sums of six unit views: 15 pairs and 6 norms.
constexpr int64_t kFewSums = 21;

// Most points, neighbours, that are under way at a time: of few views several, whose sums are folded together.
inline int64_t points_at_once(const Alignment& op) { return sums_of_slice(op) <= kFewSums ? 8 : 1; }

// Reduces a point to `units` sums. seen() adds to them what a range of dims contributes, from the sum over some views
// of each dim; over all calls each view counts once. done() is given the sums of a point that is complete.
struct Observer {
  // view_sums: [last - first] of the wide type; up to a vector before and after them may be read.
  void (*seen)(const void* self, const void* view_sums, int64_t first, int64_t last, double* unit_sums);
  void (*done)(const void* self, int64_t point, const double* unit_sums);
  const void* self;
  int64_t units;
};

template <class A>
struct Slots;
template <class A>
struct DiagonalOutputs;

// Producer of views. make() writes dims [first, last) of all views of a point before they are read. add_diagonal()
// writes n dims (whole vectors, at most kMostDims) of some views, from dim `first` of view `view` on, from the
// registers of the diagonal tile, which is the first to read them, because a pass of its own would go to L2 and back.
// The views of a range of dims come in order. add_diagonal may be null.
constexpr int64_t kMostDims = 1088;
struct ViewProducer {
  void (*make)(const void* self, int64_t point, int64_t first, int64_t last);
  void (*add_diagonal)(const void* self, int64_t point, int64_t first, int64_t n, int64_t view, int64_t views,
                       Slots<float> slots, const DiagonalOutputs<float>& outputs);
  const void* self;
};

// Callbacks that take part while a point is read; both may be null.
struct PassContext {
  const Observer* observer;
  const ViewProducer* producer;
  int64_t point;
  double* unit_sums;  // of the observer
};

// Makes once more all elements of a point that were not kept.
struct Elements {
  void (*make)(void* self, int64_t point, const void** views, int64_t* view_stride);
  void* self;
};

// Alignment that is read, with its observer and its producer of views; both may be null. If `elements` is not null,
// there is memory for one range of dims of one point only, where `z` goes round.
struct Reading {
  const Alignment* op;
  const Observer* observer;
  const ViewProducer* producer;
  const Elements* elements;
};
constexpr int kMaxReadings = 3;

// A range of the alignment of some readings of one shape, whose slices have `slice` dims. Readings take turns, a range
// of dims each, so that the producer of one finds in L2 what the one before it has read.
void align_points(const Reading* readings, int count, int64_t slice, const WorkRange& range);

inline void align_points(const Alignment& op, int64_t slice, const WorkRange& range, const Observer* observer) {
  const Reading reading{&op, observer, nullptr, nullptr};
  align_points(&reading, 1, slice, range);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
