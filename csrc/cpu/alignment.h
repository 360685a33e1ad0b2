// What other kernels need of alignment: the points themselves, the sums of their views on the way, and to make the
// views just before they are read.
#pragma once
#include "../ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// seen() is given, for a range of dims of a point, the sum over some of its views of each dim; over all calls each view
// counts once. done() is called when the point is complete. At most kPointsAtOnce points, neighbours, are under way at
// a time.
constexpr int64_t kPointsAtOnce = 8;
struct Observer {
  // sums: [last - first] of the wide type; up to a vector before and after them may be read.
  void (*seen)(void* self, int64_t point, const void* sums, int64_t first, int64_t last);
  void (*done)(void* self, int64_t point);
  void* self;
};

// make() writes dims [first, last) of all views of a point, some 2048 at a time, just before they are read.
struct Maker {
  void (*make)(const void* self, int64_t point, int64_t first, int64_t last);
  const void* self;
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
