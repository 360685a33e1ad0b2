// Unit means as selectivity and layer_stats need them: the per-point means themselves.
#pragma once
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// means[point - first][unit], wide, for points [first, last).
void write_means(const Activations& x, int64_t first, int64_t last, void* means);

// Points that write_means handles together with profit: more than one only where neighbours in memory are points.
int64_t points_together(const Activations& x);

// A constant's mean is that constant: its sum is exact in double, and in float the reciprocal's error rounds away.
inline void divide(const double* sums, int64_t units, int64_t count, float* means) {
  const double scale = 1.0 / double(count);
  for (int64_t u = 0; u < units; ++u) means[u] = float(sums[u] * scale);
}
inline void divide(const double* sums, int64_t units, int64_t count, double* means) {
  for (int64_t u = 0; u < units; ++u) means[u] = sums[u] / double(count);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
