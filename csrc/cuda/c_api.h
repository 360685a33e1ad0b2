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

MEMKERN_API int64_t memkern_cuda_alignment_scratch(const memkern::Alignment* op);
MEMKERN_API const char* memkern_cuda_alignment(const memkern::Alignment* op, void* scratch, void* stream);

MEMKERN_API int64_t memkern_cuda_alignment_backward_scratch(const memkern::AlignmentBackward* op);
MEMKERN_API const char* memkern_cuda_alignment_backward(const memkern::AlignmentBackward* op, void* scratch,
                                                        void* stream);

MEMKERN_API int64_t memkern_cuda_unit_means_scratch(const memkern::UnitMeans* op);
MEMKERN_API const char* memkern_cuda_unit_means(const memkern::UnitMeans* op, void* scratch, void* stream);

// Of `count` layers; neighbours of one dtype and number of views share their launches.
MEMKERN_API int64_t memkern_cuda_layer_stats_scratch(const memkern::LayerStats* ops, int64_t count);
MEMKERN_API const char* memkern_cuda_layer_stats(const memkern::LayerStats* ops, int64_t count, void* scratch,
                                                 void* stream);

MEMKERN_API int64_t memkern_cuda_selectivity_scratch(const memkern::Selectivity* op);
MEMKERN_API const char* memkern_cuda_selectivity(const memkern::Selectivity* op, void* scratch, void* stream);

MEMKERN_API int64_t memkern_cuda_median_of_others_scratch(const memkern::MedianOfOthers* op);
MEMKERN_API const char* memkern_cuda_median_of_others(const memkern::MedianOfOthers* op, void* scratch, void* stream);

MEMKERN_API int64_t memkern_cuda_class_sums_scratch(const memkern::ClassSums* op);
MEMKERN_API const char* memkern_cuda_class_sums(const memkern::ClassSums* op, void* scratch, void* stream);

// `sources` is host memory and is read before the call returns; what it points to is on the device.
MEMKERN_API int64_t memkern_cuda_views_scratch(const memkern::Views* op);
MEMKERN_API const char* memkern_cuda_views(const memkern::Views* op, void* scratch, void* stream);
