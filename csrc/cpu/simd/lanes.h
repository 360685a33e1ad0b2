// Vector operations that views need besides simd.h: integers of the same lanes, a fused product, selections, bytes.
// Pixels are computed in float32: whole numbers 0..255 for uint8 images, 0..1 for float32 images.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace memkern {
namespace MEMKERN_ISA {

constexpr int kLanes = Lanes<float>::count;
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef int32_t UnalignedInts __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

// n rounded up to whole vectors.
constexpr int64_t whole_vectors(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

inline Ints load_ints(const int32_t* p) { return *reinterpret_cast<const UnalignedInts*>(p); }
inline Ints every(int32_t i) { return Ints{} + i; }
inline Floats every(float f) { return Floats{} + f; }
inline Floats to_floats(Ints i) { return __builtin_convertvector(i, Floats); }
// Towards zero; NaN gives some integer.
inline Ints to_ints(Floats f) { return __builtin_convertvector(f, Ints); }

// kLanes bytes to and from integers. GCC 12 moves the bytes of __builtin_convertvector one by one (a third of a
// resize).
inline Ints load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (Ints)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  Ints out{};
  for (int i = 0; i < kLanes; ++i) out[i] = p[i];
  return out;
#endif
}
// Values in 0..255.
inline void store_bytes(uint8_t* p, Ints values) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)values));
#elif defined(__AVX2__)
  const __m128i low = _mm256_castsi256_si128((__m256i)values), high = _mm256_extracti128_si256((__m256i)values, 1);
  const __m128i words = _mm_packus_epi32(low, high);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
#else
  for (int i = 0; i < kLanes; ++i) p[i] = uint8_t(values[i]);
#endif
}

// The first n lanes, n > 0. A copy of unknown length is a call or a slow loop, so whole vectors go their own way.
template <class T, class V>
inline void store_first(T* p, V v, int64_t n) {
  if (n >= kLanes) {
    std::memcpy(p, &v, sizeof(v));
  } else {
    const V apart = v;  // so that the whole vectors need not be in memory
    std::memcpy(p, &apart, size_t(n) * sizeof(T));
  }
}
inline Floats load_first(const float* p, int64_t n) {
  if (n >= kLanes) return load(p);
  Floats v{};
  std::memcpy(&v, p, size_t(n) * sizeof(float));
  return v;
}

// a * b + c with one rounding, where torch rounds once. Without the instruction: a * b is exact in double.
inline Floats fused(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  Floats out{};
  for (int i = 0; i < kLanes; ++i) out[i] = float(double(a[i]) * double(b[i]) + double(c[i]));
  return out;
#endif
}

// Lanes outside [low, high] move to its end; NaN stays NaN (it comes second: the instructions return that operand).
inline Floats clamp(Floats x, float low, float high) {
#if defined(__AVX512F__)
  return _mm512_maskz_min_ps(0xffff, every(high), _mm512_maskz_max_ps(0xffff, every(low), x));
#elif defined(__AVX2__)
  return _mm256_min_ps(every(high), _mm256_max_ps(every(low), x));
#elif defined(__SSE2__)
  return _mm_min_ps(every(high), _mm_max_ps(every(low), x));
#else
  x = x < low ? every(low) : x;
  return x > high ? every(high) : x;
#endif
}

// To the nearest whole number, ties to even, for |x| < 2^22: the sum has no digits left below 1.
inline Floats nearest(Floats x) { return (x + 12582912.0f) - 12582912.0f; }

// Sums of products of the two 16-bit halves of each lane.
inline Ints dot_pairs(Ints a, Ints b) {
#if defined(__AVX512BW__)
  return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Four bytes from each address base + at; nothing but those 4 * kLanes bytes is read.
inline Ints gather_four_bytes(const uint8_t* base, Ints at) {
#if defined(__AVX512F__)
  return (Ints)_mm512_mask_i32gather_epi32((__m512i)Ints{}, 0xffff, (__m512i)at, base, 1);
#elif defined(__AVX2__)
  return (Ints)_mm256_i32gather_epi32(reinterpret_cast<const int*>(base), (__m256i)at, 1);
#else
  Ints out{};
  for (int i = 0; i < kLanes; ++i) {
    int32_t four;
    std::memcpy(&four, base + at[i], 4);
    out[i] = four;
  }
  return out;
#endif
}

inline Floats gather_floats(const float* base, Ints at) {
#if defined(__AVX512F__)
  return _mm512_mask_i32gather_ps(Floats{}, 0xffff, (__m512i)at, base, 4);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(base, (__m256i)at, 4);
#else
  Floats out{};
  for (int i = 0; i < kLanes; ++i) out[i] = base[at[i]];
  return out;
#endif
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
