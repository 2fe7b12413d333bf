"""Training: data, lesion insertion, objectives, loop, validation; a Glance on the trunk. The predict path imports none."""
