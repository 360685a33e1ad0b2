// Views in heap blocks of exactly the size of the data, for the sanitizers: every step, pixel type, result type, memory
// order and stride, boxes at the very end of the image, threads. What can be said without an oracle is checked too:
// a box at the view's own size is copied, a flip mirrors it, and a constant image stays constant.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cpu/dispatch/parallel.h"

namespace memkern {

struct ViewCase {
  Pixel pixel;
  int64_t channels, height, width, out_height, out_width;
  bool antialias, interleaved;
  DType dtype;
  bool channels_last, hides;
  int threads;
};

template <class T>
std::unique_ptr<T[]> exactly(int64_t count) {
  std::unique_ptr<T[]> memory(new T[size_t(count)]);
  std::memset(static_cast<void*>(memory.get()), 0xff, size_t(count) * sizeof(T));
  return memory;
}

// Rows of parameters: the whole box, flipped; the last pixel; a box that ends with the image. Then every step.
inline void fill_views(const ViewCase& c, float* row, int64_t views) {
  std::memset(row, 0, size_t(views * kViewColumns) * sizeof(float));
  for (int64_t v = 0; v < views; ++v, row += kViewColumns) {
    const int64_t top = v == 2 ? c.height - 1 : v > 2 ? c.height / 2 : 0;
    const int64_t left = v == 2 ? c.width - 1 : v > 2 ? c.width / 3 : 0;
    const float box[] = {float(top), float(left), float(c.height - top), float(c.width - left)};
    std::memcpy(row, box, sizeof(box));
    row[4] = v == 1;
    if (v < 3) continue;
    const float values[] = {0, 1.3f, 0.6f, 1.7f, -0.3f, 0, 0, 128, 1.5f};
    for (int k = 0; k < kViewSteps; ++k) {  // in another order in each view
      row[6 + 2 * k] = float((k + v) % kViewSteps + 1);
      row[7 + 2 * k] = values[(k + v) % kViewSteps + 1];
    }
  }
}

// T: uint8_t or float, as the case says. Returns the number of failed checks.
template <class T>
int run_view_case(const ViewCase& c) {
  const int64_t images = 2, views = 5, pixels = c.height * c.width, out_pixels = c.out_height * c.out_width;
  const int64_t size = c.dtype == DType::float32 ? 4 : 2;
  const auto params = exactly<float>(images * views * kViewColumns);
  const auto hidden = exactly<uint8_t>(images * views * out_pixels);
  const auto out = exactly<char>(images * views * c.channels * out_pixels * size);
  std::memset(hidden.get(), 0, size_t(images * views * out_pixels));
  const auto data = exactly<T>(images * c.channels * pixels);
  // the first image has every value, the second is constant
  const double unit = sizeof(T) == 1 ? 1 : 1.0 / 255;
  for (int64_t i = 0; i < images * c.channels * pixels; ++i)
    data[i] = T(i < c.channels * pixels ? double(i * 37 % 256) * unit : 51 * unit);
  Image sources[images];
  for (int64_t i = 0; i < images; ++i)
    sources[i] = {data.get() + i * c.channels * pixels,
                  c.height,
                  c.width,
                  c.interleaved ? 1 : pixels,
                  c.width * (c.interleaved ? c.channels : 1),
                  c.interleaved ? c.channels : 1};
  for (int64_t i = 0; i < images; ++i) fill_views(c, params.get() + i * views * kViewColumns, views);
  const Views op{sources,
                 c.pixel,
                 images,
                 views,
                 c.channels,
                 c.out_height,
                 c.out_width,
                 params.get(),
                 c.antialias,
                 3,
                 {0, 0, 0},
                 {1, 1, 1},
                 c.hides ? hidden.get() : nullptr,
                 1,
                 out.get(),
                 c.dtype,
                 c.channels_last};
  run_views(op, c.threads);

  if (c.dtype != DType::float32) return 0;
  int failed = 0;
  const auto value = [&](int64_t view, int64_t channel, int64_t at) {
    const int64_t place = c.channels_last ? (view * out_pixels + at) * c.channels + channel
                                          : (view * c.channels + channel) * out_pixels + at;
    float found;
    std::memcpy(&found, out.get() + place * 4, 4);
    return double(found);
  };
  const bool same = c.height == c.out_height && c.width == c.out_width;
  for (int64_t channel = 0; channel < c.channels; ++channel)
    for (int64_t at = 0; at < out_pixels; ++at) {
      const int64_t mirrored = at / c.out_width * c.out_width + c.out_width - 1 - at % c.out_width;
      failed += value(1, channel, mirrored) != value(0, channel, at);
      failed += !(std::fabs(value(views, channel, at) - 0.2) < 1e-6);
      const Image& image = sources[0];
      const int64_t from =
          channel * image.channel_stride + at / c.out_width * image.row_stride + at % c.out_width * image.column_stride;
      failed += same && !(std::fabs(value(0, channel, at) - double(data[from]) / (255 * unit)) < 1e-6);
    }
  return failed;
}

inline int run_view_cases(const char* set) {
  const int64_t sizes[][4] = {{8, 9, 8, 9}, {17, 5, 6, 11}, {1, 1, 4, 4}, {3, 70, 40, 33}, {2, 3, 3, 2}};
  int failed = 0;
  for (const auto& [height, width, out_height, out_width] : sizes)
    for (int option = 0; option < 32; ++option) {
      const bool bytes = option & 1;
      const ViewCase c{bytes ? Pixel::uint8 : Pixel::float32,
                       option & 2 ? 3 : 1,
                       height,
                       width,
                       out_height,
                       out_width,
                       bool(option & 4),
                       bool(option & 8),
                       DType(option % 3 == 0 ? 0 : 1 + option % 3),
                       bool(option & 16),
                       option % 5 == 0,
                       1 + option % 2};
      const int found = bytes ? run_view_case<uint8_t>(c) : run_view_case<float>(c);
      if (found) std::fprintf(stderr, "%s: views option %d: %d values are wrong\n", set, option, found);
      failed += found;
    }
  return failed;
}

}  // namespace memkern
