// The gradient of one point in double, for unit vectors that nearly coincide.
//
// A pair pulls its views with the unit vector (u_i - u_j) / d. Where d is itself made of rounding errors (one
// direction, two lengths), that quotient is bounded only if both come from the same differences: with d from the
// forward and differences of float vectors it grew to 10^6. So norms and distances are computed anew, here, and in
// double.
#pragma once
#include "cpu/dispatch/scratch.h"
#include "cpu/simd/row_io.h"
#include "exact_distance.h"
#include "rules.h"

namespace memkern {
namespace MEMKERN_ISA {

// Unit vectors closer than this are the same direction: a difference of float inputs cannot be so small, and in double
// it is rounding.
constexpr double kSameDirection = 1e-15;

template <class T>
class ExactGradient {
  using A = Wide<T>;

 public:
  explicit ExactGradient(const AlignmentBackward& op)
      : op_(op),
        views_(op.forward.views),
        pairs_(pair_count(op.forward)),
        weights_(pairs_),
        inverse_(views_),
        sphere_(views_),
        along_(views_),
        unit_(views_ * kStrip),
        gradient_(views_ * kStrip),
        row_(kStrip) {}

  void run(int64_t p) {
    weigh(p);
    for (int64_t d = 0; d < op_.forward.dims; d += kStrip) {
      const int64_t n = op_.forward.dims - d < kStrip ? op_.forward.dims - d : kStrip;
      read(p, d, n);
      pull();
      write(p, d, n);
    }
  }

 private:
  static constexpr int64_t kStrip = 64;  // whole groups of every type

  const T* view(int64_t p, int64_t v) const {
    return static_cast<const T*>(op_.forward.z) + p * op_.forward.point_stride + v * op_.forward.view_stride;
  }

  const char* bytes(int64_t p, int64_t v) const { return reinterpret_cast<const char*>(view(p, v)); }

  void weigh(int64_t p) {
    const int64_t dims = op_.forward.dims;
    const double each = double(static_cast<const A*>(op_.grad)[p]) / double(pairs_);
    for (int64_t v = 0; v < views_; ++v) {
      const double norm = exact_norm<T>(bytes(p, v), dims);
      inverse_[v] = 1 / (norm < kSmallestNorm ? kSmallestNorm : norm);
      sphere_[v] = norm < kSmallestNorm ? norm * inverse_[v] * norm * inverse_[v] : 1;  // |u|^2
      along_[v] = 0;
    }
    for_each_pair(op_.forward.pairs, views_, [&](int64_t k, int64_t i, int64_t j) {
      const double distance = exact_distance<T>(bytes(p, i), inverse_[i], bytes(p, j), inverse_[j], dims);
      weights_[k] = distance < kSameDirection ? 0 : each / distance;
      // u_i . (u_i - u_j), which is d^2 / 2 where both have length 1
      along_[i] += weights_[k] * (distance * distance + (sphere_[i] - sphere_[j])) / 2;
      along_[j] += weights_[k] * (distance * distance + (sphere_[j] - sphere_[i])) / 2;
    });
    for (int64_t v = 0; v < views_; ++v)
      if (sphere_[v] != 1) along_[v] = 0;  // a clamped norm is a constant
  }

  void read(int64_t p, int64_t d, int64_t n) {
    for (int64_t v = 0; v < views_; ++v) {
      for (int64_t i = 0; i < kStrip; ++i) row_[i] = 0;
      widen_row(view(p, v) + d, n, row_.get());
      for (int64_t i = 0; i < kStrip; ++i) {
        unit_[v * kStrip + i] = double(row_[i]) * inverse_[v];
        gradient_[v * kStrip + i] = 0;
      }
    }
  }

  void pull() {
    for_each_pair(op_.forward.pairs, views_, [&](int64_t k, int64_t i, int64_t j) {
      for (int64_t d = 0; d < kStrip; ++d) {
        const double step = weights_[k] * (unit_[i * kStrip + d] - unit_[j * kStrip + d]);
        gradient_[i * kStrip + d] += step;
        gradient_[j * kStrip + d] -= step;
      }
    });
  }

  void write(int64_t p, int64_t d, int64_t n) {
    T* const out = static_cast<T*>(op_.grad_z) + p * op_.grad_point_stride + d;
    for (int64_t v = 0; v < views_; ++v) {
      for (int64_t i = 0; i < kStrip; ++i)
        row_[i] = A(inverse_[v] * (gradient_[v * kStrip + i] - along_[v] * unit_[v * kStrip + i]));
      narrow_row(row_.get(), n, out + v * op_.grad_view_stride);
    }
  }

  const AlignmentBackward& op_;
  const int64_t views_, pairs_;
  const Scratch<double> weights_;                   // [pairs]
  const Scratch<double> inverse_, sphere_, along_;  // [views]
  const Scratch<double> unit_, gradient_;           // [views, kStrip]
  const Scratch<A> row_;                            // [kStrip]
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
