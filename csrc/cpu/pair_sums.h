// Squared distances of all pairs of views of one point (and squared norms of the views), over ranges of its dims.
#pragma once
#include "../ops.h"
#include "pair_tiles.h"
#include "rows.h"
#include "scratch.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {

// sums[i] += the sum over the lanes of slots[i], in double: `count` of them, a vector of results at a time.
template <class A>
inline void add_lane_sums(const Vec<A>* slots, int64_t count, double* sums) {
  constexpr int lanes = Lanes<double>::count;
  const auto in_double = [](Vec<A> v) {
    Vec<double> parts[kDoubles<A>];
    to_double(v, parts);
    return kDoubles<A> == 2 ? parts[0] + parts[kDoubles<A> - 1] : parts[0];
  };
  Vec<double> eight[lanes];
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int k = 0; k < lanes; ++k) eight[k] = in_double(slots[i + k]);
    store(sums + i, load(sums + i) + sum_each<lanes>(eight, 1));
  }
  if (i == count) return;
  for (int k = 0; k < lanes; ++k) eight[k] = i + k < count ? in_double(slots[i + k]) : Vec<double>{};
  const Vec<double> last = sum_each<lanes>(eight, 1);
  for (int k = 0; i + k < count; ++k) sums[i + k] += last[k];
}

// `count` things in nearly equal blocks of at most `most`; the larger blocks come first.
struct Blocks {
  Blocks(int64_t count, int64_t most) : blocks((count + most - 1) / most), small(count / blocks), larger(count % blocks) {}
  int64_t first(int64_t block) const { return block * small + (block < larger ? block : larger); }
  int64_t size(int64_t block) const { return small + (block < larger); }
  int64_t blocks, small, larger;
};

template <class T, bool with_norms>
class PairSums {
  using A = Wide<T>;

 public:
  PairSums(const Alignment& op)
      : views_(op.views), stride_(op.view_stride), anchor_(op.pairs == Pairs::anchor),
        pairs_(pair_count(op.views, op.pairs)), panels_(op.views, kPanel),
        slots_(direct() ? kBatch * sums() : kPanel * kPanel),
        sums_(direct() ? 1 : kPanel * kPanel),
        rows_(direct() ? 1 : 2 * kPanel * kRow),
        tail_((anchor_ ? views_ : kFewViews) * kGroup<T>) {}

  // Sums of one point: its pairs in order, then the squared norms.
  int64_t sums() const { return pairs_ + (with_norms ? views_ : 0); }

  // Points worth passing to add() together: folding lanes is cheapest for whole vectors of sums.
  int64_t batch() const { return direct() && sums() < 16 ? kBatch : 1; }

  // Adds to `sums` the sums of `points` points over dims [first, last). What follows in memory order of use is asked for
  // early: `next` is where view 0 goes on (the next dims, or the next point), null at the end.
  void add(const T* z, int64_t points, int64_t point_stride, int64_t first, int64_t last, const T* next, double* sums) {
    if (direct()) {
      const int64_t per_point = this->sums();
      for (int64_t i = 0; i < points * per_point; ++i) slots_[i] = Vec<A>{};
      for (int64_t p = 0; p < points; ++p)
        add_direct(z + p * point_stride, first, last, slots_.get() + p * per_point);
      add_lane_sums<A>(slots_.get(), points * per_point, sums);
    } else {
      for (int64_t a = 0; a < panels_.blocks; ++a)
        for (int64_t b = a; b < panels_.blocks; ++b) add_panel(z, a, b, first, last, next, sums);
    }
  }

 private:
  static constexpr int64_t kFewViews = 5;   // one diagonal tile, straight from memory
  static constexpr int64_t kPanel = 32;     // views whose sums (64 KiB of slots) stay in cache
  static constexpr int64_t kChunk = 272;    // dims: 10 views of 1 KiB stay in L1 while 45 pairs use them
  static constexpr int64_t kRow = kChunk + 2 * Lanes<A>::count;  // not a multiple of 4 KiB over a few rows
  static constexpr int64_t kBatch = 8;

  bool direct() const { return anchor_ || views_ <= kFewViews; }

  // ---- few views, or one anchor: every element is loaded once ----

  void add_direct(const T* point, int64_t first, int64_t last, Vec<A>* slots) {
    constexpr int64_t chunk = 4096;  // bounds the terms one float sum sees
    int64_t d = first;
    for (; last - d >= kGroup<T>;) {
      const int64_t n = (last - d < chunk ? last - d : chunk) / kGroup<T> * kGroup<T>;
      add_whole(point + d, stride_, n, slots);
      d += n;
    }
    if (d == last) return;
    for (int64_t v = 0; v < views_; ++v) {
      T* row = tail_.get() + v * kGroup<T>;
      for (int64_t i = 0; i < kGroup<T>; ++i) row[i] = T{};
      std::memcpy(row, point + v * stride_ + d, size_t(last - d) * sizeof(T));
    }
    add_whole(tail_.get(), kGroup<T>, kGroup<T>, slots);
  }

