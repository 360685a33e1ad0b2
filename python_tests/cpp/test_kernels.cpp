// Every op, instruction set and dtype on odd sizes, in heap blocks of exactly the size of the data: built with the
// address and undefined-behaviour sanitizers (test_sanitizers.py) an over-read, a write outside, a misaligned vector
// access or a signed overflow ends the program. Values are checked too, against plain loops in double; the thorough
// comparison with the float64 reference is the Python tests' job.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/dispatch/parallel.h"
#include "layout.h"
#include "test_pointwise.h"
#include "test_views.h"

using namespace memkern;

namespace {

int failures = 0;
std::string context;

void expect(bool good, const char* what, double got, double want) {
  if (good) return;
  if (++failures <= 20) std::fprintf(stderr, "%s: %s: got %.17g, expected %.17g\n", context.c_str(), what, got, want);
}

DType wide_of(DType dtype) { return dtype == DType::float64 ? dtype : DType::float32; }
double epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 1.2e-7;
    case DType::float64:
      return 2.3e-16;
    case DType::bfloat16:
      return 7.9e-3;
    case DType::float16:
      return 9.8e-4;
  }
  return 0;
}

// ---- half precision, the slow way ------------------------------------------------------------------------------

uint16_t encode_half(double value, int exponent_bits, int mantissa_bits) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (value == 0) return sign;
  int exponent;
  const double mantissa = std::frexp(std::fabs(value), &exponent) * 2 - 1;  // in [0, 1); the value is 2^(exponent-1)
  const int bias = (1 << (exponent_bits - 1)) - 1;
  return uint16_t(sign | (exponent - 1 + bias) << mantissa_bits | int(std::ldexp(mantissa, mantissa_bits)));
}

