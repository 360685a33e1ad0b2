// Steps that change the color of a pixel; csrc/cpu/color.h for one lane. `full` is 255 for uint8 images, whose values
// are whole numbers and are cut to whole numbers after every step, and 1 for float32 images. Products that meet a sum
// are rounded by themselves (product() of taps.h) or fused by name: the bits of the CPU kernels.
#pragma once
#include "../ops.h"
#include "../taps.h"
#include "port.cuh"

namespace memkern {

struct Rgb {
  float r, g, b;  // of an image with one channel, r alone
};

template <bool bytes>
struct Color {
  static constexpr float full = bytes ? 255.0f : 1.0f;

  static __device__ __forceinline__ float cut(float x) { return bytes ? truncf(x) : x; }
  // NaN stays NaN, which fminf and fmaxf would drop.
  static __device__ __forceinline__ float clamp(float x, float high) { return x < 0 ? 0.0f : x > high ? high : x; }

  static __device__ __forceinline__ float luma(const Rgb& p) {
    return cut(fmaf(p.b, 0.114f, fmaf(p.g, 0.587f, p.r * 0.2989f)));
  }

  template <class Body>
  static __device__ __forceinline__ Rgb each(const Rgb& p, const Body& body) {
    return {body(p.r), body(p.g), body(p.b)};
  }

  // p * ratio + other * (1 - ratio)
  static __device__ __forceinline__ Rgb blend(const Rgb& p, float other, float ratio) {
    const float rest = float(1.0 - double(ratio));
    return each(p, [&](float x) { return cut(clamp(fmaf(other, rest, x * ratio), full)); });
  }

  // `mean`: of the luma over the whole view
  static __device__ __forceinline__ Rgb apply(Step step, float value, float mean, const Rgb& p, bool colored) {
    switch (step) {
      case Step::brightness:
        return each(p, [&](float x) { return cut(clamp(x * value, full)); });
      case Step::contrast:
        return blend(p, mean, value);
      case Step::saturation:
        return colored ? blend(p, luma(p), value) : p;
      case Step::hue:
        return colored ? turned(p, value) : p;
      case Step::gray: {
        const float gray = luma(p);
        return colored ? Rgb{gray, gray, gray} : p;
      }
      case Step::invert:
        return each(p, [&](float x) { return full - x; });
      case Step::solarize: {
        const float bound = bytes ? value : value / 255.0f;
        return each(p, [&](float x) { return x >= bound ? full - x : x; });
      }
      default:
        return p;
    }
  }

 private:
  // Through HSV: the hue is turned by `turn` circles.
  static __device__ __forceinline__ Rgb turned(const Rgb& p, float turn) {
    const float to_one = bytes ? float(1.0 / 255.0) : 1.0f;
    const float r = p.r * to_one, g = p.g * to_one, b = p.b * to_one;
    float top = r > g ? r : g, low = r < g ? r : g;
    top = top > b ? top : b;
    low = low < b ? low : b;
    const bool flat = top == low, is_red = top == r, is_green = top == g;
    const float range = top - low, s = range / (flat ? 1.0f : top), divisor = flat ? 1.0f : range;
    const float plus = top - (is_red ? b : is_green ? r : g), minus = top - (is_red ? g : is_green ? b : r);
    const float base = is_red ? 0.0f : is_green ? 2.0f : 4.0f;
    float h = (plus / divisor + base) - minus / divisor;
    h = product(h, float(1.0 / 6.0)) + 1.0f;  // in [5/6, 11/6]: the whole part is 0 or 1
    h = h >= 1.0f ? h - 1.0f : h;
    h = h + turn;  // in [-1/2, 3/2]
    h = h >= 1.0f ? h - 1.0f : h;
    h = h < 0.0f ? h + 1.0f : h;
    const float six = product(h, 6.0f), sector = truncf(six), sf = product(s, six - sector), most = 1.0f - s;
    const float up = clamp((sf + most) * top, 1.0f), down = clamp((1.0f - sf) * top, 1.0f);
    const float least = clamp(most * top, 1.0f);
    Rgb q{top, least, down};                                     // sector 5
    if (sector == 0.0f || sector == 6.0f) q = {top, up, least};  // 6: h was rounded to 1
    if (sector == 1.0f) q = {down, top, least};
    if (sector == 2.0f) q = {least, top, up};
    if (sector == 3.0f) q = {least, down, top};
    if (sector == 4.0f) q = {up, least, top};
    if (bytes) return each(q, [](float x) { return cut(x * 255.999f); });
    const bool undefined = p.r != p.r || p.g != p.g || p.b != p.b;
    return undefined ? each(p, [](float) { return float_of_bits(0x7fc00000u); }) : q;
  }
};

}  // namespace memkern
