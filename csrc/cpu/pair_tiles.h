// Register tiles: sums of squared differences between a few views at a time, every sum in a register.
//
// A tile of 5 x 5 views loads 10 vectors and makes 25 sums of them: 2.5 sums a load against 0.5 in a loop over pairs,
// 3.2 times its speed in cache. Tiles add one vector per pair to `slots`; sum_each folds the lanes later.
#pragma once
#include "vec.h"

namespace memkern {
namespace MEMKERN_ISA {

// AVX-512 has 32 registers: 25 sums, 5 views, 2 in flight. Elsewhere 16 sums spill a little and still win.
#if defined(__AVX512F__)
constexpr int kTile = 5;
#else
constexpr int kTile = 4;
#endif

// `count` things in nearly equal blocks of at most `most`; the larger blocks come first.
struct Blocks {
  Blocks(int64_t count, int64_t most)
      : blocks((count + most - 1) / most), small(count / blocks), larger(count % blocks) {}
  int64_t first(int64_t block) const { return block * small + (block < larger ? block : larger); }
  int64_t size(int64_t block) const { return small + (block < larger); }
  int64_t blocks, small, larger;
};

// Where the sum of views (i, j) is kept: slot row[i] + j of `base`.
template <class A>
struct Slots {
  Vec<A>* base;
  const int32_t* row;
  Vec<A>& operator()(int i, int j) const { return base[row[i] + j]; }
  Slots from(int i, int j) const { return {base + j, row + i}; }
};

// Rows of memory that will be read next: a tile asks for `step` bytes of each while it computes one vector.
// Integers, because the last rows may be followed by nothing.
struct Ahead {
  uintptr_t row0;
  int64_t row_bytes, step;
  Ahead from(int row) const { return {row0 + uintptr_t(row * row_bytes), row_bytes, step}; }
};

// always_inline: GCC takes a function that only prefetches for one without effect, and drops the calls it did not
// inline.
template <int rows>
[[gnu::always_inline]] inline void prefetch_rows(const Ahead& ahead, int64_t vector) {
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)  // into L2: L1 is full of the current chunk
    __builtin_prefetch(reinterpret_cast<const void*>(ahead.row0 + uintptr_t(i * ahead.row_bytes + vector * ahead.step)),
                       0, 2);
}

// Views a[0..rows) against views b[0..cols), n elements (whole vectors) of each.
template <int rows, int cols, class A>
[[gnu::noinline]] void add_tile(const A* a, const A* b, int64_t stride, int64_t n, Slots<A> slots, const Ahead& ahead_a,
                                const Ahead& ahead_b, bool prefetch) {
  constexpr int lanes = Lanes<A>::count;
  Vec<A> sum[rows][cols] = {};
  for (int64_t d = 0; d < n; d += lanes) {
    Vec<A> right[cols];
#pragma GCC unroll 8
    for (int j = 0; j < cols; ++j) right[j] = load(b + j * stride + d);
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const Vec<A> left = load(a + i * stride + d);
#pragma GCC unroll 8
      for (int j = 0; j < cols; ++j) {
        const Vec<A> difference = left - right[j];
        sum[i][j] += difference * difference;
      }
    }
    if (prefetch) {
      prefetch_rows<rows>(ahead_a, d / lanes);
      prefetch_rows<cols>(ahead_b, d / lanes);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < cols; ++j) slots(i, j) += sum[i][j];
}

// The tile of rows x cols views. Blocks are nearly equal and no fewer than six views come here, so these are all.
template <class A>
inline void add_blocks(int64_t rows, int64_t cols, const A* a, const A* b, int64_t stride, int64_t n, Slots<A> slots,
                       const Ahead& ahead_a, const Ahead& ahead_b, bool prefetch) {
  switch (rows * 8 + cols) {
    case 3 * 8 + 3:
      return add_tile<3, 3>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
    case 4 * 8 + 3:
      return add_tile<4, 3>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
    case 4 * 8 + 4:
      return add_tile<4, 4>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
  }
  if constexpr (kTile == 4) {
    add_tile<3, 4>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
  } else {
    switch (rows * 8 + cols) {
      case 4 * 8 + 5:
        return add_tile<4, 5>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
      case 5 * 8 + 4:
        return add_tile<5, 4>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
      case 5 * 8 + 5:
        return add_tile<5, 5>(a, b, stride, n, slots, ahead_a, ahead_b, prefetch);
    }
  }
}

// Independent sums that keep both FMA units busy: 4 cycles of latency times 2 a cycle.
constexpr int sets_for(int sums) { return sums >= 8 ? 1 : sums >= 4 ? 2 : sums >= 2 ? 4 : 8; }

// Every pair of views x[0..views), and their squared norms if asked for; n elements (whole groups) of each.
template <int views, bool with_norms, class T>
[[gnu::noinline]] void add_diagonal_tile(const T* x, int64_t stride, int64_t n, Slots<Wide<T>> slots,
                                         Vec<Wide<T>>* norms) {
  using A = Wide<T>;
  constexpr int columns = kColumns<T>, group = kGroup<T>;
  constexpr int sets = sets_for(views * (views - 1) / 2 + (with_norms ? views : 0));
  constexpr int groups = sets > columns ? sets / columns : 1;  // per step of the loop
  Vec<A> sum[sets][views][views] = {};

  const auto add_group = [&](int64_t d, int first_set) __attribute__((always_inline)) {
    Vec<A> view[views][columns];
#pragma GCC unroll 8
    for (int i = 0; i < views; ++i) load_group(x + i * stride + d, view[i]);
#pragma GCC unroll 2
    for (int c = 0; c < columns; ++c) {
      auto& into = sum[(first_set + c) % sets];
#pragma GCC unroll 8
      for (int i = 0; i < views; ++i) {
        if constexpr (with_norms) into[i][i] += view[i][c] * view[i][c];
#pragma GCC unroll 8
        for (int j = i + 1; j < views; ++j) {
          const Vec<A> difference = view[i][c] - view[j][c];
          into[i][j] += difference * difference;
        }
      }
    }
  };

  int64_t d = 0;
  for (; d + groups * group <= n; d += groups * group) {
#pragma GCC unroll 8
    for (int g = 0; g < groups; ++g) add_group(d + g * group, g * columns);
  }
  for (; d < n; d += group) add_group(d, 0);

#pragma GCC unroll 8
  for (int i = 0; i < views; ++i)
#pragma GCC unroll 8
    for (int j = i; j < views; ++j) {
      if (i == j && !with_norms) continue;
      Vec<A> total = sum[0][i][j];
#pragma GCC unroll 8
      for (int s = 1; s < sets; ++s) total += sum[s][i][j];
      if (i == j)
        norms[i] += total;
      else
        slots(i, j) += total;
    }
}

// The anchor against views x[0..views), and the squared norms of these views.
template <int views, class T>
[[gnu::noinline]] void add_anchor_tile(const T* anchor, const T* x, int64_t stride, int64_t n, Vec<Wide<T>>* pairs,
                                       Vec<Wide<T>>* norms) {
  using A = Wide<T>;
  constexpr int columns = kColumns<T>;
  constexpr int sets = views >= 4 ? 1 : columns;
  Vec<A> pair_sum[sets][views] = {}, norm_sum[sets][views] = {};
  for (int64_t d = 0; d < n; d += kGroup<T>) {
    Vec<A> first[columns], view[views][columns];
    load_group(anchor + d, first);
#pragma GCC unroll 8
    for (int i = 0; i < views; ++i) load_group(x + i * stride + d, view[i]);
#pragma GCC unroll 2
    for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 8
      for (int i = 0; i < views; ++i) {
        const Vec<A> difference = first[c] - view[i][c];
        pair_sum[c % sets][i] += difference * difference;
        norm_sum[c % sets][i] += view[i][c] * view[i][c];
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < views; ++i) {
    pairs[i] += sets == 2 ? pair_sum[0][i] + pair_sum[sets - 1][i] : pair_sum[0][i];
    norms[i] += sets == 2 ? norm_sum[0][i] + norm_sum[sets - 1][i] : norm_sum[0][i];
  }
}

// Any number of views up to kFewViews; their norms unless `norms` is null.
constexpr int64_t kFewViews = 5;

template <class T>
inline void add_diagonal(int64_t views, const T* x, int64_t stride, int64_t n, Slots<Wide<T>> slots,
                         Vec<Wide<T>>* norms) {
  switch (views * 2 + (norms != nullptr)) {
    case 2 * 2 + 0:
      return add_diagonal_tile<2, false>(x, stride, n, slots, norms);
    case 2 * 2 + 1:
      return add_diagonal_tile<2, true>(x, stride, n, slots, norms);
    case 3 * 2 + 0:
      return add_diagonal_tile<3, false>(x, stride, n, slots, norms);
    case 3 * 2 + 1:
      return add_diagonal_tile<3, true>(x, stride, n, slots, norms);
    case 4 * 2 + 0:
      return add_diagonal_tile<4, false>(x, stride, n, slots, norms);
    case 4 * 2 + 1:
      return add_diagonal_tile<4, true>(x, stride, n, slots, norms);
    case 5 * 2 + 0:
      return add_diagonal_tile<5, false>(x, stride, n, slots, norms);
    case 5 * 2 + 1:
      return add_diagonal_tile<5, true>(x, stride, n, slots, norms);
  }
}

// One to four views; their norms unless `norms` is null. (They cost little beside the loads, and a second set of tiles
// without them costs everybody compile time.)
template <class T>
inline void add_anchor(int64_t views, const T* anchor, const T* x, int64_t stride, int64_t n, Vec<Wide<T>>* pairs,
                       Vec<Wide<T>>* norms) {
  Vec<Wide<T>> unwanted[4] = {};
  if (!norms) norms = unwanted;
  switch (views) {
    case 1:
      return add_anchor_tile<1>(anchor, x, stride, n, pairs, norms);
    case 2:
      return add_anchor_tile<2>(anchor, x, stride, n, pairs, norms);
    case 3:
      return add_anchor_tile<3>(anchor, x, stride, n, pairs, norms);
    case 4:
      return add_anchor_tile<4>(anchor, x, stride, n, pairs, norms);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
