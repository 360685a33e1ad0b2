// Elements: their storage and wide (accumulating) types, and how kernels load and store them, one pack at a time.
#pragma once
#include "../ops.h"
#include "port.cuh"

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

// How many elements of a pack kernels that hold many packs widen at once: a pack of 8 16-bit elements takes half the
// registers until its turn comes.
template <class T, int width = kPack<T>>
constexpr int kPiece = width < 4 ? width : 4;

template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T element[width];
};

// The first `count` elements as they are stored, then zeros.
template <class T, int width>
__device__ __forceinline__ Pack<T, width> load_pack(const T* from, int64_t count) {
  if (count >= width) {
    MEMKERN_COUNT_LOAD(from, sizeof(T) * width);
    return *reinterpret_cast<const Pack<T, width>*>(from);
  }
  Pack<T, width> pack{};
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if (i < count) {
      MEMKERN_COUNT_LOAD(from + i, sizeof(T));
      pack.element[i] = from[i];
    }
  }
  return pack;
}

template <class T, int width>
__device__ __forceinline__ void load_some(const T* from, int64_t count, Wide<T> (&to)[width]) {
  const Pack<T, width> pack = load_pack<T, width>(from, count);
#pragma unroll
  for (int i = 0; i < width; ++i) to[i] = widen(pack.element[i]);
}

template <class T, int width>
__device__ __forceinline__ void load(const T* from, Wide<T> (&to)[width]) {
  load_some<T, width>(from, width, to);
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
