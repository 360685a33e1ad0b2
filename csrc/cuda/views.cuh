// views: images -> augmented, normalized views, [images, views, channels, height, width].
//
// One launch; a block makes one view at a time, whole: the mean for contrast and the neighbors for blur are then a
// barrier away, and no table of parameters has to be read by the host to know what to launch. The box is resized into a
// canvas, a byte a channel for uint8 images, which stays in the L2 cache. Stages follow, one more than the view has
// contrasts and blurs: each takes the pixels of the canvas, four at a time, through the steps up to the next contrast
// or blur in registers, and puts them back or, the last stage, writes the result, normalized. A blur takes the view to
// another canvas.
//
// Resizing and blurring are separable. A tile of columns is filtered along its rows into the arena, in shared memory,
// as many rows as fit, and then across them: an image is read from DRAM once.
#pragma once
#include "elements.cuh"
#include "views_colors.cuh"
#include "views_table.cuh"
#include "views_taps.cuh"

namespace memkern {

// Scratch memory of a block: bytes from its beginning.
struct ViewMemory {
  int64_t bytes;
  int64_t columns[3], rows[3];  // first, count and weight of each axis
  int64_t bell, canvas[2], arena;
  int64_t arena_bytes;  // if the arena is not in shared memory
  float inverse[3];     // 1 / std
  bool packs;           // four results of a row can be written at once
};

// Tiles that fit an arena: `rows` filtered rows of 2^bits columns, at least a quad.
struct Tile {
  int bits, rows;
  __device__ __forceinline__ int width() const { return 1 << bits; }
};

// One block and its view. P: uint8_t or float, the type of a pixel.
template <class P>
struct ViewBlock {
  static constexpr bool bytes = sizeof(P) == 1;

  const Views& op;
  const ViewMemory& memory;
  View& view;
  char* own;  // scratch memory of the block
  float* arena;
  int arena_size;  // floats
  bool swapped;    // which canvas is which

  __device__ __forceinline__ int height() const { return int(op.height); }
  __device__ __forceinline__ int width() const { return int(op.width); }
  __device__ __forceinline__ int channels() const { return int(op.channels); }
  // Rows of a canvas are whole quads.
  __device__ __forceinline__ int quads() const { return (width() + kQuad - 1) / kQuad; }
  __device__ __forceinline__ int64_t plane() const { return op.height * quads() * kQuad; }
  // [channels, height, quads * kQuad]
  __device__ __forceinline__ P* canvas(bool other) const {
    return reinterpret_cast<P*>(own + (other != swapped ? memory.canvas[1] : memory.canvas[0]));
  }
  __device__ __forceinline__ Axis axis(const int64_t (&part)[3], int outputs) const {
    return {outputs, reinterpret_cast<int32_t*>(own + part[0]), reinterpret_cast<int32_t*>(own + part[1]),
            reinterpret_cast<float*>(own + part[2])};
  }

  // The next step that needs the whole view, or the last, from step k on.
  __device__ __forceinline__ int next_stop(int k) const {
    while (view.step[k] != Step::none && view.step[k] != Step::contrast && view.step[k] != Step::blur) ++k;
    return k;
  }

  __device__ __forceinline__ void make() {
    const Precisions precision = find_taps<P>(view.box.width, view.box.height, op.antialias,
                                              axis(memory.columns, width()), axis(memory.rows, height()));
    if (threadIdx.x == 0) view.precision = precision;
    __syncthreads();
    resize(view.image, view.box, view.precision);
    float mean = 0;
    for (int begin = 0, end = next_stop(0);; end = next_stop(end + 1)) {
      const Step next = view.step[end];
      if (next == Step::none) {
        stage(begin, end, mean, true);
        return;
      }
      const double luma = begin < end || next == Step::contrast ? stage(begin, end, mean, false) : 0;
      mean = float(block_sum(luma)) / float(op.height * op.width);  // its barriers are the canvas's, too
      begin = end;
      if (next == Step::blur) blur(view.value[begin++]);
    }
  }

  // ---- resize -----------------------------------------------------------------------------------------------------

  // The box of the image to the canvas. Rows and their taps are those of the view before it is flipped.
  __device__ __forceinline__ void resize(const Image& image, const Box& box, const Precisions& precision) {
    const Axis columns = axis(memory.columns, width()), rows = axis(memory.rows, height());
    const bool few_columns = few_taps(box.width, width(), op.antialias);
    const bool few_rows = few_taps(box.height, height(), op.antialias);
    const int most = most_taps(box.height, height(), op.antialias);
    const Tile tile = tile_of(most, channels());
    each_tile(tile, rows_at_once(tile, most, box.height), [&](int x, int y, int end, int at) {
      const int first = rows.first[y], lines = rows.first[end - 1] + rows.count[end - 1] - first;
      if (few_columns)
        along_rows<typename Filter<P>::Few>(image, box, columns, precision.columns, tile, x, at, first, lines);
      else
        along_rows<typename Filter<P>::Many>(image, box, columns, precision.columns, tile, x, at, first, lines);
      __syncthreads();
      if (few_rows)
        across_rows<typename Filter<P>::Few>(box, rows, precision.rows, tile, x - at, y, end, first);
      else
        across_rows<typename Filter<P>::Many>(box, rows, precision.rows, tile, x - at, y, end, first);
    });
  }

