"""`eval nodules`: how one sub-volume is read; the sampler and the scores have tests of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.__main__ import main
from eval.tuning.nodules import NoduleScore, nodule_samples, read_sub_volume, scan_of, score_nodule, summarise
from gfscreen.config import Plan
from gfscreen.finding_plan import FindingMeasure, FindingModel
from gfscreen.network_plan import FocusConfig, SecondFocusConfig
from gfscreen.training.cells.features import Host
from gfscreen.training.data.sampling import Sample, Source
from gfscreen.training.objectives import LESION_CLASS
from gfscreen.training.synthesis.lesion_bank import Nodule
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine

TINY = (32, 32, 32)


def image() -> Host:
    """Soft tissue with something bright: 0.5 and 0.9 in the abdomen's window."""
    hu = np.full((32, 32, 32), 38, np.int16)
    hu[10:14, 8:12, 4:8] = 208
    sample = Sample(np.zeros(hu.shape, np.float32), np.zeros(hu.shape, np.uint8), "nodules", inserted=1, hu=hu)
    return scan_of(sample, TINY_PLAN)


def test_without_a_second_look_it_is_what_focus_says():
    engine = bright_engine()
    np.testing.assert_array_equal(read_sub_volume(image(), engine, TINY_PLAN), image().hu > 122)
    assert len(engine.focused) == 1


def test_with_one_it_is_the_mean_of_both_ways_up():
    def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(patch > 0.7, np.float32(0.8), 0) + np.where(np.arange(32) < 2, np.float32(0.2), 0)

    engine = FakeEngine(lambda _: 1.0, outline)
    probability = read_sub_volume(image(), engine, replace(TINY_PLAN, second_look=0.5))
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(engine.focused[1], engine.focused[0][..., ::-1])
    np.testing.assert_allclose(probability[11, 9], [0.1, 0.1, 0, 0, *[0.8] * 4, *[0] * 22, 0.1, 0.1], atol=1e-6)


def test_what_focus_is_not_sure_of_is_read_once():
    engine = FakeEngine(lambda _: 1.0, lambda patch: np.full_like(patch, 0.5))
    assert (read_sub_volume(image(), engine, replace(TINY_PLAN, second_look=0.5)) == 0.5).all()
    assert len(engine.focused) == 1


def test_what_is_small_is_looked_at_by_the_second_focus():
    plan = replace(
        TINY_PLAN, sub_volume_voxels=(64, 64, 32), second_look=0.5, second_focus=SecondFocusConfig(FocusConfig(), TINY)
    )
    hu = np.full((64, 64, 32), 38, np.int16)
    hu[10:14, 8:12, 4:8] = 208
    sample = Sample(np.zeros(hu.shape, np.float32), np.zeros(hu.shape, np.uint8), "nodules", inserted=1, hu=hu)
    engine = bright_engine()
    engine.second_outline = lambda patch: np.zeros_like(patch)
    probability = read_sub_volume(scan_of(sample, plan), engine, plan)
    assert (len(engine.focused), len(engine.looked_closely)) == (1, 1)
    assert 0.0 < probability[hu > 122].max() < 0.6


def test_what_is_hardly_lesion_has_no_second_look():
    def plan(weight: float) -> Plan:
        likely = FindingModel(0.0, (FindingMeasure("chest", -1.0, 1.0, weight, (0.0,)),), 0.5)
        return replace(TINY_PLAN, second_look=0.5, finding_model=likely, look_from=0.5)

    for weight, reads in ((1.0, 2), (-1.0, 1)):
        engine = bright_engine()
        read_sub_volume(image(), engine, plan(weight))
        assert len(engine.focused) == reads


def test_summary_by_size_and_patient():
    def score(patient: str, ml: float, dice: float) -> NoduleScore:
        return NoduleScore("n", patient, 0, ml, dice > 0, dice, dice / 2, dice, 1.0, dice > 0.7)

    table = summarise([score("a", 0.05, 0.0), score("a", 0.3, 0.6), score("b", 0.3, 0.9)])
    assert table["all"]["dice_within_10_mm"]["value"] == 0.5
    assert (table["all"]["dice_within_10_mm"]["n"], table["all"]["dice_within_10_mm"]["patients"]) == (3, 2)
    assert table["all"]["found"]["value"] == 2 / 3
    assert table["all"]["found_a_tenth"]["value"] == 1 / 3
    assert set(table) == {"all", "0-0.1 ml", "0.1-0.5 ml"}
    assert table["0.1-0.5 ml"]["dice_sub_volume"]["value"] == 0.375
    assert summarise([]) == {}


@pytest.mark.parametrize(("marked", "found", "tenth"), [(0, False, False), (1, True, False), (2, True, True)])
def test_found_by_a_voxel_and_by_a_tenth(marked, found, tenth):
    """A nodule of 20 voxels."""
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:24, 8, 8] = LESION_CLASS
    hu = np.full(label.shape, 38, np.int16)
    hu[4 : 4 + marked, 8, 8] = 208
    nodule = Nodule("n", "P", np.ones((1, 1, 1), np.int16), np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0))
    sample = Sample(np.zeros(hu.shape, np.float32), label, "nodules", inserted=1, loose=label > 0, hu=hu)
    score = score_nodule(nodule, sample, bright_engine(), TINY_PLAN)
    assert (score.found, score.found_a_tenth) == (found, tenth)


class Placing:
    """A sampler that notes for which nodule and with which draw it was asked."""

    def __init__(self) -> None:
        self.source = Source((), ())
        self.drawn: list[tuple[str, float]] = []

    def draw_plain(self, rng: np.random.Generator, size: tuple[int, ...], *, kind: str) -> Sample:
        self.drawn.append((self.source.nodules[0].name, rng.random()))
        return Sample(np.zeros(size, np.float32), np.zeros(size, np.uint8), kind, inserted=1)


def test_every_placement_is_another_and_the_first_is_always_the_same():
    outline = np.ones((3, 3, 3), bool)
    nodules = [Nodule(name, "P", outline.astype(np.int16), outline, (1.0, 1.0, 1.0)) for name in ("a", "b")]

    def draws(*placements: int) -> list[tuple[str, float]]:
        sampler = Placing()
        for placement in placements:
            names = [n.name for n, _ in nodule_samples(sampler, nodules, TINY_PLAN, placement)]  # type: ignore[arg-type]
            assert names == ["a", "b"]
        return sampler.drawn

    assert draws(0, 1, 2)[:2] == draws(0)
    assert draws(2, 1)[2:] == draws(1)
    assert len({place for _, place in draws(0, 1, 2)}) == 6


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nodules", ("--data", "list.json", "--cache", "cache")),
        ("gates", ("--gate", "own=nowhere", "--cases", "cases")),
    ],
)
def test_weights_that_are_not_there_are_one_line(command, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("images/A_0000.nii.gz", "labels/A.nii.gz"):
        path = tmp_path / "cases" / name
        path.parent.mkdir(parents=True)
        path.touch()
    weights = ("--weights", "nowhere") if command == "nodules" else ()
    assert main([command, *weights, *words, "-o", "out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command}: nowhere/plan.json: no weights found; name a weights folder (--weights")
    assert not (tmp_path / "out").exists()
