#!/bin/sh
# Trains both networks within a given time, on one GPU or on the CPU: Focus, then Glance by cross-entropy, then by GRPO.
# Usage: sh scripts/train_by_clock.sh LIST RUNS MINUTES CONFIGS [PYTHON]
# CONFIGS: folder with focus.json, glance_ce.json and glance_grpo.json. A run that was cut off, or given more MINUTES,
# goes on. At the end RUNS/weights holds what predict takes, and RUNS/pieces the same in files of at most 16 MB, for
# carriers that take no more: cat focus.safetensors.* > focus.safetensors.
set -eu

list=$1
runs=$2
minutes=$3
configs=$4
python=${5:-python3}
# Of the time: most for Focus, which everything hangs on. Reading the scans and writing come on top.
focus_share=70
ce_share=20
grpo_share=10

train() { # train STAGE SHARE [WORDS ...]
    stage=$1
    limit=$(awk "BEGIN { print $minutes * $2 / 100 }")
    shift 2
    if test -f "$runs/$stage/checkpoint.pt"; then set -- "$@" --resume; fi
    "$python" -m gfscreen train --config "$runs/$stage.json" --data "$list" --cache "$runs/cache" -o "$runs/$stage" \
        --max-minutes "$limit" "$@"
}

config() { # config STAGE [KEY VALUE ...]: the stage's settings, starting from the runs before it
    "$python" - "$configs/$1.json" "$runs/$1.json" "$@" <<'EOF'
import json
import sys

source, target, _, *words = sys.argv[1:]
with open(source, encoding="utf-8") as stream:
    settings = json.load(stream)
settings.update(zip(words[::2], words[1::2], strict=True))
with open(target, "w", encoding="utf-8") as stream:
    json.dump(settings, stream, indent=1)
EOF
}

mkdir -p "$runs"
config focus
train focus "$focus_share"
config glance_ce init "$runs/focus"
train glance_ce "$ce_share"
config glance_grpo init "$runs/focus" init_glance "$runs/glance_ce"
train glance_grpo "$grpo_share"

rm -rf "$runs/weights" "$runs/pieces"
"$python" -m gfscreen assemble --focus "$runs/focus" --glance "$runs/glance_grpo" -o "$runs/weights"
mkdir "$runs/pieces"
for file in "$runs"/weights/*.json; do cp "$file" "$runs/pieces/"; done
for file in "$runs"/weights/*.safetensors; do
    split -b 16000000 -d "$file" "$runs/pieces/$(basename "$file")."
done
