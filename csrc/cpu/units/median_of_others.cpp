// median_of_others: per column the median of all values but one copy of the largest, which is an order statistic of
// the whole column: nothing has to be removed.
//
// Few points: columns are sorted side by side, one per lane, by a sorting network.
// Many points: a sorted sample of rows (side by side again) gives each column two pivots with the wanted ranks between
// them. One pass over the matrix counts what lies below and keeps what lies between, a fifth of the values or less;
// the ranks are then found among those. Rows are turned into columns by register transposes, a cacheful at a time.
#include "cpu/dispatch/kernels.h"
#include "cpu/dispatch/scratch.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// The wanted order statistics: one, or two neighbours whose mean is taken.
struct Ranks {
  int64_t low, high;
};

template <class A>
struct Pair {
  A low, high;
};

// ---- sorting side by side ----------------------------------------------------------------------------------------

// Sorts rows[0..n) in every lane: Batcher's merge exchange (Knuth, volume 3, 5.2.2 M), for any n. Its comparisons do
// not depend on the data, so W columns cost as much as one.
template <class A>
void sort_lanes(Vec<A>* rows, int64_t n) {
  int64_t top = 1;
  while (top * 2 < n) top *= 2;
  for (int64_t p = top; p > 0; p /= 2) {
    int64_t r = 0, d = p;
    for (int64_t q = top;; q /= 2) {
      for (int64_t block = r; block < n - d; block += 2 * p) {
        const int64_t end = block + p < n - d ? block + p : n - d;
        for (int64_t i = block; i < end; ++i) {
          const Vec<A> a = rows[i], b = rows[i + d];
          rows[i] = a < b ? a : b;
          rows[i + d] = a < b ? b : a;
        }
      }
      if (q == p) break;
      d = q - p;
      r = p;
    }
  }
}

// ---- one column --------------------------------------------------------------------------------------------------

// Copies the values that pass `keep` (which takes vectors and single values) and returns how many they were. Writes up
// to a vector past them. `kept` may be `values` itself.
template <class A, class Keep>
int64_t keep_if(const A* values, int64_t n, A* kept, const Keep& keep) {
  int64_t i = 0, count = 0;
#if defined(__AVX512F__)
  // A register compress and a whole store, where the portable loop below stores element by element.
  for (; i + Lanes<A>::count <= n; i += Lanes<A>::count) {
    const Vec<A> v = load(values + i);
    if constexpr (sizeof(A) == 4) {
      const __mmask16 mask = _mm512_movepi32_mask((__m512i)keep(v));
      store(kept + count, (Vec<A>)_mm512_maskz_compress_ps(mask, (__m512)v));
      count += __builtin_popcount(mask);
    } else {
      const __mmask8 mask = _mm512_movepi64_mask((__m512i)keep(v));
      store(kept + count, (Vec<A>)_mm512_maskz_compress_pd(mask, (__m512d)v));
      count += __builtin_popcount(mask);
    }
  }
#endif
  for (; i < n; ++i) {  // no branch: which values pass cannot be predicted
    const A v = values[i];
    kept[count] = v;
    count += keep(v);
  }
  return count;
}

template <class A, class Test>
int64_t count_if(const A* values, int64_t n, const Test& test) {
  using Bits = typename Lanes<A>::Bits;
  Bits counts{};
  int64_t i = 0;
  for (; i + Lanes<A>::count <= n; i += Lanes<A>::count) counts -= (Bits)test(load(values + i));
  int64_t count = 0;
  for (int lane = 0; lane < Lanes<A>::count; ++lane) count += int64_t(counts[lane]);
  for (; i < n; ++i) count += test(values[i]);
  return count;
}

template <class A>
void insertion_sort(A* values, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const A v = values[i];
    int64_t j = i;
    for (; j > 0 && v < values[j - 1]; --j) values[j] = values[j - 1];
    values[j] = v;
  }
}

// The order statistics of n values without NaN, which are overwritten. Quickselect that keeps one side; values equal to
// the pivot are dropped with it, so a column of few distinct values ends early.
template <class A>
Pair<A> select(A* values, int64_t n, Ranks ranks) {
  uint64_t random = 0x9e3779b97f4a7c15u;
  while (n > 16) {
    A sample[3];
    for (A& s : sample) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      s = values[(random >> 33) % uint64_t(n)];
    }
    insertion_sort(sample, 3);
    const A pivot = sample[1];
    const int64_t below = count_if(values, n, [=](auto v) { return v < pivot; });
    const int64_t up_to = count_if(values, n, [=](auto v) { return v <= pivot; });
    if (ranks.low >= below && ranks.high < up_to) return {pivot, pivot};
    if (ranks.low < up_to && ranks.high >= below) {  // the two ranks lie on both sides of the pivot's edge
      A largest_below = pivot, smallest_above = pivot;
      bool any_below = false, any_above = false;
      for (int64_t i = 0; i < n; ++i) {
        const A v = values[i];
        if (v < pivot && (!any_below || v > largest_below)) largest_below = v, any_below = true;
        if (v > pivot && (!any_above || v < smallest_above)) smallest_above = v, any_above = true;
      }
      return ranks.low < below ? Pair<A>{largest_below, pivot} : Pair<A>{pivot, smallest_above};
    }
    if (ranks.high < below) {
      n = keep_if(values, n, values, [=](auto v) { return v < pivot; });
    } else {
      n = keep_if(values, n, values, [=](auto v) { return v > pivot; });
      ranks = {ranks.low - up_to, ranks.high - up_to};
    }
  }
  insertion_sort(values, n);
  return {values[ranks.low], values[ranks.high]};
}

