// Squared distances of many pairs of unit vectors in one pass over the views, as torch would take them: elements
// divided by their norm, subtracted, squared. For points most pairs of which the sums of raw elements cannot tell
// (distances.h).
#pragma once
#include "rows.h"

namespace memkern {
namespace MEMKERN_ISA {

struct NumberedPair {
  int64_t number, first, second;
};

// Dims at a time: 20 KB for ten views, which stay in L1 while their pairs are taken.
constexpr int64_t kUnitDims = 512;

// sums[p] = |a / |a| - b / |b||^2 for the views of pair[p]. `inverses`: one over each norm. `rows`: [views, kUnitDims].
template <class T>
void unit_pair_sums(const char* point_bytes, int64_t view_stride, int64_t views, int64_t dims, const double* inverses,
                    const NumberedPair* pair, int64_t pairs, float* rows, double* sums) {
  constexpr int64_t lanes = Lanes<float>::count, at_once = 4 * lanes;
  static_assert(kUnitDims % at_once == 0 && kUnitDims % kGroup<T> == 0);
  const T* const point = reinterpret_cast<const T*>(point_bytes);
  for (int64_t p = 0; p < pairs; ++p) sums[p] = 0;
  for (int64_t d = 0; d < dims; d += kUnitDims) {
    const int64_t n = dims - d < kUnitDims ? dims - d : kUnitDims, end = (n + at_once - 1) / at_once * at_once;
    for (int64_t v = 0; v < views; ++v) {
      float* const row = rows + v * kUnitDims;
      std::memset(row + n, 0, size_t(end - n) * sizeof(float));
      widen_row(point + v * view_stride + d, n, row);
      for (int64_t e = 0; e < end; e += lanes) store(row + e, load(row + e) * float(inverses[v]));
    }
    for (int64_t p = 0; p < pairs; ++p) {
      const float *const a = rows + pair[p].first * kUnitDims, *const b = rows + pair[p].second * kUnitDims;
      Vec<float> sum[4] = {};
      for (int64_t e = 0; e < end; e += at_once)
        for (int i = 0; i < 4; ++i) {
          const Vec<float> difference = load(a + e + i * lanes) - load(b + e + i * lanes);
          sum[i] += difference * difference;
        }
      sums[p] += double(sum_lanes<float>((sum[0] + sum[1]) + (sum[2] + sum[3])));
    }
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
