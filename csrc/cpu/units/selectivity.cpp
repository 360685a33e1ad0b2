// selectivity: activations -> per unit the largest mean, where it was, the sum of all the others, the smallest mean.
//
// A few rows (one point each) are visited at once, so that a unit's state is loaded and stored once for all of them.
// The rows are the input itself where it has one element per point and unit and no activation function is to be
// applied, else the means of those points.
#include <type_traits>

#include "cpu/dispatch/kernels.h"
#include "cpu/dispatch/scratch.h"
#include "rules.h"
#include "unit_means.h"
#include "unit_sums.h"

namespace memkern {
namespace MEMKERN_ISA {
namespace {

constexpr int64_t kRows = 8;

template <class Mask>
inline bool any_lane(const Mask& mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  uint64_t words[sizeof(Mask) / 8], seen = 0;
  std::memcpy(words, &mask, sizeof(Mask));
  for (const uint64_t word : words) seen |= word;
  return seen != 0;
#endif
}

// Sums, in double, the values of one group over the rows visited at once. They go through memory, from where the
// conversion is cheaper (load_double).
template <class T>
struct LostValues {
  using A = Wide<T>;
  void add(int64_t row, int column, Vec<A> v) { values[row][column] = v; }
  void sum(int64_t rows, Vec<double>* sums) const {
    constexpr int parts = kDoubles<A>;
    for (int i = 0; i < kColumns<T> * parts; ++i) sums[i] = Vec<double>{};
    for (int64_t r = 0; r < rows; ++r) {
      Vec<double> in_double[parts];
      for (int c = 0; c < kColumns<T>; ++c) {
        load_double(reinterpret_cast<const A*>(&values[r][c]), in_double);
        for (int part = 0; part < parts; ++part) sums[c * parts + part] += in_double[part];
      }
    }
  }
  Vec<A> values[kRows][kColumns<T>];
};

// The same for 16-bit values, of which a few add up exactly in float.
template <class T>
struct ShortSums {
  void add(int64_t, int column, Vec<float> v) { values[column] += v; }
  void sum(int64_t, Vec<double>* sums) const {
    for (int c = 0; c < kColumns<T>; ++c) to_double(values[c], sums + c * kDoubles<float>);
  }
  Vec<float> values[kColumns<T>] = {};
};
template <>
struct LostValues<bf16> : ShortSums<bf16> {};
template <>
struct LostValues<f16> : ShortSums<f16> {};

// The state of all units while a range is visited. Units are kept by groups and, within a group, by the columns in
// which load_group delivers them. A ragged last group is the last whole group of the row; the units in it that
// belong to the group before are worked out twice and written once.
template <class T>
class UnitStates {
  using A = Wide<T>;
  using Position = std::conditional_t<sizeof(A) == 4, uint32_t, uint64_t>;  // counted from the range's first
  using Positions = typename Lanes<A>::Bits;

 public:
  explicit UnitStates(int64_t units)
      : units_(units),
        groups_((units + kGroup<T> - 1) / kGroup<T>),
        peak_(groups_ * kGroup<T>),
        minimum_(groups_ * kGroup<T>),
        position_(groups_ * kGroup<T>),
        rest_(groups_ * kGroup<T>) {}

  void start(const T* row) {
    for (int64_t g = 0; g < groups_; ++g) {
      Vec<A> columns[kColumns<T>];
      load_group(row + offset(g), columns);
      for (int c = 0; c < kColumns<T>; ++c) {
        const int64_t at = g * kGroup<T> + c * Lanes<A>::count;
        store(&peak_[at], columns[c]);
        store(&minimum_[at], columns[c]);
        std::memset(&position_[at], 0, sizeof(Vec<A>));
        std::memset(&rest_[at], 0, sizeof(double) * Lanes<A>::count);
      }
    }
  }

  // rows[i][unit] is the value at position + i. The rows visited next are only prefetched.
  void visit(const T* const* rows, int64_t count, Position position, const T* const* next) {
    const int64_t ahead = kGroupsAhead < groups_ ? kGroupsAhead : groups_;
    for (int64_t g = 0; g < groups_; ++g) {
      const bool in_row = g + ahead < groups_;
      const T* const* const from = in_row ? rows : next;
      const int64_t at = (in_row ? g + ahead : g + ahead - groups_) * kGroup<T>;
      for (int64_t r = 0; r < count; ++r) prefetch(from[r], at * int64_t(sizeof(T)));
      if (!visit_numbers(g, rows, count, position)) visit_any(g, rows, count, position);
    }
  }

