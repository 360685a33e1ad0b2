// Four neighboring pixels of a row, which a thread of views works on at once: one load, one store and one decision
// about what to do are shared by twelve numbers.
#pragma once
#include "elements.cuh"

namespace memkern {

constexpr int kQuad = 4;
using FourFloats = Pack<float, kQuad>;
constexpr float kTwo23 = 8388608.0f;  // from here on, floats are whole: n + 2^23 has the bits of n at its end

// Rounds 0 <= x < 2^23 down. truncf() takes a pipe of a quarter of the width of two additions.
__device__ __forceinline__ float whole_part(float x) { return add_toward_zero(x, kTwo23) - kTwo23; }

// Byte `i` of a word.
__device__ __forceinline__ float byte_of(uint32_t word, int i) {
  return float_of_bits(bytes_of(word, 0x4b000000u, 0x7540u + uint32_t(i))) - kTwo23;
}

__device__ __forceinline__ void load_quad(const uint8_t* from, float (&to)[kQuad]) {
  const uint32_t word = *reinterpret_cast<const uint32_t*>(from);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) to[i] = byte_of(word, i);
}
__device__ __forceinline__ void load_quad(const float* from, float (&to)[kQuad]) {
  const FourFloats pack = *reinterpret_cast<const FourFloats*>(from);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) to[i] = pack.element[i];
}

// To floats as they are; to bytes rounded down or, of numbers that are not whole, to the nearest, to even of two.
template <bool to_nearest>
__device__ __forceinline__ void store_quad(const float (&from)[kQuad], uint8_t* to) {
  const auto bits = [&](int i) { return bits_of(to_nearest ? from[i] + kTwo23 : add_toward_zero(from[i], kTwo23)); };
  *reinterpret_cast<uint32_t*>(to) =
      bytes_of(bytes_of(bits(0), bits(1), 0x0040u), bytes_of(bits(2), bits(3), 0x0040u), 0x5410u);
}
template <bool to_nearest>
__device__ __forceinline__ void store_quad(const float (&from)[kQuad], float* to) {
  FourFloats pack;
#pragma unroll
  for (int i = 0; i < kQuad; ++i) pack.element[i] = from[i];
  *reinterpret_cast<FourFloats*>(to) = pack;
}

}  // namespace memkern
