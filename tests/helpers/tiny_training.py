"""Settings of a training run of a few seconds, which tests change where they need to."""

from __future__ import annotations

from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.training.settings import TrainingSettings

TINY = TrainingSettings(
    preset="fast",
    stage="focus",
    steps=2,
    batch=1,
    group=4,
    crop_voxels=(64, 32, 32),
    glance=GlanceConfig("resnet10", (4, 4, 8, 8), (2, 2, 2)),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    threads=1,
    ema=0.9,
    evaluation_crops=0,
    log_every=1,
)
