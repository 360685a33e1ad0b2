// Choice of the instruction set: every set of MEMKERN_ISAS is one table; the processor is asked once.
#include <atomic>

#include "parallel.h"

namespace memkern {

// One line per instruction set of CMakeLists.txt, best first.
#if defined(__x86_64__)
namespace avx512 {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
#endif
#if defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
namespace every_processor = neon;
#else
namespace baseline {
extern const Kernels table;
}
namespace every_processor = baseline;
#endif

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*supported)();
};

#if defined(__x86_64__)
// clang names the levels of x86-64 from version 18 on; before, the features of a level that it has names for.
#if defined(__clang__) && __clang_major__ < 18
bool has_level_3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
bool has_level_4() {
  return has_level_3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
bool has_level_3() { return __builtin_cpu_supports("x86-64-v3"); }
bool has_level_4() { return __builtin_cpu_supports("x86-64-v4"); }
#endif
#endif

const Candidate candidates[] = {
#if defined(__x86_64__)
    {&avx512::table, has_level_4},
    {&avx2::table, has_level_3},
#endif
    {&every_processor::table, [] { return true; }},
};

const Kernels* best() {
  for (const Candidate& candidate : candidates)
    if (candidate.supported()) return candidate.kernels;
  return &every_processor::table;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> chosen{best()};
  return chosen;
}

}  // namespace

std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> found;
  for (const Candidate& candidate : candidates)
    if (candidate.supported()) found.push_back(candidate.kernels);
  return found;
}

std::vector<const Kernels*> compiled_kernels() {
  std::vector<const Kernels*> found;
  for (const Candidate& candidate : candidates) found.push_back(candidate.kernels);
  return found;
}

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

bool select_kernels(const std::string& name) {
  for (const Kernels* kernels : supported_kernels())
    if (name == kernels->name) {
      current().store(kernels);
      return true;
    }
  return false;
}

}  // namespace memkern
