// class_sums: means and labels -> the sum of each class per unit, in double. parallel.cpp chooses between two ways: the
// points class after class, where eight rows are added before the sums are touched; or, of narrow rows, all points in
// their order into a table of sums that stays in the L2 cache.
#include "cpu/dispatch/kernels.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

constexpr int64_t kUnits = 1024;     // whose sums stay in the L1 cache
constexpr int64_t kUnitsAhead = 64;  // of the next rows are asked for; the hardware fetches what follows
constexpr int64_t kPointsAhead = 6;  // whose row of the table is asked for
constexpr int64_t kBytesAhead = 2048;

// sums[0..lanes of A) += the sum, in double, of a vector of A.
template <class A>
[[gnu::always_inline]] inline void add_vector(const Vec<double>* total, double* sums) {
  for (int part = 0; part < kDoubles<A>; ++part) {
    double* const at = sums + part * Lanes<double>::count;
    store(at, load(at) + total[part]);
  }
}

// ---- class after class ---------------------------------------------------------------------------------------------

// The sum of a vector of units of `count` rows, pairs of them first.
template <int count, class A>
[[gnu::always_inline]] inline void sum_rows(const A* const* rows, int64_t u, Vec<double>* total) {
  if constexpr (count == 1) {
    load_double(rows[0] + u, total);
  } else {
    Vec<double> second[kDoubles<A>];
    sum_rows<count / 2>(rows, u, total);
    sum_rows<count / 2>(rows + count / 2, u, second);
    for (int part = 0; part < kDoubles<A>; ++part) total[part] += second[part];
  }
}

// The sum of one unit, in the order of sum_rows: where blocks of units end depends on the threads, and no sum may.
template <int count, class A>
inline double sum_unit(const A* const* rows, int64_t u) {
  if constexpr (count == 1)
    return double(rows[0][u]);
  else
    return sum_unit<count / 2>(rows, u) + sum_unit<count / 2>(rows + count / 2, u);  // fault: rows of a unit
}

// sums[0..units) += the sum of `count` rows; after them come as many others.
template <int count, class A>
void add_rows(const A* const* rows, int64_t units, double* sums) {
  constexpr int lanes = Lanes<A>::count, width = Lanes<double>::count;
  const int64_t ahead = units < kUnitsAhead ? units : kUnitsAhead;
  for (int64_t line = 0; line < ahead; line += 64 / int64_t(sizeof(A)))
#pragma GCC unroll 8
    for (int r = 0; r < count; ++r) prefetch(rows[count + r] + line, 0);
  Vec<double> total[kDoubles<A>];
  int64_t u = 0;
  for (; u + lanes <= units; u += lanes) {
    sum_rows<count>(rows, u, total);
    add_vector<A>(total, sums + u);
  }
  if (u < units && units >= lanes) {  // the last vector, without the units that are done
    const int done = int(u + lanes - units);
    sum_rows<count>(rows, units - lanes, total);
    for (int lane = done; lane < lanes; ++lane) sums[units - lanes + lane] += total[lane / width][lane % width];
  } else {
    for (; u < units; ++u)  // fault: last units
      sums[u] += sum_unit<count>(rows, u);
  }
}

// sums[0..units) += units [first, first + units) of all rows of a class.
template <class A>
void add_class(const ClassSums& op, int64_t label, int64_t first, int64_t units, double* sums) {
  const int64_t end = op.starts[label + 1], last = op.points - 1;
  const A* const column = static_cast<const A*>(op.means) + first;
  const A* rows[16];  // those to add, and as many that come afterwards
  for (int64_t i = op.starts[label]; i < end;) {
    const int count = end - i >= 8 ? 8 : end - i >= 4 ? 4 : end - i >= 2 ? 2 : 1;  // fault: rows left
    for (int r = 0; r < 2 * count; ++r) rows[r] = column + op.order[i + r < last ? i + r : last] * op.units;
    if (count == 8)
      add_rows<8>(rows, units, sums);
    else if (count == 4)
      add_rows<4>(rows, units, sums);
    else if (count == 2)
      add_rows<2>(rows, units, sums);
    else
      add_rows<1>(rows, units, sums);
    i += count;
  }
}

// Items [first, last): each is a class and some of its units.
template <class A>
void sum_classes(const ClassSums& op, const WorkRange& items) {
  alignas(64) double sums[kUnits];
  // Whole cache lines of a row, whatever its units.
  const int64_t each = ((op.units + op.unit_blocks - 1) / op.unit_blocks + 15) / 16 * 16;
  for (int64_t item = items.first; item < items.last; ++item) {
    const int64_t label = item / op.unit_blocks, first = item % op.unit_blocks * each;
    const int64_t last = first + each < op.units ? first + each : op.units;
    for (int64_t u = first; u < last; u += kUnits) {
      const int64_t units = last - u < kUnits ? last - u : kUnits;
      std::memset(sums, 0, size_t(units) * sizeof(double));
      add_class<A>(op, label, u, units, sums);
      std::memcpy(op.sums + label * op.units + u, sums, size_t(units) * sizeof(double));
    }
  }
}

// ---- points in their order -----------------------------------------------------------------------------------------

template <class A>
void sum_points(const ClassSums& op, const WorkRange& points) {
  constexpr int lanes = Lanes<A>::count;
  std::memset(op.sums, 0, size_t(op.classes * op.units) * sizeof(double));
  for (int64_t p = points.first; p < points.last; ++p) {
    const A* const row = static_cast<const A*>(op.means) + p * op.units;
    double* const sums = op.sums + op.labels[p] * op.units;
    const int64_t later = p + kPointsAhead < points.last ? p + kPointsAhead : p;
    const int64_t bytes_to_later = (op.labels[later] - op.labels[p]) * op.units * int64_t(sizeof(double));
    int64_t u = 0;
    for (; u + lanes <= op.units; u += lanes) {
      prefetch(row + u, kBytesAhead);
      for (int part = 0; part < kDoubles<A>; ++part) prefetch(sums + u + part * Lanes<double>::count, bytes_to_later);
      Vec<double> in_double[kDoubles<A>];
      load_double(row + u, in_double);
      add_vector<A>(in_double, sums + u);
    }
    for (; u < op.units; ++u) sums[u] += double(row[u]);
  }
}

}  // namespace

void class_sums(const ClassSums& op, const WorkRange& range) {
  const bool is_double = op.dtype == DType::float64;
  if (op.order)
    (is_double ? sum_classes<double> : sum_classes<float>)(op, range);
  else
    (is_double ? sum_points<double> : sum_points<float>)(op, range);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
