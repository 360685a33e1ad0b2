// The gradient of alignment, in one pass over memory:
//   raw:   dz_i = sum_j w_ij (z_i - z_j)                               w_ij = g / (pairs d_ij), 0 where d_ij = 0
//   unit:  dz_i = r_i (sum_j w_ij (u_i - u_j) - along_i u_i)           u_i = r_i z_i, r_i = 1 / max(|z_i|, 1e-12)
// The projection onto the sphere needs no second read: along_i = u_i . sum_j w_ij (u_i - u_j) follows from the
// distances. Direct differences again: as a matrix product the sum is wrong by 1 % for views 1e-5 apart.
#include <optional>

#include "cpu/dispatch/kernels.h"
#include "cpu/dispatch/scratch.h"
#include "cpu/simd/row_io.h"
#include "exact_gradient.h"
#include "ops.h"
#include "pair_tiles.h"
#include "rules.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// Views whose elements and gradients fit in registers. Double, the rarer, has fewer pair forms to compile.
#if defined(__AVX512F__)
template <class A>
constexpr int kPairForm = sizeof(A) == sizeof(float) ? 10 : 4;
constexpr int kRowForm = 8;
#elif defined(__AVX2__)
template <class A>
constexpr int kPairForm = sizeof(A) == sizeof(float) ? 7 : 4;
constexpr int kRowForm = 6;
#else
template <class A>
constexpr int kPairForm = 4;
constexpr int kRowForm = 4;
#endif

// Parts that one point's gradient is made of.
template <class A>
struct Weights {
  const A* pairs;    // w in pair order
  const A* square;   // [views, views] the same as a symmetric matrix, zero on the diagonal (only for the row form)
  const A* inverse;  // r
  const A* along;
};

// Rows of n elements (whole vectors), read at x and written at out.
template <class A>
struct Strip {
  const A* x;
  int64_t x_stride;
  A* out;
  int64_t out_stride;
  int64_t n;
  bool stream;  // past the caches
};

template <bool unit, class A>
inline Vec<A> read(const Strip<A>& strip, const Weights<A>& weights, int64_t view, int64_t d) {
  const Vec<A> x = load(strip.x + view * strip.x_stride + d);
  return unit ? x * weights.inverse[view] : x;
}

template <bool unit, class A>
inline void write(const Strip<A>& strip, const Weights<A>& weights, int64_t view, int64_t d, Vec<A> u,
                  Vec<A> gradient) {
  if (unit) gradient = (gradient - u * weights.along[view]) * weights.inverse[view];  // fault: gradient of a unit view
  A* const out = strip.out + view * strip.out_stride + d;
  if (strip.stream)
    store_past_caches(out, gradient);
  else
    store(out, gradient);
}

// All pairs of a few views: three operations a pair.
template <int views, bool unit, class A>
void pair_form(const Strip<A>& strip, const Weights<A>& weights) {
  for (int64_t d = 0; d < strip.n; d += Lanes<A>::count) {
    Vec<A> u[views], gradient[views];
#pragma GCC unroll 16
    for (int i = 0; i < views; ++i) {
      u[i] = read<unit>(strip, weights, i, d);
      gradient[i] = Vec<A>{};
    }
    const A* w = weights.pairs;
#pragma GCC unroll 16
    for (int i = 0; i < views; ++i)
#pragma GCC unroll 16
      for (int j = i + 1; j < views; ++j) {
        const Vec<A> difference = u[i] - u[j], weight = broadcast(*w++);
        gradient[i] += weight * difference;
        gradient[j] -= weight * difference;  // fault: gradient of the other view
      }
#pragma GCC unroll 16
    for (int i = 0; i < views; ++i) write<unit>(strip, weights, i, d, u[i], gradient[i]);
  }
}

// Gradients of views [first, first + rows) against every view: four operations a pair, for any number of views.
template <int rows, bool unit, class A>
void row_form(const Strip<A>& strip, const Weights<A>& weights, int64_t views, int64_t first) {
  for (int64_t d = 0; d < strip.n; d += Lanes<A>::count) {
    Vec<A> u[rows], gradient[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      u[i] = read<unit>(strip, weights, first + i, d);
      gradient[i] = Vec<A>{};
    }
    for (int64_t j = 0; j < views; ++j) {
      const Vec<A> other = read<unit>(strip, weights, j, d);
      const A* const w = weights.square + j * views + first;
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) gradient[i] += broadcast(w[i]) * (u[i] - other);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) write<unit>(strip, weights, first + i, d, u[i], gradient[i]);
  }
}

