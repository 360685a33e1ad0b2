#!/usr/bin/env bash
#SBATCH --job-name=memkern
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
# Part i of n of an audit: one task of a Slurm array. A task that is requeued goes on where it stopped.
#
#   parts=$(sbatch --parsable --array=1-8 scripts/scale/slurm.sh RUN ENCODER --weights F --reference G --data DIR …)
#   sbatch --dependency=afterok:$parts --wrap "memkern merge RUN --out RUN"
set -euo pipefail
run=$1
shift
exec "${PYTHON:-python}" -m memkern audit "$@" --out "$run" \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
