// alignment as launchers see it: layer_stats shares its plan and its second half.
#pragma once
#include <algorithm>
#include <type_traits>

#include "distances.cuh"
#include "launch.h"

namespace memkern {

struct AlignmentPlan {
  bool packs;      // 16 bytes at once; else element by element
  bool few_views;  // pair_sums; else tile_sums
  int64_t chunk;   // dims of a block
  int64_t chunks;
  int64_t groups;  // of kTileWarps tiles
};

AlignmentPlan plan_alignment(const Alignment& op);

// Calls run with the number of views, rounded up to even, as a compile-time constant.
template <int views = 2, class Run>
void for_few_views(int64_t count, const Run& run) {
  if (count <= views) return run(std::integral_constant<int, views>{});
  if constexpr (views < kMaxFewViews) for_few_views<views + 2>(count, run);
}

// Partial sums to distances.
template <class T>
void finish_distances(const Batch<FinishTask>& batch, int64_t blocks, cudaStream_t stream) {
  // A warp for every 32 sums; all there are where recomputing a pair would take long.
  int64_t threads = kWarp;
  for (int i = 0; i < batch.count; ++i) {
    const Alignment& op = batch.task[i].op;
    threads = std::max(threads, op.dims > 4096 ? int64_t{kFinishThreads} : round_up(count_sums(op), kWarp));
  }
  threads = std::min<int64_t>(threads, kFinishThreads);
  MEMKERN_LAUNCH((finish_alignment<T>), dim3(unsigned(blocks)), dim3(unsigned(threads)), stream, batch);
}

int64_t alignment_scratch(const Alignment& op);
const char* launch_alignment(const Alignment& op, void* scratch, Stream stream);

}  // namespace memkern
