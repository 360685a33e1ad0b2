// From the sums of a point to its distances: which sums can be trusted, and what is done about the others. The same
// rules as csrc/cpu/alignment/distances.h; a block works on one point.
#pragma once
#include "alignment.cuh"
#include "batch.cuh"

namespace memkern {

// Between these a sum of squares is exact to rounding: no square that matters has overflowed or lost digits.
// `norm_error`: relative error of a norm made of such sums.
template <class A>
struct Limits {
  static constexpr double smallest_sum = 1e-24, largest_sum = 3e38, norm_error = 4e-8, fair_share = 0.25;
};
template <>
struct Limits<double> {
  static constexpr double smallest_sum = 1e-280, largest_sum = 1e308, norm_error = 1e-16, fair_share = 0.5;
};

template <class A>
__device__ __forceinline__ bool in_range(double sum) {
  return sum >= Limits<A>::smallest_sum && sum <= Limits<A>::largest_sum;
}

// The distance of unit vectors from sums of the raw ones: with p = |a||b|,
//   |a/|a| - b/|b||^2 = |a-b|^2/p - (|a|-|b|)^2/p = square - gap.
// Both carry rounding errors, so the difference is trusted only where it is at least a quarter (of doubles: half) of
// the square, and where the error of the gap, about 2 norm_error (sqrt(gap) + norm_error), stays below 4e-7 (of floats)
// of the result.
template <class A>
__device__ __forceinline__ bool trusted(double square, double gap, double norm_error) {
  const double rest = square - gap, allowed = 10 * Limits<A>::norm_error / norm_error * rest - norm_error;
  return rest >= Limits<A>::fair_share * square && allowed > 0 && allowed * allowed >= gap;
}

// True if a norm may be used in that formula: not clamped, and its square neither overflowed nor underflowed.
template <class A>
__device__ __forceinline__ bool norm_in_range(double norm) {
  return norm > kSmallestNorm * 1.0005 && in_range<A>(norm * norm);
}

// ---- norms in double, straight from the elements, by a warp: slow, right for every finite input --------------------

constexpr double kExactNormError = 1e-15;  // relative, of norms made of squares in double

// The l2 norm of element(0), ..., element(n - 1).
template <class T, class Element>
__device__ __forceinline__ double exact_norm(int64_t n, const Element& element) {
  // Squares of doubles overflow from 1e154 on and vanish below 1e-162: divide by a power of two near the largest first.
  // Squares of floats fit.
  double unit = 1;
  if (sizeof(T) == sizeof(double)) {
    double largest = 0;
    for (int64_t d = lane_index(); d < n; d += kWarp) largest = fmax(largest, fabs(element(d)));
    largest = warp_max(largest);
    int exponent = 0;
    if (largest > 0 && largest <= 1.7976931348623157e308) frexp(largest, &exponent);
    unit = ldexp(1.0, exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : exponent);
  }
  double sum = 0;
  for (int64_t d = lane_index(); d < n; d += kWarp) {
    const double x = sizeof(T) == sizeof(double) ? element(d) / unit : element(d);
    sum += x * x;
  }
  return unit * sqrt(warp_sum(sum));
}

template <class T>
__device__ double exact_view_norm(const T* x, int64_t n) {
  return exact_norm<T>(n, [=](int64_t d) { return double(widen(x[d])); });
}

// Divides, where the sums' formula multiplies by an inverse: parallel views then give 0, as they do in torch.
template <class T>
__device__ double exact_distance(const T* a, double divisor_a, const T* b, double divisor_b, int64_t n) {
  return exact_norm<T>(n, [=](int64_t d) { return double(widen(a[d])) / divisor_a - double(widen(b[d])) / divisor_b; });
}

__device__ __forceinline__ double clamped_norm(double norm) { return norm > kSmallestNorm ? norm : kSmallestNorm; }

template <class T>
__device__ __forceinline__ const T* view_of(const KeptAlignment& op, int64_t point, int64_t view) {
  return static_cast<const T*>(op.z) + point * op.point_stride + view * op.view_stride;
}

// In place of a distance that a sum cannot give: less than 0, and the sum if better norms may help.
__device__ __forceinline__ double doubtful(double sum) { return sum > 0 ? -sum : -1.7976931348623157e308; }

template <class A>
__device__ __forceinline__ double raw_distance(double sum) {
  return in_range<A>(sum) || sum != sum ? sqrt(sum) : doubtful(sum);
}

template <class A>
__device__ __forceinline__ double unit_distance(double sum, double norm_i, double norm_j, double norm_error) {
  if (sum != sum) return sum;
  if (norm_i == 0) return norm_j / clamped_norm(norm_j);  // 0 or, but for a tiny norm, 1
  if (norm_j == 0) return norm_i / clamped_norm(norm_i);
  // Identical views, or elements that differ by less than 1.1e-19, so that the squares vanish: less than 1e-12.
  if (sum == 0 && norm_i > 1e-2 && norm_j > 1e-2) return 0;
  if (!in_range<A>(sum) || !norm_in_range<A>(norm_i) || !norm_in_range<A>(norm_j)) return doubtful(sum);
  const double scale = 1 / (norm_i * norm_j), square = sum * scale, gap = (norm_i - norm_j) * (norm_i - norm_j) * scale;
  return trusted<A>(square, gap, norm_error) ? sqrt(square - gap) : doubtful(sum);
}

// Rounding moves unit vectors of floats by some 3e-8 in random directions, so a distance by 3e-8 / sqrt(dims): what is
// more than 1e-7 of it is not taken. The error of a length, 1e-7, counts by its square. An inverse may be too small for
// a float.
__device__ __forceinline__ bool tells_distance(double square, int64_t dims, double norm_i, double norm_j) {
  return square * double(dims) > 0.1 && norm_in_range<float>(norm_i) && norm_in_range<float>(norm_j);
}

// About the square of a unit distance that unit_distance doubts.
__device__ __forceinline__ double likely_square(double sum, double norm_i, double norm_j) {
  return (sum - (norm_i - norm_j) * (norm_i - norm_j)) / (norm_i * norm_j);
}

// The norms of all views that `wanted` names, a warp each.
template <class T, class IsWanted>
__device__ __forceinline__ void recompute_norms(const Alignment& op, int64_t point, double* norms,
                                                const IsWanted& wanted) {
  for (int64_t v = warp_index(); v < op.views; v += blockDim.x / kWarp) {
    if (!wanted(norms[v])) continue;
    const double exact = exact_view_norm(view_of<T>(op, point, v), op.dims);
    __syncwarp();  // every lane has read the norm
    if (lane_index() == 0) norms[v] = exact;
  }
  __syncthreads();
}

// All doubtful distances, a warp each.
template <class T>
__device__ __forceinline__ void recompute_distances(const Alignment& op, int64_t point, double* values, double* norms) {
  using A = Wide<T>;
  __syncthreads();  // the values of all threads are there
  // Nearly equal views: with norms in double the sums nearly always do, at the cost of reading the views once more.
  if (op.normalize) recompute_norms<T>(op, point, norms, [](double norm) { return norm == norm; });
  for (int64_t k = warp_index(); k < pair_count(op); k += blockDim.x / kWarp) {
    if (!(values[k] < 0)) continue;
    const Pair pair = pair_at(k, op.views, op.pairs);
    const double norm_i = op.normalize ? norms[pair.first] : 1, norm_j = op.normalize ? norms[pair.second] : 1;
    double distance = op.normalize ? unit_distance<A>(-values[k], norm_i, norm_j, kExactNormError) : doubtful(0);
    if (distance < 0)
      distance = exact_distance(view_of<T>(op, point, pair.first), op.normalize ? clamped_norm(norm_i) : 1,
                                view_of<T>(op, point, pair.second), op.normalize ? clamped_norm(norm_j) : 1, op.dims);
    __syncwarp();  // every lane has read the sum
    if (lane_index() == 0) values[k] = distance;
  }
  __syncthreads();
}

// The l1 distances of all pairs, a warp each, from the elements in double.
template <class T>
__device__ __forceinline__ void measure_l1(const Alignment& op, int64_t point, double* values, double* norms) {
  if (op.normalize) recompute_norms<T>(op, point, norms, [](double) { return true; });
  for (int64_t k = warp_index(); k < pair_count(op); k += blockDim.x / kWarp) {
    const Pair pair = pair_at(k, op.views, op.pairs);
    const T* const a = view_of<T>(op, point, pair.first);
    const T* const b = view_of<T>(op, point, pair.second);
    const double divisor_a = op.normalize ? clamped_norm(norms[pair.first]) : 1;
    const double divisor_b = op.normalize ? clamped_norm(norms[pair.second]) : 1;
    double sum = 0;
    for (int64_t d = lane_index(); d < op.dims; d += kWarp)
      sum += fabs(double(widen(a[d])) / divisor_a - double(widen(b[d])) / divisor_b);  // fault: absolute value
    sum = warp_sum(sum);
    if (lane_index() == 0) values[k] = sum;
  }
  __syncthreads();
}

// A second look at all views of a point some of whose unit distances the sums cannot tell (unit_pairs.cuh).
struct SecondLook {
  int64_t chunk, chunks;  // of the dims
  int64_t groups;         // of tiles
  double* sums;           // [points, chunks, sums]
  int32_t* wanted;        // [points]: whether; null: there is none, doubtful pairs are recomputed one by one
};

struct FinishTask {
  Alignment op;
  int64_t chunks;
  double* partial;  // [points, chunks, sums]; the row of chunk 0 becomes the point's totals, then distances and norms
  SecondLook look;
};

// Sums over the views of a point, from its distances. All threads of the block must call it, after a barrier.
template <class A>
__device__ __forceinline__ void write_view_sums(const Alignment& op, int64_t point, const double* values,
                                                double mean_row) {
  double even = 0, odd = 0, spread = 0;
  for (int64_t v = threadIdx.x; v < op.views; v += blockDim.x) {
    double row = 0, half = 0;
    for (int64_t other = 0; other < op.views; ++other) {
      if (other == v) continue;  // fault: a view and itself
      const double distance = values[v < other ? pair_number(v, other, op.views) : pair_number(other, v, op.views)];
      row += distance;
      half += (v ^ other) % 2 == 0 ? distance : 0;  // fault: one half
    }
    static_cast<A*>(op.rows)[point * op.views + v] = A(row);
    spread += (row - mean_row) * (row - mean_row);
    even += v % 2 == 0 ? half : 0;
    odd += v % 2 == 0 ? 0 : half;
  }
  even = block_sum(even);  // each pair twice
  odd = block_sum(odd);
  spread = block_sum(spread);
  if (threadIdx.x == 0) static_cast<A*>(op.errors)[point] = A(error_of_views(spread, op.views));
  if (threadIdx.x > 1) return;
  const int64_t views = (op.views + 1 - threadIdx.x) / 2;
  const double twice = threadIdx.x == 0 ? even : odd;
  static_cast<A*>(op.halves)[threadIdx.x * op.points + point] = A(twice / 2 * share_of_a_pair(views));
}

// The results of a point. All threads of the block must call it.
template <class A>
__device__ __forceinline__ void write_alignment(const Alignment& op, int64_t point, double* values) {
  const int64_t pairs = pair_count(op), kept = op.normalize ? count_sums(op) : pairs;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < pairs; k += blockDim.x) {
    if (is_of_directions(op.distance)) values[k] = distance_of_directions(op.distance, values[k]);
    sum += values[k];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) static_cast<A*>(op.alignment)[point] = A(sum / double(pairs));
  if (op.rows) write_view_sums<A>(op, point, values, 2 * sum / double(op.views));
  if (!op.saved) return;
  for (int64_t k = threadIdx.x; k < kept; k += blockDim.x) static_cast<A*>(op.saved)[point * kept + k] = A(values[k]);
}

