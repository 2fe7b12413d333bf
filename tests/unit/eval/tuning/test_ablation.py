"""The ablation: gates that learn differently, tried on the same reads of Focus."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from eval.__main__ import main  # noqa: E402
from eval.accuracy.statistics import auc_of  # noqa: E402
from eval.tuning import ablation  # noqa: E402
from eval.tuning.ablation import Trial, interval, summarise, table, trial  # noqa: E402
from gfscreen.config import preset_plan  # noqa: E402
from gfscreen.network_plan import CellGlanceConfig  # noqa: E402
from gfscreen.networks.models.cell_glance import FEATURES  # noqa: E402
from gfscreen.training.cells.reinforcement import learn_from_labels, untrained  # noqa: E402
from gfscreen.training.cells.sub_volumes import SubVolume  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402

PLAN = replace(preset_plan("fast"), sub_volume_voxels=(64, 64, 32), overlap=0.0)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_auc():
    said = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    assert auc_of(said, np.array([False, False, True, True])) == 0.75
    assert auc_of(np.ones(4, np.float32), np.array([True, False, True, False])) == 0.5
    assert auc_of(said, np.ones(4, bool)) is None


def test_interval_is_students():
    assert interval([0.5]) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    found = interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.3027; standard error 1 / sqrt(3)
    assert found["mean"] == 2.0
    assert found["high"] == pytest.approx(2.0 + 4.302653 / np.sqrt(3), abs=1e-5)


def scan_of(holds, outcomes):
    """A scan whose outcome is looked up by how many sub-volumes are kept."""
    return SimpleNamespace(holds=np.array(holds), outcome=lambda kept: outcomes[int(kept.sum())])


def test_a_trial_keeps_the_most_suspicious_of_all_scans():
    def outcome(dsc):
        return SimpleNamespace(dsc=dsc, false_positive_ml=2.0, one_voxel=1, a_tenth=0)

    one = scan_of([True, False, False], {1: outcome(0.4), 3: outcome(0.2)})
    other = scan_of([False], {0: outcome(None), 1: outcome(None)})
    found = trial([one, other], [np.array([3.0, 1.0, 2.0], np.float32), np.array([0.0], np.float32)], 0.25)
    assert found == Trial(1.0, 0.25, 1.0, 1.0, 0.4, 4.0, 2, 0)
    everything = trial([one, other], [np.zeros(3, np.float32), np.zeros(1, np.float32)], 1.0)
    assert (everything.kept_share, everything.sensitivity, everything.specificity) == (1.0, 1.0, 0.0)


def test_the_table_shows_what_is_defined():
    rows = {"a": [Trial(None, 0.25, 1.0, None, 0.4, 4.0, 2, 0)], "b": 2 * [Trial(0.75, 0.25, 1.0, 0.5, 0.4, 4.0, 2, 1)]}
    text = table(summarise(rows), 3).splitlines()
    assert text[2] == "| a |  | 25 | 100 |  | 2.0; 0.0 | 0.400 | 4 |"
    assert text[3].startswith("| b | 0.750 [0.750, 0.750] | 25 [25, 25] |")


def pool(size: int = 24) -> list[SubVolume]:
    """Sub-volumes whose lesion is a cell with a high first feature; reading those pays."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(size):
        features = rng.normal(0, 0.05, (6, FEATURES)).astype(np.float16)
        features[:, 0] = 0.3
        lesion = number % 2 == 0
        if lesion:
            features[3, 0] = 1.0
        found.append(SubVolume(features, np.ones(6, np.int8), lesion, float(lesion), 0.6 * lesion))
    return found


def test_labels_teach_untrained_heads():
    own = pool()
    before = untrained(own, 2, 1)
    assert len(before) == 2
    after = learn_from_labels(before, own, 1, steps=60, learning_rate=2e-3)
    # What each sub-volume's most suspicious cell says, before and after.
    said = [[max(head[1].logits(one.features)) for one in own] for head in (before, after)]
    holds = np.array([one.has_lesion for one in own])
    assert auc_of(np.array(said[1], np.float32), holds) == 1.0
    assert np.mean(np.array(said[1])[holds]) - np.mean(np.array(said[0])[holds]) > 0.5
    assert torch.equal(after[0].mean, before[0].mean)


