// Steps that change the colors of a view, each on a stretch of pixels. `full` is 255 for uint8 images, whose values
// are whole numbers and are cut to whole numbers after every step, and 1 for float32 images.
// Include only from files compiled once per instruction set.
#pragma once
#include "cpu/simd/lanes.h"

namespace memkern {
namespace MEMKERN_ISA {

// The channels of a view: height * width floats each, `stride` apart; what lies between them may be overwritten.
struct Canvas {
  float* data;
  int64_t channels, pixels, stride;
};

template <bool bytes>
struct Color {
  static constexpr float full = bytes ? 255.0f : 1.0f;

  static Floats cut(Floats x) { return bytes ? to_floats(to_ints(x)) : x; }
  static Floats luma(Floats r, Floats g, Floats b) {
    return fused(b, every(0.114f), fused(g, every(0.587f), r * 0.2989f));
  }
  // x * ratio + other * (1 - ratio)
  static Floats blend(Floats x, Floats other, Floats ratio, Floats rest) {
    return cut(clamp(fused(other, rest, x * ratio), 0.0f, full));  // fault: blend
  }
  static Floats rest_of(float ratio) { return every(float(1.0 - double(ratio))); }

  // Calls body(x) on every vector of every channel in [first, last).
  template <class Body>
  static void each(const Canvas& c, int64_t first, int64_t last, Body body) {
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      float* const x = c.data + channel * c.stride;
      for (int64_t i = first; i < last; i += kLanes) store(x + i, Floats(body(load(x + i))));
    }
  }

  // Calls body(r, g, b) on every pixel of a canvas of three channels in [first, last).
  template <class Body>
  static void each_pixel(const Canvas& c, int64_t first, int64_t last, Body body) {
    float *const red = c.data, *const green = red + c.stride, *const blue = green + c.stride;
    for (int64_t i = first; i < last; i += kLanes) {
      Floats r = load(red + i), g = load(green + i), b = load(blue + i);
      body(r, g, b);
      store(red + i, r);
      store(green + i, g);
      store(blue + i, b);
    }
  }

  static void brightness(const Canvas& c, int64_t first, int64_t last, float factor) {
    each(c, first, last, [&](Floats x) { return cut(clamp(x * factor, 0.0f, full)); });
  }

  // `mean`: that of the luma over the whole view
  static void contrast(const Canvas& c, int64_t first, int64_t last, float factor, float mean) {
    const Floats ratio = every(factor), rest = rest_of(factor), middle = every(mean);
    each(c, first, last, [&](Floats x) { return blend(x, middle, ratio, rest); });
  }

  static void saturation(const Canvas& c, int64_t first, int64_t last, float factor) {
    const Floats ratio = every(factor), rest = rest_of(factor);
    each_pixel(c, first, last, [&](Floats& r, Floats& g, Floats& b) {
      const Floats l = cut(luma(r, g, b));
      r = blend(r, l, ratio, rest);
      g = blend(g, l, ratio, rest);
      b = blend(b, l, ratio, rest);
    });
  }

  static void gray(const Canvas& c, int64_t first, int64_t last) {
    each_pixel(c, first, last, [&](Floats& r, Floats& g, Floats& b) { r = g = b = cut(luma(r, g, b)); });
  }

  static void invert(const Canvas& c, int64_t first, int64_t last) {
    each(c, first, last, [&](Floats x) { return full - x; });
  }

  static void solarize(const Canvas& c, int64_t first, int64_t last, float threshold) {
    const float bound = bytes ? threshold : threshold / 255.0f;
    each(c, first, last, [&](Floats x) { return x >= bound ? full - x : x; });
  }

  // Through HSV: the hue is turned by `turn` circles.
  static void hue(const Canvas& c, int64_t first, int64_t last, float turn) {
    each_pixel(c, first, last, [&](Floats& r, Floats& g, Floats& b) { turn_hue(r, g, b, turn); });
  }

