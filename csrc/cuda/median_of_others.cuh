// median_of_others: the median of each column of [points, units] without one copy of its largest value.
//
// The value of a rank is found digit by digit from the top: each pass counts, among the keys that agree so far, how
// many have each next digit. A block keeps 32 columns; its warps share the rows. Columns that fit the caches are read
// from DRAM once; others once per pass (8 of 4 bits for float).
#pragma once
#include "elements.cuh"
#include "reduce.cuh"
#include "settings.h"

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

constexpr int kMedianThreads = kMedianUnits * kMedianRows;
constexpr int kDigits = 1 << kMedianBits;
static_assert(kMedianUnits == kWarp, "a warp reads a row");

template <class A>
struct Column {
  const A* data;
  int64_t points, stride;

  // Calls use(key) for the rows of this warp.
  template <class Use>
  __device__ __forceinline__ void for_each_key(const Use& use) const {
#pragma unroll 4
    for (int64_t row = warp_index(); row < points; row += kMedianRows) {
      A value[1];
      load<A, 1>(data + row * stride, value);
      use(key_of(value[0]));
    }
  }
};

template <class A>
struct Selected {
  Key<A> key;       // of the wanted rank
  int64_t further;  // how many more keys are equal to it and have a higher rank
};

// The key of a rank in each lane's column. All threads of the block call it.
template <class A>
__device__ __forceinline__ Selected<A> select_rank(const Column<A>& column, int64_t rank) {
  MEMKERN_SHARED(uint32_t[kDigits][kMedianThreads], counts);
  Key<A> prefix = 0, decided = 0;
  int64_t equal = 0;
  for (int shift = int(sizeof(A)) * 8 - kMedianBits; shift >= 0; shift -= kMedianBits) {
    for (int digit = 0; digit < kDigits; ++digit) counts[digit][threadIdx.x] = 0;
    column.for_each_key([&](Key<A> key) {
      if ((key & decided) == prefix) ++counts[int(key >> shift) & (kDigits - 1)][threadIdx.x];
    });
    __syncthreads();
    int digit = -1;
    do {
      rank -= equal;  // below this digit
      equal = 0;
      ++digit;
      for (int warp = 0; warp < kMedianRows; ++warp) equal += counts[digit][warp * kWarp + lane_index()];
    } while (rank >= equal && digit < kDigits - 1);
    prefix |= Key<A>(digit) << shift;
    decided |= Key<A>(kDigits - 1) << shift;
    if (shift > 0) equal = 0;
    __syncthreads();  // the counters are free again
  }
  return {prefix, equal - rank - 1};
}

// The smallest over the block's warps of each lane's key.
template <class A>
__device__ __forceinline__ Key<A> smallest_key(Key<A> key) {
  MEMKERN_SHARED(Key<A>[kMedianRows][kWarp], keys);
  keys[warp_index()][lane_index()] = key;
  __syncthreads();
  for (int warp = 0; warp < kMedianRows; ++warp)
    if (keys[warp][lane_index()] < key) key = keys[warp][lane_index()];
  __syncthreads();
  return key;
}

// grid: x = units / 32.
template <class A>
__global__ void __launch_bounds__(kMedianThreads) median_of_others(const MedianOfOthers op) {
  const int64_t unit = int64_t(blockIdx.x) * kMedianUnits + lane_index();
  const bool writes = unit < op.units && warp_index() == 0;
  const Column<A> column{static_cast<const A*>(op.means) + (unit < op.units ? unit : op.units - 1), op.points,
                         op.point_stride};
  const int64_t others = op.points - 1, rank = (others - 1) / 2;
  const Selected<A> middle = select_rank(column, rank);

  Key<A> above = ~Key<A>{}, inverted_largest = ~Key<A>{};
  column.for_each_key([&](Key<A> key) {
    if (key > middle.key && key < above) above = key;
    if (~key < inverted_largest) inverted_largest = ~key;
  });
  above = smallest_key<A>(above);
  inverted_largest = smallest_key<A>(inverted_largest);

  if (!writes) return;
  // two middle values where the others are even in number
  const A low = value_of(middle.key), high = others % 2 == 1 || middle.further > 0 ? low : value_of(above);
  const bool any_nan = inverted_largest == 0;
  const A median = A((double(low) + double(high)) / 2);
  static_cast<A*>(op.median)[unit] = any_nan ? value_of(~Key<A>{}) : median;
}

}  // namespace memkern
