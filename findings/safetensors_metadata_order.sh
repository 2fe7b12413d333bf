#!/bin/sh
# safetensors writes the same tensors with the same metadata as other bytes each time: their order is drawn anew.
#
# Guess:     a file of weights is a function of what is in it, so its sha256 tells weights apart: tensors are sorted, JSON
#            comes in the order of the dict, and nothing in it is a date.
# Behaviour: the tensors are sorted, the metadata is not: with four entries, twenty files of one process have up to
#            twenty-four forms. It is a hash map with a seed of its own for each call, so PYTHONHASHSEED changes nothing.
#            With one entry, or none, all files are the same.
# Versions:  safetensors 0.8.0, Python 3.11. Seen on 2026-11-28.
# Why:       weights that are known by their sha256 (a manifest, a model card, a cache's key) are "other weights" after
#            every conversion that keeps its metadata; a build that is made twice to be compared never agrees.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
PYTHONHASHSEED=0 "$work/env/bin/python" - <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import load, save

TENSORS = {name: np.full(3, number, np.float32) for number, name in enumerate(("b", "a", "c"))}


def forms(metadata):
    files = [save(TENSORS, metadata) for _ in range(20)]
    assert all(set(load(file)) == {"a", "b", "c"} for file in files)
    return {hashlib.sha256(file).hexdigest()[:8] for file in files}


found = {count: len(forms({f"key{n}": "x" for n in range(count)} or None)) for count in (0, 1, 2, 4)}
for count, different in found.items():
    print(f"{count} entries of metadata: {different} forms of 20 files with equal content")
assert found[0] == found[1] == 1
assert found[2] == 2 and found[4] > 4, "it has changed"
PYTHON
