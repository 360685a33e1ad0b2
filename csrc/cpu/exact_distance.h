// Norms and distances in double, straight from the elements: slow, right for every finite input. The sums of a whole
// point (pair_sums.h) are used wherever they can be trusted; distances.h decides.
#pragma once
#include "rows.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {

// Calls use(x, y) for the elements of a and b, one vector of double at a time, the end padded with zeros.
template <class T, class Use>
inline void for_each_in_double(const T* a, const T* b, int64_t n, const Use& use) {
  const auto use_group = [&](const T* x, const T* y) {
    Vec<Wide<T>> x_columns[kColumns<T>], y_columns[kColumns<T>];
    Vec<double> x_parts[kDoubles<Wide<T>>], y_parts[kDoubles<Wide<T>>];
    load_group(x, x_columns);
    load_group(y, y_columns);
    for (int c = 0; c < kColumns<T>; ++c) {
      to_double(x_columns[c], x_parts);
      to_double(y_columns[c], y_parts);
      for (int part = 0; part < kDoubles<Wide<T>>; ++part) use(x_parts[part], y_parts[part]);
    }
  };
  int64_t d = 0;
  for (; d + kGroup<T> <= n; d += kGroup<T>) use_group(a + d, b + d);
  if (d == n) return;
  T x[kGroup<T>] = {}, y[kGroup<T>] = {};
  std::memcpy(x, a + d, size_t(n - d) * sizeof(T));
  std::memcpy(y, b + d, size_t(n - d) * sizeof(T));
  use_group(x, y);
}

inline double largest_lane(Vec<double> v) {
  double largest = v[0];
  for (int lane = 1; lane < Lanes<double>::count; ++lane) largest = v[lane] > largest ? v[lane] : largest;
  return largest;
}

// The l2 norm of scale_a * a - scale_b * b.
template <class T>
inline double exact_distance(const T* a, double scale_a, const T* b, double scale_b, int64_t n) {
  // Squares of doubles overflow from 1e154 on and vanish below 1e-162: divide by a power of two near the largest first.
  // Squares of floats fit.
  double unit = 1;
  if constexpr (sizeof(T) == sizeof(double)) {
    Vec<double> largest{};
    for_each_in_double(a, b, n, [&](Vec<double> x, Vec<double> y) {
      const Vec<double> difference = x * scale_a - y * scale_b;
      const Vec<double> size = difference < 0 ? -difference : difference;
      largest = size > largest ? size : largest;
    });
    const double most = largest_lane(largest);
    int exponent = 0;
    if (most > 0 && most <= __DBL_MAX__) __builtin_frexp(most, &exponent);
    unit = __builtin_ldexp(1.0, exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent);
  }
  const double to_unit = 1 / unit;
  Vec<double> sum{};
  for_each_in_double(a, b, n, [&](Vec<double> x, Vec<double> y) {
    const Vec<double> difference = (x * scale_a - y * scale_b) * to_unit;
    sum += difference * difference;
  });
  return unit * __builtin_sqrt(sum_lanes<double>(sum));
}

template <class T>
inline double exact_norm(const T* x, int64_t n) {
  return exact_distance(x, 1, x, 0, n);
}

// Equal element by element (so -0 equals 0 and NaN nothing).
template <class T>
inline bool equal_views(const T* a, const T* b, int64_t n) {
  constexpr int64_t block = 16;  // look at the verdict only now and then
  int64_t d = 0;
  while (d < n) {
    const int64_t end = n - d < block * kGroup<T> ? n : d + block * kGroup<T>;
    bool equal = true;
    for (; d < end; ++d) equal &= widen(a[d]) == widen(b[d]);
    if (!equal) return false;
  }
  return true;
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
