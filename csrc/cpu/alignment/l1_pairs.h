// l1 distances of the pairs of a point in one pass over its views: a chunk of each view is made double and brought to
// its length, and from there on stays in L1 while its pairs are taken.
#pragma once
#include "cpu/simd/row_io.h"
#include "cpu/units/unit_sums.h"
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

constexpr int64_t kL1Dims = 256;  // 20 KB for ten views

// to[0..n) = x[0..n) * scale, in the order of the columns of a group, and zeros up to the next multiple of two groups.
template <class T>
void scaled_row(const T* x, int64_t n, double scale, double* to) {
  constexpr int parts = kDoubles<Wide<T>>, lanes = Lanes<double>::count;
  const auto put = [&](const T* from) __attribute__((always_inline)) {
    Vec<Wide<T>> columns[kColumns<T>];
    Vec<double> in_double[parts] = {};
    load_group(from, columns);
    for (int c = 0; c < kColumns<T>; ++c) {
      to_double(columns[c], in_double);
      for (int part = 0; part < parts; ++part, to += lanes) store<double>(to, in_double[part] * scale);
    }
  };
  int64_t d = 0;
  for (; d + kGroup<T> <= n; d += kGroup<T>) put(x + d);
  if (d < n) {
    T padded[kGroup<T>] = {};
    std::memcpy(padded, x + d, size_t(n - d) * sizeof(T));
    put(padded);
    d += kGroup<T>;
  }
  if (d / kGroup<T> % 2)
    for (int64_t i = 0; i < kGroup<T>; ++i) to[i] = 0;
}

// sums[p] += |a - b[p]| in l1 for `count` rows b[p], `stride` apart; n doubles, whole vectors twice.
template <int count>
void add_sizes(const double* a, const double* b, int64_t stride, int64_t n, double* sums) {
  constexpr int lanes = Lanes<double>::count;
  const typename Lanes<double>::Bits size = (typename Lanes<double>::Bits{} - 1) >> 1;  // all bits but the sign
  Vec<double> sum[count][2] = {};  // two: a sum waits 4 cycles for itself
  for (int64_t e = 0; e < n; e += 2 * lanes)
    each<2>([&](auto v) MEMKERN_INLINE {
      const Vec<double> left = load(a + e + v * lanes);
      each<count>([&](auto p) MEMKERN_INLINE {
        const Vec<double> difference = left - load(b + p * stride + e + v * lanes);
        sum[p][v] += (Vec<double>)((typename Lanes<double>::Bits)difference & size);  // fault: absolute
      });
    });
  each<count>([&](auto p) MEMKERN_INLINE { sums[p] += sum_lanes<double>(sum[p][0] + sum[p][1]); });
}

// sums[k] = |scale[i] z_i - scale[j] z_j| in l1 of each pair, in the order of rules.h. `rows`: [views, kL1Dims].
template <class T>
void l1_pair_sums(const KeptAlignment& op, const char* point_bytes, int64_t view_stride, const double* scale,
                  double* rows, double* sums) {
  static_assert(kL1Dims % (2 * kGroup<T>) == 0 && kGroup<T> % Lanes<double>::count == 0);
  const T* const point = reinterpret_cast<const T*>(point_bytes);
  const int64_t firsts = op.pairs == Pairs::anchor ? 1 : op.views - 1;
  for (int64_t k = 0; k < pair_count(op); ++k) sums[k] = 0;
  for (int64_t d = 0; d < op.dims; d += kL1Dims) {
    const int64_t n = op.dims - d < kL1Dims ? op.dims - d : kL1Dims, two = 2 * kGroup<T>;
    const int64_t end = (n + two - 1) / two * two;
    for (int64_t v = 0; v < op.views; ++v) scaled_row(point + v * view_stride + d, n, scale[v], rows + v * kL1Dims);
    double* sum = sums;
    for (int64_t i = 0; i < firsts; ++i) {
      const double* const a = rows + i * kL1Dims;
      int64_t j = i + 1;
      for (; j + 4 <= op.views; j += 4, sum += 4) add_sizes<4>(a, rows + j * kL1Dims, kL1Dims, end, sum);
      for (; j < op.views; ++j, ++sum) add_sizes<1>(a, rows + j * kL1Dims, kL1Dims, end, sum);
    }
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
