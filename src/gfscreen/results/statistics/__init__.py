"""Measurements of lesions: volume, axes, place, Hounsfield units, and how sure both networks were.

    parts       the lesions of a mask, told apart and numbered
    axes        long and short axis of one outline on an axial slice
    lesions     the lesions of a mask, each measured
    documents   what is written: one JSON and one CSV file per run, with a schema version

Nothing here needs torch or OpenVINO.
"""