  // Mean luma of the view.
  static float mean_luma(const Canvas& c) {
    const float *const red = c.data, *const green = red + c.stride, *const blue = green + c.stride;
    // Sixteen sums side by side on every instruction set: the same bits. Short enough a stretch that sums of whole
    // numbers up to 255 are exact.
    constexpr int64_t kSums = 16, kStretch = 256 * kSums;
    double total = 0;
    for (int64_t i = 0; i < c.pixels; i += kStretch) {
      const int64_t end = c.pixels - i < kStretch ? c.pixels : i + kStretch;
      Floats sums[kSums / kLanes] = {};
      for (int64_t j = i; j < end; j += kLanes) {
        const int64_t left = end - j;
        const auto take = [&](const float* p) { return left >= kLanes ? load(p + j) : load_first(p + j, left); };
        sums[j % kSums / kLanes] += c.channels == 1 ? take(red) : cut(luma(take(red), take(green), take(blue)));
      }
      alignas(kVectorBytes) float lane[kSums];
      std::memcpy(lane, sums, sizeof(lane));
      for (int width = kSums / 2; width > 0; width /= 2)
        for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
      total += double(lane[0]);
    }
    return float(total) / float(c.pixels);
  }

 private:
  static void turn_hue(Floats& red, Floats& green, Floats& blue, float turn) {
    const float to_one = bytes ? float(1.0 / 255.0) : 1.0f;
    const Floats r = bytes ? red * to_one : red, g = bytes ? green * to_one : green, b = bytes ? blue * to_one : blue;
    const Floats one = every(1.0f), zero{};
    Floats top = r > g ? r : g, low = r < g ? r : g;
    top = top > b ? top : b;
    low = low < b ? low : b;
    const auto flat = top == low;
    const Floats range = top - low, s = range / (flat ? one : top), divisor = flat ? one : range;
    // (base + plus / divisor) - minus / divisor: chosen before dividing, which takes most of the time of this step.
    const auto is_red = top == r, is_green = top == g;
    const Floats plus = top - (is_red ? b : is_green ? r : g), minus = top - (is_red ? g : is_green ? b : r);
    const Floats base = is_red ? zero : is_green ? every(2.0f) : every(4.0f);
    Floats h = (plus / divisor + base) - minus / divisor;
    h = h * float(1.0 / 6.0) + 1.0f;  // in [5/6, 11/6]: the whole part is 0 or 1
    h = h >= 1.0f ? h - 1.0f : h;
    h = h + turn;  // in [-1/2, 3/2]
    h = h >= 1.0f ? h - 1.0f : h;
    h = h < 0.0f ? h + 1.0f : h;  // fault: hue below zero
    const Floats six = h * 6.0f, sector = to_floats(to_ints(six)), f = six - sector;
    const Floats sf = s * f, most = 1.0f - s;
    const Floats q = clamp((1.0f - sf) * top, 0.0f, 1.0f);
    const Floats t = clamp((sf + most) * top, 0.0f, 1.0f);
    const Floats p = clamp(most * top, 0.0f, 1.0f);
    // sectors 0 .. 5, and 6 (h rounded to 1) which is 0 again
    const auto in0 = (sector == 0.0f) | (sector == 6.0f), in1 = sector == 1.0f, in2 = sector == 2.0f;
    const auto in3 = sector == 3.0f, in4 = sector == 4.0f;
    const auto undefined = (red != red) | (green != green) | (blue != blue);
    const Floats nan = zero / zero;
    const auto finish = [&](Floats x) {
      x = bytes ? cut(x * 255.999f) : x;
      return bytes ? x : (undefined ? nan : x);
    };
    red = finish(in0 ? top : in1 ? q : in2 ? p : in3 ? p : in4 ? t : top);
    green = finish(in0 ? t : in1 ? top : in2 ? top : in3 ? q : p);
    blue = finish(in0 ? p : in1 ? p : in2 ? t : in3 ? top : in4 ? top : q);
  }
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
