// One plain record per op: pointers, int64 sizes, strides in elements, shapes in comments.
// This header is all that a kernel (CPU or CUDA) knows of the world: no torch, no Python, no allocation, no threads.
#pragma once
#include <cstdint>

namespace memkern {

enum class DType : int32_t { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

// Views that are compared: every pair, or view 0 (the anchor) with each other view.
enum class Pairs : int32_t { all = 0, anchor = 1 };

// Distance of two views: l2, or of their directions, from the l2 distance d of the unit vectors: cosine d^2 / 2, which
// is 1 - cos, and angular 2 asin(d / 2) / pi, which is arccos(cos) / pi. Between equal views it is 0, of zeros too.
// l1: the sum of the absolute differences; of unit vectors it takes the norms first, so a second look at the views.
enum class Distance : uint8_t { l2 = 0, cosine = 1, angular = 2, l1 = 3 };

// Function that is applied to an activation before it is averaged.
enum class Activation : int32_t { raw = 0, relu = 1, abs = 2 };

// "Wide" below is the accumulating and result dtype: float64 for float64 input, float32 for every other.

// Work of an op that threads share on the CPU: so many points, units or views, which read so many elements in all.
// (static here and below: these headers are compiled for several instruction sets, and the linker would keep one copy.)
struct Work {
  int64_t items, elements;
};

// A view is divided by max(its l2 norm, this), as in F.normalize.
constexpr double kSmallestNorm = 1e-12;

// alignment: [points, views, dims] -> [points], the mean l2 distance over the chosen pairs of views.
// The dims of a view must be one contiguous block; their order does not matter, a distance does not see it.
// (What the backward reads too is a record of its own: its kernels have fewer registers free where it is longer.)
struct KeptAlignment {
  const void* z;  // [points, views, dims]
  DType dtype;
  int64_t points, views, dims;  // there may be no points; at least two views of at least one element
  int64_t point_stride, view_stride;
  Pairs pairs;
  Distance distance;
  bool normalize;   // divide each view by max(its l2 norm, kSmallestNorm) first; so for directions
  void* alignment;  // [points] wide
  void* saved;      // [points, pair_count + (normalize ? views : 0)] wide: distances in pair order (0,1), (0,2), ...,
                    // then the norms before clamping; what the backward needs. Null: not kept.
};
struct Alignment : KeptAlignment {
  // What the distances say of the views. All or, where they are not wanted or not every pair is compared, null.
  void* rows;    // [points, views] wide: sum of the distances of a view to the others
  void* halves;  // [2, points] wide: mean distance among the even and among the odd views; NaN if there is but one
  void* errors;  // [points] wide: standard error of the alignment over draws of the views; NaN of two views
};

// alignment_backward: the gradient of sum(grad * alignment) with respect to z. A zero distance has gradient 0.
struct AlignmentBackward {
  KeptAlignment forward;  // z and saved as the forward left them; forward.alignment is not read; l2 alone
  const void* grad;       // [points] wide
  void* grad_z;           // [points, views, dims], dtype of z
  int64_t grad_point_stride, grad_view_stride;
};

static inline Work work_of(const AlignmentBackward& op) {
  return {op.forward.points, op.forward.points * op.forward.views * op.forward.dims};
}

// Activations in any layout, reduced by the caller to: points, units, and the averaged dimensions (views and space),
// neighbours merged where memory allows it, outermost (largest stride) first.
constexpr int32_t kMaxMeanDims = 8;
struct Activations {
  const void* data;
  DType dtype;
  Activation activation;
  int64_t points, units;
  int64_t point_stride, unit_stride;
  int32_t mean_dims;  // may be 0: then the point's value is the single element
  int64_t mean_sizes[kMaxMeanDims], mean_strides[kMaxMeanDims];
};

static inline int64_t elements_of(const Activations& x) {
  int64_t elements = x.points * x.units;
  for (int32_t d = 0; d < x.mean_dims; ++d) elements *= x.mean_sizes[d];
  return elements;
}

// unit_means: activations -> [points, units] wide, the mean over views and space.
struct UnitMeans {
  Activations x;
  void* means;  // [points, units] wide, contiguous
};
static inline Work work_of(const UnitMeans& op) { return {op.x.points, elements_of(op.x)}; }

// The state of each unit. One state serves one call, streaming, several processes and class selectivity.
struct SelectivityState {
  void* peak;      // [units] wide: largest per-point mean (NaN once any mean is NaN)
  int64_t* index;  // [units]: position, in visiting order, of the peak; the first one on ties; of the first NaN if any
  double* rest;    // [units]: sum of the means of all the other points (summed directly, never total - peak)
  void* minimum;   // [units] wide: smallest per-point mean (tells signed units)
};

// selectivity: activations -> state per unit over all points.
struct Selectivity {
  Activations x;
  const int64_t* order;  // [points] the point visited at each position, or null for 0, 1, 2, ...
  SelectivityState state;
};

// median_of_others: [points, units] means -> [units], the median of each column without one copy of its largest value.
struct MedianOfOthers {
  const void* means;  // [points, units] wide, rows `point_stride` apart
  DType dtype;        // float32 or float64
  int64_t points, units, point_stride;
  void* median;  // [units] wide
};
static inline Work work_of(const MedianOfOthers& op) { return {op.units, op.units * op.points}; }

// class_sums: means and labels -> per-class sums.
struct ClassSums {
  const void* means;  // [points, units] wide, contiguous
  DType dtype;        // float32 or float64
  int64_t points, units, classes;
  const int64_t* labels;  // [points], each in [0, classes)
  double* sums;           // [classes, units]; of zeros for CUDA, which adds to them; the CPU writes them
  // Of the CPU, set by run_class_sums: the points class after class; null: they are taken in their own order.
  const int64_t* order;   // [points]
  const int64_t* starts;  // [classes + 1]: where in the order a class begins
  int64_t unit_blocks;    // in so many blocks are the units of a class cut, each an item of work
};

// layer_stats: one read of a layer's activations -> alignment per point and unit means.
// Both records describe the same memory: dims of the first = units * space of the second.
struct LayerStats {
  Alignment alignment;
  UnitMeans means;
};

// Several layers in one call, for kernels that share launches.
struct LayerStatsMany {
  const LayerStats* layers;
  int64_t count;
};

// A layer that makes each element of its output from the one at the same place of its input.
enum class Function : int32_t { batch_norm = 0, relu = 1, gelu = 2 };
struct Pointwise {
  Function function;
  // batch_norm, of each unit: float32 [units], the moments that training left; weight and bias may be null
  const float *mean, *variance, *weight, *bias;
  float epsilon;
};

// pointwise_stats: one or two such layers, one after the other, run while what they read and make is reduced.
// All records describe the same shape and strides; dtype float32, dims of a view [units, space] or [space, units].
// Null means.means: no unit means. The output of one layer may be written over an input that is not reduced.
constexpr int32_t kMaxLayers = 2;
struct PointwiseStats {
  LayerStats input;  // alignment.alignment null: not reduced
  int32_t layers;
  Pointwise layer[kMaxLayers];
  LayerStats output[kMaxLayers];  // the first of two is kept nowhere: its z is null
};

// views: images -> augmented, normalized views, [images, views, channels, height, width].
// A view is a crop box, two flips and a short program of steps; a table of parameters says which, drawn beforehand.
enum class Pixel : int32_t { uint8 = 0, float32 = 1 };  // 0..255, rounded after every step; or 0..1
enum class Step : int32_t { none, brightness, contrast, saturation, hue, gray, invert, solarize, blur };
constexpr int32_t kViewSteps = 8;
// Columns of a row of parameters: box top, left, height, width, horizontal flip, vertical flip, then for each step its
// code and its value: the factor of brightness, contrast and saturation, the turn of hue (1 is a full circle), the
// threshold of solarize (of 255), the standard deviation of blur (pixels).
constexpr int32_t kViewColumns = 6 + 2 * kViewSteps;

struct Image {
  const void* data;                                   // [channels, height, width]
  int64_t height, width;                              // pixels
  int64_t channel_stride, row_stride, column_stride;  // elements
};

struct Views {
  const Image* sources;  // [images]
  Pixel pixel;
  int64_t images, views, channels;  // channels: 1 or 3
  int64_t height, width;            // of a view
  const float* params;              // [images, views, kViewColumns], every box inside its image
  bool antialias;                   // widen the triangle filter when shrinking
  int64_t blur_size;                // taps of the blur, odd; its half is below height and width
  float mean[3], std[3];            // of each channel, in 0..1
  const uint8_t* hidden;            // [images, views, height / patch, width / patch] 1: patch set to 0; or null
  int64_t patch;                    // edge of a patch, pixels
  void* out;                        // [images, views, channels, height, width]
  DType dtype;                      // float32, bfloat16 or float16
  bool channels_last;               // order of memory: images, views, height, width, channels
};

static inline Work work_of(const Views& op) {
  return {op.images * op.views, op.images * op.views * op.channels * op.height * op.width};
}

}  // namespace memkern
