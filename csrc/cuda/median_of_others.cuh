// median_of_others: the median of each column of [points, units] without one copy of its largest value.
//
// The value of a rank is found digit by digit from the top: each pass counts, among the keys that agree so far, how
// many have each next digit. A block has 32 columns, a lane for each; its warps share the rows and the counters.
//   median_of_others              up to kMedianRows rows: one block makes every pass (4 of 8 bits for float)
//   count_digits, choose_digits   more: blocks count chunks of the rows, and the counts of all chunks decide a digit;
//                                 two launches a pass
#pragma once
#include "elements.cuh"
#include "launch_constants.h"
#include "reduce.cuh"

namespace memkern {

// Unsigned keys in the order of the values; every NaN above all numbers.
template <class A>
struct KeyOf {
  using type = uint32_t;
};
template <>
struct KeyOf<double> {
  using type = uint64_t;
};
template <class A>
using Key = typename KeyOf<A>::type;

template <class A>
__device__ __forceinline__ Key<A> key_of(A x) {
  constexpr Key<A> sign = Key<A>{1} << (sizeof(A) * 8 - 1);
  const Key<A> bits = bits_of(x);
  return x != x ? ~Key<A>{} : bits & sign ? ~bits : bits | sign;
}
__device__ __forceinline__ float value_of(uint32_t key) {
  return float_of_bits(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}
__device__ __forceinline__ double value_of(uint64_t key) {
  constexpr uint64_t sign = uint64_t{1} << 63;
  return double_of_bits(key & sign ? key ^ sign : ~key);
}

constexpr int kMedianThreads = kMedianUnits * kMedianWarps;
constexpr int kDigits = 1 << kMedianBits;
static_assert(kMedianUnits == kWarp, "a warp reads a row");

using Counts = uint32_t[kDigits][kMedianUnits];  // of each digit of each column, in shared memory: a lane has a bank

template <class A>
constexpr int kTopShift = int(sizeof(A)) * 8 - kMedianBits;

// The bits below the digits that are found before the pass at `shift`.
template <class A>
__device__ __forceinline__ Key<A> open_bits(int shift) {
  return ~Key<A>{} >> (kTopShift<A> - shift);
}

// A lane's column: these rows of it.
template <class A>
struct Column {
  const A* data;
  int64_t stride, first, last;
};

template <class A>
__device__ __forceinline__ Column<A> column_of(const MedianOfOthers& op, int64_t unit, int64_t first, int64_t last) {
  return {static_cast<const A*>(op.means) + (unit < op.units ? unit : op.units - 1), op.point_stride, first, last};
}

// Keys that the digits do not tell.
template <class A>
struct Extremes {
  Key<A> above;             // the smallest of those above all that agree
  Key<A> inverted_largest;  // 0 if there is a NaN
};

// One pass: counts the digits at `shift` of the keys that agree with `prefix`. All threads of the block call it; the
// counts are complete for all of them, the extremes are those of the thread's rows.
template <class A>
__device__ __forceinline__ Extremes<A> count_column(const Column<A>& column, Key<A> prefix, int shift, Counts& counts) {
  for (int digit = warp_index(); digit < kDigits; digit += kMedianWarps) counts[digit][lane_index()] = 0;
  __syncthreads();
  const Key<A> open = open_bits<A>(shift);
  Extremes<A> seen{~Key<A>{}, ~Key<A>{}};
  for (int64_t row = column.first + warp_index(); row < column.last; row += kMedianUnroll * kMedianWarps) {
    A value[kMedianUnroll][1];
#pragma unroll
    for (int i = 0; i < kMedianUnroll; ++i) {
      const int64_t at = row + i * kMedianWarps;
      load_some<A, 1>(column.data + (at < column.last ? at : row) * column.stride, at < column.last, value[i]);
    }
#pragma unroll
    for (int i = 0; i < kMedianUnroll; ++i) {
      if (row + i * kMedianWarps >= column.last) break;
      const Key<A> key = key_of(value[i][0]);
      if ((key ^ prefix) <= open) count_up(counts[int(key >> shift) & (kDigits - 1)][lane_index()]);
      if (key > (prefix | open) && key < seen.above) seen.above = key;
      if (~key < seen.inverted_largest) seen.inverted_largest = ~key;
    }
  }
  __syncthreads();
  return seen;
}

// The digit of a rank in each lane's column; `rank` goes on among the keys that have it. All threads of the block call
// it, after a barrier; it ends with one.
__device__ __forceinline__ int choose_digit(const Counts& counts, uint32_t& rank) {
  constexpr int size = kDigits / kMedianWarps;  // digits of a group
  MEMKERN_SHARED(uint32_t[kMedianWarps][kMedianUnits], groups);
  uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < size; ++i) sum += counts[warp_index() * size + i][lane_index()];
  groups[warp_index()][lane_index()] = sum;
  __syncthreads();
  int group = 0;
  while (group < kMedianWarps - 1 && rank >= groups[group][lane_index()]) rank -= groups[group++][lane_index()];
  int digit = group * size;
  while (digit < group * size + size - 1 && rank >= counts[digit][lane_index()]) rank -= counts[digit++][lane_index()];
  __syncthreads();  // the counters and groups are free again
  return digit;
}

// The smallest over the block's warps of each lane's key. All threads of the block call it.
template <class A>
__device__ __forceinline__ Key<A> smallest_key(Key<A> key) {
  MEMKERN_SHARED(Key<A>[kMedianWarps][kMedianUnits], keys);
  keys[warp_index()][lane_index()] = key;
  __syncthreads();
  for (int warp = 0; warp < kMedianWarps; ++warp)
    if (keys[warp][lane_index()] < key) key = keys[warp][lane_index()];
  __syncthreads();
  return key;
}

// After the last pass, of one warp: `rank` is that of the wanted key among its equals.
template <class A>
__device__ __forceinline__ void write_median(const MedianOfOthers& op, int64_t unit, Key<A> key, uint32_t rank,
                                             const Counts& counts, Extremes<A> seen) {
  const int digit = int(key) & (kDigits - 1);
  Key<A> next = key;
  if (op.points % 2 == 1 && counts[digit][lane_index()] - rank == 1) {  // two middle values, and this is one of them
    next = seen.above;
    for (int other = kDigits - 1; other > digit; --other)
      if (counts[other][lane_index()] > 0) next = key - Key<A>(digit) + Key<A>(other);
  }
  const A median = A((double(value_of(key)) + double(value_of(next))) / 2);
  const bool any_nan = seen.inverted_largest == 0;
  if (unit < op.units) static_cast<A*>(op.median)[unit] = any_nan ? value_of(~Key<A>{}) : median;
}

__device__ __forceinline__ uint32_t median_rank(const MedianOfOthers& op) { return uint32_t((op.points - 2) / 2); }

// grid: x = units / 32.
template <class A>
__global__ void __launch_bounds__(kMedianThreads, 2) median_of_others(const MedianOfOthers op) {
  MEMKERN_SHARED(Counts, counts);
  const int64_t unit = int64_t(blockIdx.x) * kMedianUnits + lane_index();
  const Column<A> column = column_of<A>(op, unit, 0, op.points);
  Key<A> prefix = 0;
  uint32_t rank = median_rank(op);
  Extremes<A> seen{};
  for (int shift = kTopShift<A>; shift >= 0; shift -= kMedianBits) {
    seen = count_column(column, prefix, shift, counts);
    prefix |= Key<A>(choose_digit(counts, rank)) << shift;
  }
  seen = {smallest_key<A>(seen.above), smallest_key<A>(seen.inverted_largest)};
  if (warp_index() == 0) write_median(op, unit, prefix, rank, counts, seen);
}

// ---- more rows ----------------------------------------------------------------------------------------------------

struct MedianChunks {
  int64_t rows, count;     // of a chunk; chunks
  uint32_t* counts;        // [chunks, digits, units]
  uint32_t* rank;          // [units]: as in write_median
  void* prefix;            // [units] keys: the digits found
  void* above;             // [chunks, units] keys, of the last pass, as in Extremes
  void* inverted_largest;  // [chunks, units]
};

// grid: x = units / 32, y = chunks.
template <class A>
__global__ void __launch_bounds__(kMedianThreads, 2)
    count_digits(const MedianOfOthers op, const MedianChunks chunks, int shift) {
  MEMKERN_SHARED(Counts, counts);
  const int64_t unit = int64_t(blockIdx.x) * kMedianUnits + lane_index(), chunk = blockIdx.y;
  const int64_t first = chunk * chunks.rows, last = first + chunks.rows < op.points ? first + chunks.rows : op.points;
  const Column<A> column = column_of<A>(op, unit, first, last);
  const bool writes = unit < op.units;
  const Key<A> prefix = shift < kTopShift<A> && writes ? static_cast<const Key<A>*>(chunks.prefix)[unit] : 0;
  Extremes<A> seen = count_column(column, prefix, shift, counts);
  for (int digit = warp_index(); writes && digit < kDigits; digit += kMedianWarps)
    chunks.counts[(chunk * kDigits + digit) * op.units + unit] = counts[digit][lane_index()];
  if (shift > 0) return;
  seen = {smallest_key<A>(seen.above), smallest_key<A>(seen.inverted_largest)};
  if (!writes || warp_index() > 0) return;
  static_cast<Key<A>*>(chunks.above)[chunk * op.units + unit] = seen.above;
  static_cast<Key<A>*>(chunks.inverted_largest)[chunk * op.units + unit] = seen.inverted_largest;
}

// grid: x = units / 32.
template <class A>
__global__ void __launch_bounds__(kMedianThreads)
    choose_digits(const MedianOfOthers op, const MedianChunks chunks, int shift) {
  MEMKERN_SHARED(Counts, counts);
  const int64_t unit = int64_t(blockIdx.x) * kMedianUnits + lane_index();
  const int64_t column = unit < op.units ? unit : op.units - 1;
  for (int digit = warp_index(); digit < kDigits; digit += kMedianWarps) {
    uint32_t sum = 0;
#pragma unroll 8
    for (int64_t c = 0; c < chunks.count; ++c) sum += chunks.counts[(c * kDigits + digit) * op.units + column];
    counts[digit][lane_index()] = sum;
  }
  const bool top = shift == kTopShift<A>;
  Key<A>* const prefixes = static_cast<Key<A>*>(chunks.prefix);
  Key<A> prefix = top ? 0 : prefixes[column];
  uint32_t rank = top ? median_rank(op) : chunks.rank[column];
  __syncthreads();
  prefix |= Key<A>(choose_digit(counts, rank)) << shift;
  if (shift > 0) {
    if (unit >= op.units || warp_index() > 0) return;
    prefixes[unit] = prefix;
    chunks.rank[unit] = rank;
    return;
  }
  Extremes<A> seen{~Key<A>{}, ~Key<A>{}};
  for (int64_t c = warp_index(); c < chunks.count; c += kMedianWarps) {
    const Key<A> above = static_cast<const Key<A>*>(chunks.above)[c * op.units + column];
    const Key<A> inverted = static_cast<const Key<A>*>(chunks.inverted_largest)[c * op.units + column];
    seen = {above < seen.above ? above : seen.above,
            inverted < seen.inverted_largest ? inverted : seen.inverted_largest};
  }
  seen = {smallest_key<A>(seen.above), smallest_key<A>(seen.inverted_largest)};
  if (warp_index() == 0) write_median(op, unit, prefix, rank, counts, seen);
}

}  // namespace memkern
