// Sums over the views of a point, from their distances: rows, halves and errors (ops.h). A vector of points at a time,
// a lane each: point by point they took a fifth as long again as the distances of short rows.
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

// Turns rows of numbers, a point each, into columns, a lane for each point: the first `width` numbers, a power of two
// up to a vector, of a vector of points. Rows are `stride` apart, which is `width` unless a row is longer than a
// vector.
template <int width>
inline void rows_to_columns(const double* rows, int64_t stride, Vec<double>* columns) {
  constexpr int points = Lanes<double>::count / width;  // in a vector
  Vec<double> turned[width];
#pragma GCC unroll 8
  for (int i = 0; i < width; ++i) columns[i] = load(rows + i * points * stride);
  // Each turn takes the lowest bit of a number's place, in vectors and lanes, to the top.
#pragma GCC unroll 3
  for (int turns = 1; turns < width; turns *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < width / 2; ++i) {
      turned[i] = every_second_lane<0>(columns[2 * i], columns[2 * i + 1], LaneIndices<double>{});
      turned[i + width / 2] = every_second_lane<1>(columns[2 * i], columns[2 * i + 1], LaneIndices<double>{});
    }
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) columns[i] = turned[i];
  }
}

// The other way, in place.
template <int width>
inline void columns_to_rows(Vec<double>* columns) {
  Vec<double> turned[width];
#pragma GCC unroll 3
  for (int turns = 1; turns < width; turns *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < width / 2; ++i) {
      turned[2 * i] = interleaved_half<0, double>(columns[i], columns[i + width / 2], LaneIndices<double>{});
      turned[2 * i + 1] = interleaved_half<1, double>(columns[i], columns[i + width / 2], LaneIndices<double>{});
    }
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) columns[i] = turned[i];
  }
}

// Takes the distances of points in a row, and writes what they say once there are enough, or at the end.
template <class A>
class ViewSums {
 public:
  explicit ViewSums(const Alignment& op)
      : op_(op),
        pairs_(pair_count(op)),
        stride_(op.rows && op.views > 2 ? row_of(op.views) : 0),
        enough_(stride_ == 0     ? kPointsOfTwo
                : stride_ < kRow ? kRow / stride_ * kLanes
                                 : kLanes),
        distances_(stride_ == 0 ? pairs_ : enough_ * stride_),
        next_(distances_.get()),
        columns_(op.views > kFew ? stride_ : 0),
        rows_(op.views > kFew && stride_ > 0 ? op.views + kWidth : 0) {
    for (int64_t h = 0; h < 2; ++h) share_of_half_[h] = share_of_a_pair((op.views + 1 - h) / 2);
    share_of_spread_ = error_of_views(1, op.views);
  }

  // [pairs]: where the distances of the next point belong.
  double* distances() const { return next_; }

  // They are there. `sum`: of them; the alignment of the point is written.
  void add(int64_t point, double sum) {
    if (!op_.rows) return;
    if (stride_ > 0) next_[pairs_] = sum;
    next_ += stride_;  // fault: row of the next point
    if (++waiting_ == enough_) write(point + 1);
  }

  // Writes what the points that wait say, up to `end`.
  void write(int64_t end) {
    const int64_t first = end - waiting_;
    if (op_.views == 2)
      of_two_views(first);
    else
      for (int64_t i = 0; i < waiting_; i += kLanes)
        // fault: vectors of points
        of_points({first + i, waiting_ - i < kLanes ? waiting_ - i : kLanes, distances_.get() + i * stride_});
    next_ = distances_.get();
    waiting_ = 0;
  }

 private:
  static constexpr int kLanes = Lanes<double>::count, kWidth = kLanes < 4 ? kLanes : 4;
  // Points of two views that wait, and distances of others in a lane: many, because those just written are not yet
  // where whole vectors are loaded from.
  static constexpr int64_t kPointsOfTwo = 1024, kRow = 32;
  static constexpr int64_t kFew = 10;  // views up to which loops are unrolled
  typedef A Narrow __attribute__((vector_size(kLanes * sizeof(A))));

  // At most a vector of points that wait.
  struct Points {
    int64_t first, count;
    double* distances;  // [kLanes, stride]
  };

  // A row of the distances of a point and their sum.
  static constexpr int64_t row_of(int64_t views) {
    const int64_t numbers = views * (views - 1) / 2 + 1;
    int64_t width = 1;
    while (width < numbers && width < kLanes) width *= 2;
    return (numbers + width - 1) / width * width;
  }

  // Both rows are the one distance, and no half has a pair.
  void of_two_views(int64_t first) const {
    const A* const distance = static_cast<const A*>(op_.alignment) + first;
    A* const rows = static_cast<A*>(op_.rows) + 2 * first;
    for (int64_t i = 0; i < waiting_; ++i) rows[2 * i] = rows[2 * i + 1] = distance[i];  // fault: rows of two
    for (A* const none : {half(0, first), half(1, first), errors(first)})
      for (int64_t i = 0; i < waiting_; ++i) none[i] = A(__builtin_nan(""));
  }

