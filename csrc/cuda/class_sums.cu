// class_sums: how many ranges of points.
#include <algorithm>

#include "c_api.h"
#include "class_sums.cuh"
#include "launch.h"

namespace memkern {
namespace {

ClassSumsRanges plan_ranges(const ClassSums& op, void* scratch) {
  const int64_t wanted = std::max<int64_t>(1, kClassBlocks / op.classes);
  const int64_t points = std::max<int64_t>(kMinClassPoints, ceil_div(op.points, wanted));
  return {points, ceil_div(op.points, points), static_cast<double*>(scratch)};
}

bool nothing_to_do(const ClassSums& op) { return op.points == 0 || op.units == 0 || op.classes == 0; }

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_class_sums_scratch(const memkern::ClassSums* op) {
  if (memkern::nothing_to_do(*op)) return 0;
  const int64_t ranges = memkern::plan_ranges(*op, nullptr).count;
  return ranges > 1 ? ranges * op->classes * op->units * int64_t(sizeof(double)) : 0;
}

const char* memkern_cuda_class_sums(const memkern::ClassSums* op, void* scratch, void* stream) {
  using namespace memkern;
  if (nothing_to_do(*op)) return nullptr;
  const ClassSumsRanges ranges = plan_ranges(*op, scratch);
  const int64_t blocks = op->classes * ceil_div(op->units, kClassThreads);
  if (blocks > kMaxGridX) return "too many classes and units for one launch";
  const dim3 grid(unsigned(blocks), unsigned(ranges.count)), block(kClassThreads);
  const cudaStream_t queue = cuda_stream(stream);
  if (op->dtype == DType::float64)
    MEMKERN_LAUNCH((class_sums<double>), grid, block, queue, *op, ranges);
  else
    MEMKERN_LAUNCH((class_sums<float>), grid, block, queue, *op, ranges);
  if (ranges.count > 1) {
    const dim3 add_grid(unsigned(ceil_div(op->classes * op->units, kClassThreads)));
    MEMKERN_LAUNCH((add_class_sums), add_grid, block, queue, *op, ranges);
  }
  return take_launch_error();
}
