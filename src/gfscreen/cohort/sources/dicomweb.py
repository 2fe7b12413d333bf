"""An archive as a cohort: every CT series that QIDO tells of."""

from __future__ import annotations

from collections.abc import Iterator

from gfscreen.cohort.sources.items import Item
from gfscreen.errors import UsageError
from gfscreen.pacs.address import ArchiveAddress
from gfscreen.pacs.archive import Archive, ArchiveError
from gfscreen.pacs.identity import name_of


class ArchiveSource:
    """The CT series of a DICOMweb service; workers fetch them. Their names tell nothing about the patient."""

    def __init__(self, address: ArchiveAddress) -> None:
        self._address = address

    def __iter__(self) -> Iterator[Item]:
        """The items. Raises UsageError if the archive does not answer."""
        archive = Archive(self._address)
        try:
            for one in archive.ct_series():
                yield Item(name_of(one.series_uid), one.series_uid, study=one.study_uid)
        except ArchiveError as error:
            raise UsageError(str(error)) from error
