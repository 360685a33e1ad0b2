// Bilinear resizing of one channel of a crop box: first each row to the width of the view, then the rows to its height.
// With antialiasing the triangle filter is as wide as the step between two outputs, else it spans two pixels.
// uint8 weights are whole numbers of 2^-precision, and rows are rounded to uint8 between the two passes: torch's
// arithmetic to the bit. Include only from files compiled once per instruction set.
#pragma once
#include "cpu/dispatch/scratch.h"
#include "cpu/simd/lanes.h"
#include "ops.h"
#include "resize_filter.h"

namespace memkern {
namespace MEMKERN_ISA {

// Weights of one axis in the order of the outputs.
template <class T>
struct Taps {
  Taps(int64_t most_inputs, int64_t outputs, bool antialias)
      : most(most_taps(int32_t(most_inputs), int32_t(outputs), antialias)),
        first(outputs),
        count(outputs),
        weight(outputs * most) {}
  int64_t most;
  Scratch<int32_t> first, count;  // [outputs] inputs read: first ... first + count - 1
  Scratch<T> weight;              // [outputs, most]
};

template <class T>
inline void find_taps(int64_t input, int64_t output, bool antialias, Taps<T>& taps) {
  for (int32_t i = 0; i < output; ++i) {
    T* const weight = taps.weight.get() + i * taps.most;
    const Window<T> window = window_of<T>(i, int32_t(input), int32_t(output), antialias);
    taps.first[i] = window.first;
    taps.count[i] = window.count;
    T total = 0;
    for (int32_t j = 0; j < window.count; ++j) total += weight[j] = weight_of(window, j);
    if (!window.triangle) continue;
    for (int32_t j = 0; j < window.count; ++j) weight[j] /= total;
  }
}

// ---- uint8 ---------------------------------------------------------------------------------------------------------

inline double largest_weight(const Taps<double>& taps, int64_t outputs) {
  double largest = 0;
  for (int64_t i = 0; i < outputs; ++i)
    for (int64_t j = 0; j < taps.count[i]; ++j)
      if (taps.weight[i * taps.most + j] > largest) largest = taps.weight[i * taps.most + j];
  return largest;
}

// Along a row: a gather brings four neighboring bytes of every lane, split into two pairs for two products.
struct ByteColumns {
  ByteColumns(int64_t most_inputs, int64_t outputs, bool antialias)
      : taps(most_inputs, outputs, antialias),
        padded(whole_vectors(outputs)),
        groups((taps.most + 3) / 4),
        start(padded),
        even(groups * padded),
        odd(groups * padded) {}

  // `readable`: bytes that may be read from the start of the box on, at least 4 * groups.
  void set(int64_t input, int64_t output, bool flip, bool antialias, int64_t readable) {
    find_taps(input, output, antialias, taps);
    precision = precision_of(largest_weight(taps, output));
    groups = (most_taps(int32_t(input), int32_t(output), antialias) + 3) / 4;
    for (int64_t x = 0; x < padded; ++x) {
      const bool used = x < output;
      const int64_t i = used ? (flip ? output - 1 - x : x) : 0;
      // A group that would reach past the readable bytes starts earlier, with weights of 0 in front.
      const int64_t latest = readable - 4 * groups, early = taps.first[i] > latest ? taps.first[i] - latest : 0;
      start[x] = int32_t(taps.first[i] - early);
      for (int64_t g = 0; g < groups; ++g) {
        uint32_t w[4] = {};
        for (int64_t k = 0; k < 4; ++k) {
          const int64_t j = 4 * g + k - early;
          if (used && j >= 0 && j < taps.count[i]) {
            w[k] = uint32_t(whole_weight(taps.weight[i * taps.most + j], precision));
          }
        }
        even[g * padded + x] = int32_t(w[0] | w[2] << 16);
        odd[g * padded + x] = int32_t(w[1] | w[3] << 16);
      }
    }
  }

  // out[0..padded) from one row of the box.
  void run(const uint8_t* row, uint8_t* out) const {
    const Ints low_bytes = every(0x00ff00ff), rounding = every(1 << (precision - 1));
    for (int64_t x = 0; x < padded; x += kLanes) {
      const Ints at = load_ints(start.get() + x);
      Ints sum = rounding;
      for (int64_t g = 0; g < groups; ++g) {
        const Ints four = gather_four_bytes(row + 4 * g, at);
        sum += dot_pairs(four & low_bytes, load_ints(even.get() + g * padded + x));
        sum += dot_pairs((four >> 8) & low_bytes, load_ints(odd.get() + g * padded + x));
      }
      const Ints value = sum >> precision;
      store_bytes(out + x, value > 255 ? every(255) : value);
    }
  }

  Taps<double> taps;
  int64_t padded, groups;
  Scratch<int32_t> start, even, odd;  // [padded], [groups, padded] pairs of weights (0, 2) and (1, 3)
  int precision = 0;
};

// Across rows: each weight times a stretch of one row.
struct ByteRows {
  ByteRows(int64_t most_inputs, int64_t outputs, bool antialias)
      : taps(most_inputs, outputs, antialias), whole(outputs * taps.most) {}
  using Element = uint8_t;

  void set(int64_t input, int64_t output, bool antialias) {
    find_taps(input, output, antialias, taps);
    precision = precision_of(largest_weight(taps, output));
    for (int64_t i = 0; i < output; ++i) {
      int32_t* const weight = whole.get() + i * taps.most;
      for (int64_t j = 0; j < taps.count[i]; ++j) weight[j] = whole_weight(taps.weight[i * taps.most + j], precision);
      while (taps.count[i] > 1 && weight[taps.count[i] - 1] == 0) --taps.count[i];
    }
  }

