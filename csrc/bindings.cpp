// memkern._native: only this file, bindings_cuda.cpp and their header see Python. Tensors arrive as addresses, sizes
// and strides; the Python side has checked shapes, dtypes and devices, allocated the outputs, and keeps every buffer
// alive during the call. The GIL is released while kernels run.
#include "bindings.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cpu/run.h"

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

// Batches of equally large images, (address, images, image stride, height, width, channel stride, row stride, column
// stride) each, strides in elements; then a record's fields from `pixel` on, and the number of threads.
void bind_views(py::module_& m) {
  m.def("views", [](py::args args) {
    Arguments in(std::move(args));
    Arguments batches = in.sequence();
    const auto pixel = in.choice<Pixel>();
    std::vector<Image> images;
    while (batches.left() > 0) {
      Arguments batch = batches.sequence();
      const char* const data = batch.address<char>();
      const int64_t count = batch.integer(), bytes = batch.integer() * (pixel == Pixel::uint8 ? 1 : 4);
      const Image first{data, batch.integer(), batch.integer(), batch.integer(), batch.integer(), batch.integer()};
      batch.end();
      for (int64_t i = 0; i < count; ++i) {
        images.push_back(first);
        images.back().data = data + i * bytes;
      }
    }
    Views op{};
    op.sources = images.data();
    op.pixel = pixel;
    op.images = int64_t(images.size());
    op.views = in.integer();
    op.channels = in.integer();
    op.height = in.integer();
    op.width = in.integer();
    op.params = in.address<float>();
    op.antialias = in.flag();
    op.blur_size = in.integer();
    for (float* const channels : {op.mean, op.std}) {
      Arguments values = in.sequence();
      for (int c = 0; c < 3; ++c) channels[c] = values.number();
    }
    op.hidden = in.address<uint8_t>();
    op.patch = in.integer();
    op.out = in.address();
    op.dtype = in.choice<DType>();
    op.channels_last = in.flag();
    const int threads = int(in.integer());
    in.end();
    py::gil_scoped_release nogil;
    run_views(op, threads);
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
  bind(m, "selectivity", take_selectivity, run_selectivity);
  bind(m, "unit_means", take_unit_means, run_unit_means);
  bind_views(m);
}
