// median_of_others: 32 units a block, all of their rows or a chunk of them.
#include <algorithm>

#include "c_api.h"
#include "launch.h"
#include "median_of_others.cuh"
#include "scratch.h"

namespace memkern {
namespace {

MedianChunks plan_chunks(const MedianOfOthers& op, Scratch& scratch) {
  MedianChunks chunks{};
  chunks.rows = op.points;
  chunks.count = 1;
  if (op.points <= kMedianRows) return chunks;
  chunks.rows = ceil_div(op.points, std::min<int64_t>(kMedianChunks, ceil_div(op.points, kMedianRows)));
  chunks.count = ceil_div(op.points, chunks.rows);
  chunks.counts = scratch.take<uint32_t>(chunks.count * kDigits * op.units);
  chunks.rank = scratch.take<uint32_t>(op.units);
  const int64_t size = size_of(op.dtype);  // a key is as large as its value
  chunks.prefix = scratch.take<char>(op.units * size);
  chunks.above = scratch.take<char>(chunks.count * op.units * size);
  chunks.inverted_largest = scratch.take<char>(chunks.count * op.units * size);
  return chunks;
}

template <class A>
void launch(const MedianOfOthers& op, const MedianChunks& chunks, cudaStream_t stream) {
  const unsigned blocks = unsigned(ceil_div(op.units, kMedianUnits));
  const dim3 block(kMedianThreads);
  if (chunks.count == 1) {
    MEMKERN_LAUNCH((median_of_others<A>), dim3(blocks), block, stream, op);
    return;
  }
  for (int shift = kTopShift<A>; shift >= 0; shift -= kMedianBits) {
    MEMKERN_LAUNCH((count_digits<A>), dim3(blocks, unsigned(chunks.count)), block, stream, op, chunks, shift);
    MEMKERN_LAUNCH((choose_digits<A>), dim3(blocks), block, stream, op, chunks, shift);
  }
}

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_median_of_others_scratch(const memkern::MedianOfOthers* op) {
  memkern::Scratch scratch;
  memkern::plan_chunks(*op, scratch);
  return scratch.bytes();
}

const char* memkern_cuda_median_of_others(const memkern::MedianOfOthers* op, void* memory, void* stream) {
  using namespace memkern;
  if (op->points < 2 || op->units == 0) return op->units == 0 ? nullptr : "the median of others needs two points";
  if (op->points > UINT32_MAX) return "too many points: they are counted in 32 bits";
  Scratch scratch(memory);
  const MedianChunks chunks = plan_chunks(*op, scratch);
  if (op->dtype == DType::float64)
    launch<double>(*op, chunks, cuda_stream(stream));
  else
    launch<float>(*op, chunks, cuda_stream(stream));
  return take_launch_error();
}
