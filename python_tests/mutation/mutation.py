# ruff: noqa: E501
"""Plants faults in copies of the ops, one at a time, and requires that the tests named beside each go red.

    python python_tests/mutation/mutation.py [--quick N] [--only TEXT] [--list]

The copy is built in a scratch folder; nothing in the checkout changes. A fault that no test notices, or that no longer
compiles, is a failure of the suite. `test_mutation.py` keeps the table true: every text stands in its file once.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("CMakeLists.txt", "cmake", "csrc", "memkern", "python_tests", "pyproject.toml")


class Fault(NamedTuple):
    """One planted fault: `text` stands in `file` exactly once; with `replacement`, `tests` must go red."""

    file: str
    text: str
    replacement: str
    tests: str  # of python_tests, separated by spaces


FAULTS = [
    # ---- alignment
    Fault("csrc/cpu/alignment/distances.h", "return square - gap >= fair_share_ * square;", "return true;",
          "ops/test_alignment.py::test_families"),
    Fault("csrc/cpu/alignment/distances.h", "__builtin_sqrt(1024 / double(dims))", "__builtin_sqrt(128 / double(dims))",
          "cpu/test_slices.py::test_errors_of_views_whose_lengths_differ"),
    Fault("csrc/cpu/alignment/alignment.cpp", "all_[i] += kept[i];", "all_[i] = kept[i];", "cpu/test_slices.py::test_alignment"),
    Fault("csrc/cpu/alignment/alignment.cpp", "void begin_slices() { clear(all_.get(), kept()); }", "void begin_slices() {}",
          "cpu/test_slices.py::test_layer_stats"),
    Fault("csrc/cpu/alignment/alignment.cpp", "kept + p * slices() * sums_of_slice();", "kept + p * slices();",
          "cpu/test_slices.py::test_layer_stats"),
    Fault("csrc/cpu/dispatch/work_split.h", "sums += sums_of_slice(op.output[i]);", "sums = sums_of_slice(op.output[i]);",
          "cpu/test_slices.py::test_fused_layers"),
    Fault("csrc/cpu/alignment/distances.h", "open_[open++] = {k, i, j};", "open_[open++] = {k, i, i};",
          "ops/test_alignment.py::test_families"),
    Fault("csrc/cpu/alignment/distances.h", "(square * double(op_.dims) > 0.1) & ", "(square >= 0) & ",
          "ops/test_alignment.py::test_nearly_parallel_views_of_different_lengths_keep_their_digits"),
    Fault("csrc/cpu/alignment/distances.h", "& (square < 4.1)", "& (square == square)",
          "ops/test_alignment.py::test_lengths_whose_differences_overflow"),
    Fault("csrc/cpu/alignment/unit_pairs.h", "* factor[p];", ";",
          "ops/test_alignment.py::test_families"),
    Fault("csrc/cpu/alignment/unit_pairs.h", "std::memset(rows + v * kUnitDims + n, 0, size_t(end - n) * sizeof(float));", "",
          "ops/test_alignment.py::test_families"),
    Fault("csrc/cpu/alignment/distances.h", "/ double(pairs_))", "/ double(op_.views))",
          "ops/test_alignment.py::test_pairs_are_those_named"),
    Fault("csrc/cpu/alignment/pair_panels.h", "pair_row(first_a + i, views_) + first_b;",
          "pair_row(first_a + i, views_) + first_a;", "ops/test_alignment.py::test_view_counts"),
    Fault("csrc/cpu/alignment/pair_panels.h", "const int64_t j = first + blocks.first(b);", "const int64_t j = first;",
          "ops/test_alignment.py::test_view_counts"),
    # test_alignment.py does not see this one: a pair without a sum is measured again
    Fault("csrc/cpu/alignment/pair_tiles.h", "return add_tile<rows, 3>(", "return add_tile<rows, 2>(",
          "cpu/test_pair_sums.py::test_sums_of_pairs"),
    Fault("csrc/cpu/alignment/pair_sums.h", "std::memset(static_cast<void*>(row), 0, kGroup<T> * sizeof(T));",
          "std::memset(static_cast<void*>(row), 0, 1);", "ops/test_alignment.py::test_dims"),
    Fault("csrc/cpu/alignment/alignment_backward.cpp", "(gradient - u * weights.along[view])", "gradient",
          "ops/test_alignment.py::test_gradcheck"),
    Fault("csrc/cpu/alignment/alignment_backward.cpp", "gradient[j] -= weight * difference;",
          "gradient[j] += weight * difference;", "ops/test_alignment.py::test_gradcheck"),
    Fault("memkern/ops/alignment.py", " and native.is_dense(z.shape[2:], z.stride()[2:])", "",
          "ops/test_alignment.py::test_backward_layouts"),
    Fault("memkern/native.py", "    if not is_dense(z.shape[2:], z.stride()[2:]):", "    if False:",
          "ops/test_alignment.py::test_layouts"),
    Fault("memkern/native.py", "        if stride != expected:", "        if stride > expected:",
          "ops/test_alignment.py::test_expanded"),
    Fault("memkern/dispatch.py", "        and not x.is_neg()", "        and True",
          "ops/test_hazards_memory.py::test_negated_view"),
    # ---- unit means
    Fault("csrc/cpu/units/unit_sums.h", "return v < 0 ? Vec<A>{} : v;", "return v > 0 ? v : Vec<A>{};",
          "ops/test_hazards_values.py::test_unit_means_of_one_special_element"),
    Fault("csrc/cpu/units/unit_sums.h", "tail.clear_counted(columns);  // adding zero", "// adding zero",
          "ops/test_unit_means.py::test_units"),
    Fault("csrc/cpu/units/unit_means.cpp", "      rows += wide_rows * wide_units;\n", "",
          "ops/test_unit_means.py::test_narrow_rows"),
    Fault("csrc/cpu/units/unit_means.cpp", "means[p * x.units + u + i] = tile[i][p];", "means[p * x.units + i] = tile[i][p];",
          "ops/test_unit_means.py::test_points_innermost"),
    Fault("csrc/layout.h", "if (x.mean_strides[kept] == x.mean_strides[d] * x.mean_sizes[d]) {", "if (true) {",
          "ops/test_unit_means.py::test_layouts"),
    Fault("csrc/cpu/dispatch/parallel.cpp", "body(count * piece / pieces, count * (piece + 1) / pieces);",
          "body(count * piece / pieces, count * (piece + 1) / pieces - (piece == 1));",
          "ops/test_properties.py::test_any_number_of_threads_gives_the_same_bits"),
    # ---- selectivity
    Fault("csrc/rules.h", "return !(value <= peak) & (peak == peak);",
          "return !(value < peak) & (peak == peak);", "ops/test_selectivity.py::test_ties_take_the_lowest_position"),
    Fault("csrc/cpu/units/selectivity.cpp", "const auto rises = value[c] > peak[c];",
          "const auto rises = value[c] >= peak[c];", "ops/test_selectivity.py::test_ties_take_the_lowest_position"),
    Fault("csrc/cpu/units/selectivity.cpp", "if (any_lane(all != all)) return false;", "if (false) return false;",
          "ops/test_hazards_values.py::test_selectivity_with_nan"),
    Fault("csrc/rules.h", "double(rises ? state.peak : later.peak)", "double(later.peak)",
          "ops/test_selectivity.py::test_points"),
    Fault("memkern/ops/selectivity.py", "ids[order[position]]", "ids[position]",
          "ops/test_selectivity.py::test_ties_take_the_lowest_id"),
    Fault("memkern/scores.py", "torch.where(tied, index_b < index_a,", "torch.where(tied, index_b > index_a,",
          "ops/test_properties.py::test_states_merge_exactly_in_any_order"),
    # ---- median of the others, class sums, layer statistics
    Fault("csrc/cpu/units/median_of_others.cpp", "ranks_{(op.points - 2) / 2, (op.points - 1) / 2}",
          "ranks_{(op.points - 1) / 2, op.points / 2}", "ops/test_median_of_others.py::test_hand_worked"),
    Fault("csrc/cpu/units/median_of_others.cpp", "return {floor, select(values, kept, {0, 0}).low};",
          "return {floor, floor};", "ops/test_median_of_others.py::test_a_floor_that_is_a_middle_value"),
    Fault("csrc/cpu/units/median_of_others.cpp", "if (again) pass(", "if (false) pass(",
          "ops/test_median_of_others.py::test_misleading_samples"),
    Fault("csrc/cpu/units/class_sums.cpp", "for (; u < last; ++u) sums[u]", "for (; u < last - 1; ++u) sums[u]",
          "ops/test_class_sums.py::test_units"),
    Fault("csrc/cpu/layer_stats/layer_stats.cpp", "== ViewLayout::other) return", "== ViewLayout::rows) return",
          "ops/test_layer_stats.py::test_layouts"),
    Fault("csrc/cpu/layer_stats/units_seen.h", "Tail<A>(n).clear_counted(&sum);", "",
          "ops/test_layer_stats.py::test_larger_than_a_chunk"),
    Fault("csrc/cpu/alignment/pair_panels.h", "nullptr, b % kBlocksOfASum > 0};", "nullptr, false};",
          "ops/test_layer_stats.py::test_view_counts"),
    Fault("csrc/cpu/alignment/pair_panels.h", "s < sums_seen;", "s < 1;", "ops/test_layer_stats.py::test_view_counts"),
    Fault("csrc/cpu/alignment/pair_sums.h", "in_memory_order<T>(view_sum(), whole_groups<T>(last - first));", "",
          "ops/test_layer_stats.py::test_view_counts"),
    Fault("csrc/cpu/alignment/pair_sums.h", "sum_views(x + v * stride, op_.views", "sum_views(x, op_.views",
          "ops/test_layer_stats.py::test_many_views_of_an_anchor"),
    # ---- layers that are run while they are reduced
    Fault("csrc/cpu/layer_stats/pointwise.h", "return x < 0 ? Floats{} : x;", "return x > 0 ? x : Floats{};",
          "ops/test_pointwise_stats.py::test_special_values"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "return y < -125 ? Floats{} : power;", "return power;",
          "ops/test_pointwise_stats.py::test_special_values"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "x < 0 ? tail : 1 - tail", "1 - (x < 0 ? 1 - tail : tail)",
          "ops/test_pointwise_stats.py::test_gelu_keeps_its_digits_below_zero"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "norm_by_units(x, y, d % units_, n)", "norm_by_units(x, y, 0, n)",
          "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "left = space_ - d % space_;", "left = space_;",
          "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "- layer.mean[u] * scale;", "- layer.mean[u];",
          "ops/test_pointwise_stats.py::test_batch_norms_without_weights"),
    Fault("csrc/cpu/layer_stats/pointwise_stats.cpp", "goes_round_ = to.last_dim >= 0;", "goes_round_ = false;",
          "cpu/test_slices.py::test_fused_layers"),
    Fault("csrc/cpu/layer_stats/pointwise_stats.cpp", "producer.make(producer.self, point, 0, op.dims);",
          "producer.make(producer.self, point, 0, op.dims / 2);", "cpu/test_slices.py::test_what_lies_between_is_made_again"),
    Fault("csrc/cpu/layer_stats/pointwise_stats.cpp", "    from = to;\n", "", "ops/test_pointwise_stats.py::test_view_counts"),
    Fault("csrc/cpu/layer_stats/pointwise_stats.cpp", "norm(first, n, view > 0)", "norm(first, n, first > 0)",
          "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "return {&scale_[d % units_], &shift_[d % units_]};",
          "return {scale_.get(), shift_.get()};", "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "scale_[i - units_], shift_[i] = shift_[i - units_];",
          "scale_[0], shift_[i] = shift_[0];", "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("csrc/cpu/alignment/pair_panels.h", "with_norms && n == whole;", "with_norms;",
          "ops/test_pointwise_stats.py::test_view_counts"),
    Fault("memkern/audit/pipeline.py", "        write_exports(run, exports)\n", "",
          "audit/measure/test_audit_shards.py::test_parts_leave_no_file_out"),
    Fault("memkern/audit/report/terminal.py", 'overflow="fold"', 'overflow="ellipsis"',
          "audit/report/test_audit_summary.py::test_tables_cut_off_nothing"),
    Fault("memkern/audit/cli.py", "        console.width = 200", "        pass",
          "audit/report/test_audit_summary.py::test_names_are_whole_in_a_file"),
    Fault("memkern/audit/taps/pointwise_modules.py", "value.dtype, value.is_contiguous())", "value.dtype)",
          "audit/taps/test_audit_fused.py::test_weights_the_kernel_cannot_read"),
    Fault("memkern/audit/taps/pointwise_modules.py", "value.data_ptr(), value.dtype", "value.dtype",
          "audit/taps/test_audit_fused.py::test_weights_may_change_between_passes"),
    Fault("memkern/audit/taps/pointwise_modules.py", "state is None or state != self._state", "state != self._state",
          "audit/taps/test_audit_fused.py::test_weights_that_are_no_parameters"),
    Fault("memkern/audit/taps/fusion.py", "            self._flush()  # before the layer overwrites it\n", "",
          "audit/taps/test_audit_fused.py::test_what_is_left_to_torch_is_read_before_it_is_overwritten"),
    Fault("memkern/audit/taps/fusion.py", " and not plan.in_place\n", "\n",
          "audit/taps/test_audit_fused.py::test_what_is_done_together"),
    Fault("memkern/audit/taps/fusion.py", "if passed.output is not x or passed.point is not point:", "if False:",
          "audit/taps/test_audit_fused.py::test_a_model_that_reads_something_else_than_before"),
    Fault("memkern/audit/taps/consumers.py", "same and not others and", "same and",
          "audit/taps/test_audit_fused.py::test_as_without"),
    Fault("memkern/audit/taps/consumers.py", "and (in_place or not is_returned)", "",
          "audit/taps/test_audit_fused.py::test_as_without"),
    # ---- views
    Fault("csrc/cpu/views/views.cpp", "program[end].step != Step::contrast) ++end;", "true) ++end;",
          "ops/test_views.py::test_jitter_in_every_order"),
    Fault("csrc/cpu/views/views.cpp", "(op.channels == 1 && needs_color(step))) continue;", "false) continue;",
          "ops/test_views.py::test_jitter_in_every_order"),
    Fault("csrc/cpu/views/color.h", "h = h < 0.0f ? h + 1.0f : h;", "", "ops/test_views.py::test_hue_wraps_around"),
    Fault("csrc/cpu/views/color.h", "fused(other, rest, x * ratio)", "x * ratio + other * rest",
          "ops/test_views.py::test_presets_on_small_images"),
    Fault("csrc/resize_filter.h", "if (input == output) return window;", "",
          "ops/test_views.py::test_nan_spreads_as_torchvisions"),
    Fault("csrc/cpu/views/resample.h", "box.flip_rows ? height - 1 - y : y", "y", "ops/test_views.py::test_flips_turn_the_view"),
    Fault("csrc/cpu/views/blur.h", "i >= size ? 2 * (size - 1) - i : i", "i >= size ? 2 * size - 1 - i : i",
          "ops/test_views.py::test_each_step"),
    Fault("csrc/cpu/views/finalize.h", "(Part * n + I) % 3 == 2", "(Part * n + I) % 3 == 1",
          "ops/test_views.py::test_dtypes_and_memory_orders"),
    Fault("memkern/transforms/params.py", "factors.reshape(-1)[places], 0.0", "factors, 0.0",
          "transforms/test_view_params.py::test_color_factors"),
    Fault("memkern/transforms/params.py", "np.where(fits, height - box_height + 1, 1)",
          "np.where(fits, height - box_height, 1)", "transforms/test_view_params.py::test_crop_boxes"),
    Fault("memkern/transforms/philox.py", "products[::-1, ..., None]", "products[..., None]",
          "transforms/test_view_params.py::test_philox_gives_the_published_words"),
    # ---- what values do not show
    Fault("csrc/cpu/alignment/pair_sums.h", "row, view0(p, d) + v * op_.view_stride, size_t(last - d) * sizeof(T));",
          "row, view0(p, d) + v * op_.view_stride, size_t(kGroup<T>) * sizeof(T));",
          "cpu/test_sanitizers.py::test_no_sanitizer_complains"),
    Fault("csrc/cpu/layer_stats/pointwise.h", "scale_(is_norm() ? units_ + kMostDims + kLanes : 0)",
          "scale_(is_norm() ? units_ : 0)",
          "cpu/test_sanitizers.py::test_no_sanitizer_complains"),
    Fault("csrc/cpu/dispatch/parallel.cpp", "elements <= kSerialElements || forked)", "elements <= kSerialElements)",
          "test_runtime.py::test_dataloader_workers_after_the_parent_used_the_pool"),
    Fault("csrc/bindings.cpp", "const py::gil_scoped_release nogil;\n  run(op, int(threads));", "run(op, int(threads));",
          "test_runtime.py::test_kernels_run_without_the_interpreter_lock"),
]  # fmt: skip


def copy_sources(scratch: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "assets", "gpu*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, scratch / name, ignore=ignored)
        else:
            shutil.copy2(source, scratch / name)


def configure(scratch: Path) -> None:
    import pybind11

    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    subprocess.run(
        ["cmake", "-S", scratch, "-B", scratch / "build", *generator, "-DCMAKE_BUILD_TYPE=Release",
         "-DMEMKERN_OPTIMIZE=-O1", "-DMEMKERN_CUDA=OFF", f"-DPython_EXECUTABLE={sys.executable}",
         f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_INSTALL_PREFIX={scratch / 'memkern'}"],
        check=True, capture_output=True,
    )  # fmt: skip


def build(scratch: Path) -> bool:
    """Compiles what has changed and puts the module into the copied package."""
    command = ["cmake", "--build", scratch / "build", "--parallel", "2", "--target", "install"]
    return subprocess.run(command, capture_output=True).returncode == 0


def run_tests(scratch: Path, tests: str) -> tuple[int, str]:
    chosen = [f"python_tests/{test}" for test in tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def verdict(scratch: Path, fault: Fault) -> str:
    """Plants the fault, and takes it out again. "" if the tests went red, else what is wrong."""
    path = scratch / fault.file
    sound = path.read_text()
    if sound.count(fault.text) != 1:
        return f"its text stands there {sound.count(fault.text)} times"
    path.write_text(sound.replace(fault.text, fault.replacement))
    try:
        if fault.file.startswith("csrc/") and not build(scratch):
            return "does not compile"
        code, output = run_tests(scratch, fault.tests)
    finally:
        path.write_text(sound)  # newer than before: the next build compiles it again
    if code == 1 or code < 0 or code > 128:  # failed, or brought the process down
        return ""
    return "SURVIVED" if code == 0 else f"the tests did not run (exit code {code}): {output[-500:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", type=int, metavar="N", help="a random sample of N faults")
    parser.add_argument("--seed", type=int, default=0, help="of that sample")
    parser.add_argument("--only", metavar="TEXT", help="faults whose file or tests contain TEXT")
    parser.add_argument("--list", action="store_true", help="print the table and stop")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if not options.only or options.only in fault.file + " " + fault.tests]
    if not faults:
        print(f"no fault's file or tests contain {options.only!r}")
        return 1
    if options.quick:
        faults = random.Random(options.seed).sample(faults, min(options.quick, len(faults)))
    # Python first, then C++ file by file: fewer files to compile between two faults
    faults.sort(key=lambda fault: (fault.file.startswith("csrc/"), fault.file))
    if options.list:
        print("\n".join(f"{fault.file}: {fault.text.strip()!r} -> {fault.tests}" for fault in faults))
        return 0
    with tempfile.TemporaryDirectory(prefix="memkern-mutation-") as folder:
        scratch = Path(folder)
        copy_sources(scratch)
        configure(scratch)
        if not build(scratch):
            print("the sound copy does not compile")
            return 1
        code, output = run_tests(scratch, " ".join(sorted({fault.tests for fault in faults})))
        if code != 0:
            print(f"the tests are red without a fault:\n{output[-3000:]}")
            return 1
        wrong = 0
        for fault in faults:
            started = time.perf_counter()
            problem = verdict(scratch, fault)
            wrong += bool(problem)
            seconds = time.perf_counter() - started
            print(f"{problem or 'red':<10} {seconds:5.0f} s  {fault.file}: {fault.text.strip()[:60]!r}", flush=True)
    print(f"{len(faults) - wrong} of {len(faults)} planted faults turned the tests red")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
