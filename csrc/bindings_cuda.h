// The CUDA kernels as a submodule; only in builds that have them.
#pragma once
#include <pybind11/pybind11.h>

namespace memkern {

void bind_cuda(pybind11::module_& module);

}  // namespace memkern
