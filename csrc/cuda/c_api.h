// The CUDA kernels as C functions. One library for GPUs is built by nvcc; the same source built by a C++ compiler runs
// on the CPU, for tests (host/).
//
// A launcher takes a record of ops.h whose pointers are device memory, scratch memory on the device of at least the
// bytes that the function beside it asks for (aligned to 16 bytes; its contents do not matter), and a cudaStream_t. It
// enqueues its kernels on the current device and returns at once: it allocates nothing and waits for nothing, so it may
// be captured in a CUDA graph. It returns null, or the text of the error.
#pragma once
#include "../ops.h"

#define MEMKERN_API extern "C" __attribute__((visibility("default")))

// Null if kernels can run here, else why not ("CUDA driver version is insufficient for CUDA runtime version").
MEMKERN_API const char* memkern_cuda_unavailable();
// Makes a device current for the calls that follow on this thread; says which was, if asked.
MEMKERN_API const char* memkern_cuda_enter_device(int device, int* before);
// The launch settings as a table, one line each.
MEMKERN_API const char* memkern_cuda_settings();

// Launchers of the ops. Layers of one dtype and number of views that stand side by side in layer_stats share launches.
// The records that `sources` of views points to are host memory and are read before the call returns; the images that
// these point to are on the device.
#define CUDA_OP(name, Record, ...)                                              \
  MEMKERN_API int64_t memkern_cuda_##name##_scratch(const memkern::Record* op); \
  MEMKERN_API const char* memkern_cuda_##name(const memkern::Record* op, void* scratch, void* stream);
#include "../ops_table.h"
