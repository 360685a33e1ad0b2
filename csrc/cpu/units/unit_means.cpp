// unit_means: activations in any layout -> [points, units], one read, no copy.
//
// A point is reduced to sums per unit by add_planes and add_rows (unit_sums.h). What this file does is to recognise
// which of a layout's dimensions is contiguous in memory and to walk the others:
//   planes   the innermost averaged dimension    (NCHW maps)
//   maps     the same, but smaller than a vector (4x4, 2x2): the views are added first, then each map is folded
//   rows     the units                           (channels-last, tokens, [points, units])
//   lanes    the points                          (a transposed matrix): points and units swap their roles
//   strided  none
#include "unit_means.h"

#include "cpu/dispatch/kernels.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// Units whose sums are kept at once, on the stack: 16 KB, a third of the L1 cache.
constexpr int64_t kUnitBlock = 2048;
// Bytes that are prefetched ahead, because 16-bit elements from DRAM are otherwise waited for.
constexpr int64_t kBytesAhead = 2048;

// ---- the averaged dimensions of one point: an inner one, and an odometer over the others -------------------------

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

  // Calls body(offset) for every position of the outer dimensions, in the order of memory.
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

enum class Path { planes, maps, rows, lanes, strided };

[[gnu::noinline]] Path choose_path(const Activations& x, const MeanDims& dims, int64_t group) {
  const bool inner_contiguous = dims.inner_stride == 1 && x.mean_dims > 0;
  // Measured: over 4 views or more, maps of less than a few vectors are faster as maps (4x4 fp32: twice as fast).
  const bool maps = inner_contiguous && (x.unit_stride == dims.inner_size || x.units == 1);
  if (maps && dims.inner_size < 4 * group && dims.outer_size >= 4) return Path::maps;
  if (inner_contiguous && dims.inner_size >= group) return Path::planes;
  if (x.point_stride == 1 && x.points > x.units && x.unit_stride != 1) return Path::lanes;
  if (maps) return Path::maps;
  if (x.unit_stride == 1) return Path::rows;
  if (x.point_stride == 1) return Path::lanes;
  return inner_contiguous ? Path::planes : Path::strided;
}

// ---- loops over one point -----------------------------------------------------------------------------------------

template <class T, class Activate>
void add_strided(const T* x, int64_t size, int64_t units, int64_t stride, int64_t unit_stride, double* sums,
                 Activate activate) {
  for (int64_t u = 0; u < units; ++u)
    for (int64_t i = 0; i < size; ++i) sums[u] += activate(widen(x[u * unit_stride + i * stride]));
}

// A single element per point and unit, units contiguous: nothing to add up.
template <class T, class Activate>
void convert_row(const T* x, int64_t units, Wide<T>* means, Activate activate) {
  int64_t u = 0;
  for (; u + kGroup<T> <= units; u += kGroup<T>) {
    Vec<Wide<T>> columns[kColumns<T>];
    sum_groups<1>(x + u, 0, kBytesAhead, columns, activate);
    interleave<T>(columns);
    for (int c = 0; c < kColumns<T>; ++c) store(means + u + c * Lanes<Wide<T>>::count, columns[c]);
  }
  for (; u < units; ++u) means[u] = activate(widen(x[u]));
}

// ---- means -------------------------------------------------------------------------------------------------------

template <class T>
struct PointMeans {
  explicit PointMeans(const Activations& x) : x(x), dims(x), path(choose_path(x, dims, kGroup<T>)) {}

  // means[point - first][unit]
  void write(int64_t first, int64_t last, Wide<T>* means) const {
    const int64_t together = path == Path::lanes ? kLanePoints : 1;
    for (int64_t p = first; p < last; p += together, means += together * x.units) {
      const T* const point = static_cast<const T*>(x.data) + p * x.point_stride;
      if (path == Path::lanes)
        write_lanes(point, last - p < together ? last - p : together, means);
      else if (path == Path::rows && dims.count() == 1)
        activated([&](auto activate) { convert_row(point, x.units, means, activate); });
      else
        write_point(point, means);
    }
  }

  void write_point(const T* point, Wide<T>* means) const {
    const int64_t block = path == Path::maps ? kUnitBlock / dims.inner_size : kUnitBlock;
    for (int64_t u = 0; u < x.units; u += block) {
      const int64_t units = x.units - u < block ? x.units - u : block;
      alignas(64) double sums[kUnitBlock];
      for (int64_t i = 0; i < units; ++i) sums[i] = 0;
      if (path == Path::maps)
        add_maps(point + u * dims.inner_size, units, sums);
      else
        add_units(path, point + u * x.unit_stride, units, x.unit_stride, sums);
      divide(sums, units, dims.count(), means + u);
    }
  }

