// Alignment of points: the mean l2 distance over pairs of views, in one pass over memory.
#include "alignment.h"

#include "cpu/dispatch/kernels.h"
#include "distances.h"
#include "pair_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

template <class T>
class Reader {
 public:
  Reader(const Reading& reading, bool in_slices)
      : reading_(reading),
        pair_sums_(reading),
        distances_(*reading.op, exact_views<T>(), reading.elements),
        per_point_(pair_sums_.sums()),
        units_(reading.observer ? reading.observer->units : 0),
        batch_(reading.elements ? 1 : pair_sums_.batch()),
        sums_(batch_ * per_point_),
        unit_sums_(batch_ * units_),
        all_(in_slices ? kept() : 0) {}

  // Points that are worth taking together; one, if they are taken in slices.
  int64_t batch() const { return batch_; }
  // Sums that a slice leaves.
  int64_t kept() const { return per_point_ + units_; }

  void begin(int64_t points) {
    clear(sums_.get(), points * per_point_);
    clear(unit_sums_.get(), points * units_);
  }

  // Dims [first, last) of some points; `next` is the point after them.
  void add(int64_t point, int64_t points, int64_t first, int64_t last, int64_t next) {
    // l1 distances are made of elements: of the sums only what the observer and the producer do is wanted.
    if (reading_.op->distance == Distance::l1 && !reading_.observer && !reading_.producer) return;
    const T* const z = static_cast<const T*>(reading_.op->z);
    const bool ends = last == reading_.op->dims;
    const T* const after = z + (ends ? next : point) * reading_.op->point_stride + (ends ? 0 : last);
    pair_sums_.add(point, points, first, last, after, sums_.get(), unit_sums_.get());
  }

  void finish(int64_t point, int64_t points) {
    if (!reading_.observer) return distances_.finish_points(point, points, sums_.get());
    for (int64_t i = 0; i < points; ++i) finish(point + i, sums_.get() + i * per_point_, unit_sums_.get() + i * units_);
  }

  // After the last point.
  void end() { distances_.end(); }

  // ---- a point in slices ---------------------------------------------------------------------------------------

  void keep(double* kept) const {
    clear(kept, this->kept());
    add_slice(kept);
  }
  void begin_slices() { clear(all_.get(), kept()); }  // fault: begin slices
  void add_slice() { add_slice(all_.get()); }
  void add_kept(const double* kept) {
    for (int64_t i = 0; i < this->kept(); ++i) all_[i] += kept[i];  // fault: sums of slices
  }
  void finish_slices(int64_t point) { finish(point, all_.get(), all_.get() + per_point_); }

 private:
  static void clear(double* sums, int64_t count) {
    for (int64_t i = 0; i < count; ++i) sums[i] = 0;
  }

  void add_slice(double* to) const {
    for (int64_t i = 0; i < per_point_; ++i) to[i] += sums_[i];
    for (int64_t i = 0; i < units_; ++i) to[per_point_ + i] += unit_sums_[i];
  }

  void finish(int64_t point, const double* sums, const double* unit_sums) {
    distances_.finish(point, sums);
    if (const Observer* const observer = reading_.observer) observer->done(observer->self, point, unit_sums);
  }

  const Reading reading_;
  PairSums<T> pair_sums_;
  Distances<Wide<T>> distances_;
  const int64_t per_point_, units_, batch_;
  const Scratch<double, 128> sums_;  // [batch, per_point]
  const Scratch<double> unit_sums_;  // [batch, units]
  const Scratch<double> all_;        // [per_point + units] of the slices so far
};

// Calls work(point, next), where `next` is the point after it, or itself if it is the last.
template <class Work>
void each_point(const WorkRange& range, Work work) {
  for (int64_t p = range.first; p < range.last; ++p) work(p, p + 1 < range.last ? p + 1 : p);
}

// Some readings that take turns.
template <class T>
struct Readers {
  Reader<T>* reader[kMaxReadings];
  int some;
  int64_t dims, slice;

  // `one`: there is one reading, which is a constant for its small points, who feel a loop (a tenth of 500 ns).
  template <bool one, class Do>
  void each(Do work) const {
    const int count = one ? 1 : some;
    for (int r = 0; r < count; ++r) work(*reader[r]);
  }

