// What selectivity needs of unit_means: the per-point means themselves.
#pragma once
#include "../ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// means[point - first][unit], wide, for points [first, last).
void write_means(const Activations& x, int64_t first, int64_t last, void* means);

// Points that write_means handles together with profit: more than one only where neighbours in memory are points.
int64_t points_together(const Activations& x);

}  // namespace MEMKERN_ISA
}  // namespace memkern
