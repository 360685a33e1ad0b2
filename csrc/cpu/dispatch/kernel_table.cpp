// The table of one instruction set. Compiled once per set, like every kernel file beside it.
#include "kernels.h"

#define MEMKERN_TEXT_OF(name) #name
#define MEMKERN_TEXT(name) MEMKERN_TEXT_OF(name)

namespace memkern {
namespace MEMKERN_ISA {

void alignment(const Alignment&, const Share&);
void layer_stats(const LayerStats&, const Share&);
void pointwise_stats(const PointwiseStats&, const Share&);
void alignment_backward(const AlignmentBackward&, int64_t first, int64_t last);
void unit_means(const UnitMeans&, int64_t first, int64_t last);
void selectivity(const Selectivity&, int64_t first, int64_t last, const SelectivityState& partial);
void merge_selectivity(DType wide, const SelectivityState& into, const SelectivityState& from, int64_t first,
                       int64_t last);
void median_of_others(const MedianOfOthers&, int64_t first, int64_t last);
void class_sums(const ClassSums&, int64_t first, int64_t last);
void views(const Views&, int64_t first, int64_t last);

extern const Kernels table;
const Kernels table = {
    MEMKERN_TEXT(MEMKERN_ISA), alignment,  layer_stats, pointwise_stats,
    alignment_backward,        unit_means, selectivity, merge_selectivity,
    median_of_others,          class_sums, views,
};

}  // namespace MEMKERN_ISA
}  // namespace memkern
