// Launching an emulated grid: its blocks one after the other, in an order drawn from the seed.
#pragma once
#include <algorithm>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "../kernel_name.h"
#include "block.h"

namespace memkern {
namespace emulation {

// ThreadSanitizer dies at 8128 threads; those of a launch are all kept to its end, to find races between blocks.
constexpr uint64_t kMaxWatchedThreads = 8000;

// The launch limits of every GPU since compute capability 3.0.
inline const char* launch_refused(Dim3 grid, Dim3 dims) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "invalid launch: empty grid";
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) return "invalid launch: grid too large";
  if (dims.x == 0 || dims.y == 0 || dims.z == 0) return "invalid launch: empty block";
  if (uint64_t(dims.x) * dims.y * dims.z > kMaxThreads) return "invalid launch: more than 1024 threads";
  if (dims.z > 64) return "invalid launch: blockDim.z > 64";
#if defined(__SANITIZE_THREAD__)
  if (uint64_t(grid.x) * grid.y * grid.z * dims.x * dims.y * dims.z > kMaxWatchedThreads)
    return "more threads in one launch than ThreadSanitizer holds: a smaller case, please";
#endif
  return nullptr;
}

// Order of the blocks: a permutation of the grid, or a sample of a huge one.
class BlockOrder {
 public:
  explicit BlockOrder(Dim3 grid) : grid_(grid), count_(uint64_t(grid.x) * grid.y * grid.z) {
    const Config& config = block.config;
    if (config.sampled_blocks > 0 && config.sampled_blocks < int64_t(grid.x)) {
      chosen_ = {0, grid.x - 1};
      while (int64_t(chosen_.size()) < config.sampled_blocks) chosen_.push_back(unsigned(random_number() % grid.x));
      std::sort(chosen_.begin(), chosen_.end());
      chosen_.erase(std::unique(chosen_.begin(), chosen_.end()), chosen_.end());
      count_ = chosen_.size() * uint64_t(grid.y) * grid.z;
    }
    if (config.order == Order::forward || config.order == Order::reverse) return;
    first_ = random_number() % count_;
    for (step_ = random_number() % count_ | 1; std::gcd(step_, count_) != 1;) step_ += 2;
  }

  uint64_t count() const { return count_; }

  // Sets blockIdx to that of the i-th block to run.
  void select(uint64_t i) const {
    const uint64_t shuffled = uint64_t((static_cast<unsigned __int128>(i) * step_ + first_) % count_);
    const uint64_t at = block.config.order == Order::reverse ? count_ - 1 - i : shuffled;
    const uint64_t columns = chosen_.empty() ? grid_.x : chosen_.size();
    block.x = chosen_.empty() ? unsigned(at % columns) : chosen_[at % columns];
    block.y = unsigned(at / columns % grid_.y);
    block.z = unsigned(at / (columns * grid_.y));
  }

 private:
  Dim3 grid_;
  uint64_t count_, first_ = 0, step_ = 1;
  std::vector<unsigned> chosen_;
};

// After a failure nothing runs until take_error(), as with CUDA's sticky errors.
template <class Kernel, class... Arguments>
void launch(Kernel kernel, Dim3 grid, Dim3 dims, Arguments... arguments) {
  if (block.failed) return;
  if (const char* refused = launch_refused(grid, dims)) {
    block.failed = true;
    snprintf(block.error, sizeof block.error, "%s", refused);
    return;
  }
  ++block.counters.launches;
  block.grid = grid;
  block.dims = dims;
  block.threads = int(dims.x * dims.y * dims.z);
  block.random_state = block.config.seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
  auto body = [&] { kernel(arguments...); };
  block.body = [](void* argument) { (*static_cast<decltype(body)*>(argument))(); };
  block.body_argument = &body;
  order_before(&block.launch_token);
  const BlockOrder order(grid);
#if defined(__SANITIZE_THREAD__)
  constexpr bool every_block_alone = true;  // ThreadSanitizer must not see threads or addresses again in another block
#else
  constexpr bool every_block_alone = false;
#endif
  std::vector<void*> memory;
  std::vector<char*> tokens;
  for (uint64_t i = 0; i < order.count() && !block.failed; ++i) {
    order.select(i);
    tokens.push_back(block.tokens = static_cast<char*>(calloc(2 + 2 * kMaxThreads / kLanes, 1)));
    start_threads(every_block_alone ? i * block.threads : 0);
    run_threads();
    memory.insert(memory.end(), block.variable, block.variable + block.variables);
    if (every_block_alone) continue;
    for (void* variable : memory) free(variable);
    for (char* token : tokens) free(token);
    memory.clear();
    tokens.clear();
  }
  order_after(&block.done_token);
  if (block.failed) return seats.clear();  // threads that wait for ever still own their seats and memory
  for (void* variable : memory) free(variable);
  for (char* token : tokens) free(token);
}

// Every kernel that a launcher names, for launchers that were built without them (../nvrtc_launch.h).
using Launcher = void (*)(Dim3 grid, Dim3 dims, void** arguments);
inline std::map<std::string, Launcher>& launchers() {
  static std::map<std::string, Launcher> known;
  return known;
}

template <auto kernel>
struct Named {
  template <class... Parameters, size_t... i>
  static void unpack(void (*)(Parameters...), Dim3 grid, Dim3 dims, void** arguments, std::index_sequence<i...>) {
    launch(kernel, grid, dims, *static_cast<std::remove_cv_t<Parameters>*>(arguments[i])...);
  }
  template <class... Parameters>
  static bool remember(void (*)(Parameters...)) {
    return launchers()
        .emplace(MEMKERN_KERNEL_NAME(kernel),
                 [](Dim3 grid, Dim3 dims, void** arguments) {
                   unpack(kernel, grid, dims, arguments, std::index_sequence_for<Parameters...>());
                 })
        .second;
  }
  static inline const bool known = remember(kernel);
};

// The error since the last call, or null.
inline const char* take_error() {
  static char taken[sizeof block.error];
  if (!block.failed) return nullptr;
  block.failed = false;
  memcpy(taken, block.error, sizeof taken);
  return taken;
}

}  // namespace emulation
}  // namespace memkern
