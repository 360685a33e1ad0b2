// selectivity: means where there is something to average, then the state of each unit.
#include <algorithm>

#include "c_api.h"
#include "scratch.h"
#include "selectivity.cuh"
#include "unit_means.h"

namespace memkern {
namespace {

// Content of the scratch memory.
struct SelectivityScratch {
  SelectivityScratch(const Selectivity& op, void* memory) {
    // Cut by the number of points alone: the sums, and so the bits, depend on nothing else.
    chunk = std::max<int64_t>(kMinStatePoints, ceil_div(op.x.points, kStateChunks));
    chunks = ceil_div(op.x.points, chunk);
    Scratch scratch(memory);
    const int64_t wide = op.x.dtype == DType::float64 ? 8 : 4, states = chunks > 1 ? chunks * op.x.units : 0;
    partial = {scratch.take<char>(states * wide), scratch.take<int64_t>(states), scratch.take<double>(states),
               scratch.take<char>(states * wide)};
    if (op.x.mean_dims > 0) {
      means = scratch.take<char>(op.x.points * op.x.units * wide);
      parts = scratch.take<char>(unit_means_scratch(op.x));
    }
    bytes = scratch.bytes();
  }

  int64_t chunk, chunks, bytes;
  SelectivityState partial;  // [chunks, units], if there are several
  void* means = nullptr;     // [points, units] wide, if something is averaged
  void* parts = nullptr;     // for unit_means
};

// The means as activations of their own.
Activations matrix_of(const Activations& x, const void* means) {
  Activations matrix{};
  matrix.data = means;
  matrix.dtype = x.dtype == DType::float64 ? DType::float64 : DType::float32;
  matrix.points = x.points;
  matrix.units = x.units;
  matrix.point_stride = x.units;
  matrix.unit_stride = 1;
  return matrix;
}

template <class T>
void visit(const Activations& x, const Selectivity& op, const SelectivityScratch& scratch, cudaStream_t stream) {
  const bool packs = x.unit_stride == 1 && aligned_for_packs(x.data, x.dtype, x.point_stride);
  const int64_t threads = ceil_div(x.units, packs ? kPack<T> : 1);
  const dim3 grid(unsigned(ceil_div(threads, kStateThreads)), unsigned(scratch.chunks)), block(kStateThreads);
  const Points points{op.order, x.points, scratch.chunk};
  const SelectivityState& state = scratch.chunks > 1 ? scratch.partial : op.state;
  if (packs)
    MEMKERN_LAUNCH((visit_points<T, kPack<T>>), grid, block, stream, x, points, state);
  else
    MEMKERN_LAUNCH((visit_points<T, 1>), grid, block, stream, x, points, state);
  if (scratch.chunks == 1) return;
  const dim3 merge_grid(unsigned(ceil_div(x.units, kWarp)));
  MEMKERN_LAUNCH((merge_states<Wide<T>>), merge_grid, dim3(kMergeWarps * kWarp), stream, scratch.chunks, x.units,
                 scratch.partial, op.state);
}

}  // namespace

const char* launch_selectivity(const Selectivity& op, void* memory, Stream stream) {
  if (op.x.points == 0 || op.x.units == 0) return nullptr;
  const SelectivityScratch scratch(op, memory);
  Activations x = op.x;
  if (op.x.mean_dims > 0) {
    if (const char* error = launch_unit_means({op.x, scratch.means}, scratch.parts, stream)) return error;
    x = matrix_of(op.x, scratch.means);
  }
  for_dtype(x.dtype, [&](auto element) { visit<decltype(element)>(x, op, scratch, cuda_stream(stream)); });
  return take_launch_error();
}

}  // namespace memkern

int64_t memkern_cuda_selectivity_scratch(const memkern::Selectivity* op) {
  return memkern::SelectivityScratch(*op, nullptr).bytes;
}

const char* memkern_cuda_selectivity(const memkern::Selectivity* op, void* scratch, void* stream) {
  return memkern::launch_selectivity(*op, scratch, stream);
}
