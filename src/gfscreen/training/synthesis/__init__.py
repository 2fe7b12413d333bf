"""Lesions made and put into scans: `lesion_bank` holds real nodules and shapes, `tissue` says where they may lie,
`insertion` puts them there, `augmentation` turns, zooms and changes contrast.
"""
