// views: which kernel, with how much memory; images of one size are described once for all of them.
#include <algorithm>

#include "c_api.h"
#include "launch.h"
#include "scratch.h"
#include "views.cuh"

namespace memkern {
namespace {

int64_t pixel_bytes(const Views& op) { return op.pixel == Pixel::uint8 ? 1 : 4; }

struct ViewPlan {
  bool small;      // a quarter of the threads, and of the shared memory, for a block
  bool shared;     // the arena is in shared memory
  int64_t blocks;  // at most
  ViewMemory memory;
};

ViewPlan plan_views(const Views& op) {
  int64_t height = 1, width = 1;
  for (int64_t i = 0; i < op.images; ++i) {
    height = std::max(height, op.sources[i].height);
    width = std::max(width, op.sources[i].width);
  }
  const int64_t pixels = op.height * op.width, row_taps = most_taps(int32_t(height), int32_t(op.height), op.antialias);
  // A row of floats of an arena that is kViewNarrow columns wide, times the rows that one output row reads.
  const int64_t needed = kViewNarrow * 4 * std::max(op.channels * row_taps, op.blur_size);
  ViewPlan plan{};
  plan.small = pixels <= kSmallView && needed <= kSmallArena;
  plan.shared = needed <= kViewArena;
  plan.blocks = plan.small ? kViewBlocks * (kViewThreads / kSmallViewThreads) : kViewBlocks;

  Scratch scratch;
  const auto take = [&](int64_t bytes) {
    const int64_t at = scratch.bytes();
    scratch.take<char>(bytes);
    return at;
  };
  ViewMemory& memory = plan.memory;
  const auto take_axis = [&](int64_t (&axis)[3], int64_t outputs, int64_t taps) {
    for (const int part : {0, 1}) axis[part] = take(outputs * 4);
    axis[2] = take(outputs * taps * 4);
  };
  take_axis(memory.columns, op.width, most_taps(int32_t(width), int32_t(op.width), op.antialias));
  take_axis(memory.rows, op.height, row_taps);
  memory.bell = take((op.blur_size + 4 * kQuad) * 4);
  const int64_t canvas = op.channels * op.height * round_up(op.width, kQuad) * pixel_bytes(op);
  memory.canvas[0] = take(canvas);
  memory.canvas[1] = take(op.blur_size > 0 ? canvas : 0);
  memory.arena_bytes = plan.shared ? 0 : 2 * needed;
  memory.arena = take(memory.arena_bytes);
  memory.bytes = scratch.bytes();
  for (int64_t c = 0; c < op.channels; ++c) memory.inverse[c] = 1.0f / op.std[c];
  memory.packs = op.width % kQuad == 0 && reinterpret_cast<uintptr_t>(op.out) % 16 == 0;
  return plan;
}

int64_t blocks_for(const ViewPlan& plan, int64_t views) { return std::min(views, plan.blocks); }

template <class P>
void make(const Views& op, const ViewPlan& plan, const ImageRuns& runs, char* scratch, cudaStream_t stream) {
  const dim3 grid(unsigned(blocks_for(plan, runs.last_view - runs.first_view)));
  const dim3 large(kViewThreads), small(kSmallViewThreads);
  if (plan.small)
    MEMKERN_LAUNCH((make_views<P, kSmallViewThreads, kSmallArena>), grid, small, stream, op, runs, plan.memory,
                   scratch);
  else if (plan.shared)
    MEMKERN_LAUNCH((make_views<P, kViewThreads, kViewArena>), grid, large, stream, op, runs, plan.memory, scratch);
  else
    MEMKERN_LAUNCH((make_views<P, kViewThreads, 0>), grid, large, stream, op, runs, plan.memory, scratch);
}

// True if an image goes on where the one before, `last`, shows: of its size and one step after it.
bool continues(const ImageRun& run, int64_t length, const Image& image) {
  const Image& first = run.first;
  const int64_t away = static_cast<const char*>(image.data) - static_cast<const char*>(first.data);
  return image.height == first.height && image.width == first.width && image.channel_stride == first.channel_stride &&
         image.row_stride == first.row_stride && image.column_stride == first.column_stride &&
         (length == 1 || away == length * run.step);
}

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_views_scratch(const memkern::Views* op) {
  const memkern::ViewPlan plan = memkern::plan_views(*op);
  return memkern::blocks_for(plan, op->images * op->views) * plan.memory.bytes;
}

const char* memkern_cuda_views(const memkern::Views* op, void* scratch, void* stream) {
  using namespace memkern;
  if (op->images * op->views * op->height * op->width == 0) return nullptr;
  const ViewPlan plan = plan_views(*op);
  ImageRuns runs{};
  const auto launch = [&](int64_t last_image) {
    runs.last_view = last_image * op->views;
    if (op->pixel == Pixel::uint8)
      make<uint8_t>(*op, plan, runs, static_cast<char*>(scratch), cuda_stream(stream));
    else
      make<float>(*op, plan, runs, static_cast<char*>(scratch), cuda_stream(stream));
  };
  for (int64_t i = 0; i < op->images; ++i) {
    const Image& image = op->sources[i];
    if (runs.count > 0) {
      ImageRun& run = runs.run[runs.count - 1];
      const int64_t length = i - run.before;
      if (continues(run, length, image)) {
        if (length == 1) run.step = static_cast<const char*>(image.data) - static_cast<const char*>(run.first.data);
        continue;
      }
    }
    if (runs.count == kViewRuns) {
      launch(i);
      runs = ImageRuns{};
      runs.first_view = i * op->views;
    }
    runs.run[runs.count++] = {image, 0, i};
  }
  launch(op->images);
  return take_launch_error();
}
