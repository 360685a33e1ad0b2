// median_of_others: 32 units a block.
#include "launch.h"
#include "median_of_others.cuh"
#include "surface.h"

int64_t memkern_cuda_median_of_others_scratch(const memkern::MedianOfOthers*) { return 0; }

const char* memkern_cuda_median_of_others(const memkern::MedianOfOthers* op, void* /*scratch*/, void* stream) {
  using namespace memkern;
  if (op->points < 2 || op->units == 0) return op->units == 0 ? nullptr : "the median of others needs two points";
  const dim3 grid(unsigned(ceil_div(op->units, kMedianUnits))), block(kMedianThreads);
  if (op->dtype == DType::float64)
    MEMKERN_LAUNCH((median_of_others<double>), grid, block, cuda_stream(stream), *op);
  else
    MEMKERN_LAUNCH((median_of_others<float>), grid, block, cuda_stream(stream), *op);
  return take_launch_error();
}
