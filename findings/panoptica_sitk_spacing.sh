#!/bin/sh
# panoptica measures the same two NIfTI files otherwise once SimpleITK is installed: slice distances as pixel distances.
#
# Guess:     distances between two masks are in mm, and belong to the files. It makes no difference which reader is there.
# Behaviour: where SimpleITK can be imported, .nii.gz goes to it rather than to nibabel. Its array has the slices first, its
#            spacing has them last, and panoptica puts one to the other as they come: a lesion that lies one slice of 5 mm too
#            high is 0.7 mm away, and its normalized surface Dice is 1.0 instead of 0.5; one that lies a pixel of 0.7 mm
#            aside is 5 mm away. Images from SimpleITK.ReadImage and .mha take the same way. The Dice, which needs no
#            spacing, is right. Nothing is said.
# Versions:  panoptica 2.1.7, SimpleITK 2.5.7, nibabel 5.4.2, numpy 2.2.6. Seen on 2026-11-29.
# Why:       slices of CT are thicker than its pixels: errors along the body look seven times smaller, errors within a slice
#            as many times larger, and two teams with the same masks have other tables. Where voxels are cubes nothing shows
#            it. Give voxelspacing yourself, slices first for SimpleITK.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check panoptica==2.1.7 SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.2.6
cat >"$work/look.py" <<'PYTHON'
import sys
from pathlib import Path

import nibabel
import numpy as np
import panoptica
from panoptica import InputType, Metric, Panoptica_Evaluator

folder, with_simpleitk = Path(sys.argv[1]), sys.argv[2] == "with"
SIDES_MM = (0.7, 0.7, 5)


def file_of(name, *start):
    """The path of a mask with a lesion of 6 x 6 pixels and two slices from these indices on."""
    mask = np.zeros((16, 16, 10), np.uint8)
    mask[tuple(slice(first, first + size) for first, size in zip(start, (6, 6, 2)))] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([*SIDES_MM, 1])), folder / f"{name}.nii.gz")
    return str(folder / f"{name}.nii.gz")


reference = file_of("reference", 4, 4, 4)
above, aside = file_of("above", 4, 4, 5), file_of("aside", 5, 4, 4)

panoptica.disable_citation_reminder()
evaluator = Panoptica_Evaluator(
    InputType.MATCHED_INSTANCE, instance_metrics=[Metric.DSC, Metric.CEDI, Metric.HD, Metric.NSD], global_metrics=[]
)


def check(way, expected_mm, prediction, truth, **more):
    """Prints the metrics, and says so where the distance of the centres is not the expected one."""
    found = evaluator.evaluate(prediction, truth, **more)["ungrouped"]
    print(f"{sys.argv[2]:7} SimpleITK, {way:35}: Dice {found.sq_dsc:.2f}, centres {found.sq_cedi:.1f} mm, "
          f"Hausdorff {found.sq_hd:.1f} mm, surface Dice {found.sq_nsd:.2f}")
    assert np.isclose(found.sq_cedi, expected_mm, atol=1e-3), f"it has changed: {way}"


check("a slice higher, nibabel images", 5, nibabel.load(above), nibabel.load(reference))
check("a slice higher, paths", 0.7 if with_simpleitk else 5, above, reference)
check("a pixel aside, paths", 5 if with_simpleitk else 0.7, aside, reference)
if with_simpleitk:
    import SimpleITK

    images = [SimpleITK.ReadImage(path) for path in (above, reference)]
    check("a slice higher, SimpleITK images", 0.7, *images)
    check("the same, voxelspacing=(5, .7, .7)", 5, *images, voxelspacing=SIDES_MM[::-1])
    meta = [str(folder / f"{number}.mha") for number in range(2)]
    for path, image in zip(meta, images):
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)  # of NIfTI: .mha has no place for it
        SimpleITK.WriteImage(image, path)
    check("a slice higher, paths of .mha", 0.7, *meta)
PYTHON
"$work/env/bin/python" "$work/look.py" "$work" with
"$work/env/bin/pip" uninstall --quiet --yes SimpleITK
"$work/env/bin/python" "$work/look.py" "$work" without
