"""Measurements of lesions: volume, axes, place, Hounsfield units, and how sure both networks were.

    axes        long and short axis of one axial slice
    lesions     the lesions of a mask, each measured
    documents   what is written: one JSON and one CSV file per run, with a schema version

Nothing here needs torch or OpenVINO.
"""
