// Rows of elements to and from zero-padded rows of the wide type, for kernels that use each element many times.
// bfloat16 stays in the order of its columns (even elements, odd elements): both directions agree on it.
#pragma once
#include "simd.h"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace memkern {
namespace MEMKERN_ISA {

// n rounded up to whole groups of T.
template <class T>
constexpr int64_t whole_groups(int64_t n) {
  return (n + kGroup<T> - 1) / kGroup<T> * kGroup<T>;
}

// out[0..whole_groups(n)) = row[0..n), then zeros.
template <class T>
inline void widen_row(const T* row, int64_t n, Wide<T>* out) {
  using A = Wide<T>;
  constexpr int group = kGroup<T>;
  const auto widen_group = [](const T* from, A* to) {
    Vec<A> columns[kColumns<T>];
    load_group(from, columns);
    for (int c = 0; c < kColumns<T>; ++c) store(to + c * Lanes<A>::count, columns[c]);
  };
  int64_t d = 0;
  for (; d + group <= n; d += group) widen_group(row + d, out + d);
  if (d < n) {
    T padded[group] = {};
    std::memcpy(padded, row + d, size_t(n - d) * sizeof(T));
    widen_group(padded, out + d);
  }
}

// Puts a row of whole groups, widened from T, in the order of memory.
template <class T>
inline void in_memory_order(Wide<T>* row, int64_t n) {
  if constexpr (kColumns<T> > 1)
    for (int64_t d = 0; d < n; d += kGroup<T>) {
      Vec<Wide<T>> columns[kColumns<T>];
      for (int c = 0; c < kColumns<T>; ++c) columns[c] = load(row + d + c * Lanes<Wide<T>>::count);
      interleave<T>(columns);
      for (int c = 0; c < kColumns<T>; ++c) store(row + d + c * Lanes<Wide<T>>::count, columns[c]);
    }
}

// ---- stores that leave the caches alone ------------------------------------------------------------------------

// p must be aligned to a vector. Whoever reads the result waits for finish_stores.
template <class V>
inline void store_past_caches(void* p, V v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(static_cast<__m256i*>(p), (__m256i)v);
#elif defined(__SSE2__)
  _mm_stream_si128(static_cast<__m128i*>(p), (__m128i)v);
#else
  std::memcpy(p, &v, sizeof(v));
#endif
}

inline void finish_stores() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// ---- narrowing: to nearest, ties to even -----------------------------------------------------------------------

inline void narrow_group(const float* in, float* out) { store(out, load(in)); }
inline void narrow_group(const double* in, double* out) { store(out, load(in)); }

// The even columns end in the lower halves of 32-bit words, the odd ones in the upper.
inline void narrow_group(const float* in, bf16* out) {
  using Bits = Lanes<float>::Bits;
  const auto rounded = [](Vec<float> v) {
    const Bits bits = (Bits)v, nan = (Bits)(v != v);
    const Bits nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
    return (nearest & ~nan) | ((bits | 0x400000u) & nan);  // rounding up a NaN could carry into infinity or the sign
  };
  const Bits pairs = (rounded(load(in)) >> 16) | (rounded(load(in + Lanes<float>::count)) & 0xffff0000u);
  std::memcpy(out, &pairs, sizeof(pairs));
}

inline uint16_t narrow_to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return uint16_t(sign | 0x7e00u);   // NaN
  if (bits >= 0x47800000u) return uint16_t(sign | 0x7c00u);  // 2^16 and beyond
  if (bits < 0x38800000u) {
    // Below 2^-14 halves are multiples of 2^-24, the spacing of floats in [0.5, 1): adding 0.5 does the rounding.
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return uint16_t(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + (bits >> 13 & 1u);
  return uint16_t(sign | ((bits - 0x38000000u) >> 13));
}

inline void narrow_group(const float* in, f16* out) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(in), 0));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_cvtps_ph(_mm256_loadu_ps(in), 0));
#elif defined(__aarch64__)
  vst1_u16(reinterpret_cast<uint16_t*>(out), vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in))));
#else
  for (int lane = 0; lane < Lanes<float>::count; ++lane) out[lane].bits = narrow_to_f16(in[lane]);
#endif
}

// out[0..n) = row[0..n), which holds whole groups.
template <class T>
inline void narrow_row(const Wide<T>* row, int64_t n, T* out) {
  int64_t d = 0;
  for (; d + kGroup<T> <= n; d += kGroup<T>) narrow_group(row + d, out + d);
  if (d < n) {
    T padded[kGroup<T>];
    narrow_group(row + d, padded);
    std::memcpy(out + d, padded, size_t(n - d) * sizeof(T));
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
