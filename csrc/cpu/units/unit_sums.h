// Sums of each unit over a block of activations: the two loops that every unit statistic is made of.
//
// Both add to `double sums[units]` and may be called on any part of an activation (a block of units, a slice of the
// space, a few rows): the parts combine without error growth. Elements are added in their wide type only inside a
// balanced tree of a few terms (8, 16 for the 16-bit types), everything above that in double: the means of fp32 input
// are within 1.4e-7 of the float64 reference over all tested sizes, where one long fp32 sum of 31360 values has 7e-6.
#pragma once
#include "cpu/simd/simd.h"
#include "ops.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace memkern {
namespace MEMKERN_ISA {

// ---- parts -----------------------------------------------------------------------------------------------------

// Activation "raw": an element, or a vector of elements, stays as it is.
struct Raw {
  template <class V>
  V operator()(V v) const {
    return v;
  }
};

// Or relu or abs, chosen at run time: whoever asks for them pays one operation more, and everybody else waits for one
// compilation less. NaN passes: NaN < 0 is false.
template <class A>
class Rectify {
  using Bits = typename Lanes<A>::Bits;

 public:
  explicit Rectify(Activation activation) : keep_(activation == Activation::abs ? (Bits{} - 1) >> 1 : Bits{} - 1) {}
  Vec<A> operator()(Vec<A> v) const {
    v = (Vec<A>)((Bits)v & keep_);
    return v < 0 ? Vec<A>{} : v;  // fault: relu of units
  }
  A operator()(A x) const { return (*this)(broadcast(x))[0]; }

 private:
  const Bits keep_;
};

// The addresses are only hints and may lie past the end; as integers they may do so without undefined behaviour.
// always_inline: GCC takes a function that only prefetches for one without effect and drops the calls it did not
// inline.
[[gnu::always_inline]] inline void prefetch(const void* p, int64_t bytes_ahead) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(bytes_ahead)));
}

// Vectors of double that hold one vector of A.
template <class A>
constexpr int kDoubles = int(sizeof(double) / sizeof(A));

// Intrinsics, because GCC 12 converts lane by lane for SSE2 and in four pieces for AVX-512. (The zero-masked form with
// a full mask is the plain instruction; the plain form warns of an uninitialized value inside GCC's own header.)
inline void to_double(Vec<float> v, Vec<double>* out) {
#if defined(__AVX512F__)
  out[0] = (Vec<double>)_mm512_maskz_cvtps_pd(0xff, __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
  out[1] = (Vec<double>)_mm512_maskz_cvtps_pd(0xff, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#elif defined(__AVX2__)
  out[0] = (Vec<double>)_mm256_cvtps_pd(__builtin_shufflevector(v, v, 0, 1, 2, 3));
  out[1] = (Vec<double>)_mm256_cvtps_pd(__builtin_shufflevector(v, v, 4, 5, 6, 7));
#elif defined(__SSE2__)
  out[0] = (Vec<double>)_mm_cvtps_pd((__m128)v);
  out[1] = (Vec<double>)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v));
#elif defined(__aarch64__)
  out[0] = (Vec<double>)vcvt_f64_f32(vget_low_f32((float32x4_t)v));
  out[1] = (Vec<double>)vcvt_high_f64_f32((float32x4_t)v);
#else
  constexpr int half = Lanes<double>::count;
  for (int lane = 0; lane < half; ++lane) {
    out[0][lane] = double(v[lane]);
    out[1][lane] = double(v[lane + half]);
  }
#endif
}
inline void to_double(Vec<double> v, Vec<double>* out) { out[0] = v; }

// The same from memory: a converting load needs no shuffles.
template <class A>
inline void load_double(const A* p, Vec<double>* out) {
#if defined(__AVX512F__)
  if constexpr (sizeof(A) == 4) {
    out[0] = (Vec<double>)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p));
    out[1] = (Vec<double>)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p + 8));
    return;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(A) == 4) {
    out[0] = (Vec<double>)_mm256_cvtps_pd(_mm_loadu_ps(p));
    out[1] = (Vec<double>)_mm256_cvtps_pd(_mm_loadu_ps(p + 4));
    return;
  }
