// Every launch setting, and why it has its value. None depends on the device: the same input gives the same bits on
// every GPU of one architecture. Where a reason names a GPU it was timed there; the others are arithmetic.
#pragma once
#include <cstdint>

namespace memkern {

constexpr int kBatchTasks = 16;
constexpr int kPairThreads = 128;
constexpr int kPairPacks = 8;
constexpr int kPairBlocks = 4;
constexpr int kLayerPacks = 8;
constexpr int kLayerBlocks = 4;
constexpr int kEnoughBlocks = 1024;
constexpr int kMaxFewViews = 10;
constexpr int kTileViews = 4;
constexpr int kTileWarps = 4;
constexpr int kTilePacks = 16;
constexpr int kMaxChunks = 512;
constexpr int kPartialShare = 16;
constexpr int kFinishThreads = 128;
constexpr int kFinishBlocks = 4;
constexpr int kLookBlocks = 528;
constexpr int kLookDims = 4096;
constexpr int kGradientPacks = 4;
constexpr int kGradientViews = 4;
constexpr int kGradientBlocks = 3;
constexpr int kFewGradientBlocks = 4;
constexpr int kRowThreads = 256;
constexpr int kRowBlocks = 2;
constexpr int kRowUnroll = 4;
constexpr int kRowColumns = 32;
constexpr int kMinRowColumns = 8;
constexpr int kManyRows = 64;
constexpr int kMaxRows = 1 << 30;
constexpr int kRowRounds = 8;
constexpr int kRowRoundsAlone = 16;
constexpr int kFoldThreads = 8;
constexpr int kPlaneWarps = 8;
constexpr int kPlaneBlocks = 4;
constexpr int kPlanePacks = 8;
constexpr int kPlaneUnroll = 4;
constexpr int kPlaneItems = 8;
constexpr int kElementThreads = 256;
constexpr int kElementUnroll = 4;
constexpr int kElementsPerThread = 4096;
constexpr int kStateThreads = 128;
constexpr int kStateBlocks = 4;
constexpr int kStateUnroll = 8;
constexpr int kMergeWarps = 8;
constexpr int kStateChunks = 128;
constexpr int kMinStatePoints = 32;
constexpr int kClassThreads = 256;
constexpr int kClassLabels = 8;
constexpr int kClassUnroll = 8;
constexpr int kClassBlocks = 256;
constexpr int kMinClassPoints = 1024;
constexpr int kMedianUnits = 32;
constexpr int kMedianWarps = 16;
constexpr int kMedianUnroll = 8;
constexpr int kMedianBits = 8;
constexpr int kMedianRows = 4096;
constexpr int kMedianChunks = 128;
constexpr int kViewThreads = 256;
constexpr int kViewBlocks = 528;
constexpr int kViewBlocksPerSm = 4;
constexpr int kViewArena = 32 << 10;
constexpr int kViewNarrow = 8;
constexpr int kSmallView = 64 * 64;
constexpr int kSmallViewThreads = 128;
constexpr int kSmallArena = 13 << 10;
constexpr int kViewRuns = 48;

struct Setting {
  const char* kernel;
  const char* name;
  int value;
  const char* reason;
};

constexpr Setting kSettings[] = {
    {"layer_sums", "tasks", kBatchTasks, "layers in one launch: their descriptions take 2.6 of 4 KB of parameters"},
    {"pair_sums", "threads", kPairThreads,
     "10 views x 16 bytes a thread keep 20 KB a block in flight; 3 blocks cover HBM3"},
    {"pair_sums", "packs", kPairPacks, "packs a thread adds per chunk: 64 float additions in a row at most"},
    {"pair_sums", "blocks", kPairBlocks, "an SM at least: 128 registers, which 10 packs and 55 sums fit"},
    {"pair_sums", "max views", kMaxFewViews, "45 pairs and 10 norms fit the registers beside 10 packs; 12 views spill"},
    {"layer_sums", "packs", kLayerPacks, "of a thread per chunk: 16 KB of shared memory, 32 KB for 16-bit elements"},
    {"layer_sums", "blocks", kLayerBlocks,
     "an SM at least: 128 registers; of 16-bit elements one less, else it spills"},
    {"layer_sums", "enough blocks", kEnoughBlocks,
     "of a layer: chunks get shorter, so that small layers fill 132 SMs too"},
    {"tile_sums", "views", kTileViews, "4 x 4 pairs per 8 loads: as many cycles in the FP32 pipes as in the L1 cache"},
    {"tile_sums", "warps", kTileWarps, "tiles of one point side by side, so that they share its views in L1"},
    {"tile_sums", "packs", kTilePacks, "packs a lane adds per chunk: 64 float additions (128 of 16-bit elements)"},
    {"alignment", "max chunks", kMaxChunks, "of a point; the finishing block adds them up one after the other"},
    {"alignment", "partial share", kPartialShare, "partial sums take at most 1/16 of the bytes of the input"},
    {"finish_alignment", "threads", kFinishThreads, "45 pairs; recomputes doubtful pairs with all of them"},
    {"finish_alignment", "blocks", kFinishBlocks,
     "an SM at least: 128 registers; unbounded, ptxas spills one to fit 9"},
    {"unit_pair_sums", "blocks", kLookBlocks,
     "of a layer, 4 an SM of 132: most find that nobody wants a second look, and leave"},
    {"unit_pair_sums", "dims", kLookDims,
     "up to here a block recomputes its point's pairs, because two more launches take longer"},
    {"alignment_gradient", "packs", kGradientPacks,
     "of a lane per block: enough blocks from 4096 dims on even for one point"},
    {"alignment_gradient", "views", kGradientViews, "gradients a thread keeps while it reads every view once"},
    {"alignment_gradient", "blocks", kGradientBlocks, "an SM at least, as of layer_sums"},
    {"gradient_of_few", "blocks", kFewGradientBlocks,
     "an SM at least: 128 registers, for 4 elements of 10 views and of their gradients"},
    {"sum_rows", "threads", kRowThreads, "16 bytes each: 4 KB of a row; whole units of up to 256 elements fit"},
    {"sum_rows", "blocks", kRowBlocks, "an SM at least, 32 KB in flight; bound to 3, float16 spills on sm_80"},
    {"sum_rows", "unroll", kRowUnroll, "64 bytes a thread in flight; one addition in double per 4 elements"},
    {"sum_rows", "columns", kRowColumns, "threads side by side at most when rows are many: 512 bytes, 8 rows deep"},
    {"sum_rows", "min columns", kMinRowColumns,
     "of narrow rows: 128 bytes, 32 rows deep; 64 units of bf16 fill a block"},
    {"sum_rows", "many rows", kManyRows, "from here on rows are shared by lanes"},
    {"sum_rows", "max rows", kMaxRows,
     "of a point: positions are 32 bits, as a division of 64 takes 20 registers more"},
    {"sum_rows", "rounds", kRowRounds, "of loads a block: it reads 128 KB; partial sums under 1/64 of that"},
    {"sum_rows", "rounds alone", kRowRoundsAlone, "the same where a thread adds a column by itself: 64 rows"},
    {"sum_rows", "fold threads", kFoldThreads, "of a small map, of at least two elements each; 3 shuffles"},
    {"sum_planes", "warps", kPlaneWarps, "a block only for scheduling; warps do not meet"},
    {"sum_planes", "blocks", kPlaneBlocks,
     "an SM at least, of float64 one less; with 3, bf16 stays far below DRAM's peak"},
    {"sum_planes", "packs", kPlanePacks, "of a lane per piece: two rounds of loads"},
    {"sum_planes", "unroll", kPlaneUnroll, "64 bytes a lane in flight; one addition in double per 16 or 32 elements"},
    {"sum_planes", "items", kPlaneItems, "pieces of planes per warp, up to 32 KB: one double written for each"},
    {"sum_elements", "threads", kElementThreads, "a point and unit per thread: the layout has nothing to share"},
    {"sum_elements", "unroll", kElementUnroll, "loads in flight; their sum is a tree"},
    {"sum_elements", "elements a thread", kElementsPerThread, "then another thread goes on"},
    {"visit_points", "threads", kStateThreads, "a pack of units per thread"},
    {"visit_points", "blocks", kStateBlocks,
     "an SM at least: 128 registers; the 512 blocks of 4096 units of bf16 fit an H100 at once"},
    {"visit_points", "unroll", kStateUnroll, "rows loaded before the first is looked at: 128 bytes a thread in flight"},
    {"merge_states", "warps", kMergeWarps,
     "a unit a lane, a run of chunks each, because chunks one after the other leave most of the GPU idle"},
    {"visit_points", "chunks", kStateChunks, "of the points at most: 40 bytes per unit each"},
    {"visit_points", "min points", kMinStatePoints, "a chunk's state is 24 bytes per unit, under 1/5 of 32 floats"},
    {"class_sums", "threads", kClassThreads, "a unit per thread; the labels are read once per 256 units and class"},
    {"class_sums", "labels", kClassLabels,
     "a thread looks at together; 32 of a block take several times a read of the means"},
    {"class_sums", "unroll", kClassUnroll, "means a thread has in flight: 8 KB a block"},
    {"class_sums", "blocks", kClassBlocks, "classes x ranges of points: enough for two blocks an SM"},
    {"class_sums", "min points", kMinClassPoints, "a range's partial sums are 1/512 of its means or less"},
    {"median_of_others", "units", kMedianUnits, "a warp reads 128 contiguous bytes"},
    {"median_of_others", "warps", kMedianWarps,
     "that count a column's values together; two blocks an SM keep 32 KB in flight"},
    {"median_of_others", "unroll", kMedianUnroll,
     "rows a warp has in flight; with hardly any, most of the time is spent waiting for memory"},
    {"median_of_others", "bits", kMedianBits, "decided per pass: 256 counters a unit, 32 KB a block; 4 reads of float"},
    {"median_of_others", "rows", kMedianRows, "of a block; its counters in scratch memory are 1/16 of what it reads"},
    {"median_of_others", "chunks", kMedianChunks, "of the rows at most: 128 KB of counters per unit"},
    {"make_views", "threads", kViewThreads,
     "of a view: its barriers wait for 8 warps; 49 quads of pixels of 224 x 224 a thread"},
    {"make_views", "blocks", kViewBlocks, "at once, 4 an SM of 132; each has its own canvases in scratch memory"},
    {"make_views", "blocks an SM", kViewBlocksPerSm, "64 registers a thread; 5 would spill"},
    {"make_views", "arena", kViewArena,
     "bytes: 32 columns of 85 rows of RGB, or of 256 rows of a channel that is blurred; 4 blocks leave L1 half of an "
     "SM"},
    {"make_views", "narrow", kViewNarrow,
     "columns that must fit the shared arena; fewer would waste most of a sector of 32 bytes"},
    {"make_views", "small view", kSmallView, "pixels; 8 quads for each of the threads below"},
    {"make_views", "small threads", kSmallViewThreads,
     "2 quads of 32 x 32 each; twice as many views at once hide the barriers"},
    {"make_views", "small arena", kSmallArena,
     "bytes: 32 columns of 34 rows of RGB, a tile for a view of 32 x 32; eight blocks take 117 KB of an SM"},
    {"make_views", "runs", kViewRuns,
     "sizes of images in one launch: their descriptions take 3.1 of 4 KB of parameters"},
};

}  // namespace memkern
