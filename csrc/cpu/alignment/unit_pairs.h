// Squared distances of many pairs of unit vectors in one pass over the views: of each pair one is brought to the length
// of the other, element by element. For points some pairs of which the sums of raw elements cannot tell (distances.h).
#pragma once
#include <type_traits>

#include "cpu/simd/row_io.h"

namespace memkern {
namespace MEMKERN_ISA {

struct NumberedPair {
  int64_t number, first, second;
};

// Dims at a time: 20 KB for ten views, which stay in L1 while their pairs are taken.
constexpr int64_t kUnitDims = 512;

// sums[p] += |a - scale[p] b[p]|^2 for `count` rows b[p]; n floats of each, a multiple of four vectors.
template <int count>
[[gnu::noinline]] void add_squares(const float* a, const float* const* b, const float* scale, int64_t n, double* sums) {
  constexpr int lanes = Lanes<float>::count,
                sets = count == 1 ? 4 : 2;  // two at least: a sum waits 4 cycles for itself
  Vec<float> sum[count][sets] = {}, factor[count];
  each<count>([&](auto p) MEMKERN_INLINE { factor[p] = broadcast(scale[p]); });
  for (int64_t e = 0; e < n; e += 4 * lanes)
    each<4>([&](auto vector) MEMKERN_INLINE {
      constexpr int v = decltype(vector)::value;
      const Vec<float> left = load(a + e + v * lanes);
      each<count>([&](auto p) MEMKERN_INLINE {
        const Vec<float> difference = left - load(b[p] + e + v * lanes) * factor[p];  // fault: unit pair
        sum[p][v % sets] += difference * difference;
      });
    });
  each<count>([&](auto p) MEMKERN_INLINE {
    Vec<float> total = sum[p][0] + sum[p][1];
    if constexpr (sets == 4) total += sum[p][2] + sum[p][3];
    sums[p] += double(sum_lanes<float>(total));
  });
}

inline void add_squares(int count, const float* a, const float* const* b, const float* scale, int64_t n, double* sums) {
  switch (count) {
    case 1:
      return add_squares<1>(a, b, scale, n, sums);
    case 2:
      return add_squares<2>(a, b, scale, n, sums);
    case 3:
      return add_squares<3>(a, b, scale, n, sums);
    case 4:
      return add_squares<4>(a, b, scale, n, sums);
  }
}

// sums[p] = |a / |a| - b / |b||^2 for the views of pair[p], which come in the order of rules.h. `inverses`: one over
// each norm. `rows`: [views, kUnitDims], for what is not float or ends between vectors.
template <class T>
void unit_pair_sums(const char* point_bytes, int64_t view_stride, int64_t views, int64_t dims, const double* inverses,
                    const NumberedPair* pair, int64_t pairs, float* rows, double* sums) {
  constexpr int64_t at_once = 4 * Lanes<float>::count;
  static_assert(kUnitDims % at_once == 0 && at_once % kGroup<T> == 0);
  const T* const point = reinterpret_cast<const T*>(point_bytes);
  for (int64_t p = 0; p < pairs; ++p) sums[p] = 0;
  for (int64_t d = 0; d < dims; d += kUnitDims) {
    const int64_t n = dims - d < kUnitDims ? dims - d : kUnitDims, end = (n + at_once - 1) / at_once * at_once;
    const float* first = rows;
    int64_t stride = kUnitDims;
    if (std::is_same<T, float>::value && n == end) {
      first = reinterpret_cast<const float*>(point + d);
      stride = view_stride;
    } else {
      for (int64_t v = 0; v < views; ++v) {
        std::memset(rows + v * kUnitDims + n, 0, size_t(end - n) * sizeof(float));  // fault: end of unit rows
        widen_row(point + v * view_stride + d, n, rows + v * kUnitDims);
      }
    }
    for (int64_t p = 0; p < pairs;) {
      // up to four pairs of one view, which is then loaded once for all
      const int64_t a = pair[p].first;
      const float* b[4];
      float scale[4];
      int count = 0;
      for (; count < 4 && p + count < pairs && pair[p + count].first == a; ++count) {
        b[count] = first + pair[p + count].second * stride;
        scale[count] = float(inverses[pair[p + count].second] / inverses[a]);
      }
      add_squares(count, first + a * stride, b, scale, end, sums + p);
      p += count;
    }
  }
  for (int64_t p = 0; p < pairs; ++p) sums[p] *= inverses[pair[p].first] * inverses[pair[p].first];
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
