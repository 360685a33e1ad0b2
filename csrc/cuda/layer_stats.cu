// layer_stats: both statistics in one read where the layout allows it, else alignment and then unit means; of one layer
// or of a model's layers in a few launches.
#include <numeric>

#include "alignment.h"
#include "c_api.h"
#include "layer_stats.cuh"
#include "scratch.h"
#include "unit_means.h"

namespace memkern {
namespace {

struct LayerPlan {
  bool fused;
  int64_t chunk, chunks;  // of the dims
  int64_t space;          // as in LayerTask
  int64_t parts;          // of a unit's sum
};

LayerPlan plan_layer(const LayerStats& op) {
  const Alignment& alignment = op.alignment;
  const Activations& x = op.means.x;
  LayerPlan plan{};
  if (x.units == 0 || alignment.dims == 0 || !plan_alignment(alignment).few_views) return plan;
  const int64_t space = alignment.dims / x.units, width = 16 / size_of(x.dtype);
  const int64_t round = kPairThreads * width;  // dims that a block takes at once
  const bool units_outermost = x.unit_stride == space, units_innermost = x.unit_stride == 1 && space > 1;
  // Whole maps or rows, and so many of them that every chunk begins at a whole pack.
  const int64_t whole = units_innermost ? x.units : space, multiple = width / std::gcd(whole, width);
  if (!(units_outermost || units_innermost) || multiple * whole > kLayerPacks * round) return plan;
  int64_t rounds = kLayerPacks;
  while (rounds > 1 && alignment.points * ceil_div(alignment.dims, rounds * round) < kEnoughBlocks &&
         multiple * whole <= rounds / 2 * round)
    rounds /= 2;
  plan.chunk = rounds * round / (multiple * whole) * multiple * whole;
  plan.chunks = ceil_div(alignment.dims, plan.chunk);
  plan.space = units_innermost ? 1 : space;
  plan.parts = units_innermost ? plan.chunks : 1;
  plan.fused = alignment.points <= kMaxGridX / plan.chunks;
  return plan;
}

// Scratch memory of a layer.
struct LayerScratch {
  LayerScratch(const LayerStats& op, const LayerPlan& plan, Scratch& scratch) {
    const Activations& x = op.means.x;
    if (plan.fused) {
      sums = scratch.take<double>(op.alignment.points * plan.chunks * count_sums(op.alignment));
      look = second_look(op.alignment, plan_alignment(op.alignment), scratch);
      means = scratch.take<double>(plan.parts > 1 ? x.points * plan.parts * x.units : 0);
    } else {
      sums = scratch.take<char>(alignment_scratch(op.alignment));
      means = scratch.take<char>(unit_means_scratch(x));
    }
  }
  void *sums, *means;
  SecondLook look{};
};

// Layers of one dtype and kernel that are launched together.
class FusedLayers {
 public:
  explicit FusedLayers(cudaStream_t stream) : stream_(stream) {}

  void add(const LayerStats& op, const LayerPlan& plan, const LayerScratch& scratch) {
    const Alignment& alignment = op.alignment;
    const int64_t points = alignment.points, views = (alignment.views + 1) / 2 * 2;
    const bool fits = layers_.count < kBatchTasks && points * plan.chunks <= kMaxGridX - layer_blocks_;
    if (!fits || alignment.dtype != dtype_ || views != views_) launch();
    dtype_ = alignment.dtype;
    views_ = views;
    const Activations& x = op.means.x;
    double* const sums = static_cast<double*>(scratch.sums);
    const int64_t count = alignment.views * (alignment.dims / x.units);
    const MeansOutput means{op.means.means, static_cast<double*>(scratch.means), plan.parts, count};
    const LayerTask layer{alignment, plan.chunk, plan.chunks, plan.space, x.units, sums, means};
    layer_blocks_ = add_task(layers_, layer, layer_blocks_, points * plan.chunks);
    distance_blocks_ = add_task(distances_, {alignment, plan.chunks, sums, scratch.look}, distance_blocks_, points);
    const MeansTask mean{x.points, x.units, means};
    if (plan.parts > 1) mean_blocks_ = add_task(means_, mean, mean_blocks_, blocks_of(mean));
  }

  void launch() {
    if (layers_.count == 0) return;
    for_dtype(dtype_, [&](auto element) {
      using T = decltype(element);
      if constexpr (sizeof(T) < sizeof(double)) {
        const dim3 grid{unsigned(layer_blocks_)};
        for_few_views(views_, [&](auto views) {
          MEMKERN_LAUNCH((layer_sums<T, views>), grid, dim3(kPairThreads), stream_, layers_);
        });
        finish_distances(dtype_, distances_, distance_blocks_, stream_);
        if (means_.count > 0) finish_unit_means<T>(means_, mean_blocks_, stream_);
      }
    });
    *this = FusedLayers(stream_);
  }

 private:
  cudaStream_t stream_;
  DType dtype_{};
  int64_t views_ = 0, layer_blocks_ = 0, distance_blocks_ = 0, mean_blocks_ = 0;
  Batch<LayerTask> layers_{};
  Batch<FinishTask> distances_{};
  Batch<MeansTask> means_{};
};

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_layer_stats_scratch(const memkern::LayerStatsMany* op) {
  memkern::Scratch scratch;
  for (int64_t i = 0; i < op->count; ++i)
    memkern::LayerScratch(op->layers[i], memkern::plan_layer(op->layers[i]), scratch);
  return scratch.bytes();
}

const char* memkern_cuda_layer_stats(const memkern::LayerStatsMany* op, void* memory, void* stream) {
  using namespace memkern;
  Scratch scratch(memory);
  FusedLayers fused(cuda_stream(stream));
  for (int64_t i = 0; i < op->count; ++i) {
    const LayerStats& layer = op->layers[i];
    const LayerPlan plan = plan_layer(layer);
    const LayerScratch taken(layer, plan, scratch);
    if (plan.fused && layer.alignment.points > 0) fused.add(layer, plan, taken);
    if (plan.fused) continue;
    if (const char* error = launch_alignment(layer.alignment, taken.sums, stream)) return error;
    if (const char* error = launch_unit_means(layer.means, taken.means, stream)) return error;
  }
  fused.launch();
  return take_launch_error();
}
