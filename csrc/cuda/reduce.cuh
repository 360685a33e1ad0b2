// Sums over the threads of a warp and of a block, in a fixed order: the same bits on every run.
#pragma once
#include "cuda_compat.cuh"

namespace memkern {

constexpr int kWarp = 32;

__device__ __forceinline__ int lane_index() { return int(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_index() { return int(threadIdx.x) / kWarp; }

// Every lane gets the sum.
template <class A>
__device__ __forceinline__ A warp_sum(A x) {
#pragma unroll
  for (int bit = kWarp / 2; bit > 0; bit /= 2) x += __shfl_xor_sync(kAllLanes, x, bit);
  return x;
}

// The largest of values that are not negative, for every lane.
__device__ __forceinline__ double warp_max(double x) {
#pragma unroll
  for (int bit = kWarp / 2; bit > 0; bit /= 2) x = fmax(x, __shfl_xor_sync(kAllLanes, x, bit));
  return x;
}

// Halves `count` values: lanes whose `bit` is set go on with the upper half of them, the others with the lower half.
template <int bit, class From, class To, int count>
__device__ __forceinline__ void fold(const From (&from)[count], To (&to)[count / 2]) {
  const bool upper = lane_index() & bit;
#pragma unroll
  for (int i = 0; i < count / 2; ++i) {
    const From keep = upper ? from[i + count / 2] : from[i], give = upper ? from[i] : from[i + count / 2];
    to[i] = To(keep) + To(__shfl_xor_sync(kAllLanes, give, bit));
  }
}

// The warp's sums of 32 values each lane holds: lane i gets that of value i. 31 shuffles; one value after the other
// would take 160. The last three of five steps are in double: their errors would no longer average out.
template <class A>
__device__ __forceinline__ double warp_sums(const A (&values)[kWarp]) {
  A step1[16], step2[8];
  double step3[4], step4[2], step5[1];
  fold<16>(values, step1);
  fold<8>(step1, step2);
  fold<4>(step2, step3);
  fold<2>(step3, step4);
  fold<1>(step4, step5);
  return step5[0];
}

// start + from[0] + from[stride] + ..., one addition after the other, with several loads in flight.
__device__ __forceinline__ double sum_in_order(const double* from, int64_t count, int64_t stride, double start) {
  constexpr int unroll = 8;
  for (int64_t at = 0; at < count; at += unroll) {
    double value[unroll];
#pragma unroll
    for (int i = 0; i < unroll; ++i) value[i] = at + i < count ? from[(at + i) * stride] : 0;
#pragma unroll
    for (int i = 0; i < unroll; ++i) start += value[i];
  }
  return start;
}

constexpr int kMaxWarps = 8;  // of blocks that call what follows

// Every thread gets the sum. All threads of the block must call it; the barriers also order what they wrote before.
__device__ __forceinline__ double block_sum(double x) {
  MEMKERN_SHARED(double[kMaxWarps], sums);
  x = warp_sum(x);
  // fault: sums of the call before
  __syncthreads();  // the sums of the call before have been read
  if (lane_index() == 0) sums[warp_index()] = x;
  __syncthreads();  // fault: sum of the block
  double total = 0;
  for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) total += sums[warp];
  return total;
}

// The same for the largest of values that are not negative.
__device__ __forceinline__ double block_max(double x) {
  MEMKERN_SHARED(double[kMaxWarps], largest);
  x = warp_max(x);
  __syncthreads();
  if (lane_index() == 0) largest[warp_index()] = x;
  __syncthreads();
  double most = 0;
  for (int warp = 0; warp < int(blockDim.x) / kWarp; ++warp) most = fmax(most, largest[warp]);
  return most;
}

}  // namespace memkern
