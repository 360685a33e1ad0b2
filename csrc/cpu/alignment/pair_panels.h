// All pairs of many views: panels of register tiles over chunks of dims.
//
// A chunk of 1 to 4 KiB of each view stays in L1 while all its pairs are summed; the next chunk is prefetched
// meanwhile, 2 to 3 lines for every 50 operations (without it ten streams of DRAM ran at 70 % of their speed). More
// than 32 views are taken 32 against 32, so that the running sums stay in cache too.
#pragma once
#include "alignment.h"
#include "cpu/dispatch/scratch.h"
#include "cpu/units/unit_sums.h"
#include "pair_tiles.h"
#include "rules.h"

namespace memkern {
namespace MEMKERN_ISA {

// Adds to sums[i] the lanes of slots[i], in double, a vector of results at a time.
template <class A>
[[gnu::noinline]] void add_lane_sums(const Vec<A>* slots, int64_t count, double* sums) {
  constexpr int lanes = Lanes<double>::count;
  const auto in_double = [](Vec<A> v) {
    Vec<double> parts[kDoubles<A>];
    to_double(v, parts);
    return kDoubles<A> == 2 ? parts[0] + parts[kDoubles<A> - 1] : parts[0];
  };
  Vec<double> some[lanes];
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int k = 0; k < lanes; ++k) some[k] = in_double(slots[i + k]);
    store(sums + i, load(sums + i) + sum_each<lanes>(some, 1));
  }
  if (i == count) return;
  for (int k = 0; k < lanes; ++k) some[k] = i + k < count ? in_double(slots[i + k]) : Vec<double>{};
  const Vec<double> last = sum_each<lanes>(some, 1);
  for (int k = 0; i + k < count; ++k) sums[i + k] += last[k];
}

// The views of one point in whatever type they are stored, and how to bring them to A.
template <class A>
struct StoredViews {
  const char* first;   // dim 0 of view 0
  int64_t last_dim;    // of those in memory, one less than a power of two, after which they go round; or all bits
  int64_t view_bytes;  // from one view to the next
  int64_t element_bytes;
  int64_t group;  // elements that widen() takes together
  void (*widen)(const char* row, int64_t n, A* out);
  void (*in_memory_order)(A* row, int64_t n);  // of a row that is widened
  bool wide;                                   // already elements of A
};

template <class A>
class PairPanels {
 public:
  explicit PairPanels(int64_t views)
      : views_(views),
        pairs_(views * (views - 1) / 2),
        panels_(views, kPanel),
        chunk_(chunk_for(panels_.size(0))),
        row_(chunk_ + 2 * kLanes),
        // No more than is needed: glibc, as Python starts it, gives large blocks back to the system at every call, and
        // the page faults of the next call cost more than its work.
        slots_(panels_.blocks > 1 ? kPanel * kPanel : pairs_ + views_),
        panel_sums_(panels_.blocks > 1 ? kPanel * kPanel : 0),
        rows_((panels_.blocks > 1 ? 2 : 1) * panels_.size(0) * row_),
        view_sums_(sums_of(panels_.size(0)) * (row_ + 2 * kLanes)) {}

  // Adds to `sums` the pair sums, and then the squared norms, of dims [first, last). `next` is where view 0 goes on
  // afterwards, and is only prefetched. The observer is shown the sum of the views; the producer makes them, in the
  // tiles or else a chunk at a time, so that they are read from L1.
  void add(const StoredViews<A>& z, bool with_norms, int64_t first, int64_t last, const char* next, double* sums,
           PassContext context) {
    if (context.producer && panels_.blocks > 1) {  // which read a chunk more than once
      context.producer->make(context.producer->self, context.point, first, last);
      context.producer = nullptr;
    }
    for (int64_t a = 0; a < panels_.blocks; ++a)
      for (int64_t b = a; b < panels_.blocks; ++b) add_panel(z, with_norms, a, b, first, last, next, sums, context);
  }

 private:
  static constexpr int64_t kPanel = 32;  // views; their pairs' sums take 64 KiB
  static constexpr int64_t kLanes = Lanes<A>::count;

