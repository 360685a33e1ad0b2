// One emulated block: its threads, its shared memory, its barriers and warp collectives.
//
// Blocks run one at a time, in an order drawn from the seed; so do the threads of a block, each until it waits. What a
// real GPU only punishes now and then is an error here: threads of one block at different barriers, a shuffle that
// names lanes which have left, a deadlock. Shared memory starts as NaN.
#pragma once
#include <cstdio>
#include <cstring>
#include <vector>

#include "fiber.h"

namespace memkern {
namespace emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// greedy: warps have random priorities, drawn anew now and then, so that one warp may run far ahead of the others.
enum class Order : int32_t { forward, reverse, random, greedy };

struct Config {
  Order order = Order::random;
  uint64_t seed = 1;
  int64_t sampled_blocks = 0;  // of a huge grid run only so many values of blockIdx.x (first, last, random); 0: all
};

// Counters of what kernels did since the counters were last cleared. Loads are those made through elements.cuh.
struct Counters {
  int64_t launches, blocks, switches, barriers, collectives;
  int64_t loads, loaded_bytes, wide_loads;  // wide: 16 bytes at once
  int64_t watched_loaded_bytes;             // within the watched memory, every load of it
  int64_t watched_distinct_bytes;           // of it, how many different ones
};

constexpr int kLanes = 32;
constexpr int kMaxThreads = 1024;

// One pending collective; two generations of slots, so that the next may begin before all lanes have read this one.
struct Warp {
  uint64_t slot[2][kLanes];
  uint32_t mask, arrived;
  int generation, kind;
};

struct Block {
  Config config;
  Counters counters{};
  Dim3 grid, dims;
  unsigned x = 0, y = 0, z = 0;  // blockIdx
  int threads = 0, alive = 0, waiting = 0, ready_count = 0;
  Fiber fibers[kMaxThreads] = {};
  int ready[kMaxThreads + 1];
  Warp warps[kMaxThreads / kLanes];
  Fiber* current = nullptr;
  int barrier_generation = 0;
  uint64_t random_state = 1, priorities = 1;
  void (*body)(void*) = nullptr;
  void* body_argument = nullptr;
  char launch_token, done_token;
  // shared memory: variables by the address of a tag; one allocation each, so that red zones lie between them
  static constexpr int kMaxVariables = 16;
  const void* variable_tag[kMaxVariables];
  void* variable[kMaxVariables];
  size_t variable_bytes[kMaxVariables];
  int variables = 0;
  size_t shared_bytes = 0;
  char* tokens = nullptr;  // per block, because a token shared by two blocks would order them
  bool failed = false;
  char error[512] = {};
  // loads are looked up in this piece of memory
  const char* watched = nullptr;
  std::vector<bool> watched_bytes;
};
inline Block block;

MEMKERN_RUNTIME inline uint64_t random_number() {
  uint64_t x = block.random_state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return block.random_state = x;
}

MEMKERN_RUNTIME inline void make_ready(Fiber& fiber) {
  fiber.state = State::ready;
  block.ready[block.ready_count++] = fiber.index;
}

// Parks the current thread for good; the scheduler stops at `failed`.
template <class... Arguments>
MEMKERN_RUNTIME inline void fail(const char* format, Arguments... arguments) {
  if (!block.failed) snprintf(block.error, sizeof block.error, format, arguments...);
  block.failed = true;
  block.current->state = State::at_barrier;
  switch_to_scheduler(*block.current, true);
  abort();
}

// ---- barriers and collectives -------------------------------------------------------------------------------------

MEMKERN_RUNTIME inline char* barrier_token(int generation) { return block.tokens + generation; }
MEMKERN_RUNTIME inline char* warp_token(int warp, int generation) { return block.tokens + 2 + 2 * warp + generation; }

MEMKERN_RUNTIME inline void release_barrier() {
  for (int i = 0; i < block.threads; ++i)
    if (block.fibers[i].state == State::at_barrier) make_ready(block.fibers[i]);
  block.waiting = 0;
  block.barrier_generation ^= 1;
  ++block.counters.barriers;
}

MEMKERN_RUNTIME inline void wait_for_block(const char* file, int line) {
  Fiber& me = *block.current;
  const int generation = block.barrier_generation;
  order_before(barrier_token(generation));
  for (int i = 0; block.waiting > 0 && i < block.threads; ++i) {
    const Fiber& other = block.fibers[i];
    if (other.state == State::at_barrier && (other.line != line || other.file != file))
      fail("barrier divergence: threads of one block wait at %s:%d and %s:%d", other.file, other.line, file, line);
  }
  me.file = file;
  me.line = line;
  me.state = State::at_barrier;
  if (++block.waiting == block.alive) release_barrier();
  switch_to_scheduler(me, false);
  order_after(barrier_token(generation));
}

// Every lane of `mask` leaves a value; returns the generation of slots that then holds all of them. Shuffles exchange
// values but order no memory; __syncwarp (`orders`) does.
MEMKERN_RUNTIME inline int meet_in_warp(uint32_t mask, uint64_t value, int kind, bool orders, const char* file,
                                        int line) {
  Fiber& me = *block.current;
  const int lane = me.index % kLanes, first = me.index - lane, warp_index = first / kLanes;
  Warp& warp = block.warps[warp_index];
  if (!(mask >> lane & 1)) fail("%s:%d: lane %d is not in the mask it passed", file, line, lane);
  if (warp.arrived && (warp.mask != mask || warp.kind != kind))
    fail("%s:%d: lanes of one warp meet in different collectives or with different masks", file, line);
  for (int other = 0; other < kLanes; ++other)
    if (mask >> other & 1 && (first + other >= block.threads || block.fibers[first + other].state == State::done))
      fail("%s:%d: the mask names lane %d, which does not exist or has exited", file, line, other);
  const int generation = warp.generation;
  warp.mask = mask;
  warp.kind = kind;
  warp.slot[generation][lane] = value;
  warp.arrived |= 1u << lane;
  if (orders) order_before(warp_token(warp_index, generation));
  if (warp.arrived == mask) {
    warp.arrived = 0;
    warp.generation ^= 1;
    ++block.counters.collectives;
    for (int other = 0; other < kLanes; ++other)
      if (mask >> other & 1) make_ready(block.fibers[first + other]);
  } else {
    me.state = State::at_warp;
    me.file = file;
    me.line = line;
  }
  switch_to_scheduler(me, false);
  if (orders) order_after(warp_token(warp_index, generation));
  return generation;
}

MEMKERN_RUNTIME inline uint64_t left_by_lane(int generation, int lane) {
  return block.warps[block.current->index / kLanes].slot[generation][lane];
}

// ---- shared memory and counters -----------------------------------------------------------------------------------

constexpr size_t kMaxSharedBytes = 48 << 10;  // of all variables of a block; nvcc refuses more

MEMKERN_RUNTIME inline void* shared_variable(const void* tag, size_t bytes) {
  for (int i = 0; i < block.variables; ++i)
    if (block.variable_tag[i] == tag) return block.variable[i];
  block.shared_bytes += bytes;
  if (block.shared_bytes > kMaxSharedBytes || block.variables == Block::kMaxVariables)
    fail("too much shared memory: %d bytes", int(block.shared_bytes));
  void* memory = nullptr;
  if (posix_memalign(&memory, 16, bytes ? bytes : 1) != 0) abort();
  memset(memory, 0xff, bytes);  // NaN in every floating type
  block.variable_tag[block.variables] = tag;
  block.variable_bytes[block.variables] = bytes;
  block.variable[block.variables++] = memory;
  return memory;
}

MEMKERN_RUNTIME inline void check_is_shared(const void* at, const char* file, int line) {
  for (int i = 0; i < block.variables; ++i)
    if (uintptr_t(at) - uintptr_t(block.variable[i]) < block.variable_bytes[i]) return;
  fail("%s:%d: an atomic outside shared memory", file, line);
}

MEMKERN_RUNTIME inline void count_load(const void* from, int64_t bytes) {
  Counters& counters = block.counters;
  ++counters.loads;
  counters.loaded_bytes += bytes;
  counters.wide_loads += bytes == 16;
  const int64_t at = static_cast<const char*>(from) - block.watched;
  if (at < 0 || at >= int64_t(block.watched_bytes.size())) return;
  counters.watched_loaded_bytes += bytes;
  for (int64_t i = at; i < at + bytes && i < int64_t(block.watched_bytes.size()); ++i) {
    counters.watched_distinct_bytes += !block.watched_bytes[i];
    block.watched_bytes[i] = true;
  }
}

// ---- running a block ----------------------------------------------------------------------------------------------

MEMKERN_RUNTIME inline void run_thread() {
  Fiber& me = *block.current;
  arrive_on_fiber();
  order_after(&block.launch_token);
  block.body(block.body_argument);
  order_before(&block.done_token);
  me.state = State::done;
  --block.alive;
  if (block.alive > 0 && block.waiting == block.alive) release_barrier();  // threads that have left do not count
  switch_to_scheduler(me, true);
  abort();
}

MEMKERN_RUNTIME inline uint64_t priority(int thread) {
  return (thread / kLanes + 1) * block.priorities * 0x9E3779B97F4A7C15ull >> 40;
}

MEMKERN_RUNTIME inline int choose_ready() {
  const Order order = block.config.order;
  if (order == Order::random) return int(random_number() % uint64_t(block.ready_count));
  if (order == Order::greedy && random_number() % 256 == 0) block.priorities = random_number();
  int chosen = 0;
  for (int i = 1; i < block.ready_count; ++i) {
    const int a = block.ready[i], b = block.ready[chosen];
    const bool sooner = order == Order::forward ? a < b : order == Order::reverse ? a > b : priority(a) > priority(b);
    if (sooner) chosen = i;
  }
  return chosen;
}

// Gives the threads of a block seats, from `first_seat` on.
inline void start_threads(size_t first_seat) {
  if (seats.size() < first_seat + block.threads) seats.resize(first_seat + block.threads);
  block.alive = block.threads;
  block.waiting = block.ready_count = block.barrier_generation = block.variables = 0;
  block.shared_bytes = 0;
  memset(block.warps, 0, sizeof block.warps);
  for (int i = 0; i < block.threads; ++i) {
    Fiber& fiber = block.fibers[i];
    fiber.stack = seats[first_seat + i].stack;
    fiber.sanitizer = seats[first_seat + i].sanitizer;
    fiber.index = i;
    fiber.x = unsigned(i) % block.dims.x;
    fiber.y = unsigned(i) / block.dims.x % block.dims.y;
    fiber.z = unsigned(i) / (block.dims.x * block.dims.y);
    make_context(fiber.context, fiber.stack, run_thread);
    make_ready(fiber);
  }
}

MEMKERN_RUNTIME inline void run_threads() {
  while (block.ready_count > 0 && !block.failed) {
    const int chosen = choose_ready();
    Fiber& fiber = block.fibers[block.ready[chosen]];
    block.ready[chosen] = block.ready[--block.ready_count];
    block.current = &fiber;
    ++block.counters.switches;
    switch_to(fiber);
  }
  ++block.counters.blocks;
  if (block.failed || block.alive == 0) return;
  block.failed = true;
  for (int i = 0; i < block.threads; ++i) {
    const Fiber& fiber = block.fibers[i];
    if (fiber.state == State::done) continue;
    snprintf(block.error, sizeof block.error, "deadlock: %d of %d threads wait, thread %d at %s:%d", block.alive,
             block.threads, i, fiber.file, fiber.line);
    return;
  }
}

}  // namespace emulation
}  // namespace memkern
