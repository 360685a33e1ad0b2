// From what Python passes (addresses, sizes, strides) to the records of ops.h; shared by the two files of bindings.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <vector>

#include "layout.h"

namespace memkern {

namespace py = pybind11;

template <class T = void>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Sizes and strides of an activation tensor, read from Python tuples without going through std::vector.
struct Shape {
  Shape(const py::tuple& sizes_in, const py::tuple& strides_in) : dims(int(sizes_in.size())) {
    if (dims > kMax || strides_in.size() != sizes_in.size()) throw py::value_error("memkern: bad sizes or strides");
    for (int d = 0; d < dims; ++d) {
      sizes[d] = sizes_in[d].cast<int64_t>();
      strides[d] = strides_in[d].cast<int64_t>();
    }
  }
  static constexpr int kMax = kMaxMeanDims + 2;
  int dims;
  int64_t sizes[kMax], strides[kMax];
};

inline Activations activations(uintptr_t data, int dtype, int activation, const py::tuple& sizes,
                               const py::tuple& strides, int unit_dim) {
  const Shape shape(sizes, strides);
  return make_activations(at(data), DType(dtype), Activation(activation), shape.sizes, shape.strides, shape.dims,
                          unit_dim);
}

inline Alignment alignment_record(uintptr_t z, int dtype, int64_t points, int64_t views, int64_t dims,
                                  int64_t point_stride, int64_t view_stride, bool anchor, bool normalize, uintptr_t out,
                                  uintptr_t saved) {
  return {at(z),     DType(dtype), points,      views,
          dims,      point_stride, view_stride, anchor ? Pairs::anchor : Pairs::all,
          normalize, at(out),      at(saved)};
}

// (address, images, image stride, height, width, channel stride, row stride, column stride) each, in elements
using ImageBatches = std::vector<std::array<int64_t, 8>>;

inline std::vector<Image> images_of(const ImageBatches& batches, Pixel pixel) {
  std::vector<Image> images;
  const int64_t size = pixel == Pixel::uint8 ? 1 : 4;
  for (const auto& [data, count, stride, height, width, channel_stride, row_stride, column_stride] : batches)
    for (int64_t i = 0; i < count; ++i)
      images.push_back(
          {at<char>(uintptr_t(data)) + i * stride * size, height, width, channel_stride, row_stride, column_stride});
  return images;
}

// The record points into `images`.
inline Views views_record(const std::vector<Image>& images, int pixel, int64_t views, int64_t channels, int64_t height,
                          int64_t width, uintptr_t params, bool antialias, int64_t blur_size,
                          const std::array<float, 3>& mean, const std::array<float, 3>& std, uintptr_t hidden,
                          int64_t patch, uintptr_t out, int dtype, bool channels_last) {
  return {images.data(),
          Pixel(pixel),
          int64_t(images.size()),
          views,
          channels,
          height,
          width,
          at<float>(params),
          antialias,
          blur_size,
          {mean[0], mean[1], mean[2]},
          {std[0], std[1], std[2]},
          at<uint8_t>(hidden),
          patch,
          at(out),
          DType(dtype),
          channels_last};
}

// The CUDA kernels as the submodule `cuda`; only in builds that have them.
void bind_cuda(py::module_& module);

}  // namespace memkern
