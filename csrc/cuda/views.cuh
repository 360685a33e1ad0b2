// views: images -> augmented, normalized views, [images, views, channels, height, width].
//
// One launch; a block makes one view at a time, whole: the mean for contrast and the neighbors for blur are then a
// barrier away, and no table of parameters has to be read by the host to know what to launch. A view is made in stages,
// one more than it has contrasts and blurs. A stage takes each pixel from its source (the resized box, the pixels of
// the stage before, or those blurred), applies the steps up to the next contrast or blur in registers, and writes it:
// the last stage to the result, normalized, the others to a canvas, which is a byte a channel for uint8 images and
// stays in the L2 cache.
//
// Resizing and blurring are separable. A tile of columns is filtered along its rows into the arena, in shared memory,
// as many rows as fit, and then across them: an image is read from DRAM once.
#pragma once
#include "elements.cuh"
#include "views_colors.cuh"
#include "views_taps.cuh"

namespace memkern {

// Images of one size that lie one `step` (bytes) apart.
struct ImageRun {
  Image first;
  int64_t step, before;  // images of the runs before
};
struct ImageRuns {
  ImageRun run[kViewRuns];
  int64_t first_view, last_view;  // of the launch
  int32_t count;
};

// What a block has of the scratch memory: bytes from its beginning.
struct ViewMemory {
  int64_t bytes;
  int64_t columns[3], rows[3];  // first, count and weight of each axis
  int64_t bell, canvas[2], arena;
  int64_t arena_bytes;  // if the arena is not in shared memory
};

struct Box {
  int top, left, height, width;
  bool flip_columns, flip_rows;
};

__device__ __forceinline__ Image image_of(const ImageRuns& runs, int64_t index) {
  int r = 0;
  while (r + 1 < runs.count && index >= runs.run[r + 1].before) ++r;
  Image image = runs.run[r].first;
  image.data = static_cast<const char*>(image.data) + (index - runs.run[r].before) * runs.run[r].step;
  return image;
}

// The host cannot check a table that lies on the device: a box outside of its image is moved inside.
__device__ __forceinline__ Box box_of(const float* row, const Image& image) {
  const auto within = [](float x, int low, int high) {
    return x >= float(low) ? (x < float(high) ? int(x) : high) : low;  // NaN: low
  };
  Box box;
  box.height = within(row[2], 1, int(image.height));
  box.width = within(row[3], 1, int(image.width));
  box.top = within(row[0], 0, int(image.height) - box.height);
  box.left = within(row[1], 0, int(image.width) - box.width);
  box.flip_columns = row[4] != 0;
  box.flip_rows = row[5] != 0;
  return box;
}

// Pixels [i] of a stage are finished by the steps [begin, end).
struct Stage {
  int begin, end;
  float mean;   // for a contrast at `begin`
  double luma;  // sum over the pixels that this thread finished
};

// Tiles that fit an arena: `rows` filtered rows of `width` columns, a power of two.
struct Tile {
  int width, rows;
};

// One block and its view. P: uint8_t or float, the type of a pixel.
template <class P>
struct ViewBlock {
  static constexpr bool bytes = sizeof(P) == 1;

  const Views& op;
  const ViewMemory& memory;
  char* own;         // scratch memory of the block
  const float* row;  // parameters of the view, in shared memory
  char* arena;
  int arena_bytes, precision_of_columns, precision_of_rows;
  int64_t view;
  bool swapped;  // which canvas is which

