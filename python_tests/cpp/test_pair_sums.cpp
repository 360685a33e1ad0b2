// The sums that alignment makes of its views, before anything looks at them. Its values cannot show a sum that is
// missing or wrong: a pair whose sum looks doubtful is measured again from its elements (distances.h), right and
// slowly. Compiled for one instruction set, like the kernels: -DMEMKERN_ISA=name.
#include <cmath>
#include <cstdio>
#include <vector>

#include "cpu/alignment/pair_sums.h"

using namespace memkern;
using namespace memkern::MEMKERN_ISA;

namespace {

double square(double x) { return x * x; }

// Small whole numbers, so that every dtype holds them and floats their sums of squares.
double element(int64_t view, int64_t dim) { return double((dim * dim * 7 + view * 5 + dim * view * 3) % 7 - 3); }

void store_as(double value, double& to) { to = value; }
void store_as(double value, float& to) { to = float(value); }
void store_as(double value, bf16& to) {
  const float narrow = float(value);  // whole numbers up to 256 end in sixteen zero bits
  uint32_t bits;
  std::memcpy(&bits, &narrow, 4);
  to.bits = uint16_t(bits >> 16);
}

template <class T>
bool check(int64_t views, int64_t dims, Pairs pairs) {
  std::vector<T> z(size_t(views * dims));
  for (int64_t v = 0; v < views; ++v)
    for (int64_t d = 0; d < dims; ++d) store_as(element(v, d), z[size_t(v * dims + d)]);
  Alignment op{};
  op.z = z.data(), op.points = 1, op.views = views, op.dims = dims, op.point_stride = views * dims;
  op.view_stride = dims, op.pairs = pairs, op.normalize = true;
  PairSums<T> pair_sums({&op, nullptr, nullptr, nullptr});
  std::vector<double> got(size_t(pair_sums.sums()), 0.0), want;
  constexpr int64_t range = kRange<Wide<T>>;
  for (int64_t d = 0; d < dims; d += range)
    pair_sums.add(0, 1, d, dims - d < range ? dims : d + range, z.data(), got.data(), nullptr);
  const auto sum_over_dims = [&](const auto& term) {
    double sum = 0;
    for (int64_t d = 0; d < dims; ++d) sum += term(d);
    want.push_back(sum);
  };
  for_each_pair(pairs, views, [&](int64_t, int64_t i, int64_t j) {
    sum_over_dims([=](int64_t d) { return square(element(i, d) - element(j, d)); });
  });
  for (int64_t v = 0; v < views; ++v) sum_over_dims([=](int64_t d) { return square(element(v, d)); });
  for (size_t i = 0; i < want.size(); ++i)
    if (i >= got.size() || got[i] != want[i]) {
      std::fprintf(stderr, "%d views of %d dims, %d bytes each, %s: sum %d of %d is %g, expected %g\n", int(views),
                   int(dims), int(sizeof(T)), pairs == Pairs::all ? "all" : "anchor", int(i), int(want.size()),
                   i < got.size() ? got[i] : NAN, want[i]);
      return false;
    }
  return true;
}

}  // namespace

int main() {
  bool good = true;
  for (const Pairs pairs : {Pairs::all, Pairs::anchor})
    for (int64_t views = 2; views <= 70; ++views)
      for (const int64_t dims : {1, 37, 1200})
        good &= check<float>(views, dims, pairs) & check<double>(views, dims, pairs) & check<bf16>(views, dims, pairs);
  return good ? 0 : 1;
}
