// Alignment of points: the mean l2 distance over pairs of views, in one pass over memory.
#include "alignment.h"

#include "distances.h"
#include "kernels.h"
#include "pair_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

template <class T>
void align(const Alignment& op, int64_t first, int64_t last, const Observer* observer) {
  PairSums<T> pair_sums(op, observer);
  Distances<Wide<T>> distances(op, exact_views<T>());
  const int64_t batch = pair_sums.batch(), per_point = pair_sums.sums();
  const Scratch<double, 128> sums(batch * per_point);
  const T* const z = static_cast<const T*>(op.z);
  for (int64_t p = first; p < last; p += batch) {
    const int64_t points = last - p < batch ? last - p : batch;
    for (int64_t i = 0; i < points * per_point; ++i) sums[i] = 0;
    const T* const next = z + (p + points < last ? p + points : p) * op.point_stride;
    pair_sums.add(p, points, 0, op.dims, next, sums.get());
    for (int64_t i = 0; i < points; ++i) {
      distances.finish(p + i, sums.get() + i * per_point);
      if (observer) observer->done(observer->self, p + i);
    }
  }
}

}  // namespace

void align_points(const Alignment& op, int64_t first, int64_t last, const Observer* observer) {
  switch (op.dtype) {
    case DType::float32:
      return align<float>(op, first, last, observer);
    case DType::float64:
      return align<double>(op, first, last, observer);
    case DType::bfloat16:
      return align<bf16>(op, first, last, observer);
    case DType::float16:
      return align<f16>(op, first, last, observer);
  }
}

void alignment(const Alignment& op, int64_t first, int64_t last) { align_points(op, first, last, nullptr); }

}  // namespace MEMKERN_ISA
}  // namespace memkern
