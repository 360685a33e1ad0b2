#include "parallel.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>

#include "rules.h"

namespace memkern {
namespace {

// GNU OpenMP's thread pool does not survive fork: a parallel region in the child would wait for threads that are not
// there. In a forked child (a DataLoader worker) everything runs on the calling thread.
std::atomic<bool> forked{false};
std::once_flag watch_fork;

// Below this many input elements starting the pool, whose threads may sleep, costs more than it saves.
constexpr int64_t kSerialElements = 32 * 1024;
// A piece has at least this many elements: beginning one costs a kernel as much as some 2000 elements.
constexpr int64_t kPieceElements = 32 * 1024;
// With this many points for each thread, points are pieces that are small enough to keep all threads at work.
constexpr int64_t kPointsOfAThread = 4;

// Calls body(first, last) on pieces that cover [0, count), in parallel. Pieces are handed out dynamically: on a shared
// machine a core that was taken away would otherwise hold everybody up.
template <class Body>
void split(int64_t count, int64_t elements, int threads, Body body, int64_t piece_elements = kPieceElements) {
  if (count <= 0) return;
  std::call_once(watch_fork, [] { pthread_atfork(nullptr, nullptr, [] { forked = true; }); });
  // fault: no pool
  if (threads <= 1 || count == 1 || elements <= kSerialElements || forked) return body(int64_t{0}, count);
  const int64_t each = std::clamp<int64_t>(elements / piece_elements / threads, 1, 8);
  const int64_t pieces = std::min<int64_t>(count, each * threads);
  std::exception_ptr error;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    try {
      body(count * piece / pieces, count * (piece + 1) / pieces);  // fault: range of a thread
    } catch (...) {
#pragma omp critical(memkern_error)
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

// Fresh memory from the allocator costs more in page faults than the arithmetic that fills it. Asking for 2 MB pages
// before the first touch takes one fault for 512.
void ask_for_huge_pages(void* data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kHuge = uintptr_t{1} << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + uintptr_t(bytes)) / kHuge * kHuge;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // advice: may fail freely
#else
  (void)data, (void)bytes;
#endif
}

// Points in pieces; but if there are few, and large ones, their slices, and then what is left to do for each point.
template <class Op>
void split_points(const Op& op, const Alignment& z, void (*kernel)(const Op&, const WorkRange&), int threads,
                  int64_t piece_elements = kPieceElements) {
  using What = WorkRange::What;
  const int64_t elements = z.points * z.views * z.dims, slices = slices_of(op);
  const auto pieces = [&](What what, int64_t count, double* kept) {
    const auto piece = [&](int64_t first, int64_t last) { kernel(op, {what, first, last, kept}); };
    split(count, elements, threads, piece, piece_elements);
  };
  const bool are_shared = threads > 1 && slices > 1 && z.points < kPointsOfAThread * threads;
  if (!are_shared) return pieces(What::points, z.points, nullptr);
  const std::unique_ptr<double[]> kept(new double[z.points * slices * sums_of_slice(op)]);
  pieces(What::slices, z.points * slices, kept.get());
  pieces(What::rest, z.points, kept.get());
}

// Owns the partial states of the chunks of selectivity.
struct PartialStates {
  PartialStates(int64_t chunks, int64_t units, DType dtype)
      : units(units),
        size(size_of(accumulate_dtype(dtype))),
        peak(new char[chunks * units * size]),
        minimum(new char[chunks * units * size]),
        index(new int64_t[chunks * units]),
        rest(new double[chunks * units]) {}
  SelectivityState operator[](int64_t chunk) const {
    return {peak.get() + chunk * units * size, index.get() + chunk * units, rest.get() + chunk * units,
            minimum.get() + chunk * units * size};
  }
  int64_t units, size;
  std::unique_ptr<char[]> peak, minimum;
  std::unique_ptr<int64_t[]> index;
  std::unique_ptr<double[]> rest;
};

template <class Op>
using Kernel = void (*)(const Op& op, const WorkRange& range);

WorkRange whole(int64_t first, int64_t last) { return {WorkRange::What::points, first, last, nullptr}; }

// ---- ops: pieces of what work_of counts, unless an op asks for something else ---------------------------------------

template <class Op>
void split_work(const Op& op, Kernel<Op> kernel, int threads) {
  const Work work = work_of(op);
  split(work.items, work.elements, threads, [&](int64_t first, int64_t last) { kernel(op, whole(first, last)); });
}

template <class Op>
void run(const Op& op, Kernel<Op> kernel, int threads) {
  split_work(op, kernel, threads);
}

void run(const Alignment& op, Kernel<Alignment> kernel, int threads) { split_points(op, op, kernel, threads); }

void run(const LayerStats& op, Kernel<LayerStats> kernel, int threads) {
  split_points(op, op.alignment, kernel, threads);
}

void run(const PointwiseStats& op, Kernel<PointwiseStats> kernel, int threads) {
  // Pieces are larger than elsewhere, because each begins with three readings and with the numbers of every unit.
  split_points(op, op.input.alignment, kernel, threads, 2 * kPieceElements);
}

void run(const AlignmentBackward& op, Kernel<AlignmentBackward> kernel, int threads) {
  const KeptAlignment& f = op.forward;
  if (f.points > 0) {
    const int64_t span = (f.points - 1) * op.grad_point_stride + (f.views - 1) * op.grad_view_stride + f.dims;
    ask_for_huge_pages(op.grad_z, span * size_of(f.dtype));
  }
  split_work(op, kernel, threads);
}

void run(const Selectivity& op, Kernel<Selectivity> kernel, int threads) {
  const int64_t points = op.x.points, units = op.x.units, elements = elements_of(op.x);
  // At most 64 chunks, cut by the shape alone: the sums, and so the bits, do not depend on the threads. A chunk has at
  // least 256 elements for each unit, because its partial state costs as much as some 20 of them, page faults included.
  const int64_t averaged = std::max<int64_t>(1, elements / std::max<int64_t>(1, points * units));
  const int64_t chunk = std::max({int64_t{8}, (points + 63) / 64, 256 / averaged});
  const int64_t chunks = (points + chunk - 1) / chunk;
  const auto position_range = [&](int64_t c, const SelectivityState& state) {
    Selectivity part = op;
    part.state = state;
    kernel(part, whole(c * chunk, std::min(points, (c + 1) * chunk)));
  };
  if (chunks <= 1) {
    if (points > 0) position_range(0, op.state);
    return;
  }
  const PartialStates partial(chunks, units, op.x.dtype);
  split(chunks, elements, threads, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) position_range(c, c == 0 ? op.state : partial[c]);
  });
  const auto merge = kernels().merge_selectivity;
  split(units, chunks * units, threads, [&](int64_t first, int64_t last) {
    for (int64_t c = 1; c < chunks; ++c) merge(op.x.dtype, op.state, partial[c], whole(first, last));
  });
}

// Class after class. A stable counting sort: the order of additions does not depend on the threads.
void run_by_class(const ClassSums& op, Kernel<ClassSums> kernel, int threads) {
  const std::unique_ptr<int64_t[]> order(new int64_t[op.points]), starts(new int64_t[op.classes + 2]());
  for (int64_t p = 0; p < op.points; ++p) ++starts[op.labels[p] + 2];
  for (int64_t c = 0; c < op.classes; ++c) starts[c + 2] += starts[c + 1];
  for (int64_t p = 0; p < op.points; ++p) order[starts[op.labels[p] + 1]++] = p;
  ClassSums sorted = op;
  sorted.order = order.get();
  sorted.starts = starts.get();
  // Few classes are cut by their units, so that all threads have work; no sum depends on it.
  const int64_t wanted = 4 * threads / std::max<int64_t>(1, op.classes);
  sorted.unit_blocks = std::max<int64_t>(1, std::min(op.units / 64, wanted));
  split(op.classes * sorted.unit_blocks, op.points * op.units, threads,
        [&](int64_t first, int64_t last) { kernel(sorted, whole(first, last)); });
}

// Parts of the points, each into a table of its own, added up in order.
void run_in_parts(const ClassSums& op, int64_t parts, Kernel<ClassSums> kernel, int threads) {
  const int64_t table = op.classes * op.units;
  const std::unique_ptr<double[]> tables(new double[(parts - 1) * table]);
  split(parts, op.points * op.units, threads, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      ClassSums own = op;
      if (part > 0) own.sums = tables.get() + (part - 1) * table;  // fault: table of a part
      kernel(own, whole(op.points * part / parts, op.points * (part + 1) / parts));
    }
  });
  split(table, parts * table, threads, [&](int64_t first, int64_t last) {
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = first; i < last; ++i) op.sums[i] += tables[(part - 1) * table + i];
  });
}

void run(const ClassSums& op, Kernel<ClassSums> kernel, int threads) {
  // By the shape alone. Of narrow rows the hardware fetches too little where they lie apart; parts pay where their
  // tables fit into the L2 cache and are small beside the points that go into each.
  constexpr int64_t kNarrow = 256, kTable = int64_t{1} << 17, kPointsOfAClass = 32, kParts = 16;
  const bool fits = op.units <= kNarrow && op.classes * op.units <= kTable;
  const int64_t parts = fits ? std::min(kParts, op.points / (kPointsOfAClass * op.classes + 1)) : 1;
  if (parts >= 4)
    run_in_parts(op, parts, kernel, threads);
  else
    run_by_class(op, kernel, threads);
}

void run(const Views& op, Kernel<Views> kernel, int threads) {
  ask_for_huge_pages(op.out, work_of(op).elements * size_of(op.dtype));
  split_work(op, kernel, threads);
}

}  // namespace

#define CPU_OP(name, Record, ...) \
  void run_##name(const Record& op, int threads) { run(op, kernels().name, threads); }
#include "ops_table.h"

}  // namespace memkern
