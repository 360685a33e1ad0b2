// Description of a view, read from the images' descriptions and from its row of the table of parameters.
#pragma once
#include "../ops.h"
#include "cuda_compat.cuh"
#include "launch_constants.h"
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

// Description of a block's view, in shared memory rather than in the registers of every thread.
struct View {
  Image image;
  Box box;
  int64_t index;
  Precisions precision;       // of the weights of its resize
  Step step[kViewSteps + 1];  // those that do something, then Step::none
  float value[kViewSteps + 1];
};

// The first threads of a block find out together; a barrier must follow.
__device__ __forceinline__ void find_view(const Views& op, const ImageRuns& runs, int64_t index, View& view) {
  const float* const row = op.params + index * kViewColumns;
  const auto step_at = [&](int k) {
    const Step step = Step(int32_t(row[6 + 2 * k]));
    const bool color = step == Step::saturation || step == Step::hue || step == Step::gray;
    return (color && op.channels == 1) || (step == Step::blur && op.blur_size == 0) ? Step::none : step;
  };
  const int k = int(threadIdx.x);
  if (k < kViewSteps) {
    int before = 0;
    for (int i = 0; i < k; ++i) before += step_at(i) != Step::none;
    const Step step = step_at(k);
    if (step != Step::none) view.step[before] = step, view.value[before] = row[7 + 2 * k];
    if (k == kViewSteps - 1) view.step[before + (step != Step::none)] = Step::none;
  } else if (k == kViewSteps) {
    view.image = image_of(runs, index / op.views);
    view.box = box_of(row, view.image);
    view.index = index;
  }
}

}  // namespace memkern
