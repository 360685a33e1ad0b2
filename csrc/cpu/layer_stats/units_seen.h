// The unit sums of points that are being aligned: layer_stats' half of the work of a read.
#pragma once
#include "cpu/alignment/alignment.h"
#include "cpu/units/unit_means.h"
#include "cpu/units/unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {

// Unit sums from the sums of views: all views have the same units at the same dims. A: the wide type.
template <class A>
class UnitsSeen {
 public:
  explicit UnitsSeen(const LayerStats& op)
      : op_(op),
        units_(op.means.x.units),
        space_(op.alignment.dims / units_),
        rows_(layout_of(op) == ViewLayout::rows) {}

  Observer observer() const { return {seen, done, this, units_}; }

 private:
  static constexpr int kTogether = 16;  // elements of one unit that are added in the wide type before double takes over
  static constexpr int64_t kPlanes = 16;  // that are folded together
  static constexpr int kLanes = Lanes<A>::count;

  static void seen(const void* self, const void* view_sums, int64_t first, int64_t last, double* unit_sums) {
    const UnitsSeen& units = *static_cast<const UnitsSeen*>(self);
    const A* const x = static_cast<const A*>(view_sums);
    const int64_t views = units.op_.alignment.views, n = last - first;
    if (views > kTogether / 2) return units.template add<1>(x, first, n, unit_sums);
    if (views > kTogether / 4) return units.template add<2>(x, first, n, unit_sums);
    units.template add<4>(x, first, n, unit_sums);
  }

  static void done(const void* self, int64_t point, const double* unit_sums) {
    const UnitsSeen& units = *static_cast<const UnitsSeen*>(self);
    A* const means = static_cast<A*>(units.op_.means.means) + point * units.units_;
    divide(unit_sums, units.units_, units.op_.alignment.views * units.space_, means);
  }

  // Dims [d, d + n); `steps` elements of a unit are added before double takes over.
  template <int steps>
  void add(const A* x, int64_t d, int64_t n, double* sums) const {
    if (rows_)
      add_rows_of<steps>(x, d, n, sums);
    else
      add_planes_of<steps>(x, d, n, sums);
  }

  // ---- [units, space] --------------------------------------------------------------------------------------------

  template <int steps>
  void add_planes_of(const A* x, int64_t d, int64_t n, double* sums) const {
    Vec<double> totals[kPlanes] = {};
    double* to = sums + d / space_;
    int64_t planes = 0, left = space_ - d % space_;  // of the first plane
    for (const A* const end = x + n; x < end; left = space_) {
      const int64_t size = left < end - x ? left : end - x;
      totals[planes++] = sum_plane_of<steps>(x, size);
      x += size;
      if (planes < kPlanes && x < end) continue;
      add_totals(totals, planes, to);
      to += planes;
      planes = 0;
    }
  }

  template <int steps>
  static Vec<double> sum_plane_of(const A* x, int64_t n) {
    Vec<double> total{};
    Vec<A> sum;
    int64_t s = 0;
    for (; s + steps * kLanes <= n; s += steps * kLanes) {
      sum_groups<steps>(x + s, kLanes, 0, &sum, Raw());
      total += fold_columns<A>(&sum);
    }
    for (; s + kLanes <= n; s += kLanes) {
      sum = load(x + s);
      total += fold_columns<A>(&sum);
    }
    if (s < n) {
      sum = load(x + n - kLanes);  // may begin before x
      // fault: tail of a unit
      Tail<A>(n).clear_counted(&sum);
      total += fold_columns<A>(&sum);
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

  // ---- [space, units] --------------------------------------------------------------------------------------------

  template <int steps>
  void add_rows_of(const A* x, int64_t d, int64_t n, double* sums) const {
    const int64_t unit = d % units_;
    int64_t at = 0;
    if (unit > 0) {
      at = units_ - unit < n ? units_ - unit : n;
      add_units<1>(x, at, sums + unit);
    }
    for (; at + steps * units_ <= n; at += steps * units_) add_units<steps>(x + at, units_, sums);
    for (; at + units_ <= n; at += units_) add_units<1>(x + at, units_, sums);
    if (at < n) add_units<1>(x + at, n - at, sums);
  }

  // Neighbouring units of some rows.
  template <int steps>
  void add_units(const A* x, int64_t units, double* sums) const {
    int64_t u = 0;
    for (; u + kLanes <= units; u += kLanes) {
      Vec<A> sum;
      sum_groups<steps>(x + u, units_, 0, &sum, Raw());
      add_columns<A>(&sum, sums + u);
    }
    for (; u < units; ++u)
      for (int64_t r = 0; r < steps; ++r) sums[u] += double(x[r * units_ + u]);
  }

  const LayerStats& op_;
  const int64_t units_, space_;
  const bool rows_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
