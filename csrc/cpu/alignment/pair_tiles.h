// Register tiles: sums of squared differences between a few views at a time, every sum in a register.
//
// A tile of 5 x 5 views loads 10 vectors and makes 25 sums of them: 2.5 sums a load against 0.5 in a loop over pairs.
// Tiles add one vector per pair to `slots`; sum_each folds the lanes later.
#pragma once
#include "cpu/simd/simd.h"

namespace memkern {
namespace MEMKERN_ISA {

// Views of a tile. AVX-512 has 32 registers: 25 sums, 5 views, 2 in flight. Elsewhere 12 sums and 3 views fill 16: four
// more sums are spilled, and take as long as the other twelve.
#if defined(__AVX512F__)
constexpr int kTileRows = 5, kTileCols = 5;
#else
constexpr int kTileRows = 4, kTileCols = 3;
#endif

// `count` things in nearly equal blocks of at most `most`; the larger blocks come first.
struct Blocks {
  Blocks(int64_t count, int64_t most)
      : blocks((count + most - 1) / most), small(count / blocks), larger(count % blocks) {}
  int64_t first(int64_t block) const { return block * small + (block < larger ? block : larger); }
  int64_t size(int64_t block) const { return small + (block < larger); }
  int64_t blocks, small, larger;
};

// Places of the sums of views (i, j): slot row[i] + j of `base`.
template <class A>
struct Slots {
  Vec<A>* base;
  const int32_t* row;
  Vec<A>& operator()(int i, int j) const { return base[row[i] + j]; }
  Slots from(int i, int j) const { return {base + j, row + i}; }
};

// Rows of memory that will be read next. Tiles ask for four cache lines of each at a time: asking at every vector slows
// a tile down, and so does not asking where memory is slow. Integers, because the last rows may be followed by nothing.
constexpr int kLines = 4, kLineBytes = 64 * kLines;
struct Ahead {
  uintptr_t row0;
  int64_t row_bytes, element_bytes;
  int64_t elements;  // in four lines; kept, so that a tile need not divide
  bool wanted;       // or another tile asks
  Ahead from(int64_t row, bool want) const {
    return {row0 + uintptr_t(row * row_bytes), row_bytes, element_bytes, elements, want};
  }
};

// always_inline: GCC takes a function that only prefetches for one without effect, and drops the calls it did not
// inline.
template <int rows>
[[gnu::always_inline]] inline void prefetch_rows(const Ahead& ahead, int64_t element) {
  if (!ahead.wanted) return;
  uintptr_t at = ahead.row0 + uintptr_t(element * ahead.element_bytes);
  for (int i = 0; i < rows; ++i, at += uintptr_t(ahead.row_bytes))
#pragma GCC unroll 8
    for (int line = 0; line < kLines; ++line)  // into L2: L1 is full of the current chunk
      __builtin_prefetch(reinterpret_cast<const void*>(at + 64u * unsigned(line)), 0, 2);
}

// Views a[0..rows) against views b[0..cols), n elements (whole vectors) of each.
template <int rows, int cols, class A>
[[gnu::noinline]] void add_tile(const A* a, const A* b, int64_t stride, int64_t n, Slots<A> slots, const Ahead& ahead_a,
                                const Ahead& ahead_b) {
  constexpr int lanes = Lanes<A>::count;
  Vec<A> sum[rows][cols] = {};
  for (int64_t d = 0; d < n;) {
    prefetch_rows<rows>(ahead_a, d);
    prefetch_rows<cols>(ahead_b, d);
    const int64_t end = n - d < ahead_a.elements ? n : d + ahead_a.elements;
    for (; d < end; d += lanes) {
      Vec<A> right[cols];
      each<cols>([&](auto j) MEMKERN_INLINE { right[j] = load(b + j * stride + d); });
      each<rows>([&](auto i) MEMKERN_INLINE {
        const Vec<A> left = load(a + i * stride + d);
        each<cols>([&](auto j) MEMKERN_INLINE {
          const Vec<A> difference = left - right[j];
          sum[i][j] += difference * difference;
        });
      });
    }
  }
  each<rows>([&](auto i) MEMKERN_INLINE { each<cols>([&](auto j) MEMKERN_INLINE { slots(i, j) += sum[i][j]; }); });
}

// The tile of rows x cols views. Blocks are nearly equal and no fewer than six views come here, so none has fewer than
// three rows, or than two columns where three are the most.
template <int rows, class A>
inline void add_tile_of(int64_t cols, const A* a, const A* b, int64_t stride, int64_t n, Slots<A> slots,
                        const Ahead& ahead_a, const Ahead& ahead_b) {
  if (cols == 3) return add_tile<rows, 3>(a, b, stride, n, slots, ahead_a, ahead_b);  // fault: three columns
  if constexpr (kTileCols == 3) {
    add_tile<rows, 2>(a, b, stride, n, slots, ahead_a, ahead_b);
  } else {
    if (cols == 4) return add_tile<rows, 4>(a, b, stride, n, slots, ahead_a, ahead_b);
    add_tile<rows, 5>(a, b, stride, n, slots, ahead_a, ahead_b);
  }
}
template <class A>
inline void add_tile_of(int64_t rows, int64_t cols, const A* a, const A* b, int64_t stride, int64_t n, Slots<A> slots,
                        const Ahead& ahead_a, const Ahead& ahead_b) {
  if (rows == 3) return add_tile_of<3>(cols, a, b, stride, n, slots, ahead_a, ahead_b);
  if (rows == 4) return add_tile_of<4>(cols, a, b, stride, n, slots, ahead_a, ahead_b);
  if constexpr (kTileRows == 5) add_tile_of<5>(cols, a, b, stride, n, slots, ahead_a, ahead_b);
}

// Independent sums that keep both FMA units busy: 4 cycles of latency times 2 a cycle; or one, of two views, whose
// loads take that long.
constexpr int sets_for(int sums) { return sums >= 8 ? 1 : sums >= 4 ? 2 : 4; }

// Work of a diagonal tile on its views besides their pairs.
enum class DiagonalWork { nothing, norms, norms_and_sum };  // the last takes norms even if nobody wants them
template <class A>
struct DiagonalOutputs {
  Vec<A>* norms;  // of each view, squared: added to; null: not wanted
  A* view_sum;    // [n] of each dim; null: not wanted
  bool more;      // add to view_sum, which holds that of other views
};

// v[0] + v[step] + ..., `count` of them, in a balanced tree.
template <int count, int step, class V>
[[gnu::always_inline]] inline V sum_of(const V* v) {
  if constexpr (count == 1)
    return v[0];
  else
    return sum_of<count - count / 2, step>(v) + sum_of<count / 2, step>(v + (count - count / 2) * step);
}

// Views in memory. (Another source of a diagonal tile makes its views on the way: pointwise_stats.cpp.)
template <class T>
struct InMemory {
  using Element = T;
  const T* x;
  int64_t stride;
  void take(int view, int64_t d, Vec<Wide<T>>* group) const { load_group(x + view * stride + d, group); }
};

// Every pair of views, n elements (whole groups) of each, and what it says besides: the elements are in registers
// already. Each is taken once from the source, which is passed by value to be kept in registers too.
template <int views, DiagonalWork work, class Source>
[[gnu::noinline]] void add_diagonal_tile(Source source, int64_t n, Slots<Wide<typename Source::Element>> slots,
                                         const DiagonalOutputs<Wide<typename Source::Element>>& outputs) {
  using T = typename Source::Element;
  using A = Wide<T>;
  constexpr int columns = kColumns<T>, group = kGroup<T>;
  constexpr bool with_norms = work != DiagonalWork::nothing, with_sum = work == DiagonalWork::norms_and_sum;
  constexpr int sets = sets_for(views * (views - 1) / 2 + (with_norms ? views : 0));
  constexpr int groups = sets > columns ? sets / columns : 1;  // per step of the loop
  [[maybe_unused]] A* const view_sum = outputs.view_sum;
  [[maybe_unused]] const bool more = views > 2 && outputs.more;  // two views are all there are
  Vec<A> sum[sets][views][views] = {};

  const auto add_group = [&](int64_t d, auto first_set) MEMKERN_INLINE {
    constexpr int first = decltype(first_set)::value;
    Vec<A> view[views][columns];
    each<views>([&](auto i) MEMKERN_INLINE { source.take(i, d, view[i]); });
    each<columns>([&](auto column) MEMKERN_INLINE {
      constexpr int c = decltype(column)::value, set = (first + c) % sets;
      if constexpr (with_sum) {
        A* const to = view_sum + d + c * Lanes<A>::count;
        const Vec<A> total = sum_of<views, columns>(&view[0][c]);
        store(to, more ? load(to) + total : total);
      }
      each<views>([&](auto row) MEMKERN_INLINE {
        constexpr int i = decltype(row)::value;
        if constexpr (with_norms) sum[set][i][i] += view[i][c] * view[i][c];
        each<views - 1 - i>([&](auto other) MEMKERN_INLINE {
          constexpr int j = i + 1 + decltype(other)::value;
          const Vec<A> difference = view[i][c] - view[j][c];
          sum[set][i][j] += difference * difference;
        });
      });
    });
  };

  int64_t d = 0;
  for (; d + groups * group <= n; d += groups * group)
    each<groups>([&](auto g) MEMKERN_INLINE {
      add_group(d + g * group, std::integral_constant<int, decltype(g)::value * columns>{});
    });
  for (; d < n; d += group) add_group(d, std::integral_constant<int, 0>{});

  each<views>([&](auto row) MEMKERN_INLINE {
    constexpr int i = decltype(row)::value;
    each<views - i>([&](auto other) MEMKERN_INLINE {
      constexpr int j = i + decltype(other)::value;
      if constexpr (i != j || with_norms) {
        Vec<A> total = sum[0][i][j];
        each<sets - 1>([&](auto s) MEMKERN_INLINE { total += sum[s + 1][i][j]; });
        if constexpr (i != j)
          slots(i, j) += total;
        else if (outputs.norms)
          outputs.norms[i] += total;
      }
    });
  });
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
    each<views>([&](auto i) MEMKERN_INLINE { load_group(x + i * stride + d, view[i]); });
    each<columns>([&](auto column) MEMKERN_INLINE {
      constexpr int c = decltype(column)::value;
      each<views>([&](auto i) MEMKERN_INLINE {
        const Vec<A> difference = first[c] - view[i][c];
        pair_sum[c % sets][i] += difference * difference;
        norm_sum[c % sets][i] += view[i][c] * view[i][c];
      });
    });
  }
  each<views>([&](auto i) MEMKERN_INLINE {
    pairs[i] += sets == 2 ? pair_sum[0][i] + pair_sum[sets - 1][i] : pair_sum[0][i];
    norms[i] += sets == 2 ? norm_sum[0][i] + norm_sum[sets - 1][i] : norm_sum[0][i];
  });
}

// Any number of views up to kFewViews: six have 15 sums and, of unit vectors, 6 norms, for which 32 registers suffice.
#if defined(__AVX512F__)
constexpr int64_t kFewViews = 6;
#else
constexpr int64_t kFewViews = 5;
#endif

template <int views, class T>
inline void add_diagonal_of(InMemory<T> x, int64_t n, Slots<Wide<T>> slots, const DiagonalOutputs<Wide<T>>& outputs) {
  if (outputs.view_sum) return add_diagonal_tile<views, DiagonalWork::norms_and_sum>(x, n, slots, outputs);
  if (outputs.norms) return add_diagonal_tile<views, DiagonalWork::norms>(x, n, slots, outputs);
  add_diagonal_tile<views, DiagonalWork::nothing>(x, n, slots, outputs);
}

template <class T>
inline void add_diagonal(int64_t views, InMemory<T> x, int64_t n, Slots<Wide<T>> slots,
                         const DiagonalOutputs<Wide<T>>& outputs) {
  switch (views) {
    case 2:
      return add_diagonal_of<2>(x, n, slots, outputs);
    case 3:
      return add_diagonal_of<3>(x, n, slots, outputs);
    case 4:
      return add_diagonal_of<4>(x, n, slots, outputs);
    case 5:
      return add_diagonal_of<5>(x, n, slots, outputs);
    default:
      if constexpr (kFewViews > 5) add_diagonal_of<6>(x, n, slots, outputs);
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
