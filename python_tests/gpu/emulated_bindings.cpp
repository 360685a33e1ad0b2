// csrc/bindings_cuda.cpp as a module of its own. pybind11 makes one module of a name in a process, so each library's
// has another.
#include "bindings_cuda.h"

PYBIND11_MODULE(MEMKERN_MODULE, m) { memkern::bind_cuda(m); }