  void run(int64_t y, const uint8_t* rows, int64_t row_stride, int64_t width, float* out) const {
    const int32_t* const weight = whole.get() + y * taps.most;
    const uint8_t* const first = rows + taps.first[y] * row_stride;
    for (int64_t x = 0; x < width; x += kLanes) {
      Ints sum = every(1 << (precision - 1));
      for (int64_t j = 0; j < taps.count[y]; ++j) sum += load_bytes(first + j * row_stride + x) * weight[j];
      const Ints value = sum >> precision;
      store_first(out + x, to_floats(value > 255 ? every(255) : value), width - x);
    }
  }

  Taps<double> taps;
  Scratch<int32_t> whole;  // [outputs, taps.most]
  int precision = 0;
};

// ---- float32 -------------------------------------------------------------------------------------------------------

struct FloatColumns {
  FloatColumns(int64_t most_inputs, int64_t outputs, bool antialias)
      : taps(most_inputs, outputs, antialias),
        padded(whole_vectors(outputs)),
        at(taps.most * padded),
        weight(taps.most * padded) {}

  void set(int64_t input, int64_t output, bool flip, bool antialias, int64_t) {
    find_taps(input, output, antialias, taps);
    most = most_taps(int32_t(input), int32_t(output), antialias);
    for (int64_t x = 0; x < padded; ++x) {
      const int64_t i = x < output ? (flip ? output - 1 - x : x) : 0;
      for (int64_t j = 0; j < most; ++j) {
        // Unused taps read the last used one: a NaN beside the window must not enter as 0 * NaN.
        const bool used = j < taps.count[i];
        at[j * padded + x] = int32_t(taps.first[i] + (used ? j : taps.count[i] - 1));
        weight[j * padded + x] = used ? taps.weight[i * taps.most + j] : 0.0f;
      }
    }
  }

  void run(const float* row, float* out) const {
    for (int64_t x = 0; x < padded; x += kLanes) {
      Floats sum{};
      for (int64_t j = 0; j < most; ++j)
        sum += gather_floats(row, load_ints(at.get() + j * padded + x)) * load(weight.get() + j * padded + x);
      store(out + x, sum);
    }
  }

  static constexpr int64_t groups = 0;
  Taps<float> taps;
  int64_t padded, most = 0;
  Scratch<int32_t> at;    // [most, padded]
  Scratch<float> weight;  // [most, padded]
};

struct FloatRows {
  FloatRows(int64_t most_inputs, int64_t outputs, bool antialias) : taps(most_inputs, outputs, antialias) {}
  using Element = float;

  void set(int64_t input, int64_t output, bool antialias) { find_taps(input, output, antialias, taps); }

  void run(int64_t y, const float* rows, int64_t row_stride, int64_t width, float* out) const {
    const float* const weight = taps.weight.get() + y * taps.most;
    const float* const first = rows + taps.first[y] * row_stride;
    for (int64_t x = 0; x < width; x += kLanes) {
      Floats sum{};
      for (int64_t j = 0; j < taps.count[y]; ++j) sum += load(first + j * row_stride + x) * weight[j];
      store_first(out + x, sum, width - x);
    }
  }

  Taps<float> taps;
};

// ---- a box of an image ---------------------------------------------------------------------------------------------

struct Box {
  int64_t top, left, height, width;
  bool flip_columns, flip_rows;
};

// Working memory for any box of images up to the given size.
template <class Columns, class Rows>
struct Resample {
  using T = typename Rows::Element;

  Resample(int64_t most_height, int64_t most_width, int64_t height, int64_t width, bool antialias)
      : height(height),
        width(width),
        antialias(antialias),
        columns(most_width, width, antialias),
        rows(most_height, height, antialias),
        narrow(most_height * columns.padded),
        row(most_width + 4 * columns.groups + 4) {}

  void set(const Image& image, const Box& box) {
    // Rows are read where they lie if their pixels are neighbors and a group of taps fits into what is left of them.
    const int64_t groups = (most_taps(int32_t(box.width), int32_t(width), antialias) + 3) / 4;
    in_place = image.column_stride == 1 && image.width >= 4 * groups;
    const int64_t readable = in_place ? image.width - box.left : box.width + 4 * groups;
    columns.set(box.width, width, box.flip_columns, antialias, readable);
    rows.set(box.height, height, antialias);
  }

  // One channel of the box to out [height, width].
  void run(const Image& image, int64_t channel, const Box& box, float* out) {
    const T* const corner = static_cast<const T*>(image.data) + channel * image.channel_stride +
                            box.top * image.row_stride + box.left * image.column_stride;
    int64_t done = 0;
    for (int64_t y = 0; y < height; ++y) {
      const int64_t first = rows.taps.first[y], end = first + rows.taps.count[y];
      for (done = done < first ? first : done; done < end; ++done) {
        const T* const source = corner + done * image.row_stride;
        columns.run(in_place ? source : copied(source, image.column_stride, box.width),
                    narrow.get() + done * columns.padded);
      }
      // fault: flipped rows
      rows.run(y, narrow.get(), columns.padded, width, out + (box.flip_rows ? height - 1 - y : y) * width);
    }
  }

 private:
  const T* copied(const T* source, int64_t stride, int64_t count) {
    for (int64_t x = 0; x < count; ++x) row[x] = source[x * stride];
    return row.get();
  }

  int64_t height, width;
  bool antialias, in_place = false;
  Columns columns;
  Rows rows;
  Scratch<T> narrow;  // [box height, padded width]: rows of the box at the width of the view
  Scratch<T> row;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
