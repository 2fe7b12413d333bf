#!/bin/sh
# SimpleITK's Feret diameter goes from voxel centre to voxel centre: a lesion of one voxel is 0 mm long.
#
# Guess:     the Feret diameter of a row of n voxels of s mm is n * s, as regions are areas of voxels; the volume that
#            the same filter gives counts whole voxels.
# Behaviour: it is (n - 1) * s: 0 mm for one voxel, 7.2 mm instead of 8.0 for ten of 0.8 mm. The equivalent ellipsoid of
#            such a row has the diameters (0, 0), its elongation, the ratio of both, is 0, and not large.
# Versions:  SimpleITK 2.5.7. Seen on 2026-11-28.
# Why:       long axes that are taken from it (RECIST) are a pixel short, for every lesion. A nodule of 4 mm in voxels of
#            0.8 mm becomes one of 3.2 mm, and thresholds for follow-up lie at 4 and 6 mm.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import SimpleITK as sitk

SIDE_MM = 0.8
for count in (1, 2, 5, 10):
    pixels = np.zeros((20, 20), np.uint8)
    pixels[10, 3 : 3 + count] = 1
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((SIDE_MM, SIDE_MM))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(image)
    feret_mm, ellipse_mm = shape.GetFeretDiameter(1), shape.GetEquivalentEllipsoidDiameter(1)
    print(f"{count:2} pixels: {count * SIDE_MM:.1f} mm, Feret {feret_mm:.1f} mm, ellipsoid {ellipse_mm}, "
          f"elongation {shape.GetElongation(1):.1f}, size {shape.GetPhysicalSize(1):.2f} mm2")
    assert np.isclose(feret_mm, (count - 1) * SIDE_MM), "it has changed"
    assert np.isclose(shape.GetPhysicalSize(1), count * SIDE_MM**2)
    assert ellipse_mm == (0.0, 0.0)
    assert shape.GetElongation(1) == 0.0
PYTHON
