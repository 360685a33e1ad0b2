// Alignment of points: the mean l2 distance over pairs of views, in one pass over memory.
#include "distances.h"
#include "pair_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

constexpr int64_t kRange = 65536;  // dims whose sums stay in the wide type before they are added up in double

template <class T, bool normalize>
void align(const Alignment& op, int64_t first, int64_t last) {
  PairSums<T, normalize> pair_sums(op);
  Distances<T> distances(op);
  const int64_t batch = pair_sums.batch(), per_point = pair_sums.sums();
  const Scratch<double, 128> sums(batch * per_point);
  const T* const z = static_cast<const T*>(op.z);
  for (int64_t p = first; p < last; p += batch) {
    const int64_t points = last - p < batch ? last - p : batch;
    for (int64_t i = 0; i < points * per_point; ++i) sums[i] = 0;
    const T* const here = z + p * op.point_stride;
    for (int64_t d = 0; d < op.dims; d += kRange) {
      const int64_t end = op.dims - d < kRange ? op.dims : d + kRange;
      const T* const next = end < op.dims ? here + end : p + points < last ? here + points * op.point_stride : nullptr;
      pair_sums.add(here, points, op.point_stride, d, end, next, sums.get());
    }
    for (int64_t i = 0; i < points; ++i) distances.finish(p + i, sums.get() + i * per_point);
  }
}

template <class T>
void align(const Alignment& op, int64_t first, int64_t last) {
  if (op.normalize)
    align<T, true>(op, first, last);
  else
    align<T, false>(op, first, last);
}

}  // namespace

void alignment(const Alignment& op, int64_t first, int64_t last);  // in the table of isa.cpp

void alignment(const Alignment& op, int64_t first, int64_t last) {
  switch (op.dtype) {
    case DType::float32: return align<float>(op, first, last);
    case DType::float64: return align<double>(op, first, last);
    case DType::bfloat16: return align<bf16>(op, first, last);
    case DType::float16: return align<f16>(op, first, last);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
