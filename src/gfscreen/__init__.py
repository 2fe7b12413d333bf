"""GF-Screen: glance at every sub-volume of a CT, focus on the suspicious ones, outline the lesions."""

from gfscreen.version import __version__

__all__ = ["__version__"]
