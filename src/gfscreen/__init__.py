"""GF-Screen: glance at every sub-volume of a CT, focus on the suspicious ones, outline the lesions.

    from gfscreen import Screener

    screener = Screener("weights")
    result = screener("scan_0000.nii.gz")
    result.save("scan.nii.gz")

Importing the package imports none of its libraries: they come with the first use of a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gfscreen.version import __version__

if TYPE_CHECKING:
    from gfscreen.run.api import Result, Screener

__all__ = ["Result", "Screener", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Result", "Screener"):
        from gfscreen.run import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
