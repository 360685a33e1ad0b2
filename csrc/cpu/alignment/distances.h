// From the sums of one point to its distances: which sums can be trusted, and what is done about the others.
#pragma once
#include <optional>

#include "alignment.h"
#include "cpu/dispatch/scratch.h"
#include "exact_distance.h"
#include "ops.h"
#include "pair_tiles.h"
#include "rules.h"
#include "view_sums.h"

namespace memkern {
namespace MEMKERN_ISA {

template <class A>
struct Limits;
// Between these a sum of squares is exact to rounding: no square that matters has overflowed or lost digits.
// `norm_error`: relative error of a norm made of such sums (measured 2e-8 to 4e-8 in float). `fair_share`: see below.
// `more_dims`: where more have smaller errors.
template <>
struct Limits<float> {
  static constexpr double smallest_sum = 1e-24, largest_sum = 3e38, norm_error = 4e-8;
  static constexpr double fair_share = Lanes<float>::count >= 16 ? 0.25 : 0.4;
  static constexpr bool more_dims = true;
};
template <>
struct Limits<double> {
  static constexpr double smallest_sum = 1e-280, largest_sum = 1e308, norm_error = 1e-16, fair_share = 0.5;
  static constexpr bool more_dims = false;  // their sums of ranges are rounded like all others
};

// The distance of unit vectors from sums of the raw ones: with p = |a||b|,
//   |a/|a| - b/|b||^2 = |a-b|^2/p - (|a|-|b|)^2/p = square - gap.
// Both carry rounding errors, so the difference is trusted only
//  - where it is a fair share of the square, whose own error it inherits: a quarter (worst measured: 5e-7 of the
//    distance, beside torch's 4e-7; with fewer lanes and of doubles more, to stay as near to torch's error), and
//  - where the error of the gap, about 2 sqrt(gap) norm_error, stays below 4e-7 of the result, or grows no faster with
//    shrinking distance than the error of subtracting unit vectors in float does (2e-6 at a distance of 1e-3): that is
//    so while the lengths differ by less than a tenth (or a twentieth) of the distance, as those of near-identical
//    views do. (Where only a handful of elements differ, subtracting unit vectors is exact in all the others, and
//    better than this: 2e-5 against up to 1e-3 of a distance of 1e-7.)
// Floats are added up to 136 at a time, and these sums in double: their errors average out, with the root of the number
// of dims. From 1024 on a share may be the smaller by it, and so may the norms' error; but four times at most, because
// those of flat maps, whose sums are all rounded the same way, do not (6e-6 of such a distance, torch 1.5e-5 and, with
// more dims, more; of random ones 5e-7 beside torch's 5e-7).
// A pair that is not trusted costs a look at its elements. With half instead of a quarter, or with the same share for
// all dims, many pairs in the layers of an untrained ResNet50 were looked at. NaN is never trusted.
template <class A>
class CancellationTest {
 public:
  explicit CancellationTest(int64_t dims) {
    // fault: trust of many dims
    const double fewer = Limits<A>::more_dims && dims > 1024 ? __builtin_sqrt(1024 / double(dims)) : 1;
    const double errors = fewer > 0.25 ? fewer : 0.25;
    fair_share_ = Limits<A>::fair_share * errors;
    norm_error_ = Limits<A>::norm_error * errors;
    slope_ = 10 / errors;
  }
  // Of doubles or of vectors of them.
  template <class D>
  auto is_fair_share(D square, D gap) const {
    return square - gap >= fair_share_ * square;  // fault: trust
  }
  template <class D>
  auto operator()(D square, D gap) const {
    constexpr double share = Lanes<A>::count >= 16 ? 0.01 : 0.0025;  // fewer lanes, longer sums, larger errors
    const D rest = square - gap, allowed = slope_ * rest - norm_error_;
    return is_fair_share(square, gap) & (((allowed > 0) & (allowed * allowed >= gap)) | (share * rest >= gap));
  }

 private:
  double fair_share_, norm_error_, slope_;
};

template <class A>
class Distances {
 public:
  Distances(const Alignment& op, const ExactViews& exact, const Elements* elements = nullptr)
      : op_(op),
        exact_(exact),
        elements_(elements),
        trusted_(op.dims),
        pairs_(pair_count(op)),
        view_sums_(op),
        gaps_(op.normalize ? pairs_ : 0),
        scales_(op.normalize ? pairs_ : 0),
        norms_(op.views),
        inverses_(op.views),
        twins_(op.views),
        norm_is_exact_(op.views),
        columns_(in_lanes() ? sums_of_slice(op) : 0),
        rows_of_distances_(in_lanes() ? Lanes<double>::count * pairs_ : 0),
        open_(op.normalize ? pairs_ : 0),
        squares_(op.normalize ? pairs_ : 0) {}

