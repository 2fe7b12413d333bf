"""`gfscreen pacs` against a real Orthanc: series in, SEG and SR out, once; what goes wrong is one line without names.

Skipped where Orthanc or dicomweb-client is not installed, unless GFSCREEN_REQUIRE_ORTHANC=1.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from eval.reliability.threshold_engine import ThresholdEngine, write_threshold_plan
from gfscreen.command.cli import main
from gfscreen.errors import OutputError
from gfscreen.pacs import run as pacs_run
from gfscreen.pacs.address import PASSWORD_VARIABLE, ArchiveAddress
from gfscreen.pacs.archive import Archive, ArchiveError
from gfscreen.pacs.identity import name_of
from gfscreen.pacs.options import PacsOptions
from gfscreen.stopping import Stopped
from tests.helpers.dicom_series import Series
from tests.helpers.orthanc import PASSWORD, USER, Orthanc, encrypted, orthanc_program
from tests.helpers.scans import paint
from tests.unit.run.test_dicom_seg_output import voxels_by_dcmqi

SHAPE = (36, 34, 30)
SERIES = 20
SECRET = "MILLER^JANE"
LONG_AXIS, SHORT_AXIS, VOLUME = "103339001", "103340004", "118565006"


def painted(study: str, **more) -> Series:
    """A series with one bright ball, whose free text names the patient."""
    series = Series(np.zeros(SHAPE, np.int16), study=study, pixel_mm=(4.0, 4.0), slice_mm=5.0, **more)
    series.extra = {"PatientName": SECRET, "PatientID": f"ID-{study}", "SeriesDescription": f"CT {SECRET}"}
    series.hu = paint(SHAPE, series.affine_ras_mm)[0]
    return series


@pytest.fixture
def orthanc(tmp_path):
    orthanc_program()
    if not _has_client():
        message = "needs dicomweb-client (pip install 'gfscreen[pacs]')"
        pytest.fail(message) if os.environ.get("GFSCREEN_REQUIRE_ORTHANC") == "1" else pytest.skip(message)
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.stop()


def _has_client() -> bool:
    import importlib.util

    return importlib.util.find_spec("dicomweb_client") is not None


class Setting:
    """An Orthanc, weights that find what is bright, and runs of the command."""

    def __init__(self, server: Orthanc, folder: Path) -> None:
        self.server, self.folder, self.output = server, folder, folder / "results"
        self.weights = write_threshold_plan(folder / "weights")

    def put(self, series: Series) -> str:
        """Store a series; its name in the results."""
        folder = self.folder / "dicom" / series.uid
        series.write(folder)
        self.server.put(folder)
        return name_of(series.uid)

    def run(self, *more: str) -> int:
        return main(
            [
                *("pacs", "--url", self.server.url, "--user", USER, "-o", str(self.output)),
                *("--weights", str(self.weights), *more),
            ]
        )

    def record(self, name: str) -> dict:
        return json.loads((self.output / "cases" / f"{name}.json").read_text())


@pytest.fixture
def setting(orthanc, tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setattr("gfscreen.pacs.series_run.load_engine", lambda *_, **__: ThresholdEngine())
    return Setting(orthanc, tmp_path)


def numbers_of(container) -> dict[str, float]:
    """Measurements of a group of an SR by code value: read by pydicom alone."""
    return {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in container.ContentSequence
        if item.ValueType == "NUM"
    }


def groups_of(report) -> list:
    """The measurement groups of an SR by pydicom alone."""
    measured = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    return list(measured.ContentSequence)


def test_round_trip(setting, tmp_path, capsys):
    """Twenty series in, of which one holds nothing to mark; SEG and SR of each out, once."""
    given = {painted(str(study)).uid: painted(str(study)) for study in range(1, SERIES)}
    for series in given.values():
        setting.put(series)
    empty = painted(str(SERIES))
    empty.hu[empty.hu > 100] = 40
    setting.put(empty)
    before = setting.server.instances
    assert setting.run() == 0
    assert setting.server.instances == before + 2 * SERIES
    log = capsys.readouterr().err
    assert f"INFO: {SERIES} series: {SERIES} stored" in log
    for secret in (SECRET, "MILLER", "ID-1", *given, *(f"{uid}.1" for uid in given), PASSWORD):
        assert secret not in log

    segs = {seg.StudyInstanceUID: seg for seg in map(dataset_of, setting.server.files("SEG"))}
    reports = {report.StudyInstanceUID: report for report in map(dataset_of, setting.server.files("SR"))}
    assert len(segs) == len(reports) == SERIES
    for number, (uid, series) in enumerate(given.items(), start=1):
        study = uid.rpartition(".")[0]
        seg, report = segs[study], reports[study]
        assert (seg.PatientName, seg.PatientID, report.PatientName) == (SECRET, f"ID-{number}", SECRET)
        check_seg(seg, series, tmp_path / "x.seg.dcm")
        check_report(report, seg, series, setting, tmp_path / f"{number}")

    # Again, also with nothing left of the first run: nothing is added.
    assert setting.run() == 0
    setting.output.rename(tmp_path / "gone")
    assert setting.run() == 0
    assert setting.server.instances == before + 2 * SERIES


def check_seg(seg, series, path) -> None:
    """Voxels: dcmqi (DCMTK) reads those that were painted."""
    seg.save_as(path)
    ball = paint(SHAPE, series.affine_ras_mm)[1]
    where = np.argwhere(ball) @ series.affine_ras_mm[:3, :3].T + series.affine_ras_mm[:3, 3]
    assert voxels_by_dcmqi(path, decimals=1) == {tuple(np.round(point, 1).tolist()) for point in where * [-1, -1, 1]}


def check_report(report, seg, series, setting, folder) -> None:
    """Measurements: those of `--statistics`, by a second reader (DCMTK) and by pydicom."""
    folder.mkdir()
    statistics = folder / "s.json"
    mask = setting.output / "masks" / f"{name_of(series.uid)}.nii.gz"
    scan = setting.folder / "dicom" / series.uid
    assert main(["stats", "--image", str(scan), "--mask", str(mask), "-o", str(statistics)]) == 0
    (lesion,) = json.loads(statistics.read_text())["cases"][0]["lesions"]
    expected = {VOLUME: lesion["volume_mm3"], LONG_AXIS: lesion["long_axis_mm"], SHORT_AXIS: lesion["short_axis_mm"]}
    group, whole = groups_of(report)
    assert numbers_of(group) == expected
    assert numbers_of(whole) == {"lesion-count": 1.0}
    report.save_as(folder / "x.sr.dcm")
    program = Path(sys.executable).with_name("tid1500reader")
    command = [program, "--inputDICOM", folder / "x.sr.dcm", "--outputMetadata", folder / "sr.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads((folder / "sr.json").read_text())["Measurements"][0]
    assert {m["quantity"]["CodeValue"]: float(m["value"]) for m in read["measurementItems"]} == expected
    assert read["segmentationSOPInstanceUID"] == seg.SOPInstanceUID
    assert read["ReferencedSegment"] == 1
    assert read["Finding"]["CodeMeaning"] == "Lesion"
    assert read["FindingSite"]["CodeMeaning"] == "Abdomen"
    assert read["SourceSeriesForImageSegmentation"] == series.uid
    assert read["measurementAlgorithmIdentification"]["AlgorithmName"] == "GF-Screen"
    assert read["TrackingUniqueIdentifier"] == seg.SegmentSequence[0].TrackingUID


def dataset_of(content: bytes):
    return pydicom.dcmread(io.BytesIO(content))


def test_what_is_no_ct_of_a_body_is_refused_alone(setting, capsys):
    good = setting.put(painted("1"))
    bad = setting.put(painted("2", left_out=(7, 8)))
    assert setting.run() == 1
    assert (setting.record(good)["status"], setting.record(bad)["status"]) == ("stored", "refused")
    assert setting.record(bad)["error"].startswith(f"{bad}: ")
    assert capsys.readouterr().err.splitlines()[-1] == "INFO: 2 series: 1 stored, 1 refused"
    assert setting.run() == 1  # recorded, and not fetched again
    log = capsys.readouterr().err
    assert "gap" not in log
    assert log.splitlines()[-1] == "INFO: 2 series: 1 stored, 1 refused"


def test_stopped_in_the_middle_nothing_is_lost(setting, monkeypatch, capsys):
    """The archive goes when a series was screened: its results wait, and are stored without screening it again."""
    names = [setting.put(painted(study)) for study in "12"]
    store = Archive.store

    def gone(self, contents, study):
        setting.server.stop()
        store(self, contents, study)

    monkeypatch.setattr(Archive, "store", gone)
    assert setting.run() == 1
    statuses = sorted(setting.record(name)["status"] for name in names if record_exists(setting, name))
    assert "waiting" in statuses
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.setattr(Archive, "store", store)
    setting.server.start()
    screened = []
    fetch = Archive.fetch
    monkeypatch.setattr(Archive, "fetch", lambda self, *a: (screened.append(a), fetch(self, *a))[1])
    assert setting.run() == 0
    assert [setting.record(name)["status"] for name in names] == ["stored", "stored"]
    assert len(screened) == 2 - statuses.count("waiting")
    assert len(setting.server.files("SEG")) == len(setting.server.files("SR")) == 2


def record_exists(setting: Setting, name: str) -> bool:
    return (setting.output / "cases" / f"{name}.json").is_file()


@pytest.mark.parametrize(
    ("url", "password", "told"),
    [
        ("{url}", "wrong", "lets us not in (HTTP 401); check --user and the password"),
        ("http://127.0.0.1:1/dicom-web", PASSWORD, "does not answer (ConnectionError); check the address"),
        ("{base}/nothing", PASSWORD, "query failed (HTTP 404)"),
    ],
)
def test_bad_addresses_and_credentials_are_one_line(setting, monkeypatch, capsys, url, password, told):
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    url = url.format(url=setting.server.url, base=setting.server.base)
    code = main(["pacs", "--url", url, "--user", USER, "-o", str(setting.output), "--weights", str(setting.weights)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert told in lines[0]
    assert not setting.output.exists()


def test_watch_takes_series_as_they_arrive_and_survives_an_archive_that_goes(setting, caplog):
    caplog.set_level("INFO", "gfscreen")
    address = ArchiveAddress(setting.server.url, USER, PASSWORD)
    options = PacsOptions(address, setting.output, setting.weights, watch=True, poll_s=1.0, stable_s=0.0)
    steps = iter(
        [
            lambda: setting.put(painted("1")),
            setting.server.stop,
            setting.server.start,
            lambda: setting.put(painted("2")),
            lambda: None,
        ]
    )

    def sleep(_: float) -> None:
        step = next(steps, None)
        if step is None:
            raise Stopped(15)
        step()

    with pytest.raises(Stopped):
        pacs_run.run_pacs(options, sleep)
    assert len(setting.server.files("SEG")) == len(setting.server.files("SR")) == 2
    assert sum("tried again every 1 s" in message for message in caplog.messages) == 1
    assert sum("answers again" in message for message in caplog.messages) == 1


def test_what_answers_stored_and_is_not_there_is_no_success(setting, monkeypatch):
    name = setting.put(painted("1"))
    monkeypatch.setattr(Archive, "store", lambda *_: None)
    assert setting.run() == 1
    assert setting.record(name)["status"] == "waiting"
    assert "QIDO does not tell of them" in setting.record(name)["error"]


def test_a_full_disk_fails_and_is_tried_again(setting, monkeypatch):
    name = setting.put(painted("1"))

    def full(self, *_):
        raise OutputError("no space left on device; make room")

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "fetch", full)
        assert setting.run() == 1
    assert (setting.record(name)["status"], setting.record(name)["error"][:13]) == ("failed", "no space left")
    assert setting.run() == 0


def test_a_cohort_of_an_archive(setting, monkeypatch, capsys):
    """`cohort run` fetches what QIDO tells of; nothing is stored, and the log names nobody."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("gfscreen.cohort.run._prepare_engine", lambda _: 0)
    monkeypatch.setattr("gfscreen.cohort.case_worker.load_engine", lambda *_, **__: ThresholdEngine())
    names = {setting.put(painted(study)) for study in "12"}
    before = setting.server.instances
    source = f"dicomweb+{setting.server.url}"
    arguments = ["cohort", "run", "-i", source, "-o", str(setting.output), "--user", USER, "--ray", "none"]
    assert main([*arguments, "--weights", str(setting.weights)]) == 0
    assert {path.name for path in (setting.output / "masks").iterdir()} == {f"{name}.nii.gz" for name in names}
    assert all(setting.record(name)["lesion_count"] == 1 for name in names)
    assert setting.server.instances == before
    log = capsys.readouterr().err
    assert "INFO: 2 series: 2 done, 0 failed" in log
    assert not any(secret in log for secret in ("MILLER", PASSWORD, Series(np.zeros((1, 1, 1), np.int16)).uid))


