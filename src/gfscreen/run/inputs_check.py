"""What a run is refused for before any work: places that would mix scans and masks, a series for several studies."""

from __future__ import annotations

import os

from gfscreen.errors import UsageError
from gfscreen.run.options import Options
from gfscreen.scan.volume import InputCase


def check_places(options: Options) -> None:
    """Raise UsageError if the masks would go into the folder of the scans itself."""
    if options.source.is_dir() and os.path.realpath(options.output) == os.path.realpath(options.source):
        raise UsageError(f"-o {options.output}: is the input folder; masks need a folder of their own, name another")


def check_series_option(cases: list[InputCase], options: Options) -> None:
    """Raise UsageError for a Series Instance UID, which lies in one study, with several cases. A number is for each."""
    if options.series is not None and "." in options.series and len(cases) > 1:
        raise UsageError(
            f"--series {options.series}: a UID names a series of one study, {options.source} holds {len(cases)} cases; "
            "give that study alone, or a Series Number for all"
        )