// l1 in place of finish_alignment: a kernel of its own, so that the other keeps its registers. It reads no sums.
// grid: x = points of the batch's tasks.
template <class T>
__global__ void __launch_bounds__(kFinishThreads, kFinishBlocks)
    finish_l1(const __grid_constant__ Batch<FinishTask> batch) {
  const int index = task_of_block(batch);
  const FinishTask& task = batch.task[index];
  const int64_t point = block_in_task(batch, index), pairs = pair_count(task.op);
  double* const values = task.partial + point * task.chunks * (pairs + task.op.views);
  measure_l1<T>(task.op, point, values, values + pairs);
  write_alignment<Wide<T>>(task.op, point, values);
}

// grid: x = points of the batch's tasks.
template <class T>
__global__ void __launch_bounds__(kFinishThreads, kFinishBlocks)
    finish_alignment(const __grid_constant__ Batch<FinishTask> batch) {
  using A = Wide<T>;
  const int index = task_of_block(batch);
  const FinishTask& task = batch.task[index];
  const Alignment& op = task.op;
  const int64_t point = block_in_task(batch, index), chunks = task.chunks;
  const int64_t pairs = pair_count(op), sums = pairs + op.views, threads = blockDim.x;
  double* const values = task.partial + point * chunks * sums;
  double* const norms = values + pairs;
  for (int64_t k = threadIdx.x; k < sums; k += threads) {
    double total = values[k];
    for (int64_t c = 1; c < chunks; ++c) total += values[c * sums + k];
    values[k] = k < pairs ? total : sqrt(total);
  }
  __syncthreads();

  if (op.normalize)
    recompute_norms<T>(op, point, norms, [](double norm) { return norm == norm && !norm_in_range<A>(norm); });

  bool any_doubtful = false, any_look = false;
  for (int64_t k = threadIdx.x; k < pairs; k += threads) {
    if (op.normalize) {
      const Pair pair = pair_at(k, op.views, op.pairs);
      const double norm_i = norms[pair.first], norm_j = norms[pair.second], sum = values[k];
      values[k] = unit_distance<A>(sum, norm_i, norm_j, Limits<A>::norm_error);
      any_look |= values[k] < 0 && tells_distance(likely_square(sum, norm_i, norm_j), op.dims, norm_i, norm_j);
    } else {
      values[k] = raw_distance<A>(values[k]);
    }
    any_doubtful |= values[k] < 0;
  }
  if (task.look.wanted) {  // what it would not tell either is not looked at for that
    const bool look = block_sum(any_look) > 0;
    if (threadIdx.x == 0) task.look.wanted[point] = look;
    if (look) return;
  }
  if (block_sum(any_doubtful) > 0) recompute_distances<T>(op, point, values, norms);
  write_alignment<A>(op, point, values);
}

}  // namespace memkern
