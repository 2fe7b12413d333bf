"""DICOM in and out.

source, contents      where files come from, and what is known to be no slice
headers, series       what each image is, and which belong together
acquisitions, stack   whether the slices of a series make one volume
choice                which series is screened
pixels, read          stored values to HU, slice by slice; the series as a scan
seg, seg_source, characters, values    masks as DICOM SEG, and what a header must be for it
"""