  // `sums` of point `index`: |a-b|^2 of each pair, then (if normalized) |a|^2 of each view.
  void finish(int64_t index, const double* sums) {
    index_ = index;
    distances_ = view_sums_.distances();
    if (op_.distance == Distance::l1)
      l1_distances();
    else if (op_.normalize)
      unit_distances(sums);
    else
      raw_distances(sums);
    if (is_of_directions(op_.distance))
      for (int64_t k = 0; k < pairs_; ++k) distances_[k] = distance_of_directions(op_.distance, distances_[k]);
    const double sum = sum_of(distances_, pairs_);
    write_mean(index, sum);
    if (op_.saved) save(index);
    view_sums_.add(index, sum);
  }

  // The same of `points` neighbours from point `index` on, whose sums follow each other.
  void finish_points(int64_t index, int64_t points, const double* sums) {
    const int64_t per_point = sums_of_slice(op_);
    for (int64_t i = 0; i < points; i += kPoints) {
      const int64_t some = points - i < kPoints ? points - i : kPoints;
      if (in_lanes() && some > 1)
        finish_lanes(index + i, some, sums + i * per_point);
      else
        for (int64_t p = i; p < i + some; ++p) finish(index + p, sums + p * per_point);
    }
  }

  // After the last point.
  void end() { view_sums_.write(index_ + 1); }

 private:
  using Limit = Limits<A>;
  // Of a double or of a vector of them, like norm_in_range.
  template <class D>
  static auto in_range(D sum) {
    return (sum >= Limit::smallest_sum) & (sum <= Limit::largest_sum);
  }

  void write_mean(int64_t index, double sum) const {
    // fault: mean over pairs
    static_cast<A*>(op_.alignment)[index] = A(sum / double(pairs_));
  }

  // In a fixed order, eight at a time: one long chain of additions took as long as the distances themselves.
  static double sum_of(const double* x, int64_t n) {
    constexpr int lanes = Lanes<double>::count;
    Vec<double> sum{};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) sum += load(x + i);
    double total = n >= lanes ? sum_lanes<double>(sum) : 0;
    for (; i < n; ++i) total += x[i];
    return total;
  }

  // ---- a vector of points, a lane each ---------------------------------------------------------------------------
  // Point by point, roots and divisions of few views take as long as the sums of short rows. The operations are those
  // of raw_distances and unit_distances, and so are the bits.

  using Doubles = Vec<double>;
  static constexpr int kPoints = Lanes<double>::count;

  bool in_lanes() const {
    return op_.pairs == Pairs::all && op_.views <= kFewViews && op_.distance == Distance::l2 && !op_.saved && !op_.rows;
  }

  static Doubles roots(Doubles x) {
    for (int lane = 0; lane < kPoints; ++lane) x[lane] = __builtin_sqrt(x[lane]);
    return x;
  }

  void finish_lanes(int64_t index, int64_t points, const double* sums) {
    const int64_t per_point = sums_of_slice(op_);
    for (int64_t k = 0; k < per_point; ++k)
      for (int lane = 0; lane < kPoints; ++lane)
        columns_[k][lane] = sums[(lane < points ? lane : 0) * per_point + k];  // fault: lanes of points
    const auto bad = op_.normalize ? unit_lanes() : raw_lanes();
    for (int lane = 0; lane < points; ++lane) {
      if (bad[lane]) {  // fault: lanes in doubt
        finish(index + lane, sums + lane * per_point);
        continue;
      }
      const double sum = sum_of(rows_of_distances_.get() + lane * pairs_, pairs_);
      write_mean(index + lane, sum);
    }
    index_ = index + points - 1;
  }

  // Distances of each point into rows_of_distances_; nonzero in the lanes of points that take a closer look.
  auto raw_lanes() {
    auto bad = Doubles{} != Doubles{};
    for (int64_t k = 0; k < pairs_; ++k) {
      const Doubles sum = columns_[k];
      bad |= !in_range(sum);
      put_lanes(k, roots(sum));
    }
    return bad;
  }

  auto unit_lanes() {
    Doubles norm[kFewViews], inverse[kFewViews];
    for (int64_t v = 0; v < op_.views; ++v) {
      const Doubles squared = columns_[pairs_ + v];
      norm[v] = roots(squared);
      inverse[v] = norm_in_range(squared) ? 1 / norm[v] : broadcast(__builtin_nan(""));
    }
    auto bad = Doubles{} != Doubles{};
    int64_t k = 0;
    for (int64_t i = 0; i < op_.views; ++i)
      for (int64_t j = i + 1; j < op_.views; ++j, ++k) {
        const Doubles sum = columns_[k], difference = norm[i] - norm[j], scale = inverse[i] * inverse[j];
        const Doubles square = sum * scale, gap = difference * difference * scale, rest = square - gap;
        bad |= !(trusted_(square, gap) & in_range(sum));
        put_lanes(k, roots(rest > 0 ? rest : Doubles{}));
      }
    return bad;
  }

