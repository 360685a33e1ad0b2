// layer_stats: both statistics in one read where the layout allows it, else alignment and then unit means.
#include <numeric>

#include "alignment.h"
#include "layer_stats.cuh"
#include "scratch.h"
#include "surface.h"
#include "unit_means.h"

namespace memkern {
namespace {

struct LayerStatsPlan {
  bool fused;
  LayerPlan layer;
  int64_t chunks;  // of the dims
  int64_t parts;   // of a unit's sum
};

LayerStatsPlan plan_layer(const LayerStats& op) {
  const Alignment& alignment = op.alignment;
  const Activations& x = op.means.x;
  LayerStatsPlan plan{};
  if (x.units == 0 || alignment.dims == 0 || !plan_alignment(alignment).few_views) return plan;
  const int64_t space = alignment.dims / x.units, width = 16 / size_of(x.dtype);
  const int64_t capacity = kLayerPacks * kPairThreads * width;
  const bool units_outermost = x.unit_stride == space, units_innermost = x.unit_stride == 1 && space > 1;
  // Whole maps or rows, and so many of them that every chunk begins at a whole pack.
  const int64_t whole = units_innermost ? x.units : space, multiple = width / std::gcd(whole, width);
  if (!(units_outermost || units_innermost) || multiple * whole > capacity) return plan;
  plan.fused = true;
  plan.layer = {capacity / (multiple * whole) * multiple * whole, units_innermost ? 1 : space, x.units};
  plan.chunks = ceil_div(alignment.dims, plan.layer.chunk);
  plan.parts = units_innermost ? plan.chunks : 1;
  plan.fused = plan.chunks <= kMaxGridY;
  return plan;
}

// What scratch memory holds.
struct LayerScratch {
  LayerScratch(const LayerStats& op, const LayerStatsPlan& plan, void* memory) {
    Scratch scratch(memory);
    const Activations& x = op.means.x;
    if (plan.fused) {
      sums = scratch.take<double>(op.alignment.points * plan.chunks * count_sums(op.alignment));
      means = scratch.take<double>(plan.parts > 1 ? x.points * plan.parts * x.units : 0);
    } else {
      sums = scratch.take<char>(alignment_scratch(op.alignment));
      means = scratch.take<char>(unit_means_scratch(x));
    }
    bytes = scratch.bytes();
  }
  void *sums, *means;
  int64_t bytes;
};

template <class T>
void launch_fused(const LayerStats& op, const LayerStatsPlan& plan, const LayerScratch& scratch, cudaStream_t stream) {
  const Alignment& alignment = op.alignment;
  const Activations& x = op.means.x;
  double* const sums = static_cast<double*>(scratch.sums);
  const int64_t count = alignment.views * (alignment.dims / x.units);
  const MeansOutput to{op.means.means, static_cast<double*>(scratch.means), plan.parts, count};
  const dim3 grid(unsigned(alignment.points), unsigned(plan.chunks));
  for_few_views(alignment.views, [&](auto views) {
    MEMKERN_LAUNCH((layer_sums<T, views>), grid, dim3(kPairThreads), stream, alignment, plan.layer, sums, to);
  });
  finish_distances<T>(alignment, plan.chunks, sums, stream);
  if (plan.parts > 1) finish_unit_means<T>(x.points, x.units, to, stream);
}

}  // namespace
}  // namespace memkern

int64_t memkern_cuda_layer_stats_scratch(const memkern::LayerStats* op) {
  return memkern::LayerScratch(*op, memkern::plan_layer(*op), nullptr).bytes;
}

const char* memkern_cuda_layer_stats(const memkern::LayerStats* op, void* memory, void* stream) {
  using namespace memkern;
  const LayerStatsPlan plan = plan_layer(*op);
  const LayerScratch scratch(*op, plan, memory);
  if (!plan.fused) {
    if (const char* error = launch_alignment(op->alignment, scratch.sums, stream)) return error;
    return launch_unit_means(op->means, scratch.means, stream);
  }
  if (op->alignment.points == 0) return nullptr;
  for_dtype(op->alignment.dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (sizeof(T) < sizeof(double)) launch_fused<T>(*op, plan, scratch, cuda_stream(stream));
  });
  return take_launch_error();
}
