// Conversion of what Python gives of each op, by field name, to the record of ops.h: for both files of bindings.
#pragma once
#include <exception>
#include <new>
#include <vector>

#include "fields.h"
#include "layout.h"

namespace memkern {

// A record, and beside it fields of a call that stand for several of its members.
template <class Op>
struct Call : Op {};
template <class Op>
void complete(Call<Op>&) {}

// ---- activations: sizes and strides of the tensor become the loops of a kernel -------------------------------------

struct Dims {
  int64_t count, values[kMaxMeanDims + 2];
};

inline const char* take(PyObject* value, Dims& to) {
  to.count = 0;
  return take_each(value, [&](PyObject* item) {
    return to.count < kMaxMeanDims + 2 ? take(item, to.values[to.count++]) : "at most ten numbers";
  });
}

struct Shape {
  Dims sizes, strides;
  int64_t unit_dim;
};

inline void set_shape(Activations& x, const Shape& shape) {
  if (shape.sizes.count != shape.strides.count) throw py::value_error("memkern: as many sizes as strides");
  x = make_activations(x.data, x.dtype, x.activation, shape.sizes.values, shape.strides.values, int(shape.sizes.count),
                       int(shape.unit_dim));
}

template <>
struct Call<UnitMeans> : UnitMeans {
  Shape shape;
};
inline void complete(Call<UnitMeans>& op) { set_shape(op.x, op.shape); }

template <>
struct Call<Selectivity> : Selectivity {
  Shape shape;
};
inline void complete(Call<Selectivity>& op) { set_shape(op.x, op.shape); }

template <>
struct Call<LayerStats> : LayerStats {
  Shape shape;
};
inline void complete(Call<LayerStats>& op) {
  op.means.x.data = op.alignment.z;
  op.means.x.dtype = op.alignment.dtype;
  set_shape(op.means.x, op.shape);
}

// Several layers: a dict for each.
template <>
struct Call<LayerStatsMany> : LayerStatsMany {
  std::vector<Call<LayerStats>> layers;
  std::vector<LayerStats> completed;
};
inline void complete(Call<LayerStatsMany>& op) {
  for (Call<LayerStats>& layer : op.layers) {
    complete(layer);
    op.completed.push_back(layer);
  }
  static_cast<LayerStatsMany&>(op) = {op.completed.data(), int64_t(op.completed.size())};
}

// ---- pointwise_stats: what input and outputs have in common is given once ------------------------------------------

template <>
struct Call<PointwiseStats> : PointwiseStats {
  const void *x, *y;
  DType dtype;
  Shape shape;
  Alignment compared;
  std::vector<Pointwise> functions;                               // a dict for each layer
  std::vector<void*> alignments, averages, rows, halves, errors;  // of the input and of the output of each layer
};
inline void complete(Call<PointwiseStats>& op) {
  const size_t layers = op.functions.size();
  bool all_there = layers <= kMaxLayers;
  for (const auto* results : {&op.alignments, &op.averages, &op.rows, &op.halves, &op.errors})
    all_there &= results->size() == layers + 1;
  if (!all_there) throw py::value_error("memkern: at most two layers; results for the input and for each layer");
  op.layers = int32_t(layers);
  op.compared.dtype = op.dtype;
  LayerStats stats{op.compared, {}};
  stats.means.x.dtype = op.dtype;
  set_shape(stats.means.x, op.shape);
  for (size_t i = 0; i <= layers; ++i) {
    LayerStats& found = i == 0 ? op.input : op.output[i - 1];
    found = stats;
    found.alignment.z = found.means.x.data = i == 0 ? op.x : i < layers ? nullptr : op.y;
    found.alignment.alignment = op.alignments[i];
    found.alignment.rows = op.rows[i];
    found.alignment.halves = op.halves[i];
    found.alignment.errors = op.errors[i];
    found.means.means = op.averages[i];
    if (i < layers) op.layer[i] = op.functions[i];
  }
}

// ---- views: batches of equally large images, a dict for each -------------------------------------------------------

struct ImageBatch {
  const char* data;  // [images, channels, height, width]
  int64_t images, image_stride, height, width, channel_stride, row_stride, column_stride;  // strides in elements
};

template <>
struct Call<Views> : Views {
  std::vector<ImageBatch> batches;
  std::vector<Image> each;
};
inline void complete(Call<Views>& op) {
  const int64_t size = op.pixel == Pixel::uint8 ? 1 : 4;
  for (const ImageBatch& batch : op.batches)
    for (int64_t i = 0; i < batch.images; ++i)
      op.each.push_back({batch.data + i * batch.image_stride * size, batch.height, batch.width, batch.channel_stride,
                         batch.row_stride, batch.column_stride});
  op.sources = op.each.data();
  op.images = int64_t(op.each.size());
}

// ---- the fields ----------------------------------------------------------------------------------------------------

#define FIELD_AS(name, place) {#name, [](auto& record, PyObject* value) { return take(value, record.place); }},
#define FIELD(name) FIELD_AS(name, name)

template <>
inline constexpr bool is_nested<Pointwise> = true;
template <>
inline const Fields<Pointwise> fields_of<Pointwise>{
    "a layer", {FIELD(function) FIELD(mean) FIELD(variance) FIELD(weight) FIELD(bias) FIELD(epsilon)}};

template <>
inline constexpr bool is_nested<ImageBatch> = true;
template <>
inline const Fields<ImageBatch> fields_of<ImageBatch>{
    "a batch of images",
    {FIELD(data) FIELD(images) FIELD(image_stride) FIELD(height) FIELD(width) FIELD(channel_stride) FIELD(row_stride)
         FIELD(column_stride)}};

template <>
inline constexpr bool is_nested<Call<LayerStats>> = true;

#define OP(name, Record, ...) \
  template <>                 \
  inline const Fields<Call<Record>> fields_of<Call<Record>>{#name, {__VA_ARGS__}};
#define CPU_OP OP
#define CUDA_OP OP
#include "ops_table.h"

// ---- functions of Python -------------------------------------------------------------------------------------------

// Calls body() and returns None; an exception becomes Python's.
template <class Body>
PyObject* returning_none(const Body& body) noexcept {
  try {
    body();
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// The function of an op: where it runs, then the fields of its record as keywords. run(where, record) runs it. By hand
// instead of by pybind11, which would make a dict of the keywords and look into it for each.
template <class Op, void (*run)(PyObject* where, const Op& op)>
PyObject* call(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) noexcept {
  return returning_none([&] {
    if (count != 1) throw py::type_error("memkern: expected where to run, and then fields by name");
    Call<Op> op{};
    fields_of<Call<Op>>.read(op, arguments + 1, names);
    complete(op);
    run(arguments[0], op);
  });
}

template <class Op, void (*run)(PyObject* where, const Op& op)>
void bind(py::module_& m, const char* name) {
  static PyMethodDef method{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&call<Op, run>)),
                            METH_FASTCALL | METH_KEYWORDS, nullptr};
  m.add_object(name, py::reinterpret_steal<py::object>(PyCFunction_New(&method, nullptr)));
}

}  // namespace memkern