  __device__ __forceinline__ int height() const { return int(op.height); }
  __device__ __forceinline__ int width() const { return int(op.width); }
  __device__ __forceinline__ int channels() const { return int(op.channels); }
  __device__ __forceinline__ int64_t pixels() const { return op.height * op.width; }
  __device__ __forceinline__ Axis<P> columns() const { return {own, memory.columns, width()}; }
  __device__ __forceinline__ Axis<P> rows() const { return {own, memory.rows, height()}; }
  __device__ __forceinline__ float* bell() const { return reinterpret_cast<float*>(own + memory.bell); }
  // [channels, height, width]
  __device__ __forceinline__ P* canvas(bool other) const {
    return reinterpret_cast<P*>(own + (other != swapped ? memory.canvas[1] : memory.canvas[0]));
  }
  __device__ __forceinline__ Step step(int k) const { return Step(int32_t(row[6 + 2 * k])); }
  __device__ __forceinline__ float value(int k) const { return row[7 + 2 * k]; }

  // The next step that needs the whole view, from step k on; kViewSteps: none.
  __device__ __forceinline__ int next_stop(int k) const {
    while (k < kViewSteps && step(k) != Step::contrast && !(step(k) == Step::blur && op.blur_size > 0)) ++k;
    return k;
  }

  __device__ __forceinline__ void make(const Image& image) {
    const Box box = box_of(row, image);
    precision_of_columns = find_taps<P>(box.width, op.antialias, columns());
    precision_of_rows = find_taps<P>(box.height, op.antialias, rows());
    __syncthreads();
    Stage stage{0, next_stop(0), 0, 0};
    resize(image, box, stage);
    while (stage.end < kViewSteps) {
      const int stop = stage.end;
      const double luma = block_sum(stage.luma);  // its barriers are the canvas's, too
      stage = {stop, next_stop(stop + 1), float(luma) / float(pixels()), 0};
      if (step(stop) == Step::contrast) {
        again(stage);
      } else {
        ++stage.begin;
        find_bell(int(op.blur_size), value(stop), bell());
        __syncthreads();
        blur(stage);
        swapped = !swapped;
      }
    }
  }

  // ---- sources ----------------------------------------------------------------------------------------------------

  // From the box of the image. Tiles and taps are those of the view before it is flipped.
  __device__ __forceinline__ void resize(const Image& image, const Box& box, Stage& stage) {
    const Axis<P> columns = this->columns(), rows = this->rows();
    const int most = most_taps(box.height, height(), op.antialias), channels = this->channels();
    const Tile tile = tile_of(most, sizeof(P));
    P* const along = reinterpret_cast<P*>(arena);  // [rows, channels, tile.width]
    const P* const corner =
        static_cast<const P*>(image.data) + box.top * image.row_stride + box.left * image.column_stride;
    each_tile(tile, rows_at_once(tile, most, box.height), [&](int x, int y, int end, int at) {
      const int first = rows.first(y), last = rows.first(end - 1) + rows.count(end - 1);
      each_row(tile, x, (last - first) * channels, [&](int i) {
        const int line = channels == 1 ? i : i / 3, channel = i - line * channels;
        const P* const from = corner + channel * image.channel_stride + (first + line) * image.row_stride +
                              columns.first(x) * image.column_stride;
        along[i * tile.width + at] = filtered(columns, x, precision_of_columns, from, image.column_stride);
      });
      __syncthreads();
      each_row(tile, x, end - y, [&](int i) {
        const P* const from = along + (rows.first(y + i) - first) * channels * tile.width + at;
        const auto channel = [&](int c) {
          return float(filtered(rows, y + i, precision_of_rows, from + c * tile.width, channels * tile.width));
        };
        finish(pixel(channel), box.flip_columns ? width() - 1 - x : x, box.flip_rows ? height() - 1 - y - i : y + i,
               canvas(false), stage);
      });
    });
  }

