// alignment_backward: coefficients, then gradients.
#include "alignment.h"
#include "alignment_backward.cuh"
#include "c_api.h"

namespace memkern {
namespace {

template <class T>
void launch(const AlignmentBackward& op, Wide<T>* coefficients, cudaStream_t stream) {
  const KeptAlignment& f = op.forward;
  const int64_t coefficient_threads = round_up(f.views, kWarp);
  MEMKERN_LAUNCH((gradient_coefficients<Wide<T>>), dim3(unsigned(f.points)),
                 dim3(unsigned(coefficient_threads < kFinishThreads ? coefficient_threads : kFinishThreads)), stream,
                 op, coefficients);
  const bool packs = aligned_for_packs(f.z, f.dtype, f.point_stride, f.view_stride) &&
                     aligned_for_packs(op.grad_z, f.dtype, op.grad_point_stride, op.grad_view_stride);
  const auto chunk_of = [&](int64_t step) {  // dims of a block that takes `step` of them at once
    return std::max(round_up(ceil_div(f.dims, kMaxGridY), step), step * kGradientPacks);
  };
  if constexpr (sizeof(T) < sizeof(double)) {  // in double, 10 views would not fit the registers
    if (packs && f.pairs == Pairs::all && f.views <= kMaxFewViews) {
      const int64_t chunk = chunk_of(kPairThreads * 4);
      const dim3 grid(unsigned(f.points), unsigned(ceil_div(f.dims, chunk)));
      return for_few_views(f.views, [&](auto views) {
        MEMKERN_LAUNCH((gradient_of_few<T, views>), grid, dim3(kPairThreads), stream, op, chunk, coefficients);
      });
    }
  }
  const int64_t chunk = chunk_of(kWarp * (packs ? kPack<T> : 1));
  const int64_t tiles = ceil_div(f.views, kGradientViews), groups = ceil_div(tiles, kTileWarps);
  const dim3 grid(unsigned(f.points * groups), unsigned(ceil_div(f.dims, chunk)));
  const dim3 block(unsigned((tiles < kTileWarps ? tiles : kTileWarps) * kWarp));
  if (packs)
    MEMKERN_LAUNCH((alignment_gradient<T, kPack<T>>), grid, block, stream, op, chunk, groups, coefficients);
  else
    MEMKERN_LAUNCH((alignment_gradient<T, 1>), grid, block, stream, op, chunk, groups, coefficients);
}

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_alignment_backward_scratch(const memkern::AlignmentBackward* op) {
  const memkern::KeptAlignment& f = op->forward;
  return f.points * memkern::count_coefficients(f.views) * (f.dtype == memkern::DType::float64 ? 8 : 4);
}

const char* memkern_cuda_alignment_backward(const memkern::AlignmentBackward* op, void* scratch, void* stream) {
  const memkern::KeptAlignment& f = op->forward;
  if (f.points == 0) return nullptr;
  const int64_t groups = memkern::ceil_div(f.views, memkern::kGradientViews * memkern::kTileWarps);
  if (f.points > memkern::kMaxGridX / groups) return "too many points and views for one launch";
  memkern::for_dtype(f.dtype, [&](auto element) {
    using T = decltype(element);
    memkern::launch<T>(*op, static_cast<memkern::Wide<T>*>(scratch), memkern::cuda_stream(stream));
  });
  return memkern::take_launch_error();
}
