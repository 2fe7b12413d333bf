"""The folder of the masks: tried before any work, made again if it vanishes; no old mask passes for a new one."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from gfscreen.errors import OutputError
from gfscreen.files import remove_leftovers
from gfscreen.stopping import unstoppable

logger = logging.getLogger(__name__)


def prepare_output(output: Path) -> None:
    """Make the output folder, see that it can be written, and clear what a killed run left. Raises OutputError."""
    probe = output / f".gfscreen-probe-{os.getpid()}.tmp"
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output)
        with unstoppable():
            # Never through a link that somebody has put there.
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with suppress(OSError):  # where nothing may be removed, masks can be written nevertheless
                probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{output}: the output folder cannot be written ({error.strerror or error}); check its permissions"
        ) from error


def keep_folder(output: Path) -> None:
    """Make the output folder again if somebody has removed it meanwhile: the cases to come need it."""
    if not output.is_dir():
        logger.warning("%s: the output folder has vanished and is made again; masks written before are lost", output)
        with suppress(OSError):  # the writing that follows says why
            output.mkdir(parents=True, exist_ok=True)


def remove_stale_mask(path: Path) -> None:
    """Remove the mask of an earlier run: if this case fails now, an old mask must not pass for its result."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror or error}); check its permissions") from error


def is_the_scan(mask: Path, scan: Path) -> bool:
    """Whether the mask's path is the scan itself. A link to the scan is not: it is replaced, not followed."""
    try:
        return not mask.is_symlink() and mask.samefile(scan) and mask.parent.samefile(scan.parent)
    except OSError:
        return False
