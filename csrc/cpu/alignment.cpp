// Alignment of points: the mean l2 distance over pairs of views, in one pass over memory.
#include "alignment.h"

#include <optional>

#include "distances.h"
#include "kernels.h"
#include "pair_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

template <class T>
class Reader {
 public:
  explicit Reader(const Reading& reading)
      : reading_(reading),
        pair_sums_(*reading.op, reading.observer, reading.maker),
        distances_(*reading.op, exact_views<T>()),
        per_point_(pair_sums_.sums()),
        batch_(reading.point_by_point ? 1 : pair_sums_.batch()),
        sums_(batch_ * per_point_) {}

  // Points that are worth taking together.
  int64_t batch() const { return batch_; }

  void begin(int64_t points) {
    for (int64_t i = 0; i < points * per_point_; ++i) sums_[i] = 0;
  }

  // Dims [first, last) of some points; `next` is the point after them.
  void add(int64_t point, int64_t points, int64_t first, int64_t last, int64_t next) {
    const T* const z = static_cast<const T*>(reading_.op->z);
    const bool ends = last == reading_.op->dims;
    const T* const after = z + (ends ? next : point) * reading_.op->point_stride + (ends ? 0 : last);
    pair_sums_.add(point, points, first, last, after, sums_.get());
  }

  void finish(int64_t point, int64_t points) {
    const Observer* const observer = reading_.observer;
    for (int64_t i = 0; i < points; ++i) {
      distances_.finish(point + i, sums_.get() + i * per_point_);
      if (observer) observer->done(observer->self, point + i);
    }
  }

 private:
  const Reading reading_;
  PairSums<T> pair_sums_;
  Distances<Wide<T>> distances_;
  const int64_t per_point_, batch_;
  const Scratch<double, 128> sums_;
};

// `count` as a constant for one reading, whose small points feel a loop over readings (a tenth of 500 ns).
template <class T, int one>
void read(Reader<T>* const* readers, int some, const Alignment& op, int64_t first, int64_t last) {
  const int count = one ? 1 : some;
  int64_t batch = readers[0]->batch();
  for (int r = 1; r < count; ++r)
    if (readers[r]->batch() < batch) batch = readers[r]->batch();
  for (int64_t p = first; p < last; p += batch) {
    const int64_t points = last - p < batch ? last - p : batch, next = p + points < last ? p + points : p;
    for (int r = 0; r < count; ++r) readers[r]->begin(points);
    for (int64_t d = 0; d < op.dims; d += PairSums<T>::kRange) {
      const int64_t end = op.dims - d < PairSums<T>::kRange ? op.dims : d + PairSums<T>::kRange;
      for (int r = 0; r < count; ++r) readers[r]->add(p, points, d, end, next);
    }
    for (int r = 0; r < count; ++r) readers[r]->finish(p, points);
  }
}

template <class T>
void align(const Reading* readings, int count, int64_t first, int64_t last) {
  std::optional<Reader<T>> kept[kMaxReadings];
  Reader<T>* readers[kMaxReadings];
  for (int r = 0; r < count; ++r) readers[r] = &kept[r].emplace(readings[r]);
  if (count == 1) return read<T, 1>(readers, 1, *readings[0].op, first, last);
  read<T, 0>(readers, count, *readings[0].op, first, last);
}

}  // namespace

void align_points(const Reading* readings, int count, int64_t first, int64_t last) {
  if (first == last) return;
  switch (readings[0].op->dtype) {
    case DType::float32:
      return align<float>(readings, count, first, last);
    case DType::float64:
      return align<double>(readings, count, first, last);
    case DType::bfloat16:
      return align<bf16>(readings, count, first, last);
    case DType::float16:
      return align<f16>(readings, count, first, last);
  }
}

void alignment(const Alignment& op, int64_t first, int64_t last) { align_points(op, first, last, nullptr); }

}  // namespace MEMKERN_ISA
}  // namespace memkern
