// Only in the emulated library: tests choose the schedule, and read what was counted.
#include "../../layout.h"
#include "../c_api.h"
#include "launch.h"

using memkern::emulation::block;

MEMKERN_API void memkern_emulation_configure(int32_t order, uint64_t seed, int64_t sampled_blocks) {
  block.config = {memkern::emulation::Order(order), seed, sampled_blocks};
}

// Clears the counters, and watches `bytes` of memory from now on.
MEMKERN_API void memkern_emulation_watch(const void* memory, int64_t bytes) {
  block.counters = {};
  block.watched = static_cast<const char*>(memory);
  block.watched_bytes.assign(size_t(bytes), false);
}

MEMKERN_API void memkern_emulation_counters(memkern::emulation::Counters* counters) { *counters = block.counters; }

// A record from a tensor's sizes and strides, made as the binding makes it. Returns whether that is possible.
MEMKERN_API bool memkern_emulation_activations(memkern::Activations* x, const void* data, int32_t dtype,
                                               int32_t activation, const int64_t* sizes, const int64_t* strides,
                                               int32_t dims, int32_t unit_dim) {
  try {
    *x = memkern::make_activations(data, memkern::DType(dtype), memkern::Activation(activation), sizes, strides, dims,
                                   unit_dim);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// Runs a kernel as cuLaunchKernel would: `arguments` are the addresses of its parameters. Returns the error, or null.
MEMKERN_API const char* memkern_emulation_launch(const char* kernel, const uint32_t* grid, const uint32_t* dims,
                                                 void** arguments) {
  const auto found = memkern::emulation::launchers().find(kernel);
  if (found == memkern::emulation::launchers().end()) return "no such kernel";
  found->second({grid[0], grid[1], grid[2]}, {dims[0], dims[1], dims[2]}, arguments);
  return memkern::emulation::take_error();
}

// The names of all kernels, one a line.
MEMKERN_API const char* memkern_emulation_kernels() {
  static const std::string names = [] {
    std::string lines;
    for (const auto& [name, launcher] : memkern::emulation::launchers()) lines += name + "\n";
    return lines;
  }();
  return names.c_str();
}
