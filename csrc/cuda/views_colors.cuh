// Steps that change the color of pixels, four at a time; csrc/cpu/views/color.h for four lanes. `full` is 255 for uint8
// images, whose values are whole numbers and are cut to whole numbers after every step, and 1 for float32 images.
// Products that meet a sum are rounded by themselves (product() of taps.h) or fused by name: the bits of the CPU
// kernels.
#pragma once
#include "../ops.h"
#include "../resize_filter.h"
#include "views_quad.cuh"

namespace memkern {

// Channels of four pixels; of an image with one channel, channel[0] alone.
struct Pixels {
  float channel[3][kQuad];
};

template <bool bytes>
struct Color {
  static constexpr float full = bytes ? 255.0f : 1.0f;

  static __device__ __forceinline__ float cut(float x) {
    if constexpr (bytes) return whole_part(x);
    return x;
  }
  // NaN stays NaN in float images, which fminf and fmaxf would drop.
  static __device__ __forceinline__ float clamp(float x, float high) {
    if constexpr (bytes) return fminf(fmaxf(x, 0.0f), high);
    return x < 0 ? 0.0f : x > high ? high : x;
  }

  static __device__ __forceinline__ float luma(const Pixels& p, int i) {
    return cut(fmaf(p.channel[2][i], 0.114f, fmaf(p.channel[1][i], 0.587f, p.channel[0][i] * 0.2989f)));
  }

  // Every channel of every pixel i becomes body(it, i).
  template <class Body>
  static __device__ __forceinline__ void each(Pixels& p, const Body& body) {
#pragma unroll
    for (int c = 0; c < 3; ++c)
#pragma unroll
      for (int i = 0; i < kQuad; ++i) p.channel[c][i] = body(p.channel[c][i], i);
  }

  // p * ratio + other * rest, rest = 1 - ratio
  static __device__ __forceinline__ float blend(float x, float other, float ratio, float rest) {
    return cut(clamp(fmaf(other, rest, x * ratio), full));
  }

  // `mean`: of the luma over the whole view
  static __device__ __forceinline__ void apply(Step step, float value, float mean, Pixels& p) {
    switch (step) {
      case Step::brightness: {
        if constexpr (bytes) {
          const float factor = fmaxf(value, 0.0f);  // in place of clamping every number from below
          return each(p, [&](float x, int) { return cut(fminf(x * factor, full)); });
        }
        return each(p, [&](float x, int) { return clamp(x * value, full); });
      }
      case Step::contrast: {
        const float rest = float(1.0 - double(value));
        return each(p, [&](float x, int) { return blend(x, mean, value, rest); });
      }
      case Step::saturation: {
        const float rest = float(1.0 - double(value));
        float gray[kQuad];
#pragma unroll
        for (int i = 0; i < kQuad; ++i) gray[i] = luma(p, i);
        return each(p, [&](float x, int i) { return blend(x, gray[i], value, rest); });
      }
      case Step::hue: {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) turn(p, i, value);
        return;
      }
      case Step::gray: {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) p.channel[0][i] = p.channel[1][i] = p.channel[2][i] = luma(p, i);
        return;
      }
      case Step::invert:
        return each(p, [&](float x, int) { return full - x; });
      case Step::solarize: {
        const float bound = bytes ? value : value / 255.0f;
        return each(p, [&](float x, int) { return x >= bound ? full - x : x; });
      }
      default:
        return;
    }
  }

 private:
  // a / b, rounded as a division. Of uint8 images, whose b are neither tiny nor infinite, with its inverse found once:
  // what a compiler makes of a division, without the way out for other numbers.
  struct Divisor {
    float b, inverse;
    __device__ __forceinline__ explicit Divisor(float b) : b(b), inverse(0) {
      if constexpr (bytes) {
        const float about = about_inverse(b);
        inverse = fmaf(fmaf(-b, about, 1.0f), about, about);
      }
    }
    __device__ __forceinline__ float of(float a) const {
      if constexpr (!bytes) return a / b;
      float ratio = a * inverse;
      ratio = fmaf(fmaf(-b, ratio, a), inverse, ratio);
      return fmaf(fmaf(-b, ratio, a), inverse, ratio);
    }
  };

  // Through HSV: the hue of pixel i is turned by `angle` circles.
  static __device__ __forceinline__ void turn(Pixels& p, int i, float angle) {
    const float to_one = bytes ? float(1.0 / 255.0) : 1.0f;
    const float r = p.channel[0][i] * to_one, g = p.channel[1][i] * to_one, b = p.channel[2][i] * to_one;
    float top = r > g ? r : g, low = r < g ? r : g;
    top = top > b ? top : b;
    low = low < b ? low : b;
    const bool flat = top == low, is_red = top == r, is_green = top == g;
    const float range = top - low, s = Divisor(flat ? 1.0f : top).of(range);
    const Divisor divisor(flat ? 1.0f : range);
    const float plus = top - (is_red ? b : is_green ? r : g), minus = top - (is_red ? g : is_green ? b : r);
    const float base = is_red ? 0.0f : is_green ? 2.0f : 4.0f;
    float h = (divisor.of(plus) + base) - divisor.of(minus);
    h = product(h, float(1.0 / 6.0)) + 1.0f;  // in [5/6, 11/6]: the whole part is 0 or 1
    h = h >= 1.0f ? h - 1.0f : h;
    h = h + angle;  // in [-1/2, 3/2]
    h = h >= 1.0f ? h - 1.0f : h;
    h = h < 0.0f ? h + 1.0f : h;
    const float six = product(h, 6.0f), sector = whole_part(six), sf = product(s, six - sector), most = 1.0f - s;
    const bool odd = sector == 1.0f || sector == 3.0f || sector == 5.0f;
    const float middle = clamp((odd ? 1.0f - sf : sf + most) * top, 1.0f), least = clamp(most * top, 1.0f);
    // Largest and smallest channel; sector 6, to which h may be rounded, is 0.
    const bool second = six >= 1.0f && six < 3.0f, third = six >= 3.0f && six < 5.0f;
    const bool no_red = six >= 2.0f && six < 4.0f, no_green = six >= 4.0f && six < 6.0f;
    float q[3];
    q[0] = no_red ? least : second || third ? middle : top;
    q[1] = second ? top : no_green ? least : middle;
    q[2] = third ? top : no_red || no_green ? middle : least;
    const bool undefined = !bytes && (r != r || g != g || b != b);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const float x = bytes ? cut(q[c] * 255.999f) : q[c];
      p.channel[c][i] = undefined ? float_of_bits(0x7fc00000u) : x;
    }
  }
};

}  // namespace memkern
