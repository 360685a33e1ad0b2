// Layers that make each element of their output from one of their input, for a range of dims of one view.
#pragma once
#include "cpu/alignment/alignment.h"
#include "cpu/dispatch/scratch.h"
#include "cpu/simd/lanes.h"
#include "ops.h"

namespace memkern {
namespace MEMKERN_ISA {

// Functions of a vector of inputs, and of the dim where it begins.
struct Relu {
  Floats operator()(Floats x, int64_t) const {
    // fault: relu of a layer
    return x < 0 ? Floats{} : x;  // NaN passes
  }
};

struct Norm {
  const float *scale, *shift;  // of each dim
  Floats operator()(Floats x, int64_t d) const { return fused(x, load(scale + d), load(shift + d)); }
};

// x times the share of the normal distribution below it, which is tail(-x) or 1 - tail(x). tail(u) is R(u) exp(-u^2/2),
// where R, Mills' ratio over sqrt(2 pi), is smooth enough for a quotient of polynomials: 3e-9 off up to u = 10, where
// the other factor is 2e-22. Both were fitted for the least relative error. (torch takes 1 + erf(x / sqrt 2), whose
// digits cancel for negative x.)
struct Gelu {
  Floats operator()(Floats x, int64_t) const {
    Floats u = x < 0 ? -x : x;
    u = u < 20 ? u : every(20.0f);  // infinity over infinity would be NaN
    const Floats above = quintic(u, 0, 0.00368597f, 0.03768353f, 0.17439113f, 0.4261861f, 0.5f);
    const Floats below = quintic(u, 0.00923908f, 0.09447023f, 0.44614129f, 1.16549448f, 1.65025695f, 1);
    const Floats tail = above / below * power_of_two(u * u * -0.72134752f);  // -log2(e) / 2
    // fault: gelu
    return x * (x < 0 ? tail : 1 - tail);
  }

 private:
  static Floats quintic(Floats x, float a5, float a4, float a3, float a2, float a1, float a0) {
    const Floats high = fused(fused(fused(every(a5), x, every(a4)), x, every(a3)), x, every(a2));
    return fused(fused(high, x, every(a1)), x, every(a0));
  }

  // y <= 0; 0 where the power is no normal float: minus infinity times it is NaN, as in torch.
  static Floats power_of_two(Floats y) {
    const Floats whole = nearest(y), rest = y - whole;
    const Floats over_x =
        quintic(rest, 1.53533601e-4f, 1.33988751e-3f, 9.61843737e-3f, 5.55033247e-2f, 2.40226479e-1f, 6.93147203e-1f);
    const Floats power = (Floats)((Ints)fused(over_x, rest, every(1.0f)) + (to_ints(whole) << 23));
    return y < -125 ? Floats{} : power;  // fault: exponential
  }
};

// Some pointwise layer of a network.
class PointwiseLayer {
 public:
  // `by_units`: the units of a place are neighbours in memory, [space, units], and not [units, space].
  PointwiseLayer(const Pointwise& layer, int64_t units, int64_t space, bool by_units)
      : function_(layer.function),
        copies_(!by_units && space < 2 * kLanes ? space : 1),
        by_units_(by_units || copies_ == space),
        units_(units * copies_),
        space_(space),
        scale_(is_norm() ? units_ + kMostDims + kLanes : 0),
        shift_(is_norm() ? units_ + kMostDims + kLanes : 0),
        of_dims_(is_norm() && !by_units_ ? 2 * (kMostDims + kLanes) : 0) {  // fault: room of scales
    // The roundings of torch, whose batch norm makes one factor and one summand of its five numbers, too.
    for (int64_t u = 0, i = 0; is_norm() && u < units; ++u) {
      const float inverse = 1 / __builtin_sqrtf(layer.variance[u] + layer.epsilon);
      const float scale = layer.weight ? inverse * layer.weight[u] : inverse;
      const float shift = (layer.bias ? layer.bias[u] : 0) - layer.mean[u] * scale;  // fault: shift
      for (int64_t copy = 0; copy < copies_; ++copy, ++i) scale_[i] = scale, shift_[i] = shift;
    }
    // Once around and on: what belongs to neighbouring dims can be read from any unit on.
    for (int64_t i = units_; is_norm() && i < units_ + kMostDims + kLanes; ++i)
      scale_[i] = scale_[i - units_], shift_[i] = shift_[i - units_];  // fault: scales go round
  }

