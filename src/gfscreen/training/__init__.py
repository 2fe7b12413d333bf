"""Training: data, lesion insertion, objectives, loop, validation, the head of a Glance on the trunk.

Never imported by the predict path.
"""
