// unit_means as launchers see it: selectivity and layer_stats run it, too.
#pragma once
#include "launch.h"
#include "unit_means.cuh"

namespace memkern {

// Partial sums, [points, parts, units], to means.
template <class T>
void finish_unit_means(int64_t points, int64_t units, const MeansOutput& from, cudaStream_t stream) {
  const dim3 grid(unsigned(ceil_div(points * units, kElementThreads)));
  MEMKERN_LAUNCH((finish_means<Wide<T>>), grid, dim3(kElementThreads), stream, points, units, from);
}

int64_t unit_means_scratch(const Activations& x);
const char* launch_unit_means(const UnitMeans& op, void* scratch, Stream stream);

}  // namespace memkern