  void of_points(const Points& points) const {
    for (int64_t i = points.count * stride_; i < kLanes * stride_; ++i) points.distances[i] = 0;
    switch (op_.views) {
      case 3:
        return of_views<3>(points);
      case 4:
        return of_views<4>(points);
      case 5:
        return of_views<5>(points);
      case 6:
        return of_views<6>(points);
      case 7:
        return of_views<7>(points);
      case 8:
        return of_views<8>(points);
      case 9:
        return of_views<9>(points);
      case 10:
        return of_views<10>(points);
      default:
        return of_views<0>(points);
    }
  }

  // `few`: the number of views where it is a constant, or 0.
  template <int64_t few>
  void of_views(const Points& points) const {
    const int64_t views = few ? few : op_.views, pairs = few ? few * (few - 1) / 2 : pairs_;
    Vec<double> few_columns[few ? row_of(few) : 1], few_rows[few + kWidth];
    Vec<double>*const column = few ? few_columns : columns_.get(), *const rows = few ? few_rows : rows_.get();
    constexpr int width = few && row_of(few) < kLanes ? row_of(few) : kLanes;
#pragma GCC unroll 8
    for (int64_t k = 0; k < pairs + 1; k += width) rows_to_columns<width>(points.distances + k, stride_, column + k);
    const Vec<double> mean_row = 2 * column[pairs] / double(views);
    Vec<double> spread{}, halves[2] = {};
    for (int64_t v = views; v < views + kWidth - 1; ++v) rows[v] = Vec<double>{};  // those that put_rows adds
    // Distances come in pair order: a run of them for each view, to the views after it.
    int64_t run = 0;
#pragma GCC unroll 10
    for (int64_t v = 0; v < views; ++v) {
      Vec<double> row{}, half{};
      int64_t pair = v - 1, after = run;
#pragma GCC unroll 10
      for (int64_t i = 0; i < v; ++i) {
        row += column[pair];  // fault: views before
        pair += views - 2 - i;
      }
      run += views - 1 - v;
#pragma GCC unroll 5
      for (; after + 1 < run; after += 2) {
        row += column[after] + column[after + 1];
        half += column[after + 1];  // fault: views of a half
      }
      if (after < run) row += column[after];
      rows[v] = row;
      spread += (row - mean_row) * (row - mean_row);
      halves[v % 2] += half;
    }
    put(halves[0] * share_of_half_[0], points.count, half(0, points.first));
    put(halves[1] * share_of_half_[1], points.count, half(1, points.first));
    for (int lane = 0; lane < kLanes; ++lane) spread[lane] = __builtin_sqrt(spread[lane]);
    put(spread * share_of_spread_, points.count, errors(points.first));
    A* const to = static_cast<A*>(op_.rows) + points.first * views;
#pragma GCC unroll 3
    for (int64_t v = 0; v < views; v += kWidth) {
      if (views - v >= kWidth)
        put_rows<kWidth>(rows + v, points.count, views, to + v);
      else if (views - v == 1)
        put_rows<1>(rows + v, points.count, views, to + v);
      else if (views - v == 2)
        put_rows<2>(rows + v, points.count, views, to + v);
      else if constexpr (kWidth > 3)
        put_rows<3>(rows + v, points.count, views, to + v);
    }
  }

  // The rows of `some` views, of n points.
  template <int some>
  static void put_rows(Vec<double>* rows, int64_t n, int64_t views, A* to) {
    columns_to_rows<kWidth>(rows);
    alignas(64) A narrow[kWidth * kLanes];
#pragma GCC unroll 4
    for (int i = 0; i < kWidth; ++i) put(rows[i], kLanes, narrow + i * kLanes);
    if (n == kLanes) {
      // Three views alone: as four, whose fourth the next point writes over.
      const int most = some == 3 && views == 3 ? 4 : some;
#pragma GCC unroll 8
      for (int i = 0; i < kLanes - 1; ++i) std::memcpy(to + i * views, narrow + i * kWidth, most * sizeof(A));
      std::memcpy(to + (kLanes - 1) * views, narrow + (kLanes - 1) * kWidth, some * sizeof(A));
    } else {
      for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * views, narrow + i * kWidth, some * sizeof(A));
    }
  }

  // The first n lanes.
  static void put(Vec<double> lanes, int64_t n, A* to) {
    const Narrow narrow = __builtin_convertvector(lanes, Narrow);
    if (n == kLanes)
      std::memcpy(to, &narrow, sizeof(narrow));
    else
      std::memcpy(to, &narrow, size_t(n) * sizeof(A));
  }

  A* half(int64_t h, int64_t first) const { return static_cast<A*>(op_.halves) + h * op_.points + first; }
  A* errors(int64_t first) const { return static_cast<A*>(op_.errors) + first; }

  const Alignment& op_;
  const int64_t pairs_, stride_, enough_;
  const Scratch<double, 8 * 48> distances_;    // [enough, stride] of the points that wait, and their sum
  double* next_;                               // the row of the next point
  const Scratch<Vec<double>> columns_;         // [stride] the same of a vector of points, where there are many
  const Scratch<Vec<double>> rows_;            // [views + kWidth] of them
  int64_t waiting_ = 0;                        // points
  double share_of_half_[2], share_of_spread_;  // of a pair in the mean of its half; of the rows' spread in the error
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
