// unit_means: activations in any layout -> [points, units], every element read once.
//
// Elements are added up in double, in float before only by trees of 2, 4, 8, ... elements: so the mean of a constant is
// that constant. One kernel for each way memory can be contiguous; unit_means.cu recognises it:
//   sum_rows      units innermost (channels-last, tokens, matrices), or small maps one after the other (NCHW with maps
//   of
//                 up to 256 elements): a point is rows of units x space contiguous elements, added up column by column
//                 over views and whatever else lies outside, and only then folded to units
//   sum_planes    larger maps: a warp for each
//   sum_elements  anything else (points innermost, or nothing contiguous)
// Long sums are cut into parts: [points, parts, units] double, which finish_means adds up in order.
#pragma once
#include "batch.cuh"
#include "elements.cuh"
#include "launch_constants.h"
#include "reduce.cuh"

namespace memkern {

struct MeansOutput {
  void* means;      // [points, units] wide, if there is one part
  double* partial;  // [points, parts, units], if there are more
  int64_t parts;
  int64_t count;  // elements of a mean
};

template <class A>
__device__ __forceinline__ void write_sum(const MeansOutput& to, int64_t point, int64_t part, int64_t units,
                                          int64_t unit, double sum) {
  if (to.parts == 1)
    static_cast<A*>(to.means)[point * units + unit] = A(sum / double(to.count));
  else
    to.partial[(point * to.parts + part) * units + unit] = sum;  // fault: sum of a part
}

// The offset, in elements, of a position counted over the first `dims` averaged dimensions.
template <class Position>
__device__ __forceinline__ int64_t mean_offset(const Activations& x, int32_t dims, Position position) {
  int64_t offset = 0;
  for (int32_t d = dims - 1; d > 0; --d) {
    const Position size = Position(x.mean_sizes[d]);
    offset += int64_t(position % size) * x.mean_strides[d];
    position /= size;
  }
  return dims > 0 ? offset + int64_t(position) * x.mean_strides[0] : offset;
}

// x[0] + ... + x[count - 1] as a balanced tree; count is a power of two.
template <class A, int count>
__device__ __forceinline__ A tree_sum(const A (&x)[count]) {
  A sums[count];
#pragma unroll
  for (int i = 0; i < count; ++i) sums[i] = x[i];
#pragma unroll
  for (int step = 1; step < count; step *= 2)
#pragma unroll
    for (int i = 0; i < count; i += 2 * step) sums[i] += sums[i + step];
  return sums[0];
}

// ---- rows ---------------------------------------------------------------------------------------------------------

struct RowPlan {
  int32_t space;  // contiguous elements of a unit in a row; 1 where units are innermost
  int32_t outer_dims;
  int32_t rows;      // positions of the outer dimensions, in 32 bits: dividing 64 takes 20 registers more
  int32_t units;     // of a block
  int64_t segments;  // blocks side by side
  int32_t lanes;     // rows that a block adds at once; 1 where space is more than 1
  int32_t columns;   // threads side by side
  int32_t rows_per_block;
};

// The threads' sums in shared memory: element e of all threads side by side, so that neither the threads that write
// one element each nor those that read neighbours of a row meet in a bank.
template <int width>
struct RowSums {
  static constexpr int stride = kRowThreads + 16 / width, size = width * stride;
  static __device__ __forceinline__ int place(int column, int lane, int columns) {
    return column % width * stride + lane * columns + column / width;
  }
};

// grid: x = points x segments of the row, y = ranges of rows.
template <class T, int width>
__global__ void __launch_bounds__(kRowThreads, kRowBlocks)
    sum_rows(const Activations x, const RowPlan plan, const MeansOutput to) {
  using A = Wide<T>;
  const int64_t point = blockIdx.x / uint32_t(plan.segments);
  const int64_t first_unit = int64_t(blockIdx.x % uint32_t(plan.segments)) * plan.units;
  const int units = int(x.units - first_unit < plan.units ? x.units - first_unit : plan.units);
  const int column = int(threadIdx.x) % plan.columns, lane = int(threadIdx.x) / plan.columns;
  const int at = column * width, count = units * plan.space - at;  // may be nothing
  const T* const data = static_cast<const T*>(x.data) + point * x.point_stride + first_unit * plan.space + at;
  const int first = int(blockIdx.y) * plan.rows_per_block;
  const int last = plan.rows - first > plan.rows_per_block ? first + plan.rows_per_block : plan.rows;

  double sum[width] = {};
  for (int r = first + lane; r < last && count > 0; r += kRowUnroll * plan.lanes) {
    Words<T, width> raw[kRowUnroll];
#pragma unroll
    for (int i = 0; i < kRowUnroll; ++i) {
      const int row = r + i * plan.lanes;
      raw[i] = load_words<T, width>(data + (row < last ? mean_offset(x, plan.outer_dims, uint32_t(row)) : 0),
                                    row < last ? count : 0);
    }
    A value[kRowUnroll][width];
#pragma unroll
    for (int i = 0; i < kRowUnroll; ++i) unpack(raw[i], value[i]);
    const bool whole = r + (kRowUnroll - 1) * plan.lanes < last;
#pragma unroll
    for (int e = 0; e < width; ++e) {
      A pairs[kRowUnroll / 2];
#pragma unroll
      for (int i = 0; i < kRowUnroll / 2; ++i)
        pairs[i] = activate(x.activation, value[2 * i][e]) + activate(x.activation, value[2 * i + 1][e]);
      if (whole) {
        sum[e] += double(tree_sum(pairs));
      } else {
#pragma unroll
        for (int i = 0; i < kRowUnroll / 2; ++i) sum[e] += double(pairs[i]);
      }
    }
  }

  using Sums = RowSums<width>;
  MEMKERN_SHARED(double[Sums::size], sums);
#pragma unroll
  for (int e = 0; e < width; ++e) sums[e * Sums::stride + int(threadIdx.x)] = sum[e];
  // fault: sums of rows
  __syncthreads();
  const int group = plan.space < 2 * kFoldThreads ? 1 : kFoldThreads;  // threads of a unit
  const int member = int(threadIdx.x) % group;
  for (int begin = 0; begin < units; begin += int(blockDim.x) / group) {
    const int unit = begin + int(threadIdx.x) / group;
    double total = 0;
    if (unit < units) {
      for (int row = 0; row < plan.lanes; ++row)
        for (int s = member; s < plan.space; s += group)
          total += sums[Sums::place(unit * plan.space + s, row, plan.columns)];
    }
    for (int bit = group / 2; bit > 0; bit /= 2) total += __shfl_xor_sync(kAllLanes, total, bit);
    if (unit < units && member == 0) write_sum<A>(to, point, blockIdx.y, x.units, first_unit + unit, total);
  }
}

// ---- planes -------------------------------------------------------------------------------------------------------

// A lane's share of the sum of n contiguous elements at any alignment: single elements up to the first multiple of 16
// bytes and after the last one, packs between.
template <class T>
__device__ __forceinline__ double sum_piece(const T* x, int64_t n, Activation activation) {
  using A = Wide<T>;
  constexpr int width = kPack<T>;
  const int64_t ahead = int64_t((16 - reinterpret_cast<uintptr_t>(x) % 16) % 16 / sizeof(T)),
                head = ahead < n ? ahead : n;
  const int64_t packs = (n - head) / width, tail = n - head - packs * width;
  const int lane = lane_index();
  // the two ends are of at most width - 1 elements
  const Words<T, 1> first = load_words<T, 1>(x + (lane < head ? lane : 0), lane < head);
  const Words<T, 1> last = load_words<T, 1>(x + (lane < tail ? n - tail + lane : 0), lane < tail);
  double total = 0;
  for (int64_t p = lane; p < packs; p += kWarp * kPlaneUnroll) {
    Words<T, width> raw[kPlaneUnroll];
#pragma unroll
    for (int i = 0; i < kPlaneUnroll; ++i) {
      const int64_t pack = p + i * kWarp;
      raw[i] = load_words<T, width>(x + head + (pack < packs ? pack * width : 0), pack < packs ? width : 0);
    }
    A value[kPlaneUnroll][width], sums[kPlaneUnroll];
#pragma unroll
    for (int i = 0; i < kPlaneUnroll; ++i) {
      unpack(raw[i], value[i]);
#pragma unroll
      for (int e = 0; e < width; ++e) value[i][e] = activate(activation, value[i][e]);
      sums[i] = tree_sum(value[i]);
    }
    if (p + (kPlaneUnroll - 1) * kWarp < packs) {
      total += double(tree_sum(sums));
    } else {
#pragma unroll
      for (int i = 0; i < kPlaneUnroll; ++i) total += double(sums[i]);
    }
  }
  A ends[2][1];
  unpack(first, ends[0]);
  unpack(last, ends[1]);
  return total + double(activate(activation, ends[0][0])) + double(activate(activation, ends[1][0]));
}

struct PlanePlan {
  int64_t outer;   // planes of a unit and point
  int64_t piece;   // elements
  int64_t pieces;  // of a plane
};

// grid: x = points x units / warps, y = parts of kPlaneItems pieces.
template <class T>
__global__ void __launch_bounds__(kPlaneWarps* kWarp, kPlaneBlocks - (sizeof(T) == 8))
    sum_planes(const Activations x, const PlanePlan plan, const MeansOutput to) {
  const int64_t index = int64_t(blockIdx.x) * kPlaneWarps + warp_index();
  if (index >= x.points * x.units) return;  // a whole warp; nothing below waits for the block
  const int64_t point = index / x.units, unit = index % x.units;
  const T* const data = static_cast<const T*>(x.data) + point * x.point_stride + unit * x.unit_stride;
  const int32_t outer_dims = x.mean_dims - 1;
  const int64_t space = x.mean_sizes[outer_dims];
  const int64_t first = int64_t(blockIdx.y) * kPlaneItems, items = plan.outer * plan.pieces;
  int64_t plane = first / plan.pieces, piece = first % plan.pieces;
  double sum = 0;
  for (int64_t item = first; item < first + kPlaneItems && item < items; ++item) {
    const int64_t at = piece * plan.piece;
    sum += sum_piece(data + mean_offset(x, outer_dims, plane) + at, space - at < plan.piece ? space - at : plan.piece,
                     x.activation);
    if (++piece == plan.pieces) piece = 0, ++plane;
  }
  sum = warp_sum(sum);
  if (lane_index() == 0) write_sum<Wide<T>>(to, point, blockIdx.y, x.units, unit, sum);
}

// ---- elements -----------------------------------------------------------------------------------------------------

// grid: x = points x units / threads, y = parts.
template <class T>
__global__ void __launch_bounds__(kElementThreads) sum_elements(const Activations x, const MeansOutput to) {
  const int64_t index = int64_t(blockIdx.x) * kElementThreads + threadIdx.x;
  if (index >= x.points * x.units) return;
  const bool points_innermost = x.point_stride < x.unit_stride;  // neighbours in memory to neighbouring threads
  const int64_t point = points_innermost ? index % x.points : index / x.units;
  const int64_t unit = points_innermost ? index / x.points : index % x.units;
  const T* const data = static_cast<const T*>(x.data) + point * x.point_stride + unit * x.unit_stride;
  const int64_t first = int64_t(blockIdx.y) * kElementsPerThread;
  const int64_t last = first + kElementsPerThread < to.count ? first + kElementsPerThread : to.count;
  double sum = 0;
  for (int64_t i = first; i < last; i += kElementUnroll) {
    double value[kElementUnroll];
#pragma unroll
    for (int k = 0; k < kElementUnroll; ++k) {
      Wide<T> element[1];
      load_some<T, 1>(data + (i + k < last ? mean_offset(x, x.mean_dims, i + k) : 0), i + k < last, element);
      value[k] = double(activate(x.activation, element[0]));
    }
    sum += tree_sum(value);
  }
  write_sum<Wide<T>>(to, point, blockIdx.y, x.units, unit, sum);
}

// ---- parts --------------------------------------------------------------------------------------------------------

struct MeansTask {
  int64_t points, units;
  MeansOutput from;
};

// grid: x = points x units / threads, of the batch's tasks.
template <class A>
__global__ void __launch_bounds__(kElementThreads) finish_means(const __grid_constant__ Batch<MeansTask> batch) {
  const int task = task_of_block(batch);
  const MeansOutput& from = batch.task[task].from;
  const int64_t points = batch.task[task].points, units = batch.task[task].units;
  const int64_t index = block_in_task(batch, task) * kElementThreads + threadIdx.x;
  if (index >= points * units) return;  // fault: units past the last
  const int64_t point = index / units, unit = index % units;
  const double sum = sum_in_order(from.partial + point * from.parts * units + unit, from.parts, units, 0);
  static_cast<A*>(from.means)[index] = A(sum / double(from.count));
}

}  // namespace memkern
