// Vectors of one instruction set, by GCC/Clang vector extensions: explicit order of operations, so results are
// deterministic and NaN keeps its meaning (no -ffast-math). Included only by files compiled once per instruction set.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Attribute of a lambda whose body becomes part of its caller. Not where nothing is optimized, as under sanitizers:
// compiling would take twice as long.
#if defined(__OPTIMIZE__)
#define MEMKERN_INLINE __attribute__((always_inline))
#else
#define MEMKERN_INLINE
#endif

namespace memkern {
namespace MEMKERN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;  // SSE2, NEON, or whatever the compiler makes of it
#endif

// Storage types that C++ has no arithmetic for.
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

// A storage type's accumulating ("wide") type.
template <class T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

// A vector of the wide type A, and the same bits as unsigned integers.
template <class A>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int count = kVectorBytes / 4;
};
template <>
struct Lanes<double> {
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int count = kVectorBytes / 8;
};
template <class A>
using Vec = typename Lanes<A>::Vec;

template <class A>
inline Vec<A> load(const A* p) {
  return *reinterpret_cast<const typename Lanes<A>::Unaligned*>(p);
}
template <class A>
inline void store(A* p, Vec<A> v) {
  *reinterpret_cast<typename Lanes<A>::Unaligned*>(p) = v;
}
template <class A>
inline Vec<A> broadcast(A a) {
  return Vec<A>{} + a;
}

// ---- loops of a compiled number of steps ----------------------------------------------------------------------------

template <class Step, int... I>
MEMKERN_INLINE inline void each_of(const Step& step, std::integer_sequence<int, I...>) {
  (step(std::integral_constant<int, I>{}), ...);
}

// Calls step(0), step(1), ... with constants. Sums that such steps index stay in registers; those of a loop that the
// compiler unrolls may not, because it does so after it has decided what lies in memory (GCC 12 at -O2: twice the
// time).
template <int count, class Step>
MEMKERN_INLINE inline void each(const Step& step) {
  each_of(step, std::make_integer_sequence<int, count>{});
}

// ---- one element -----------------------------------------------------------------------------------------------

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bf16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline float widen(f16 x) {
  // Shift the 15 value bits into float's place and rescale the exponent (2^112): subnormals come out right.
  const uint32_t magnitude = x.bits & 0x7fffu, sign = uint32_t(x.bits & 0x8000u) << 16;
  uint32_t bits = magnitude << 13;
  float value;
  if (magnitude >= 0x7c00u) {
    bits += 0x70000000u;  // infinity and NaN keep an all-ones exponent
    std::memcpy(&value, &bits, 4);
  } else {
    std::memcpy(&value, &bits, 4);
    value *= 5.192296858534828e33f;
  }
  std::memcpy(&bits, &value, 4);
  bits |= sign;
  std::memcpy(&value, &bits, 4);
  return value;
}

// ---- a group of columns ----------------------------------------------------------------------------------------
// A load of storage type T yields `kColumns<T>` vectors of the wide type. bfloat16 comes in pairs: one full-width load
// holds even and odd elements, split by a shift and a mask, which is faster than widening in order. Inside a sum
// over elements the order of the columns does not matter; where it does, `interleave` restores it.

template <class T>
constexpr int kColumns = 1;
template <>
constexpr int kColumns<bf16> = 2;
// elements per group
template <class T>
constexpr int kGroup = kColumns<T> * Lanes<Wide<T>>::count;

inline void load_group(const float* p, Vec<float>* out) { out[0] = load(p); }
inline void load_group(const double* p, Vec<double>* out) { out[0] = load(p); }
inline void load_group(const bf16* p, Vec<float>* out) {
  typedef uint32_t Unaligned __attribute__((vector_size(kVectorBytes), aligned(2), may_alias));
  const typename Lanes<float>::Bits pairs = *reinterpret_cast<const Unaligned*>(p);
  out[0] = (Vec<float>)(pairs << 16);
  out[1] = (Vec<float>)(pairs & 0xffff0000u);
}
inline void load_group(const f16* p, Vec<float>* out) {
#if defined(__AVX512F__)
  // zero-masked with a full mask: the same instruction, without GCC 12's warning about its own undefined pass-through
  out[0] = (Vec<float>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  out[0] = (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__aarch64__)
  out[0] = (Vec<float>)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
#else
  typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
  typedef typename Lanes<float>::Bits Bits;
  Halves halves;
  std::memcpy(&halves, p, sizeof(halves));
  const Bits wide = __builtin_convertvector(halves, Bits), magnitude = wide & 0x7fffu;
  const Bits special = (Bits)(magnitude >= 0x7c00u);
  const Vec<float> finite = (Vec<float>)(magnitude << 13) * 5.192296858534828e33f;
  const Bits bits = ((Bits)finite & ~special) | (((magnitude << 13) + 0x70000000u) & special);
  out[0] = (Vec<float>)(bits | ((wide & 0x8000u) << 16));
#endif
}

// ---- shuffles --------------------------------------------------------------------------------------------------
// Index lists come from an index_sequence: one line serves every vector width.

template <class A>
using LaneIndices = std::make_index_sequence<Lanes<A>::count>;

// The first (Half 0) or second (Half 1) half of a0 b0 a1 b1 a2 b2 ...
template <int Half, class A, size_t... I>
inline Vec<A> interleaved_half(Vec<A> a, Vec<A> b, std::index_sequence<I...>) {
  constexpr size_t n = sizeof...(I);
  return __builtin_shufflevector(a, b, int((I + Half * n) / 2 + I % 2 * n)...);
}

// Puts the columns of one group in the order of memory: even and odd elements of bfloat16, nothing to do elsewhere.
template <class T>
inline void interleave(Vec<Wide<T>>* columns) {
  using A = Wide<T>;
  if constexpr (kColumns<T> == 2) {
    const Vec<A> even = columns[0], odd = columns[1];
    columns[0] = interleaved_half<0, A>(even, odd, LaneIndices<A>{});
    columns[1] = interleaved_half<1, A>(even, odd, LaneIndices<A>{});
  }
}

// ---- sums across a vector --------------------------------------------------------------------------------------

template <class A>
inline A sum_lanes(Vec<A> v) {
  // Halves folded onto each other: a fixed tree, so the same bits on every run.
  constexpr int n = Lanes<A>::count;
  alignas(kVectorBytes) A lane[n];
  std::memcpy(lane, &v, sizeof(v));
  for (int width = n / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
