// The order of the pairs of views: (0, 1), (0, 2), ..., (1, 2), ...
#pragma once
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// Pair (i, j) of `views` views, i < j, is number pair_row(i, views) + j.
inline int64_t pair_row(int64_t i, int64_t views) { return i * views - i * (i + 1) / 2 - i - 1; }

// Calls use(number, i, j) for the chosen pairs, in their order.
template <class Use>
inline void for_each_pair(Pairs pairs, int64_t views, const Use& use) {
  int64_t k = 0;
  for (int64_t i = 0; i < (pairs == Pairs::anchor ? 1 : views); ++i)
    for (int64_t j = i + 1; j < views; ++j) use(k++, i, j);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