def test_series_of_an_archive_are_found_page_by_page(setting, monkeypatch):
    monkeypatch.setattr("gfscreen.pacs.archive._PAGE", 2)
    uids = set()
    for number in range(1, 6):
        series = Series(np.zeros((4, 4, 3), np.int16), number=number)
        setting.put(series)
        uids.add(series.uid)
    archive = Archive(ArchiveAddress(setting.server.url, USER, PASSWORD))
    found = list(archive.ct_series())
    assert {one.series_uid for one in found} == uids
    assert len(found) == 5
    assert len(archive.instances(found[0].study_uid, found[0].series_uid)) == 3
    with pytest.raises(ArchiveError):
        archive.fetch("1.2.3", "1.2.3.4", setting.folder / "none")


def test_encrypted(setting, tmp_path):
    """TLS: without the certificate it is refused in one line, with it the archive answers."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    setting.put(Series(np.zeros((4, 4, 3), np.int16)))
    with encrypted(setting.server.port, tmp_path / "both.pem") as port:
        url = f"https://localhost:{port}/dicom-web"
        with pytest.raises(ArchiveError, match="certificate is not trusted; name the right one with --ca"):
            list(Archive(ArchiveAddress(url, USER, PASSWORD)).ct_series())
        (found,) = Archive(ArchiveAddress(url, USER, PASSWORD, str(certificate))).ct_series()
        assert found.series_uid == Series(np.zeros((1, 1, 1), np.int16)).uid
