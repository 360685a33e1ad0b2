// The kernels of one instruction set: single-thread functions over a range; whoever calls them splits the range.
// Every .cpp of csrc/cpu but cpu_dispatch.cpp and parallel.cpp is compiled once per instruction set (CMakeLists.txt),
// inside the namespace named by MEMKERN_ISA; kernel_table.cpp collects that set's functions in one table.
#pragma once
#include "ops.h"
#include "work_split.h"

namespace memkern {

struct Kernels {
  const char* name;  // "avx512", "avx2", "baseline"; "neon"
// One of each op, over a part of what work_of (work_split.h) says: points, units or views. selectivity writes the state
// of its range, which is not empty, to op.state (index: the position).
#define CPU_OP(name, Record, ...) void (*name)(const Record& op, const WorkRange& range);
#include "ops_table.h"
  // over some units: `from`, whose positions come later, is merged into `into`; dtype of the activations
  void (*merge_selectivity)(DType dtype, const SelectivityState& into, const SelectivityState& from,
                            const WorkRange& units);
};

}  // namespace memkern