  void add_whole(const T* x, int64_t stride, int64_t n, Vec<A>* slots) {
    Vec<A>* const norms = slots + pairs_;
    if (anchor_) {
      if constexpr (with_norms) add_diagonal_tile<1, true>(x, stride, n, Slots<A>{slots, nullptr}, norms);
      for (int64_t v = 1; v < views_; v += 4)
        add_anchor(views_ - v < 4 ? views_ - v : 4, x, x + v * stride, stride, n, slots + v - 1, norms + v);
    } else {
      static const int32_t rows[6][5] = {{}, {}, {-1}, {-1, 0}, {-1, 1, 2}, {-1, 2, 4, 5}};
      add_diagonal<T>(views_, x, stride, n, Slots<A>{slots, rows[views_]}, norms);
    }
  }

  static void add_anchor(int64_t views, const T* anchor, const T* x, int64_t stride, int64_t n, Vec<A>* pairs,
                         Vec<A>* norms) {
    switch (views) {
      case 1: return add_anchor_tile<1, with_norms>(anchor, x, stride, n, pairs, norms);
      case 2: return add_anchor_tile<2, with_norms>(anchor, x, stride, n, pairs, norms);
      case 3: return add_anchor_tile<3, with_norms>(anchor, x, stride, n, pairs, norms);
      case 4: return add_anchor_tile<4, with_norms>(anchor, x, stride, n, pairs, norms);
    }
  }

  template <class S>
  static void add_diagonal(int64_t views, const S* x, int64_t stride, int64_t n, Slots<A> slots, Vec<A>* norms) {
    switch (views) {
      case 2: return add_diagonal_tile<2, with_norms>(x, stride, n, slots, norms);
      case 3: return add_diagonal_tile<3, with_norms>(x, stride, n, slots, norms);
      case 4: return add_diagonal_tile<4, with_norms>(x, stride, n, slots, norms);
      case 5: return add_diagonal_tile<5, with_norms>(x, stride, n, slots, norms);
    }
  }

  // ---- many views: panels of tiles ----

  // A chunk of the rows of one panel: in memory, or unpacked to the wide type.
  struct Rows {
    const A* data;
    int64_t stride;
    Ahead ahead;
  };

  void add_panel(const T* point, int64_t a, int64_t b, int64_t first, int64_t last, const T* next, double* sums) {
    const int64_t first_a = panels_.first(a), views_a = panels_.size(a);
    const int64_t first_b = panels_.first(b), views_b = panels_.size(b);
    // a panel with itself keeps only its upper triangle, in pair order, so that one panel is the whole result
    int32_t row[kPanel];
    for (int32_t i = 0; i < views_a; ++i)
      row[i] = a == b ? i * int32_t(views_a) - i * (i + 1) / 2 - i - 1 : i * int32_t(views_b);
    const int64_t panel_pairs = a == b ? views_a * (views_a - 1) / 2 : views_a * views_b;
    const int64_t count = panel_pairs + (a == b && with_norms ? views_a : 0);
    for (int64_t i = 0; i < count; ++i) slots_[i] = Vec<A>{};
    const Slots<A> slots{slots_.get(), row};
    Vec<A>* const norms = slots_.get() + panel_pairs;

    const int64_t range = last - first, chunks = (range + kChunk - 1) / kChunk;
    const int64_t chunk = whole_groups<T>((range + chunks - 1) / chunks);
    for (int64_t d = first; d < last; d += chunk) {
      const int64_t n = last - d < chunk ? last - d : chunk;
      const T* after = d + chunk < last ? point + d + chunk : next ? next : point + d;
      const Rows rows_a = rows_of(point, first_a, views_a, d, n, after, rows_.get());
      const int64_t padded = whole_groups<T>(n);
      if (a == b) {
        add_triangle(rows_a, views_a, padded, slots, norms);
      } else {
        const Rows rows_b = rows_of(point, first_b, views_b, d, n, after, rows_.get() + kPanel * kRow);
        add_rectangle(rows_a, views_a, rows_b, views_b, padded, slots);
      }
    }

    if (panels_.blocks == 1) return add_lane_sums<A>(slots_.get(), count, sums);
    for (int64_t i = 0; i < count; ++i) sums_[i] = 0;
    add_lane_sums<A>(slots_.get(), count, sums_.get());
    for (int64_t i = 0; i < views_a; ++i) {
      const int64_t global_i = first_a + i;
      const int64_t global_row = global_i * views_ - global_i * (global_i + 1) / 2 - global_i - 1;
      for (int64_t j = a == b ? i + 1 : 0; j < views_b; ++j) sums[global_row + first_b + j] += sums_[row[i] + j];
      if (with_norms && a == b) sums[pairs_ + global_i] += sums_[panel_pairs + i];
    }
  }