double decode_half(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1, exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const double mantissa = bits & ((1 << mantissa_bits) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                         : std::ldexp(1 + std::ldexp(mantissa, -mantissa_bits), exponent - bias);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// ---- a heap block of exactly `count` elements, `offset` elements past an aligned address --------------------------

class Block {
 public:
  Block(DType dtype, int64_t count, int64_t offset = 0)
      : dtype_(dtype),
        offset_(offset * size_of(dtype)),
        memory_(static_cast<char*>(std::malloc(size_t(offset_ + count * size_of(dtype))))) {
    std::memset(memory_, 0xff, size_t(offset_ + count * size_of(dtype)));  // NaN in every dtype
  }
  ~Block() { std::free(memory_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return memory_ + offset_; }

  void set(int64_t i, double value) const {
    char* const at = memory_ + offset_ + i * size_of(dtype_);
    const float narrow = float(value);
    uint16_t half = 0;
    switch (dtype_) {
      case DType::float32:
        std::memcpy(at, &narrow, 4);
        return;
      case DType::float64:
        std::memcpy(at, &value, 8);
        return;
      case DType::bfloat16:
        half = encode_half(value, 8, 7);
        break;
      case DType::float16:
        half = encode_half(value, 5, 10);
        break;
    }
    std::memcpy(at, &half, 2);
  }

  double get(int64_t i) const {
    const char* const at = memory_ + offset_ + i * size_of(dtype_);
    float narrow;
    double wide;
    uint16_t half;
    switch (dtype_) {
      case DType::float32:
        std::memcpy(&narrow, at, 4);
        return double(narrow);
      case DType::float64:
        std::memcpy(&wide, at, 8);
        return wide;
      default:
        std::memcpy(&half, at, 2);
    }
    return dtype_ == DType::bfloat16 ? decode_half(half, 8, 7) : decode_half(half, 5, 10);
  }

 private:
  DType dtype_;
  int64_t offset_;
  char* memory_;
};

// Multiples of 1/8 in [-4, 4]: exact in every dtype.
double value_at(int64_t i) { return double((i * 7919 + i / 13 * 104729) % 65 - 32) / 8; }

void fill(const Block& block, int64_t count) {
  for (int64_t i = 0; i < count; ++i) block.set(i, value_at(i));
}

// ---- alignment ---------------------------------------------------------------------------------------------------

struct Shape {
  int64_t points, views, dims;
};

// What alignment and its gradient are, in double: z [views, dims] of one point.
double align_point(const std::vector<double>& z, const Alignment& op, double grad, std::vector<double>* grad_z) {
  const int64_t views = op.views, dims = op.dims;
  std::vector<double> unit = z, norm(views, 1.0), total(z.size(), 0.0);
  for (int64_t v = 0; v < views && op.normalize; ++v) {
    double square = 0;
    for (int64_t d = 0; d < dims; ++d) square += z[v * dims + d] * z[v * dims + d];
    norm[v] = std::fmax(std::sqrt(square), 1e-12);
    for (int64_t d = 0; d < dims; ++d) unit[v * dims + d] /= norm[v];
  }
  double sum = 0;
  for (int64_t i = 0; i < (op.pairs == Pairs::anchor ? 1 : views); ++i)
    for (int64_t j = i + 1; j < views; ++j) {
      double square = 0;
      for (int64_t d = 0; d < dims; ++d) square += std::pow(unit[i * dims + d] - unit[j * dims + d], 2);
      const double distance = std::sqrt(square);
      sum += distance;
      for (int64_t d = 0; d < dims && distance > 0; ++d) {
        const double step = (unit[i * dims + d] - unit[j * dims + d]) / distance;
        total[i * dims + d] += step;
        total[j * dims + d] -= step;
      }
    }
  const double pairs = double(pair_count(op));
  for (int64_t v = 0; v < views && grad_z; ++v) {
    double radial = 0;
    for (int64_t d = 0; d < dims && op.normalize; ++d) radial += unit[v * dims + d] * total[v * dims + d];
    for (int64_t d = 0; d < dims; ++d)
      (*grad_z)[v * dims + d] = grad / pairs * (total[v * dims + d] - radial * unit[v * dims + d]) / norm[v];
  }
  return sum / pairs;
}

void test_alignment(DType dtype, const Shape& shape, Pairs pairs, bool normalize, bool keep, int threads) {
  const int64_t per_point = shape.views * shape.dims, count = shape.points * per_point;
  const int64_t pairs_of_all = shape.views * (shape.views - 1) / 2;
  const int64_t kept = (pairs == Pairs::all ? pairs_of_all : shape.views - 1) + (normalize ? shape.views : 0);
  const DType wide = wide_of(dtype);
  const Block z(dtype, count, 1), out(wide, shape.points), saved(wide, keep ? shape.points * kept : 0);
  fill(z, count);
  const bool sums = pairs == Pairs::all;
  const Block rows(wide, shape.points * shape.views), halves(wide, 2 * shape.points), errors(wide, shape.points);
  const Alignment op = {{z.data(), dtype, shape.points, shape.views, shape.dims, per_point, shape.dims, pairs,
                         Distance::l2, normalize, out.data(), keep ? saved.data() : nullptr},
                        sums ? rows.data() : nullptr,
                        sums ? halves.data() : nullptr,
                        sums ? errors.data() : nullptr};
  run_alignment(op, threads);

  const Block grad(wide, shape.points), grad_z(dtype, count, 1);
  fill(grad, shape.points);
  if (keep) run_alignment_backward({op, grad.data(), grad_z.data(), per_point, shape.dims}, threads);

  for (int64_t p = 0; p < shape.points; ++p) {
    std::vector<double> point(per_point), gradient(per_point);
    for (int64_t i = 0; i < per_point; ++i) point[i] = z.get(p * per_point + i);
    const double want = align_point(point, op, value_at(p), &gradient), got = out.get(p);
    // Elements are multiples of 1/8, so distances are not tiny unless unit vectors are parallel: then an absolute
    // slack.
    expect(std::fabs(got - want) <= 32 * epsilon_of(wide) * want + 1e-7, "alignment", got, want);
    double distances = 0;  // each twice
    for (int64_t v = 0; v < shape.views && sums; ++v) distances += rows.get(p * shape.views + v);
    const double mean = distances / double(2 * pairs_of_all);
    if (sums) expect(std::fabs(mean - got) <= 32 * epsilon_of(wide) * got, "rows", mean, got);
    if (sums) expect(std::isnan(halves.get(p)) == (shape.views < 3), "even views", halves.get(p), 0);
    if (sums) expect(std::isnan(errors.get(p)) == (shape.views < 3), "error", errors.get(p), 0);
    for (int64_t i = 0; i < per_point && keep; ++i) {
      const double g = grad_z.get(p * per_point + i);
      const double slack = 1e-4 * (1 + std::fabs(value_at(p))) + epsilon_of(dtype) * std::fabs(gradient[i]);
      // parallel views have no direction to differ in: any unit vector is as good
      if (shape.dims > 2) expect(std::fabs(g - gradient[i]) <= slack, "gradient", g, gradient[i]);
    }
  }
}

// ---- activations ---------------------------------------------------------------------------------------------------

struct Layout {
  const char* name;
  int order[4];  // of the dimensions points, views, units, space, outermost first
};
const Layout layouts[] = {{"maps", {0, 1, 2, 3}},
                          {"channels last", {0, 1, 3, 2}},
                          {"points inner", {1, 2, 3, 0}},
                          {"views inner", {0, 2, 3, 1}},
                          {"units outer", {2, 0, 1, 3}}};

struct Tensor4 {
  int64_t sizes[4], strides[4];
  Tensor4(int64_t points, int64_t views, int64_t units, int64_t space, const Layout& layout)
      : sizes{points, views, units, space} {
    int64_t step = 1;
    for (int place = 3; place >= 0; --place) {
      strides[layout.order[place]] = step;
      step *= sizes[layout.order[place]];
    }
  }
  int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
  int64_t at(int64_t p, int64_t v, int64_t u, int64_t s) const {
    return p * strides[0] + v * strides[1] + u * strides[2] + s * strides[3];
  }
};

double activated(double x, Activation activation) {
  return activation == Activation::relu ? std::fmax(x, 0.0) : activation == Activation::abs ? std::fabs(x) : x;
}

std::vector<double> means_of(const Block& data, const Tensor4& t, Activation activation) {
  std::vector<double> means;
  for (int64_t p = 0; p < t.sizes[0]; ++p)
    for (int64_t u = 0; u < t.sizes[2]; ++u) {
      double sum = 0;
      for (int64_t v = 0; v < t.sizes[1]; ++v)
        for (int64_t s = 0; s < t.sizes[3]; ++s) sum += activated(data.get(t.at(p, v, u, s)), activation);
      means.push_back(sum / double(t.sizes[1] * t.sizes[3]));
    }
  return means;
}

void test_activations(DType dtype, const Tensor4& t, Activation activation, int threads) {
  const int64_t points = t.sizes[0], units = t.sizes[2];
  const DType wide = wide_of(dtype);
  const Block data(dtype, t.count(), 1);
  fill(data, t.count());
  const std::vector<double> want = means_of(data, t, activation);
  const Activations x = make_activations(data.data(), dtype, activation, t.sizes, t.strides, 4, 2);
  const double slack = 16 * epsilon_of(wide);

  const Block means(wide, points * units);
  run_unit_means({x, means.data()}, threads);
  for (int64_t i = 0; i < points * units; ++i)
    expect(std::fabs(means.get(i) - want[i]) <= slack, "unit mean", means.get(i), want[i]);

  const Block peak(wide, units), low(wide, units), rest(DType::float64, units);
  std::vector<int64_t> index(units), order(points);
  for (int64_t p = 0; p < points; ++p) order[p] = points - 1 - p;  // last point first
  const SelectivityState state = {peak.data(), index.data(), static_cast<double*>(rest.data()), low.data()};
  run_selectivity({x, order.data(), state}, threads);
  for (int64_t u = 0; u < units; ++u) {
    double most = want[u], least = want[u], sum = 0;
    for (int64_t p = 0; p < points; ++p) {
      most = std::fmax(most, want[p * units + u]);
      least = std::fmin(least, want[p * units + u]);
      sum += want[p * units + u];
    }
    expect(std::fabs(peak.get(u) - most) <= slack, "peak", peak.get(u), most);
    expect(std::fabs(low.get(u) - least) <= slack, "low", low.get(u), least);
    expect(std::fabs(rest.get(u) - (sum - most)) <= slack * double(points), "rest", rest.get(u), sum - most);
    expect(index[u] >= 0 && index[u] < points, "index", double(index[u]), 0);
    const double named = want[order[index[u]] * units + u];
    expect(std::fabs(named - most) <= slack, "mean of the point named", named, most);
  }

  // layer_stats wants the dims of a view in one block
  const bool one_block = t.strides[2] * t.strides[3] == std::min(t.sizes[2], t.sizes[3]) &&
                         (t.strides[2] == 1 || t.strides[3] == 1) && t.sizes[1] > 1;
  if (!one_block || activation != Activation::raw) return;
  const Block alignment(wide, points);
  const Alignment z = {{data.data(), dtype, points, t.sizes[1], units * t.sizes[3], t.strides[0], t.strides[1],
                        Pairs::all, Distance::l2, true, alignment.data(), nullptr}};
  const Block both_means(wide, points * units), alone(wide, points);
  run_layer_stats({z, {x, both_means.data()}}, threads);
  Alignment single = z;
  single.alignment = alone.data();
  run_alignment(single, threads);
  for (int64_t i = 0; i < points * units; ++i)
    expect(std::fabs(both_means.get(i) - want[i]) <= slack, "unit mean of a layer", both_means.get(i), want[i]);
  for (int64_t p = 0; p < points; ++p)
    expect(std::fabs(alignment.get(p) - alone.get(p)) <= slack, "alignment of a layer", alignment.get(p), alone.get(p));
}

// ---- matrices of means
// -----------------------------------------------------------------------------------------------

void test_matrix(DType dtype, int64_t points, int64_t units, int threads) {
  const Block means(dtype, points * units, 1), median(dtype, units);
  fill(means, points * units);
  run_median_of_others({means.data(), dtype, points, units, units, median.data()}, threads);
  const int64_t classes = 3;
  std::vector<int64_t> labels(points);
  std::vector<double> sums(classes * units, 0.0);
  for (int64_t p = 0; p < points; ++p) labels[p] = p * p % classes;  // class 2 stays empty
  run_class_sums({means.data(), dtype, points, units, classes, labels.data(), sums.data()}, threads);
  for (int64_t u = 0; u < units; ++u) {
    std::vector<double> column, want(classes, 0.0);
    for (int64_t p = 0; p < points; ++p) {
      const double value = means.get(p * units + u);
      size_t place = column.size();  // insertion sort: slow and plain
      column.push_back(value);
      for (; place > 0 && column[place - 1] > value; --place) column[place] = column[place - 1];
      column[place] = value;
      want[labels[p]] += value;
    }
    const int64_t others = points - 1;
    const double middle = (column[(others - 1) / 2] + column[others / 2]) / 2;
    expect(median.get(u) == middle, "median", median.get(u), middle);
    for (int64_t c = 0; c < classes; ++c)
      expect(sums[c * units + u] == want[c], "class sum", sums[c * units + u], want[c]);
  }
}

}  // namespace

int main() {
  const DType dtypes[] = {DType::float32, DType::float64, DType::bfloat16, DType::float16};
  const Shape shapes[] = {{1, 2, 1},   {3, 2, 7},    {5, 3, 17}, {2, 4, 33}, {3, 5, 65},   {2, 7, 257},
                          {2, 10, 31}, {1, 17, 129}, {1, 33, 9}, {0, 3, 5},  {1, 2, 70001}};
  const Activation activations[] = {Activation::raw, Activation::relu, Activation::abs};
  for (const Kernels* set : supported_kernels()) {
    if (!select_kernels(set->name)) return 2;
    for (const DType dtype : dtypes) {
      const std::string where = std::string(set->name) + " dtype " + std::to_string(int(dtype));
      for (const Shape& shape : shapes)
        for (int option = 0; option < 8; ++option) {
          context = where + " [" + std::to_string(shape.points) + ", " + std::to_string(shape.views) + ", " +
                    std::to_string(shape.dims) + "] option " + std::to_string(option);
          test_alignment(dtype, shape, option & 1 ? Pairs::anchor : Pairs::all, option & 2, option & 4, 1);
        }
      test_alignment(dtype, {60, 4, 77}, Pairs::all, true, true, 2);  // large enough to be split over threads
      for (const Layout& layout : layouts)
        for (const Activation activation : activations)
          for (const int64_t units : {1, 5, 33})
            for (const int64_t space : {1, 6, 19}) {
              context = where + " " + layout.name + " " + std::to_string(units) + " x " + std::to_string(space);
              test_activations(dtype, Tensor4(11, 2, units, space, layout), activation, 1);
            }
      for (const Layout& layout : layouts) {
        context = where + " " + layout.name + " threads";
        test_activations(dtype, Tensor4(70, 3, 9, 17, layout), Activation::raw, 2);
        test_activations(dtype, Tensor4(3, 2, 2051, 3, layout), Activation::raw, 2);
      }
      if (dtype != wide_of(dtype)) continue;
      for (const int64_t points : {2, 3, 7, 64, 101, 515})
        for (const int64_t units : {1, 7, 16, 37}) {
          context = where + " matrix " + std::to_string(points) + " x " + std::to_string(units);
          test_matrix(dtype, points, units, 1 + int(units > 16));
        }
    }
    failures += run_pointwise_cases(set->name);
    failures += run_view_cases(set->name);
    std::printf("%s: done\n", set->name);
  }
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures ? 1 : 0;
}
