"""The two networks and their weights: `glance` (3D ResNet), `focus` (SwinUNETR), `weights` (files on disk)."""
