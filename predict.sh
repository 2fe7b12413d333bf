#!/bin/sh
# What the organisers run: every case of the input folder becomes a mask in the output folder.
# Usage: sh predict.sh [INPUTS [OUTPUTS]], by default /workspace/inputs and /workspace/outputs.
#
# Optional environment:
#   GFSCREEN_TIME_LIMIT        seconds per case (45, the organisers' tolerance; empty: no limit)
#   GFSCREEN_GPU_MEMORY_LIMIT  MB of GPU memory (4096, the organisers' tolerance; empty: no limit)
#   GFSCREEN_DEVICE, GFSCREEN_REGION, GFSCREEN_OVERLAP, GFSCREEN_GATE, GFSCREEN_REPORT, GFSCREEN_WEIGHTS
#                              as --device, --region, --overlap, --gate, --report, --weights of `python -m gfscreen predict`
#   GFSCREEN_LESION_THRESHOLD, GFSCREEN_FINDING_PEAK, GFSCREEN_MIN_VOLUME_ML
#                              sensitivity, as --lesion-threshold, --finding-peak, --min-volume-ml
#   GFSCREEN_OPERATING_POINT   sensitive, balanced or specific, as --operating-point; empty: the plan's own values
#   GFSCREEN_KEEP_SHARE        as --keep-share: for timing untrained weights
#   GFSCREEN_RESUME=1          keep the masks that an earlier run finished (--resume)
#   GFSCREEN_EMPTY_MASK=0      no last resort; by default a scan that was read but could not be screened gets an empty
#                              mask with its geometry, and counts as failed (--empty-mask-on-failure)
#   GFSCREEN_OVERWRITE=0       keep a mask that an earlier run made of another scan: the case then fails; by default it is
#                              replaced, with a warning (--overwrite)
# Exit: 0 all cases written, 1 some case failed, 2 wrong usage; 128 + N: stopped by signal N (143: SIGTERM).
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

if test -x "$here/.venv/bin/python"; then
    python=$here/.venv/bin/python
elif command -v python >/dev/null 2>&1; then
    python=python
else
    python=python3
fi

PYTHONPATH=$here/src${PYTHONPATH:+:$PYTHONPATH}
GFSCREEN_WEIGHTS=${GFSCREEN_WEIGHTS:-$here/weights}
export PYTHONPATH GFSCREEN_WEIGHTS

time_limit=${GFSCREEN_TIME_LIMIT-45}
gpu_memory_limit=${GFSCREEN_GPU_MEMORY_LIMIT-4096}

# The options are gathered in "$@", so that a path with blanks stays one argument.
set -- -i "${1:-/workspace/inputs}" -o "${2:-/workspace/outputs}"
if test -n "$time_limit"; then set -- "$@" --time-limit "$time_limit"; fi
if test -n "$gpu_memory_limit"; then set -- "$@" --gpu-memory-limit "$gpu_memory_limit"; fi
if test -n "${GFSCREEN_DEVICE:-}"; then set -- "$@" --device "$GFSCREEN_DEVICE"; fi
if test -n "${GFSCREEN_REGION:-}"; then set -- "$@" --region "$GFSCREEN_REGION"; fi
if test -n "${GFSCREEN_OVERLAP:-}"; then set -- "$@" --overlap "$GFSCREEN_OVERLAP"; fi
if test -n "${GFSCREEN_GATE:-}"; then set -- "$@" --gate "$GFSCREEN_GATE"; fi
if test -n "${GFSCREEN_LESION_THRESHOLD:-}"; then set -- "$@" --lesion-threshold "$GFSCREEN_LESION_THRESHOLD"; fi
if test -n "${GFSCREEN_FINDING_PEAK:-}"; then set -- "$@" --finding-peak "$GFSCREEN_FINDING_PEAK"; fi
if test -n "${GFSCREEN_MIN_VOLUME_ML:-}"; then set -- "$@" --min-volume-ml "$GFSCREEN_MIN_VOLUME_ML"; fi
if test -n "${GFSCREEN_OPERATING_POINT:-}"; then set -- "$@" --operating-point "$GFSCREEN_OPERATING_POINT"; fi
if test -n "${GFSCREEN_KEEP_SHARE:-}"; then set -- "$@" --keep-share "$GFSCREEN_KEEP_SHARE"; fi
if test -n "${GFSCREEN_REPORT:-}"; then set -- "$@" --report "$GFSCREEN_REPORT"; fi
if test "${GFSCREEN_RESUME:-0}" = 1; then set -- "$@" --resume; fi
if test "${GFSCREEN_EMPTY_MASK:-1}" = 1; then set -- "$@" --empty-mask-on-failure; fi
if test "${GFSCREEN_OVERWRITE:-1}" = 1; then set -- "$@" --overwrite; fi

exec "$python" -m gfscreen predict "$@"
