// alignment: which kernels run, and how they split the work.
#include "alignment.h"
#include "c_api.h"

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

SecondLook second_look(const Alignment& op, const AlignmentPlan& plan, Scratch& scratch) {
  // Doubles know their distances better than the elements of unit vectors do.
  // Of l1 distances the sums say nothing: their look is in finish_l1.
  const bool is_known = op.dtype == DType::float64 || op.distance == Distance::l1;
  if (!op.normalize || is_known || op.dims <= kLookDims) return {};
  SecondLook look{plan.chunk, plan.chunks, plan.groups, nullptr, nullptr};
  look.sums = scratch.take<double>(op.points * plan.chunks * count_sums(op));
  look.wanted = scratch.take<int32_t>(op.points);
  return look;
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

// Looks at the points that want it once more; `blocks`: of `batch`, a point each.
template <class T>
void look_again(const Batch<FinishTask>& batch, int64_t blocks, cudaStream_t stream) {
  Batch<FinishTask> looks{};
  int64_t look_blocks = 0;
  bool packs = true;
  for (int i = 0; i < batch.count; ++i) {
    const auto& [op, chunks, partial, look] = batch.task[i];
    if (!look.wanted) continue;
    packs &= aligned_for_packs(op.z, op.dtype, op.point_stride, op.view_stride);
    const int64_t items = op.points * look.groups * look.chunks;
    look_blocks = add_task(looks, batch.task[i], look_blocks, std::min<int64_t>(items, kLookBlocks));
  }
  if (look_blocks == 0) return;
  const dim3 grid{unsigned(look_blocks)}, block(kTileWarps * kWarp);
  if (packs)
    MEMKERN_LAUNCH((unit_pair_sums<T, kPack<T>>), grid, block, stream, looks);
  else
    MEMKERN_LAUNCH((unit_pair_sums<T, 1>), grid, block, stream, looks);
  MEMKERN_LAUNCH((finish_unit_pairs<T>), dim3(unsigned(blocks)), dim3(kFinishThreads), stream, batch);
}

// Partial sums to distances.
template <class T>
void finish(const Batch<FinishTask>& batch, int64_t blocks, cudaStream_t stream) {
  // A warp for every 32 sums; all there are where recomputing a pair would take long.
  int64_t threads = kWarp;
  for (int i = 0; i < batch.count; ++i) {
    const Alignment& op = batch.task[i].op;
    threads = std::max(threads, op.dims > 4096 ? int64_t{kFinishThreads} : round_up(count_sums(op), kWarp));
  }
  threads = std::min<int64_t>(threads, kFinishThreads);
  const dim3 grid = dim3(unsigned(blocks)), block = dim3(unsigned(threads));
  // The tasks of a batch come from one call, so all have one distance.
  if (batch.count > 0 && batch.task[0].op.distance == Distance::l1) {
    MEMKERN_LAUNCH((finish_l1<T>), grid, block, stream, batch);
    return;
  }
  MEMKERN_LAUNCH((finish_alignment<T>), grid, block, stream, batch);
  if constexpr (sizeof(T) < sizeof(double)) look_again<T>(batch, blocks, stream);
}

// Scratch memory of a launch.
FinishTask finish_task(const Alignment& op, const AlignmentPlan& plan, Scratch& scratch) {
  double* const partial = scratch.take<double>(op.points * plan.chunks * count_sums(op));
  return {op, plan.chunks, partial, second_look(op, plan, scratch)};
}

}  // namespace

void finish_distances(DType dtype, const Batch<FinishTask>& batch, int64_t blocks, cudaStream_t stream) {
  for_dtype(dtype, [&](auto element) { finish<decltype(element)>(batch, blocks, stream); });
}

int64_t alignment_scratch(const Alignment& op) {
  Scratch scratch;
  finish_task(op, plan_alignment(op), scratch);
  return scratch.bytes();
}

const char* launch_alignment(const Alignment& op, void* memory, Stream stream) {
  if (op.points == 0) return nullptr;
  const AlignmentPlan plan = plan_alignment(op);
  if (op.points > kMaxGridX / plan.groups) return "too many points and views for one launch";
  Scratch scratch(memory);
  const FinishTask task = finish_task(op, plan, scratch);
  if (op.distance != Distance::l1)  // which reads no sums
    for_dtype(op.dtype,
              [&](auto element) { sum_pairs<decltype(element)>(op, plan, task.partial, cuda_stream(stream)); });
  finish_distances(op.dtype, batch_of(task), op.points, cuda_stream(stream));
  return take_launch_error();
}

}  // namespace memkern

int64_t memkern_cuda_alignment_scratch(const memkern::Alignment* op) { return memkern::alignment_scratch(*op); }

const char* memkern_cuda_alignment(const memkern::Alignment* op, void* scratch, void* stream) {
  return memkern::launch_alignment(*op, scratch, stream);
}