  // Dims [d, d + n) of `views` views. Floats are used where they lie unless the range is ragged...
  Rows rows_of(const T* point, int64_t first_view, int64_t views, int64_t d, int64_t n, const T* after, A* unpacked) {
    const T* const data = point + first_view * stride_ + d;
    const Ahead ahead{reinterpret_cast<uintptr_t>(after) + uintptr_t(first_view * stride_ * int64_t(sizeof(T))),
                      stride_ * int64_t(sizeof(T)), Lanes<A>::count * int64_t(sizeof(T))};
    if constexpr (sizeof(T) == sizeof(A)) {
      if (n % kGroup<T> == 0 && views <= kDirectViews) return {data, stride_, ahead};
    }
    for (int64_t v = 0; v < views; ++v) widen_row(data + v * stride_, n, unpacked + v * kRow);
    return {unpacked, kRow, ahead};
  }

 public:
  static inline int64_t kDirectViews = 10;

 private:
  static void add_triangle(const Rows& rows, int64_t views, int64_t n, Slots<A> slots, Vec<A>* norms) {
    const Blocks blocks(views, kTile);
    for (int64_t b = 0; b < blocks.blocks; ++b) {
      const int i = int(blocks.first(b));
      add_diagonal(blocks.size(b), rows.data + i * rows.stride, rows.stride, n, slots.from(i, i), norms + i);
    }
    for (int64_t b = 1; b < blocks.blocks; ++b)
      for (int64_t a = 0; a < b; ++a) add_pair_of_blocks(rows, blocks, a, rows, blocks, b, a == 0, n, slots);
  }

  static void add_rectangle(const Rows& rows_a, int64_t views_a, const Rows& rows_b, int64_t views_b, int64_t n,
                            Slots<A> slots) {
    const Blocks blocks_a(views_a, kTile), blocks_b(views_b, kTile);
    for (int64_t a = 0; a < blocks_a.blocks; ++a)
      for (int64_t b = 0; b < blocks_b.blocks; ++b)
        add_pair_of_blocks(rows_a, blocks_a, a, rows_b, blocks_b, b, a == b, n, slots);
  }

  static void add_pair_of_blocks(const Rows& rows_a, const Blocks& blocks_a, int64_t a, const Rows& rows_b,
                                 const Blocks& blocks_b, int64_t b, bool prefetch, int64_t n, Slots<A> slots) {
    const int i = int(blocks_a.first(a)), j = int(blocks_b.first(b));
    const A* const x = rows_a.data + i * rows_a.stride;
    const A* const y = rows_b.data + j * rows_b.stride;
    const Slots<A> part = slots.from(i, j);
    const Ahead ahead_a = rows_a.ahead.from(i), ahead_b = rows_b.ahead.from(j);
    const auto run = [&](auto rows, auto cols) __attribute__((always_inline)) {
      if (prefetch)
        add_tile<rows, cols, true, A>(x, y, rows_a.stride, n, part, ahead_a, ahead_b);
      else
        add_tile<rows, cols, false, A>(x, y, rows_a.stride, n, part, ahead_a, ahead_b);
    };
    constexpr std::integral_constant<int, 2> two;
    constexpr std::integral_constant<int, 3> three;
    constexpr std::integral_constant<int, 4> four;
    constexpr std::integral_constant<int, 5> five;
    // blocks are nearly equal, so these are all
    switch (blocks_a.size(a) * 8 + blocks_b.size(b)) {
      case 3 * 8 + 2: return run(three, two);
      case 3 * 8 + 3: return run(three, three);
      case 3 * 8 + 4: return run(three, four);
      case 4 * 8 + 3: return run(four, three);
      case 4 * 8 + 4: return run(four, four);
      case 4 * 8 + 5: return run(four, five);
      case 5 * 8 + 4: return run(five, four);
      case 5 * 8 + 5: return run(five, five);
    }
  }

  const int64_t views_, stride_;
  const bool anchor_;
  const int64_t pairs_;
  const Blocks panels_;
  const Scratch<Vec<A>> slots_;
  const Scratch<double> sums_;
  const Scratch<A> rows_;
  const Scratch<T> tail_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
