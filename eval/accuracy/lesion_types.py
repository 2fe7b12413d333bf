"""Data set and lesion type of a case, from its name or from a mapping given by the user."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from eval.accuracy.masks import SUFFIX

# Fragments of public data-set names, first match wins. They carry the organ; whole-body sets carry none.
_KEYWORDS: tuple[tuple[str, str], ...] = (
    ("lymph|nih_?ln", "lymph node"),
    ("adrenal", "adrenal"),
    ("pancrea|task07", "pancreas"),
    ("colon|task10", "colon"),
    ("kits|kidney", "kidney"),
    (r"(?<![a-z])lits|ircad|liver|hepatic|crlm|task03|task08", "liver"),
    ("lidc|luna|lung|nsclc|task06", "lung"),
    ("bone", "bone"),
    (r"sarcoma|(?<![a-z])sts(?![a-z])", "soft tissue"),
    ("deeplesion|autopet|wholebody|whole-body", "whole body"),
)


@dataclass(frozen=True)
class TypeMap:
    """`rules`: case name or shell pattern to lesion type, in order; without a match the data-set name decides."""

    rules: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> TypeMap:
        """Read a JSON object `{"case or pattern": "type"}`.

        Raises:
            ValueError: not such an object.

        """
        try:
            rules = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path.name}: not valid JSON ({error})") from error
        if not isinstance(rules, dict) or not all(isinstance(v, str) for v in rules.values()):
            raise ValueError(f'{path.name}: expected an object {{"case or pattern": "type"}} of strings')
        return cls(rules)

    def lesion_type(self, name: str) -> str:
        """The lesion type of a case: exact rule, then first matching pattern, then by data-set name."""
        case = case_id(name)
        for key in (name, case):
            if key in self.rules:
                return self.rules[key]
        for pattern, kind in self.rules.items():
            if fnmatchcase(case, pattern):
                return kind
        dataset = dataset_name(case)
        for keyword, kind in _KEYWORDS:
            if re.search(keyword, dataset, re.IGNORECASE):
                return kind
        return dataset


def case_id(name: str) -> str:
    """`X.nii.gz` or `X` to `X`."""
    return name.removesuffix(SUFFIX)


def dataset_name(name: str) -> str:
    """The part of a case name before its running number: `MSD_Lung_0012` -> `MSD_Lung`.

    Words up to the first one that begins with a digit. `unknown` when nothing is left.
    """
    words = re.findall(r"[^_\-\s]+[_\-\s]*", case_id(name))
    kept: list[str] = []
    for word in words:
        if word[0].isdigit():
            break
        kept.append(word)
    return "".join(kept).rstrip("_- ") or "unknown"
