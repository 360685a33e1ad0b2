// Gaussian blur of a view, along rows and then across them; the image continues as in a mirror beyond its edges.
// Include only from files compiled once per instruction set.
#pragma once
#include <cmath>

#include "color.h"
#include "cpu/dispatch/scratch.h"

namespace memkern {
namespace MEMKERN_ISA {

// Working memory for views of one size; nothing without taps.
struct Blur {
  Blur(int64_t height, int64_t width, int64_t taps)
      : height(height),
        width(width),
        taps(taps),
        padded((width + kStretch - 1) / kStretch * kStretch),
        weight(taps),
        line(taps > 0 ? padded + taps : 0),
        along(taps > 0 ? height * padded : 0) {}

  void run(const Canvas& c, float sigma, bool whole_numbers) {
    set_weights(sigma);
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      float* const plane = c.data + channel * c.stride;
      for (int64_t y = 0; y < height; ++y) blur_row(plane + y * width, along.get() + y * padded);
      for (int64_t y = 0; y < height; ++y) blur_rows(y, plane + y * width, whole_numbers);
    }
  }

 private:
  static constexpr int kVectors = 4;  // sums kept side by side: one alone waits four cycles for each product
  static constexpr int64_t kStretch = kVectors * kLanes;

  static int64_t mirrored(int64_t i, int64_t size) {
    return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;  // fault: reflection
  }

  void set_weights(float sigma) {
    double total = 0;
    const auto bell = [&](int64_t i) {
      const double away = (double(i) - double(taps - 1) / 2) / double(sigma);
      return std::exp(-0.5 * away * away);
    };
    for (int64_t i = 0; i < taps; ++i) total += bell(i);
    for (int64_t i = 0; i < taps; ++i) {
      // Numbers below float's normal range cost a hundred cycles a product and change nothing.
      const double share = bell(i) / total;
      weight[i] = share < 1e-30 ? 0.0f : float(share);
    }
  }

  // sum over i of weight[i] * source(i)[0..kStretch)
  template <class Source>
  void weighted(Source source, Floats* sum) const {
    for (int v = 0; v < kVectors; ++v) sum[v] = Floats{};
    for (int64_t i = 0; i < taps; ++i) {
      const float* const from = source(i);
      for (int v = 0; v < kVectors; ++v) sum[v] = fused(load(from + v * kLanes), every(weight[i]), sum[v]);
    }
  }

  void blur_row(const float* row, float* out) const {
    const int64_t half = taps / 2;
    for (int64_t x = 0; x < half; ++x) {
      line[x] = row[mirrored(x - half, width)];
      line[half + width + x] = row[mirrored(width + x, width)];
    }
    std::memcpy(line.get() + half, row, size_t(width) * sizeof(float));
    for (int64_t x = 0; x < width; x += kStretch) {
      Floats sum[kVectors];
      weighted([&](int64_t i) { return line.get() + x + i; }, sum);
      for (int v = 0; v < kVectors; ++v) store(out + x + v * kLanes, sum[v]);
    }
  }

  void blur_rows(int64_t y, float* out, bool whole_numbers) const {
    for (int64_t x = 0; x < width; x += kStretch) {
      Floats sum[kVectors];
      weighted([&](int64_t i) { return along.get() + mirrored(y + i - taps / 2, height) * padded + x; }, sum);
      for (int v = 0; v < kVectors && x + v * kLanes < width; ++v) {
        const Floats value = whole_numbers ? nearest(sum[v]) : sum[v];
        store_first(out + x + v * kLanes, value, width - x - v * kLanes);
      }
    }
  }

  int64_t height, width, taps, padded;
  Scratch<float> weight;  // [taps]
  Scratch<float> line;    // a row with its mirrored ends
  Scratch<float> along;   // [height, padded]
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
