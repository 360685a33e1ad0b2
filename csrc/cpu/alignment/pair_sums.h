// Squared distances of the chosen pairs of views of a point (and squared norms), over any range of its dims.
#pragma once
#include <optional>

#include "alignment.h"
#include "cpu/simd/row_io.h"
#include "ops.h"
#include "pair_panels.h"

namespace memkern {
namespace MEMKERN_ISA {

template <class T>
class PairSums {
  using A = Wide<T>;

 public:
  explicit PairSums(const Reading& reading)
      : op_(*reading.op),
        observer_(reading.observer),
        producer_(reading.producer),
        last_dim_(reading.elements ? kRange<A> - 1 : -1),
        pairs_(pair_count(op_)),
        slots_(direct() ? batch() * sums() : 0),
        tail_(direct() ? op_.views * kGroup<T> : 0),
        view_sum_(direct() && observer_ ? chunk() + 2 * Lanes<A>::count : 0) {
    if (!direct()) panels_.emplace(op_.views);
  }

  // Sums of one point: its pairs in order, then, for unit vectors, the squared norms.
  int64_t sums() const { return sums_of_slice(op_); }

  // Points worth passing to add() together, because lanes are folded a vector of sums at a time.
  int64_t batch() const { return direct() && op_.dims <= kRange<A> ? points_at_once(op_) : 1; }

  // Adds to `sums` (of each point in turn) what dims [first, last), of one range, of points [point, point + points)
  // contribute, and to `unit_sums` what the observer makes of it. `next`, where something will be wanted afterwards, is
  // only prefetched.
  void add(int64_t point, int64_t points, int64_t first, int64_t last, const T* next, double* sums, double* unit_sums) {
    if (direct())
      add_few(point, points, first, last, sums, unit_sums);
    else
      add_many(point, first, last, next, sums, unit_sums);
  }

 private:
  // Few views, or one anchor: each element is loaded once, straight from memory.
  bool direct() const { return op_.pairs == Pairs::anchor || op_.views <= kFewViews; }

  void add_few(int64_t point, int64_t points, int64_t first, int64_t last, double* sums, double* unit_sums) {
    const int64_t per_point = this->sums(), units = observer_ ? observer_->units : 0;
    for (int64_t i = 0; i < points * per_point; ++i) slots_[i] = Vec<A>{};
    for (int64_t i = 0; i < points; ++i)
      add_point(point + i, first, last, slots_.get() + i * per_point, unit_sums + i * units);
    add_lane_sums<A>(slots_.get(), points * per_point, sums);
  }

  // Dims that are taken together: some 32 terms for each register of a tile.
  int64_t chunk() const { return (op_.views <= 3 ? 128 : 32) * kGroup<T>; }

  void add_point(int64_t p, int64_t first, int64_t last, Vec<A>* slots, double* unit_sums) {
    int64_t d = first;
    while (last - d >= kGroup<T>) {
      const int64_t n = (last - d < chunk() ? last - d : chunk()) / kGroup<T> * kGroup<T>;
      if (producer_) producer_->make(producer_->self, p, d, d + n);
      add_groups(view0(p, d), op_.view_stride, n, slots);
      show(view0(p, d), op_.view_stride, d, d + n, unit_sums);
      d += n;
    }
    if (d == last) return;
    if (producer_) producer_->make(producer_->self, p, d, last);
    for (int64_t v = 0; v < op_.views; ++v) {
      T* const row = tail_.get() + v * kGroup<T>;
      std::memset(static_cast<void*>(row), 0, kGroup<T> * sizeof(T));  // fault: last group
      // fault: read of the last group
      std::memcpy(row, view0(p, d) + v * op_.view_stride, size_t(last - d) * sizeof(T));
    }
    add_groups(tail_.get(), kGroup<T>, kGroup<T>, slots);
    show(tail_.get(), kGroup<T>, d, last, unit_sums);
  }

