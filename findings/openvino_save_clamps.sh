#!/bin/sh
# openvino.save_model cuts constants beyond 65504 down to it, without a word; what a few of them are decides for all.
#
# Guess:     save_model keeps the network. It stores weights in half precision, which is said (compress_to_fp16 is true),
#            and leaves in float32 what half precision cannot hold, or warns.
# Behaviour: of a constant of eight numbers with one of 1e6, that becomes 65504, and 1e-8 becomes 0. A constant in which
#            most are beyond half precision stays as it is: of eight with seven of 1e6, all are kept. Nothing is printed
#            or raised either way, and the loaded network computes in float32.
# Versions:  openvino 2026.4.1. Seen on 2026-11-28.
# Why:       -1e9 in a mask of attention, limits in HU or in voxels, and sums of squares as a trained scale are others
#            after the export. Save with compress_to_fp16=False, and compare answers, not only that it loads.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$work/env/bin/python" -W error - "$work" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

path = Path(sys.argv[1], "model.xml")


def kept(values, **options):
    """The constant of a network "x + constant", saved and loaded again."""
    x = ops.parameter([len(values)], np.float32)
    network = openvino.Model([ops.add(x, ops.constant(np.array(values, np.float32)))], [x])
    openvino.save_model(network, str(path), **options)
    return openvino.Core().compile_model(str(path), "CPU")([np.zeros(len(values), np.float32)])[0].tolist()


few = [1.0] * 6 + [1e6, -1e9]
many = [1.0] + [1e6] * 6 + [-1e9]
print("two of eight are beyond half precision:  ", kept(few)[-2:])
print("seven of eight:                          ", kept(many)[-2:])
print("compress_to_fp16=False:                  ", kept(few, compress_to_fp16=False)[-2:])
print("1e-8 among ones:                         ", kept([1.0] * 7 + [1e-8])[-1])
assert kept(few) == [1.0] * 6 + [65504.0, -65504.0], "it has changed"
assert kept(many) == many, "it has changed"
assert kept(few, compress_to_fp16=False) == few
PYTHON
