// Rules that the kernels for CPUs and for GPUs have in common, each written once: sizes of elements, the numbering of
// pairs of views, and which of two peaks wins.
#pragma once
#if !defined(__CUDACC_RTC__)  // NVRTC has no such header, and knows sqrtf
#include <cmath>
#endif

#include "ops.h"

#if defined(__CUDACC__)
#define MEMKERN_RULE static __host__ __device__ inline
#else
#define MEMKERN_RULE static inline  // static: see ops.h
#endif

namespace memkern {

// ---- elements ------------------------------------------------------------------------------------------------------

MEMKERN_RULE int64_t size_of(DType dtype) { return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2; }

// The dtype of sums and results.
MEMKERN_RULE DType accumulate_dtype(DType dtype) { return dtype == DType::float64 ? dtype : DType::float32; }

// ---- pairs of views ------------------------------------------------------------------------------------------------
// (0, 1), (0, 2), ..., (1, 2), ..., or with the anchor (0, 1), (0, 2), ...

struct Pair {
  int64_t first, second;
};

MEMKERN_RULE int64_t pair_count(const KeptAlignment& op) {
  return op.pairs == Pairs::all ? op.views * (op.views - 1) / 2 : op.views - 1;
}

// Pair (i, j), i < j, of all pairs is number pair_row(i, views) + j.
MEMKERN_RULE int64_t pair_row(int64_t i, int64_t views) { return i * (2 * views - i - 1) / 2 - i - 1; }

MEMKERN_RULE int64_t pair_number(int64_t first, int64_t second, int64_t views) {
  return pair_row(first, views) + second;
}

MEMKERN_RULE int64_t pair_number(int64_t first, int64_t second, int64_t views, Pairs pairs) {
  return pairs == Pairs::anchor ? second - 1 : pair_number(first, second, views);
}

MEMKERN_RULE Pair pair_at(int64_t number, int64_t views) {
  const auto start = [views](int64_t row) { return row * (2 * views - row - 1) / 2; };
  // In float, with steps to the exact row: roots of doubles take a GPU long.
  const float b = 2 * float(views) - 1, square = b * b - 8 * float(number);
  int64_t row = square > 0 ? int64_t((b - sqrtf(square)) / 2) : views - 2;
  while (row > 0 && start(row) > number) --row;
  while (start(row + 1) <= number) ++row;
  return {row, number - start(row) + row + 1};
}

MEMKERN_RULE Pair pair_at(int64_t number, int64_t views, Pairs pairs) {
  return pairs == Pairs::anchor ? Pair{0, number + 1} : pair_at(number, views);
}

// A distance that is made of the l2 distance of unit vectors.
MEMKERN_RULE bool is_of_directions(Distance distance) {
  return distance == Distance::cosine || distance == Distance::angular;
}

// A distance of directions from the l2 distance of the unit vectors. Rounding may take that of opposite ones above 2.
MEMKERN_RULE double distance_of_directions(Distance distance, double l2) {
  const double sine = l2 > 2 ? 1 : l2 / 2;  // NaN stays
  // fault: cosine
  return distance == Distance::cosine ? l2 * l2 / 2 : 0.6366197723675814 * asin(sine);  // 2 / pi
}

// The weight of a pair in the mean over all pairs of some views; NaN of fewer than two.
MEMKERN_RULE double share_of_a_pair(int64_t views) { return views > 1 ? 2 / double(views * (views - 1)) : nan(""); }

// The standard error of a mean over all pairs from the choice of views, by the jackknife of a U-statistic: the mean
// without a view differs from the mean of such means as the view's row of distances does from the mean row, but for
// the number of pairs. `spread`: the sum of the squared differences of the rows from their mean. NaN of two views.
MEMKERN_RULE double error_of_views(double spread, int64_t views) {
  return sqrt(spread * double(views - 1) / double(views)) * share_of_a_pair(views - 1);
}

// Calls use(number, i, j) for the chosen pairs, in their order.
template <class Use>
MEMKERN_RULE void for_each_pair(Pairs pairs, int64_t views, const Use& use) {
  int64_t k = 0;
  for (int64_t i = 0; i < (pairs == Pairs::anchor ? 1 : views); ++i)
    for (int64_t j = i + 1; j < views; ++j) use(k++, i, j);
}

// ---- the state of a unit: which of two peaks wins ------------------------------------------------------------------
// NaN sticks: nothing replaces a NaN, and a NaN replaces every number. Ties keep the first. (& and |: without branches,
// for which peak wins cannot be predicted.)

template <class A>
MEMKERN_RULE bool replaces(A value, A peak) {
  return !(value <= peak) & (peak == peak);  // fault: above the peak
}

template <class A>
MEMKERN_RULE A lower(A value, A minimum) {
  return (((value < minimum) | (value != value)) & (minimum == minimum)) ? value : minimum;
}

// State of a unit after some points in a row.
template <class A>
struct UnitState {
  A peak, minimum;
  int64_t index;
  double rest;
};

// Adds what the points after them say.
template <class A>
MEMKERN_RULE void join(UnitState<A>& state, const UnitState<A>& later) {
  const bool rises = replaces(later.peak, state.peak);
  state.rest += later.rest + double(rises ? state.peak : later.peak);  // fault: rest of chunks
  state.index = rises ? later.index : state.index;
  state.peak = rises ? later.peak : state.peak;
  state.minimum = lower(later.minimum, state.minimum);
}

}  // namespace memkern
