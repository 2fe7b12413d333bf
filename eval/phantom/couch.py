"""The scanner's couch: a curved thin shell with a light core and a foam mattress on it (scan mm)."""

from __future__ import annotations

import numpy as np

from eval.phantom.canvas import Canvas

HALF_WIDTH_MM = 205.0
FOAM_MM = 14.0
CORE_MM = 30.0
SHELL_MM = 2.6


def paint_couch(canvas: Canvas, back_y_mm: float, centre_x_mm: float) -> None:
    """Paint below a patient whose back touches the mattress at `back_y_mm`; the same in every slice.

    The mattress (-910 HU) gives way under the patient, who is painted afterwards; the shell is about -40 HU.
    """
    x, y, _ = canvas.coordinates()
    off = np.abs(x - centre_x_mm)
    sag = 34 * np.square(off / HALF_WIDTH_MM)
    top = (back_y_mm + 2.0) + sag  # upper side of the mattress
    side = HALF_WIDTH_MM - off
    foam = np.minimum(np.minimum(top + 4 - y, y - (top - FOAM_MM)), side - 6)
    below = top - FOAM_MM - y  # depth below the upper side of the shell
    core = np.minimum(np.minimum(below, CORE_MM + 0.75 * sag - below), side)
    canvas.fill(foam, -910.0)
    canvas.fill(core, -40.0)
    canvas.fill(core - SHELL_MM, -945.0)
