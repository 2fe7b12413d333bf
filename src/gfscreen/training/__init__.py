"""Training: data, lesion insertion, objectives, loop, validation; a Glance on the trunk. Not for the predict path."""
