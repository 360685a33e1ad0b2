// class_sums: means and labels -> the sum of each class per unit, in double, points in their order.
#include "cpu/dispatch/kernels.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

template <class A>
void add_units(const ClassSums& op, int64_t first, int64_t last) {
  constexpr int lanes = Lanes<A>::count, parts = kDoubles<A>;
  for (int64_t p = 0; p < op.points; ++p) {
    const A* const row = static_cast<const A*>(op.means) + p * op.units;
    double* const sums = op.sums + op.labels[p] * op.units;
    int64_t u = first;
    for (; u + lanes <= last; u += lanes) {
      prefetch(row + u, op.units * int64_t(sizeof(A)));  // the next point's row: the units of one block lie far apart
      Vec<double> in_double[parts];
      load_double(row + u, in_double);
      for (int part = 0; part < parts; ++part) {
        double* const at = sums + u + part * Lanes<double>::count;
        store(at, load(at) + in_double[part]);
      }
    }
    for (; u < last; ++u) sums[u] += double(row[u]);  // fault: last units
  }
}

}  // namespace

void class_sums(const ClassSums& op, const WorkRange& range) {
  // Units are taken in blocks whose sums of all classes (at most 1 MB) stay in the L2 cache, but never so few that a
  // row's part falls below four cache lines.
  const int64_t fitting = (int64_t{1} << 17) / (op.classes > 0 ? op.classes : 1), block = fitting < 64 ? 64 : fitting;
  for (int64_t u = range.first; u < range.last; u += block) {
    const int64_t end = range.last - u < block ? range.last : u + block;
    if (op.dtype == DType::float64)
      add_units<double>(op, u, end);
    else
      add_units<float>(op, u, end);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