#endif
  to_double(load(p), out);
}

template <class Bits, size_t... I>
inline Bits lane_numbers(std::index_sequence<I...>) {
  return Bits{I...};
}

// The ragged end of `size` elements is read as the last whole group, whose elements counted already are then set to
// zero: no load leaves the array.
template <class T>
struct Tail {
  using Bits = typename Lanes<Wide<T>>::Bits;
  explicit Tail(int64_t size) : count(int(size % kGroup<T>)) {
    const Bits lane = lane_numbers<Bits>(LaneIndices<Wide<T>>{});
    for (unsigned c = 0; c < kColumns<T>; ++c) keep[c] = (Bits)(lane * kColumns<T> + c >= unsigned(kGroup<T> - count));
  }
  void clear_counted(Vec<Wide<T>>* columns) const {
    for (int c = 0; c < kColumns<T>; ++c) columns[c] = (Vec<Wide<T>>)((Bits)columns[c] & keep[c]);
  }
  int count;  // elements past the last whole group
  Bits keep[kColumns<T>];
};

// Terms of one tree. Twice as many of 16 bits: with 8 or 11 digits of their own they lose none in so short a sum.
template <class T>
constexpr int kTerms = sizeof(T) == 2 ? 16 : 8;

// Adds `count` (a power of two) groups, `stride` elements apart, in a balanced tree.
template <int count, class T, class Activate>
[[gnu::always_inline]] inline void sum_groups(const T* x, int64_t stride, int64_t bytes_ahead, Vec<Wide<T>>* columns,
                                              Activate activate) {
  if constexpr (count == 1) {
    // a caller that says 0 outright knows that the data is in cache and the prefetch would only cost a load slot
    if (!(__builtin_constant_p(bytes_ahead) && bytes_ahead == 0)) prefetch(x, bytes_ahead);
    load_group(x, columns);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] = activate(columns[c]);
  } else {
    Vec<Wide<T>> second[kColumns<T>];
    sum_groups<count / 2>(x, stride, bytes_ahead, columns, activate);
    sum_groups<count / 2>(x + count / 2 * stride, stride, bytes_ahead, second, activate);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] += second[c];
  }
}

// ---- planes ----------------------------------------------------------------------------------------------------

// All columns of a group in one vector of double; their order does not matter in a sum.
template <class T>
[[gnu::always_inline]] inline Vec<double> fold_columns(const Vec<Wide<T>>* columns) {
  Vec<Wide<T>> sum = columns[0];
  if constexpr (kColumns<T> == 2) sum += columns[1];
  Vec<double> parts[kDoubles<Wide<T>>];
  to_double(sum, parts);
  return kDoubles<Wide<T>> == 2 ? parts[0] + parts[kDoubles<Wide<T>> - 1] : parts[0];
}

// Adds to `total` the rest of a plane: trees of `count` groups, of half as many, ... and the tail.
template <int count, class T, class Activate>
[[gnu::always_inline]] inline void add_rest(const T* x, const T* end, const Tail<T>& tail, int64_t bytes_ahead,
                                            Vec<double>& total, Activate activate) {
  Vec<Wide<T>> columns[kColumns<T>];
  if constexpr (count > 0) {
    if (end - x >= count * kGroup<T>) {
      sum_groups<count>(x, kGroup<T>, bytes_ahead, columns, activate);
      total += fold_columns<T>(columns);
      x += count * kGroup<T>;
    }
    add_rest<count / 2>(x, end, tail, bytes_ahead, total, activate);
  } else if (tail.count) {
    sum_groups<1>(end - kGroup<T>, 0, bytes_ahead, columns, activate);
    tail.clear_counted(columns);
    total += fold_columns<T>(columns);
  }
}

// The same for 16-bit types, whose short sums are exact in any order: all in one sum.
template <class T, class Activate>
[[gnu::always_inline]] inline void add_short_rest(const T* x, const T* end, const Tail<T>& tail, int64_t bytes_ahead,
                                                  Vec<double>& total, Activate activate) {
  Vec<Wide<T>> columns[kColumns<T>] = {}, next[kColumns<T>];
  if (tail.count) {
    sum_groups<1>(end - kGroup<T>, 0, bytes_ahead, columns, activate);
    tail.clear_counted(columns);
  }
  for (; end - x >= kGroup<T>; x += kGroup<T>) {
    sum_groups<1>(x, 0, bytes_ahead, next, activate);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] += next[c];
  }
  total += fold_columns<T>(columns);
}

