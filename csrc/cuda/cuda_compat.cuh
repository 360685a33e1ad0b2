// The only file that knows which compiler is at work: nvcc, NVRTC, or a plain C++ compiler, which builds the launchers
// alone (nvrtc_launch.h, for kernels that NVRTC compiles) or also kernels that run on the CPU (host/, for tests).
// Kernels are plain CUDA plus MEMKERN_SHARED, MEMKERN_LAUNCH and MEMKERN_COUNT_LOAD, which on a GPU are the usual
// syntax, and use neither inline PTX, nor libraries, nor atomics but count_up: integers in shared memory come to the
// same counts in whatever order threads arrive.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_fp16.h>
#if !defined(__CUDACC_RTC__)
#include <cuda_runtime.h>
#endif

constexpr uint32_t kAllLanes = 0xffffffffu;

namespace memkern {
template <class T>
struct TypeOf {
  using type = T;
};  // lets an array type stand before the name it declares
}  // namespace memkern
#define MEMKERN_SHARED(Type, name) __shared__ typename memkern::TypeOf<Type>::type name
#define MEMKERN_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define MEMKERN_COUNT_LOAD(from, bytes)

namespace memkern {

__device__ __forceinline__ float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ double double_of_bits(uint64_t bits) { return __longlong_as_double((long long)(bits)); }
__device__ __forceinline__ uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ uint64_t bits_of(double x) { return uint64_t(__double_as_longlong(x)); }
__device__ __forceinline__ float float_of_half(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ __forceinline__ uint16_t half_of_float(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ __forceinline__ void count_up(uint32_t& counter) { atomicAdd(&counter, 1u); }
// Each of the lower 4 digits of `select`, in hexadecimal, names a byte of the result: 0 to 3 those of a, 4 to 7 of b.
__device__ __forceinline__ uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t select) {
  return __byte_perm(a, b, select);
}
__device__ __forceinline__ float add_toward_zero(float a, float b) { return __fadd_rz(a, b); }
// Load from global memory that nobody writes meanwhile, whatever the compiler knows of the pointer.
template <class T>
__device__ __forceinline__ T load_constant(const T* from) {
  return __ldg(from);
}
// Inverse of a number in the normal range, to about a unit in the last place.
__device__ __forceinline__ float about_inverse(float x) { return __fdividef(1.0f, x); }

#if !defined(__CUDACC_RTC__)
inline const char* text_of(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }
inline const char* take_launch_error() { return text_of(cudaGetLastError()); }
#endif

}  // namespace memkern

#elif defined(MEMKERN_LAUNCH_BY_NAME)

#include "nvrtc_launch.h"

#else  // the host emulation

#include "host/dialect.h"

#define MEMKERN_SHARED(Type, name) \
  static char name##_tag;          \
  auto& name =                     \
      *static_cast<memkern::emulation::Shared<Type>*>(memkern::emulation::shared_variable(&name##_tag, sizeof(Type)))
#define MEMKERN_LAUNCH(kernel, grid, block, stream, ...)           \
  ((void)(stream), (void)memkern::emulation::Named<kernel>::known, \
   memkern::emulation::launch(kernel, grid, block, __VA_ARGS__))
#define MEMKERN_COUNT_LOAD(from, bytes) memkern::emulation::count_load(from, bytes)

namespace memkern {

template <class To, class From>
inline To copy_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline float float_of_bits(uint32_t bits) { return copy_bits<float>(bits); }
inline double double_of_bits(uint64_t bits) { return copy_bits<double>(bits); }
inline uint32_t bits_of(float x) { return copy_bits<uint32_t>(x); }
inline uint64_t bits_of(double x) { return copy_bits<uint64_t>(x); }

// ThreadSanitizer knows what a relaxed atomic is: it meets others of its kind without a race, and orders nothing.
inline void count_up(uint32_t& counter, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulation::check_is_shared(&counter, file, line);
  __atomic_fetch_add(&counter, 1u, __ATOMIC_RELAXED);
}

inline float float_of_half(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu, sign = uint32_t(bits & 0x8000u) << 16;
  if (magnitude >= 0x7c00u) return float_of_bits(((magnitude << 13) + 0x70000000u) | sign);      // infinity, NaN
  return float_of_bits(bits_of(float_of_bits(magnitude << 13) * 5.192296858534828e33f) | sign);  // 2^112: the new bias
}

// Round to nearest even: in units of the last place, which below the normal numbers stays 2^-24.
inline uint16_t half_of_float(float x) {
  const uint16_t sign = uint16_t(bits_of(x) >> 16 & 0x8000u);
  if (x != x) return uint16_t(sign | 0x7fffu);
  const double magnitude = std::fabs(double(x));
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int last_place = exponent - 11 < -24 ? -24 : exponent - 11;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(magnitude, -last_place)), last_place);
  if (rounded >= 65536) return uint16_t(sign | 0x7c00u);
  if (rounded < 0x1p-14) return uint16_t(sign | int(rounded * 0x1p24));
  std::frexp(rounded, &exponent);
  return uint16_t(sign | ((exponent + 14) << 10) | (int(std::ldexp(rounded, 11 - exponent)) & 0x3ff));
}

inline uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t select) {
  const uint64_t both = uint64_t(b) << 32 | a;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) picked |= uint32_t(both >> (select >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
  return picked;
}
inline float add_toward_zero(float a, float b) {  // both are exact in double, and so is their sum where this is called
  const double sum = double(a) + double(b);
  const float near = float(sum);
  return std::fabs(double(near)) > std::fabs(sum) ? std::nextafterf(near, 0.0f) : near;
}
inline float about_inverse(float x) { return 1 / x; }
template <class T>
inline T load_constant(const T* from) {
  return *from;
}

inline const char* take_launch_error() { return emulation::take_error(); }

}  // namespace memkern

#endif
