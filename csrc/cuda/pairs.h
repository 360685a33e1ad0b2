// Pairs of views by number, for kernels and launchers alike.
#pragma once
#include "../ops.h"
#include "cuda_compat.cuh"

namespace memkern {

struct Pair {
  int64_t first, second;
};

// The k-th of (0,1), (0,2), ..., (0,n-1), (1,2), ...
__host__ __device__ inline Pair upper_pair(int64_t k, int64_t n) {
  const auto start = [n](int64_t row) { return row * (2 * n - row - 1) / 2; };
  // In float, with steps to the exact row: roots of doubles take a GPU long.
  const float b = 2 * float(n) - 1, square = b * b - 8 * float(k);
  int64_t row = square > 0 ? int64_t((b - sqrtf(square)) / 2) : n - 2;
  while (row > 0 && start(row) > k) --row;
  while (start(row + 1) <= k) ++row;
  return {row, k - start(row) + row + 1};
}

__host__ __device__ inline int64_t upper_index(int64_t first, int64_t second, int64_t n) {
  return first * (2 * n - first - 1) / 2 + second - first - 1;
}

__host__ __device__ inline Pair pair_of(int64_t k, int64_t views, Pairs pairs) {
  return pairs == Pairs::anchor ? Pair{0, k + 1} : upper_pair(k, views);
}

__host__ __device__ inline int64_t index_of(int64_t first, int64_t second, int64_t views, Pairs pairs) {
  return pairs == Pairs::anchor ? second - 1 : upper_index(first, second, views);
}

}  // namespace memkern
