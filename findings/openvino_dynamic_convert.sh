#!/bin/sh
# OpenVINO's conversion to 8 bits gives 44 or 255 for 300, by whether the network's input has a fixed or a free size.
#
# Guess:     fixing the size of the input (reshape, or convert_model with a shape) changes the speed of a network, not
#            what it answers; 300 as uint8 is 255 everywhere, or 44 everywhere, as in numpy and torch.
# Behaviour: with a fixed size the compiled code wraps: 300 is 44, and -1 is 255. With a free size the reference code
#            saturates: 300 is 255 and -1 is 0; in int8 300 is 44 or 127. Same network, same numbers, same process. To 16
#            bits both wrap: 70000 is 4464; to int32 3e9 is the lowest number, -2147483648.
# Versions:  openvino 2026.4.1, CPU plugin on x86-64 with AVX2. Seen on 2026-11-28.
# Why:       a network that ends in labels or in a probability times 255 is tried on one size and served with any, or the
#            other way round: what is a little too bright comes out white in one and black in the other. As int16, in
#            which HU are stored, a metal of 40000 becomes air of -25536 in both. Clamp before the conversion.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import openvino
from openvino import opset13 as ops

VALUES = np.array([200, 300, -1], np.float32)


def converted(kind, size, values=VALUES):
    x = ops.parameter([size], np.float32)
    network = openvino.Model([ops.convert(x, kind)], [x])
    return openvino.Core().compile_model(network, "CPU")([values])[0].tolist()


for kind in ("u8", "i8"):
    print(f"{VALUES.tolist()} as {kind}: fixed size {converted(kind, 3)}, free size {converted(kind, -1)}")
assert converted("u8", 3) == [200, 44, 255], "it has changed"
assert converted("u8", -1) == [200, 255, 0], "it has changed"
assert converted("i8", 3)[1] == 44 and converted("i8", -1)[1] == 127, "it has changed"
hu = np.array([40000], np.float32)
print("40000 as i16: fixed size", converted("i16", 1, hu), "free size", converted("i16", -1, hu))
assert converted("i16", 1, hu) == converted("i16", -1, hu) == [40000 - 65536], "it has changed"
lowest = converted("i32", -1, np.array([3e9], np.float32))
assert lowest == [-(2**31)], "it has changed"
PYTHON
