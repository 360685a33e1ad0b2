// csrc/bindings_cuda.cpp as a module of its own, to be linked with the host emulation of the kernels.
#include "bindings.h"

PYBIND11_MODULE(memkern_emulated, m) { memkern::bind_cuda(m); }
