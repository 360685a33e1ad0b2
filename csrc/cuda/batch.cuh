// Several tasks in one launch: their descriptions travel as kernel parameters, by value, and each block finds its own.
// A model's layers are so many small tensors that launching them one by one would take longer than reading them.
#pragma once
#include "cuda_compat.cuh"
#include "launch_constants.h"

namespace memkern {

template <class Task>
struct Batch {
  Task task[kBatchTasks];
  int64_t first_block[kBatchTasks];  // of each task, in blockIdx.x
  int32_t count;
};

template <class Task>
__device__ __forceinline__ int task_of_block(const Batch<Task>& batch) {
  int task = 0;
  // fault: layer of a block
  while (task + 1 < batch.count && int64_t(blockIdx.x) >= batch.first_block[task + 1]) ++task;
  return task;
}

template <class Task>
__device__ __forceinline__ int64_t block_in_task(const Batch<Task>& batch, int task) {
  return int64_t(blockIdx.x) - batch.first_block[task];
}

// A batch of one.
template <class Task>
Batch<Task> batch_of(const Task& task) {
  Batch<Task> batch{};
  batch.task[0] = task;
  batch.count = 1;
  return batch;
}

// Adds a task of `blocks` blocks to a batch that has `before`; returns how many it has then.
template <class Task>
int64_t add_task(Batch<Task>& batch, const Task& task, int64_t before, int64_t blocks) {
  batch.task[batch.count] = task;
  batch.first_block[batch.count] = before;
  ++batch.count;
  return before + blocks;
}

}  // namespace memkern
