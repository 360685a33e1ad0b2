// alignment_backward: the gradient of sum(grad * alignment) with respect to z.
//
// With u = z / n (n the clamped norm, 1 if views are not normalized), d the distances, and P pairs:
//   gradient_i = 1/n_i sum_j w_ij (u_i - u_j) - r_i u_i,   w_ij = grad / (P d_ij), 0 where d_ij = 0,
//   r_i = grad / (P n_i) sum_j u_i (u_i - u_j) / d_ij   the part along u_i, which normalizing takes away,
// and u_i (u_i - u_j) = (|u_i|^2 - |u_j|^2 + d_ij^2) / 2 needs no pass over the data. The first launch writes these
// coefficients, the second reads every view from DRAM once and writes every gradient once.
#pragma once
#include "distances.cuh"

namespace memkern {

// Unit vectors of wide type A closer than this are taken for one direction, with gradient 0: their distance and their
// differences in A are rounding errors, of which a quotient may be anything (10^8 was seen).
template <class A>
constexpr double kSameDirection = sizeof(A) == sizeof(float) ? 3e-7 : 1e-15;

// A point's coefficients, wide: [views, views] w, [views] 1/n, [views] r.
__host__ __device__ inline int64_t count_coefficients(int64_t views) { return views * (views + 2); }

// grid: x = points.
template <class A>
__global__ void __launch_bounds__(kFinishThreads, kFinishBlocks)
    gradient_coefficients(const AlignmentBackward op, A* coefficients) {
  const KeptAlignment& f = op.forward;
  const int64_t point = blockIdx.x, views = f.views, pairs = pair_count(f);
  const A* const distances = static_cast<const A*>(f.saved) + point * (pairs + (f.normalize ? views : 0));
  const A* const norms = distances + pairs;
  A* const w = coefficients + point * count_coefficients(views);
  const double scale = double(static_cast<const A*>(op.grad)[point]) / double(pairs);
  for (int64_t i = threadIdx.x; i < views; i += blockDim.x) {
    const double norm = f.normalize ? double(norms[i]) : 1, divisor = f.normalize ? clamped_norm(norm) : 1;
    const double length = norm / divisor;  // of u_i: 1 but for tiny views
    double along = 0;
    for (int64_t j = 0; j < views; ++j) {
      const bool compared = i != j && (f.pairs == Pairs::all || i == 0 || j == 0);
      double weight = 0;
      if (compared) {
        const double distance = double(distances[pair_number(i < j ? i : j, i < j ? j : i, views, f.pairs)]);
        const double other = f.normalize ? double(norms[j]) / clamped_norm(double(norms[j])) : 1;
        if (!(distance <= (f.normalize ? kSameDirection<A> : 0))) {  // NaN stays
          weight = scale / distance;
          along += (length * length - other * other + distance * distance) / (2 * distance);
        }
      }
      w[i * views + j] = A(weight);
    }
    w[views * views + i] = A(1 / divisor);
    // below the clamp the divisor is a constant, and nothing is taken away
    w[views * views + views + i] = A(f.normalize && !(norm < kSmallestNorm) ? along * scale / divisor : 0);
  }
}

// ---- few views, all pairs -----------------------------------------------------------------------------------------

// A point's coefficients in shared memory. An odd number of views takes the next one, whose view is zero and whose
// coefficients are too.
template <class A, int views>
struct FewCoefficients {
  A w[FewViews<views>::pairs];  // of each pair, in order
  A inverse[views], radial[views];
};

template <class A, int views>
__device__ __forceinline__ void take_coefficients(const A* from, int64_t real_views, FewCoefficients<A, views>& to) {
  const int n = int(real_views);
  for (int k = threadIdx.x; k < FewViews<views>::pairs; k += kPairThreads) {
    const Pair pair = pair_at(k, views);
    const int i = int(pair.first), j = int(pair.second);
    to.w[k] = j < n ? from[i * n + j] : A(0);
  }
  for (int i = threadIdx.x; i < views; i += kPairThreads) {
    to.inverse[i] = i < n ? from[n * n + i] : A(0);
    to.radial[i] = i < n ? from[n * n + n + i] : A(0);
  }
  __syncthreads();
}

// Some dims of every gradient from the same dims of every view. Each difference is taken once, for both of its views;
// a view still adds up the others in their order.
template <class T, int views, int width>
__device__ __forceinline__ void write_gradients(const AlignmentBackward& op,
                                                const FewCoefficients<Wide<T>, views>& coefficients,
                                                const Words<T, width> (&packs)[views], T* to) {
  using A = Wide<T>;
  A u[views][width], sum[views][width];
  widen_views(packs, 0, u);
#pragma unroll
  for (int e = 0; e < width; ++e) {
#pragma unroll
    for (int i = 0; i < views; ++i) {
      u[i][e] *= coefficients.inverse[i];
      sum[i][e] = 0;
    }
#pragma unroll
    for (int i = 0; i < views; ++i)
#pragma unroll
      for (int j = i + 1; j < views; ++j) {
        const A w = coefficients.w[pair_number(i, j, views)], difference = u[i][e] - u[j][e];
        sum[i][e] += w * difference;
        sum[j][e] -= w * difference;
      }
#pragma unroll
    for (int i = 0; i < views; ++i) sum[i][e] = coefficients.inverse[i] * sum[i][e] - coefficients.radial[i] * u[i][e];
  }
#pragma unroll
  for (int i = 0; i < views; ++i)
    if (i < views - 1 || op.forward.views == views) store_some<T, width>(to + i * op.grad_view_stride, width, sum[i]);
}

// grid: x = points, y = chunks of the dims. Every view is read once, into registers, and every gradient written once.
template <class T, int views>
__global__ void __launch_bounds__(kPairThreads, kFewGradientBlocks)
    gradient_of_few(const AlignmentBackward op, int64_t chunk, const Wide<T>* coefficients) {
  using A = Wide<T>;
  constexpr int width = 4;  // with 8 elements of 10 views in registers, hardly more than a block fits an SM
  const KeptAlignment& f = op.forward;
  using Coefficients = FewCoefficients<A, views>;
  MEMKERN_SHARED(Coefficients, own);
  take_coefficients(coefficients + int64_t(blockIdx.x) * count_coefficients(f.views), f.views, own);
  const T* const point = static_cast<const T*>(f.z) + int64_t(blockIdx.x) * f.point_stride;
  T* const gradient = static_cast<T*>(op.grad_z) + int64_t(blockIdx.x) * op.grad_point_stride;
  const int64_t first = int64_t(blockIdx.y) * chunk, last = first + chunk < f.dims ? first + chunk : f.dims;
  for (int64_t start = first; start < last; start += kPairThreads * width) {
    __syncwarp();  // or the compiler keeps all coefficients in registers and spills the views
    int64_t d = start + int64_t(threadIdx.x) * width;
    if (d + width <= last) {
      Words<T, width> packs[views];
      load_views(f, point + d, packs);
      write_gradients(op, own, packs, gradient + d);
      continue;
    }
#pragma unroll 1
    for (; d < last; ++d) {  // a last pack that is not whole
      Words<T, 1> packs[views];
      load_views(f, point + d, packs);
      write_gradients(op, own, packs, gradient + d);
    }
  }
}

// ---- any number of views, any pairs -------------------------------------------------------------------------------

// grid: x = points x groups of tiles, y = chunks of the dims; kGradientViews views a warp.
template <class T, int width>
__global__ void __launch_bounds__(kTileWarps* kWarp, kGradientBlocks)
    alignment_gradient(const AlignmentBackward op, int64_t chunk, int64_t groups, const Wide<T>* coefficients) {
  using A = Wide<T>;
  constexpr int n = kGradientViews;
  const KeptAlignment& f = op.forward;
  const int64_t point = blockIdx.x / groups, views = f.views;
  const int64_t first_view = (blockIdx.x % groups * kTileWarps + warp_index()) * n;
  if (first_view >= views) return;  // a whole warp; nothing below waits for the block
  const T* const z = static_cast<const T*>(f.z) + point * f.point_stride;
  T* const gradient = static_cast<T*>(op.grad_z) + point * op.grad_point_stride;
  const A* const w = coefficients + point * count_coefficients(views);
  const A *const inverses = w + views * views, *const radials = inverses + views;
  // where pairs are anchored, all but the first view are compared with the first alone
  const int64_t others = f.pairs == Pairs::anchor && first_view > 0 ? 1 : views;

  const int64_t first = int64_t(blockIdx.y) * chunk, last = first + chunk < f.dims ? first + chunk : f.dims;
  for (int64_t d = first + lane_index() * width; d < last; d += kWarp * width) {
    A own[n][width], sum[n][width];
    int64_t view[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      view[i] = first_view + i < views ? first_view + i : views - 1;  // past the end the last again: not written
      load_some<T, width>(z + view[i] * f.view_stride + d, last - d, own[i]);
#pragma unroll
      for (int e = 0; e < width; ++e) {
        own[i][e] *= inverses[view[i]];
        sum[i][e] = 0;
      }
    }
    for (int64_t j = 0; j < others; ++j) {
      A other[width];
      load_some<T, width>(z + j * f.view_stride + d, last - d, other);
#pragma unroll
      for (int e = 0; e < width; ++e) other[e] *= inverses[j];
#pragma unroll
      for (int i = 0; i < n; ++i) {
        const A weight = w[view[i] * views + j];
#pragma unroll
        for (int e = 0; e < width; ++e) sum[i][e] += weight * (own[i][e] - other[e]);
      }
    }
#pragma unroll
    for (int i = 0; i < n; ++i) {
#pragma unroll
      for (int e = 0; e < width; ++e) sum[i][e] = inverses[view[i]] * sum[i][e] - radials[view[i]] * own[i][e];
      if (first_view + i < views)
        store_some<T, width>(gradient + (first_view + i) * op.grad_view_stride + d, last - d, sum[i]);
    }
  }
}

}  // namespace memkern
