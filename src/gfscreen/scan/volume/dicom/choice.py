"""Which series of a DICOM study is screened: only one that makes a volume, and among those by a stated rule."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.headers import NoImage
from gfscreen.scan.volume.dicom.series import Series
from gfscreen.scan.volume.dicom.stack import Stack, stack

logger = logging.getLogger(__name__)

RULE = (
    "those that make a volume; axial before other planes; of those at least half as long as the longest, original "
    "before derived; the longest (in steps of 10 mm); the most slices"
)
_LENGTH_STEP_MM = 10.0
_COMPARABLE = 0.5


@dataclass(frozen=True)
class Choice:
    """The series that was taken, with its stack of files. flaws: why candidates make no volume, by their UID."""

    series: Series
    stack: Stack
    flaws: dict[str, str]


def choose(series: list[Series], name: str, wanted: str | None = None) -> Choice:
    """The series to screen: by `wanted` (UID or Series Number), else by RULE; ties go to the lowest number, then UID.

    `name` is named in errors. Raises InputError, also where no candidate makes a volume: then with the reason of the
    one that would have been taken.
    """
    if wanted is not None:
        one = _named(series, name, wanted)
        return Choice(one, stack(one, name), {})
    candidates = [one for one in series if one.problem is None]
    if not candidates:
        reasons = "; ".join(f"{one.label.split(':')[0]}: {one.problem}" for one in series)
        raise InputError(
            f"{name}: expected a CT series, found none that can be screened ({reasons or 'no images'}); "
            "name the folder of the CT series"
        )
    studies = {one.images[0].study_uid for one in candidates}
    if len(studies) > 1:
        raise InputError(
            f"{name}: expected one study, found CT of {len(studies)}; name the folder of one or choose with --series"
        )
    stacks: dict[str, Stack] = {}
    flaws: dict[str, InputError] = {}
    for one in candidates:
        try:
            stacks[one.uid] = stack(one, name)
        except InputError as error:
            flaws[one.uid] = error
    volumes = [one for one in candidates if one.uid in stacks]
    if not volumes:
        raise flaws[_first(candidates).uid]
    taken = _first(volumes)
    return Choice(taken, stacks[taken.uid], {uid: str(flaw).removeprefix(f"{name}: ") for uid, flaw in flaws.items()})


def _first(candidates: list[Series]) -> Series:
    """The best of candidates by RULE, as far as it does not ask for a volume."""
    axial = [one for one in candidates if one.plane == "axial"] or candidates
    longest = max(one.length_mm or 0.0 for one in axial)
    comparable = [one for one in axial if (one.length_mm or 0.0) >= _COMPARABLE * longest]
    original = [one for one in comparable if one.original] or comparable
    return min(original, key=lambda one: (-round((one.length_mm or 0.0) / _LENGTH_STEP_MM), -len(one.images)))


def _named(series: list[Series], name: str, wanted: str) -> Series:
    found = [one for one in series if one.uid == wanted] or [
        one for one in series if one.number is not None and str(one.number) == wanted
    ]
    if not found:
        known = ", ".join(str(one.uid if one.number is None else one.number) for one in series) or "none"
        raise InputError(f"{name}: --series {wanted} is not there; found {known}")
    if len(found) > 1:
        uids = ", ".join(one.uid for one in found)
        raise InputError(f"{name}: --series {wanted} names {len(found)} series; give one UID of {uids}")
    if found[0].problem is not None:
        raise InputError(f"{name}: --series {wanted} cannot be screened: {found[0].problem}; choose another")
    return found[0]


def notes_of(series: list[Series], others: list[NoImage], choice: Choice, wanted: str | None) -> list[str]:
    """Log what was found, left out and taken; returns what the report should say, empty if there was no choice."""
    taken = choice.series
    for one in series:
        if one is not taken:
            why = one.problem or choice.flaws.get(one.uid) or "another series was chosen"
            logger.info("%s: left out, %s", one.label, why)
    for reason in sorted({other.reason for other in others}):
        logger.info(
            "left out, %s: %s", reason, ", ".join(other.path.name for other in others if other.reason == reason)
        )
    candidates = sum(one.problem is None for one in series)
    why = "asked for by --series" if wanted is not None else f"rule: {RULE}"
    notes = [*taken.notes, *choice.stack.notes]
    if candidates > 1:
        notes.append(f"took {taken.label}, UID {taken.uid}, of {candidates} CT series ({why})")
    else:
        logger.info("took %s", taken.label)
        if taken.plane != "axial":
            notes.append(f"took {taken.label}: no axial series was found")
    notes += [f"{one.label}: makes no volume ({choice.flaws[one.uid]})" for one in series if one.uid in choice.flaws]
    counts = Counter(other.reason for other in others)
    passed = [f"{count} {reason}" for reason, count in sorted(counts.items())] + list(taken.passed_over)
    if passed:
        notes.append(f"passed over: {'; '.join(passed)}")
    return notes
