// Norms and distances in double, straight from the elements: slow, right for every finite input. The sums of a whole
// point (pair_sums.h) are used wherever they can be trusted; distances.h decides.
#pragma once
#include "cpu/simd/row_io.h"
#include "cpu/units/unit_sums.h"
#include "l1_pairs.h"
#include "unit_pairs.h"

namespace memkern {
namespace MEMKERN_ISA {

// Calls use(x, y, s) for the elements of a and b, one vector of double at a time, the end padded with zeros. Neighbours
// have different s below kSums: one sum would wait 4 cycles for itself at every vector.
constexpr int kSums = 4;
template <class T, class Use>
inline void for_each_in_double(const T* a, const T* b, int64_t n, const Use& use) {
  constexpr int parts = kDoubles<Wide<T>>, vectors = kColumns<T> * parts,
                groups = vectors < kSums ? kSums / vectors : 1;
  const auto use_group = [&](const T* x, const T* y, int first) __attribute__((always_inline)) {
    Vec<Wide<T>> x_columns[kColumns<T>], y_columns[kColumns<T>];
    Vec<double> x_parts[parts], y_parts[parts];
    load_group(x, x_columns);
    load_group(y, y_columns);
    for (int c = 0; c < kColumns<T>; ++c) {
      to_double(x_columns[c], x_parts);
      to_double(y_columns[c], y_parts);
      for (int part = 0; part < parts; ++part) use(x_parts[part], y_parts[part], (first + c * parts + part) % kSums);
    }
  };
  int64_t d = 0;
  for (; d + groups * kGroup<T> <= n; d += groups * kGroup<T>) {
#pragma GCC unroll 4
    for (int g = 0; g < groups; ++g) use_group(a + d + g * kGroup<T>, b + d + g * kGroup<T>, g * vectors);
  }
  for (; d + kGroup<T> <= n; d += kGroup<T>) use_group(a + d, b + d, 0);
  if (d == n) return;
  T x[kGroup<T>] = {}, y[kGroup<T>] = {};
  std::memcpy(x, a + d, size_t(n - d) * sizeof(T));
  std::memcpy(y, b + d, size_t(n - d) * sizeof(T));
  use_group(x, y, 0);
}

inline double largest_lane(Vec<double> v) {
  double largest = v[0];
  for (int lane = 1; lane < Lanes<double>::count; ++lane) largest = v[lane] > largest ? v[lane] : largest;
  return largest;
}

// The l2 norm of element(a, b), element by element.
template <class T, class Element>
inline double exact_l2(const T* a, const T* b, int64_t n, const Element& element) {
  // Squares of doubles overflow from 1e154 on and vanish below 1e-162: divide by a power of two near the largest first.
  // Squares of floats fit.
  double unit = 1;
  if constexpr (sizeof(T) == sizeof(double)) {
    Vec<double> largest{};
    for_each_in_double(a, b, n, [&](Vec<double> x, Vec<double> y, int) {
      const Vec<double> value = element(x, y), size = value < 0 ? -value : value;
      largest = size > largest ? size : largest;
    });
    const double most = largest_lane(largest);
    int exponent = 0;
    if (most > 0 && most <= __DBL_MAX__) __builtin_frexp(most, &exponent);
    unit = __builtin_ldexp(1.0, exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent);
  }
  const double to_unit = 1 / unit;
  Vec<double> sum[kSums] = {};
  for_each_in_double(a, b, n, [&](Vec<double> x, Vec<double> y, int s) {
    const Vec<double> value = element(x, y) * to_unit;
    sum[s] += value * value;
  });
  return unit * __builtin_sqrt(sum_lanes<double>((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

template <class T>
double exact_norm(const char* x_bytes, int64_t n) {
  const T* const x = reinterpret_cast<const T*>(x_bytes);
  return exact_l2(x, x, n, [](Vec<double> value, Vec<double>) { return value; });
}

// |scale_a a - scale_b b|
template <class T>
double exact_distance(const char* a_bytes, double scale_a, const char* b_bytes, double scale_b, int64_t n) {
  const T *const a = reinterpret_cast<const T*>(a_bytes), *const b = reinterpret_cast<const T*>(b_bytes);
  return exact_l2(a, b, n, [=](Vec<double> x, Vec<double> y) { return x * scale_a - y * scale_b; });
}

// The same for elements whose type is known only at run time.
struct ExactViews {
  int64_t element_bytes;
  double (*norm)(const char* x, int64_t n);
  double (*distance)(const char* a, double scale_a, const char* b, double scale_b, int64_t n);
  void (*l1_pair_sums)(const KeptAlignment& op, const char* point, int64_t view_stride, const double* scale,
                       double* rows, double* sums);
  // null for doubles: it is no more exact than their sums
  void (*unit_pair_sums)(const char* point, int64_t view_stride, int64_t views, int64_t dims, const double* inverses,
                         const NumberedPair* pair, int64_t pairs, float* rows, double* sums);
};

template <class T>
inline ExactViews exact_views() {
  ExactViews views{int64_t(sizeof(T)), exact_norm<T>, exact_distance<T>, l1_pair_sums<T>, nullptr};
  if constexpr (sizeof(T) < sizeof(double)) views.unit_pair_sums = unit_pair_sums<T>;
  return views;
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
