// unit_means: which way the memory is contiguous, and how the work is split.
#include <algorithm>
#include <numeric>

#include "c_api.h"
#include "unit_means.h"

namespace memkern {
namespace {

enum class Path { rows, planes, elements };

struct MeansPlan {
  Path path;
  bool packs;
  RowPlan rows;
  PlanePlan planes;
  int64_t count, parts;
};

int64_t size_of_mean_dims(const Activations& x, int32_t dims) {
  return std::accumulate(x.mean_sizes, x.mean_sizes + dims, int64_t{1}, std::multiplies<int64_t>());
}

bool rows_aligned(const Activations& x, int32_t outer_dims) {
  bool aligned = aligned_for_packs(x.data, x.dtype, x.point_stride);
  for (int32_t d = 0; d < outer_dims; ++d) aligned &= aligned_for_packs(nullptr, x.dtype, x.mean_strides[d]);
  return aligned;
}

void plan_rows(const Activations& x, int64_t space, MeansPlan& plan) {
  RowPlan& rows = plan.rows;
  rows.space = int32_t(space);
  rows.outer_dims = space > 1 ? x.mean_dims - 1 : x.mean_dims;
  rows.rows = int32_t(size_of_mean_dims(x, rows.outer_dims));
  plan.packs = rows_aligned(x, rows.outer_dims);
  const int64_t width = plan.packs ? 16 / size_of(x.dtype) : 1;
  const int64_t packs = ceil_div(x.units * space, width);  // of a whole row
  int64_t threads = kRowThreads;                           // side by side
  if (space == 1 && rows.rows >= kManyRows)
    for (threads = kRowColumns; threads > kMinRowColumns && threads / 2 >= packs;) threads /= 2;
  rows.lanes = int32_t(kRowThreads / threads);
  // Whole units, and so many of them that every block begins at a whole pack.
  const int64_t multiple = width / std::gcd(space, width);
  rows.units = int32_t(threads * width / (multiple * space) * multiple);
  rows.segments = ceil_div(x.units, rows.units);
  const int64_t needed = ceil_div(std::min<int64_t>(rows.units, x.units) * space, width);
  rows.columns = int32_t(rows.lanes > 1 ? threads : round_up(needed, kWarp));
  const int64_t at_once = rows.lanes * kRowUnroll;
  const int64_t most = at_once * (rows.lanes > 1 ? kRowRounds : kRowRoundsAlone);
  const int64_t even = ceil_div(rows.rows, std::max<int64_t>(1, ceil_div(rows.rows, most)));
  rows.rows_per_block = int32_t(round_up(std::max<int64_t>(1, even), at_once));
  plan.parts = ceil_div(rows.rows, rows.rows_per_block);
}

void plan_planes(const Activations& x, MeansPlan& plan) {
  const int32_t inner = x.mean_dims - 1;
  plan.planes.outer = size_of_mean_dims(x, inner);
  plan.planes.piece = kWarp * kPlanePacks * (16 / size_of(x.dtype));
  plan.planes.pieces = ceil_div(x.mean_sizes[inner], plan.planes.piece);
  plan.parts = ceil_div(plan.planes.outer * plan.planes.pieces, kPlaneItems);
}

MeansPlan plan_means(const Activations& x) {
  MeansPlan plan{};
  plan.count = size_of_mean_dims(x, x.mean_dims);
  const bool contiguous_space = x.mean_dims > 0 && x.mean_strides[x.mean_dims - 1] == 1;
  const int64_t space = contiguous_space ? x.mean_sizes[x.mean_dims - 1] : 1;
  const bool adjacent = x.unit_stride == space || x.units == 1;
  if (contiguous_space && !(adjacent && space <= kRowThreads)) {
    plan.path = Path::planes;
    plan_planes(x, plan);
  } else if (adjacent && plan.count / space <= kMaxRows) {
    plan.path = Path::rows;
    plan_rows(x, space, plan);
  } else {
    plan.path = Path::elements;
    plan.parts = ceil_div(plan.count, kElementsPerThread);
  }
  return plan;
}

int64_t blocks_of(const Activations& x, const MeansPlan& plan) {
  switch (plan.path) {
    case Path::rows:
      return x.points * plan.rows.segments;
    case Path::planes:
      return ceil_div(x.points * x.units, kPlaneWarps);
    default:
      return ceil_div(x.points * x.units, kElementThreads);
  }
}

template <class T>
void sum(const Activations& x, const MeansPlan& plan, const MeansOutput& to, cudaStream_t stream) {
  const dim3 grid(unsigned(blocks_of(x, plan)), unsigned(plan.parts));
  const dim3 row_block(unsigned(plan.rows.columns * plan.rows.lanes));
  if (plan.path == Path::planes)
    MEMKERN_LAUNCH((sum_planes<T>), grid, dim3(kPlaneWarps * kWarp), stream, x, plan.planes, to);
  else if (plan.path == Path::elements)
    MEMKERN_LAUNCH((sum_elements<T>), grid, dim3(kElementThreads), stream, x, to);
  else if (plan.packs)
    MEMKERN_LAUNCH((sum_rows<T, kPack<T>>), grid, row_block, stream, x, plan.rows, to);
  else
    MEMKERN_LAUNCH((sum_rows<T, 1>), grid, row_block, stream, x, plan.rows, to);
  if (plan.parts <= 1) return;
  const MeansTask finish{x.points, x.units, to};
  finish_unit_means<T>(batch_of(finish), blocks_of(finish), stream);
}

}  // namespace

int64_t unit_means_scratch(const Activations& x) {
  const int64_t parts = plan_means(x).parts;
  return parts > 1 ? x.points * parts * x.units * int64_t(sizeof(double)) : 0;
}

const char* launch_unit_means(const UnitMeans& op, void* scratch, Stream stream) {
  if (op.x.points == 0 || op.x.units == 0) return nullptr;
  const MeansPlan plan = plan_means(op.x);
  if (blocks_of(op.x, plan) > kMaxGridX || plan.parts > kMaxGridY) return "activations too large for one launch";
  const MeansOutput to{op.means, static_cast<double*>(scratch), plan.parts, plan.count};
  for_dtype(op.x.dtype, [&](auto element) { sum<decltype(element)>(op.x, plan, to, cuda_stream(stream)); });
  return take_launch_error();
}

}  // namespace memkern

int64_t memkern_cuda_unit_means_scratch(const memkern::UnitMeans* op) { return memkern::unit_means_scratch(op->x); }

const char* memkern_cuda_unit_means(const memkern::UnitMeans* op, void* scratch, void* stream) {
  return memkern::launch_unit_means(*op, scratch, stream);
}
