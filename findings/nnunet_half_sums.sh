#!/bin/sh
# nnU-Net adds up logits in half precision on the CPU too: at a corner of the scan a logit of 0.3 comes back as 0.0.
#
# Guess:     on the CPU, where networks run in float32, the sliding window's weighted mean of a logit that is the same in
#            every patch is that logit, to six digits; half precision is a matter of GPUs and of files.
# Behaviour: sums of logits, of weights and the Gaussian itself are float16 on every device. Away from faces that costs
#            the fourth digit. Where a single patch counts, with the Gaussian's last values, products fall below what half
#            precision can hold: at a corner 0.3 becomes 0.0, 7.3 becomes 7.0, and of 0.3 two voxels in a hundred are off
#            by more than a hundredth, from 0.0 to 0.5. In float32 the same sums give the logit.
# Versions:  nnunetv2 2.8.1, torch 2.13.0 on the CPU. Seen on 2026-11-29.
# Why:       a lesion cut by the border of a CT has its outline there decided by rounding, and whoever ports a model to
#            another runtime and compares probabilities finds differences of 0.1 that no network explains: on a whole
#            chest CT the masks agree by a Dice of 0.9985, and by 0.9998 where nnU-Net's sums are made in float32.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 nnunetv2==2.8.1
nnUNet_raw=$work nnUNet_preprocessed=$work nnUNet_results=$work "$work/env/bin/python" - <<'PYTHON'
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

PATCH, SCAN = 32, 48


class Known(torch.nn.Module):
    """Answers logits of 0 for background and of the voxel's own value for lesion."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), x], dim=1)


plans = PlansManager({"configurations": {"3d_fullres": {"patch_size": [PATCH] * 3, "architecture": {}}}})
dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
predictor = nnUNetPredictor(
    use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
)
predictor.manual_initialization(Known(), plans, plans.get_configuration("3d_fullres"), [{}], dataset, "nnUNetTrainer", None)
weights = compute_gaussian(
    (PATCH,) * 3, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu")
).numpy()
for logit in (0.3, 7.3):
    given = predictor.predict_sliding_window_return_logits(torch.full((1, SCAN, SCAN, SCAN), logit))[1].float().numpy()
    total, weight = np.zeros((2, SCAN, SCAN, SCAN), np.float32)
    for x in (0, SCAN - PATCH):
        for y in (0, SCAN - PATCH):
            for z in (0, SCAN - PATCH):
                part = np.s_[x : x + PATCH, y : y + PATCH, z : z + PATCH]
                total[part] += logit * weights
                weight[part] += weights
    single = total / weight
    off = np.abs(given - logit) > 0.01 * logit
    print(
        f"logit {logit}: nnU-Net's from {given.min():.4f} to {given.max():.4f}, {given[0, 0, 0]:.4f} at the corner, "
        f"{100 * off.mean():.1f} % of voxels off by 1 %; in float32 from {single.min():.4f} to {single.max():.4f}"
    )
    assert np.abs(single - logit).max() < 1e-4
    assert abs(given[0, 0, 0] - logit) > 0.2, "it has changed: the corner has its logit"
    assert off.any(), "it has changed: no voxel is off"
PYTHON
