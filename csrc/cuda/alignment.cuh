// alignment: [points, views, dims] -> [points].
//
// Two launches. The first sums squared differences over chunks of the dims into double partial sums, one row per point
// and chunk: [pair_count + views], the pairs in order, then the squared norms. Two kernels do that: pair_sums holds all
// views of a thread's dims in registers (up to 10 views), tile_sums takes 4 x 4 pairs a warp (any number of views, any
// alignment of memory). The second launch, finish_alignment (distances.cuh), turns sums into distances. Long unit views
// take two more, which read some points again where that tells more (unit_pairs.cuh).
//
// Every view is read from DRAM once: tile_sums reads a view once per tile, but the tiles of a point run side by side.
#pragma once
#include "elements.cuh"
#include "launch_constants.h"
#include "reduce.cuh"

namespace memkern {

__host__ __device__ inline int64_t count_sums(const KeptAlignment& op) { return pair_count(op) + op.views; }

// ---- few views, all pairs -----------------------------------------------------------------------------------------

// Sums of a thread over one point: squared distances of all pairs in order, squared norms of the views, and padding up
// to what warp_sums takes. Kernels exist for even numbers of views (half the code to compile and to ship); an odd
// number takes the next one, its last view zeros that are not loaded and whose sums are not written.
template <int views>
struct FewViews {
  static constexpr int pairs = views * (views - 1) / 2;
  static constexpr int held = (pairs + views + kWarp - 1) / kWarp * kWarp;
};

// One pack of dims of every view from what is `at` view 0, as they are stored.
template <int views, class T, int width>
__device__ __forceinline__ void load_views(const KeptAlignment& op, const T* at, Words<T, width> (&packs)[views]) {
#pragma unroll
  for (int v = 0; v < views; ++v)
    packs[v] = load_words<T, width>(at + v * op.view_stride, v < views - 1 || op.views == views ? width : 0);
}

// x[views][kPiece]: the elements of every view's pack from `first` on.
template <int views, class T, int width, class A, int piece>
__device__ __forceinline__ void widen_views(const Words<T, width> (&packs)[views], int first, A (&x)[views][piece]) {
#pragma unroll
  for (int v = 0; v < views; ++v)
#pragma unroll
    for (int e = 0; e < piece; ++e) x[v][e] = element(packs[v], first + e);
}

// Adds some dims.
template <int views, class A, int width>
__device__ __forceinline__ void add_pairs(const A (&x)[views][width], A (&sum)[FewViews<views>::held]) {
  int k = 0;
#pragma unroll
  for (int i = 0; i < views; ++i) {
#pragma unroll
    for (int j = i + 1; j < views; ++j, ++k) {
#pragma unroll
      for (int e = 0; e < width; ++e) {
        const A difference = x[i][e] - x[j][e];
        sum[k] += difference * difference;
      }
    }
#pragma unroll
    for (int e = 0; e < width; ++e) sum[FewViews<views>::pairs + i] += x[i][e] * x[i][e];
  }
}

// Writes the sums over all threads of the block: row[count_sums(op)].
template <int views, class A>
__device__ __forceinline__ void write_pair_sums(const Alignment& op, const A (&sum)[FewViews<views>::held],
                                                double* row) {
  constexpr int held = FewViews<views>::held, warps = kPairThreads / kWarp;
  MEMKERN_SHARED(double[warps][held], warp_totals);  // fault: room of warp totals
#pragma unroll
  for (int part = 0; part < held; part += kWarp) {
    A values[kWarp];
#pragma unroll
    for (int i = 0; i < kWarp; ++i) values[i] = sum[part + i];
    warp_totals[warp_index()][part + lane_index()] = warp_sums(values);  // fault: total of a warp
  }
  __syncthreads();  // fault: warp totals
  const int64_t pairs = pair_count(op);
  for (int64_t k = threadIdx.x; k < pairs + op.views; k += kPairThreads) {
    const Pair pair = pair_at(k < pairs ? k : 0, op.views);
    const int64_t at = k < pairs ? pair_number(pair.first, pair.second, views) : FewViews<views>::pairs + k - pairs;
    double total = 0;
    for (int warp = 0; warp < warps; ++warp) total += warp_totals[warp][at];
    row[k] = total;
  }
}

// grid: x = points, y = chunks of the dims.  partial: [points, chunks, sums]
template <class T, int views>
__global__ void __launch_bounds__(kPairThreads, kPairBlocks)
    pair_sums(const Alignment op, int64_t chunk, double* partial) {
  constexpr int width = kPack<T>;
  using A = Wide<T>;
  // fault: offset of a point
  const T* const point = static_cast<const T*>(op.z) + int64_t(blockIdx.x) * op.point_stride;
  const int64_t first = int64_t(blockIdx.y) * chunk, last = first + chunk < op.dims ? first + chunk : op.dims;
  A sum[FewViews<views>::held] = {};
  int64_t d = first + int64_t(threadIdx.x) * width;
  for (; d + width <= last; d += kPairThreads * width) {
    Words<T, width> packs[views];
    load_views(op, point + d, packs);
#pragma unroll
    for (int at = 0; at < width; at += kPiece<T>) {
      A x[views][kPiece<T>];
      widen_views(packs, at, x);
      add_pairs<views>(x, sum);
    }
  }
#pragma unroll 1
  for (; d < last; ++d) {  // a last pack that is not whole
    Words<T, 1> packs[views];
    A x[views][1];
    load_views(op, point + d, packs);
    widen_views(packs, 0, x);
    add_pairs<views>(x, sum);
  }
  write_pair_sums<views>(op, sum, partial + (int64_t(blockIdx.x) * gridDim.y + blockIdx.y) * count_sums(op));
}

// ---- any number of views, any pairs -------------------------------------------------------------------------------

// Tiles of 4 x 4 views: those on and above the diagonal, or for anchor pairs those that hold view 0's row.
__host__ __device__ inline int64_t count_tiles(const KeptAlignment& op) {
  const int64_t blocks = (op.views + kTileViews - 1) / kTileViews;
  return op.pairs == Pairs::anchor ? blocks : blocks * (blocks + 1) / 2;
}

// x[n][width] times scale[n].
template <class A, int n, int width>
__device__ __forceinline__ void scale_views(const A (&scale)[n], A (&x)[n][width]) {
#pragma unroll
  for (int i = 0; i < n; ++i)
#pragma unroll
    for (int e = 0; e < width; ++e) x[i][e] *= scale[i];
}

// Adds some dims of n rows and n columns: n * n pairs, then the norms of the columns.
template <class A, int n, int width>
__device__ __forceinline__ void add_tile(const A (&x)[n][width], const A (&y)[n][width], A (&sum)[kWarp]) {
#pragma unroll
  for (int j = 0; j < n; ++j) {
#pragma unroll
    for (int e = 0; e < width; ++e) {
#pragma unroll
      for (int i = 0; i < n; ++i) {
        const A difference = x[i][e] - y[j][e];
        sum[i * n + j] += difference * difference;
      }
      sum[n * n + j] += y[j][e] * y[j][e];
    }
  }
}

// A warp's work: the pairs of one tile over dims [first, last). With `scaled`, views are divided by norms[view] first.
// out: [sums]
template <class T, int width, bool scaled>
__device__ __forceinline__ void sum_tile(const Alignment& op, int64_t point, int64_t tile, int64_t first, int64_t last,
                                         const double* norms, double* out) {
  using A = Wide<T>;
  constexpr int n = kTileViews;
  const bool anchor = op.pairs == Pairs::anchor;
  // a diagonal included is the strict upper triangle of one block more
  const int64_t blocks = (op.views + n - 1) / n;
  const Pair at = anchor ? Pair{0, tile + 1} : pair_at(tile, blocks + 1);
  const int64_t first_row = at.first * n, first_column = (at.second - 1) * n;

  // Rows and columns past the end repeat the last: their sums are not written.
  const T* const z = static_cast<const T*>(op.z) + point * op.point_stride;
  const int64_t last_row = anchor ? 0 : op.views - 1;
  const T *rows[n], *columns[n];
  A row_scale[n], column_scale[n];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int64_t row = first_row + i < last_row ? first_row + i : last_row;
    const int64_t column = first_column + i < op.views - 1 ? first_column + i : op.views - 1;
    rows[i] = z + row * op.view_stride;
    columns[i] = z + column * op.view_stride;
    if (scaled) {
      row_scale[i] = A(1 / norms[row]);
      column_scale[i] = A(1 / norms[column]);
    }
  }

