// Elements: their storage and wide (accumulating) types, and how kernels load and store them, one pack at a time.
#pragma once
#include "../rules.h"
#include "cuda_compat.cuh"

namespace memkern {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

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

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return float_of_bits(uint32_t(x.bits) << 16); }
__device__ __forceinline__ float widen(f16 x) { return float_of_half(x.bits); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, f16& to) { to.bits = half_of_float(x); }
__device__ __forceinline__ void narrow(float x, bf16& to) {
  const uint32_t bits = bits_of(x);
  // Round to nearest even by adding just less than half a unit, and the last bit kept; NaN must not carry into
  // infinity.
  to.bits = uint16_t(x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

template <class A>
__device__ __forceinline__ A activate(Activation activation, A x) {
  if (activation == Activation::relu) return x < 0 ? A(0) : x;  // NaN stays
  if (activation == Activation::abs) return x < 0 ? -x : x;
  return x;
}

// ---- packs --------------------------------------------------------------------------------------------------------
// A pack is what one load instruction moves: 16 bytes where memory is aligned, else a single element.

template <class T>
constexpr int kPack = 16 / sizeof(T);

// Elements of a pack that kernels with many packs widen at once: a pack of 8 16-bit elements takes half the
// registers until its turn comes.
template <class T, int width = kPack<T>>
constexpr int kPiece = width < 4 ? width : 4;

template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T element[width];
};

// A pack as it lies in memory. Packs that are all loaded before the first is unpacked are in flight together; a load
// that widens 16-bit elements within its own condition is waited for before the next one starts.
template <class T, int width>
struct Words {
  uint32_t word[(sizeof(T) * width + 3) / 4] = {};
};

__device__ __forceinline__ void put(bf16 x, int i, uint32_t* word) { word[i / 2] |= uint32_t(x.bits) << i % 2 * 16; }
__device__ __forceinline__ void put(f16 x, int i, uint32_t* word) { word[i / 2] |= uint32_t(x.bits) << i % 2 * 16; }
__device__ __forceinline__ void put(float x, int i, uint32_t* word) { word[i] = bits_of(x); }
__device__ __forceinline__ void put(double x, int i, uint32_t* word) {
  word[2 * i] = uint32_t(bits_of(x));
  word[2 * i + 1] = uint32_t(bits_of(x) >> 32);
}

// The first `count` elements, then zeros.
template <class T, int width>
__device__ __forceinline__ Words<T, width> load_words(const T* from, int64_t count) {
  constexpr int words = int(sizeof(T) * width) / 4;
  Words<T, width> to;
  if (words > 0 && count >= width) {
    MEMKERN_COUNT_LOAD(from, sizeof(T) * width);
    const auto pack = *reinterpret_cast<const Pack<uint32_t, words == 0 ? 1 : words>*>(from);
#pragma unroll
    for (int i = 0; i < words; ++i) to.word[i] = pack.element[i];
    return to;
  }
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if (i < count) {  // fault: ragged end
      MEMKERN_COUNT_LOAD(from + i, sizeof(T));
      put(from[i], i, to.word);
    }
  }
  return to;
}

// Element i of them.
template <int width>
__device__ __forceinline__ float element(const Words<float, width>& from, int i) {
  return float_of_bits(from.word[i]);
}
template <int width>
__device__ __forceinline__ double element(const Words<double, width>& from, int i) {
  return double_of_bits(uint64_t(from.word[2 * i + 1]) << 32 | from.word[2 * i]);
}
template <class T, int width>  // bf16, f16
__device__ __forceinline__ float element(const Words<T, width>& from, int i) {
  return widen(T{uint16_t(from.word[i / 2] >> i % 2 * 16)});
}

template <class T, int width>
__device__ __forceinline__ void unpack(const Words<T, width>& from, Wide<T> (&to)[width]) {
#pragma unroll
  for (int i = 0; i < width; ++i) to[i] = element(from, i);
}

template <class T, int width>
__device__ __forceinline__ void load_some(const T* from, int64_t count, Wide<T> (&to)[width]) {
  unpack(load_words<T, width>(from, count), to);
}

template <class T, int width>
__device__ __forceinline__ void store_some(T* to, int64_t count, const Wide<T> (&from)[width]) {
  Pack<T, width> pack;
#pragma unroll
  for (int i = 0; i < width; ++i) narrow(from[i], pack.element[i]);
  if (count >= width) {
    *reinterpret_cast<Pack<T, width>*>(to) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < width; ++i)
    if (i < count) to[i] = pack.element[i];
}

}  // namespace memkern
