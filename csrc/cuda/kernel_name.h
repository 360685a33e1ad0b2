// The name of a kernel's instance at run time, for launchers and kernels that are not compiled together.
#pragma once
#include <cstring>
#include <string>

namespace memkern {

template <auto kernel>
struct Kernel {};

// "pair_sums<bf16, 4>": the compiler's own spelling, from "... [with auto kernel = pair_sums<bf16, 4>; ...]", without
// namespaces.
template <auto kernel>
std::string name_of(Kernel<kernel>) {
  std::string name = __PRETTY_FUNCTION__;
  const size_t first = name.rfind("kernel = ") + strlen("kernel = ");
  name = name.substr(first, name.find_first_of(";]", first) - first);
  for (const char* part : {"memkern::", "&"})
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, strlen(part));
  return name;
}

}  // namespace memkern

#define MEMKERN_KERNEL_NAME(kernel) memkern::name_of(decltype(memkern::Kernel<kernel>()){})
