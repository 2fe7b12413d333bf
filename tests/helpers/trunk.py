"""The pretrained trunk once more, from its description alone and in plain operations: what `models/trunk.py` must give.

A 3D ResNet with bottleneck blocks, as published. Stem: 3 x 7 x 7 (z, x, y) with stride 1, 2, 2, batch norm, ReLU, max
pooling of 3 with stride 2. Then stages, of which all but the first halve every axis in their first block. A block:
convolutions of 1, 3 (with the stride) and 1, batch norm after each, ReLU between; plus its input, projected where the
shape changes; ReLU.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from gfscreen.networks.models import trunk_fetch, trunk_pins
from gfscreen.networks.models.trunk import Trunk, read_trunk
from gfscreen.networks.models.trunk_pins import Package, read_packages

State = dict[str, Tensor]
STAGES = {"layer1": (3, 1, 64), "layer2": (8, 2, 128), "layer3": (36, 2, 256)}
LICENCE = "Free to copy with this line.\n"


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, variance, scale, shift = (
        state[f"{name}.{part}"].to(x.dtype).reshape(1, -1, 1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def _convolve(x: Tensor, state: State, name: str, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv3d(x, state[f"{name}.weight"].to(x.dtype), stride=stride, padding=padding)


def _block(x: Tensor, state: State, name: str, stride: int) -> Tensor:
    out = F.relu(_norm(_convolve(x, state, f"{name}.conv1"), state, f"{name}.bn1"))
    out = F.relu(_norm(_convolve(out, state, f"{name}.conv2", stride, 1), state, f"{name}.bn2"))
    out = _norm(_convolve(out, state, f"{name}.conv3"), state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        x = _norm(_convolve(x, state, f"{name}.downsample.0", stride), state, f"{name}.downsample.1")
    return F.relu(out + x)


def reference_features(state: State, x: Tensor, blocks: int) -> list[Tensor]:
    """The three feature maps of (N, 1, Z, X, Y), in its dtype; the stem gets as many equal channels as it takes."""
    stem = state["conv1.weight"].to(x.dtype)
    x = x.expand(-1, stem.shape[1], -1, -1, -1)
    x = F.relu(_norm(F.conv3d(x, stem, stride=(1, 2, 2), padding=(1, 3, 3)), state, "bn1"))
    x = F.max_pool3d(x, 3, stride=2, padding=1)
    features = []
    for stage, (count, stride, _) in STAGES.items():
        for i in range(min(count, blocks) if stage == "layer3" else count):
            x = _block(x, state, f"{stage}.{i}", stride if i == 0 else 1)
        features.append(x)
    return features


def random_state(blocks: int, seed: int = 0) -> State:
    """Tensors under the published names, bf16: three channels, counters, and a bit of the stage that is left out."""
    random = torch.Generator().manual_seed(seed)
    state: State = {}

    def normed(name: str, channels: int) -> None:
        for part, low, high in (
            ("weight", 0.5, 1.0),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 2.0),
        ):
            state[f"{name}.{part}"] = low + (high - low) * torch.rand(channels, generator=random)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def convolution(name: str, out: int, channels: int, *size: int) -> None:
        fan_in = channels * size[0] * size[1] * size[2]
        state[f"{name}.weight"] = torch.randn(out, channels, *size, generator=random) * (2 / fan_in) ** 0.5

    convolution("conv1", 64, 3, 3, 7, 7)
    normed("bn1", 64)
    channels = 64
    for stage, (count, _, width) in STAGES.items():
        for i in range(blocks if stage == "layer3" else count):
            name = f"{stage}.{i}"
            for part, out, size in ((1, width, 1), (2, width, 3), (3, 4 * width, 1)):
                convolution(f"{name}.conv{part}", out, channels if part == 1 else width, size, size, size)
                normed(f"{name}.bn{part}", out)
            if i == 0:
                convolution(f"{name}.downsample.0", 4 * width, channels, 1, 1, 1)
                normed(f"{name}.downsample.1", 4 * width)
            channels = 4 * width
    convolution("layer4.0.conv1", 8, channels, 1, 1, 1)
    return {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()}


def random_trunk(folder: Path, monkeypatch: pytest.MonkeyPatch, blocks: int = 1, seed: int = 0) -> Trunk:
    """A trunk of random tensors in `folder`/trunk.safetensors, whose sha256 the code then knows; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    return read_trunk(write_trunk(folder, random_state(blocks, seed), blocks, monkeypatch))


class Packages:
    """Three packages like the published ones around any state, in a folder, and the pins of the code set to them."""

    def __init__(self, folder: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        stream = io.BytesIO()
        torch.save({"state_dict": state, "meta": {"n_tensor": len(state)}}, stream)
        joined = stream.getvalue()
        third = len(joined) // 3
        parts = (joined[:third], joined[third : 2 * third], joined[2 * third :])
        self.pinned = []
        for published, part in zip(read_packages(trunk_pins.REQUIREMENTS), parts, strict=True):
            package = Package(published.name, published.version, "")
            with zipfile.ZipFile(folder / package.wheel, "w") as wheel:
                wheel.writestr(f"{package.folder}/LICENSE_NOTICE.txt", LICENCE)
                wheel.writestr(f"{package.folder}/__init__.py", "raise SystemExit('this was run')\n")
                wheel.writestr(f"{package.folder}/part.bin", part)
                information = f"{package.folder}-{package.version}.dist-info"
                wheel.writestr(
                    f"{information}/METADATA",
                    f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n",
                )
                wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{information}/RECORD", "")
            sha256 = hashlib.sha256((folder / package.wheel).read_bytes()).hexdigest()
            self.pinned.append(Package(package.name, package.version, sha256))
        self.requirements = folder / "trunk_requirements.txt"
        self.requirements.write_text(
            "".join(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n" for package in self.pinned)
        )
        monkeypatch.setattr(trunk_fetch, "REQUIREMENTS", self.requirements)
        monkeypatch.setattr(trunk_fetch, "JOINED_BYTES", len(joined))
        monkeypatch.setattr(trunk_fetch, "JOINED_SHA256", hashlib.sha256(joined).hexdigest())
        self._joined = joined
        self._monkeypatch = monkeypatch

    def pin(self, blocks: int) -> str:
        """Set the pinned sha256 of the trunk of so many blocks to that of these packages; returns it."""
        joined = self.folder / "joined.bin"
        joined.write_bytes(self._joined)
        sha256 = hashlib.sha256(trunk_fetch.trunk_file(joined, blocks, self.pinned, LICENCE)).hexdigest()
        joined.unlink()
        self._monkeypatch.setitem(trunk_pins.TRUNK_SHA256, blocks, sha256)
        return sha256


def write_trunk(folder: Path, state: State, blocks: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trunk's file with the first blocks of random tensors, taken for a known one; returns it."""
    kept = {name: value for name, value in state.items() if trunk_fetch._is_kept(name, blocks)}
    kept["conv1.weight"] = kept["conv1.weight"].float().sum(dim=1, keepdim=True)
    path = folder / trunk_pins.TRUNK_FILE
    safetensors.torch.save_file(kept, path, {"blocks": str(blocks), "licence": LICENCE})
    monkeypatch.setitem(trunk_pins.TRUNK_SHA256, blocks, hashlib.sha256(path.read_bytes()).hexdigest())
    return path