  // Adds all elements of `units` units, `at` pointing to the first of them.
  void add_units(Path path, const T* at, int64_t units, int64_t unit_stride, double* sums) const {
    const bool narrow = path == Path::rows && units < kGroup<T> && dims.inner_stride == units;
    dims.for_each_outer([&](int64_t offset) {
      const T* const part = at + offset;
      activated([&](auto activate) {
        switch (path) {
          case Path::planes:
            return add_planes(part, units, dims.inner_size, unit_stride, sums, kBytesAhead, activate);
          case Path::strided:
            return add_strided(part, dims.inner_size, units, dims.inner_stride, unit_stride, sums, activate);
          default:
            if (narrow) return add_narrow_rows(part, dims.inner_size, units, sums, activate);
            return add_rows(part, dims.inner_size, units, dims.inner_stride, sums, kBytesAhead, activate);
        }
      });
    });
  }

  // Calls use(activate), activate being what is done to an element first.
  template <class Use>
  void activated(const Use& use) const {
    if (x.activation == Activation::raw)
      use(Raw());
    else
      use(Rectify<Wide<T>>(x.activation));
  }

  // Rows narrower than a vector, without gaps: 64 or 8 of them make one wide row, which is folded afterwards.
  template <class Activate>
  void add_narrow_rows(const T* rows, int64_t count, int64_t units, double* sums, Activate activate) const {
    for (int64_t together : {64, 8}) {
      const int64_t wide_rows = count / together, wide_units = together * units;
      if (wide_rows == 0 || wide_units < kGroup<T>) continue;
      alignas(64) double wide[64 * kGroup<T>] = {};
      add_rows(rows, wide_rows, wide_units, wide_units, wide, kBytesAhead, activate);
      for (int64_t i = 0; i < wide_units; i += units)
        for (int64_t u = 0; u < units; ++u) sums[u] += wide[i + u];
      rows += wide_rows * wide_units;  // fault: narrow rows
      count -= wide_rows * together;
    }
    add_rows(rows, count, units, units, sums, 0, activate);
  }

  // Small maps lie one after the other: those of all units are one row, and the views are rows below each other.
  void add_maps(const T* maps, int64_t units, double* sums) const {
    alignas(64) double wide[kUnitBlock];
    const int64_t elements = units * dims.inner_size;
    for (int64_t i = 0; i < elements; ++i) wide[i] = 0;
    if (dims.outer_dims == 0) {
      activated([&](auto activate) { add_rows(maps, 1, elements, elements, wide, kBytesAhead, activate); });
    } else {
      MeanDims beyond = dims;  // the last of the outer dimensions supplies the rows
      const int32_t rows = --beyond.outer_dims;
      beyond.outer_size /= dims.sizes[rows];
      beyond.for_each_outer([&](int64_t offset) {
        activated([&](auto activate) {
          add_rows(maps + offset, dims.sizes[rows], elements, dims.strides[rows], wide, kBytesAhead / 4, activate);
        });
      });
    }
    add_planes(wide, units, dims.inner_size, dims.inner_size, sums);
  }

  // Points are contiguous, so a block of them is a row to add_rows. Means are collected for some units, so that the
  // transposed output is written by cache lines.
  static constexpr int64_t kLanePoints = 256, kLaneUnits = 16;

  void write_lanes(const T* points, int64_t count, Wide<T>* means) const {
    Wide<T> tile[kLaneUnits][kLanePoints];
    for (int64_t u = 0; u < x.units; u += kLaneUnits) {
      const int64_t units = x.units - u < kLaneUnits ? x.units - u : kLaneUnits;
      for (int64_t i = 0; i < units; ++i) {
        alignas(64) double sums[kLanePoints] = {};
        add_units(Path::lanes, points + (u + i) * x.unit_stride, count, 1, sums);
        divide(sums, count, dims.count(), tile[i]);
      }
      for (int64_t p = 0; p < count; ++p)
        for (int64_t i = 0; i < units; ++i) means[p * x.units + u + i] = tile[i][p];  // fault: tile of units
    }
  }

  const Activations& x;
  const MeanDims dims;
  const Path path;
};

int64_t elements_in_vector(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return kGroup<float>;
    case DType::float64:
      return kGroup<double>;
    case DType::bfloat16:
      return kGroup<bf16>;
    case DType::float16:
      return kGroup<f16>;
  }
  return 1;
}

}  // namespace

void write_means(const Activations& x, int64_t first, int64_t last, void* means) {
  switch (x.dtype) {
    case DType::float32:
      return PointMeans<float>(x).write(first, last, static_cast<float*>(means));
    case DType::float64:
      return PointMeans<double>(x).write(first, last, static_cast<double*>(means));
    case DType::bfloat16:
      return PointMeans<bf16>(x).write(first, last, static_cast<float*>(means));
    case DType::float16:
      return PointMeans<f16>(x).write(first, last, static_cast<float*>(means));
  }
}

int64_t points_together(const Activations& x) {
  const bool lanes = choose_path(x, MeanDims(x), elements_in_vector(x.dtype)) == Path::lanes;
  return lanes ? PointMeans<float>::kLanePoints : 1;
}

void unit_means(const UnitMeans& op, const WorkRange& range) {
  const int64_t row_bytes = op.x.units * (op.x.dtype == DType::float64 ? 8 : 4);
  write_means(op.x, range.first, range.last, static_cast<char*>(op.means) + range.first * row_bytes);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
