// The kernels of one instruction set: single-thread functions over a range; whoever calls them splits the range.
// Every file of this folder but run.cpp and select.cpp is compiled once per instruction set (CMakeLists.txt), inside
// the namespace named by MEMKERN_ISA; isa.cpp collects that set's functions in one table.
#pragma once
#include "ops.h"
#include "work_split.h"

namespace memkern {

struct Kernels {
  const char* name;  // "avx512", "avx2", "baseline"
  // over some points, or some slices of them
  void (*alignment)(const Alignment& op, const Share& share);
  void (*layer_stats)(const LayerStats& op, const Share& share);
  void (*pointwise_stats)(const PointwiseStats& op, const Share& share);
  // over points [first, last)
  void (*alignment_backward)(const AlignmentBackward& op, int64_t first, int64_t last);
  void (*unit_means)(const UnitMeans& op, int64_t first, int64_t last);
  // the state of the visiting positions [first, last), first < last, is written to `partial` (index = position)
  void (*selectivity)(const Selectivity& op, int64_t first, int64_t last, const SelectivityState& partial);
  // over units [first, last): `from`, whose positions come later, is merged into `into`
  void (*merge_selectivity)(DType wide, const SelectivityState& into, const SelectivityState& from, int64_t first,
                            int64_t last);
  void (*median_of_others)(const MedianOfOthers& op, int64_t first, int64_t last);
  void (*class_sums)(const ClassSums& op, int64_t first, int64_t last);
  // over the views [first, last) of images * views
  void (*views)(const Views& op, int64_t first, int64_t last);
};

}  // namespace memkern
