// Whole ops on the CPU: choose the instruction set, split the range over threads. No Python, no torch.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace memkern {

// Instruction sets compiled into this library that this processor can run, best first.
std::vector<const Kernels*> supported_kernels();
// Compiled in, whether or not this processor can run them, best first.
std::vector<const Kernels*> compiled_kernels();
// The set in use: the best supported one until select_kernels names another.
const Kernels& kernels();
// Returns false, changing nothing, if no supported set has that name.
bool select_kernels(const std::string& name);

// `threads` is the caller's limit (torch.get_num_threads()). Results do not depend on it.
#define CPU_OP(name, Record, ...) void run_##name(const Record& op, int threads);
#include "ops_table.h"

}  // namespace memkern
