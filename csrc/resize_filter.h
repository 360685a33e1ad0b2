// Bilinear resizing along one axis: which inputs an output reads, and with which weights, by torch's arithmetic to the
// bit. T is double for uint8 images and float for float32 images. For CPU and CUDA kernels alike; everything is static,
// because the CPU's copies are compiled once per instruction set.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define MEMKERN_ANYWHERE __host__ __device__ __forceinline__
#else
#define MEMKERN_ANYWHERE inline
#endif

namespace memkern {

// A product rounded by itself. A device compiler fuses it with the sum that follows otherwise: other bits.
static MEMKERN_ANYWHERE float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
static MEMKERN_ANYWHERE double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

// The most inputs that one output reads. Sizes here are 32 bits, below 2^20: a GPU divides 64 bits in 70 instructions.
static MEMKERN_ANYWHERE int32_t most_taps(int32_t input, int32_t output, bool antialias) {
  if (!antialias || input <= output) return antialias ? 3 : 2;
  return (input + output - 1) / output * 2 + 1;
}

// Inputs that one output reads: inputs first ... first + count - 1.
template <class T>
struct Window {
  int32_t first, count;
  bool triangle;        // weights fall off linearly from the center, and must be divided by their sum
  T center, shrink;     // of the triangle
  T near_share, share;  // of two inputs, the left and the right one, else
};

template <class T>
static MEMKERN_ANYWHERE Window<T> window_of(int32_t i, int32_t input, int32_t output, bool antialias) {
  const T scale = T(input) / T(output), half = T(0.5);
  Window<T> window{i, 1, false, 0, 0, 1, 0};
  // fault: no resize
  if (input == output) return window;  // as it is: no neighbor, NaN perhaps, may enter with a weight of 0
  if (!antialias) {
    T position = T(product(double(scale), double(i) + 0.5) - 0.5);  // one rounding, as torch's fused product
    if (position < 0) position = 0;
    window.first = int32_t(position);
    if (window.first > input - 1) window.first = input - 1;
    window.share = position - T(window.first);
    window.count = window.first + 1 < input ? 2 : 1;
    if (window.count == 2) window.near_share = 1 - window.share;
    return window;
  }
  const T support = scale >= 1 ? scale : T(1);
  window.triangle = true;
  window.center = product(scale, T(i) + half);
  window.shrink = 1 / support;
  int32_t first = int32_t(window.center - support + half), last = int32_t(window.center + support + half);
  if (first < 0) first = 0;
  if (last > input) last = input;
  const int32_t most = most_taps(input, output, antialias);
  window.first = first;
  window.count = last > first + most ? most : last - first;
  return window;
}

// The weight of input first + j; that of a triangle before it is divided by the sum of all.
template <class T>
static MEMKERN_ANYWHERE T weight_of(const Window<T>& window, int32_t j) {
  if (!window.triangle) return j == 0 ? window.near_share : window.share;
  const T away = product(T(window.first + j) - window.center + T(0.5), window.shrink);
  const T distance = away < 0 ? -away : away;
  return distance < 1 ? 1 - distance : T(0);
}

// Weights of uint8 images are whole numbers of 2^-precision: as many digits as keep the largest below 2^15.
static MEMKERN_ANYWHERE int precision_of(double largest_weight) {
  int precision = 0;
  while (precision < 22 && int(0.5 + largest_weight * double(1 << (precision + 1))) < 1 << 15) ++precision;
  return precision;
}
static MEMKERN_ANYWHERE int32_t whole_weight(double weight, int precision) {
  return int32_t(0.5 + weight * double(1 << precision));
}

}  // namespace memkern
