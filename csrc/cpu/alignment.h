// What other kernels need of alignment: the points themselves, the sums of their views on the way, and to make the
// views just before they are read.
#pragma once
#include "../ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// How many points, neighbours, are under way at a time, at most: of few views several, whose sums are folded together.
inline int64_t points_at_once(const Alignment& op) {
  const int64_t sums = pair_count(op.views, op.pairs) + (op.normalize ? op.views : 0);
  return sums <= 16 ? 8 : 1;
}

// seen() is given, for a range of dims of a point, the sum over some of its views of each dim; over all calls each view
// counts once. done() is called when the point is complete.
struct Observer {
  // sums: [last - first] of the wide type; up to a vector before and after them may be read.
  void (*seen)(void* self, int64_t point, const void* sums, int64_t first, int64_t last);
  void (*done)(void* self, int64_t point);
  void* self;
};

template <class A>
struct Slots;
template <class A>
struct Besides;

// make() writes dims [first, last) of all views of a point before they are read. add_diagonal() writes n dims (whole
// vectors, at most kMostDims) of some views, from dim `first` of view `view` on, from the registers of the diagonal
// tile, which is the first to read them: a pass of its own, from L2 and back, took a third of the time. The views of a
// range of dims come in order. It may be null.
constexpr int64_t kMostDims = 1088;
struct Maker {
  void (*make)(const void* self, int64_t point, int64_t first, int64_t last);
  void (*add_diagonal)(const void* self, int64_t point, int64_t first, int64_t n, int64_t view, int64_t views,
                       Slots<float> slots, const Besides<float>& besides);
  const void* self;
};

// Who takes part while a point is read; both may be null.
struct Company {
  const Observer* observer;
  const Maker* maker;
  int64_t point;
};

// What is aligned, and who takes part; observer and maker may be null.
struct Reading {
  const Alignment* op;
  const Observer* observer;
  const Maker* maker;
  bool point_by_point;  // there is memory for the views of one point only
};
constexpr int kMaxReadings = 3;

// The alignment of points [first, last) of some readings of one shape. They take turns, a range of dims each, so that
// the maker of one finds in L2 what the one before it has read.
void align_points(const Reading* readings, int count, int64_t first, int64_t last);

inline void align_points(const Alignment& op, int64_t first, int64_t last, const Observer* observer) {
  const Reading reading{&op, observer, nullptr, false};
  align_points(&reading, 1, first, last);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
