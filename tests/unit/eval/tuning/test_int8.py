"""`eval int8`: sub-volumes of what Focus reads, spans chosen on one half, the effect measured on the other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("openvino")

from eval.__main__ import main
from eval.tuning import int8
from eval.tuning.int8 import Reader, Recorder, choose, effect_of, shift, span
from gfscreen.config import read_plan
from gfscreen.network_plan import Int8Input
from gfscreen.networks.engines.int8 import FULL_RESOLUTION
from tests.helpers.cpus import asks_for_bf16
from tests.helpers.engines import FakeEngine
from tests.helpers.exports import SMALL_PLAN, write_exported
from tests.helpers.scans import paint

PLAN = replace(SMALL_PLAN, gate=0.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, and exported."""
    return write_exported(tmp_path_factory.mktemp("weights"), PLAN)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two scans, and a file that is none."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "AC":
        nib.save(
            nib.Nifti1Image(paint((40, 36, 40), affine)[0].astype(np.int16), affine), folder / f"{name}_0000.nii.gz"
        )
    (folder / "B_0000.nii.gz").write_bytes(b"no scan")
    return folder


def patches(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(5).random((count, 1, 64, 32, 32), dtype=np.float32))


class TestRecorder:
    def test_keeps_no_more_than_asked_and_answers_as_before(self):
        engine = FakeEngine(lambda _: 1.0, lambda patch: patch > 0.5)
        recorder = Recorder(engine, 3, np.random.default_rng(0))
        batch = np.random.default_rng(1).random((8, 4, 4, 4), dtype=np.float32)
        for part in np.split(batch, 8):
            np.testing.assert_array_equal(recorder.focus(part), engine.focus(part))
        assert len(recorder.kept) == 3
        assert all(kept.shape == (1, 4, 4, 4) for kept in recorder.kept)
        assert all(any(np.array_equal(kept[0], patch) for patch in batch) for kept in recorder.kept)

    def test_every_sub_volume_is_as_likely_to_be_kept(self):
        engine = FakeEngine(lambda _: 1.0, lambda patch: patch)
        counts = np.zeros(8)
        for seed in range(400):
            recorder = Recorder(engine, 2, np.random.default_rng(seed))
            for value in np.arange(8, dtype=np.float32) / 8:
                recorder.focus(np.full((1, 1, 1, 1), value))
            counts[[int(8 * kept.item()) for kept in recorder.kept]] += 1
        assert (np.abs(counts / 400 - 0.25) < 0.08).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.4, 42.0, (0.0, 21.0)), (-5.5, 31.4, (-5.5, 15.7)), (0.0, 3.0, (0.0, 1.5))],
)
def test_a_span_leaves_out_what_a_leaky_rectifier_lets_through(low, high, expected):
    assert span(low, high, 0.5, "a.conv") == Int8Input("a.conv", *expected)


@asks_for_bf16
class TestChoice:
    def test_extremes_are_those_of_what_goes_in(self, weights):
        """The first input is what the network sees: nothing but a convolution and a normalisation lie between."""
        extremes = Reader(weights / "openvino", watch=FULL_RESOLUTION).extremes(patches(1)[0])
        assert extremes.shape == (3, 2)
        low, high = extremes.T
        assert (low < 0).all()
        # Normed channels of 65,536 voxels of noise reach four to six standard deviations; leaky ones hardly below 0.
        assert (low[[0, 2]] > -0.1).all()
        assert low[1] < -1
        assert ((high > 3) & (high < 8)).all()

    def test_the_least_shift_is_chosen(self, weights):
        given = patches(2)
        chosen, tried = choose(weights / "openvino", given)
        assert [one.convolution for one in chosen] == list(FULL_RESOLUTION)
        plain = Reader(weights / "openvino")
        aims = [plain(patch) for patch in given]
        for one in chosen:
            own = [row for row in tried if row["convolution"] == one.convolution]
            assert len(own) == len(int8.SHARES)
            least = min(own, key=lambda row: row["logit_shift"])
            assert (one.low, one.high) == (least["low"], least["high"])
            assert shift(Reader(weights / "openvino", [one]), given, aims) == pytest.approx(least["logit_shift"])

    def test_no_shift_of_itself_nor_where_nothing_is_in_doubt(self, weights):
        given, plain = patches(1), Reader(weights / "openvino")
        assert shift(plain, given, [plain(given[0])]) == 0
        assert shift(plain, given, [np.zeros((64, 32, 32), np.float32)]) == 0

    def test_the_effect_is_that_of_the_spans(self, weights):
        export, given = weights / "openvino", patches(2)
        threshold = float(np.median(Reader(export)(given[0])))
        kind = [Int8Input(name, -5.0, 5.0) for name in FULL_RESOLUTION]
        narrow = [replace(one, low=0.0, high=0.01) for one in kind]
        none, slight, all_lost = (effect_of(export, spans, given, threshold) for spans in ([], kind, narrow))
        assert none.dice == 1
        assert all_lost.dice < slight.dice < 1
        assert none.sub_volumes == 2
        assert min(none.seconds_before, none.seconds_after) > 0


@asks_for_bf16
class TestCommand:
    def test_writes_what_it_chose(self, weights, scans, tmp_path, caplog):
        own = copy_of(weights, tmp_path)
        asked = command(scans, own, tmp_path / "out", 4)
        assert main(asked) == 0
        assert read_plan(own).focus_int8 == ()
        assert "left out:" in caplog.text
        assert "B_0000" in caplog.text
        assert main([*asked, "--write"]) == 0
        told = json.loads((tmp_path / "out" / "int8.json").read_text())
        assert read_plan(own).focus_int8 == tuple(Int8Input(**one) for one in told["chosen"])
        assert len(told["tried"]) == 3 * len(int8.SHARES)
        assert told["effect"]["sub_volumes"] == 2

    def test_leaves_the_plan_if_masks_change_too_much(self, weights, scans, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(int8, "LEAST_DICE", 1.01)
        own = copy_of(weights, tmp_path)
        asked = command(scans, own, tmp_path / "out", 2)
        assert main([*asked, "--write"]) == 1
        assert "not written, masks change too much: Dice" in caplog.text
        assert read_plan(own).focus_int8 == ()

    def test_scans_of_which_nothing_is_read(self, weights, scans, tmp_path, capsys):
        (scans / "A_0000.nii.gz").unlink()
        (scans / "C_0000.nii.gz").unlink()
        assert main(command(scans, weights, tmp_path, 2)) == 1
        assert "Focus reads 0 sub-volumes of these scans; name scans with lesions" in capsys.readouterr().err

    def test_halves_ask_for_two(self, weights, tmp_path, capsys):
        assert main(command(tmp_path, weights, tmp_path, 1)) == 2
        assert "one half chooses and the other measures; give 2 or more" in capsys.readouterr().err


def command(scans: Path, weights: Path, output: Path, count: int) -> list[str]:
    named = ["--scans", str(scans), "--weights", str(weights), "-o", str(output)]
    return ["int8", *named, "--sub-volumes", str(count)]


def copy_of(weights: Path, folder: Path) -> Path:
    return shutil.copytree(weights, folder / "weights")