  template <bool one>
  void add(int64_t p, int64_t points, int64_t first, int64_t last, int64_t next) const {
    each<one>([&](Reader<T>& reader) { reader.begin(points); });
    for (int64_t d = first; d < last; d += kRange<Wide<T>>) {
      const int64_t end = last - d < kRange<Wide<T>> ? last : d + kRange<Wide<T>>;
      each<one>([&](Reader<T>& reader) { reader.add(p, points, d, end, next); });
    }
  }

  void add_slice(int64_t p, int64_t s, int64_t next) const {
    const int64_t first = s * slice, last = dims - first < slice ? dims : first + slice;
    add<false>(p, 1, first, last, next);
  }

  template <bool one>
  void whole_points(int64_t first, int64_t last) const {
    int64_t batch = reader[0]->batch();
    each<one>([&](const Reader<T>& reader) { batch = reader.batch() < batch ? reader.batch() : batch; });
    for (int64_t p = first; p < last; p += batch) {
      const int64_t points = last - p < batch ? last - p : batch, next = p + points < last ? p + points : p;
      add<one>(p, points, 0, dims, next);
      each<one>([&](Reader<T>& reader) { reader.finish(p, points); });
    }
  }

  void point_in_slices(int64_t p, int64_t next) const {
    each<false>([](Reader<T>& reader) { reader.begin_slices(); });
    for (int64_t s = 0; s < slices(); ++s) {
      add_slice(p, s, next);
      each<false>([](Reader<T>& reader) { reader.add_slice(); });
    }
    each<false>([&](Reader<T>& reader) { reader.finish_slices(p); });
  }

  void keep_slices(int64_t first, int64_t last, double* kept) const {
    for (int64_t i = first; i < last; ++i) {
      const int64_t p = i / slices();
      add_slice(p, i % slices(), i + 1 < last ? (i + 1) / slices() : p);
      double* to = kept + i * sums_of_slice();
      each<false>([&](Reader<T>& reader) { reader.keep(to), to += reader.kept(); });
    }
  }

  void finish_points(int64_t first, int64_t last, const double* kept) const {
    for (int64_t p = first; p < last; ++p) {
      each<false>([](Reader<T>& reader) { reader.begin_slices(); });
      const double* from = kept + p * slices() * sums_of_slice();  // fault: slices of a point
      for (int64_t s = 0; s < slices(); ++s)
        each<false>([&](Reader<T>& reader) { reader.add_kept(from), from += reader.kept(); });
      each<false>([&](Reader<T>& reader) { reader.finish_slices(p); });
    }
  }

  void take(const WorkRange& range) const {
    switch (range.what) {
      case WorkRange::What::points:
        if (slices() > 1) return each_point(range, [&](int64_t p, int64_t next) { point_in_slices(p, next); });
        return some == 1 ? whole_points<true>(range.first, range.last) : whole_points<false>(range.first, range.last);
      case WorkRange::What::slices:
        return keep_slices(range.first, range.last, range.kept);
      case WorkRange::What::rest:
        return finish_points(range.first, range.last, range.kept);
    }
  }

  int64_t slices() const { return (dims + slice - 1) / slice; }
  int64_t sums_of_slice() const {
    int64_t sums = 0;
    each<false>([&](const Reader<T>& reader) { sums += reader.kept(); });
    return sums;
  }
};

template <class T>
void align(const Reading* readings, int count, int64_t slice, const WorkRange& range) {
  static_assert(kSliceStep % kRange<Wide<T>> == 0);
  const int64_t dims = readings[0].op->dims;
  Several<Reader<T>, kMaxReadings> kept;
  Readers<T> readers{{}, count, dims, slice};
  for (int r = 0; r < count; ++r) readers.reader[r] = &kept.add(readings[r], slice < dims);
  readers.take(range);
  for (int r = 0; r < count; ++r) kept[r].end();
}

}  // namespace

void align_points(const Reading* readings, int count, int64_t slice, const WorkRange& range) {
  if (range.first == range.last) return;
  switch (readings[0].op->dtype) {
    case DType::float32:
      return align<float>(readings, count, slice, range);
    case DType::float64:
      return align<double>(readings, count, slice, range);
    case DType::bfloat16:
      return align<bf16>(readings, count, slice, range);
    case DType::float16:
      return align<f16>(readings, count, slice, range);
  }
}

void alignment(const Alignment& op, const WorkRange& range) {
  align_points(op, slice_dims(op.dims, 0), range, nullptr);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