  void add_groups(const T* x, int64_t stride, int64_t n, Vec<A>* slots) {
    Vec<A>* const norms = op_.normalize ? slots + pairs_ : nullptr;
    if (op_.pairs == Pairs::anchor) {
      if (norms)
        add_diagonal_tile<1, DiagonalWork::norms>(InMemory<T>{x, stride}, n, Slots<A>{slots, nullptr},
                                                  {norms, nullptr, false});
      for (int64_t v = 1; v < op_.views; v += 4)
        add_anchor(op_.views - v < 4 ? op_.views - v : 4, x, x + v * stride, stride, n, slots + v - 1,
                   norms ? norms + v : nullptr);
    } else {
      int32_t row[kFewViews];
      for (int64_t i = 0; i < op_.views; ++i) row[i] = int32_t(pair_row(i, op_.views));
      A* const sum = observer_ ? view_sum() : nullptr;
      add_diagonal(op_.views, InMemory<T>{x, stride}, n, Slots<A>{slots, row}, {norms, sum, false});
    }
  }

  // To the observer: dims [first, last) of a point, which begin at x. Diagonal tiles have summed the views already.
  void show(const T* x, int64_t stride, int64_t first, int64_t last, double* unit_sums) const {
    if (!observer_) return;
    constexpr int64_t some = 16;
    for (int64_t v = 0; v < op_.views; v += some) {
      // fault: views of an anchor
      if (op_.pairs == Pairs::anchor)
        sum_views(x + v * stride, op_.views - v < some ? op_.views - v : some, stride, last - first);
      in_memory_order<T>(view_sum(), whole_groups<T>(last - first));  // fault: order of a view sum
      observer_->seen(observer_->self, view_sum(), first, last, unit_sums);
    }
  }

  void sum_views(const T* x, int64_t views, int64_t stride, int64_t n) const {
    for (int64_t d = 0; d < n; d += kGroup<T>) {
      Vec<A> sum[kColumns<T>], view[kColumns<T>];
      load_group(x + d, sum);
      for (int64_t v = 1; v < views; ++v) {
        load_group(x + v * stride + d, view);
        for (int c = 0; c < kColumns<T>; ++c) sum[c] += view[c];
      }
      for (int c = 0; c < kColumns<T>; ++c) store(view_sum() + d + c * Lanes<A>::count, sum[c]);
    }
  }

  // More views: each element is used many times, from cache.
  void add_many(int64_t p, int64_t first, int64_t last, const T* next, double* sums, double* unit_sums) {
    const auto widen = [](const char* row, int64_t n, A* out) { widen_row(reinterpret_cast<const T*>(row), n, out); };
    panels_->add({reinterpret_cast<const char*>(view0(p, 0)), last_dim_, op_.view_stride * int64_t(sizeof(T)),
                  int64_t(sizeof(T)), kGroup<T>, widen, in_memory_order<T>, sizeof(T) == sizeof(A)},
                 op_.normalize, first, last, reinterpret_cast<const char*>(next), sums,
                 {observer_, producer_, p, unit_sums});
  }

  A* view_sum() const { return view_sum_.get() + Lanes<A>::count; }

  const T* view0(int64_t point, int64_t dim) const {
    return static_cast<const T*>(op_.z) + point * op_.point_stride + (dim & last_dim_);
  }

  const Alignment& op_;
  const Observer* const observer_;
  const ViewProducer* const producer_;  // makes each chunk before it is read, where it finds it in L1
  const int64_t last_dim_;              // of those in memory, which go round; or all bits
  const int64_t pairs_;
  const Scratch<Vec<A>, 8 * kFewSums> slots_;  // points_at_once()
  const Scratch<T, 8 * kGroup<T>> tail_;
  const Scratch<A, 34 * kGroup<T>> view_sum_;  // with a vector before and after
  std::optional<PairPanels<A>> panels_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
