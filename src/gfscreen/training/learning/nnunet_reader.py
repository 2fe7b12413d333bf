"""A Focus of nnU-Net's reads one sub-volume of Glance's: what the reward of its gate is made of.

The sub-volume alone is brought to the network's grid, as a scan is in use, and read in as many patches as it takes;
beyond it there is nothing, as at the border of a scan. Where a patch is larger than a sub-volume, the network sees more
around a lesion in use than here. A network that reads files as they lie gets the order of most CT files: rows from
right to left, columns from front to back, slices upwards.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfscreen.networks.models.nnunet import NnunetFocus
from gfscreen.scan.boxes import Box
from gfscreen.scan.nnunet_grid import restore_scores, to_nnunet
from gfscreen.scan.volume import Geometry, Volume
from gfscreen.screening.patches import PatchStitcher, axis_steps, gather_patch, lesion_logit


class SubVolumeReader:
    """Logits of background and lesion of sub-volumes, on their own grid.

    focus: the network, in evaluation mode when it is called. spacing_mm: of the sub-volumes, x, y, z. device: of the
    network and of the result.
    """

    def __init__(self, focus: NnunetFocus, spacing_mm: tuple[float, ...], device: torch.device) -> None:
        self._focus, self._device = focus, device
        # LPS: along x and y against RAS.
        self._affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])

    def __call__(self, hu: NDArray[np.int16]) -> Tensor:
        """Logits float32 (1, 2, x, y, z), background always 0, of a sub-volume's HU, int16 (x, y, z) in RAS order."""
        config = self._focus.config
        turned = np.asfortranarray(hu[::-1, ::-1])
        x, y, z = turned.shape
        volume = Volume(turned, Geometry((x, y, z), self._affine), Path("sub-volume"))
        scan = to_nnunet(volume, config)
        stitcher = PatchStitcher(scan.grid.shape, config)
        sizes = zip(scan.grid.shape, config.patch_voxels, strict=True)
        for a, b, c in itertools.product(*(axis_steps(length, size, config.step) for length, size in sizes)):
            patch = gather_patch(scan.image, (a, b, c), config.patch_voxels)
            scores = self._focus(torch.from_numpy(patch)[None].to(self._device))
            stitcher.add((a, b, c), scores[0].float().cpu().numpy())
        box: Box = tuple((0, n) for n in scan.grid.cropped_shape)  # type: ignore[assignment]  # three of them
        logit = np.full(turned.shape, -20.0, np.float32)
        crop = tuple(slice(*part) for part in scan.grid.crop)
        scan.grid.view(logit, volume)[crop] = lesion_logit(restore_scores(stitcher.finish(), scan.grid, box), config)
        lesion = torch.from_numpy(np.ascontiguousarray(logit[::-1, ::-1])).to(self._device)
        return torch.stack([torch.zeros_like(lesion), lesion])[None]
