"""The head: logistic regression on the trunk's features of cells, one for each region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gfscreen.networks.models.cell_glance import CellHead
from gfscreen.training.cells.examples import POSITIVE

ITERATIONS = 60
# Added to the standard deviation of a feature: one that hardly ever differs from 0 must not become a large number.
SCALE_FLOOR = 1e-3
# All cells of a lesion together weigh as much as so many others at most; those of a scan's own lesions twice as much.
CELLS_PER_LESION = 12.0
REAL_WEIGHT = 2.0
# A scan's own lesions together count as no more than so many of them: 68 metastases of one liver are one patient's.
MOST_OWN_LESIONS = 10.0


@dataclass(frozen=True)
class Regression:
    """Logit = weight . (features - mean) / scale + bias. mean, scale, weight: float32 (features,)."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: float

    def folded(self) -> tuple[Tensor, float]:
        """Weight (features,) and bias that give the same logits from the features as the trunk makes them."""
        weight = self.weight.double() / self.scale.double()
        return weight.float(), self.bias - float((weight * self.mean.double()).sum())

    def logits(self, features: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n,) of features (n, features); empty of none."""
        weight, bias = self.folded()
        return np.asarray(torch.from_numpy(features.astype(np.float32)) @ weight + bias, np.float32)


def regression_of(head: CellHead, channel: int) -> Regression:
    """A stored head's answer for the region of that channel, on features as the trunk makes them."""
    weight = torch.cat([layer.weight[channel].detach().flatten() for layer in head.layers])
    assert head.middle.bias is not None
    bias = float(head.middle.bias[channel].detach())
    return Regression(torch.zeros_like(weight), torch.ones_like(weight), weight, bias)


def cell_weights(kind: NDArray[np.int8], lesion: NDArray[np.int32], real: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much each cell (n,) of one scan counts: a large lesion no more than CELLS_PER_LESION other cells.

    Of more than MOST_OWN_LESIONS lesions of its own each counts for less.

    lesion: number of the lesion of POSITIVE cells, from 1. real: bool (lesions,), whether lesion 1 and following are
    the scan's own.
    """
    weight = np.ones(len(kind), np.float32)
    positive = kind == POSITIVE
    cells = np.bincount(lesion[positive], minlength=len(real) + 1)
    of_own = REAL_WEIGHT * min(1.0, MOST_OWN_LESIONS / max(1, int(np.count_nonzero(real))))
    share = np.minimum(1.0, CELLS_PER_LESION / np.maximum(cells[1:], 1)) * np.where(real, of_own, 1.0)
    weight[positive] = share[lesion[positive] - 1]
    return weight


def fit(
    features: NDArray[np.float16], positive: NDArray[np.bool_], weight: NDArray[np.float32], penalty: float
) -> Regression:
    """Logistic regression by L-BFGS: weighted mean cross-entropy + penalty / 2 * |weight|^2, on standardised features.

    features: (n, features), positive: (n,), weight: (n,) float32, above 0. The bias is not penalised. Takes 4 bytes per
    feature and cell. Equal data gives equal weights on one kind of machine with one number of threads. Raises
    ValueError unless there are positive and other cells.
    """
    if not positive.any() or positive.all():
        raise ValueError(f"needs positive and other cells, got {int(positive.sum())} of {len(positive)}")
    x = torch.from_numpy(features.astype(np.float32))
    mean, scale = x.mean(dim=0), x.std(dim=0) + SCALE_FLOOR
    x.sub_(mean).div_(scale)
    target, share = torch.from_numpy(positive.astype(np.float32)), torch.from_numpy(weight / weight.sum())
    w, b = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        cross_entropy = F.binary_cross_entropy_with_logits(x @ w + b, target, weight=share, reduction="sum")
        value = cross_entropy + 0.5 * penalty * w.square().sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Regression(mean, scale, w.detach(), float(b.detach()))
