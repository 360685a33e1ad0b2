// The end of a view: (x - mean) / std of each channel, in the dtype and memory order of the result.
// Include only from files compiled once per instruction set.
#pragma once
#include "color.h"
#include "cpu/simd/row_io.h"
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// The first n lanes of v, rounded to nearest.
inline void narrow_first(Floats v, float* out, int64_t n) { store_first(out, v, n); }
inline void narrow_first(Floats v, bf16* out, int64_t n) {
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  const Bits bits = (Bits)v, nan = (Bits)(v != v);
  const Bits rounded = ((bits + 0x7fffu + ((bits >> 16) & 1u)) & ~nan) | ((bits | 0x400000u) & nan);
#if defined(__AVX512F__)
  store_first(out, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)(rounded >> 16)), n);
#else
  struct {
    bf16 half[kLanes];
  } halves;
  for (int i = 0; i < kLanes; ++i) halves.half[i].bits = uint16_t(rounded[i] >> 16);
  store_first(out, halves, n);
#endif
}
inline void narrow_first(Floats v, f16* out, int64_t n) {
  struct {
    f16 half[kLanes];
  } halves;
  alignas(kVectorBytes) float lanes[kLanes];
  store(lanes, v);
  narrow_group(lanes, halves.half);
  store_first(out, halves, n);
}

// Part `Part` of r0 g0 b0 r1 g1 b1 ...: lane i of it is element p = Part * kLanes + i, channel p % 3 of pixel p / 3.
template <int Part, size_t... I>
inline Floats interleaved_part(Floats r, Floats g, Floats b, std::index_sequence<I...>) {
  constexpr int n = kLanes;
  const Floats two = __builtin_shufflevector(r, g, (int((Part * n + I) / 3 + ((Part * n + I) % 3 == 1 ? n : 0)))...);
  // fault: interleaved channels
  return __builtin_shufflevector(two, b, (int((Part * n + I) % 3 == 2 ? n + (Part * n + I) / 3 : I))...);
}

struct Normalize {
  Normalize(const Views& op) {
    for (int64_t c = 0; c < op.channels; ++c) {
      mean[c] = every(op.mean[c]);
      inverse[c] = every(1.0f / op.std[c]);
    }
    to_one = every(op.pixel == Pixel::uint8 ? float(1.0 / 255.0) : 1.0f);
  }
  Floats operator()(const Canvas& c, int64_t channel, int64_t i) const {
    return (load(c.data + channel * c.stride + i) * to_one - mean[channel]) * inverse[channel];
  }
  Floats mean[3], inverse[3], to_one;
};

template <class T>
inline void write_planes(const Normalize& normal, const Canvas& c, T* out) {
  for (int64_t channel = 0; channel < c.channels; ++channel)
    for (int64_t i = 0; i < c.pixels; i += kLanes)
      narrow_first(normal(c, channel, i), out + channel * c.pixels + i, c.pixels - i);
}

template <class T>
inline void write_pixels(const Normalize& normal, const Canvas& c, T* out) {
  using Order = std::make_index_sequence<kLanes>;
  for (int64_t i = 0; i < c.pixels; i += kLanes) {
    const Floats r = normal(c, 0, i), g = normal(c, 1, i), b = normal(c, 2, i);
    const Floats parts[3] = {interleaved_part<0>(r, g, b, Order{}), interleaved_part<1>(r, g, b, Order{}),
                             interleaved_part<2>(r, g, b, Order{})};
    for (int part = 0; part < 3; ++part) {
      const int64_t at = 3 * i + part * kLanes, left = 3 * c.pixels - at;
      if (left > 0) narrow_first(parts[part], out + at, left);
    }
  }
}

// Sets the hidden patches to 0, the mean color.
template <class T>
inline void hide_patches(const Views& op, const uint8_t* hidden, T* out) {
  const int64_t rows = op.height / op.patch, columns = op.width / op.patch;
  const int64_t planes = op.channels_last ? 1 : op.channels, elements = op.channels_last ? op.channels : 1;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      if (!hidden[row * columns + column]) continue;
      for (int64_t plane = 0; plane < planes; ++plane)
        for (int64_t y = row * op.patch; y < (row + 1) * op.patch; ++y) {
          T* const start = out + ((plane * op.height + y) * op.width + column * op.patch) * elements;
          std::memset(static_cast<void*>(start), 0, size_t(op.patch * elements) * sizeof(T));
        }
    }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
