"""Maps on the scan's own grid beside the masks: which finding a voxel belongs to, and how probable lesion is there.

Each is a NIfTI of the mask's name, X.nii.gz, in a folder of its own, with the scan's header. They come after the mask,
and where one cannot be written the mask stays.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.run.output_folder import remove_stale_mask
from gfscreen.scan.grid import to_native_probability
from gfscreen.scan.volume import Geometry, InputCase, Volume, write_map
from gfscreen.screening.network_outputs import NetworkOutputs

logger = logging.getLogger(__name__)

# What one step of a probability map, uint8, stands for.
PROBABILITY_STEP = 1.0 / 255.0


@dataclass(frozen=True)
class NativeMaps:
    """The folders of the maps; None: not asked for."""

    instances: Path | None = None
    probabilities: Path | None = None

    @property
    def folders(self) -> list[tuple[str, Path]]:
        """Option and folder of what was asked for."""
        both = (("--instances", self.instances), ("--probabilities", self.probabilities))
        return [(option, folder) for option, folder in both if folder is not None]

    def check(self, others: Sequence[Path]) -> None:
        """See before any work that no map can take the place of another file of its name.

        others: folders that hold files of the same names, scans or masks. What a killed run left in the folders of the
        maps is cleared. Raises UsageError.
        """
        taken = {folder.resolve(): "where the scans or masks are" for folder in others}
        for option, folder in self.folders:
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"{option} {folder}: is a file; name a folder")
            place = folder.resolve()
            if place in taken:
                raise UsageError(f"{option} {folder}: is {taken[place]}, under the same names; name another folder")
            taken[place] = "the folder of the other maps"
            with suppress(OSError):  # what cannot be written is told when it is written
                remove_leftovers(folder)

    def paths(self, name: str) -> list[Path]:
        """Where the maps of a case go."""
        return [folder / name for _, folder in self.folders]

    def complete(self, case: InputCase) -> bool:
        """Whether all maps of a case that were asked for are there."""
        return all(path.is_file() for path in self.paths(case.mask_name))

    def remove_stale(self, case: InputCase) -> None:
        """Remove an earlier run's maps of a case. What cannot be removed is logged: it must not cost the mask."""
        for path in self.paths(case.mask_name):
            try:
                remove_stale_mask(path)
            except OutputError as error:
                logger.error("%s", error)

    def write(self, name: str, volume: Volume, mask: NDArray[np.generic], outputs: NetworkOutputs | None) -> None:
        """Write the maps of a case, one whatever becomes of the other.

        name: of the mask's file. mask: (i, j, k), above 0 is lesion. outputs: of the screening, with
        `focus_unfiltered`; needed for probabilities. Raises OutputError.
        """
        problems = []
        if self.instances is not None:
            try:
                write_instances(self.instances / name, mask, volume.geometry)
            except OutputError as error:
                problems.append(str(error))
        if self.probabilities is not None:
            try:
                if outputs is None or outputs.focus_unfiltered is None:
                    raise OutputError(f"{self.probabilities / name}: Focus's probabilities were not kept")
                scaled = outputs.native_probability
                if scaled is None:
                    scaled = to_native_probability(outputs.focus_unfiltered, outputs.grid, volume)
                _write(self.probabilities / name, scaled, volume.geometry, PROBABILITY_STEP)
            except OutputError as error:
                problems.append(str(error))
        if problems:
            raise OutputError("; ".join(problems))


def write_instances(path: Path, mask: NDArray[np.generic], geometry: Geometry) -> None:
    """Write the number of each voxel's lesion, uint16; mask (i, j, k): above 0 is lesion. Raises OutputError."""
    from gfscreen.results.statistics.parts import instance_map  # imported when asked for

    _write(path, instance_map(mask, geometry, path), geometry, 1.0)


def _write(path: Path, voxels: NDArray[np.generic], geometry: Geometry, step: float) -> None:
    with suppress(OSError):  # the writing that follows says why
        path.parent.mkdir(parents=True, exist_ok=True)
    write_map(path, voxels, geometry, step)
