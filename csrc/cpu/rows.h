// Rows of elements to and from zero-padded rows of the wide type, for kernels that use each element many times.
// bfloat16 stays in the order of its columns (even elements, odd elements): both directions agree on it.
#pragma once
#include "vec.h"

namespace memkern {
namespace MEMKERN_ISA {

// n rounded up to whole groups of T.
template <class T>
constexpr int64_t whole_groups(int64_t n) {
  return (n + kGroup<T> - 1) / kGroup<T> * kGroup<T>;
}

// out[0..whole_groups(n)) = row[0..n), then zeros.
template <class T>
inline void widen_row(const T* row, int64_t n, Wide<T>* out) {
  using A = Wide<T>;
  constexpr int group = kGroup<T>;
  const auto widen_group = [](const T* from, A* to) {
    Vec<A> columns[kColumns<T>];
    load_group(from, columns);
    for (int c = 0; c < kColumns<T>; ++c) store(to + c * Lanes<A>::count, columns[c]);
  };
  int64_t d = 0;
  for (; d + group <= n; d += group) widen_group(row + d, out + d);
  if (d < n) {
    T padded[group] = {};
    std::memcpy(padded, row + d, size_t(n - d) * sizeof(T));
    widen_group(padded, out + d);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
