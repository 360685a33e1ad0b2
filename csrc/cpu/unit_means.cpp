// unit_means: activations in any layout -> [points, units], one read, no copy.
//
// A point is reduced to sums per unit by add_planes and add_rows (unit_sums.h). What this file does is to recognise
// which of a layout's dimensions is contiguous in memory and to walk the others:
//   planes  the innermost averaged dimension         (NCHW maps)
//   maps    the same, but smaller than a vector      (4x4, 2x2 maps): views are added first, then each map is folded
//   rows    the units                                (channels-last, tokens, [points, units])
//   lanes   the points                               (a transposed matrix): points and units swap their roles
//   strided nothing
#include "unit_means.h"

#include "kernels.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// Units whose sums are kept at once, on the stack: 16 KB, a third of the L1 cache.
constexpr int64_t kUnitBlock = 2048;
// Measured at DRAM size: without software prefetch bfloat16 and float16 run 1.2 to 1.8 times slower.
constexpr int64_t kBytesAhead = 2048;

enum class Path { planes, maps, rows, lanes, strided };

// The averaged dimensions of one point: an inner one and an odometer over the others.
struct MeanDims {
  explicit MeanDims(const Activations& x) : outer_dims(x.mean_dims > 0 ? x.mean_dims - 1 : 0) {
    for (int32_t d = 0; d < outer_dims; ++d) {
      sizes[d] = x.mean_sizes[d];
      strides[d] = x.mean_strides[d];
      outer_size *= sizes[d];
    }
    if (x.mean_dims > 0) {
      inner_size = x.mean_sizes[outer_dims];
      inner_stride = x.mean_strides[outer_dims];
    }
  }

  // Calls body(offset) for every position of the outer dimensions, in order of memory.
  template <class Body>
  void for_each_outer(Body body) const {
    int64_t position[kMaxMeanDims] = {}, offset = 0;
    for (int64_t n = outer_size; n > 0; --n) {
      body(offset);
      for (int32_t d = outer_dims - 1; d >= 0; --d) {
        offset += strides[d];
        if (++position[d] < sizes[d]) break;
        offset -= sizes[d] * strides[d];
        position[d] = 0;
      }
    }
  }

  int64_t count() const { return outer_size * inner_size; }

  int64_t inner_size = 1, inner_stride = 1, outer_size = 1;
  int32_t outer_dims;
  int64_t sizes[kMaxMeanDims], strides[kMaxMeanDims];
};

template <class T>
Path choose_path(const Activations& x, const MeanDims& dims) {
  const bool inner_contiguous = dims.inner_stride == 1 && x.mean_dims > 0;
  if (inner_contiguous && dims.inner_size >= kGroup<T>) return Path::planes;
  if (x.point_stride == 1 && x.points > x.units && x.unit_stride != 1) return Path::lanes;
  if (inner_contiguous && (x.unit_stride == dims.inner_size || x.units == 1)) return Path::maps;
  if (x.unit_stride == 1) return Path::rows;
  if (x.point_stride == 1) return Path::lanes;
  return inner_contiguous ? Path::planes : Path::strided;
}

// A constant's mean is that constant: its sum is exact in double, and in float the reciprocal's error rounds away.
inline void divide(const double* sums, int64_t units, int64_t count, float* means) {
  const double scale = 1.0 / double(count);
  for (int64_t u = 0; u < units; ++u) means[u] = float(sums[u] * scale);
}
inline void divide(const double* sums, int64_t units, int64_t count, double* means) {
  for (int64_t u = 0; u < units; ++u) means[u] = sums[u] / double(count);
}

// Rows narrower than a vector, without gaps: 64 or 8 of them make one wide row, which is folded afterwards.
template <Activation activation, class T>
void add_narrow_rows(const T* x, int64_t rows, int64_t units, double* sums) {
  for (int64_t rows_per_wide : {64, 8}) {
    const int64_t wide_rows = rows / rows_per_wide, wide_units = rows_per_wide * units;
    if (wide_rows == 0 || wide_units < kGroup<T>) continue;
    double wide[64 * kGroup<T>] = {};
    add_rows<activation>(x, wide_rows, wide_units, wide_units, wide, kBytesAhead);
    for (int64_t i = 0; i < wide_units; i += units)
      for (int64_t u = 0; u < units; ++u) sums[u] += wide[i + u];
    x += wide_rows * wide_units;
    rows -= wide_rows * rows_per_wide;
  }
  add_rows<activation>(x, rows, units, units, sums);
}

// Adds one point's elements of `units` units, x pointing to the first of them.
template <Activation activation, class T>
void add_point(Path path, const T* x, const MeanDims& dims, int64_t units, int64_t unit_stride, double* sums) {
  dims.for_each_outer([&](int64_t offset) {
    const T* const at = x + offset;
    if (path == Path::planes) {
      add_planes<activation>(at, units, dims.inner_size, unit_stride, sums, kBytesAhead);
    } else if (path == Path::strided) {
      for (int64_t u = 0; u < units; ++u)
        for (int64_t i = 0; i < dims.inner_size; ++i)
          sums[u] += activate_one<activation, Wide<T>>(widen(at[u * unit_stride + i * dims.inner_stride]));
    } else if (units < kGroup<T> && dims.inner_stride == units) {
      add_narrow_rows<activation>(at, dims.inner_size, units, sums);
    } else {
      add_rows<activation>(at, dims.inner_size, units, dims.inner_stride, sums, kBytesAhead);
    }
  });
}

