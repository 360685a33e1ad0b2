// What layer_stats needs of alignment: the points themselves, and the sums of their views on the way.
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

// The alignment of points [first, last); `observer` may be null.
void align_points(const Alignment& op, int64_t first, int64_t last, const Observer* observer);

}  // namespace MEMKERN_ISA
}  // namespace memkern
