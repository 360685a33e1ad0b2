// memkern._native: only the bindings and fields.h see Python. Tensors arrive as addresses, sizes and strides; the
// Python side has checked shapes, dtypes and devices, allocated the outputs, and keeps every buffer alive during the
// call. The GIL is released while kernels run.
#include "bindings.h"

#include <cstdint>
#include <string>
#include <vector>

#include "bindings_cuda.h"
#include "cpu/dispatch/parallel.h"

using namespace memkern;

namespace {

py::tuple names(const std::vector<const Kernels*>& sets) {
  py::tuple found(sets.size());
  for (size_t i = 0; i < sets.size(); ++i) found[i] = sets[i]->name;
  return found;
}

// Runs an op on the caller's number of threads, without the GIL.
template <class Op, void (*run)(const Op& op, int threads)>
void on_threads(PyObject* where, const Op& op) {
  int64_t threads = 0;
  if (take(where, threads)) throw py::type_error("memkern: expected a number of threads");
  const py::gil_scoped_release nogil;  // fault: interpreter lock
  run(op, int(threads));
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Compiled kernels of memkern. Private: call memkern's functions instead.";

  m.def("isa", [] { return std::string(kernels().name); }, "The instruction set in use.");
  m.def(
      "select_isa", [](const std::string& name) { return select_kernels(name); },
      "Use the named instruction set; False if this processor cannot.");
  m.def("supported_isas", [] { return names(supported_kernels()); });
  m.def("compiled_isas", [] { return names(compiled_kernels()); });
#ifdef _OPENMP
  m.attr("has_threads") = true;
#else
  m.attr("has_threads") = false;
#endif

#if defined(MEMKERN_CUDA)
  bind_cuda(m);
#else
  m.attr("cuda") = py::none();
  m.attr("without_cuda") = MEMKERN_WITHOUT_CUDA;  // why, from CMake
#endif

#define CPU_OP(name, Record, ...) bind<Record, on_threads<Record, run_##name>>(m, #name);
#include "ops_table.h"
}
