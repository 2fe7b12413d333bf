"""An archive over DICOMweb: which CT series it has, a copy of one, objects stored and seen to be there.

No message of it names a patient, a study or a series: UIDs and names stay out of logs.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gfscreen.errors import InputError, OutputError, UsageError
from gfscreen.pacs.address import ArchiveAddress

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_PAGE = 100
_TIMEOUT_S = (10.0, 120.0)
_PREAMBLE_BYTES = 128
# Before the second try and the third.
_PAUSES_S = (0.3, 1.5)
_PASSING = {429, 502, 503, 504}
# Slices come as they are kept, compressed or not.
_AS_STORED = (("application/dicom", "*"),)


class ArchiveError(InputError):
    """The archive does not answer, or not as it should.

    refused: it will not do so later either. passing: it may do so in a moment.
    """

    def __init__(self, message: str, *, refused: bool = False, passing: bool = False) -> None:
        super().__init__(message)
        self.refused, self.passing = refused, passing


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A CT series that QIDO told of. instances: how many it has, None where the archive does not say."""

    study_uid: str
    series_uid: str
    instances: int | None


class Archive:
    """A DICOMweb service. Every method raises ArchiveError where it does not answer as it should."""

    def __init__(self, address: ArchiveAddress) -> None:
        import requests
        from dicomweb_client.api import DICOMwebClient

        for library in ("dicomweb_client", "urllib3"):  # they log UIDs
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._requests = requests
        self._url = address.url
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc: what is asked for is all
        if address.user is not None:
            session.auth = (address.user.encode(), (address.password or "").encode())
        session.verify = True if address.ca is None else address.ca
        # Odd UIDs are the archive's own.
        self._client = DICOMwebClient(self._url, session=session, permissive_uid=True, timeout=_TIMEOUT_S)
        # Tried again here, where it is known what may be.
        self._client.set_http_retry_params(retry=False)

    def check(self) -> None:
        """See that the service answers and lets us in. Raises UsageError."""
        try:
            self._query(lambda: self._client.search_for_series(search_filters={"Modality": "CT"}, limit=1))
        except ArchiveError as error:
            raise UsageError(str(error)) from error

    def ct_series(self, study: str | None = None, study_date: str | None = None) -> Iterator[FoundSeries]:
        """The CT series by QIDO, page by page, in the archive's order. Nothing but UIDs, dates and CT is matched.

        Some archives find nothing for values with `*`, `^`, `/` or blanks.
        """
        filters = {"Modality": "CT"}
        if study_date is not None:
            filters["StudyDate"] = study_date
        fields = ["StudyInstanceUID", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances"]
        offset = 0
        seen: set[str] = set()
        while True:
            search = partial(
                self._client.search_for_series,
                study, fields=fields, search_filters=filters, limit=_PAGE, offset=offset,
            )  # fmt: skip
            page = self._query(search)
            fresh = [one for entry in page if (one := _found(entry, study)) is not None and one.series_uid not in seen]
            seen.update(one.series_uid for one in fresh)
            yield from fresh
            # An archive that pays no heed to the offset answers with the same page again.
            if len(page) < _PAGE or not fresh:
                return
            offset += len(page)

    def instances(self, study: str, series: str) -> list[str]:
        """SOP Instance UIDs of a series by QIDO, sorted; none for a series that is not there."""
        uids: set[str] = set()
        offset = 0
        while True:
            search = partial(
                self._client.search_for_instances,
                study, series, fields=["SOPInstanceUID"], limit=_PAGE, offset=offset,
            )  # fmt: skip
            page = self._query(search)
            fresh = {uid for entry in page if (uid := _value(entry, "00080018"))} - uids
            uids |= fresh
            if len(page) < _PAGE or not fresh:
                return sorted(uids)
            offset += len(page)

    def fetch(self, study: str, series: str, folder: Path) -> None:
        """A copy of a series by WADO-RS: `folder/000001.dcm` and on, without Series Description, a slice at a time."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            count = self._tried("retrieval", lambda: self._copy(study, series, folder))
        except OSError as error:
            raise OutputError(
                f"{folder.name}: cannot be copied to {folder.parent} ({error.strerror or error}); make room there or "
                "set TMPDIR"
            ) from error
        if not count:
            raise ArchiveError(f"{folder.name}: the archive has no instances of this series; look at it there")

    def _copy(self, study: str, series: str, folder: Path) -> int:
        count = 0
        for dataset in self._client.iter_series(study, series, media_types=_AS_STORED):
            count += 1
            # Free text that readers quote, and that names people at times; results have their own.
            if "SeriesDescription" in dataset:
                del dataset.SeriesDescription
            with (folder / f"{count:06d}.dcm").open("wb") as stream:
                dataset.save_as(stream, enforce_file_format=True)
        return count

    def store(self, contents: Sequence[bytes], study: str) -> None:
        """Store objects of a study by STOW-RS. That they are there is for `instances` to tell: answers may be wrong."""
        import pydicom

        datasets = []
        for content in contents:
            dataset = pydicom.dcmread(io.BytesIO(content))
            # Without a preamble it is stored and cannot be read back.
            dataset.preamble = bytes(_PREAMBLE_BYTES)
            datasets.append(dataset)
        answer = self._tried("storing", lambda: self._client.store_instances(datasets, study))
        if refused := getattr(answer, "FailedSOPSequence", None):
            reason = getattr(refused[0], "FailureReason", None)
            raise ArchiveError(
                f"{self._url}: refuses {len(refused)} of {len(datasets)} objects (reason {reason}); see its log",
                refused=True,
            )

    def _query(self, search: Callable[[], Any]) -> list[dict[str, Any]]:
        return list(self._tried("query", search))

    def _tried(self, what: str, work: Callable[[], Result]) -> Result:
        """The result of `work`, tried again where an error may pass: all that is done here may be done twice."""
        for pause_s in _PAUSES_S:
            try:
                with self._told(what):
                    return work()
            except ArchiveError as error:
                if not error.passing:
                    raise
            time.sleep(pause_s)
        with self._told(what):
            return work()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Errors of the libraries as one line without identifiers."""
        errors = self._requests.exceptions
        try:
            yield
        except errors.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            if status in (401, 403):
                told = f"{self._url}: lets us not in (HTTP {status}); check --user and the password"
            else:
                told = f"{self._url}: {what} failed (HTTP {status}); see the archive's log"
            raise ArchiveError(told, refused=400 <= status < 500, passing=status in _PASSING) from None
        except errors.SSLError:
            raise ArchiveError(f"{self._url}: its certificate is not trusted; name the right one with --ca") from None
        except errors.Timeout:
            raise ArchiveError(f"{self._url}: {what} took too long; is the archive overloaded?", passing=True) from None
        except errors.RequestException as error:
            kind = type(error).__name__
            raise ArchiveError(
                f"{self._url}: does not answer ({kind}); check the address, and that it runs", passing=True
            ) from None
        except (OSError, ArchiveError):
            raise
        except Exception as error:  # dicomweb-client and pydicom raise many kinds for an answer they do not expect
            raise ArchiveError(
                f"{self._url}: {what} gave no valid answer ({type(error).__name__}); is it the address of DICOMweb?"
            ) from None


def _value(entry: dict[str, Any], tag: str) -> Any:
    values = entry.get(tag, {}).get("Value") or [None]
    return values[0]


def _found(entry: dict[str, Any], study: str | None) -> FoundSeries | None:
    study_uid, series_uid = _value(entry, "0020000D") or study, _value(entry, "0020000E")
    if not study_uid or not series_uid:
        return None
    count = _value(entry, "00201209")
    return FoundSeries(str(study_uid), str(series_uid), None if count is None else int(count))