  // The sum over the taps of output `i` of an axis; of uint8 images rounded to uint8.
  template <class Stride>
  __device__ __forceinline__ P filtered(const Axis<P>& axis, int i, int precision, const P* from, Stride stride) const {
    const int count = axis.count(i);
    const typename Weights<P>::Stored* const weight = axis.weights() + i;
    if constexpr (bytes) {
      int32_t sum = 1 << (precision - 1);
#pragma unroll 2
      for (int j = 0; j < count; ++j) {
        MEMKERN_COUNT_LOAD(from + j * stride, sizeof(P));
        sum += int32_t(from[j * stride]) * weight[j * axis.outputs];
      }
      sum >>= precision;
      return P(sum > 255 ? 255 : sum);
    } else {
      float sum = 0;
#pragma unroll 2
      for (int j = 0; j < count; ++j) {
        MEMKERN_COUNT_LOAD(from + j * stride, sizeof(P));
        sum += product(from[j * stride], weight[j * axis.outputs]);
      }
      return sum;
    }
  }

  // From the canvas, as it is.
  __device__ __forceinline__ void again(Stage& stage) {
    P* const from = canvas(false);
    for (int y = int(threadIdx.x) / kWarp; y < height(); y += int(blockDim.x) / kWarp)
      for (int x = lane_index(); x < width(); x += kWarp) {
        const int64_t at = int64_t(y) * width() + x;
        finish(pixel([&](int c) { return float(from[c * pixels() + at]); }), x, y, from, stage);
      }
  }

  // From the canvas, blurred, to the other one. Beyond its edges the view continues as in a mirror.
  __device__ __forceinline__ void blur(Stage& stage) {
    const int taps = int(op.blur_size), half = taps / 2, channels = this->channels();
    const auto mirrored = [](int i, int size) { return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i; };
    const Tile tile = tile_of(taps, sizeof(float));
    const float* const weight = bell();
    const P* const source = canvas(false);
    float* const along = reinterpret_cast<float*>(arena);  // [rows, channels, tile.width]
    each_tile(tile, tile.rows - taps + 1, [&](int x, int y, int end, int at) {
      each_row(tile, x, (end - y + taps - 1) * channels, [&](int i) {
        const int line = channels == 1 ? i : i / 3, channel = i - line * channels;
        const P* const from = source + channel * pixels() + int64_t(mirrored(y - half + line, height())) * width();
        float sum = 0;
        for (int j = 0; j < taps; ++j) sum = fmaf(float(from[mirrored(x + j - half, width())]), weight[j], sum);
        along[i * tile.width + at] = sum;
      });
      __syncthreads();
      each_row(tile, x, end - y, [&](int i) {
        const auto channel = [&](int c) {
          float sum = 0;
          for (int j = 0; j < taps; ++j) sum = fmaf(along[((i + j) * channels + c) * tile.width + at], weight[j], sum);
          return bytes ? rintf(sum) : sum;
        };
        finish(pixel(channel), x, y + i, canvas(true), stage);
      });
    });
  }

  template <class Channel>
  __device__ __forceinline__ Rgb pixel(const Channel& channel) const {
    return op.channels == 1 ? Rgb{channel(0), 0, 0} : Rgb{channel(0), channel(1), channel(2)};
  }

  // ---- tiles ------------------------------------------------------------------------------------------------------

  // The widest tile, up to a warp, of which `needed` rows fit the arena. At width 1 they always do.
  __device__ __forceinline__ Tile tile_of(int needed, int element) const {
    const int columns = arena_bytes / (element * channels());
    Tile tile{kWarp, 0};
    while (tile.width > 1 && (tile.width / 2 >= width() || columns / tile.width < needed)) tile.width /= 2;
    tile.rows = columns / tile.width;
    return tile;
  }

  // Outputs whose taps span no more than a tile: neighbors begin input / output apart, the last has `most` taps, and
  // one is spare for rounding.
  __device__ __forceinline__ int rows_at_once(const Tile& tile, int most, int input) const {
    if (tile.rows <= most) return 1;
    const int64_t more = int64_t(tile.rows - most - 1) * height() / input;
    return more < height() ? int(more) + 1 : height();
  }

