"""What a run may ask for in place of the values that weights come with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from gfscreen.config import Plan
from gfscreen.errors import UsageError


@dataclass(frozen=True)
class ScreeningSettings:
    """What the user may change for a run; None takes the plan's value. gate 0 is the dense sliding window.

    keep_share: for timing untrained weights: instead of what is above the gate, keep this share of the sub-volumes.
    lesion_threshold, finding_peak, finding_from, min_volume_ml: in place of the plan's `lesion_threshold`,
    `finding_peak`, `finding_from` and `min_finding_ml`. operating_point: one of the plan's, whose values take the place
    of the plan's; what is asked for beside it goes over it.
    """

    region: str = "auto"
    overlap: float | None = None
    gate: float | None = None
    keep_share: float | None = None
    lesion_threshold: float | None = None
    finding_peak: float | None = None
    finding_from: float | None = None
    min_volume_ml: float | None = None
    operating_point: str | None = None

    def over(self, plan: Plan) -> Plan:
        """The plan with what this run asks for: the gate, and the outlining of lesions.

        Raises UsageError for an operating point that the plan does not have, and for values that the plan does not
        allow together: a peak below the threshold.
        """
        others = "the plan's" if self.operating_point is None else f"the operating point's, {self.operating_point}"
        plan = _at(plan, self.operating_point)
        gate = plan.gate if self.gate is None else self.gate
        if plan.without_glance and (gate or self.keep_share is not None):
            asked = f"--gate {gate:g}" if gate else f"--keep-share {self.keep_share:g}"
            raise UsageError(
                f"{asked}: these weights have no Glance; leave it out for the dense window, or convert with --glance"
            )
        threshold = plan.lesion_threshold if self.lesion_threshold is None else self.lesion_threshold
        peak = plan.finding_peak if self.finding_peak is None else self.finding_peak
        likely = plan.finding_from if self.finding_from is None else self.finding_from
        if likely and plan.finding_model is None:
            raise UsageError(
                f"--finding-from {likely:g}: these weights have no finding_model, which would say how likely a finding "
                "is; leave it out, or fit one with python -m eval findings"
            )
        least_ml = plan.min_finding_ml if self.min_volume_ml is None else self.min_volume_ml
        if peak < threshold:
            raise UsageError(
                f"finding peak {peak:g}{_whose(self.finding_peak, others)} lies below lesion threshold "
                f"{threshold:g}{_whose(self.lesion_threshold, others)}; raise --finding-peak or lower "
                "--lesion-threshold"
            )
        try:
            return replace(
                plan, gate=gate, lesion_threshold=threshold, finding_peak=peak, finding_from=likely,
                min_finding_ml=least_ml,
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(f"{error}; correct the option") from error


def _whose(asked: float | None, others: str) -> str:
    return f" ({others})" if asked is None else ""


def _at(plan: Plan, name: str | None) -> Plan:
    """The plan with the values of one of its operating points; None: as it is. Raises UsageError for an unknown one."""
    if name is None:
        return plan
    point = next((point for point in plan.operating_points if point.name == name), None)
    if point is None:
        known = ", ".join(point.name for point in plan.operating_points)
        told = f"these weights have {known}; name one of them, or" if known else "these weights have none;"
        raise UsageError(f"operating point {name}: {told} leave out --operating-point for the plan's own values")
    values = {key: value for key, value in asdict(point).items() if key != "name"}
    return replace(plan, **values)
