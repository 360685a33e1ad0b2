#!/usr/bin/env bash
# Verifies memkern on a GPU: tests on the real backends, compute-sanitizer, profiler, benchmarks; one folder of results.
#
#   bash scripts/verify_gpu.sh [RESULTS [OPTIONS OF THE BENCHMARK]]        default: gpu_results/
#
# PYTHON names the interpreter that memkern is installed in, with memkern[dev,bench]. Every step writes RESULTS/STEP.log
# and goes on after a failure. Exit code: 0 all passed, 1 a step failed, 2 a tool is missing, 3 no GPU: nothing was run.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${1:-gpu_results}
shift
# Results may be re-read after the repository has moved on: name them absolutely, this script changes no folder again.
mkdir -p "$results" && results=$(cd "$results" && pwd)

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "verify_gpu: torch finds no GPU; nothing was verified"
  rmdir "$results" 2>/dev/null
  exit 3
fi

code=0
note() { echo "$1" | tee -a "$results/summary.txt"; }
tell() {  # tell NAME STATUS: notes how a step ended
  note "$(printf '%-24s exit %-3s %s' "$1" "$2" "$(grep -E '[0-9]+ (passed|failed)|(ERROR|RACECHECK) SUMMARY' "$results/$1.log" | tail -1)")"
  if [ "$2" -ne 0 ]; then code=1; fi
}
step() {  # step NAME COMMAND...: runs it, keeps its output, notes whether it passed
  local name=$1
  shift
  "$@" >"$results/$name.log" 2>&1
  tell "$name" $?
}
started=() names=()
beside() {  # the same, beside the steps that follow; `await` notes how it ended
  local name=$1
  shift
  "$@" >"$results/$name.log" 2>&1 &
  started+=($!) names+=("$name")
}
await() {
  local i
  for i in "${!started[@]}"; do
    wait "${started[$i]}"
    tell "${names[$i]}" $?
  done
  started=() names=()
}
missing() {
  note "$(printf '%-24s missing: %s' "$1" "$2")"
  if [ $code -eq 0 ]; then code=2; fi
}
tests=("$python" -m pytest -o "addopts=-ra --import-mode=importlib" -o timeout=0 -p no:cacheprovider)
workers=(-n 4)
"$python" -c 'import xdist' 2>/dev/null || workers=()
: >"$results/summary.txt"

# ---- what it ran on ---------------------------------------------------------------------------------------------------
{
  date -u
  git rev-parse HEAD 2>/dev/null
  git status --porcelain 2>/dev/null
  "$python" - <<'PYTHON'
import platform
import torch, memkern
print(platform.platform(), "Python", platform.python_version())
print("torch", torch.__version__, "CUDA", torch.version.cuda, "HIP", torch.version.hip)
for number in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_properties(number))
print(memkern.backends())
PYTHON
  nvidia-smi || rocm-smi
} >"$results/environment.txt" 2>&1

# ---- right results and right memory accesses, side by side: nothing here is timed ------------------------------------
beside gpu "${tests[@]}" "${workers[@]}" python_tests/cuda/test_gpu.py python_tests/ops/test_interop.py
beside agreement "${tests[@]}" "${workers[@]}" python_tests/agreement/test_agreement.py -k "[cuda- or [triton-"
beside triton env DEV=cuda "${tests[@]}" "${workers[@]}" python_tests/gpu_triton/check_*.py
if sanitizer=$(command -v compute-sanitizer); then
  # The smallest tests, since the tools slow kernels a hundredfold. Without the caching allocator every tensor has its
  # real bounds; with padding, a step past one is seen.
  for tool in memcheck racecheck synccheck initcheck; do
    padding=
    if [ $tool = memcheck ]; then padding="--padding 64"; fi
    # torch's own kernels (at::native) are not ours to judge
    beside $tool env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool $tool $padding --error-exitcode 9 \
      --print-limit 20 --kernel-name-exclude kernel_substring=at:: "${tests[@]}" -p no:xdist -x python_tests/cuda/test_gpu.py \
      -k sanitized
  done
else
  missing compute-sanitizer "it comes with the CUDA toolkit, and as nvidia-cuda-sanitizer-api from the package index"
fi
await
step launches "$python" -m memkern.triton_kernels.launches

# ---- traffic and limits -------------------------------------------------------------------------------------------------
metrics=dram__bytes_read.sum,dram__bytes_write.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed
metrics+=,sm__throughput.avg.pct_of_peak_sustained_elapsed,launch__registers_per_thread
metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__sass_inst_executed_op_local.sum
metrics+=,l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum,gpu__time_duration.sum
if command -v ncu >/dev/null; then
  # at the clocks the card has: ncu would else lower them
  step ncu ncu --clock-control none --target-processes all --csv --metrics $metrics --log-file "$results/ncu.csv" \
    "${tests[@]}" -p no:xdist python_tests/cuda/test_gpu.py -k profiled
else
  missing ncu "NVIDIA Nsight Compute"
fi

# ---- speed: the table of the CPU benchmark, beside eager torch, torch.compile and kornia; both backends in one race ------
step bench "$python" -m pytest bench --backend "$("$python" -c 'if True:
    import torch, memkern.dispatch as d
    print("triton" if d.why_not("cuda", torch.device("cuda")) else "cuda")')" --store "$results/bench.json" "$@"

note "results in $results; exit $code"
exit $code
