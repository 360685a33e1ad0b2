#!/usr/bin/env bash
# Verifies memkern on a GPU: tests on the real backends, compute-sanitizer, profiler, benchmarks; one folder of results.
#
#   bash scripts/verify_gpu.sh [RESULTS]        default: gpu_results/
#
# PYTHON names the interpreter that memkern is installed in, with memkern[dev,bench]. Every step writes RESULTS/STEP.log
# and goes on after a failure. Exit code: 0 all passed, 1 a step failed, 2 a tool is missing, 3 no GPU: nothing was run.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${1:-gpu_results}
# Results may be re-read after the repository has moved on: name them absolutely, this script changes no folder again.
mkdir -p "$results" && results=$(cd "$results" && pwd)

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "verify_gpu: torch finds no GPU; nothing was verified"
  rmdir "$results" 2>/dev/null
  exit 3
fi

code=0
note() { echo "$1" | tee -a "$results/summary.txt"; }
step() {  # step NAME COMMAND...: runs it, keeps its output, notes whether it passed
  local name=$1 status
  shift
  "$@" >"$results/$name.log" 2>&1
  status=$?
  note "$(printf '%-24s exit %-3s %s' "$name" "$status" "$(grep -E '[0-9]+ (passed|failed)|ERROR SUMMARY' "$results/$name.log" | tail -1)")"
  if [ $status -ne 0 ]; then code=1; fi
}
missing() {
  note "$(printf '%-24s missing: %s' "$1" "$2")"
  if [ $code -eq 0 ]; then code=2; fi
}
tests=("$python" -m pytest -o addopts=-ra -o timeout=0 -p no:cacheprovider -p no:xdist)
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

# ---- right results ----------------------------------------------------------------------------------------------------
step gpu "${tests[@]}" python_tests/test_gpu.py python_tests/test_interop.py
step agreement "${tests[@]}" python_tests/test_agreement.py
step triton env DEV=cuda "${tests[@]}" python_tests/gpu_triton/check_*.py
step launches "$python" -m memkern.triton_kernels.launches

# ---- right memory accesses: the smallest tests, since the tools slow kernels a hundredfold -------------------------------
if sanitizer=$(command -v compute-sanitizer); then
  # Without the caching allocator every tensor has its real bounds; with padding, a step past one is seen.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  for tool in memcheck racecheck synccheck initcheck; do
    padding=
    if [ $tool = memcheck ]; then padding="--padding 64"; fi
    # torch's own kernels (at::native) are not ours to judge
    step $tool "$sanitizer" --tool $tool $padding --error-exitcode 9 --print-limit 20 \
      --kernel-name-exclude kernel_substring=at:: "${tests[@]}" -x python_tests/test_gpu.py -k sanitized
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
else
  missing compute-sanitizer "it comes with the CUDA toolkit, and as nvidia-cuda-sanitizer-api from the package index"
fi

# ---- traffic and limits -------------------------------------------------------------------------------------------------
metrics=dram__bytes_read.sum,dram__bytes_write.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed
metrics+=,sm__throughput.avg.pct_of_peak_sustained_elapsed,launch__registers_per_thread
metrics+=,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__sass_inst_executed_op_local.sum
metrics+=,l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum,gpu__time_duration.sum
if command -v ncu >/dev/null; then
  step ncu ncu --target-processes all --csv --metrics $metrics --log-file "$results/ncu.csv" \
    "${tests[@]}" python_tests/test_gpu.py -k profiled
else
  missing ncu "NVIDIA Nsight Compute"
fi

# ---- speed: the table of the CPU benchmark, beside eager torch and torch.compile -----------------------------------------
for backend in cuda triton; do
  step bench-$backend "$python" -m pytest bench --backend $backend --store "$results/$backend.json"
done

note "results in $results; exit $code"
exit $code
