// From what Python passes (addresses, sizes, strides) to the records of ops.h; shared by the two files of bindings.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "layout.h"

namespace memkern {

namespace py = pybind11;

// The arguments of a call, taken one after the other. By hand, because a function of sixteen parameters takes pybind11
// three times as long to compile, and the callers are the few lines of memkern/ops.
class Arguments {
 public:
  explicit Arguments(py::tuple values) : values_(std::move(values)) {}

  int64_t integer() {
    const long long value = PyLong_AsLongLong(next());
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
  }
  float number() {
    const double value = PyFloat_AsDouble(next());
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return float(value);
  }
  bool flag() { return integer() != 0; }
  template <class Choice>
  Choice choice() {
    return Choice(integer());
  }
  template <class T = void>
  T* address() {
    return reinterpret_cast<T*>(uintptr_t(integer()));
  }
  // a tuple or list
  Arguments sequence() { return Arguments(py::tuple(py::reinterpret_borrow<py::object>(next()))); }

  int64_t left() const { return int64_t(values_.size()) - at_; }
  void end() const {
    if (left() != 0) throw py::type_error("memkern: more arguments than expected");
  }

 private:
  PyObject* next() {
    if (left() == 0) throw py::type_error("memkern: fewer arguments than expected");
    return PyTuple_GET_ITEM(values_.ptr(), at_++);
  }

  const py::tuple values_;
  int64_t at_ = 0;
};

// ---- records, in the order of their fields ---------------------------------------------------------------------
// Braces, because only there arguments are taken from left to right.

inline Alignment take_compared_views(Arguments& in, const void* z, DType dtype) {
  return {z,
          dtype,
          in.integer(),
          in.integer(),
          in.integer(),
          in.integer(),
          in.integer(),
          in.flag() ? Pairs::anchor : Pairs::all,
          in.flag(),
          nullptr,
          nullptr};
}

inline Alignment take_alignment(Arguments& in) {
  const void* const z = in.address();
  Alignment op = take_compared_views(in, z, in.choice<DType>());
  op.alignment = in.address();
  op.saved = in.address();
  return op;
}

inline AlignmentBackward take_alignment_backward(Arguments& in) {
  const void* const z = in.address();
  Alignment forward = take_compared_views(in, z, in.choice<DType>());
  forward.saved = in.address();
  return {forward, in.address(), in.address(), in.integer(), in.integer()};
}

// sizes, strides, unit_dim
inline Activations take_activations(Arguments& in, const void* data, DType dtype, Activation activation) {
  constexpr int64_t kMax = kMaxMeanDims + 2;
  int64_t values[2][kMax];
  int dims[2];
  for (int i = 0; i < 2; ++i) {
    Arguments from = in.sequence();
    dims[i] = int(from.left());
    if (dims[i] > kMax) throw py::value_error("memkern: too many dimensions");
    for (int d = 0; d < dims[i]; ++d) values[i][d] = from.integer();
  }
  if (dims[0] != dims[1]) throw py::value_error("memkern: as many sizes as strides");
  return make_activations(data, dtype, activation, values[0], values[1], dims[0], int(in.integer()));
}

inline Activations take_activations(Arguments& in) {
  const void* const data = in.address();
  const auto dtype = in.choice<DType>();
  return take_activations(in, data, dtype, in.choice<Activation>());
}

inline UnitMeans take_unit_means(Arguments& in) { return {take_activations(in), in.address()}; }

inline LayerStats take_layer_stats(Arguments& in) {
  const void* const data = in.address();
  const auto dtype = in.choice<DType>();
  const Activations x = take_activations(in, data, dtype, Activation::raw);
  Alignment alignment = take_compared_views(in, data, dtype);
  alignment.alignment = in.address();
  alignment.saved = in.address();
  return {alignment, {x, in.address()}};
}

// Addresses of input and output; what they have in common; of each layer its function, the addresses of its values and
// its epsilon; then of the input and each output the addresses of alignment and means.
inline PointwiseStats take_pointwise_stats(Arguments& in) {
  const void* const input = in.address();
  const void* const output = in.address();
  const auto dtype = in.choice<DType>();
  const Activations x = take_activations(in, nullptr, dtype, Activation::raw);
  const LayerStats stats{take_compared_views(in, nullptr, dtype), {x, nullptr}};
  PointwiseStats op{};
  Arguments layers = in.sequence();
  for (; layers.left() > 0 && op.layers < kMaxLayers; ++op.layers) {
    Pointwise& layer = op.layer[op.layers];
    layer.function = layers.choice<Function>();
    for (const float** values : {&layer.mean, &layer.variance, &layer.weight, &layer.bias})
      *values = layers.address<const float>();
    layer.epsilon = layers.number();
  }
  layers.end();
  for (int32_t i = -1; i < op.layers; ++i) {
    LayerStats& found = i < 0 ? op.input : op.output[i];
    found = stats;
    found.alignment.z = found.means.x.data = i < 0 ? input : i + 1 < op.layers ? nullptr : output;
    found.alignment.alignment = in.address();
    found.means.means = in.address();
  }
  return op;
}

inline Selectivity take_selectivity(Arguments& in) {
  return {take_activations(in),
          in.address<int64_t>(),
          {in.address(), in.address<int64_t>(), in.address<double>(), in.address()}};
}

inline MedianOfOthers take_median_of_others(Arguments& in) {
  return {in.address(), in.choice<DType>(), in.integer(), in.integer(), in.integer(), in.address()};
}

inline ClassSums take_class_sums(Arguments& in) {
  return {in.address(), in.choice<DType>(),    in.integer(),        in.integer(),
          in.integer(), in.address<int64_t>(), in.address<double>()};
}

// Batches of equally large images, (address, images, image stride, height, width, channel stride, row stride, column
// stride) each, strides in elements; then the fields from `pixel` on. The record points into `images`.
inline Views take_views(Arguments& in, std::vector<Image>& images) {
  Arguments batches = in.sequence();
  Views op{};
  op.pixel = in.choice<Pixel>();
  while (batches.left() > 0) {
    Arguments batch = batches.sequence();
    const char* const data = batch.address<char>();
    const int64_t count = batch.integer(), bytes = batch.integer() * (op.pixel == Pixel::uint8 ? 1 : 4);
    const Image first{data, batch.integer(), batch.integer(), batch.integer(), batch.integer(), batch.integer()};
    batch.end();
    for (int64_t i = 0; i < count; ++i) {
      images.push_back(first);
      images.back().data = data + i * bytes;
    }
  }
  op.sources = images.data();
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
  return op;
}

// The CUDA kernels as the submodule `cuda`; only in builds that have them.
void bind_cuda(py::module_& module);

}  // namespace memkern
