// The submodule memkern._native.cuda: the launchers of cuda/surface.h. Each function returns nothing and launches on
// the given stream of the current device; scratch memory comes from a callable, so that torch's allocator owns it.
// Launchers that were built without their kernels (cuda/by_name.h) call a Python function for each launch instead.
#include <string>
#include <utility>
#include <vector>

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

// Where and with what memory a call runs. `allocate(bytes)` returns an address on the device, aligned to 16 bytes, and
// keeps the memory alive until the call has returned; after that torch's allocator orders its reuse on the same stream.
// `queue` is the address of a stream; for launchers by name launch(kernel, grid, block, addresses of the arguments).
struct Place {
  int device;
  py::object queue;
  py::function allocate;

  void* scratch(int64_t bytes) const {
    return bytes == 0 ? nullptr : reinterpret_cast<void*>(allocate(bytes).cast<uintptr_t>());
  }
};

// Calls run(stream) on the place's device, without the GIL.
template <class Run>
void on_stream(const Place& place, const Run& run) {
#if defined(MEMKERN_LAUNCH_BY_NAME)
  const by_name::Queue queue{[&](const by_name::Launch& op) {
    const py::gil_scoped_acquire gil;
    place.queue(op.kernel, py::make_tuple(op.grid.x, op.grid.y, op.grid.z),
                py::make_tuple(op.block.x, op.block.y, op.block.z), reinterpret_cast<uintptr_t>(op.arguments));
  }};
  void* const stream = const_cast<by_name::Queue*>(&queue);
#else
  void* const stream = reinterpret_cast<void*>(place.queue.cast<uintptr_t>());
#endif
  const py::gil_scoped_release nogil;
  const OnDevice on(place.device);
  check(run(stream));
}

// The function `name` of the submodule: where it runs, then a record's fields in order.
template <class Record>
void bind(py::module_& m, const char* name, Record (*take)(Arguments&), int64_t (*scratch_bytes)(const Record*),
          const char* (*launcher)(const Record*, void*, void*)) {
  m.def(name, [take, scratch_bytes, launcher](const Place& place, py::args args) {
    Arguments in(std::move(args));
    const Record op = take(in);
    in.end();
    void* const scratch = place.scratch(scratch_bytes(&op));
    on_stream(place, [&](void* stream) { return launcher(&op, scratch, stream); });
  });
}

}  // namespace

void bind_cuda(py::module_& module) {
  py::module_ m = module.def_submodule("cuda", "The CUDA kernels. Private: call memkern's functions instead.");
  py::class_<Place>(m, "Place").def(py::init<int, py::object, py::function>());

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

  bind(m, "alignment", take_alignment, memkern_cuda_alignment_scratch, memkern_cuda_alignment);
  bind(m, "alignment_backward", take_alignment_backward, memkern_cuda_alignment_backward_scratch,
       memkern_cuda_alignment_backward);
  bind(m, "class_sums", take_class_sums, memkern_cuda_class_sums_scratch, memkern_cuda_class_sums);
  bind(m, "median_of_others", take_median_of_others, memkern_cuda_median_of_others_scratch,
       memkern_cuda_median_of_others);
  bind(m, "selectivity", take_selectivity, memkern_cuda_selectivity_scratch, memkern_cuda_selectivity);
  bind(m, "unit_means", take_unit_means, memkern_cuda_unit_means_scratch, memkern_cuda_unit_means);

  // layers: one tuple each, the fields of its record
  m.def("layer_stats", [](const Place& place, const py::list& layers) {
    std::vector<LayerStats> ops;
    for (const py::handle& layer : layers) {
      Arguments in(py::cast<py::tuple>(layer));
      ops.push_back(take_layer_stats(in));
      in.end();
    }
    const auto count = int64_t(ops.size());
    void* const scratch = place.scratch(memkern_cuda_layer_stats_scratch(ops.data(), count));
    on_stream(place, [&](void* stream) { return memkern_cuda_layer_stats(ops.data(), count, scratch, stream); });
  });

  m.def("views", [](const Place& place, py::args args) {
    Arguments in(std::move(args));
    std::vector<Image> images;
    const Views op = take_views(in, images);
    in.end();
    void* const scratch = place.scratch(memkern_cuda_views_scratch(&op));
    on_stream(place, [&](void* stream) { return memkern_cuda_views(&op, scratch, stream); });
  });
}

}  // namespace memkern
