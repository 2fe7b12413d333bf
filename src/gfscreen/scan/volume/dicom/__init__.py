"""DICOM in and out: headers, which series, how its slices stack, the voxels, and masks as DICOM SEG.

source     a folder, or a zip unpacked with limits
headers    what each file is, without its voxels
series     which series is screened, by a stated rule
stack      where the slices lie, or why they make no volume
read       the voxels in HU
seg        a mask as a segmentation object of that series (needs highdicom)
"""
