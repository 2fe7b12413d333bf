"""What a Glance's cells say of scans to train on: ordinary tissue becomes background, and hot places are known ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.config import Plan, preset_plan, read_plan  # noqa: E402
from gfscreen.errors import UsageError  # noqa: E402
from gfscreen.finding_plan import FluidRule, MassRule  # noqa: E402
from gfscreen.network_plan import CellGlanceConfig, FocusConfig  # noqa: E402
from gfscreen.networks.models.cell_glance import CellHead  # noqa: E402
from gfscreen.networks.models.weights import build_networks, init_weights, save_weights  # noqa: E402
from gfscreen.training.cells import features  # noqa: E402
from gfscreen.training.data.cache import Scan, load_scans  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from gfscreen.training.data.sampling import PatchSampler, Source  # noqa: E402
from gfscreen.training.learning.judged_scans import judged_scans  # noqa: E402
from gfscreen.training.learning.marked_places import with_marked_places  # noqa: E402
from gfscreen.training.objectives import IGNORE  # noqa: E402
from gfscreen.training.settings import Mix, TrainingSettings  # noqa: E402
from tests.helpers.engines import bright_engine  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402
from tests.helpers.trunk import random_trunk  # noqa: E402

PLAN = replace(
    preset_plan("fast"),
    weights="trained",
    cells=CellGlanceConfig(trunk_blocks=1, role="marks"),
    mark_from=0.1,
    sub_volume_voxels=(64, 64, 32),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4),
)
pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Made:
    """Scans as they are in the cache's folder, the weights that judge them, and the scans as judged."""

    folder: Path
    weights: Path
    scans: list[Scan]
    judged: dict[str, Scan]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Made]:
    """Scan A with a lesion, and twice the same scan without label: B, which nobody annotated, C, vouched for.

    Judged on a tiny trunk, which torch runs: OpenVINO would take longer to compile it.
    """
    folder = tmp_path_factory.mktemp("judged")
    path = write_training_list(folder)
    entries = json.loads(path.read_text())["training"]
    for name, more in (("B", {}), ("C", {"lesion_free": True})):
        shutil.copy(folder / "imagesTr/A_0000.nii.gz", folder / f"imagesTr/{name}_0000.nii.gz")
        entries.append({"image": f"imagesTr/{name}_0000.nii.gz", "label": None, **more})
    path.write_text(json.dumps({"training": entries}))
    data = read_list(path)

    def missing(network):
        raise ImportError("no module named openvino")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(features, "_by_openvino", missing)
        weights = folder / "weights"
        random_trunk(weights, monkeypatch)
        torch.manual_seed(0)
        glance, focus = build_networks(PLAN)
        head = CellHead().state_dict()
        save_weights(weights, PLAN, glance.state_dict(), focus.state_dict(), cells_state=head, precision="keep")
        scans = load_scans(data.training, data, PLAN, folder)
        yield Made(folder, weights, scans, {s.name: s for s in judged_scans(scans, PLAN, weights, folder)})


def test_a_scan_that_is_vouched_for_is_background_throughout(made):
    annotated, unknown, vouched_for = made.scans
    assert vouched_for.annotated
    assert not vouched_for.label.any()
    assert not unknown.annotated
    assert (unknown.label == IGNORE).all()
    assert (annotated.label == 1).any()


def test_of_a_scan_that_nobody_annotated_all_but_the_most_suspicious_cells_are_background(made):
    unknown = made.judged["B"]
    assert unknown.annotated
    assert set(np.unique(unknown.label)) == {0, IGNORE}
    # 5 % of the cells with body; cells at the rim of the grid are cut, and so smaller than others.
    assert 0.01 < np.mean(unknown.label[unknown.body] == IGNORE) < 0.08
    for before in (made.scans[0], made.scans[2]):
        np.testing.assert_array_equal(made.judged[before.name].label, before.label)


def test_hot_places_are_known_to_hold_no_lesion(made):
    for scan in made.judged.values():
        place = tuple(scan.hot.T)
        assert len(scan.hot) > 100
        assert (scan.label[place] == 0).all()
        assert scan.body[place].all()
        assert len(scan.hot) < 0.25 * scan.body.sum()


def test_hot_sub_volumes_are_drawn_around_them(made):
    sampler = PatchSampler(Source(tuple(made.judged.values())), PLAN, Mix(real=0, background=0, hot=1))
    drawn = [sampler.draw_plain(np.random.default_rng(seed), (32, 32, 32), kind="hot") for seed in range(8)]
    assert all(sample.kind == "hot" and (sample.label == 0).any() for sample in drawn)
    assert not any((sample.label == 1).any() for sample in drawn)


def test_what_was_judged_is_kept(made, monkeypatch):
    def never(trunk):
        raise AssertionError("the trunk ran again")

    monkeypatch.setattr("gfscreen.training.learning.judged_scans.trunk_runner", never)
    for scan in judged_scans(made.scans, PLAN, made.weights, made.folder):
        np.testing.assert_array_equal(scan.label, made.judged[scan.name].label)
        np.testing.assert_array_equal(scan.hot, made.judged[scan.name].hot)