// The anchor against every other view: each element is loaded once.
template <bool unit, class A>
void anchor_form(const Strip<A>& strip, const Weights<A>& weights, int64_t views) {
  for (int64_t d = 0; d < strip.n; d += Lanes<A>::count) {
    const Vec<A> anchor = read<unit>(strip, weights, 0, d);
    Vec<A> anchor_gradient{};
    for (int64_t j = 1; j < views; ++j) {
      const Vec<A> other = read<unit>(strip, weights, j, d), pull = broadcast(weights.pairs[j - 1]) * (anchor - other);
      anchor_gradient += pull;
      write<unit>(strip, weights, j, d, other, -pull);
    }
    write<unit>(strip, weights, 0, d, anchor, anchor_gradient);
  }
}

// The form that fits, chosen at compile time down from kPairForm or kRowForm.
template <int views, bool unit, class A>
void run_pair_form(const Strip<A>& strip, const Weights<A>& weights, int64_t count) {
  if (count == views) return pair_form<views, unit>(strip, weights);
  if constexpr (views > 2) run_pair_form<views - 1, unit>(strip, weights, count);
}

template <int rows, bool unit, class A>
void run_row_form(const Strip<A>& strip, const Weights<A>& weights, int64_t views, int64_t first, int64_t count) {
  if (count == rows) return row_form<rows, unit>(strip, weights, views, first);
  if constexpr (rows > kRowForm / 2) run_row_form<rows - 1, unit>(strip, weights, views, first, count);
}

template <bool unit, class A>
void run_strip(const Strip<A>& strip, const Weights<A>& weights, Pairs pairs, int64_t views) {
  if (pairs == Pairs::anchor) return anchor_form<unit>(strip, weights, views);
  if (views <= kPairForm<A>) return run_pair_form<kPairForm<A>, unit>(strip, weights, views);
  const Blocks blocks(views, kRowForm);
  for (int64_t b = 0; b < blocks.blocks; ++b)
    run_row_form<kRowForm, unit>(strip, weights, views, blocks.first(b), blocks.size(b));
}

template <class T>
class Backward {
  using A = Wide<T>;

 public:
  explicit Backward(const AlignmentBackward& op)
      : op_(op),
        unit_(op.forward.normalize),
        views_(op.forward.views),
        pairs_(pair_count(op.forward)),
        pair_weights_(pairs_),
        square_(row_form_used() ? views_ * views_ : 1),
        inverse_(views_),
        along_(views_),
        along_sum_(views_),
        sphere_(views_),
        wide_(views_ * kRow),
        wide_gradient_(views_ * kRow),
        exact_(),
        stream_(can_stream()) {}