  // The first `units` states, positions counted from `first`.
  void write(const SelectivityState& state, int64_t first, int64_t units) const {
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t e = g * kGroup<T> - offset(g); e < kGroup<T>; ++e) {
        const int64_t unit = offset(g) + e, at = slot(g, e);
        if (unit >= units) return;
        static_cast<A*>(state.peak)[unit] = peak_[at];
        static_cast<A*>(state.minimum)[unit] = minimum_[at];
        state.index[unit] = first + int64_t(position_[at]);
        state.rest[unit] = rest_[at];
      }
    }
  }

 private:
  int64_t offset(int64_t group) const { return group < groups_ - 1 ? group * kGroup<T> : units_ - kGroup<T>; }
  // place of element e of a group
  static int64_t slot(int64_t group, int64_t e) {
    return group * kGroup<T> + e % kColumns<T> * Lanes<A>::count + e / kColumns<T>;
  }

  // Returns false, having changed nothing, if there is a NaN among the values. Without one, plain comparisons do.
  bool visit_numbers(int64_t group, const T* const* rows, int64_t count, Position position) {
    constexpr int lanes = Lanes<A>::count;
    const int64_t from = offset(group), at = group * kGroup<T>;
    Vec<A> peak[kColumns<T>], minimum[kColumns<T>];
    Positions where[kColumns<T>];
    for (int c = 0; c < kColumns<T>; ++c) {
      peak[c] = load(&peak_[at + c * lanes]);
      minimum[c] = load(&minimum_[at + c * lanes]);
      std::memcpy(&where[c], &position_[at + c * lanes], sizeof(Positions));
    }
    LostValues<T> lost;
    for (int64_t r = 0; r < count; ++r) {
      Vec<A> value[kColumns<T>];
      load_group(rows[r] + from, value);
      for (int c = 0; c < kColumns<T>; ++c) {
        // fault: rises
        const auto rises = value[c] > peak[c];
        lost.add(r, c, peak[c] < value[c] ? peak[c] : value[c]);  // a NaN value is the one that loses
        where[c] = rises ? Positions{} + Position(position + r) : where[c];
        peak[c] = rises ? value[c] : peak[c];
        minimum[c] = value[c] < minimum[c] ? value[c] : minimum[c];
      }
    }
    Vec<double> sums[kColumns<T> * kDoubles<A>];
    lost.sum(count, sums);
    Vec<double> all = sums[0];
    for (int i = 1; i < kColumns<T> * kDoubles<A>; ++i) all += sums[i];
    if (any_lane(all != all)) return false;  // fault: no NaN
    for (int c = 0; c < kColumns<T>; ++c) {
      store(&peak_[at + c * lanes], peak[c]);
      store(&minimum_[at + c * lanes], minimum[c]);
      std::memcpy(&position_[at + c * lanes], &where[c], sizeof(Positions));
    }
    for (int i = 0; i < kColumns<T> * kDoubles<A>; ++i) {
      double* const rest = &rest_[at + i * Lanes<double>::count];
      store(rest, load(rest) + sums[i]);
    }
    return true;
  }

  // The rows are summed before they join the rest, as in visit_numbers: a NaN changes no bit of another unit.
  void visit_any(int64_t group, const T* const* rows, int64_t count, Position position) {
    for (int64_t e = 0; e < kGroup<T>; ++e) {
      const int64_t at = slot(group, e);
      std::conditional_t<sizeof(T) == 2, float, double> lost = 0;
      for (int64_t r = 0; r < count; ++r) {
        const A value = widen(rows[r][offset(group) + e]);
        const bool rises = replaces(value, peak_[at]);
        lost += rises ? peak_[at] : value;
        minimum_[at] = lower(value, minimum_[at]);
        if (!rises) continue;
        peak_[at] = value;
        position_[at] = position + Position(r);
      }
      rest_[at] += lost;
    }
  }

