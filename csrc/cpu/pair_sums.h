// Squared distances of all pairs of views of a point (and squared norms of its views), over any range of its dims.
#pragma once
#include "../ops.h"
#include "pair_tiles.h"
#include "rows.h"
#include "scratch.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {

// sums[i] += the sum over the lanes of slots[i], in double, a vector of results at a time.
template <class A>
[[gnu::noinline]] void add_lane_sums(const Vec<A>* slots, int64_t count, double* sums) {
  constexpr int lanes = Lanes<double>::count;
  const auto in_double = [](Vec<A> v) {
    Vec<double> parts[kDoubles<A>];
    to_double(v, parts);
    return kDoubles<A> == 2 ? parts[0] + parts[kDoubles<A> - 1] : parts[0];
  };
  Vec<double> some[lanes];
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int k = 0; k < lanes; ++k) some[k] = in_double(slots[i + k]);
    store(sums + i, load(sums + i) + sum_each<lanes>(some, 1));
  }
  if (i == count) return;
  for (int k = 0; k < lanes; ++k) some[k] = i + k < count ? in_double(slots[i + k]) : Vec<double>{};
  const Vec<double> last = sum_each<lanes>(some, 1);
  for (int k = 0; i + k < count; ++k) sums[i + k] += last[k];
}

// Position of pair (i, i + 1) among all pairs of `views` views, less i + 1: pair (i, j) is at pair_row(i) + j.
inline int64_t pair_row(int64_t i, int64_t views) { return i * views - i * (i + 1) / 2 - i - 1; }

template <class T, bool with_norms>
class PairSums {
  using A = Wide<T>;

 public:
  explicit PairSums(const Alignment& op)
      : views_(op.views), stride_(op.view_stride), anchor_(op.pairs == Pairs::anchor),
        pairs_(pair_count(op.views, op.pairs)), panels_(op.views, kPanel),
        slots_(direct() ? kBatch * sums() : kPanel * kPanel), panel_sums_(panels_.blocks > 1 ? kPanel * kPanel : 0),
        rows_(direct() ? 0 : 2 * kPanel * kRow), tail_(direct() ? views_ * kGroup<T> : 0) {}

  // Sums of one point: its pairs in order, then the squared norms.
  int64_t sums() const { return pairs_ + (with_norms ? views_ : 0); }

  // Points worth passing to add() together: lanes are folded a vector of sums at a time.
  int64_t batch() const { return direct() && sums() <= kBatchedSums ? kBatch : 1; }

  // Adds to `sums` (of each point in turn) what dims [first, last) of `points` points contribute. `next` is where view 0
  // goes on afterwards, the next dims or the next point, and is only prefetched; null: nowhere.
  void add(const T* z, int64_t points, int64_t point_stride, int64_t first, int64_t last, const T* next, double* sums) {
    if (first == last) return;
    if (direct()) {
      const int64_t per_point = this->sums();
      for (int64_t i = 0; i < points * per_point; ++i) slots_[i] = Vec<A>{};
      for (int64_t p = 0; p < points; ++p) add_direct(z + p * point_stride, first, last, slots_.get() + p * per_point);
      add_lane_sums<A>(slots_.get(), points * per_point, sums);
    } else {
      for (int64_t a = 0; a < panels_.blocks; ++a)
        for (int64_t b = a; b < panels_.blocks; ++b) add_panel(z, a, b, first, last, next, sums);
    }
  }

 private:
  static constexpr int64_t kFewViews = 5;  // one tile, straight from memory
  static constexpr int64_t kBatch = 8, kBatchedSums = 16;
  static constexpr int64_t kPanel = 32;  // views whose sums (64 KiB of slots) stay in cache
  static constexpr int64_t kChunk = 272;  // dims: 1 KiB of each of ten views stays in L1 while 45 pairs use it
  static constexpr int64_t kRow = kChunk + 2 * Lanes<A>::count;  // rows of a multiple of 4 KiB would share L1 sets

  bool direct() const { return anchor_ || views_ <= kFewViews; }

  // ---- few views, or one anchor: every element is loaded once --------------------------------------------------

  void add_direct(const T* point, int64_t first, int64_t last, Vec<A>* slots) {
    constexpr int64_t chunk = 4096;  // bounds the terms that one float sum sees
    int64_t d = first;
    while (last - d >= kGroup<T>) {
      const int64_t n = (last - d < chunk ? last - d : chunk) / kGroup<T> * kGroup<T>;
      add_groups(point + d, stride_, n, slots);
      d += n;
    }
    if (d == last) return;
    for (int64_t v = 0; v < views_; ++v) {
      T* const row = tail_.get() + v * kGroup<T>;
      std::memset(static_cast<void*>(row), 0, kGroup<T> * sizeof(T));
      std::memcpy(row, point + v * stride_ + d, size_t(last - d) * sizeof(T));
    }
    add_groups(tail_.get(), kGroup<T>, kGroup<T>, slots);
  }

  void add_groups(const T* x, int64_t stride, int64_t n, Vec<A>* slots) {
    Vec<A>* const norms = slots + pairs_;
    if (anchor_) {
      if constexpr (with_norms) add_diagonal_tile<1, true>(x, stride, n, Slots<A>{slots, nullptr}, norms);
      for (int64_t v = 1; v < views_; v += 4)
        add_anchor<with_norms>(views_ - v < 4 ? views_ - v : 4, x, x + v * stride, stride, n, slots + v - 1, norms + v);
    } else {
      int32_t row[kFewViews];
      for (int64_t i = 0; i < views_; ++i) row[i] = int32_t(pair_row(i, views_));
      add_diagonal<with_norms>(views_, x, stride, n, Slots<A>{slots, row}, norms);
    }
  }

