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
namespace baseline {
extern const Kernels table;
}

namespace {

struct Candidate {
  const Kernels* kernels;
  bool (*supported)();
};

const Candidate candidates[] = {
#if defined(__x86_64__)
    {&avx512::table, [] { return bool(__builtin_cpu_supports("x86-64-v4")); }},
    {&avx2::table, [] { return bool(__builtin_cpu_supports("x86-64-v3")); }},
#endif
    {&baseline::table, [] { return true; }},
};

const Kernels* best() {
  for (const Candidate& candidate : candidates)
    if (candidate.supported()) return candidate.kernels;
  return &baseline::table;
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