  static constexpr int64_t kGroupsAhead = 2048 / (kGroup<T> * int64_t(sizeof(T)));
  const int64_t units_, groups_;
  const Scratch<A> peak_, minimum_;
  const Scratch<Position> position_;
  const Scratch<double> rest_;
};

// ---- rows for the states -----------------------------------------------------------------------------------------

// The input itself, a point per row of at least one whole group.
template <class T>
void visit_input(const Selectivity& op, int64_t first, int64_t last) {
  const T* const x = static_cast<const T*>(op.x.data);
  const auto row = [&](int64_t position) { return x + (op.order ? op.order[position] : position) * op.x.point_stride; };
  UnitStates<T> states(op.x.units);
  states.start(row(first));
  const T *rows[kRows], *next[kRows];
  for (int64_t at = first + 1; at < last; at += kRows) {
    const int64_t count = last - at < kRows ? last - at : kRows;
    for (int64_t r = 0; r < count; ++r) {
      rows[r] = row(at + r);
      next[r] = row(at + kRows + r < last ? at + kRows + r : at + r);
    }
    states.visit(rows, count, at - first, next);
  }
  states.write(op.state, first, op.x.units);
}

// The means of each point, a few points at a time.
template <class A>
void visit_means(const Selectivity& op, int64_t first, int64_t last) {
  const int64_t units = op.x.units, together = op.order ? kRows : points_together(op.x);
  const int64_t block = together > kRows ? together : kRows;
  // A row of fewer units than a group is read into the row after it; what comes of that is not written.
  const Scratch<A> means(block * units + kGroup<A>);
  for (int64_t i = 0; i < kGroup<A>; ++i) means[block * units + i] = 0;
  UnitStates<A> states(units < kGroup<A> ? kGroup<A> : units);
  for (int64_t at = first; at < last; at += block) {
    const int64_t count = last - at < block ? last - at : block;
    if (op.order)
      for (int64_t r = 0; r < count; ++r) write_means(op.x, op.order[at + r], op.order[at + r] + 1, &means[r * units]);
    else
      write_means(op.x, at, at + count, means.get());
    int64_t r = 0;
    if (at == first) states.start(&means[r++ * units]);
    for (; r < count; r += kRows) {
      const A* rows[kRows];
      const int64_t n = count - r < kRows ? count - r : kRows;
      for (int64_t i = 0; i < n; ++i) rows[i] = &means[(r + i) * units];
      states.visit(rows, n, at + r - first, rows);
    }
  }
  states.write(op.state, first, units);
}

// The few who ask for an activation function pay for it with a copy in cache; compiling the above for each function
// took twice as long as all the rest of this file.
template <class T>
void visit(const Selectivity& op, int64_t first, int64_t last) {
  const Activations& x = op.x;
  if (x.mean_dims == 0 && x.unit_stride == 1 && x.units >= kGroup<T> && x.activation == Activation::raw)
    visit_input<T>(op, first, last);
  else
    visit_means<Wide<T>>(op, first, last);
}

// Without branches: which part of the points holds a unit's peak cannot be predicted.
template <class A>
void merge(const SelectivityState& into, const SelectivityState& from, int64_t first, int64_t last) {
  A* const __restrict peak = static_cast<A*>(into.peak);
  A* const __restrict minimum = static_cast<A*>(into.minimum);
  int64_t* const __restrict index = into.index;
  double* const __restrict rest = into.rest;
  const A* const later_peak = static_cast<const A*>(from.peak);
  const A* const later_minimum = static_cast<const A*>(from.minimum);
  for (int64_t u = first; u < last; ++u) {
    UnitState<A> state{peak[u], minimum[u], index[u], rest[u]};
    join(state, UnitState<A>{later_peak[u], later_minimum[u], from.index[u], from.rest[u]});
    peak[u] = state.peak;
    minimum[u] = state.minimum;
    index[u] = state.index;
    rest[u] = state.rest;
  }
}

}  // namespace

void selectivity(const Selectivity& op, const WorkRange& range) {
  switch (op.x.dtype) {
    case DType::float32:
      return visit<float>(op, range.first, range.last);
    case DType::float64:
      return visit<double>(op, range.first, range.last);
    case DType::bfloat16:
      return visit<bf16>(op, range.first, range.last);
    case DType::float16:
      return visit<f16>(op, range.first, range.last);
  }
}

void merge_selectivity(DType dtype, const SelectivityState& into, const SelectivityState& from,
                       const WorkRange& units) {
  if (dtype == DType::float64)
    merge<double>(into, from, units.first, units.last);
  else
    merge<float>(into, from, units.first, units.last);
}

}  // namespace MEMKERN_ISA
}  // namespace memkern
