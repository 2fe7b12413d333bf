"""Training: data, lesion insertion, objectives, loop, validation, cells of a Glance on the trunk. Never imported by the predict path."""
