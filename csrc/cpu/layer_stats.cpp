// layer_stats: alignment and unit means of the same activations, which come from memory once.
//
// The unit sums are taken of what the alignment has just read, some 10 KB at a time, while the next of it is on its way
// from memory. Larger pieces (256 KB, from L2) left memory idle meanwhile and cost 1.45 times the alignment alone.
#include <type_traits>

#include "alignment.h"
#include "kernels.h"
#include "scratch.h"
#include "unit_means.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// How the dims of a view lie in memory: [units, space], [space, units], or neither.
enum class Layout { planes, rows, other };

Layout layout_of(const LayerStats& op) {
  const Activations& x = op.means.x;
  if (x.units == 1 || x.unit_stride == op.alignment.dims / x.units) return Layout::planes;
  return x.unit_stride == 1 ? Layout::rows : Layout::other;
}

// Elements of one unit that are added in the wide type before double takes over.
constexpr int kTerms = 16;

// Up to `most` groups, `stride` apart, in a balanced tree.
template <int most, class T>
[[gnu::always_inline]] inline void sum_views(const T* x, int64_t views, int64_t stride, int64_t bytes_ahead,
                                             Vec<Wide<T>>* columns) {
  const auto add_if = [&](auto count) __attribute__((always_inline)) {
    if constexpr (count <= most) {
      if (!(views & count)) return;
      Vec<Wide<T>> some[kColumns<T>];
      sum_groups<count>(x, stride, bytes_ahead, some, Raw());
      for (int c = 0; c < kColumns<T>; ++c) columns[c] += some[c];
      x += count * stride;
    }
  };
  for (int c = 0; c < kColumns<T>; ++c) columns[c] = Vec<Wide<T>>{};
  add_if(std::integral_constant<int, 16>{});
  add_if(std::integral_constant<int, 8>{});
  add_if(std::integral_constant<int, 4>{});
  add_if(std::integral_constant<int, 2>{});
  add_if(std::integral_constant<int, 1>{});
}

// The same over some steps of `step` elements each.
template <int most, class T>
[[gnu::always_inline]] inline void sum_steps(const T* x, int64_t views, int64_t stride, int64_t steps, int64_t step,
                                             int64_t bytes_ahead, Vec<Wide<T>>* columns) {
  sum_views<most>(x, views, stride, bytes_ahead, columns);
  for (int64_t i = 1; i < steps; ++i) {
    Vec<Wide<T>> more[kColumns<T>];
    sum_views<most>(x + i * step, views, stride, bytes_ahead, more);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] += more[c];
  }
}

// Calls use with an upper bound of the number of views as a constant.
constexpr int kTwo = 2, kFew = 5;
template <class Use>
inline void with_most(int64_t views, const Use& use) {
  if (views == kTwo) return use(std::integral_constant<int, kTwo>{});
  if (views <= kFew) return use(std::integral_constant<int, kFew>{});
  use(std::integral_constant<int, kTerms>{});
}

// The unit sums of the points that are being aligned. All views have the same units at the same dims, so they are added
// first; dims [d, d + n) of some views are at hand at a time.
template <class T>
class UnitsSeen {
 public:
  explicit UnitsSeen(const LayerStats& op)
      : op_(op),
        units_(op.means.x.units),
        space_(op.alignment.dims / units_),
        stride_(op.alignment.view_stride),
        rows_(layout_of(op) == Layout::rows || space_ == 1),
        sums_(kPointsAtOnce * units_) {
    for (int64_t i = 0; i < kPointsAtOnce * units_; ++i) sums_[i] = 0;
  }

  Observer observer() { return {seen, done, this}; }

 private:
  static constexpr int64_t kGroups = 16;  // planes or groups that are folded together