  void put_lanes(int64_t pair, Doubles distances) {
    for (int lane = 0; lane < kPoints; ++lane) rows_of_distances_[lane * pairs_ + pair] = distances[lane];
  }

  // ---- one point -------------------------------------------------------------------------------------------------

  void raw_distances(const double* sums) {
    int doubtful = 0;
    for (int64_t k = 0; k < pairs_; ++k) {
      distances_[k] = __builtin_sqrt(sums[k]);
      doubtful |= !in_range(sums[k]);
    }
    if (doubtful == 0) return;
    begin_looking();
    for_each_pair(op_.pairs, op_.views, [&](int64_t k, int64_t i, int64_t j) {
      if (in_range(sums[k]) || sums[k] != sums[k]) return;
      distances_[k] = sums[k] == 0 && are_twins(i, j) ? 0 : exact_.distance(view(i), 1, view(j), 1, op_.dims);
    });
  }

  void unit_distances(const double* sums) {
    const double* const squared_norms = sums + pairs_;
    for (int64_t v = 0; v < op_.views; ++v) {
      norms_[v] = __builtin_sqrt(squared_norms[v]);
      // a norm that cannot be trusted makes its pairs NaN, which are not trusted either
      inverses_[v] = norm_in_range(squared_norms[v]) ? 1 / norms_[v] : __builtin_nan("");
    }
    for_each_pair(op_.pairs, op_.views, [&](int64_t k, int64_t i, int64_t j) {
      gaps_[k] = norms_[i] - norms_[j];
      scales_[k] = inverses_[i] * inverses_[j];
    });
    int doubtful = 0;
    for (int64_t k = 0; k < pairs_; ++k) {
      const double square = sums[k] * scales_[k], gap = gaps_[k] * gaps_[k] * scales_[k], rest = square - gap;
      distances_[k] = __builtin_sqrt(rest > 0 ? rest : 0);
      doubtful |= int(!trusted_(square, gap)) | int(!in_range(sums[k]));
    }
    if (doubtful) correct_unit_distances(sums);
  }

  // From the elements, in double: a sum of squares says nothing of them.
  void l1_distances() {
    begin_looking();
    for (int64_t v = 0; v < op_.views; ++v) {
      inverses_[v] = 1;
      norm_is_exact_[v] = false;
      if (op_.normalize) make_norm_exact(v);
    }
    if (!l1_rows_) l1_rows_.emplace(op_.views * kL1Dims);
    exact_.l1_pair_sums(op_, point_, view_stride_, inverses_.get(), l1_rows_->get(), distances_);
  }

  template <class D>
  static auto norm_in_range(D squared_norm) {
    return (squared_norm > kSmallestNorm * kSmallestNorm * 1.001) & in_range(squared_norm);
  }

  void correct_unit_distances(const double* sums) {
    begin_looking();
    for (int64_t v = 0; v < op_.views; ++v) norm_is_exact_[v] = false;
    int64_t open = 0, apart = 0;
    for_each_pair(op_.pairs, op_.views, [&](int64_t k, int64_t i, int64_t j) {
      const double square = sums[k] * scales_[k], gap = gaps_[k] * gaps_[k] * scales_[k];
      if (trusted_(square, gap) && in_range(sums[k])) return;
      distances_[k] = -1;
      open_[open++] = {k, i, j};  // fault: open pair
      apart += told_apart(square - gap);
    });
    if (exact_.unit_pair_sums && apart > 0) measure_together(open);
    for (int64_t p = 0; p < open; ++p) {
      const auto [k, i, j] = open_[p];
      if (distances_[k] < 0) distances_[k] = distance_by_norms(i, j, sums[k]);
      if (distances_[k] < 0) distances_[k] = exact_.distance(view(i), inverses_[i], view(j), inverses_[j], op_.dims);
    }
  }

