// The CUDA dialect for launchers alone: built by a C++ compiler, without CUDA. Nothing here runs a kernel. A launch
// names the kernel's instance ("pair_sums<float, 10>") and hands its grid, block and arguments to whoever made the
// queue, who has compiled it (memkern/nvrtc.py). Kernels are parsed and never called, so the names that they use are
// declared only.
#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <type_traits>

#include "kernel_name.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

namespace memkern {
namespace by_name {

struct Dim3 {
  unsigned x, y, z;
  Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct Launch {
  std::string kernel;
  Dim3 grid, block;
  void** arguments;  // the address of each, as cuLaunchKernel takes them; valid during the call
};

// Launcher that stands in place of a stream. Failures are exceptions.
struct Queue {
  std::function<void(const Launch&)> launch;
};

// Arguments become the kernel's parameters here, so that each has the size and type that the kernel reads.
template <class... Parameters>
void launch(std::string kernel, void (*)(Parameters...), Dim3 grid, Dim3 block, const Queue* queue,
            std::common_type_t<Parameters>... arguments) {
  void* addresses[] = {&arguments...};
  queue->launch({std::move(kernel), grid, block, addresses});
}

}  // namespace by_name

template <class T>
struct TypeOf {
  using type = T;
};
float float_of_bits(uint32_t bits);
double double_of_bits(uint64_t bits);
uint32_t bits_of(float x);
uint64_t bits_of(double x);
float float_of_half(uint16_t bits);
uint16_t half_of_float(float x);
void count_up(uint32_t& counter);
uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t select);
float add_toward_zero(float a, float b);
float about_inverse(float x);
template <class T>
T load_constant(const T* from);
inline const char* take_launch_error() { return nullptr; }

}  // namespace memkern

using dim3 = memkern::by_name::Dim3;
using cudaStream_t = const memkern::by_name::Queue*;
constexpr uint32_t kAllLanes = 0xffffffffu;

extern const dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();
void __syncwarp();
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits);
uint32_t __ballot_sync(uint32_t mask, int predicate);
int __popc(uint32_t bits);

#define MEMKERN_SHARED(Type, name) static typename memkern::TypeOf<Type>::type name
#define MEMKERN_LAUNCH(kernel, grid, block, stream, ...)                                                              \
  memkern::by_name::launch(MEMKERN_KERNEL_NAME(kernel), static_cast<decltype(&kernel)>(nullptr), grid, block, stream, \
                           __VA_ARGS__)
#define MEMKERN_COUNT_LOAD(from, bytes)