// Findings of one pass over a column: how many values lie below `floor`, how many equal it at most, and the values
// above it up to `ceiling`.
template <class A>
struct Window {
  A floor, ceiling;
  int64_t below = 0, up_to_floor = 0, kept = 0;

  void add(const A* values, int64_t n, A* keep) {
    const A low = floor, high = ceiling;
    below += count_if(values, n, [=](auto v) { return v < low; });
    up_to_floor += count_if(values, n, [=](auto v) { return v <= low; });
    kept += keep_if(values, n, keep + kept, [=](auto v) { return (v > low) & (v <= high); });
  }

  bool holds(Ranks ranks) const { return ranks.low >= below && ranks.high < up_to_floor + kept; }

  Pair<A> find(Ranks ranks, A* values) const {
    if (ranks.high < up_to_floor) return {floor, floor};
    if (ranks.low >= up_to_floor) return select(values, kept, {ranks.low - up_to_floor, ranks.high - up_to_floor});
    return {floor, select(values, kept, {0, 0}).low};  // fault: floor and above
  }
};

// ---- blocks of columns -------------------------------------------------------------------------------------------

// Turns W vectors of W lanes: interleaving the halves log2(W) times is a transpose.
template <class A>
[[gnu::always_inline]] inline void transpose(Vec<A>* v) {
  constexpr int lanes = Lanes<A>::count;
  for (int step = 1; step < lanes; step *= 2) {
    Vec<A> turned[lanes];
    for (int i = 0; i < lanes / 2; ++i) {
      turned[2 * i] = interleaved_half<0, A>(v[i], v[i + lanes / 2], LaneIndices<A>{});
      turned[2 * i + 1] = interleaved_half<1, A>(v[i], v[i + lanes / 2], LaneIndices<A>{});
    }
    for (int i = 0; i < lanes; ++i) v[i] = turned[i];
  }
}

template <class A>
class ColumnMedians {
  static constexpr int kLanes = Lanes<A>::count;
  static constexpr int64_t kSortedPoints = 512;  // up to here everything is sorted
  static constexpr int64_t kMostSamples = 1024;
  static constexpr int64_t kBlock = 64;                      // columns handled together: 256 bytes of each row
  static constexpr int64_t kChunk = 256;                     // rows turned at a time
  static constexpr int64_t kColumnStride = kChunk + kLanes;  // not a multiple of 4 KB over a few columns

 public:
  // fault: ranks
  explicit ColumnMedians(const MedianOfOthers& op)
      : op_(op),
        means_(static_cast<const A*>(op.means)),
        ranks_{(op.points - 2) / 2, (op.points - 1) / 2},
        sorted_((op.points > kSortedPoints ? kMostSamples : kSortedPoints)),
        turned_(op.points > kSortedPoints ? kBlock * kColumnStride : 1),
        kept_(op.points > kSortedPoints ? kBlock * kept_stride() : 1) {}

  void run(int64_t first, int64_t last) {
    const int64_t block = op_.points > kSortedPoints ? kBlock : kLanes;
    for (int64_t u = first; u < last; u += block) {
      const int64_t columns = last - u < block ? last - u : block;
      if (op_.points > kSortedPoints)
        select_block(u, columns);
      else
        sort_group(u, columns);
    }
  }

 private:
  int64_t kept_stride() const { return op_.points + 2 * kLanes; }
  A* kept_of(int64_t column) const { return kept_.get() + column * kept_stride(); }
  A& median(int64_t unit) const { return static_cast<A*>(op_.median)[unit]; }
  static A mean(Pair<A> pair) { return A((double(pair.low) + double(pair.high)) * 0.5); }

  // Up to W neighbours of one row, of which the first `columns` count; beyond the last unit nothing may be read.
  Vec<A> load_columns(int64_t point, int64_t unit, int64_t columns) const {
    const A* const row = means_ + point * op_.point_stride + unit;
    if (unit + kLanes <= op_.units) return load(row);
    Vec<A> v{};
    std::memcpy(&v, row, size_t(columns < kLanes ? columns : kLanes) * sizeof(A));
    return v;
  }

