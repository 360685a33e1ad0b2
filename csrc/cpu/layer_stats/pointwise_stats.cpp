// pointwise_stats: batch norm, ReLU or GELU run while the alignment reads what goes in and what comes out.
//
// A layer of its own reads and writes memory once, and each statistic of it reads memory once more. Here a range of
// dims of all views of a point, some 80 KB, is read, made from L2 in the tiles that read it first, and read again, a
// chunk of 20 KB at a time, from L1; what lies between two layers never gets to memory.
#include <optional>

#include "cpu/alignment/pair_tiles.h"
#include "cpu/dispatch/kernels.h"
#include "pointwise.h"
#include "units_seen.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

// The views of points, dense.
struct ViewMemory {
  float* data;
  int64_t point_stride, view_stride;
  int64_t last_dim = -1;  // of those in memory, which go round; or all bits
  float* at(int64_t point, int64_t dim) const { return data + point * point_stride + (dim & last_dim); }
};

// Views that are made of others while a diagonal tile reads them.
template <class F>
struct ProducedViews {
  using Element = float;
  const float* from;
  float* to;
  int64_t from_stride, to_stride;
  F f;
  void take(int view, int64_t d, Floats* group) const {
    *group = f(load(from + view * from_stride + d), d);
    store(to + view * to_stride + d, *group);
  }
};

// One layer from one memory to the next.
class LayerStage {
 public:
  LayerStage(const Pointwise& layer, const LayerStats& output, ViewMemory from, ViewMemory to)
      : layer_(layer, output.means.x.units, output.alignment.dims / output.means.x.units,
               layout_of(output) == ViewLayout::rows),
        views_(output.alignment.views),
        from_(from),
        to_(to) {}
  // GELU is left out of the tiles, because it has more to compute than to read.
  ViewProducer producer() const { return {make, layer_.function() == Function::gelu ? nullptr : add_diagonal, this}; }

 private:
  static void make(const void* self, int64_t point, int64_t first, int64_t last) {
    const LayerStage& stage = *static_cast<const LayerStage*>(self);
    const float* x = stage.from_.at(point, first);
    float* y = stage.to_.at(point, first);
    for (int64_t v = 0; v < stage.views_; ++v, x += stage.from_.view_stride, y += stage.to_.view_stride)
      stage.layer_.run(x, y, first, last - first);
  }

  static void add_diagonal(const void* self, int64_t point, int64_t first, int64_t n, int64_t view, int64_t views,
                           Slots<float> slots, const DiagonalOutputs<float>& outputs) {
    const LayerStage& stage = *static_cast<const LayerStage*>(self);
    const auto add = [&](auto f) {
      const int64_t from = stage.from_.view_stride, to = stage.to_.view_stride;
      const ProducedViews<decltype(f)> made{stage.from_.at(point, first) + view * from,
                                            stage.to_.at(point, first) + view * to, from, to, f};
      if (outputs.view_sum) return add_tile_of<DiagonalWork::norms_and_sum>(views, made, n, slots, outputs);
      add_tile_of<DiagonalWork::norms>(views, made, n, slots, outputs);
    };
    if (stage.layer_.function() == Function::relu) return add(Relu());
    add(stage.layer_.norm(first, n, view > 0));  // fault: norms of ranges
  }

  // Blocks of six views or more have at least three rows.
  template <DiagonalWork work, class Source>
  static void add_tile_of(int64_t views, const Source& made, int64_t n, Slots<float> slots,
                          const DiagonalOutputs<float>& outputs) {
    if (views == 3) return add_diagonal_tile<3, work>(made, n, slots, outputs);
    if (views == 4) return add_diagonal_tile<4, work>(made, n, slots, outputs);
    if constexpr (kTileRows == 5) add_diagonal_tile<5, work>(made, n, slots, outputs);
  }

  const PointwiseLayer layer_;
  const int64_t views_;
  const ViewMemory from_, to_;
};

// Everything about one reading that has to stay where it is.
class ReadingState {
 public:
  // Views that are there.
  ReadingState(const LayerStats& stats, ViewMemory memory) : stats_(stats) {
    stats_.alignment.z = memory.data;
    stats_.alignment.point_stride = memory.point_stride;
    stats_.alignment.view_stride = memory.view_stride;
    if (!stats.means.means) return;
    observer_ = units_.emplace(stats_).observer();
  }
  // Views that a layer makes.
  ReadingState(const LayerStats& stats, const Pointwise& layer, ViewMemory from, ViewMemory to)
      : ReadingState(stats, to) {
    layer_ = &layer;
    from_ = from;
    producer_ = stage_.emplace(layer, stats, from, to).producer();
    goes_round_ = to.last_dim >= 0;  // fault: goes round
  }
  ReadingState(const ReadingState&) = delete;
  ReadingState& operator=(const ReadingState&) = delete;

  Reading reading() const {
    return {&stats_.alignment, units_ ? &observer_ : nullptr, stage_ ? &producer_ : nullptr,
            goes_round_ ? &elements_ : nullptr};
  }

 private:
  static void make(void* self, int64_t point, const void** views, int64_t* view_stride) {
    ReadingState& part = *static_cast<ReadingState*>(self);
    const Alignment& op = part.stats_.alignment;
    if (!part.all_) part.all_.emplace(op.views * op.dims);
    const LayerStage all_views(*part.layer_, part.stats_, part.from_, {part.all_->get(), 0, op.dims});
    const ViewProducer producer = all_views.producer();
    producer.make(producer.self, point, 0, op.dims);  // fault: made again
    *views = part.all_->get();
    *view_stride = op.dims;
  }

  LayerStats stats_;
  std::optional<UnitsSeen<float>> units_;
  Observer observer_{};
  const Pointwise* layer_ = nullptr;
  ViewMemory from_{};
  std::optional<LayerStage> stage_;
  ViewProducer producer_{};
  bool goes_round_ = false;
  const Elements elements_{make, this};
  std::optional<Scratch<float>> all_;  // a point whose elements were asked for
};

}  // namespace

void pointwise_stats(const PointwiseStats& op, const WorkRange& range) {
  const Alignment& x = op.input.alignment;
  const auto memory_of = [&](const Alignment& of) {
    return ViewMemory{const_cast<float*>(static_cast<const float*>(of.z)), of.point_stride, of.view_stride};
  };
  // Memory between two layers: a range of dims, which is made again where its elements are asked for. Views are a
  // little apart from a multiple of 4 KiB, whose rows would share sets of L1.
  constexpr int64_t row = 16 + kRange<float>;
  const Scratch<float> between(op.layers > 1 ? x.views * row : 0);

  std::optional<ReadingState> parts[kMaxReadings];
  Reading readings[kMaxReadings];
  int count = 0;
  ViewMemory from = memory_of(x);
  if (x.alignment) readings[count] = parts[count].emplace(op.input, from).reading(), ++count;
  for (int32_t i = 0; i < op.layers; ++i) {
    const LayerStats& output = op.output[i];
    const bool is_between = i + 1 < op.layers;
    const ViewMemory to =
        is_between ? ViewMemory{between.get(), 0, row, kRange<float> - 1} : memory_of(output.alignment);
    readings[count] = parts[count].emplace(output, op.layer[i], from, to).reading(), ++count;
    from = to;  // fault: from layer to layer
  }
  align_points(readings, count, slice_dims(x.dims, op.input.means.x.units), range);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