// Small maps lie one after the other: the maps of all units are one row, and the views are rows above each other.
template <Activation activation, class T>
void add_maps(const T* x, const MeanDims& dims, int64_t units, double* sums) {
  double wide[kUnitBlock] = {};
  const int64_t elements = units * dims.inner_size;
  if (dims.outer_dims == 0) {
    add_rows<activation>(x, 1, elements, elements, wide, kBytesAhead);
  } else {
    MeanDims outer = dims;  // the innermost of the outer dimensions takes the rows
    const int32_t rows = --outer.outer_dims;
    outer.outer_size /= outer.sizes[rows];
    outer.for_each_outer([&](int64_t offset) {
      add_rows<activation>(x + offset, dims.sizes[rows], elements, dims.strides[rows], wide, kBytesAhead / 4);
    });
  }
  add_planes<Activation::raw>(wide, units, dims.inner_size, dims.inner_size, sums);
}

template <Activation activation, class T>
void means_of_point(Path path, const T* x, const MeanDims& dims, const Activations& op, Wide<T>* means) {
  const int64_t block = path == Path::maps ? kUnitBlock / dims.inner_size : kUnitBlock;
  for (int64_t u = 0; u < op.units; u += block) {
    const int64_t units = op.units - u < block ? op.units - u : block;
    double sums[kUnitBlock];
    for (int64_t i = 0; i < units; ++i) sums[i] = 0;
    if (path == Path::maps)
      add_maps<activation>(x + u * dims.inner_size, dims, units, sums);
    else
      add_point<activation>(path, x + u * op.unit_stride, dims, units, op.unit_stride, sums);
    divide(sums, units, dims.count(), means + u);
  }
}

// A single element per point and unit, units contiguous: nothing to add up.
template <Activation activation, class T>
void convert_row(const T* x, int64_t units, Wide<T>* means) {
  int64_t u = 0;
  for (; u + kGroup<T> <= units; u += kGroup<T>) {
    Vec<Wide<T>> columns[kColumns<T>];
    sum_groups<1, activation>(x + u, 0, kBytesAhead, columns);
    interleave<T>(columns);
    for (int c = 0; c < kColumns<T>; ++c) store(means + u + c * Lanes<Wide<T>>::count, columns[c]);
  }
  for (; u < units; ++u) means[u] = activate_one<activation, Wide<T>>(widen(x[u]));
}

// Points are contiguous: a block of them is a row as far as add_rows is concerned. Means are collected for some units,
// so that the transposed output is written by cache lines.
constexpr int64_t kLanePoints = 256, kLaneUnits = 16;

template <Activation activation, class T>
void means_of_lanes(const T* x, const MeanDims& dims, const Activations& op, int64_t points, Wide<T>* means) {
  for (int64_t u = 0; u < op.units; u += kLaneUnits) {
    const int64_t units = op.units - u < kLaneUnits ? op.units - u : kLaneUnits;
    Wide<T> tile[kLaneUnits][kLanePoints];
    for (int64_t i = 0; i < units; ++i) {
      double sums[kLanePoints] = {};
      add_point<activation>(Path::rows, x + (u + i) * op.unit_stride, dims, points, 1, sums);
      divide(sums, points, dims.count(), tile[i]);
    }
    for (int64_t p = 0; p < points; ++p)
      for (int64_t i = 0; i < units; ++i) means[p * op.units + u + i] = tile[i][p];
  }
}

template <Activation activation, class T>
void means_of_points(const Activations& op, int64_t first, int64_t last, void* out) {
  const MeanDims dims(op);
  const Path path = choose_path<T>(op, dims);
  const T* const x = static_cast<const T*>(op.data);
  Wide<T>* means = static_cast<Wide<T>*>(out);
  const int64_t together = path == Path::lanes ? kLanePoints : 1;
  for (int64_t p = first; p < last; p += together, means += together * op.units) {
    const T* const point = x + p * op.point_stride;
    if (path == Path::lanes)
      means_of_lanes<activation>(point, dims, op, last - p < together ? last - p : together, means);
    else if (path == Path::rows && dims.count() == 1)
      convert_row<activation>(point, op.units, means);
    else
      means_of_point<activation>(path, point, dims, op, means);
  }
}

template <class T>
void means_of_points(const Activations& x, int64_t first, int64_t last, void* means) {
  switch (x.activation) {
    case Activation::raw: return means_of_points<Activation::raw, T>(x, first, last, means);
    case Activation::relu: return means_of_points<Activation::relu, T>(x, first, last, means);
    case Activation::abs: return means_of_points<Activation::abs, T>(x, first, last, means);
  }
}

template <class T>
int64_t points_together(const Activations& x) {
  return choose_path<T>(x, MeanDims(x)) == Path::lanes ? kLanePoints : 1;
}

}  // namespace

void write_means(const Activations& x, int64_t first, int64_t last, void* means) {
  switch (x.dtype) {
    case DType::float32: return means_of_points<float>(x, first, last, means);
    case DType::float64: return means_of_points<double>(x, first, last, means);
    case DType::bfloat16: return means_of_points<bf16>(x, first, last, means);
    case DType::float16: return means_of_points<f16>(x, first, last, means);
  }
}

int64_t points_together(const Activations& x) {
  switch (x.dtype) {
    case DType::float32: return points_together<float>(x);
    case DType::float64: return points_together<double>(x);
    case DType::bfloat16: return points_together<bf16>(x);
    case DType::float16: return points_together<f16>(x);
  }
  return 1;
}

void unit_means(const UnitMeans& op, int64_t first, int64_t last) {
  const int64_t row_bytes = op.x.units * (op.x.dtype == DType::float64 ? 8 : 4);
  write_means(op.x, first, last, static_cast<char*>(op.means) + first * row_bytes);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