  // The distance, or -1 if it takes a look at the elements.
  double distance_by_norms(int64_t i, int64_t j, double sum) {
    if (sum == 0 && are_twins(i, j)) return 0;
    make_norm_exact(i);
    make_norm_exact(j);
    if (norms_[i] == 0) return norms_[j] * inverses_[j];  // the length of the other unit vector
    if (norms_[j] == 0) return norms_[i] * inverses_[i];
    if constexpr (sizeof(A) < sizeof(double)) {
      // Norms in double leave the gap without an error; they are a read of each view, where every pair would be two.
      const double scale = inverses_[i] * inverses_[j], difference = norms_[i] - norms_[j];
      const double square = sum * scale, gap = difference * difference * scale;
      const bool clamped = norms_[i] < kSmallestNorm || norms_[j] < kSmallestNorm;
      if (in_range(sum) && !clamped && trusted_.is_fair_share(square, gap)) return __builtin_sqrt(square - gap);
    }
    return -1;
  }

  // True if elements of floats, brought to one length, tell a squared distance of unit vectors to 1e-7: rounding moves
  // them by some 3e-8 in random directions, so a distance by 3e-8 / sqrt(dims). (The error of a norm, 4e-8, stretches a
  // unit vector, and a squared distance feels only the square of that.) More than 4 is no such distance: it overflowed.
  bool told_apart(double square) const { return (square * double(op_.dims) > 0.1) & (square < 4.1); }  // fault: clear

  // All open pairs in one pass, in float; nearby ones stay open, and those whose norm is out of range (NaN).
  void measure_together(int64_t open) {
    if (!rows_) rows_.emplace(op_.views * kUnitDims);
    exact_.unit_pair_sums(point_, view_stride_, op_.views, op_.dims, inverses_.get(), open_.get(), open, rows_->get(),
                          squares_.get());
    for (int64_t p = 0; p < open; ++p) {
      const auto [k, i, j] = open_[p];
      if (told_apart(squares_[p])) distances_[k] = __builtin_sqrt(squares_[p]);
    }
  }

  // The error of a norm moves its unit vector, by more than what separates two nearly parallel ones.
  void make_norm_exact(int64_t v) {
    if (norm_is_exact_[v]) return;
    norms_[v] = exact_.norm(view(v), op_.dims);
    inverses_[v] = 1 / (norms_[v] < kSmallestNorm ? kSmallestNorm : norms_[v]);
    norm_is_exact_[v] = true;
  }

  // Identical views are common (a layer that is dead for a point, views that draw the same crop): each is compared with
  // one representative, not with every other.
  bool are_twins(int64_t i, int64_t j) {
    if (twins_[i] == twins_[j]) return true;
    if (std::memcmp(view(twins_[i]), view(j), size_t(op_.dims * exact_.element_bytes)) != 0) return false;
    twins_[j] = twins_[i];
    return true;
  }

  // The elements of the point, made once more if need be.
  void begin_looking() {
    const void* views = op_.z;
    view_stride_ = op_.view_stride;
    if (elements_)
      elements_->make(elements_->self, index_, &views, &view_stride_);
    else
      views = static_cast<const char*>(views) + index_ * op_.point_stride * exact_.element_bytes;
    point_ = static_cast<const char*>(views);
    for (int64_t v = 0; v < op_.views; ++v) twins_[v] = v;
  }

  void save(int64_t index) const {
    A* const saved = static_cast<A*>(op_.saved) + index * (pairs_ + (op_.normalize ? op_.views : 0));
    for (int64_t k = 0; k < pairs_; ++k) saved[k] = A(distances_[k]);
    if (op_.normalize)
      for (int64_t v = 0; v < op_.views; ++v) saved[pairs_ + v] = A(norms_[v]);
  }

  const char* view(int64_t v) const { return point_ + v * view_stride_ * exact_.element_bytes; }

  const Alignment& op_;
  const ExactViews exact_;
  const Elements* const elements_;
  const CancellationTest<A> trusted_;
  const int64_t pairs_;
  int64_t index_ = 0;            // of the point
  const char* point_ = nullptr;  // its elements, once it takes a look at them
  int64_t view_stride_ = 0;
  ViewSums<A> view_sums_;
  double* distances_ = nullptr;                      // [pairs] of the point
  const Scratch<double, 64> gaps_, scales_;          // [pairs]
  const Scratch<double, 16> norms_, inverses_;       // [views]
  const Scratch<int64_t, 16> twins_;                 // [views] the first view known to equal this one
  const Scratch<bool, 16> norm_is_exact_;            // [views]
  const Scratch<Doubles, kFewSums> columns_;         // [sums] of a vector of points
  const Scratch<double, 8 * 15> rows_of_distances_;  // [points of a vector, pairs]
  const Scratch<NumberedPair, 64> open_;             // [pairs] those that still need a look at their elements
  const Scratch<double, 64> squares_;                // [pairs] of them
  std::optional<Scratch<double>> l1_rows_;           // [views, kL1Dims]
  std::optional<Scratch<float>> rows_;               // [views, kUnitDims], once they are needed
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
