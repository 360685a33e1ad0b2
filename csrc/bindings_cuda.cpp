// The submodule memkern._native.cuda: the launchers of cuda/c_api.h. Each function returns nothing and launches on
// the given stream of the current device; scratch memory comes from a callable, so that torch's allocator owns it.
// Launchers that were built without their kernels (cuda/nvrtc_launch.h) call a Python function for each launch instead.
#include "bindings_cuda.h"

#include <string>

#include "bindings.h"
#include "cuda/c_api.h"
#if defined(MEMKERN_LAUNCH_BY_NAME)
#include "cuda/nvrtc_launch.h"
#endif

namespace memkern {
namespace {

void check(const char* error) {
  if (error) throw std::runtime_error(std::string("memkern: CUDA: ") + error);
}

// Makes a device current, and the one before again.
class OnDevice {
 public:
  explicit OnDevice(int device) { check(memkern_cuda_enter_device(device, &before_)); }
  ~OnDevice() { memkern_cuda_enter_device(before_, nullptr); }
  OnDevice(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

// Launch context: the stream and the memory of a call. `allocate(bytes)` returns an address on the device, aligned to
// 16 bytes, and keeps the memory alive until the call has returned; after that torch's allocator orders its reuse on
// the same stream. `queue` is the address of a stream; for launchers by name launch(kernel, grid, block, addresses of
// the arguments).
struct LaunchContext {
  int device;
  py::object queue;
  py::function allocate;

  void* scratch(int64_t bytes) const {
    return bytes == 0 ? nullptr : reinterpret_cast<void*>(allocate(bytes).cast<uintptr_t>());
  }
};

// Calls run(stream) on the context's device, without the GIL.
template <class Run>
void on_stream(const LaunchContext& context, const Run& run) {
#if defined(MEMKERN_LAUNCH_BY_NAME)
  const by_name::Queue queue{[&](const by_name::Launch& op) {
    const py::gil_scoped_acquire gil;
    context.queue(op.kernel, py::make_tuple(op.grid.x, op.grid.y, op.grid.z),
                  py::make_tuple(op.block.x, op.block.y, op.block.z), reinterpret_cast<uintptr_t>(op.arguments));
  }};
  void* const stream = const_cast<by_name::Queue*>(&queue);
#else
  void* const stream = reinterpret_cast<void*>(context.queue.cast<uintptr_t>());
#endif
  const py::gil_scoped_release nogil;
  const OnDevice on(context.device);
  check(run(stream));
}

// Launches an op where the caller says.
template <class Op, int64_t (*scratch_bytes)(const Op*), const char* (*launcher)(const Op*, void*, void*)>
void launch(PyObject* where, const Op& op) {
  if (!py::isinstance<LaunchContext>(where)) throw py::type_error("memkern: expected a LaunchContext");
  const LaunchContext& context = py::handle(where).cast<const LaunchContext&>();
  void* const scratch = context.scratch(scratch_bytes(&op));
  on_stream(context, [&](void* stream) { return launcher(&op, scratch, stream); });
}

}  // namespace

void bind_cuda(py::module_& module) {
  py::module_ m = module.def_submodule("cuda", "The CUDA kernels. Private: call memkern's functions instead.");
  py::class_<LaunchContext>(m, "LaunchContext").def(py::init<int, py::object, py::function>());

  m.def("unavailable", [] {
    const char* reason = memkern_cuda_unavailable();
    return std::string(reason ? reason : "");
  });
#if defined(MEMKERN_LAUNCH_BY_NAME)
  m.attr("by_name") = true;
#else
  m.attr("by_name") = false;
#endif
  m.def("architectures", [] { return std::string(MEMKERN_CUDA); });
  m.def("settings", [] { return std::string(memkern_cuda_settings()); });

#define CUDA_OP(name, Record, ...) \
  bind<Record, launch<Record, memkern_cuda_##name##_scratch, memkern_cuda_##name>>(m, #name);
#include "ops_table.h"
}

}  // namespace memkern
