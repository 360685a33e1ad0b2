// alignment as launchers see it: layer_stats shares its plan and its second half.
#pragma once
#include <algorithm>
#include <type_traits>

#include "launch.h"
#include "scratch.h"
#include "unit_pairs.cuh"

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

// Scratch memory of a second look; none, if there is to be none.
SecondLook second_look(const Alignment& op, const AlignmentPlan& plan, Scratch& scratch);

// Partial sums of `dtype` to distances; `blocks`: of the batch, a point each.
void finish_distances(DType dtype, const Batch<FinishTask>& batch, int64_t blocks, cudaStream_t stream);

int64_t alignment_scratch(const Alignment& op);
const char* launch_alignment(const Alignment& op, void* scratch, Stream stream);

}  // namespace memkern
