"""Training: data, lesion insertion, objectives, loop, validation. Never imported by the predict path."""