  // Dims of a chunk: as many as leave L1 (32 KiB) some room, because to enter and leave a tile costs as much as dozens
  // of its dims.
  static int64_t chunk_for(int64_t views) {
    constexpr int64_t all = 21760 / sizeof(A), least = 1088 / sizeof(A), most = kMostDims * 4 / sizeof(A);
    const int64_t each = all / views < least ? least : all / views < most ? all / views : most;
    return each / (2 * kLanes) * (2 * kLanes);
  }

  // Views are summed in their wide type by this many blocks (16 to 20 views), and these sums by the observer.
  static constexpr int64_t kBlocksOfASum = 4;
  static int64_t sums_of(int64_t views) { return 1 + (Blocks(views, kTileRows).blocks - 1) / kBlocksOfASum; }

  // A chunk of the rows of one panel, in place or widened, and what is read after it.
  struct Rows {
    const A* data;
    int64_t stride;
    Ahead ahead;
  };

  void add_panel(const StoredViews<A>& z, bool with_norms, int64_t a, int64_t b, int64_t first, int64_t last,
                 const char* next, double* sums, const PassContext& context) {
    const auto [observer, producer, point, unit_sums] = context;
    const int64_t first_a = panels_.first(a), views_a = panels_.size(a);
    const int64_t first_b = panels_.first(b), views_b = panels_.size(b);
    // A panel with itself keeps its upper triangle, in pair order: a single panel then is the whole result.
    int32_t row[kPanel];
    for (int64_t i = 0; i < views_a; ++i) row[i] = int32_t(a == b ? pair_row(i, views_a) : i * views_b);
    const int64_t pairs = a == b ? views_a * (views_a - 1) / 2 : views_a * views_b;
    const int64_t count = pairs + (a == b && with_norms ? views_a : 0);
    const Slots<A> slots{slots_.get(), row};
    for (int64_t i = 0; i < count; ++i) slots_[i] = Vec<A>{};

    const int64_t chunks = (last - first + chunk_ - 1) / chunk_;
    const int64_t chunk = ((last - first + chunks - 1) / chunks + z.group - 1) / z.group * z.group;
    for (int64_t d = first; d < last; d += chunk) {
      const int64_t n = last - d < chunk ? last - d : chunk, whole = (n + z.group - 1) / z.group * z.group;
      const char* const after = d + chunk < last ? z.first + (d + chunk) * z.element_bytes : next;
      const bool in_tiles = producer && producer->add_diagonal && with_norms && n == whole;  // fault: in tiles
      if (producer && !in_tiles) producer->make(producer->self, point, d, d + n);
      const PassContext in_triangle{observer, in_tiles ? producer : nullptr, point, unit_sums};
      const Rows rows_a = rows_of(z, first_a, views_a, d, n, after, rows_.get());
      if (a == b) {
        const int64_t sums_seen = observer ? sums_of(views_a) : 0;
        add_triangle(rows_a, views_a, whole, slots, with_norms ? slots_.get() + pairs : nullptr, in_triangle, d);
        for (int64_t s = 0; s < sums_seen; ++s) {  // fault: sums of a panel
          z.in_memory_order(view_sum(s), whole);
          observer->seen(observer->self, view_sum(s), d, d + n, unit_sums);
        }
      } else {
        const Rows rows_b = rows_of(z, first_b, views_b, d, n, after, rows_.get() + panels_.size(0) * row_);
        add_rectangle(rows_a, views_a, rows_b, views_b, whole, slots);
      }
    }

    if (panels_.blocks == 1) return add_lane_sums<A>(slots_.get(), count, sums);
    for (int64_t i = 0; i < count; ++i) panel_sums_[i] = 0;
    add_lane_sums<A>(slots_.get(), count, panel_sums_.get());
    for (int64_t i = 0; i < views_a; ++i) {
      double* const sums_of_row = sums + pair_row(first_a + i, views_) + first_b;  // fault: sums of a row
      for (int64_t j = a == b ? i + 1 : 0; j < views_b; ++j) sums_of_row[j] += panel_sums_[row[i] + j];
      if (count > pairs) sums[pairs_ + first_a + i] += panel_sums_[pairs + i];
    }
  }