  void sort_group(int64_t unit, int64_t columns) {
    Vec<A> poison{};  // NaN in the lanes that have seen one, else 0
    for (int64_t p = 0; p < op_.points; ++p) {
      sorted_[p] = load_columns(p, unit, columns);
      poison = sorted_[p] != sorted_[p] ? sorted_[p] : poison;
    }
    sort_lanes<A>(sorted_.get(), op_.points);
    for (int64_t c = 0; c < columns; ++c)
      median(unit + c) = mean({sorted_[ranks_.low][c], sorted_[ranks_.high][c]}) + poison[c];
  }

  void select_block(int64_t unit, int64_t columns) {
    Window<A> windows[kBlock];
    bool wanted[kBlock];
    Vec<A> poison[kBlock / kLanes] = {};
    for (int64_t c = 0; c < columns; c += kLanes) choose_windows(unit + c, columns - c, windows + c);
    for (int64_t c = 0; c < columns; ++c) wanted[c] = true;
    pass(unit, columns, windows, wanted, poison);
    // A sample can mislead; the half line that holds the ranks is certain.
    bool again = false;
    for (int64_t c = 0; c < columns; ++c) {
      wanted[c] = !windows[c].holds(ranks_);
      again |= wanted[c];
      if (!wanted[c]) continue;
      if (ranks_.low < windows[c].below)
        windows[c] = {-kInfinity, windows[c].ceiling};
      else
        windows[c] = {windows[c].floor, kInfinity};
    }
    if (again) pass(unit, columns, windows, wanted, poison);  // fault: second pass
    for (int64_t c = 0; c < columns; ++c) {
      const A nan_or_zero = poison[c / kLanes][c % kLanes];
      median(unit + c) = nan_or_zero != 0 ? nan_or_zero : mean(windows[c].find(ranks_, kept_of(c)));
    }
  }

  // A window around the wanted ranks of up to W columns: the ranks in a sorted sample, give or take 3.5 times their
  // spread, so that one column in 2000 misses.
  void choose_windows(int64_t unit, int64_t columns, Window<A>* windows) {
    int64_t samples = 64;
    while (samples < kMostSamples && samples * samples * 16 < op_.points * 5) samples *= 2;
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (int64_t i = 0; i < samples; ++i) {  // one row at random out of each of `samples` parts
      random = random * 6364136223846793005u + 1442695040888963407u;
      const int64_t first = op_.points * i / samples, size = op_.points * (i + 1) / samples - first;
      sorted_[i] = load_columns(first + int64_t((random >> 33) % uint64_t(size)), unit, columns);
    }
    sort_lanes<A>(sorted_.get(), samples);
    const double middle = (double(ranks_.low) + 0.5) / double(op_.points) * double(samples);
    const double spread = 3.5 * 0.5 * __builtin_sqrt(double(samples));
    const int64_t floor = int64_t(middle - spread), ceiling = int64_t(middle + spread) + 1;
    for (int64_t c = 0; c < kLanes && c < columns; ++c)
      windows[c] = {floor < 0 ? -kInfinity : sorted_[floor][c], ceiling < samples ? sorted_[ceiling][c] : kInfinity};
  }

  // Reads the block once: transposes a chunk of rows into columns that stay in cache, and shows them to the windows.
  void pass(int64_t unit, int64_t columns, Window<A>* windows, const bool* wanted, Vec<A>* poison) {
    for (int64_t p = 0; p < op_.points; p += kChunk) {
      const int64_t rows = op_.points - p < kChunk ? op_.points - p : kChunk;
      for (int64_t r = 0; r < rows; r += kLanes)
        for (int64_t c = 0; c < columns; c += kLanes)
          turn(p + r, rows - r, unit + c, columns - c, turned_.get() + c * kColumnStride + r, poison[c / kLanes]);
      for (int64_t c = 0; c < columns; ++c)
        if (wanted[c]) windows[c].add(turned_.get() + c * kColumnStride, rows, kept_of(c));
    }
  }

  // W rows by W columns, fewer at the edges.
  void turn(int64_t point, int64_t rows, int64_t unit, int64_t columns, A* out, Vec<A>& poison) const {
    Vec<A> v[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      v[r] = r < rows ? load_columns(point + r, unit, columns) : Vec<A>{};
      if (r < rows)
        prefetch(means_ + (point + r) * op_.point_stride + unit, kLanes * op_.point_stride * int64_t(sizeof(A)));
      poison = v[r] != v[r] ? v[r] : poison;
    }
    transpose<A>(v);
    for (int c = 0; c < kLanes; ++c) store(out + c * kColumnStride, v[c]);
  }

  static constexpr A kInfinity = A(__builtin_inf());

  const MedianOfOthers& op_;
  const A* const means_;
  const Ranks ranks_;
  const Scratch<Vec<A>> sorted_;    // points or samples, a column per lane
  const Scratch<A> turned_, kept_;  // [block][chunk], [block][points]
};

}  // namespace

void median_of_others(const MedianOfOthers& op, const WorkRange& range) {
  if (op.dtype == DType::float64)
    ColumnMedians<double>(op).run(range.first, range.last);
  else
    ColumnMedians<float>(op).run(range.first, range.last);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