// One plane of at least one whole group.
template <class T, class Activate>
[[gnu::always_inline]] inline Vec<double> sum_plane(const T* x, int64_t space, const Tail<T>& tail, int64_t bytes_ahead,
                                                    Activate activate) {
  constexpr int kTree = kTerms<T> / kColumns<T>;
  const T* const end = x + space;
  Vec<Wide<T>> columns[kColumns<T>];
  Vec<double> total{};
  for (; end - x >= kTree * kGroup<T>; x += kTree * kGroup<T>) {
    sum_groups<kTree>(x, kGroup<T>, bytes_ahead, columns, activate);
    total += fold_columns<T>(columns);
  }
  if constexpr (sizeof(T) == 2)
    add_short_rest(x, end, tail, bytes_ahead, total, activate);
  else
    add_rest<kTree / 2>(x, end, tail, bytes_ahead, total, activate);
  return total;
}

// A plane too small for a vector.
template <class T, class Activate>
inline double sum_few(const T* x, int64_t space, Activate activate) {
  double sum = 0;
  for (int64_t s = 0; s < space; ++s) sum += activate(widen(x[s]));
  return sum;
}

// The sum of each of v[0..n), n lanes each, in one vector: halves are folded onto each other as in sum_lanes, two
// vectors at a time, so both give the same bits.
template <int count>
[[gnu::always_inline]] inline Vec<double> sum_each(const Vec<double>* v, int stride) {
  if constexpr (count == 1) {
    return v[0];
  } else {
    const Vec<double> a = sum_each<count / 2>(v, stride * 2), b = sum_each<count / 2>(v + stride, stride * 2);
    return interleaved_half<0, double>(a, b, LaneIndices<double>{}) +
           interleaved_half<1, double>(a, b, LaneIndices<double>{});
  }
}

// sums[u] += the sum of x[u * unit_stride + s] over s in [0, space).
// `sums` had better be aligned to a cache line. `bytes_ahead`: how far ahead to prefetch; 0 where the data is known to
// be in cache.
template <class T, class Activate = Raw>
[[gnu::noinline]] void add_planes(const T* x, int64_t units, int64_t space, int64_t unit_stride, double* sums,
                                  int64_t bytes_ahead = 0, Activate activate = Activate()) {
  constexpr int lanes = Lanes<double>::count;
  int64_t u = 0;
  if (space < kGroup<T>) {
    for (; u < units; ++u) sums[u] += sum_few(x + u * unit_stride, space, activate);
    return;
  }
  const Tail<T> tail(space);
  for (; u + lanes <= units; u += lanes) {
    Vec<double> planes[lanes];
    for (int i = 0; i < lanes; ++i)
      planes[i] = sum_plane(x + (u + i) * unit_stride, space, tail, bytes_ahead, activate);
    store(sums + u, load(sums + u) + sum_each<lanes>(planes, 1));
  }
  for (; u < units; ++u)
    sums[u] += sum_lanes<double>(sum_plane(x + u * unit_stride, space, tail, bytes_ahead, activate));
}

// ---- rows ------------------------------------------------------------------------------------------------------

// Adds one group of units, in the order of memory.
template <class T>
[[gnu::always_inline]] inline void add_columns(Vec<Wide<T>>* columns, double* sums) {
  constexpr int parts = kDoubles<Wide<T>>, lanes = Lanes<double>::count;
  interleave<T>(columns);
  for (int c = 0; c < kColumns<T>; ++c) {
    Vec<double> in_double[parts];
    to_double(columns[c], in_double);
    for (int part = 0; part < parts; ++part) {
      double* const at = sums + (c * parts + part) * lanes;
      store(at, load(at) + in_double[part]);
    }
  }
}