  // Lines [first, first + lines) of the box into the arena, [channels, tile.rows, tile.width()]. A thread keeps to a
  // column and its taps; beyond the last column, where a quad may end, that is repeated.
  template <class Taps>
  __device__ __forceinline__ void along_rows(const Image& image, const Box& box, const Axis& columns, int precision,
                                             const Tile& tile, int x, int at, int first, int lines) const {
    if (x >= quads() * kQuad) return;
    const int column = x < width() ? x : width() - 1, i = box.flip_columns ? width() - 1 - column : column;
    const Taps taps(columns, i);
    const Filter<P> filter(precision);
    const int begin = int(threadIdx.x) >> tile.bits, step = int(blockDim.x) >> tile.bits;
    const int64_t stride = image.column_stride, next = step * image.row_stride;
    for (int c = 0; c < channels(); ++c) {
      // fault: box of a view
      const P* from = static_cast<const P*>(image.data) + c * image.channel_stride +
                      (box.top + first + begin) * image.row_stride + (box.left + columns.first[i]) * stride;
      float* const to = arena + c * tile.rows * tile.width() + at;
#pragma unroll 2
      for (int line = begin; line < lines; line += step, from += next) {
        float sum[1];
        filter(
            taps,
            [&](int j, float (&value)[1]) {
              MEMKERN_COUNT_LOAD(from + j * stride, sizeof(P));
              value[0] = float(load_constant(from + j * stride));
            },
            sum);
        to[line * tile.width()] = bytes ? whole_part(sum[0]) : sum[0];
      }
    }
  }

  // From the arena to rows [y, end) of the canvas, a quad at a time.
  template <class Taps>
  __device__ __forceinline__ void across_rows(const Box& box, const Axis& rows, int precision, const Tile& tile, int x,
                                              int y, int end, int first) const {
    const Filter<P> filter(precision);
    each_quad_of_tile(tile, x, y, end, 1, [&](int column, int row, int at) {
      const Taps taps(rows, row);
      const float* from = arena + (rows.first[row] - first) * tile.width() + at;
      P* to = canvas(false) + int64_t(box.flip_rows ? height() - 1 - row : row) * (quads() * kQuad) + column;
      for (int c = 0; c < channels(); ++c) {
        float sum[kQuad];
        filter(taps, [&](int j, float (&value)[kQuad]) { load_quad(from + j * tile.width(), value); }, sum);
        store_quad<false>(sum, to);
        from += tile.rows * tile.width();
        to += plane();
      }
    });
  }

  // ---- blur -------------------------------------------------------------------------------------------------------

  // From the canvas to the other one, a channel at a time. Beyond its edges the view continues as in a mirror.
  __device__ __forceinline__ void blur(float sigma) {
    const int taps = int(op.blur_size), half = taps / 2;
    // A quad of sums starts `reach` before its pixels, at a quad, with weights of 0 until the first tap.
    const int reach = (half + kQuad - 1) / kQuad * kQuad, zeros = reach - half + kQuad - 1;
    const int length = (zeros + taps + kQuad - 1) / kQuad * kQuad;
    float* const weight = reinterpret_cast<float*>(own + memory.bell);
    find_bell(taps, sigma, zeros, length + kQuad, weight);
    __syncthreads();
    const Tile tile = tile_of(taps, 1);
    const P* const source = canvas(false);  // fault: canvas of a blur
    for (int c = 0; c < channels(); ++c)
      each_tile(tile, tile.rows - taps + 1, [&](int x, int y, int end, int at) {
        const int lines = end - y + taps - 1;
        each_quad_of_tile(tile, x - at, 0, lines, 1, [&](int column, int line, int to) {
          const P* const from = source + c * plane() + int64_t(mirrored(y - half + line, height())) * (quads() * kQuad);
          float sum[kQuad] = {}, near[2 * kQuad], value[kQuad];
          load_half(weight, near);
          for (int m = 0; m < length; m += kQuad) {
            shift_half(near);
            load_half(weight + m + kQuad, near);
            load_mirrored(from, column - reach + m, value);
#pragma unroll
            for (int k = 0; k < kQuad; ++k)
#pragma unroll
              for (int i = 0; i < kQuad; ++i)
                if (is_tap(m + k - i + kQuad - 1 - zeros)) sum[i] = fmaf(value[k], near[k - i + kQuad - 1], sum[i]);
          }
          store_quad<false>(sum, arena + line * tile.width() + to);
        });
        __syncthreads();
        each_quad_of_tile(tile, x - at, y, end, kQuad, [&](int column, int row, int from) {
          float sum[kQuad][kQuad] = {}, near[kQuad] = {}, value[kQuad];
#pragma unroll 4
          for (int m = 0; m < taps + kQuad - 1; ++m) {
            const int line = row - y + m < lines ? row - y + m : lines - 1;
            load_quad(arena + line * tile.width() + from, value);
#pragma unroll
            for (int i = kQuad - 1; i > 0; --i) near[i] = near[i - 1];
            near[0] = weight[zeros + m];
#pragma unroll
            for (int i = 0; i < kQuad; ++i)
#pragma unroll
              for (int k = 0; k < kQuad; ++k)
                if (is_tap(m - i)) sum[i][k] = fmaf(value[k], near[i], sum[i][k]);
          }
#pragma unroll
          for (int i = 0; i < kQuad; ++i)
            if (row + i < end)
              store_quad<true>(sum[i], canvas(true) + c * plane() + int64_t(row + i) * (quads() * kQuad) + column);
        });
      });
    swapped = !swapped;
  }

