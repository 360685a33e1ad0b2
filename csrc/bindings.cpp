// memkern._native: only this file, bindings_cuda.cpp and their header see Python. Tensors arrive as addresses, sizes
// and strides; the Python side has checked shapes, dtypes and devices, allocated the outputs, and keeps every buffer
// alive during the call. The GIL is released while kernels run.
#include "bindings.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cpu/dispatch/parallel.h"

using namespace memkern;

namespace {

py::tuple names(const std::vector<const Kernels*>& sets) {
  py::tuple found(sets.size());
  for (size_t i = 0; i < sets.size(); ++i) found[i] = sets[i]->name;
  return found;
}

// The function `name` of the module: a record's fields in order, then the number of threads.
template <class Record>
void bind(py::module_& m, const char* name, Record (*take)(Arguments&), void (*run)(const Record&, int)) {
  m.def(name, [take, run](py::args args) {
    Arguments in(std::move(args));
    const Record op = take(in);
    const int threads = int(in.integer());
    in.end();
    py::gil_scoped_release nogil;
    run(op, threads);
  });
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

#if defined(MEMKERN_CUDA)
  bind_cuda(m);
#else
  m.attr("cuda") = py::none();
  m.attr("without_cuda") = MEMKERN_WITHOUT_CUDA;  // why, from CMake
#endif

  bind(m, "alignment", take_alignment, run_alignment);
  bind(m, "alignment_backward", take_alignment_backward, run_alignment_backward);
  bind(m, "class_sums", take_class_sums, run_class_sums);
  bind(m, "layer_stats", take_layer_stats, run_layer_stats);
  bind(m, "median_of_others", take_median_of_others, run_median_of_others);
  bind(m, "pointwise_stats", take_pointwise_stats, run_pointwise_stats);
  bind(m, "selectivity", take_selectivity, run_selectivity);
  bind(m, "unit_means", take_unit_means, run_unit_means);
  m.def("views", [](py::args args) {
    Arguments in(std::move(args));
    std::vector<Image> images;
    const Views op = take_views(in, images);
    const int threads = int(in.integer());
    in.end();
    py::gil_scoped_release nogil;
    run_views(op, threads);
  });
}