// The sum of a group over `count` rows; any count for 16-bit types, whose short sums are exact in any order.
template <int count, class T, class Activate>
[[gnu::always_inline]] inline void sum_rows(const T* x, int64_t rows, int64_t row_stride, int64_t bytes_ahead,
                                            Vec<Wide<T>>* columns, Activate activate) {
  if constexpr (count > 0) return sum_groups<count>(x, row_stride, bytes_ahead, columns, activate);
  for (int c = 0; c < kColumns<T>; ++c) columns[c] = Vec<Wide<T>>{};
  Vec<Wide<T>> next[kColumns<T>];
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2) {
    sum_groups<2>(x + r * row_stride, row_stride, bytes_ahead, next, activate);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] += next[c];
  }
  if (r < rows) {
    sum_groups<1>(x + r * row_stride, 0, bytes_ahead, next, activate);
    for (int c = 0; c < kColumns<T>; ++c) columns[c] += next[c];
  }
}

// Adds `rows` rows (`count` of them, if that is not 0) of at least one whole group.
template <int count, class T, class Activate>
inline void add_row_block(const T* x, int64_t rows, int64_t units, int64_t row_stride, const Tail<T>& tail,
                          double* sums, int64_t bytes_ahead, Activate activate) {
  Vec<Wide<T>> columns[kColumns<T>];
  int64_t u = 0;
  for (; u + kGroup<T> <= units; u += kGroup<T>) {
    sum_rows<count>(x + u, rows, row_stride, bytes_ahead, columns, activate);
    add_columns<T>(columns, sums + u);
  }
  if (tail.count) {
    sum_rows<count>(x + units - kGroup<T>, rows, row_stride, bytes_ahead, columns, activate);
    // fault: tail of columns
    tail.clear_counted(columns);  // adding zero to units that are done changes nothing
    add_columns<T>(columns, sums + units - kGroup<T>);
  }
}

template <class T, class Activate = Raw>
void add_rows(const T* x, int64_t rows, int64_t units, int64_t row_stride, double* sums, int64_t bytes_ahead = 0,
              Activate activate = Activate());

// Rows of less than a group, copied to whole ones. The additions are those of wide rows: a unit's bits must not depend
// on how many others it is summed with.
template <class T, class Activate>
void add_padded_rows(const T* x, int64_t rows, int64_t units, int64_t row_stride, double* sums, Activate activate) {
  T padded[kTerms<T> * kGroup<T>] = {};
  alignas(64) double padded_sums[kGroup<T>] = {};
  for (int64_t u = 0; u < units; ++u) padded_sums[u] = sums[u];
  for (int64_t r = 0; r < rows; r += kTerms<T>) {
    const int64_t count = rows - r < kTerms<T> ? rows - r : kTerms<T>;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t u = 0; u < units; ++u) padded[i * kGroup<T> + u] = x[(r + i) * row_stride + u];
    add_rows(padded, count, kGroup<T>, kGroup<T>, padded_sums, 0, activate);
  }
  for (int64_t u = 0; u < units; ++u) sums[u] = padded_sums[u];
}

// sums[u] += the sum of x[r * row_stride + u] over r in [0, rows).
template <class T, class Activate>
[[gnu::noinline]] void add_rows(const T* x, int64_t rows, int64_t units, int64_t row_stride, double* sums,
                                int64_t bytes_ahead, Activate activate) {
  if (units < kGroup<T>) return add_padded_rows(x, rows, units, row_stride, sums, activate);
  int64_t r = 0;
  const Tail<T> tail(units);
  if constexpr (sizeof(T) == 2) {
    for (; r < rows; r += kTerms<T>)
      add_row_block<0>(x + r * row_stride, rows - r < kTerms<T> ? rows - r : kTerms<T>, units, row_stride, tail, sums,
                       bytes_ahead, activate);
  } else {
    for (; r + 8 <= rows; r += 8)
      add_row_block<8>(x + r * row_stride, 8, units, row_stride, tail, sums, bytes_ahead, activate);
    for (; r + 2 <= rows; r += 2)
      add_row_block<2>(x + r * row_stride, 2, units, row_stride, tail, sums, bytes_ahead, activate);
    if (r < rows) add_row_block<1>(x + r * row_stride, 1, units, row_stride, tail, sums, bytes_ahead, activate);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
