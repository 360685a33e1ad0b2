#!/usr/bin/env bash
# One audit by the processes of torchrun, on one machine or several that see RUN and the images under the same paths.
#
#   PROCESSES=4 scripts/scale/torchrun.sh RUN ENCODER --weights F --reference G --data DIR …
#
# On several machines run it on each of them, with NODES and HOST (the first one's name). Add --resume to go on.
set -euo pipefail
run=$1
shift
rendezvous=(--standalone)
if [ "${NODES:-1}" -gt 1 ]; then
  rendezvous=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "$HOST:29400" --rdzv-id memkern)
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" --nproc-per-node "${PROCESSES:-2}" \
  -m memkern audit "$@" --out "$run"
