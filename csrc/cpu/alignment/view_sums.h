// What the distances between the views of a point say of its views: rows, halves and errors (ops.h). A vector of points
// at a time, a lane each: point by point these sums took a fifth as long again as the distances of short rows.
#pragma once
#include "cpu/dispatch/scratch.h"
#include "cpu/simd/simd.h"
#include "ops.h"
#include "rules.h"

namespace memkern {
namespace MEMKERN_ISA {

// Every second lane of a b, from the first (Odd 0) or from the second (Odd 1) on.
template <int Odd, size_t... I>
inline Vec<double> every_second_lane(Vec<double> a, Vec<double> b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, int(2 * I + Odd)...);
}

// From one row of numbers a point to one column: the first `width` numbers, a power of two up to a vector, of a vector
// of points, `stride` apart, become as many vectors with a lane for each point. `stride` is `width` unless a row is
// longer than a vector.
template <int width>
inline void rows_to_columns(const double* rows, int64_t stride, double* columns) {
  constexpr int lanes = Lanes<double>::count;
  Vec<double> part[width], turned[width];
#pragma GCC unroll 8
  for (int i = 0; i < width; ++i) part[i] = load(rows + i * (lanes / width) * stride);
  // Each turn takes the lowest bit of a number's place, in vectors and lanes, to the top.
#pragma GCC unroll 3
  for (int turns = 1; turns < width; turns *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < width / 2; ++i) {
      turned[i] = every_second_lane<0>(part[2 * i], part[2 * i + 1], LaneIndices<double>{});
      turned[i + width / 2] = every_second_lane<1>(part[2 * i], part[2 * i + 1], LaneIndices<double>{});
    }
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) part[i] = turned[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < width; ++i) store(columns + i * lanes, part[i]);
}

// The other way: `width` columns become rows.
template <int width>
inline void columns_to_rows(const double* columns, Vec<double>* part) {
  Vec<double> turned[width];
#pragma GCC unroll 8
  for (int i = 0; i < width; ++i) part[i] = load(columns + i * Lanes<double>::count);
#pragma GCC unroll 3
  for (int turns = 1; turns < width; turns *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < width / 2; ++i) {
      turned[2 * i] = interleaved_half<0, double>(part[i], part[i + width / 2], LaneIndices<double>{});
      turned[2 * i + 1] = interleaved_half<1, double>(part[i], part[i + width / 2], LaneIndices<double>{});
    }
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) part[i] = turned[i];
  }
}

// Takes the distances of points in a row, and writes what they say once there are enough, or at the end.
template <class A>
class ViewSums {
 public:
  explicit ViewSums(const Alignment& op)
      : op_(op),
        pairs_(pair_count(op)),
        stride_(stride()),
        rows_(op.rows && stride_ > 0 ? kLanes * stride_ : pairs_),
        columns_(op.rows && stride_ > 0 ? kLanes * stride_ : 0),
        view_rows_(op.rows && stride_ > 0 ? kLanes * ((op.views + 3) / 4 * 4) : 0) {
    for (int64_t h = 0; h < 2; ++h) share_of_half_[h] = share_of_a_pair((op.views + 1 - h) / 2);
    share_of_spread_ = error_of_views(1, op.views);
  }

  // [pairs]: where the distances of the next point belong.
  double* distances() const { return rows_.get() + waiting_ * stride_; }

  // They are there. `sum`: of them; the alignment of the point is written.
  void add(int64_t point, double sum) {
    if (!op_.rows) return;
    if (waiting_ == 0) first_ = point;
    if (op_.views > 2) sums_[waiting_] = sum;
    if (++waiting_ == (op_.views > 2 ? kLanes : kTwoViews)) write();  // fault: waiting points
  }

  // Writes what the points that wait say.
  void write() {
    if (waiting_ == 0) return;
    if (op_.views == 2)
      of_two_views();
    else
      of_views();
    waiting_ = 0;
  }

 private:
  static constexpr int64_t kLanes = Lanes<double>::count, kTwoViews = 1024;
  typedef A Narrow __attribute__((vector_size(kLanes * sizeof(A))));

  // Of the distances of points: what rows_to_columns wants. Those of two views are what the alignment says.
  int64_t stride() const {
    if (op_.rows == nullptr || op_.views == 2) return 0;
    int64_t width = 1;
    while (width < pairs_ && width < kLanes) width *= 2;
    return (pairs_ + width - 1) / width * width;
  }

  // Both rows are the one distance, and no half has a pair.
  void of_two_views() const {
    const A* const distance = static_cast<const A*>(op_.alignment) + first_;
    A* const rows = static_cast<A*>(op_.rows) + 2 * first_;
    for (int64_t i = 0; i < waiting_; ++i) rows[2 * i] = rows[2 * i + 1] = distance[i];
    for (A* const none : {half(0), half(1), errors()})
      for (int64_t i = 0; i < waiting_; ++i) none[i] = A(__builtin_nan(""));
  }

