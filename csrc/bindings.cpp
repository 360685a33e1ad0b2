// memkern._native: only this file, bindings_cuda.cpp and their header see Python. Tensors arrive as addresses, sizes
// and strides; the Python side has checked shapes, dtypes and devices, allocated the outputs, and keeps every buffer
// alive during the call. The GIL is released while kernels run.
#include "bindings.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/run.h"

using namespace memkern;

namespace {

std::vector<std::string> names(const std::vector<const Kernels*>& sets) {
  std::vector<std::string> found;
  for (const Kernels* set : sets) found.emplace_back(set->name);
  return found;
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

  m.def("alignment", [](uintptr_t z, int dtype, int64_t points, int64_t views, int64_t dims, int64_t point_stride,
                        int64_t view_stride, bool anchor, bool normalize, uintptr_t out, uintptr_t saved, int threads) {
    py::gil_scoped_release nogil;
    run_alignment(
        alignment_record(z, dtype, points, views, dims, point_stride, view_stride, anchor, normalize, out, saved),
        threads);
  });

  m.def("alignment_backward",
        [](uintptr_t z, int dtype, int64_t points, int64_t views, int64_t dims, int64_t point_stride,
           int64_t view_stride, bool anchor, bool normalize, uintptr_t saved, uintptr_t grad, uintptr_t grad_z,
           int64_t grad_point_stride, int64_t grad_view_stride, int threads) {
          py::gil_scoped_release nogil;
          run_alignment_backward(
              {alignment_record(z, dtype, points, views, dims, point_stride, view_stride, anchor, normalize, 0, saved),
               at(grad), at(grad_z), grad_point_stride, grad_view_stride},
              threads);
        });

  m.def("unit_means", [](uintptr_t data, int dtype, int activation, const py::tuple& sizes, const py::tuple& strides,
                         int unit_dim, uintptr_t means, int threads) {
    const UnitMeans op{activations(data, dtype, activation, sizes, strides, unit_dim), at(means)};
    py::gil_scoped_release nogil;
    run_unit_means(op, threads);
  });

  m.def("layer_stats",
        [](uintptr_t data, int dtype, const py::tuple& sizes, const py::tuple& strides, int unit_dim, int64_t points,
           int64_t views, int64_t dims, int64_t point_stride, int64_t view_stride, bool anchor, bool normalize,
           uintptr_t alignment, uintptr_t saved, uintptr_t means, int threads) {
          const LayerStats op{alignment_record(data, dtype, points, views, dims, point_stride, view_stride, anchor,
                                               normalize, alignment, saved),
                              {activations(data, dtype, int(Activation::raw), sizes, strides, unit_dim), at(means)}};
          py::gil_scoped_release nogil;
          run_layer_stats(op, threads);
        });

  m.def("selectivity",
        [](uintptr_t data, int dtype, int activation, const py::tuple& sizes, const py::tuple& strides, int unit_dim,
           uintptr_t order, uintptr_t peak, uintptr_t index, uintptr_t rest, uintptr_t low, int threads) {
          const Selectivity op{activations(data, dtype, activation, sizes, strides, unit_dim),
                               at<int64_t>(order),
                               {at(peak), at<int64_t>(index), at<double>(rest), at(low)}};
          py::gil_scoped_release nogil;
          run_selectivity(op, threads);
        });

  m.def("median_of_others", [](uintptr_t means, int dtype, int64_t points, int64_t units, int64_t point_stride,
                               uintptr_t median, int threads) {
    py::gil_scoped_release nogil;
    run_median_of_others({at(means), DType(dtype), points, units, point_stride, at(median)}, threads);
  });

  m.def("class_sums", [](uintptr_t means, int dtype, int64_t points, int64_t units, int64_t classes, uintptr_t labels,
                         uintptr_t sums, int threads) {
    py::gil_scoped_release nogil;
    run_class_sums({at(means), DType(dtype), points, units, classes, at<int64_t>(labels), at<double>(sums)}, threads);
  });

  m.def("views",
        [](const ImageBatches& batches, int pixel, int64_t views, int64_t channels, int64_t height, int64_t width,
           uintptr_t params, bool antialias, int64_t blur_size, std::array<float, 3> mean, std::array<float, 3> std,
           uintptr_t hidden, int64_t patch, uintptr_t out, int dtype, bool channels_last, int threads) {
          const std::vector<Image> images = images_of(batches, Pixel(pixel));
          const Views op = views_record(images, pixel, views, channels, height, width, params, antialias, blur_size,
                                        mean, std, hidden, patch, out, dtype, channels_last);
          py::gil_scoped_release nogil;
          run_views(op, threads);
        });
}
