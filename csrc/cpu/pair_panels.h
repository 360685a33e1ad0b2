// All pairs of many views: panels of register tiles over chunks of dims.
//
// A chunk of 1 KiB of each view stays in L1 while all its pairs are summed; the next chunk is prefetched meanwhile,
// 2 to 3 lines for every 50 operations (without it ten streams of DRAM ran at 70 % of their speed). More than 32 views
// are taken 32 against 32, so that the running sums stay in cache too.
#pragma once
#include "alignment.h"
#include "pair_tiles.h"
#include "pairs.h"
#include "scratch.h"
#include "unit_sums.h"

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
        slots_(kPanel * kPanel),
        panel_sums_(panels_.blocks > 1 ? kPanel * kPanel : 0),
        rows_(2 * kPanel * kRow),
        view_sums_(kViewSums * kViewSumRow) {}

  // Adds to `sums` the pair sums, and then the squared norms, of dims [first, last). `next` is where view 0 goes on
  // afterwards, and is only prefetched. The observer of `point`, if there is one, is shown the sum of the views.
  void add(const StoredViews<A>& z, bool with_norms, int64_t first, int64_t last, const char* next, double* sums,
           const Observer* observer, int64_t point) {
    for (int64_t a = 0; a < panels_.blocks; ++a)
      for (int64_t b = a; b < panels_.blocks; ++b)
        add_panel(z, with_norms, a, b, first, last, next, sums, observer, point);
  }

 private:
  static constexpr int64_t kPanel = 32;                          // views; their pairs' sums take 64 KiB
  static constexpr int64_t kChunk = 272;                         // dims
  static constexpr int64_t kRow = kChunk + 2 * Lanes<A>::count;  // rows of a multiple of 4 KiB would share L1 sets

  // Views are summed in their wide type by this many blocks (16 to 20 views), and these sums by the observer.
  static constexpr int64_t kBlocksOfASum = 4, kViewSums = (kPanel / (kTile - 1) + kBlocksOfASum - 1) / kBlocksOfASum;
  static constexpr int64_t kViewSumRow = kRow + 2 * Lanes<A>::count;  // a vector before and after

  // A chunk of the rows of one panel, in place or widened, and what is read after it.
  struct Rows {
    const A* data;
    int64_t stride;
    Ahead ahead;
  };

  void add_panel(const StoredViews<A>& z, bool with_norms, int64_t a, int64_t b, int64_t first, int64_t last,
                 const char* next, double* sums, const Observer* observer, int64_t point) {
    const int64_t first_a = panels_.first(a), views_a = panels_.size(a);
    const int64_t first_b = panels_.first(b), views_b = panels_.size(b);
    // A panel with itself keeps its upper triangle, in pair order: a single panel then is the whole result.
    int32_t row[kPanel];
    for (int64_t i = 0; i < views_a; ++i) row[i] = int32_t(a == b ? pair_row(i, views_a) : i * views_b);
    const int64_t pairs = a == b ? views_a * (views_a - 1) / 2 : views_a * views_b;
    const int64_t count = pairs + (a == b && with_norms ? views_a : 0);
    const Slots<A> slots{slots_.get(), row};
    for (int64_t i = 0; i < count; ++i) slots_[i] = Vec<A>{};

    const int64_t chunks = (last - first + kChunk - 1) / kChunk;
    const int64_t chunk = ((last - first + chunks - 1) / chunks + z.group - 1) / z.group * z.group;
    for (int64_t d = first; d < last; d += chunk) {
      const int64_t n = last - d < chunk ? last - d : chunk, whole = (n + z.group - 1) / z.group * z.group;
      const char* const after = d + chunk < last ? z.first + (d + chunk) * z.element_bytes : next;
      const Rows rows_a = rows_of(z, first_a, views_a, d, n, after, rows_.get());
      if (a == b) {
        const int64_t sums_seen = observer ? 1 + (Blocks(views_a, kTile).blocks - 1) / kBlocksOfASum : 0;
        add_triangle(rows_a, views_a, whole, slots, with_norms ? slots_.get() + pairs : nullptr, observer);
        for (int64_t s = 0; s < sums_seen; ++s) {
          z.in_memory_order(view_sum(s), whole);
          observer->seen(observer->self, point, view_sum(s), d, d + n);
        }
      } else {
        const Rows rows_b = rows_of(z, first_b, views_b, d, n, after, rows_.get() + kPanel * kRow);
        add_rectangle(rows_a, views_a, rows_b, views_b, whole, slots);
      }
    }

    if (panels_.blocks == 1) return add_lane_sums<A>(slots_.get(), count, sums);
    for (int64_t i = 0; i < count; ++i) panel_sums_[i] = 0;
    add_lane_sums<A>(slots_.get(), count, panel_sums_.get());
    for (int64_t i = 0; i < views_a; ++i) {
      double* const sums_of_row = sums + pair_row(first_a + i, views_) + first_b;
      for (int64_t j = a == b ? i + 1 : 0; j < views_b; ++j) sums_of_row[j] += panel_sums_[row[i] + j];
      if (count > pairs) sums[pairs_ + first_a + i] += panel_sums_[pairs + i];
    }
  }

  // Dims [d, d + n) of some views. Wide ones are used where they lie, but for a ragged end: copying every chunk to
  // neighbouring rows cost 5 to 20 %, and never paid, not even for 32 views 8 KiB apart.
  Rows rows_of(const StoredViews<A>& z, int64_t view, int64_t views, int64_t d, int64_t n, const char* after,
               A* widened) {
    const char* const data = z.first + view * z.view_bytes + d * z.element_bytes;
    const Ahead ahead{reinterpret_cast<uintptr_t>(after) + uintptr_t(view * z.view_bytes), z.view_bytes,
                      z.element_bytes, false};
    if (z.wide && n % z.group == 0) return {reinterpret_cast<const A*>(data), z.view_bytes / int64_t(sizeof(A)), ahead};
    for (int64_t v = 0; v < views; ++v) z.widen(data + v * z.view_bytes, n, widened + v * kRow);
    return {widened, kRow, ahead};
  }

  void add_triangle(const Rows& rows, int64_t views, int64_t n, Slots<A> slots, Vec<A>* norms, bool with_sums) {
    const Blocks blocks(views, kTile);
    for (int64_t b = 0; b < blocks.blocks; ++b) {
      const int i = int(blocks.first(b));
      Besides<A> besides{norms ? norms + i : nullptr, nullptr, b % kBlocksOfASum > 0};
      if (with_sums) besides.view_sum = view_sum(b / kBlocksOfASum);
      add_diagonal(blocks.size(b), rows.data + i * rows.stride, rows.stride, n, slots.from(i, i), besides);
    }
    for (int64_t b = 1; b < blocks.blocks; ++b)
      for (int64_t a = 0; a < b; ++a) add_tile_of(rows, blocks, a, rows, blocks, b, a == 0 && b == 1, a == 0, n, slots);
  }

  A* view_sum(int64_t s) const { return view_sums_.get() + s * kViewSumRow + Lanes<A>::count; }

  static void add_rectangle(const Rows& rows_a, int64_t views_a, const Rows& rows_b, int64_t views_b, int64_t n,
                            Slots<A> slots) {
    const Blocks blocks_a(views_a, kTile), blocks_b(views_b, kTile);
    for (int64_t a = 0; a < blocks_a.blocks; ++a)
      for (int64_t b = 0; b < blocks_b.blocks; ++b)
        add_tile_of(rows_a, blocks_a, a, rows_b, blocks_b, b, a == b, a == b, n, slots);
  }

  static void add_tile_of(const Rows& rows_a, const Blocks& blocks_a, int64_t a, const Rows& rows_b,
                          const Blocks& blocks_b, int64_t b, bool ask_a, bool ask_b, int64_t n, Slots<A> slots) {
    const int i = int(blocks_a.first(a)), j = int(blocks_b.first(b));
    add_blocks(blocks_a.size(a), blocks_b.size(b), rows_a.data + i * rows_a.stride, rows_b.data + j * rows_b.stride,
               rows_a.stride, n, slots.from(i, j), rows_a.ahead.from(i, ask_a), rows_b.ahead.from(j, ask_b));
  }

  const int64_t views_, pairs_;
  const Blocks panels_;
  const Scratch<Vec<A>> slots_;
  const Scratch<double> panel_sums_;
  const Scratch<A> rows_, view_sums_;
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