  void of_views() {
    if (waiting_ < kLanes) clear_lanes();
    turn();
    switch (op_.views) {
      case 3: of_views<3>(); break;
      case 4: of_views<4>(); break;
      case 5: of_views<5>(); break;
      case 6: of_views<6>(); break;
      case 7: of_views<7>(); break;
      case 8: of_views<8>(); break;
      case 9: of_views<9>(); break;
      case 10: of_views<10>(); break;
      default: of_views<0>();
    }
    write_rows();
  }

  // Distances come in pair order: a run of them for each view, to the views after it. `few`: the number of views where
  // it is a constant, or 0.
  template <int64_t few>
  void of_views() {
    const int64_t views = few ? few : op_.views;
    const Vec<double> mean_row = 2 * load(sums_) / double(views);
    Vec<double> spread{}, even{}, odd{};
    int64_t run = 0;
#pragma GCC unroll 10
    for (int64_t v = 0; v < views; ++v) {
      Vec<double> row{}, half{};
      int64_t pair = v - 1;
#pragma GCC unroll 10
      for (int64_t i = 0; i < v; ++i) {
        row += column(pair);  // fault: views before
        pair += views - 2 - i;
      }
      const int64_t end = run + views - 1 - v;
      int64_t after = run;
#pragma GCC unroll 5
      for (; after + 1 < end; after += 2) {
        row += column(after) + column(after + 1);
        half += column(after + 1);  // fault: views of a half
      }
      if (after < end) row += column(after);
      store(view_rows_.get() + v * kLanes, row);
      spread += (row - mean_row) * (row - mean_row);
      (v % 2 ? odd : even) += half;
      run = end;
    }
    put(even * share_of_half_[0], half(0));
    put(odd * share_of_half_[1], half(1));
    for (int64_t lane = 0; lane < kLanes; ++lane) spread[lane] = __builtin_sqrt(spread[lane]);
    put(spread * share_of_spread_, errors());
  }

  void write_rows() const {
    constexpr int width = kLanes < 4 ? kLanes : 4;
    A* const rows = static_cast<A*>(op_.rows) + first_ * op_.views;
    for (int64_t v = 0; v < op_.views; v += width) {
      Vec<double> part[width];
      columns_to_rows<width>(view_rows_.get() + v * kLanes, part);
      Narrow narrow[width];
#pragma GCC unroll 4
      for (int i = 0; i < width; ++i) narrow[i] = __builtin_convertvector(part[i], Narrow);
      const A* const from = reinterpret_cast<const A*>(narrow);
      if (op_.views - v >= width)
        copy_rows<width, width>(from, rows + v);
      else if (op_.views - v == 1)
        copy_rows<1, width>(from, rows + v);
      else if (op_.views - v == 2)
        copy_rows<2, width>(from, rows + v);
      else
        copy_rows<3, width>(from, rows + v);
    }
  }

  template <int count, int width>
  void copy_rows(const A* from, A* to) const {
    for (int64_t i = 0; i < waiting_; ++i)
      std::memcpy(to + i * op_.views, from + i * width, count * sizeof(A));
  }

  void clear_lanes() {
    for (int64_t i = waiting_ * stride_; i < kLanes * stride_; ++i) rows_[i] = 0;
    for (int64_t i = waiting_; i < kLanes; ++i) sums_[i] = 0;
  }

  void turn() const {
    if (stride_ == 4 && kLanes > 4) return rows_to_columns<(kLanes > 4 ? 4 : 1)>(rows_.get(), stride_, columns_.get());
    for (int64_t pair = 0; pair < pairs_; pair += kLanes)
      rows_to_columns<kLanes>(rows_.get() + pair, stride_, columns_.get() + pair * kLanes);
  }

  Vec<double> column(int64_t pair) const { return load(columns_.get() + pair * kLanes); }
  A* half(int64_t h) const { return static_cast<A*>(op_.halves) + h * op_.points + first_; }
  A* errors() const { return static_cast<A*>(op_.errors) + first_; }

  // The lanes of points that wait.
  void put(Vec<double> lanes, A* to) const {
    const Narrow narrow = __builtin_convertvector(lanes, Narrow);
    if (waiting_ == kLanes)
      std::memcpy(to, &narrow, sizeof(narrow));
    else
      std::memcpy(to, &narrow, size_t(waiting_) * sizeof(A));
  }

  const Alignment& op_;
  const int64_t pairs_, stride_;
  const Scratch<double, 8 * 48> rows_;     // [kLanes points, stride] distances
  const Scratch<double, 8 * 48> columns_;  // [stride, kLanes] the same
  const Scratch<double, 8 * 12> view_rows_;   // [views, kLanes]
  double sums_[kLanes];                    // of the distances of a point
  int64_t first_ = 0, waiting_ = 0;        // the point that waits longest; how many do
  double share_of_half_[2], share_of_spread_;  // of a pair in the mean of its half; of the rows' spread in the error
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
