// The submodule memkern._native.cuda: the launchers of cuda/surface.h. Each function returns nothing and launches on
// the given stream of the current device; scratch memory comes from a callable, so that torch's allocator owns it.
#include <string>
#include <vector>

#include "bindings.h"
#include "cuda/surface.h"

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
struct Place {
  int device;
  uintptr_t stream;
  py::function allocate;

  void* scratch(int64_t bytes) const { return bytes == 0 ? nullptr : at(allocate(bytes).cast<uintptr_t>()); }
};

template <class Record>
void launch(const Place& place, int64_t (*scratch_bytes)(const Record*),
            const char* (*launcher)(const Record*, void*, void*), const Record& op) {
  void* const scratch = place.scratch(scratch_bytes(&op));
  py::gil_scoped_release nogil;
  const OnDevice on(place.device);
  check(launcher(&op, scratch, at(place.stream)));
}

LayerStats layer_record(const py::tuple& layer) {
  size_t next = 0;
  const auto take = [&](auto example) { return layer[next++].cast<decltype(example)>(); };
  const auto data = take(uintptr_t{});
  const int dtype = take(int{});
  const py::tuple sizes = layer[next++], strides = layer[next++];
  const int unit_dim = take(int{});
  const int64_t points = take(int64_t{}), views = take(int64_t{}), dims = take(int64_t{});
  const int64_t point_stride = take(int64_t{}), view_stride = take(int64_t{});
  const bool anchor = take(bool{}), normalize = take(bool{});
  const auto alignment = take(uintptr_t{}), saved = take(uintptr_t{}), means = take(uintptr_t{});
  return {alignment_record(data, dtype, points, views, dims, point_stride, view_stride, anchor, normalize, alignment,
                           saved),
          {activations(data, dtype, int(Activation::raw), sizes, strides, unit_dim), at(means)}};
}

}  // namespace

void bind_cuda(py::module_& module) {
  py::module_ m = module.def_submodule("cuda", "The CUDA kernels. Private: call memkern's functions instead.");
  py::class_<Place>(m, "Place").def(py::init<int, uintptr_t, py::function>());

  m.def("unavailable", [] {
    const char* reason = memkern_cuda_unavailable();
    return std::string(reason ? reason : "");
  });
  m.def("architectures", [] { return std::string(MEMKERN_CUDA); });
  m.def("settings", [] { return std::string(memkern_cuda_settings()); });

  m.def("alignment", [](const Place& place, uintptr_t z, int dtype, int64_t points, int64_t views, int64_t dims,
                        int64_t point_stride, int64_t view_stride, bool anchor, bool normalize, uintptr_t out,
                        uintptr_t saved) {
    launch(place, memkern_cuda_alignment_scratch, memkern_cuda_alignment,
           alignment_record(z, dtype, points, views, dims, point_stride, view_stride, anchor, normalize, out, saved));
  });

  m.def("alignment_backward", [](const Place& place, uintptr_t z, int dtype, int64_t points, int64_t views,
                                 int64_t dims, int64_t point_stride, int64_t view_stride, bool anchor, bool normalize,
                                 uintptr_t saved, uintptr_t grad, uintptr_t grad_z, int64_t grad_point_stride,
                                 int64_t grad_view_stride) {
    launch(place, memkern_cuda_alignment_backward_scratch, memkern_cuda_alignment_backward,
           AlignmentBackward{
               alignment_record(z, dtype, points, views, dims, point_stride, view_stride, anchor, normalize, 0, saved),
               at(grad), at(grad_z), grad_point_stride, grad_view_stride});
  });

  m.def("unit_means", [](const Place& place, uintptr_t data, int dtype, int activation, const py::tuple& sizes,
                         const py::tuple& strides, int unit_dim, uintptr_t means) {
    launch(place, memkern_cuda_unit_means_scratch, memkern_cuda_unit_means,
           UnitMeans{activations(data, dtype, activation, sizes, strides, unit_dim), at(means)});
  });

  // layers: one tuple each, of what `layer_stats` of bindings.cpp takes before `threads`
  m.def("layer_stats", [](const Place& place, const py::list& layers) {
    std::vector<LayerStats> ops;
    for (const py::handle& layer : layers) ops.push_back(layer_record(py::cast<py::tuple>(layer)));
    const auto count = int64_t(ops.size());
    void* const scratch = place.scratch(memkern_cuda_layer_stats_scratch(ops.data(), count));
    py::gil_scoped_release nogil;
    const OnDevice on(place.device);
    check(memkern_cuda_layer_stats(ops.data(), count, scratch, at(place.stream)));
  });

  m.def("selectivity", [](const Place& place, uintptr_t data, int dtype, int activation, const py::tuple& sizes,
                          const py::tuple& strides, int unit_dim, uintptr_t order, uintptr_t peak, uintptr_t index,
                          uintptr_t rest, uintptr_t low) {
    launch(place, memkern_cuda_selectivity_scratch, memkern_cuda_selectivity,
           Selectivity{activations(data, dtype, activation, sizes, strides, unit_dim),
                       at<int64_t>(order),
                       {at(peak), at<int64_t>(index), at<double>(rest), at(low)}});
  });

  m.def("median_of_others", [](const Place& place, uintptr_t means, int dtype, int64_t points, int64_t units,
                               int64_t point_stride, uintptr_t median) {
    launch(place, memkern_cuda_median_of_others_scratch, memkern_cuda_median_of_others,
           MedianOfOthers{at(means), DType(dtype), points, units, point_stride, at(median)});
  });

  m.def("class_sums", [](const Place& place, uintptr_t means, int dtype, int64_t points, int64_t units, int64_t classes,
                         uintptr_t labels, uintptr_t sums) {
    launch(place, memkern_cuda_class_sums_scratch, memkern_cuda_class_sums,
           ClassSums{at(means), DType(dtype), points, units, classes, at<int64_t>(labels), at<double>(sums)});
  });

  m.def("views",
        [](const Place& place, const ImageBatches& batches, int pixel, int64_t views, int64_t channels, int64_t height,
           int64_t width, uintptr_t params, bool antialias, int64_t blur_size, std::array<float, 3> mean,
           std::array<float, 3> std, uintptr_t hidden, int64_t patch, uintptr_t out, int dtype, bool channels_last) {
          const std::vector<Image> images = images_of(batches, Pixel(pixel));
          launch(place, memkern_cuda_views_scratch, memkern_cuda_views,
                 views_record(images, pixel, views, channels, height, width, params, antialias, blur_size, mean, std,
                              hidden, patch, out, dtype, channels_last));
        });
}

}  // namespace memkern