def test_what_was_kept_and_is_damaged_is_judged_anew(made):
    for path in (made.folder / "judged").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    for scan in judged_scans(made.scans[:1], PLAN, made.weights, made.folder):
        np.testing.assert_array_equal(scan.hot, made.judged[scan.name].hot)


def test_weights_without_cells_are_refused(tmp_path):
    plan = replace(PLAN, cells=None, mark_from=0.0, weights="untrained")
    init_weights(tmp_path / "plain", plan, 0)
    with pytest.raises(UsageError, match=r"plain: its Glance judges no cells; name weights that train-cells made"):
        judged_scans([], PLAN, tmp_path / "plain", tmp_path)


def test_hot_needs_a_judge():
    with pytest.raises(ValueError, match=r"mix\.hot .* judged_by"):
        TrainingSettings(mix=Mix(hot=0.2))


class TestMarkedPlaces:
    """Where the weights mark what is none; the engine is one that marks whatever is bright."""

    @pytest.fixture
    def marked(self, made, monkeypatch) -> Iterator[list[Scan]]:
        plan = replace(read_plan(made.weights), cells=None, mark_from=0.0, gate=0.0)
        monkeypatch.setattr("gfscreen.training.learning.marked_places.read_plan", lambda _: plan)
        monkeypatch.setattr("gfscreen.training.learning.marked_places.load_engine", lambda *_, **__: bright_engine())
        shutil.rmtree(made.folder / "marked", ignore_errors=True)
        yield judged_scans(made.scans, PLAN, made.weights, made.folder, marked=True)
        shutil.rmtree(made.folder / "marked", ignore_errors=True)

    def test_they_are_known_to_hold_no_lesion(self, made, marked):
        annotated, unknown, vouched_for = marked
        for scan in marked:
            np.testing.assert_array_equal(scan.label, made.judged[scan.name].label)
            assert not scan.label[tuple(scan.marked.T)].any()
        # The lesion is bright: marked rightly in A, falsely in C, which is vouched for.
        lesion = annotated.label == 1
        bright = np.zeros(lesion.shape, bool)
        bright[tuple(vouched_for.marked.T)] = True
        assert bright[lesion].mean() > 0.9
        assert len(annotated.marked) < len(vouched_for.marked)
        assert unknown.marked.dtype == np.int16

    def test_sub_volumes_are_drawn_around_them(self, marked):
        sampler = PatchSampler(Source(tuple(marked)), PLAN, Mix(real=0, background=0, marked=1))
        drawn = [sampler.draw_plain(np.random.default_rng(seed), (32, 32, 32), kind="marked") for seed in range(8)]
        assert not any((sample.label == 1).any() for sample in drawn)

    def test_they_are_kept(self, made, marked, monkeypatch):
        def never(*_, **__):
            raise AssertionError("loaded again")

        monkeypatch.setattr("gfscreen.training.learning.marked_places.load_engine", never)
        for scan, before in zip(
            judged_scans(made.scans, PLAN, made.weights, made.folder, marked=True), marked, strict=True
        ):
            np.testing.assert_array_equal(scan.marked, before.marked)

    def test_what_a_plan_drops_or_adds_afterwards_is_not_asked(self, made, monkeypatch):
        """Focus learns from what it marks itself: fluid too, and nothing that Glance alone would mark."""
        plan = replace(
            read_plan(made.weights), cells=CellGlanceConfig(), fluid=FluidRule(), masses=MassRule(), gate=0.0
        )
        asked = []

        def none(_scan: Scan, plan: Plan, _engine: object) -> NDArray[np.int16]:
            asked.append(plan)
            return np.zeros((0, 3), np.int16)

        monkeypatch.setattr("gfscreen.training.learning.marked_places.read_plan", lambda _: plan)
        monkeypatch.setattr("gfscreen.training.learning.marked_places.load_engine", lambda *_, **__: bright_engine())
        monkeypatch.setattr("gfscreen.training.learning.marked_places.marked", none)
        with_marked_places(made.scans, PLAN, made.weights, made.folder / "elsewhere")
        assert len(asked) == len(made.scans)
        assert all((own.fluid, own.masses) == (None, None) for own in asked)

    def test_without_being_asked_there_are_none(self, made):
        assert all(scan.marked is None for scan in made.judged.values())

    def test_weights_of_another_grid_are_refused(self, made, monkeypatch):
        other = replace(read_plan(made.weights), spacing_mm=(2.0, 2.0, 6.0))
        monkeypatch.setattr("gfscreen.training.learning.marked_places.read_plan", lambda _: other)
        with pytest.raises(UsageError, match=r"judged_by .*: works at \(2.0, 2.0, 6.0\) mm, the run at \(1.0, 1.0, 3"):
            judged_scans(made.scans, PLAN, made.weights, made.folder, marked=True)

    def test_they_need_a_judge(self):
        with pytest.raises(ValueError, match=r"mix\.marked .* judged_by"):
            TrainingSettings(mix=Mix(marked=0.2))