  Function function() const { return function_; }

  // Function of a batch norm for dims [d, d + n) of a view, n <= kMostDims. `again`: as at the last call, which
  // asked for the same dims.
  Norm norm(int64_t d, int64_t n, bool again) const {
    if (by_units_) return {&scale_[d % units_], &shift_[d % units_]};  // fault: scales of a range
    float* scale = of_dims_.get();
    float* shift = scale + kMostDims + kLanes;
    const Norm all{scale, shift};
    if (again) return all;
    for_each_plane(d, n, [&](int64_t unit, int64_t some) {
      for (int64_t i = 0; i < some; i += kLanes) {  // the last vector ends in the next plane, which comes next
        store(scale + i, every(scale_[unit]));
        store(shift + i, every(shift_[unit]));
      }
      scale += some, shift += some;
    });
    return all;
  }

  // y[0..n) from x[0..n), dims [d, d + n) of a view; both may be the same.
  void run(const float* x, float* y, int64_t d, int64_t n) const {
    switch (function_) {
      case Function::relu:
        return map<Relu>(x, y, n);
      case Function::gelu:
        return map<Gelu>(x, y, n);
      case Function::batch_norm:
        return by_units_ ? norm_by_units(x, y, d % units_, n) : norm_by_planes(x, y, d, n);  // fault: norm of a range
    }
  }

 private:
  bool is_norm() const { return function_ == Function::batch_norm; }

  template <class F>
  static void map(const float* x, float* y, int64_t n) {
    const F f;
    for (int64_t i = 0; i < n; i += kLanes) store_first(y + i, f(load_first(x + i, n - i), i), n - i);
  }

  void norm_by_units(const float* x, float* y, int64_t unit, int64_t n) const {
    for (; n > 0; unit = 0) {
      const int64_t some = units_ - unit < n ? units_ - unit : n;
      for (int64_t i = 0; i < some; i += kLanes) {
        const Floats scale = load(&scale_[unit + i]), shift = load(&shift_[unit + i]);
        norm_of(x + i, y + i, scale, shift, some - i);
      }
      x += some, y += some, n -= some;
    }
  }

  void norm_by_planes(const float* x, float* y, int64_t d, int64_t n) const {
    for_each_plane(d, n, [&](int64_t unit, int64_t some) {
      const Floats scale = every(scale_[unit]), shift = every(shift_[unit]);
      for (int64_t i = 0; i < some; i += kLanes) norm_of(x + i, y + i, scale, shift, some - i);
      x += some, y += some;
    });
  }

  // Visits the share that dims [d, d + n) have of each plane: f(unit, how many of them).
  template <class F>
  void for_each_plane(int64_t d, int64_t n, F f) const {
    // fault: rest of a plane
    for (int64_t unit = d / space_, left = space_ - d % space_; n > 0; ++unit, left = space_) {
      const int64_t some = left < n ? left : n;
      f(unit, some);
      n -= some;
    }
  }

  static void norm_of(const float* x, float* y, Floats scale, Floats shift, int64_t n) {
    store_first(y, fused(load_first(x, n), scale, shift), n);
  }

  const Function function_;
  const int64_t copies_;  // of each unit: planes that end within two vectors are taken as rows of their elements
  const bool by_units_;
  const int64_t units_, space_;
  const Scratch<float> scale_, shift_;  // [units], going round
  const Scratch<float> of_dims_;        // of planes: what norm() gave
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