  // True if tap t counts. Of uint8 images all do, those beyond the weights for 0; NaN would not.
  __device__ __forceinline__ bool is_tap(int t) const { return bytes || (t >= 0 && t < int(op.blur_size)); }

  // Weights of two quads, of which the second is loaded and becomes the first.
  static __device__ __forceinline__ void load_half(const float* from, float (&near)[2 * kQuad]) {
    float quad[kQuad];
    load_quad(from, quad);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) near[kQuad + i] = quad[i];
  }
  static __device__ __forceinline__ void shift_half(float (&near)[2 * kQuad]) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) near[i] = near[kQuad + i];
  }

  static __device__ __forceinline__ int mirrored(int i, int size) {
    const int inside = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
    return inside < 0 ? 0 : inside < size ? inside : size - 1;  // where there is no tap
  }
  __device__ __forceinline__ void load_mirrored(const P* from, int column, float (&to)[kQuad]) const {
    if (column >= 0 && column + kQuad <= width()) return load_quad(from + column, to);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) to[i] = float(from[mirrored(column + i, width())]);
  }

  // ---- tiles ------------------------------------------------------------------------------------------------------

  // The widest tile, up to a warp, of which `needed` rows of `planes` fit the arena. At width 8 they always do.
  __device__ __forceinline__ Tile tile_of(int needed, int planes) const {
    const int columns = arena_size / planes;
    Tile tile{5, 0};
    while (tile.width() > kQuad && (tile.width() / 2 >= width() || columns >> tile.bits < needed)) --tile.bits;
    tile.rows = columns >> tile.bits;
    return tile;
  }

  // Outputs whose taps span no more than a tile: neighbors begin input / output apart, the last has `most` taps, and
  // one is spare for rounding.
  __device__ __forceinline__ int rows_at_once(const Tile& tile, int most, int input) const {
    if (tile.rows <= most) return 1;
    const int64_t more = int64_t(tile.rows - most - 1) * height() / input;  // fault: rows of a tile
    return more < height() ? int(more) + 1 : height();
  }

  // Calls body(column of this thread, first row, last row + 1, column in the tile) for every tile; between two calls
  // the arena may be written anew.
  template <class Body>
  __device__ __forceinline__ void each_tile(const Tile& tile, int at_once, const Body& body) const {
    const int at = int(threadIdx.x) & (tile.width() - 1);
    for (int x = 0; x < width(); x += tile.width())
      for (int y = 0; y < height(); y += at_once) {
        body(x + at, y, y + at_once < height() ? y + at_once : height(), at);
        __syncthreads();  // fault: next tile
      }
  }

  // Calls body(column, row, column in the tile) for this thread's quads of a tile that begins at column x, in every
  // `each`th of the rows [y, end).
  template <class Body>
  __device__ __forceinline__ void each_quad_of_tile(const Tile& tile, int x, int y, int end, int each,
                                                    const Body& body) const {
    const int bits = tile.bits - 2, at = (int(threadIdx.x) & ((1 << bits) - 1)) * kQuad;
    if (x + at >= width()) return;
    for (int row = y + (int(threadIdx.x) >> bits) * each; row < end; row += (int(blockDim.x) >> bits) * each)
      body(x + at, row, at);
  }

  // ---- stages -----------------------------------------------------------------------------------------------------

  // Takes the canvas through the steps [begin, end), back or, at last, to the result. `mean`: for a contrast at
  // `begin`. Returns the sum of the luma of the pixels that this thread finished.
  __device__ __forceinline__ double stage(int begin, int end, float mean, bool at_last) const {
    double luma = 0;
    // A quad after the other, as many apart as there are threads.
    const int across = quads(), rows = int(blockDim.x) / across, more = int(blockDim.x) - rows * across;
    int y = int(threadIdx.x) / across, x = int(threadIdx.x) - y * across;
    for (; y < height(); y += rows, x += more) {
      if (x >= across) {
        x -= across;
        if (++y >= height()) break;
      }
      P* const at = canvas(false) + (int64_t(y) * across + x) * kQuad;
      Pixels p = {};
      load_quad(at, p.channel[0]);
      if (channels() == 3) load_quad(at + plane(), p.channel[1]), load_quad(at + 2 * plane(), p.channel[2]);
#pragma unroll 1
      for (int k = begin; k < end; ++k) Color<bytes>::apply(view.step[k], view.value[k], mean, p);
      if (at_last) {
        write(p, x * kQuad, y);
        continue;
      }
      if (begin < end) {
        store_quad<false>(p.channel[0], at);
        if (channels() == 3)
          store_quad<false>(p.channel[1], at + plane()), store_quad<false>(p.channel[2], at + 2 * plane());
      }
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (x * kQuad + i < width()) sum += channels() == 3 ? Color<bytes>::luma(p, i) : p.channel[0][i];
      luma += double(sum);
    }
    return luma;
  }

  // The quad at column x of row y.
  __device__ __forceinline__ void write(Pixels& p, int x, int y) const {
#pragma unroll
    for (int c = 0; c < 3; ++c)
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        p.channel[c][i] =
            (product(p.channel[c][i], bytes ? float(1.0 / 255.0) : 1.0f) - op.mean[c]) * memory.inverse[c];
    if (op.hidden) {
      const int patch = int(op.patch), across = width() / patch, down = height() / patch;
      const uint8_t* const hidden = op.hidden + (view.index * down + y / patch) * across;
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (x + i < width() && hidden[(x + i) / patch]) p.channel[0][i] = p.channel[1][i] = p.channel[2][i] = 0;
    }
    if (op.dtype == DType::bfloat16) return put(p, x, y, static_cast<bf16*>(op.out));
    if (op.dtype == DType::float16) return put(p, x, y, static_cast<f16*>(op.out));
    put(p, x, y, static_cast<float*>(op.out));
  }

  template <class T>
  __device__ __forceinline__ void put(const Pixels& p, int x, int y, T* out) const {
    const int64_t pixels = op.height * op.width, at = int64_t(y) * width() + x;
    const int left = width() - x;
    if (op.channels_last && channels() == 3) {
      T* const to = out + (view.index * pixels + at) * 3;
#pragma unroll
      for (int part = 0; part < 3; ++part) {
        float values[kQuad];
#pragma unroll
        for (int i = 0; i < kQuad; ++i) values[i] = p.channel[(part * kQuad + i) % 3][(part * kQuad + i) / 3];
        put_four(values, 3 * left - part * kQuad, to + part * kQuad);
      }
      return;
    }
    T* const to = out + view.index * op.channels * pixels + at;
    put_four(p.channel[0], left, to);
    if (channels() == 3) put_four(p.channel[1], left, to + pixels), put_four(p.channel[2], left, to + 2 * pixels);
  }

  template <class T>
  __device__ __forceinline__ void put_four(const float (&values)[kQuad], int left, T* to) const {
    if (memory.packs) return store_some(to, kQuad, values);
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      if (i < left) narrow(values[i], to[i]);
  }
};

