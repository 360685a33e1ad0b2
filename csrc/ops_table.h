// The one list of ops. Of each its name, its record (ops.h), and the fields that Python gives of it, by name.
// Whoever includes this file first defines what a row becomes: CPU_OP, CUDA_OP or both. The kernel tables, the entry
// points and the bindings are made of the rows; the tests read them as text.
//
//   OP                     has kernels for CPUs and for GPUs; CPU_OP, CUDA_OP: for one of them
//   PART(Record, what)     no op: a record that fields of an op hold one or more of
//   FIELD(name)            the record's member of that name
//   FIELD_AS(name, place)  a member of a member, or one that calls.h adds to the record (its struct Call)
#if !defined(CPU_OP)
#define CPU_OP(...)
#endif
#if !defined(CUDA_OP)
#define CUDA_OP(...)
#endif
#if !defined(OP)
#define OP(...) CPU_OP(__VA_ARGS__) CUDA_OP(__VA_ARGS__)
#endif
#if !defined(PART)
#define PART(...)
#endif

// clang-format off
// Fields that several records have: of compared views (place: of their struct in the record), and of a tensor's shape.
#define FIELDS_OF_VIEWS(place) \
  FIELD_AS(points, place points) FIELD_AS(views, place views) FIELD_AS(dims, place dims) \
  FIELD_AS(point_stride, place point_stride) FIELD_AS(view_stride, place view_stride) \
  FIELD_AS(pairs, place pairs) FIELD_AS(distance, place distance) FIELD_AS(normalize, place normalize)
#define FIELDS_OF_SHAPE FIELD_AS(sizes, shape.sizes) FIELD_AS(strides, shape.strides) FIELD_AS(unit_dim, shape.unit_dim)

PART(ImageBatch, "a batch of images",
     FIELD(data) FIELD(images) FIELD(image_stride) FIELD(height) FIELD(width) FIELD(channel_stride) FIELD(row_stride)
     FIELD(column_stride))
PART(Pointwise, "a layer", FIELD(function) FIELD(mean) FIELD(variance) FIELD(weight) FIELD(bias) FIELD(epsilon))

OP(alignment, Alignment, FIELD(z) FIELD(dtype) FIELDS_OF_VIEWS() FIELD(alignment) FIELD(saved)
   FIELD(rows) FIELD(halves) FIELD(errors))
OP(alignment_backward, AlignmentBackward,
   FIELD_AS(z, forward.z) FIELD_AS(dtype, forward.dtype) FIELDS_OF_VIEWS(forward.) FIELD_AS(saved, forward.saved)
   FIELD(grad) FIELD(grad_z) FIELD(grad_point_stride) FIELD(grad_view_stride))
OP(class_sums, ClassSums, FIELD(means) FIELD(dtype) FIELD(points) FIELD(units) FIELD(classes) FIELD(labels) FIELD(sums))
CPU_OP(layer_stats, LayerStats,
   FIELD_AS(x, alignment.z) FIELD_AS(dtype, alignment.dtype) FIELDS_OF_SHAPE FIELDS_OF_VIEWS(alignment.)
   FIELD_AS(alignment, alignment.alignment) FIELD_AS(saved, alignment.saved) FIELD_AS(means, means.means)
   FIELD_AS(rows, alignment.rows) FIELD_AS(halves, alignment.halves) FIELD_AS(errors, alignment.errors))
CUDA_OP(layer_stats, LayerStatsMany, FIELD(layers))
OP(median_of_others, MedianOfOthers,
   FIELD(means) FIELD(dtype) FIELD(points) FIELD(units) FIELD(point_stride) FIELD(median))
CPU_OP(pointwise_stats, PointwiseStats,
   FIELD(x) FIELD(y) FIELD(dtype) FIELDS_OF_SHAPE FIELDS_OF_VIEWS(compared.)
   FIELD_AS(layers, functions) FIELD(alignments) FIELD_AS(means, averages)
   FIELD(rows) FIELD(halves) FIELD(errors))
OP(selectivity, Selectivity,
   FIELD_AS(x, x.data) FIELD_AS(dtype, x.dtype) FIELD_AS(activation, x.activation) FIELDS_OF_SHAPE FIELD(order)
   FIELD_AS(peak, state.peak) FIELD_AS(index, state.index) FIELD_AS(rest, state.rest) FIELD_AS(minimum, state.minimum))
OP(unit_means, UnitMeans,
   FIELD_AS(x, x.data) FIELD_AS(dtype, x.dtype) FIELD_AS(activation, x.activation) FIELDS_OF_SHAPE FIELD(means))
OP(views, Views,
   FIELD(batches) FIELD(pixel) FIELD(views) FIELD(channels) FIELD(height) FIELD(width) FIELD(params) FIELD(antialias)
   FIELD(blur_size) FIELD(mean) FIELD(std) FIELD(hidden) FIELD(patch) FIELD(out) FIELD(dtype) FIELD(channels_last))
// clang-format on

#undef PART
#undef OP
#undef CPU_OP
#undef CUDA_OP
#undef FIELDS_OF_VIEWS
#undef FIELDS_OF_SHAPE
