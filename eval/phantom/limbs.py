"""Arms, raised beside the head as for a body scan, and thighs (atlas mm): skin, fat and muscle, without the bones."""

from __future__ import annotations

from eval.phantom.canvas import Part
from eval.phantom.shapes import Capsule, Inset
from eval.phantom.subject import Subject


def limb_parts(subject: Subject) -> list[Part]:
    """Painted before the trunk, which covers their roots."""
    tissue, fat = subject.tissue, subject.adiposity
    parts: list[Part] = []
    for side in (-1.0, 1.0):
        arm = Capsule((side * 128, -24, 186), (side * 166, 4, 480), 46, 37)
        thigh = Capsule((side * 88, -4, -392), (side * 90, 4, -800), 84, 62)
        slope = Capsule((side * 40, -22, 206), (side * 126, -22, 196), 32, 36)
        for limb, fat_mm in ((slope, 6 * fat), (arm, 6 * fat), (thigh, 13 * fat)):
            parts.append(Part("limb_skin", Inset(limb, -fat_mm), tissue.skin))
            parts.append(Part("limb_fat", Inset(limb, 1.8 - fat_mm), tissue.fat))
            parts.append(Part("limb_muscle", limb, tissue.muscle))
    return parts
