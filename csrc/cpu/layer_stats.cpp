// layer_stats: alignment and unit means of the same activations, which come from memory once.
//
// Small points go through both kernels a few at a time: the second finds them in L2. A point that would not stay there
// (10 views of a 64 x 112 x 112 map are 32 MB) is cut into segments of its dims, and both kinds of sums are taken of a
// segment before the next one is read.
#include "distances.h"
#include "kernels.h"
#include "pair_sums.h"
#include "unit_means.h"

namespace memkern {
namespace MEMKERN_ISA {

void alignment(const Alignment& op, int64_t first, int64_t last);

namespace {

constexpr int64_t kInCache = 512 * 1024;       // bytes of points that both kernels see in turn: a quarter of L2
constexpr int64_t kSegmentBytes = 256 * 1024;  // over all views of one point

// How the dims of a view lie in memory: unit planes one after the other, or rows of all units.
enum class Layout { planes, rows, other };

Layout layout_of(const LayerStats& op, int64_t group) {
  const Activations& x = op.means.x;
  const int64_t space = op.alignment.dims / x.units;
  if ((x.unit_stride == space || x.units == 1) && space >= group) return Layout::planes;
  if (x.unit_stride == 1 && x.units > 1) return Layout::rows;
  return Layout::other;
}

// One large point at a time, by segments.
template <class T>
class Segments {
 public:
  explicit Segments(const LayerStats& op)
      : op_(op),
        layout_(layout_of(op, kGroup<T>)),
        units_(op.means.x.units),
        space_(op.alignment.dims / units_),
        pair_sums_(op.alignment),
        distances_(op.alignment, exact_views<T>()),
        sums_(pair_sums_.sums()),
        unit_sums_(units_) {}

  void run(int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      for (int64_t i = 0; i < pair_sums_.sums(); ++i) sums_[i] = 0;
      for (int64_t u = 0; u < units_; ++u) unit_sums_[u] = 0;
      if (layout_ == Layout::planes)
        add_planes_of(p);
      else
        add_rows_of(p);
      distances_.finish(p, sums_.get());
      divide(unit_sums_.get(), units_, op_.alignment.views * space_,
             static_cast<Wide<T>*>(op_.means.means) + p * units_);
    }
  }

 private:
  // Whole planes where some fit into a segment, else slices of one plane after the other.
  void add_planes_of(int64_t p) {
    const int64_t dims = segment_dims();
    const int64_t units = dims / space_ > 0 ? dims / space_ : 1, slice = dims < space_ ? dims : space_;
    for (int64_t u = 0; u < units_; u += units) {
      const int64_t some = units_ - u < units ? units_ - u : units;
      for (int64_t s = 0; s < space_; s += slice) {
        const int64_t n = space_ - s < slice ? space_ - s : slice, d = u * space_ + s;
        add_pairs(p, d, d + (some - 1) * space_ + n);
        for (int64_t v = 0; v < op_.alignment.views; ++v)
          add_planes<Activation::raw>(view(p, v) + d, some, n, space_, unit_sums_.get() + u);
      }
    }
  }

  void add_rows_of(int64_t p) {
    const int64_t rows = segment_dims() / units_ > 0 ? segment_dims() / units_ : 1;
    for (int64_t r = 0; r < space_; r += rows) {
      const int64_t some = space_ - r < rows ? space_ - r : rows, d = r * units_;
      add_pairs(p, d, d + some * units_);
      for (int64_t v = 0; v < op_.alignment.views; ++v)
        add_rows<Activation::raw>(view(p, v) + d, some, units_, units_, unit_sums_.get());
    }
  }

  void add_pairs(int64_t p, int64_t first, int64_t last) {
    const T* const next = view(p, 0) + (last < op_.alignment.dims ? last : first);
    pair_sums_.add(p, 1, first, last, next, sums_.get());
  }

  int64_t segment_dims() const {
    const int64_t dims = kSegmentBytes / (op_.alignment.views * int64_t(sizeof(T)));
    return dims < 512 ? 512 : dims / 512 * 512;
  }

  const T* view(int64_t p, int64_t v) const {
    return static_cast<const T*>(op_.alignment.z) + p * op_.alignment.point_stride + v * op_.alignment.view_stride;
  }

  const LayerStats& op_;
  const Layout layout_;
  const int64_t units_, space_;
  PairSums<T> pair_sums_;
  Distances<Wide<T>> distances_;
  const Scratch<double> sums_, unit_sums_;
};

template <class T>
void stats(const LayerStats& op, int64_t first, int64_t last) {
  const Alignment& a = op.alignment;
  const int64_t point_bytes = a.views * a.dims * int64_t(sizeof(T));
  if (point_bytes > kInCache && layout_of(op, kGroup<T>) != Layout::other) return Segments<T>(op).run(first, last);
  const int64_t points = point_bytes < kInCache ? kInCache / point_bytes : 1;
  for (int64_t p = first; p < last; p += points) {
    const int64_t end = last - p < points ? last : p + points;
    alignment(a, p, end);
    write_means(op.means.x, p, end, static_cast<Wide<T>*>(op.means.means) + p * op.means.x.units);
  }
}

}  // namespace

void layer_stats(const LayerStats& op, int64_t first, int64_t last);  // in the table of isa.cpp

void layer_stats(const LayerStats& op, int64_t first, int64_t last) {
  switch (op.alignment.dtype) {
    case DType::float32:
      return stats<float>(op, first, last);
    case DType::float64:
      return stats<double>(op, first, last);
    case DType::bfloat16:
      return stats<bf16>(op, first, last);
    case DType::float16:
      return stats<f16>(op, first, last);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
