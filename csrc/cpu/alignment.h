// What layer_stats needs of alignment: the points themselves, and a look at their elements while they are in cache.
#pragma once
#include "../ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// seen() is called when dims [first, last) of some views of a point have just been read and lie in L1, done() when the
// point is complete. At most kPointsAtOnce points, neighbours, are under way at a time.
constexpr int64_t kPointsAtOnce = 8;
struct Observer {
  void (*seen)(void* self, int64_t point, int64_t view, int64_t views, int64_t first, int64_t last);
  void (*done)(void* self, int64_t point);
  void* self;
};

// The alignment of points [first, last); `observer` may be null.
void align_points(const Alignment& op, int64_t first, int64_t last, const Observer* observer);

}  // namespace MEMKERN_ISA
}  // namespace memkern
