// Layers that are run while they are reduced: every element against the formula, in blocks that end where they end.
#pragma once
#include <cmath>
#include <cstdio>
#include <vector>

#include "cpu/dispatch/parallel.h"
#include "layout.h"

namespace {

double made_of(const memkern::Pointwise& layer, double x, int64_t unit) {
  const double deviation = std::sqrt(double(layer.mean ? layer.variance[unit] : 1) + double(layer.epsilon));
  switch (layer.function) {
    case memkern::Function::batch_norm:
      return (x - double(layer.mean[unit])) / deviation * double(layer.weight[unit]);
    case memkern::Function::relu:
      return std::fmax(x, 0.0);
    case memkern::Function::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  }
  return 0;
}

// How many elements are wrong. `by_units`: memory is [points, views, space, units] and not [points, views, units,
// space].
int run_pointwise_case(int64_t points, int64_t views, int64_t units, int64_t space, bool by_units,
                       std::vector<memkern::Pointwise> layers, bool with_input, int threads) {
  using namespace memkern;
  const int64_t dims = units * space, sizes[4] = {points, views, units, space};
  const int64_t strides[4] = {views * dims, dims, by_units ? 1 : space, by_units ? units : 1};
  std::vector<float> x(size_t(points * views * dims)), y(x.size(), NAN), mean, variance, weight;
  for (size_t i = 0; i < x.size(); ++i) x[i] = float(i * 37 % 101) / 16 - 3;
  for (int64_t u = 0; u < units; ++u)
    mean.push_back(float(u % 5) / 4), variance.push_back(float(u % 7) / 8 + 0.5f),
        weight.push_back(float(u % 3) - 1.5f);
  PointwiseStats op{};
  std::vector<std::vector<float>> results;
  for (size_t i = 0; i < 2 * (layers.size() + 1); ++i) results.emplace_back(size_t(points * (i % 2 ? units : 1)), NAN);
  for (size_t i = 0; i <= layers.size(); ++i) {
    void* const at = i == 0 ? x.data() : i == layers.size() ? y.data() : nullptr;
    LayerStats& stats = i == 0 ? op.input : op.output[i - 1];
    stats = {{{at, DType::float32, points, views, dims, strides[0], strides[1], Pairs::all, Distance::l2, true,
               i > 0 || with_input ? results[2 * i].data() : nullptr, nullptr}},
             {make_activations(at, DType::float32, Activation::raw, sizes, strides, 4, 2), results[2 * i + 1].data()}};
  }
  for (Pointwise& layer : layers) {
    if (layer.function == Function::batch_norm)
      layer.mean = mean.data(), layer.variance = variance.data(), layer.weight = weight.data(), layer.epsilon = 1e-5f;
    op.layer[op.layers++] = layer;
  }
  run_pointwise_stats(op, threads);
  int wrong = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    double want = double(x[i]);
    const int64_t dim = int64_t(i) % dims;
    for (const Pointwise& layer : layers) want = made_of(layer, want, by_units ? dim % units : dim / space);
    wrong += !(std::fabs(double(y[i]) - want) <= 3e-6);
  }
  for (size_t i = with_input ? 0 : 2; i < results.size(); ++i)
    for (const float value : results[i]) wrong += value != value;
  return wrong;
}

int run_pointwise_cases(const char* isa) {
  using memkern::Function;
  const std::vector<memkern::Pointwise> norm{{Function::batch_norm, nullptr, nullptr, nullptr, nullptr, 0}},
      relu{{Function::relu, nullptr, nullptr, nullptr, nullptr, 0}},
      gelu{{Function::gelu, nullptr, nullptr, nullptr, nullptr, 0}}, both{norm[0], relu[0]};
  int failures = 0;
  for (const auto& layers : {norm, relu, gelu, both})
    for (const bool by_units : {false, true})
      for (const int64_t views : {2, 4, 10})
        for (const int64_t units : {1, 5, 33})
          for (const int64_t space : {1, 6, 19, 331}) {
            const int threads = units * space > 1000 ? 2 : 1;
            const int wrong = run_pointwise_case(5, views, units, space, by_units, layers, space != 6, threads);
            if (wrong == 0) continue;
            std::fprintf(stderr, "%s: pointwise layers %d, first %d, [5, %d, %d, %d], by units %d: %d wrong\n", isa,
                         int(layers.size()), int(layers[0].function), int(views), int(units), int(space), by_units,
                         wrong);
            ++failures;
          }
  return failures;
}

}  // namespace
