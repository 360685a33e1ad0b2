// unit_means as launchers see it: selectivity and layer_stats run it, too.
#pragma once
#include "launch.h"
#include "unit_means.cuh"

namespace memkern {

inline int64_t blocks_of(const MeansTask& task) { return ceil_div(task.points * task.units, kElementThreads); }

// Partial sums, [points, parts, units], to means.
template <class T>
void finish_unit_means(const Batch<MeansTask>& batch, int64_t blocks, cudaStream_t stream) {
  MEMKERN_LAUNCH((finish_means<Wide<T>>), dim3(unsigned(blocks)), dim3(kElementThreads), stream, batch);
}

int64_t unit_means_scratch(const Activations& x);
const char* launch_unit_means(const UnitMeans& op, void* scratch, Stream stream);

}  // namespace memkern