  static void seen(void* self, int64_t point, int64_t view, int64_t views, int64_t first, int64_t last) {
    const UnitsSeen& units = *static_cast<UnitsSeen*>(self);
    const Alignment& a = units.op_.alignment;
    const T* const x = static_cast<const T*>(a.z) + point * a.point_stride + view * a.view_stride + first;
    for (int64_t v = 0; v < views; v += kTerms) {
      const int64_t some = views - v < kTerms ? views - v : kTerms;
      with_most(some, [&](auto most) {
        units.template add<most>(x + v * a.view_stride, some, first, last - first, units.sums_of(point));
      });
    }
  }
  static void done(void* self, int64_t point) { static_cast<UnitsSeen*>(self)->write(point); }

  double* sums_of(int64_t point) const { return &sums_[point % kPointsAtOnce * units_]; }

  template <int most>
  void add(const T* x, int64_t some_views, int64_t d, int64_t n, double* sums) const {
    const int64_t views = most == kTwo ? kTwo : some_views;
    if (rows_)
      add_rows_of<most>(x, views, d, n, sums);
    else if (space_ < kGroup<T>)
      add_small_planes(x, views, d, n, sums);
    else
      add_planes_of<most>(x, views, d, n, sums);
  }

  // The alignment of many views asks for the next dims itself; that of a few leaves it to the processor, which stops
  // looking ahead while the sums are taken.
  template <int most>
  static constexpr int64_t bytes_ahead(int64_t n) {
    return most > kFew ? 0 : n * int64_t(sizeof(T));
  }

  // ---- [units, space] --------------------------------------------------------------------------------------------

  // Calls use(at, size) for the planes, or parts of planes, in dims [d, d + n).
  template <class Use>
  void for_each_plane(int64_t d, int64_t n, const Use& use) const {
    int64_t left = space_ - d % space_;
    for (int64_t at = 0; at < n; left = space_) {
      const int64_t size = left < n - at ? left : n - at;
      use(at, size);
      at += size;
    }
  }

  template <int most>
  void add_planes_of(const T* x, int64_t views, int64_t d, int64_t n, double* sums) const {
    const int64_t ahead = bytes_ahead<most>(n);
    Vec<double> totals[kGroups] = {};
    double* to = sums + d / space_;
    int64_t planes = 0;
    for_each_plane(d, n, [&](int64_t at, int64_t size) {
      totals[planes++] = sum_plane_of<most>(x + at, views, size, ahead);
      if (planes < kGroups) return;
      add_totals(totals, kGroups, to);
      to += kGroups;
      planes = 0;
    });
    add_totals(totals, planes, to);
  }

  // x may be read up to a group before the plane: that is this view's, too, because planes are no smaller than a group.
  template <int most>
  Vec<double> sum_plane_of(const T* x, int64_t views, int64_t n, int64_t ahead) const {
    constexpr int64_t kSteps = most == kTwo ? 4 : most == kFew ? 2 : 1, group = kGroup<T>;
    Vec<double> total{};
    Vec<Wide<T>> columns[kColumns<T>];
    int64_t s = 0;
    for (; s + kSteps * group <= n; s += kSteps * group) {
      sum_steps<most>(x + s, views, stride_, kSteps, group, ahead, columns);
      total += fold_columns<T>(columns);
    }
    for (; s + group <= n; s += group) {
      sum_views<most>(x + s, views, stride_, ahead, columns);
      total += fold_columns<T>(columns);
    }
    if (s < n) {
      sum_views<most>(x + n - group, views, stride_, 0, columns);
      Tail<T>(n).clear_counted(columns);
      total += fold_columns<T>(columns);
    }
    return total;
  }

  static void add_totals(const Vec<double>* totals, int64_t count, double* sums) {
    constexpr int lanes = Lanes<double>::count;
    for (int64_t i = 0; i < count; i += lanes) {
      const Vec<double> some = sum_each<lanes>(totals + i, 1);
      for (int64_t k = 0; k < lanes && i + k < count; ++k) sums[i + k] += some[k];
    }
  }