  A sum[kWarp] = {};  // n * n pairs, n norms, padding
  for (int64_t d = first + lane_index() * width; d < last; d += kWarp * width) {
    Words<T, width> row[n], column[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      row[i] = load_words<T, width>(rows[i] + d, last - d);
      column[i] = load_words<T, width>(columns[i] + d, last - d);
    }
#pragma unroll
    for (int at = 0; at < width; at += kPiece<T, width>) {
      A x[n][kPiece<T, width>], y[n][kPiece<T, width>];
      widen_views(row, at, x);
      widen_views(column, at, y);
      if (scaled) {  // fault: scaled views
        scale_views(row_scale, x);
        scale_views(column_scale, y);
      }
      add_tile(x, y, sum);
    }
  }

  const double total = warp_sums(sum);
  const int lane = lane_index();
  const int64_t i = first_row + lane / n, j = first_column + lane % n;
  if (lane < n * n) {
    if (i < j && i <= last_row && j < op.views) out[pair_number(i, j, op.views, op.pairs)] = total;
  } else if (lane < n * n + n) {
    const int64_t view = first_column + lane - n * n;
    if (view < op.views && (anchor || at.first == at.second - 1)) out[pair_count(op) + view] = total;
  }
}

// grid: x = points x groups of tiles, y = chunks of the dims; one tile a warp.  partial: [points, chunks, sums]
template <class T, int width>
__global__ void __launch_bounds__(kTileWarps* kWarp)
    tile_sums(const Alignment op, int64_t chunk, int64_t groups, double* partial) {
  const int64_t point = blockIdx.x / groups, tile = blockIdx.x % groups * kTileWarps + warp_index();
  if (tile >= count_tiles(op)) return;  // a whole warp; nothing below waits for the block
  const int64_t first = int64_t(blockIdx.y) * chunk, last = first + chunk < op.dims ? first + chunk : op.dims;
  double* const out = partial + (point * gridDim.y + blockIdx.y) * count_sums(op);
  sum_tile<T, width, false>(op, point, tile, first, last, nullptr, out);
}

}  // namespace memkern
