// The device: whether there is one, and the launch settings in print.
#include <string>

#include "c_api.h"
#include "cuda_compat.cuh"
#include "launch_constants.h"

#if defined(__CUDACC__)

const char* memkern_cuda_unavailable() {
  int devices = 0;
  if (const char* error = memkern::text_of(cudaGetDeviceCount(&devices))) {
    cudaGetLastError();  // it has been reported
    return error;
  }
  return devices > 0 ? nullptr : "no CUDA device";
}

const char* memkern_cuda_enter_device(int device, int* before) {
  int current = 0;
  if (const char* error = memkern::text_of(cudaGetDevice(&current))) return error;
  if (before) *before = current;
  return current == device ? nullptr : memkern::text_of(cudaSetDevice(device));
}

#elif defined(MEMKERN_LAUNCH_BY_NAME)  // who launches for us makes the device current

const char* memkern_cuda_unavailable() { return nullptr; }
const char* memkern_cuda_enter_device(int, int*) { return nullptr; }

#else

const char* memkern_cuda_unavailable() { return nullptr; }
const char* memkern_cuda_enter_device(int device, int* before) {
  if (before) *before = 0;
  return device == 0 ? nullptr : "invalid device ordinal";
}

#endif

const char* memkern_cuda_settings() {
  static const std::string table = [] {
    std::string lines;
    for (const memkern::Setting& setting : memkern::kSettings)
      lines += std::string(setting.kernel) + "\t" + setting.name + "\t" + std::to_string(setting.value) + "\t" +
               setting.reason + "\n";
    return lines;
  }();
  return table.c_str();
}