// grid: x = blocks, each of which takes every so many-th view.  arena_bytes: of shared memory; 0: in scratch memory
template <class P, int threads, int arena_bytes>
__global__ void __launch_bounds__(threads, arena_bytes > 0 ? kViewBlocksPerSm * kViewThreads / threads : 2)
    make_views(const Views op, const ImageRuns runs, const ViewMemory memory, char* scratch) {
  MEMKERN_SHARED(View, view);
  char* const own = scratch + int64_t(blockIdx.x) * memory.bytes;
  float* arena = reinterpret_cast<float*>(own + memory.arena);
  if constexpr (arena_bytes > 0) {
    MEMKERN_SHARED(FourFloats[arena_bytes / sizeof(FourFloats)], shared_arena);
    arena = reinterpret_cast<float*>(&shared_arena[0]);
  }
  const int fits = int((arena_bytes > 0 ? arena_bytes : memory.arena_bytes) / 4);
  int64_t index = runs.first_view + blockIdx.x;
  while (index < runs.last_view) {
    __syncthreads();  // the view before is needed no longer
    find_view(op, runs, index, view);
    __syncthreads();
    ViewBlock<P>{op, memory, view, own, arena, fits, false}.make();
    index = view.index + gridDim.x;
  }
}

}  // namespace memkern
