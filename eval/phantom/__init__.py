"""Digital patients: synthetic chest and abdomen CTs with lesions, written by the project itself."""

from __future__ import annotations

from eval.phantom.assemble import KINDS, Kind, Phantom, Scan, Slab, make_phantom
from eval.phantom.lesions import PhantomLesion

__all__ = ["KINDS", "Kind", "Phantom", "PhantomLesion", "Scan", "Slab", "make_phantom"]