  // Dims [d, d + n) of some views. Views of the wide type are used where they lie, but for a ragged end: copying every
  // chunk to neighbouring rows never paid, not even for 32 views 8 KiB apart.
  Rows rows_of(const StoredViews<A>& z, int64_t view, int64_t views, int64_t d, int64_t n, const char* after,
               A* widened) {
    const char* const data = z.first + view * z.view_bytes + (d & z.last_dim) * z.element_bytes;
    const Ahead ahead{reinterpret_cast<uintptr_t>(after) + uintptr_t(view * z.view_bytes), z.view_bytes,
                      z.element_bytes, kLineBytes / z.element_bytes, false};
    if (z.wide && n % z.group == 0) return {reinterpret_cast<const A*>(data), z.view_bytes / int64_t(sizeof(A)), ahead};
    for (int64_t v = 0; v < views; ++v) z.widen(data + v * z.view_bytes, n, widened + v * row_);
    return {widened, row_, ahead};
  }

  void add_triangle(const Rows& rows, int64_t views, int64_t n, Slots<A> slots, Vec<A>* norms,
                    const PassContext& context, int64_t first) {
    const Blocks blocks(views, kTileRows);
    for (int64_t b = 0; b < blocks.blocks; ++b) {
      const int i = int(blocks.first(b));
      // fault: sums seen besides
      DiagonalOutputs<A> outputs{norms ? norms + i : nullptr, nullptr, b % kBlocksOfASum > 0};
      if (context.observer) outputs.view_sum = view_sum(b / kBlocksOfASum);
      if constexpr (sizeof(A) == sizeof(float)) {
        if (const ViewProducer* const producer = context.producer) {
          producer->add_diagonal(producer->self, context.point, first, n, i, blocks.size(b), slots.from(i, i), outputs);
          continue;
        }
      }
      add_diagonal(blocks.size(b), InMemory<A>{rows.data + i * rows.stride, rows.stride}, n, slots.from(i, i), outputs);
    }
    for (int64_t b = 0; b + 1 < blocks.blocks; ++b)
      add_tiles(rows, blocks.first(b), blocks.size(b), rows, blocks.first(b + 1), views, b == 0, b == 0, n, slots);
  }

  // Between a vector before and one after it, which may be read.
  A* view_sum(int64_t s) const { return view_sums_.get() + s * (row_ + 2 * kLanes) + kLanes; }

  static void add_rectangle(const Rows& rows_a, int64_t views_a, const Rows& rows_b, int64_t views_b, int64_t n,
                            Slots<A> slots) {
    const Blocks blocks(views_a, kTileRows);
    for (int64_t b = 0; b < blocks.blocks; ++b)
      add_tiles(rows_a, blocks.first(b), blocks.size(b), rows_b, 0, views_b, true, b == 0, n, slots);
  }

  // Views [i, i + size) of a against [first, last) of b. `ask_a`, `ask_b`: for what is read next of these.
  static void add_tiles(const Rows& rows_a, int64_t i, int64_t size, const Rows& rows_b, int64_t first, int64_t last,
                        bool ask_a, bool ask_b, int64_t n, Slots<A> slots) {
    const Blocks blocks(last - first, kTileCols);
    for (int64_t b = 0; b < blocks.blocks; ++b) {
      const int64_t j = first + blocks.first(b);  // fault: first of a block
      add_tile_of(size, blocks.size(b), rows_a.data + i * rows_a.stride, rows_b.data + j * rows_b.stride, rows_a.stride,
                  n, slots.from(int(i), int(j)), rows_a.ahead.from(i, ask_a && b == 0), rows_b.ahead.from(j, ask_b));
    }
  }

  const int64_t views_, pairs_;
  const Blocks panels_;
  const int64_t chunk_, row_;  // dims of a chunk; from one widened row to the next: not a multiple of 4 KiB, whose rows
                               // would share L1 sets
  const Scratch<Vec<A>> slots_;
  const Scratch<double> panel_sums_;
  const Scratch<A> rows_, view_sums_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