@pytest.fixture
def stubbed(monkeypatch):
    """A trunk whose first feature is how bright a cell is, a Focus that marks what is bright, a pool to learn from."""

    def run(volume):
        z, x, y = (size // stride for size, stride in zip(volume.shape, (4, 8, 8), strict=True))
        features = np.zeros((FEATURES, z, x, y), np.float32)
        features[0] = volume.reshape(z, 4, x, 8, y, 8).max(axis=(1, 3, 5))
        return features

    material = SimpleNamespace(plan=PLAN, config=CellGlanceConfig(trunk_blocks=1), run=run)
    engine = SimpleNamespace(focus=lambda batch: (batch > 0.7).astype(np.float32))
    monkeypatch.setattr(ablation, "material_of", lambda job: material)
    monkeypatch.setattr(ablation, "pool_of", lambda *_: pool())
    monkeypatch.setattr(ablation, "load_engine", lambda *_, **__: engine)
    return engine


def write_cases(folder, tmp_path):
    """A body with a bright lesion at one end as a case to try gates on, and a list that does not name it."""
    write_training_list(tmp_path)
    hu = np.full((200, 90, 44), -1000, np.int16)
    hu[5:195, 5:85] = 60
    hu[20:40, 40:60, 5:15] = 140
    for name, array in (("images/T_0000", hu), ("labels/T", (hu == 140).astype(np.uint8))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 3.0, 1.0])), folder / f"{name}.nii.gz")


def ablate(tmp_path, *more):
    parts = {"--data": "list.json", "--cache": "cache", "--weights": "weights", "--cases": "cases", "-o": "out"}
    arguments = [word for option, name in parts.items() for word in (option, str(tmp_path / name))]
    return main(["ablation", *arguments, "--steps", "80", *more])


def test_from_a_list_to_a_table(tmp_path, stubbed, monkeypatch):
    write_cases(tmp_path / "cases", tmp_path)
    assert ablate(tmp_path, "--seeds", "2", "--kept", "0.3") == 0
    found = json.loads((tmp_path / "out/ablation.json").read_text())
    assert found["cases"] == ["T"]
    results = found["results"]
    assert list(results) == [ablation.NONE, *ablation.LEARNERS]
    # The lesion is the only bright thing: whoever reads it all has it, and so has a gate that learnt to see it.
    assert results[ablation.NONE]["dsc"]["mean"] > 0.8
    assert results["GRPO, detection"]["auc"]["mean"] > 0.9
    assert results["GRPO, detection"]["one_voxel"]["mean"] == 1
    assert results["GRPO, detection"]["kept_share"]["mean"] < 0.7
    assert (tmp_path / "out/ablation.md").read_text().count("\n") == 2 + len(results)

    def never(batch):
        raise AssertionError("Focus read again")

    monkeypatch.setattr(stubbed, "focus", never)
    assert ablate(tmp_path, "--seeds", "1", "--kept", "0.3") == 0


def test_scans_that_teach_are_refused(tmp_path, stubbed, capsys):
    write_training_list(tmp_path)
    for source, target in (("imagesTr", "images"), ("labelsTr", "labels")):
        (tmp_path / "cases").mkdir(exist_ok=True)
        (tmp_path / "cases" / target).symlink_to(tmp_path / source)
    assert ablate(tmp_path) == 2
    told = f"ablation: {tmp_path}/cases: A is among the scans that are learnt from; name others to try gates on\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["--kept", "0"], ["--kept", "1.5"]])
def test_wrong_numbers_are_told(tmp_path, stubbed, capsys, wrong):
    assert ablate(tmp_path, *wrong) == 2
    told = "ablation: --seeds and --steps must be at least 1, --kept above 0 and at most 1\n"
    assert capsys.readouterr().err == told