  // Calls body(column of this thread, first row, last row + 1, column in the tile) for every tile; between two calls
  // the arena may be written anew.
  template <class Body>
  __device__ __forceinline__ void each_tile(const Tile& tile, int at_once, const Body& body) const {
    const int at = int(threadIdx.x) % tile.width;
    for (int x = 0; x < width(); x += tile.width)
      for (int y = 0; y < height(); y += at_once) {
        body(x + at, y, y + at_once < height() ? y + at_once : height(), at);
        __syncthreads();
      }
  }

  // Calls body(i) for the rows [0, count) of a tile that are this thread's, if its column x is in the view.
  template <class Body>
  __device__ __forceinline__ void each_row(const Tile& tile, int x, int count, const Body& body) const {
    const int threads = x < width() ? count : 0;
    for (int i = int(threadIdx.x) / tile.width; i < threads; i += int(blockDim.x) / tile.width) body(i);
  }

  // ---- sinks ------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ void finish(Rgb p, int x, int y, P* to, Stage& stage) const {
#pragma unroll 1
    for (int k = stage.begin; k < stage.end; ++k)
      p = Color<bytes>::apply(step(k), value(k), stage.mean, p, op.channels == 3);
    if (stage.end == kViewSteps) return write(p, x, y);
    to += int64_t(y) * width() + x;
    to[0] = P(p.r);
    if (op.channels == 3) to[pixels()] = P(p.g), to[2 * pixels()] = P(p.b);
    stage.luma += double(op.channels == 1 ? p.r : Color<bytes>::luma(p));
  }

  __device__ __forceinline__ void write(const Rgb& p, int x, int y) const {
    bool hidden = false;
    if (op.hidden) {
      const int patch = int(op.patch), across = width() / patch, down = height() / patch;
      hidden = op.hidden[(view * down + y / patch) * across + x / patch];
    }
    const int64_t at = int64_t(y) * width() + x;
    const auto put = [&](int c, float x) {
      x = hidden ? 0.0f : (product(x, bytes ? float(1.0 / 255.0) : 1.0f) - op.mean[c]) * (1.0f / op.std[c]);
      const int64_t to =
          op.channels_last ? (view * pixels() + at) * op.channels + c : (view * op.channels + c) * pixels() + at;
      if (op.dtype == DType::bfloat16) return narrow(x, static_cast<bf16*>(op.out)[to]);
      if (op.dtype == DType::float16) return narrow(x, static_cast<f16*>(op.out)[to]);
      static_cast<float*>(op.out)[to] = x;
    };
    put(0, p.r);
    if (op.channels == 3) put(1, p.g), put(2, p.b);
  }
};

// grid: x = blocks, each of which takes every so many-th view.  arena_bytes: of shared memory; 0: in scratch memory
template <class P, int threads, int arena_bytes>
__global__ void __launch_bounds__(threads, arena_bytes > 0 ? kViewBlocksPerSm * kViewThreads / threads : 2)
    make_views(const Views op, const ImageRuns runs, const ViewMemory memory, char* scratch) {
  MEMKERN_SHARED(float[kViewColumns], row);
  char* const own = scratch + int64_t(blockIdx.x) * memory.bytes;
  char* arena = own + memory.arena;
  if constexpr (arena_bytes > 0) {
    MEMKERN_SHARED(double[arena_bytes / 8], shared_arena);
    arena = reinterpret_cast<char*>(&shared_arena[0]);
  }
  const int fits = arena_bytes > 0 ? arena_bytes : int(memory.arena_bytes);
  for (int64_t view = runs.first_view + blockIdx.x; view < runs.last_view; view += gridDim.x) {
    __syncthreads();  // the view before needs its row no longer
    for (int k = int(threadIdx.x); k < kViewColumns; k += threads) row[k] = op.params[view * kViewColumns + k];
    __syncthreads();
    ViewBlock<P>{op, memory, own, &row[0], arena, fits, 0, 0, view, false}.make(image_of(runs, view / op.views));
  }
}

}  // namespace memkern