  void add_small_planes(const T* x, int64_t views, int64_t d, int64_t n, double* sums) const {
    constexpr int64_t kBlock = 16 * kGroup<T>;
    for (int64_t b = 0; b < n; b += kBlock) {
      const int64_t some = n - b < kBlock ? n - b : kBlock;
      alignas(64) double dims[kBlock] = {};
      add_rows(x + b, views, some, stride_, dims);
      double* to = sums + (d + b) / space_;
      for_each_plane(d + b, some, [&](int64_t at, int64_t size) {
        for (int64_t i = at; i < at + size; ++i) *to += dims[i];
        ++to;
      });
    }
  }

  // ---- [space, units] --------------------------------------------------------------------------------------------

  template <int most>
  void add_rows_of(const T* x, int64_t views, int64_t d, int64_t n, double* sums) const {
    const int64_t unit = d % units_, ahead = bytes_ahead<most>(n);
    int64_t at = 0;
    if (unit > 0) {
      at = units_ - unit < n ? units_ - unit : n;
      add_units<most>(x, views, 1, at, ahead, sums + unit);
    }
    const int64_t rows = (n - at) / units_;
    if (rows > 0) add_units<most>(x + at, views, rows, units_, ahead, sums);
    at += rows * units_;
    if (at < n) add_units<most>(x + at, views, 1, n - at, ahead, sums);
  }

  // Some neighbouring units of one row, or all units of some rows.
  template <int most>
  void add_units(const T* x, int64_t views, int64_t rows, int64_t units, int64_t ahead, double* sums) const {
    constexpr int64_t kSteps = most == kTwo ? 4 : most == kFew ? 2 : 1, group = kGroup<T>;
    const int64_t whole = units / group * group;
    for (int64_t r = 0; r < rows; r += kSteps) {
      const int64_t steps = rows - r < kSteps ? rows - r : kSteps;
      for (int64_t u = 0; u < whole; u += group) {
        Vec<Wide<T>> columns[kColumns<T>];
        sum_steps<most>(x + r * units_ + u, views, stride_, steps, units_, ahead, columns);
        add_columns<T>(columns, sums + u);
      }
    }
    if (whole == units) return;
    for (int64_t r = 0; r < rows; ++r) add_rows(x + r * units_ + whole, views, units - whole, stride_, sums + whole);
  }

  void write(int64_t point) const {
    double* const sums = sums_of(point);
    divide(sums, units_, op_.alignment.views * space_, static_cast<Wide<T>*>(op_.means.means) + point * units_);
    for (int64_t u = 0; u < units_; ++u) sums[u] = 0;
  }

  const LayerStats& op_;
  const int64_t units_, space_, stride_;
  const bool rows_;
  const Scratch<double> sums_;  // [kPointsAtOnce, units]
};

template <class T>
void stats(const LayerStats& op, int64_t first, int64_t last) {
  UnitsSeen<T> units(op);
  const Observer observer = units.observer();
  align_points(op.alignment, first, last, &observer);
}

// Two kernels in turn, over few enough points that the second finds them in L2.
void stats_of_other_layouts(const LayerStats& op, int64_t first, int64_t last) {
  constexpr int64_t kInCache = 512 * 1024;
  const int64_t wide_bytes = op.alignment.dtype == DType::float64 ? 8 : 4;
  const int64_t point_bytes = op.alignment.views * op.alignment.dims * wide_bytes;
  const int64_t points = point_bytes < kInCache ? kInCache / point_bytes : 1;
  for (int64_t p = first; p < last; p += points) {
    const int64_t end = last - p < points ? last : p + points;
    align_points(op.alignment, p, end, nullptr);
    write_means(op.means.x, p, end, static_cast<char*>(op.means.means) + p * op.means.x.units * wide_bytes);
  }
}

}  // namespace

void layer_stats(const LayerStats& op, int64_t first, int64_t last) {
  if (layout_of(op) == Layout::other) return stats_of_other_layouts(op, first, last);
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