  void run(int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      if (unit_ && has_close_pair(p)) {
        if (!exact_) exact_.emplace(op_);
        exact_->run(p);
      } else {
        weigh(p);
        run_point(p);
      }
    }
    if (stream_) finish_stores();
  }

 private:
  static constexpr int64_t kStrip = 256;  // dims: 10 views in and out stay in L1
  static constexpr int64_t kRow = kStrip + Lanes<A>::count;
  static constexpr int64_t kLargeGradient = int64_t{16} << 20;

  // Differences of float unit vectors carry errors of about 1e-7: below a thousand times that they are taken in double.
  static constexpr double kClose = sizeof(A) == sizeof(float) ? 1e-4 : 1e-12;

  bool has_close_pair(int64_t p) const {
    const A* const distances = static_cast<const A*>(op_.forward.saved) + p * (pairs_ + (unit_ ? views_ : 0));
    bool close = false;
    for (int64_t k = 0; k < pairs_; ++k) close |= (distances[k] > 0) & (distances[k] < A(kClose));
    return close;
  }

  bool row_form_used() const { return op_.forward.pairs == Pairs::all && views_ > kPairForm<A>; }

  // Writing past the caches saves reading every line first. A small gradient stays in cache for its next reader; stores
  // that are not whole lines would be slow.
  bool can_stream() const {
    const int64_t bytes = op_.forward.points * views_ * op_.forward.dims * int64_t(sizeof(T));
    const uintptr_t together = reinterpret_cast<uintptr_t>(op_.grad_z) |
                               uintptr_t(op_.grad_point_stride * int64_t(sizeof(T))) |
                               uintptr_t(op_.grad_view_stride * int64_t(sizeof(T)));
    return sizeof(T) == sizeof(A) && bytes >= kLargeGradient && together % kVectorBytes == 0;
  }

  void weigh(int64_t p) {
    const A* const distances = static_cast<const A*>(op_.forward.saved) + p * (pairs_ + (unit_ ? views_ : 0));
    const A* const norms = distances + pairs_;
    const double each = double(static_cast<const A*>(op_.grad)[p]) / double(pairs_);
    if (unit_) {
      for (int64_t v = 0; v < views_; ++v) {
        const double norm = double(norms[v]), inverse = 1 / (norm < kSmallestNorm ? kSmallestNorm : norm);
        inverse_[v] = A(inverse);
        sphere_[v] = norm < kSmallestNorm ? norm * inverse * norm * inverse : 1;  // |u|^2
        along_sum_[v] = 0;
      }
    }
    for_each_pair(op_.forward.pairs, views_, [&](int64_t k, int64_t i, int64_t j) {
      const double distance = double(distances[k]), weight = distance == 0 ? 0 : each / distance;
      pair_weights_[k] = A(weight);
      if (row_form_used()) square_[i * views_ + j] = square_[j * views_ + i] = A(weight);
      if (unit_) {
        // u_i . (u_i - u_j), which is d^2 / 2 where both have length 1
        along_sum_[i] += weight * (distance * distance + (sphere_[i] - sphere_[j])) / 2;
        along_sum_[j] += weight * (distance * distance + (sphere_[j] - sphere_[i])) / 2;
      }
    });
    if (row_form_used())
      for (int64_t v = 0; v < views_; ++v) square_[v * views_ + v] = 0;
    if (unit_)
      for (int64_t v = 0; v < views_; ++v)
        along_[v] = double(norms[v]) < kSmallestNorm ? A(0) : A(along_sum_[v]);  // a clamped norm is a constant
  }

  void run_point(int64_t p) {
    const KeptAlignment& f = op_.forward;
    const T* const z = static_cast<const T*>(f.z) + p * f.point_stride;
    T* const out = static_cast<T*>(op_.grad_z) + p * op_.grad_point_stride;
    const Weights<A> weights{pair_weights_.get(), square_.get(), inverse_.get(), along_.get()};
    const auto run_strip_form = unit_ ? run_strip<true, A> : run_strip<false, A>;
    const int64_t in_place = sizeof(T) == sizeof(A) ? f.dims / kGroup<T> * kGroup<T> : 0;
    if constexpr (sizeof(T) == sizeof(A)) {
      const int64_t strip = row_form_used() ? kStrip : in_place;  // the row form reads every row several times
      for (int64_t d = 0; d < in_place; d += strip) {
        const int64_t n = in_place - d < strip ? in_place - d : strip;
        run_strip_form({z + d, f.view_stride, out + d, op_.grad_view_stride, n, stream_}, weights, f.pairs, views_);
      }
    }
    for (int64_t d = in_place; d < f.dims; d += kStrip) {
      const int64_t n = f.dims - d < kStrip ? f.dims - d : kStrip;
      for (int64_t v = 0; v < views_; ++v) widen_row(z + v * f.view_stride + d, n, wide_.get() + v * kRow);
      run_strip_form({wide_.get(), kRow, wide_gradient_.get(), kRow, whole_groups<T>(n), false}, weights, f.pairs,
                     views_);
      for (int64_t v = 0; v < views_; ++v)
        narrow_row(wide_gradient_.get() + v * kRow, n, out + v * op_.grad_view_stride + d);
    }
  }

  const AlignmentBackward& op_;
  const bool unit_;
  const int64_t views_, pairs_;
  const Scratch<A, 64> pair_weights_;
  const Scratch<A> square_;
  const Scratch<A, 16> inverse_, along_;
  const Scratch<double, 16> along_sum_, sphere_;
  const Scratch<A> wide_, wide_gradient_;
  std::optional<ExactGradient<T>> exact_;  // made for the first point that needs it
  const bool stream_;
};

}  // namespace

void alignment_backward(const AlignmentBackward& op, const WorkRange& range) {
  switch (op.forward.dtype) {
    case DType::float32:
      return Backward<float>(op).run(range.first, range.last);
    case DType::float64:
      return Backward<double>(op).run(range.first, range.last);
    case DType::bfloat16:
      return Backward<bf16>(op).run(range.first, range.last);
    case DType::float16:
      return Backward<f16>(op).run(range.first, range.last);
  }
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
