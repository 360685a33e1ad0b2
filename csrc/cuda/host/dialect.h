// The CUDA dialect for a plain C++17 compiler: the names that kernels use, and nothing more. A name that is missing
// here is not emulated, so a kernel that uses it does not compile, rather than be tested by guesswork. Atomics and
// fences are missing on purpose: results must not depend on the order of blocks. (count_up of cuda_compat.cuh stays in
// one.)
#pragma once
#include <cmath>
#include <cstring>

#include "launch.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (memkern::emulation::thread_index())
#define blockIdx (memkern::emulation::block_index())
#define blockDim (memkern::emulation::block_dims())
#define gridDim (memkern::emulation::grid_dims())

using dim3 = memkern::emulation::Dim3;
using cudaStream_t = void*;

// Callers' file and line, for messages.
#define MEMKERN_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

constexpr uint32_t kAllLanes = 0xffffffffu;

namespace memkern {
namespace emulation {

// Lets an array type stand before the name it declares.
template <class T>
using Shared = T;

enum Collective : int { sync_warp, shuffle_xor, shuffle_index, ballot };

MEMKERN_RUNTIME inline Dim3 thread_index() { return {block.current->x, block.current->y, block.current->z}; }
MEMKERN_RUNTIME inline Dim3 block_index() { return {block.x, block.y, block.z}; }
MEMKERN_RUNTIME inline Dim3 block_dims() { return block.dims; }
MEMKERN_RUNTIME inline Dim3 grid_dims() { return block.grid; }
MEMKERN_RUNTIME inline int current_lane() { return block.current->index % kLanes; }

template <class T>
T shuffle(uint32_t mask, T value, int from, Collective kind, const char* file, int line) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  const int generation = meet_in_warp(mask, bits, kind, false, file, line);
  if (from < 0 || from >= kLanes || !(mask >> from & 1))
    fail("%s:%d: shuffle reads lane %d, which did not take part", file, line, from);
  bits = left_by_lane(generation, from);
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulation
}  // namespace memkern

inline void __syncthreads(MEMKERN_HERE) { memkern::emulation::wait_for_block(file, line); }
inline void __syncwarp(uint32_t mask = kAllLanes, MEMKERN_HERE) {
  memkern::emulation::meet_in_warp(mask, 0, memkern::emulation::sync_warp, true, file, line);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, MEMKERN_HERE) {
  const int from = memkern::emulation::current_lane() ^ bits;
  return memkern::emulation::shuffle(mask, value, from, memkern::emulation::shuffle_xor, file, line);
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int from, MEMKERN_HERE) {
  return memkern::emulation::shuffle(mask, value, from, memkern::emulation::shuffle_index, file, line);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, MEMKERN_HERE) {
  const int generation =
      memkern::emulation::meet_in_warp(mask, predicate != 0, memkern::emulation::ballot, false, file, line);
  uint32_t votes = 0;
  for (int lane = 0; lane < memkern::emulation::kLanes; ++lane)
    if (mask >> lane & 1) votes |= uint32_t(memkern::emulation::left_by_lane(generation, lane)) << lane;
  return votes;
}
inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
#undef MEMKERN_HERE
