// views: images -> augmented, normalized views. One view at a time: the crop box is resized into a canvas of floats
// that stays in the cache, the steps of its program run over stretches of pixels, and the result is written once.
#include "blur.h"
#include "color.h"
#include "cpu/dispatch/kernels.h"
#include "finalize.h"
#include "resample.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// A stretch of three channels stays in the L1 cache while the steps of a run pass over it.
constexpr int64_t kStretch = 1024;

struct Instruction {
  Step step;
  float value;
};

template <bool bytes>
void apply(const Instruction& instruction, const Canvas& c, int64_t first, int64_t last, float mean) {
  const float value = instruction.value;
  switch (instruction.step) {
    case Step::brightness:
      return Color<bytes>::brightness(c, first, last, value);
    case Step::contrast:
      return Color<bytes>::contrast(c, first, last, value, mean);
    case Step::saturation:
      return Color<bytes>::saturation(c, first, last, value);
    case Step::hue:
      return Color<bytes>::hue(c, first, last, value);
    case Step::gray:
      return Color<bytes>::gray(c, first, last);
    case Step::invert:
      return Color<bytes>::invert(c, first, last);
    case Step::solarize:
      return Color<bytes>::solarize(c, first, last, value);
    case Step::blur:
    case Step::none:
      return;
  }
}

bool needs_color(Step step) { return step == Step::saturation || step == Step::hue || step == Step::gray; }

// Steps pass over the canvas together up to the next one that must see all of it: blur, and the mean for contrast.
template <bool bytes>
void run_program(const Instruction* program, int64_t length, const Canvas& c, Blur& blur) {
  for (int64_t i = 0; i < length;) {
    if (program[i].step == Step::blur) {
      blur.run(c, program[i++].value, bytes);
      continue;
    }
    const float mean = program[i].step == Step::contrast ? Color<bytes>::mean_luma(c) : 0.0f;
    int64_t end = i + 1;
    // fault: steps of a pass
    while (end < length && program[end].step != Step::blur && program[end].step != Step::contrast) ++end;
    for (int64_t pixel = 0; pixel < c.pixels; pixel += kStretch) {
      const int64_t last = c.pixels - pixel < kStretch ? c.pixels : pixel + kStretch;
      for (int64_t k = i; k < end; ++k) apply<bytes>(program[k], c, pixel, last, mean);
    }
    i = end;
  }
}

template <class T>
void write(const Views& op, int64_t view, const Normalize& normal, const Canvas& c) {
  T* const out = static_cast<T*>(op.out) + view * op.channels * c.pixels;
  if (op.channels_last && op.channels == 3)
    write_pixels(normal, c, out);
  else
    write_planes(normal, c, out);
  if (op.hidden) {
    const int64_t patches = (op.height / op.patch) * (op.width / op.patch);
    hide_patches(op, op.hidden + view * patches, out);
  }
}

template <bool bytes, class Resampler>
void make_views(const Views& op, int64_t first, int64_t last) {
  int64_t most_height = 1, most_width = 1;
  for (int64_t image = first / op.views; image * op.views < last; ++image) {
    if (op.sources[image].height > most_height) most_height = op.sources[image].height;
    if (op.sources[image].width > most_width) most_width = op.sources[image].width;
  }
  const int64_t pixels = op.height * op.width, stride = whole_vectors(pixels) + kLanes;
  Resampler resample(most_height, most_width, op.height, op.width, op.antialias);
  Blur blur(op.height, op.width, op.blur_size);
  const Scratch<float> memory(op.channels * stride);
  const Canvas canvas{memory.get(), op.channels, pixels, stride};
  const Normalize normal(op);

  for (int64_t view = first; view < last; ++view) {
    const Image& image = op.sources[view / op.views];
    const float* const row = op.params + view * kViewColumns;
    const Box box{int64_t(row[0]), int64_t(row[1]), int64_t(row[2]), int64_t(row[3]), row[4] != 0, row[5] != 0};
    resample.set(image, box);
    for (int64_t channel = 0; channel < op.channels; ++channel)
      resample.run(image, channel, box, canvas.data + channel * stride);

    Instruction program[kViewSteps];
    int64_t length = 0;
    for (int64_t k = 0; k < kViewSteps; ++k) {
      const Step step = Step(int32_t(row[6 + 2 * k]));
      if (step == Step::none || (op.channels == 1 && needs_color(step))) continue;  // fault: steps of gray views
      program[length++] = {step, row[7 + 2 * k]};
    }
    run_program<bytes>(program, length, canvas, blur);

    if (op.dtype == DType::bfloat16)
      write<bf16>(op, view, normal, canvas);
    else if (op.dtype == DType::float16)
      write<f16>(op, view, normal, canvas);
    else
      write<float>(op, view, normal, canvas);
  }
}

}  // namespace

void views(const Views& op, const WorkRange& range) {
  if (range.first >= range.last) return;
  if (op.pixel == Pixel::uint8)
    make_views<true, Resample<ByteColumns, ByteRows>>(op, range.first, range.last);
  else
    make_views<false, Resample<FloatColumns, FloatRows>>(op, range.first, range.last);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
