// alignment: which kernels run, and how they split the work.
#include "alignment.h"
#include "surface.h"

namespace memkern {

AlignmentPlan plan_alignment(const Alignment& op) {
  AlignmentPlan plan{};
  plan.packs = aligned_for_packs(op.z, op.dtype, op.point_stride, op.view_stride);
  plan.few_views = plan.packs && op.pairs == Pairs::all && op.views <= kMaxFewViews && op.dtype != DType::float64;
  const int64_t width = plan.packs ? 16 / size_of(op.dtype) : 1;
  const int64_t step = width * (plan.few_views ? kPairThreads : kWarp);  // dims that the threads take at once
  // At most kMaxChunks, at least so long that writing and reading the sums costs little beside reading the views.
  const int64_t longest = ceil_div(op.dims, kMaxChunks);
  const int64_t cheap = kPartialShare * 2 * 8 * count_sums(op) / (op.views * size_of(op.dtype));
  const int64_t usual = step * (plan.few_views ? kPairPacks : kTilePacks);
  plan.chunk = round_up(std::max({longest, cheap, usual}), step);
  plan.chunks = ceil_div(op.dims, plan.chunk);
  plan.groups = ceil_div(count_tiles(op), kTileWarps);
  return plan;
}

namespace {

template <class T>
void sum_pairs(const Alignment& op, const AlignmentPlan& plan, double* partial, cudaStream_t stream) {
  if constexpr (sizeof(T) < sizeof(double)) {  // in double, 45 sums and 10 packs would not fit the registers
    if (plan.few_views) {
      const dim3 grid(unsigned(op.points), unsigned(plan.chunks));
      return for_few_views(op.views, [&](auto views) {
        MEMKERN_LAUNCH((pair_sums<T, views>), grid, dim3(kPairThreads), stream, op, plan.chunk, partial);
      });
    }
  }
  const dim3 grid(unsigned(op.points * plan.groups), unsigned(plan.chunks)), block(kTileWarps * kWarp);
  if (plan.packs)
    MEMKERN_LAUNCH((tile_sums<T, kPack<T>>), grid, block, stream, op, plan.chunk, plan.groups, partial);
  else
    MEMKERN_LAUNCH((tile_sums<T, 1>), grid, block, stream, op, plan.chunk, plan.groups, partial);
}

}  // namespace

int64_t alignment_scratch(const Alignment& op) {
  return op.points * plan_alignment(op).chunks * count_sums(op) * int64_t(sizeof(double));
}

const char* launch_alignment(const Alignment& op, void* scratch, Stream stream) {
  if (op.points == 0) return nullptr;
  const AlignmentPlan plan = plan_alignment(op);
  if (op.points > kMaxGridX / plan.groups) return "too many points and views for one launch";
  double* const partial = static_cast<double*>(scratch);
  for_dtype(op.dtype, [&](auto element) {
    using T = decltype(element);
    if (plan.chunks > 0) sum_pairs<T>(op, plan, partial, cuda_stream(stream));
    finish_distances<T>(batch_of<FinishTask>({op, plan.chunks, partial}), op.points, cuda_stream(stream));
  });
  return take_launch_error();
}

}  // namespace memkern

int64_t memkern_cuda_alignment_scratch(const memkern::Alignment* op) { return memkern::alignment_scratch(*op); }

const char* memkern_cuda_alignment(const memkern::Alignment* op, void* scratch, void* stream) {
  return memkern::launch_alignment(*op, scratch, stream);
}
