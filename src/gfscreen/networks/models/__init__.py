"""Networks and their weights: `glance` (3D ResNet), `focus` (SwinUNETR), `weights` (on disk), `trunk` (pretrained)."""
