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
struct Place {
  float* data;
  int64_t point_stride, view_stride;
  int64_t last_dim = -1;  // of those in memory, which go round; or all bits
  float* at(int64_t point, int64_t dim) const { return data + point * point_stride + (dim & last_dim); }
};

// Views that are made of others while a diagonal tile reads them.
template <class F>
struct Made {
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

// One layer from one place to the next.
class Step {
 public:
  Step(const Pointwise& layer, const LayerStats& output, Place from, Place to)
      : layer_(layer, output.means.x.units, output.alignment.dims / output.means.x.units,
               layout_of(output) == ViewLayout::rows),
        views_(output.alignment.views),
        from_(from),
        to_(to) {}
  // GELU is left out of the tiles: it has more to compute than to read (0.99 to 1.05 of the time).
  ViewProducer producer() const { return {make, layer_.function() == Function::gelu ? nullptr : add_diagonal, this}; }

 private:
  static void make(const void* self, int64_t point, int64_t first, int64_t last) {
    const Step& step = *static_cast<const Step*>(self);
    const float* x = step.from_.at(point, first);
    float* y = step.to_.at(point, first);
    for (int64_t v = 0; v < step.views_; ++v, x += step.from_.view_stride, y += step.to_.view_stride)
      step.layer_.run(x, y, first, last - first);
  }

  static void add_diagonal(const void* self, int64_t point, int64_t first, int64_t n, int64_t view, int64_t views,
                           Slots<float> slots, const DiagonalOutputs<float>& outputs) {
    const Step& step = *static_cast<const Step*>(self);
    const auto add = [&](auto f) {
      const int64_t from = step.from_.view_stride, to = step.to_.view_stride;
      const Made<decltype(f)> made{step.from_.at(point, first) + view * from, step.to_.at(point, first) + view * to,
                                   from, to, f};
      if (outputs.view_sum) return add_tile_of<DiagonalWork::norms_and_sum>(views, made, n, slots, outputs);
      add_tile_of<DiagonalWork::norms>(views, made, n, slots, outputs);
    };
    if (step.layer_.function() == Function::relu) return add(Relu());
    add(step.layer_.norm(first, n, view > 0));  // fault: norms of ranges
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
  const Place from_, to_;
};

// Everything about one reading that has to stay where it is.
class Part {
 public:
  // Views that are there.
  Part(const LayerStats& stats, Place place) : stats_(stats) {
    stats_.alignment.z = place.data;
    stats_.alignment.point_stride = place.point_stride;
    stats_.alignment.view_stride = place.view_stride;
    if (!stats.means.means) return;
    observer_ = units_.emplace(stats_).observer();
  }
  // Views that a layer makes.
  Part(const LayerStats& stats, const Pointwise& layer, Place from, Place to) : Part(stats, to) {
    layer_ = &layer;
    from_ = from;
    producer_ = step_.emplace(layer, stats, from, to).producer();
    goes_round_ = to.last_dim >= 0;  // fault: goes round
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  Reading reading() const {
    return {&stats_.alignment, units_ ? &observer_ : nullptr, step_ ? &producer_ : nullptr,
            goes_round_ ? &elements_ : nullptr};
  }

 private:
  static void make(void* self, int64_t point, const void** views, int64_t* view_stride) {
    Part& part = *static_cast<Part*>(self);
    const Alignment& op = part.stats_.alignment;
    if (!part.all_) part.all_.emplace(op.views * op.dims);
    const Step again(*part.layer_, part.stats_, part.from_, {part.all_->get(), 0, op.dims});
    const ViewProducer producer = again.producer();
    producer.make(producer.self, point, 0, op.dims);  // fault: made again
    *views = part.all_->get();
    *view_stride = op.dims;
  }

  LayerStats stats_;
  std::optional<UnitsSeen<float>> units_;
  Observer observer_{};
  const Pointwise* layer_ = nullptr;
  Place from_{};
  std::optional<Step> step_;
  ViewProducer producer_{};
  bool goes_round_ = false;
  const Elements elements_{make, this};
  std::optional<Scratch<float>> all_;  // a point whose elements were asked for
};

}  // namespace

void pointwise_stats(const PointwiseStats& op, const WorkRange& range) {
  const Alignment& x = op.input.alignment;
  const auto place_of = [&](const Alignment& of) {
    return Place{const_cast<float*>(static_cast<const float*>(of.z)), of.point_stride, of.view_stride};
  };
  // What lies between two layers: a range of dims, which is made again where its elements are asked for. Views are a
  // little apart from a multiple of 4 KiB, whose rows would share sets of L1.
  constexpr int64_t row = 16 + kRange<float>;
  const Scratch<float> between(op.layers > 1 ? x.views * row : 0);

  std::optional<Part> parts[kMaxReadings];
  Reading readings[kMaxReadings];
  int count = 0;
  Place from = place_of(x);
  if (x.alignment) readings[count] = parts[count].emplace(op.input, from).reading(), ++count;
  for (int32_t i = 0; i < op.layers; ++i) {
    const LayerStats& output = op.output[i];
    const bool is_between = i + 1 < op.layers;
    const Place to = is_between ? Place{between.get(), 0, row, kRange<float> - 1} : place_of(output.alignment);
    readings[count] = parts[count].emplace(output, op.layer[i], from, to).reading(), ++count;
    from = to;  // fault: from layer to layer
  }
  align_points(readings, count, slice_dims(x.dims, op.input.means.x.units), range);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
