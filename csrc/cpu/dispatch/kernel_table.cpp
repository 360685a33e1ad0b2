// The table of one instruction set. Compiled once per set, like every kernel file.
#include "kernels.h"

#define MEMKERN_TEXT_OF(name) #name
#define MEMKERN_TEXT(name) MEMKERN_TEXT_OF(name)

namespace memkern {
namespace MEMKERN_ISA {

#define CPU_OP(name, Record, ...) void name(const Record& op, const WorkRange& range);
#include "ops_table.h"
void merge_selectivity(DType dtype, const SelectivityState& into, const SelectivityState& from, const WorkRange& units);

extern const Kernels table;
const Kernels table = {
    MEMKERN_TEXT(MEMKERN_ISA),
#define CPU_OP(name, ...) name,
#include "ops_table.h"
    merge_selectivity,
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
