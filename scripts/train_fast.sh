#!/bin/sh
# Trains the weights that ship, anew: both networks of the `fast` preset, stage by stage, and the gate's threshold.
# Usage: sh scripts/train_fast.sh SHARED_DATA [PYTHON]      (about two hours on two CPU cores; writes runs/; it resumes)
# SHARED_DATA: the folder that holds images/, lidc_voi/, masklib/ (weights/MODEL_CARD.md names the sources).
set -eu

data=$1
runs=runs
python=${2:-.venv/bin/python}
recipe=$(CDPATH='' cd -- "$(dirname -- "$0")/../weights/recipe" && pwd)

train() { # train STAGE MINUTES: a finished stage is not run again, an interrupted one goes on
    test -d "$runs/$1/weights" && return 0
    resume=
    if test -f "$runs/$1/checkpoint.pt"; then resume=--resume; fi
    # shellcheck disable=SC2086 # no word where there is nothing to resume
    "$python" -m gfscreen train --config "$recipe/$1.json" --data "$runs/data/shared.json" --cache "$runs/cache" \
        -o "$runs/$1" --max-minutes "$2" $resume
}

gate_cases() { # gate_cases NAME HOSTS HALF SEED
    test -f "$runs/inserted_$1/lesions.json" && return 0
    "$python" -m gfscreen.training.cases --data "$runs/data/shared.json" --cache "$runs/cache" -o "$runs/inserted_$1" \
        --lesions 64 --hosts "$2" --half "$3" --seed "$4"
}

mkdir -p "$runs/data"
for seed in 101 102; do "$python" -m eval cases -o "$runs/phantoms" --seed "$seed"; done
"$python" -m gfscreen.training.prepare shared --from "$data" -o "$runs/data/shared.json" --phantoms "$runs/phantoms"

train focus_a 28
train focus_b 46
train glance_ce 12
train glance_grpo 9
"$python" -m gfscreen.training.assemble --focus "$runs/focus_b" --glance "$runs/glance_grpo" -o "$runs/weights"

# The gate is chosen on other hosts and other lesions than those that it is reported on.
gate_cases choose training choose 1
gate_cases report validation report 0
"$python" -m eval gates --cases "$runs/inserted_choose" --gate "grpo=$runs/weights" -o "$runs/gates_choose" \
    --glance-only --choose grpo
