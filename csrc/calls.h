// Calls of the ops: what a caller gives of each, which stands for the members of its record in ops.h. Who calls need
// not be Python: the fields are those of ops_table.h, and bindings.h takes them from Python.
#pragma once
#include <stdexcept>
#include <vector>

#include "layout.h"
#include "ops.h"

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

struct Shape {
  Dims sizes, strides;
  int64_t unit_dim;
};

inline void set_shape(Activations& x, const Shape& shape) {
  if (shape.sizes.count != shape.strides.count) throw std::invalid_argument("memkern: as many sizes as strides");
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
  if (!all_there) throw std::invalid_argument("memkern: at most two layers; results for the input and for each layer");
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

}  // namespace memkern