  // ---- many views: panels of tiles -----------------------------------------------------------------------------

  // A chunk of the rows of one panel, in memory or unpacked to the wide type, and what follows it.
  struct Rows {
    const A* data;
    int64_t stride;
    Ahead ahead;
  };

  void add_panel(const T* point, int64_t a, int64_t b, int64_t first, int64_t last, const T* next, double* sums) {
    const int64_t first_a = panels_.first(a), views_a = panels_.size(a);
    const int64_t first_b = panels_.first(b), views_b = panels_.size(b);
    // A panel with itself keeps its upper triangle, in pair order: a single panel then is the whole result.
    int32_t row[kPanel];
    for (int64_t i = 0; i < views_a; ++i) row[i] = int32_t(a == b ? pair_row(i, views_a) : i * views_b);
    const int64_t pairs = a == b ? views_a * (views_a - 1) / 2 : views_a * views_b;
    const int64_t count = pairs + (a == b && with_norms ? views_a : 0);
    const Slots<A> slots{slots_.get(), row};
    for (int64_t i = 0; i < count; ++i) slots_[i] = Vec<A>{};

    const int64_t chunks = (last - first + kChunk - 1) / kChunk;
    const int64_t chunk = whole_groups<T>((last - first + chunks - 1) / chunks);
    for (int64_t d = first; d < last; d += chunk) {
      const int64_t n = last - d < chunk ? last - d : chunk;
      const T* const after = d + chunk < last ? point + d + chunk : next ? next : point + d;
      const Rows rows_a = rows_of(point, first_a, views_a, d, n, after, rows_.get());
      if (a == b) {
        add_triangle(rows_a, views_a, whole_groups<T>(n), slots, slots_.get() + pairs);
      } else {
        const Rows rows_b = rows_of(point, first_b, views_b, d, n, after, rows_.get() + kPanel * kRow);
        add_rectangle(rows_a, views_a, rows_b, views_b, whole_groups<T>(n), slots);
      }
    }

    if (panels_.blocks == 1) return add_lane_sums<A>(slots_.get(), count, sums);
    for (int64_t i = 0; i < count; ++i) panel_sums_[i] = 0;
    add_lane_sums<A>(slots_.get(), count, panel_sums_.get());
    for (int64_t i = 0; i < views_a; ++i) {
      double* const sums_of_row = sums + pair_row(first_a + i, views_) + first_b;
      for (int64_t j = a == b ? i + 1 : 0; j < views_b; ++j) sums_of_row[j] += panel_sums_[row[i] + j];
      if (with_norms && a == b) sums[pairs_ + first_a + i] += panel_sums_[pairs + i];
    }
  }

  Rows rows_of(const T* point, int64_t first_view, int64_t views, int64_t d, int64_t n, const T* after, A* unpacked) {
    const int64_t row_bytes = stride_ * int64_t(sizeof(T));
    const T* const data = point + first_view * stride_ + d;
    const Ahead ahead{reinterpret_cast<uintptr_t>(after) + uintptr_t(first_view * row_bytes), row_bytes,
                      Lanes<A>::count * int64_t(sizeof(T))};
    if constexpr (sizeof(T) == sizeof(A)) {
      if (n % kGroup<T> == 0 && views <= kDirectViews) return {data, stride_, ahead};
    }
    for (int64_t v = 0; v < views; ++v) widen_row(data + v * stride_, n, unpacked + v * kRow);
    return {unpacked, kRow, ahead};
  }
#ifdef DV
  static constexpr int64_t kDirectViews = DV;
#else
  static constexpr int64_t kDirectViews = 10;
#endif

  static void add_triangle(const Rows& rows, int64_t views, int64_t n, Slots<A> slots, Vec<A>* norms) {
    const Blocks blocks(views, kTile);
    for (int64_t b = 0; b < blocks.blocks; ++b) {
      const int i = int(blocks.first(b));
      add_diagonal<with_norms>(blocks.size(b), rows.data + i * rows.stride, rows.stride, n, slots.from(i, i), norms + i);
    }
    for (int64_t b = 1; b < blocks.blocks; ++b)
      for (int64_t a = 0; a < b; ++a) add_tile_of(rows, blocks, a, rows, blocks, b, a == 0, n, slots);
  }

  static void add_rectangle(const Rows& rows_a, int64_t views_a, const Rows& rows_b, int64_t views_b, int64_t n,
                            Slots<A> slots) {
    const Blocks blocks_a(views_a, kTile), blocks_b(views_b, kTile);
    for (int64_t a = 0; a < blocks_a.blocks; ++a)
      for (int64_t b = 0; b < blocks_b.blocks; ++b) add_tile_of(rows_a, blocks_a, a, rows_b, blocks_b, b, a == b, n, slots);
  }

  static void add_tile_of(const Rows& rows_a, const Blocks& blocks_a, int64_t a, const Rows& rows_b,
                          const Blocks& blocks_b, int64_t b, bool prefetch, int64_t n, Slots<A> slots) {
    const int i = int(blocks_a.first(a)), j = int(blocks_b.first(b));
    const auto add = prefetch ? add_blocks<true, A> : add_blocks<false, A>;
    add(blocks_a.size(a), blocks_b.size(b), rows_a.data + i * rows_a.stride, rows_b.data + j * rows_b.stride,
        rows_a.stride, n, slots.from(i, j), rows_a.ahead.from(i), rows_b.ahead.from(j));
  }

  const int64_t views_, stride_;
  const bool anchor_;
  const int64_t pairs_;
  const Blocks panels_;
  const Scratch<Vec<A>, kBatch * kBatchedSums> slots_;
  const Scratch<double> panel_sums_;
  const Scratch<A> rows_;
  const Scratch<T, 8 * kGroup<T>> tail_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
