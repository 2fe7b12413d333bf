"""`train-cells` from a list to weights, on a tiny trunk and a painted scan."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.command.cli import main  # noqa: E402
from gfscreen.config import preset_plan, read_plan  # noqa: E402
from gfscreen.finding_plan import FindingMeasure, FindingModel, LiverMassRule, MassRule  # noqa: E402
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, GlanceConfig, SecondFocusConfig  # noqa: E402
from gfscreen.networks.models.cell_glance import CellFeatures  # noqa: E402
from gfscreen.networks.models.manifest import read_manifest, verify  # noqa: E402
from gfscreen.networks.models.trunk_pins import TRUNK_FILE  # noqa: E402
from gfscreen.networks.models.weights import (  # noqa: E402
    build_networks,
    init_weights,
    load_cells,
    load_networks,
    save_weights,
)
from gfscreen.screening.cells import TrunkInput, blank_cells, take_over  # noqa: E402
from gfscreen.training.cells import features, gathering  # noqa: E402
from gfscreen.training.cells.examples import NEGATIVE, POSITIVE, UNKNOWN  # noqa: E402
from gfscreen.training.cells.features import _by_torch, features_of, host_of  # noqa: E402
from gfscreen.training.cells.gathering import Material, ScanCells  # noqa: E402
from gfscreen.training.cells.inserted import Bank  # noqa: E402
from gfscreen.training.cells.learn import _fit_region, gate_of  # noqa: E402
from gfscreen.training.data.cache import load_scan  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402
from tests.helpers.trunk import random_trunk  # noqa: E402

CONFIG = CellGlanceConfig(trunk_blocks=1, case_calibration=(2.0, -3.0))
PLAN = replace(
    preset_plan("fast"),
    weights="trained",
    cells=CONFIG,
    mark_from=0.1,
    sub_volume_voxels=(64, 64, 32),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4),
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def by_torch(monkeypatch) -> None:
    """OpenVINO would compile the trunk for each of these runs, which takes longer than all else."""

    def missing(network):
        raise ImportError("no module named openvino")

    monkeypatch.setattr(features, "_by_openvino", missing)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Path]:
    """Weights that count as trained, with a trunk of one block."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    glance, focus = build_networks(PLAN)
    save_weights(folder, PLAN, glance.state_dict(), focus.state_dict(), precision="keep")
    with pytest.MonkeyPatch.context() as monkeypatch:
        random_trunk(folder, monkeypatch)
        yield folder


@pytest.fixture
def base(tmp_path, made) -> Path:
    """Them in a folder of the test's own; files are replaced, never changed, so links will do."""
    return shutil.copytree(made, tmp_path / "base", copy_function=os.link)


@pytest.fixture
def data(tmp_path) -> Path:
    """Scan A with a bright block that is its lesion, and the same patient without it: B, which nobody annotated."""
    path = write_training_list(tmp_path)
    image = nib.load(tmp_path / "imagesTr/A_0000.nii.gz")
    hu = np.asarray(image.dataobj).copy()
    hu[hu == 140] = 60
    nib.save(nib.Nifti1Image(hu, image.affine), tmp_path / "imagesTr/B_0000.nii.gz")
    return change(path, lambda entries: [*entries, {"image": "imagesTr/B_0000.nii.gz", "label": None}])


def change(path: Path, of) -> Path:
    path.write_text(json.dumps({"training": of(json.loads(path.read_text())["training"])}))
    return path


def train_cells(tmp_path, *more) -> int:
    parts = {"--data": "list.json", "--cache": "cache", "--weights": "base", "-o": "out"}
    arguments = [word for option, name in parts.items() for word in (option, str(tmp_path / name))]
    return main(["train-cells", *arguments, *more])


def runs_of_the_trunk(monkeypatch) -> list[tuple[int, ...]]:
    """Sizes of the volumes that the trunk is shown from here on."""
    sizes: list[tuple[int, ...]] = []
    make = gathering.trunk_runner

    def counting(trunk):
        run = make(trunk)
        return lambda volume: (sizes.append(volume.shape), run(volume))[1]

    monkeypatch.setattr(gathering, "trunk_runner", counting)
    return sizes


def test_the_cells_that_training_sees_are_those_of_a_screening(tmp_path, base, data):
    """Logits from kept features against the engine's way: pieces, CellGlance, take_over."""
    entry = read_list(data).training[0]
    scan = load_scan(entry, PLAN, tmp_path / "cache")
    _, glance, _ = load_networks(base)
    host = host_of(scan, scan.hu, PLAN.spacing_mm)
    cells = blank_cells(host, CONFIG)
    wanted = ~np.isneginf(cells.logit)
    seen = features_of(_by_torch(CellFeatures(glance.trunk), torch.device("cpu")), host, cells, wanted, CONFIG)
    see = TrunkInput(host, CONFIG)
    for piece in list(cells.pieces):
        with torch.inference_mode():
            take_over(cells, piece, glance(torch.from_numpy(see(piece, cells))[None, None])[0].numpy())
    assert len(seen.cell) == wanted.sum() > 100
    head = glance.head
    layers = head.layers
    weight = torch.cat([layer.weight[1].flatten() for layer in layers])
    logits = torch.from_numpy(seen.features.astype(np.float32)) @ weight + head.middle.bias[1]
    np.testing.assert_allclose(logits.detach().numpy(), cells.logit[tuple(seen.cell.T)], atol=5e-3)
    assert float(logits.detach().std()) > 0.05


def test_learns_what_was_planted_and_writes_weights_that_load(tmp_path, base, data, caplog):
    assert train_cells(tmp_path, "--versions", "0") == 0
    out = tmp_path / "out"
    verify(out)
    plan = read_plan(out)
    assert plan.weights == "trained"
    assert plan.cells == replace(CONFIG, case_calibration=None)
    assert plan.mark_from == 0  # of a single scan nothing is held out
    assert plan.operating_points == ()
    assert 0 < plan.gate < 1
    told = read_manifest(out).info["glance_cells"]
    assert told["lesions"] == {"real": 1}
    assert told["cells"]["chest"] == {"lesion": 0, "other": 0}
    assert told["cells"]["abdomen"]["lesion"] >= 4
    assert "eval gates" in told["gate_from"]

    _, glance, focus = load_networks(out)
    _, before, base_focus = load_networks(base)
    for name, tensor in base_focus.state_dict().items():
        assert torch.equal(tensor, focus.state_dict()[name])
    assert torch.equal(glance.head.middle.weight[0], before.head.middle.weight[0])  # the chest, which nothing taught
    assert not torch.equal(glance.head.middle.weight[1], before.head.middle.weight[1])

    with np.load(next((tmp_path / "cache/cells").glob("A-cells-0-*.npz"))) as kept:
        known, kind = torch.from_numpy(kept["features"].astype(np.float32)), kept["kind"]
    layers = glance.head.layers
    weight = torch.cat([layer.weight[1].flatten() for layer in layers])
    logits = (known @ weight + glance.head.middle.bias[1]).detach().numpy()
    assert logits[kind == POSITIVE].mean() > np.quantile(logits[kind != POSITIVE], 0.99)
    assert logits[kind == POSITIVE].max() > np.log(plan.gate / (1 - plan.gate)) - 1e-4


def test_for_the_marks_alone_the_glance_of_the_base_stays(tmp_path, base, data):
    cells = replace(CONFIG, role="marks")
    second = SecondFocusConfig(PLAN.focus)
    plan = replace(
        PLAN, cells=cells, gate=0.25, glance=GlanceConfig("resnet10", (4, 8, 8, 16), (2, 2, 1), "B"),
        second_focus=second, finding_from=0.4, look_from=0.1,
        finding_model=FindingModel(0.0, (FindingMeasure("chest", 0.0, 1.0, 1.0, (0.0,)),), 0.5), masses=MassRule(),
        liver_masses=LiverMassRule(),
    )  # fmt: skip
    init_weights(tmp_path / "plain", replace(plan, cells=None, mark_from=0.0, masses=None, liver_masses=None), 1)
    for name in ("plan.json", "glance.safetensors", "focus.safetensors", "second_focus.safetensors", "manifest.json"):
        (base / name).unlink(missing_ok=True)
        shutil.copyfile(tmp_path / "plain" / name, base / name)
    # Nothing in the list teaches the chest, and this base has no head to keep for it.
    assert train_cells(tmp_path, "--versions", "0", "--role", "marks") == 1
    init_weights(base, plan, 1)
    assert train_cells(tmp_path, "--versions", "0") == 0
    out = tmp_path / "out"
    made = read_plan(out)
    assert (made.cells, made.gate, made.second_focus) == (replace(cells, case_calibration=None), 0.25, second)
    # They know the cells that they were fitted with.
    assert (made.finding_model, made.finding_from, made.look_from) == (None, 0.0, 0.0)
    assert (made.masses, made.liver_masses) == (None, None)
    assert (out / "second_focus.safetensors").read_bytes() == (base / "second_focus.safetensors").read_bytes()
    assert (out / "glance.safetensors").read_bytes() == (base / "glance.safetensors").read_bytes()
    learnt, before = load_cells(out), load_cells(base)
    assert torch.equal(learnt.head.middle.weight[0], before.head.middle.weight[0])
    assert not torch.equal(learnt.head.middle.weight[1], before.head.middle.weight[1])


@pytest.mark.slow
def test_goes_on_from_what_is_kept_and_makes_a_damaged_file_anew(tmp_path, base, data, monkeypatch, capsys):
    sizes = runs_of_the_trunk(monkeypatch)
    assert train_cells(tmp_path, "--versions", "0") == 0
    assert len(sizes) == 2  # A, and B, of which nobody knows what it holds
    first = (tmp_path / "out/glance.safetensors").read_bytes()
    assert train_cells(tmp_path, "--versions", "0") == 0
    assert len(sizes) == 2
    assert (tmp_path / "out/glance.safetensors").read_bytes() == first
    (kept,) = (tmp_path / "cache/cells").glob("A-cells-0-*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])
    capsys.readouterr()
    assert train_cells(tmp_path, "--versions", "0") == 0
    assert "damaged" in capsys.readouterr().err
    assert len(sizes) == 3
    assert (tmp_path / "out/glance.safetensors").read_bytes() == first
    change(data, lambda entries: [entries[0], {**entries[1], "lesion_free": True}])
    assert train_cells(tmp_path, "--versions", "0") == 0
    assert len(sizes) == 4  # B once more, now that somebody vouches for it
    assert (tmp_path / "out/glance.safetensors").read_bytes() != first


def test_time_that_is_over_leaves_out_what_is_not_kept(tmp_path, base, data, monkeypatch, capsys):
    assert train_cells(tmp_path, "--versions", "0", "--max-minutes", "1e-9") == 1
    assert "none of the 0 versions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert train_cells(tmp_path, "--versions", "0") == 0
    change(data, lambda entries: [entries[0], {**entries[1], "lesion_free": True}])
    assert train_cells(tmp_path, "--versions", "0", "--max-minutes", "1e-9") == 0
    assert "1 versions of scans were left out for lack of time" in capsys.readouterr().err
    assert read_manifest(tmp_path / "out").info["glance_cells"]["missing"] == 1


def test_a_scan_that_cannot_be_read_is_named_and_the_others_teach(tmp_path, base, data, capsys):
    change(data, lambda entries: [entries[0], {**entries[1], "lesion_free": True}])
    image = tmp_path / "imagesTr/B_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:4000])
    assert train_cells(tmp_path, "--versions", "0") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1
    assert "B_0000.nii.gz" in lines[0]
    assert read_manifest(tmp_path / "out").info["glance_cells"]["left_out"] == ["B"]


def test_as_a_policy_it_reads_each_sub_volume_once(tmp_path, base, data, monkeypatch, capsys):
    """The Focus is random: whatever it pays, its reading is kept, and the head is moved or it is said why not."""
    sizes = runs_of_the_trunk(monkeypatch)
    codes = [train_cells(tmp_path, "--versions", "0", "--objective", "grpo-detection") for _ in range(2)]
    assert len(sizes) == 3  # once for the cells of A and of B, once for the sub-volumes
    with np.load(next((tmp_path / "cache/cells").glob("A-sub_volumes-0-*.npz"))) as kept:
        rewards, counts = kept["rewards"], kept["counts"]
        assert kept["members"].max() < len(kept["features"])
    assert rewards[0, 0] == 1
    assert (rewards[rewards[:, 0] == 0] == 0).all()
    assert (counts > 0).all()
    if rewards[:, 1].any() and not rewards[:, 1].all():
        assert codes == [0, 0]
        assert read_manifest(tmp_path / "out").info["glance_gate"] == "grpo-detection"
    else:
        assert codes == [1, 1]
        assert "teach nothing" in capsys.readouterr().err


class TestBadInput:
    def refused(self, tmp_path, capsys, *more) -> str:
        code = train_cells(tmp_path, *more)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ERROR")]
        assert code in (1, 2)
        assert not (tmp_path / "out").exists()
        return line

    def test_marks_beside_a_glance_that_judges_cells(self, tmp_path, base, data, capsys):
        line = self.refused(tmp_path, capsys, "--role", "marks")
        assert line.endswith("has no Glance of sub-volumes, beside which cells could stand; use --role gate")

    def test_no_trunk(self, tmp_path, base, data, capsys):
        (base / TRUNK_FILE).unlink()
        line = self.refused(tmp_path, capsys)
        assert TRUNK_FILE in line
        assert "gfscreen trunk" in line

    def test_no_weights(self, tmp_path, data, capsys):
        assert "base" in self.refused(tmp_path, capsys)

    def test_no_scan_has_a_label(self, tmp_path, base, data, capsys):
        change(data, lambda entries: [entries[1]])
        assert "no training scan has a label" in self.refused(tmp_path, capsys)

    def test_no_lesion_in_any_label(self, tmp_path, base, data, capsys):
        path = tmp_path / "labelsTr/A.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros((100, 90, 44), np.uint8), nib.load(path).affine), path)
        assert "has a lesion" in self.refused(tmp_path, capsys, "--versions", "0")

    def test_a_region_that_nothing_teaches_and_no_trained_head_to_keep(self, tmp_path, base, data, capsys):
        torch.manual_seed(0)
        glance, focus = build_networks(PLAN)
        untrained = replace(read_plan(base), weights="untrained")
        save_weights(base, untrained, glance.state_dict(), focus.state_dict(), precision="keep")
        line = self.refused(tmp_path, capsys, "--versions", "0")
        assert "in the chest" in line
        assert "add annotated scans of the chest" in line

    def test_the_base_is_not_written_over(self, tmp_path, base, data, capsys):
        before = {path.name: path.read_bytes() for path in base.iterdir()}
        assert main(["train-cells", "--data", str(data), "--cache", str(tmp_path / "cache"), "--weights", str(base),
                     "-o", str(tmp_path / "x/../base")]) == 2  # fmt: skip
        assert "name another -o" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in base.iterdir()} == before

    @pytest.mark.parametrize("option", ["--versions", "--seed"])
    def test_negative_numbers(self, tmp_path, base, data, capsys, option):
        assert f"{option} must be at least 0, got -1" in self.refused(tmp_path, capsys, option, "-1")

    def test_lesion_free_with_a_label(self, tmp_path, base, data, capsys):
        change(data, lambda entries: [{**entries[0], "lesion_free": True}])
        line = self.refused(tmp_path, capsys)
        assert "training[0]" in line
        assert "lesion_free" in line


def test_cells_that_nobody_knows_teach_as_ordinary_ones_but_for_the_most_suspicious():
    """One feature tells lesion, one that unknown cells have alone is not known to be ordinary without them."""
    rng = np.random.default_rng(0)

    def cells(kind, shift, count=200):
        features = rng.normal(size=(count, 3)).astype(np.float16) + np.array(shift, np.float16)
        lesion = np.ones(count, np.int32) if kind == POSITIVE else np.zeros(count, np.int32)
        return ScanCells(
            features, np.zeros(count, np.int8), np.full(count, kind, np.int8), lesion,
            np.array(["real"]), np.array([1.0], np.float32),
        )  # fmt: skip

    known = [cells(POSITIVE, (3, 3, 0)), cells(NEGATIVE, (-3, -3, 0))]
    unknown = cells(UNKNOWN, (-3, 3, 0), 1000)
    unknown.features[:50] = np.array((8, 8, 0), np.float16)  # lesions, for all that anybody knows
    without, both = _fit_region(known, 0, 0.005), _fit_region([*known, unknown], 0, 0.005)
    ordinary, lesion = unknown.features[50:], unknown.features[:50]
    assert np.mean(without.logits(ordinary) < -2) < 0.5
    assert np.mean(both.logits(ordinary) < -2) > 0.9
    assert (both.logits(lesion) > 0).all()
    assert _fit_region([unknown], 0, 0.005) is None
    assert _fit_region([unknown, cells(NEGATIVE, (0, 0, 0))], 0, 0.005) is None


def test_the_gate_leaves_most_lesions_above_it():
    logits = np.linspace(-3, 3, 1000).astype(np.float32)
    gate = gate_of(logits)
    assert (1 / (1 + np.exp(-logits)) > gate).mean() == pytest.approx(0.977, abs=0.002)
    assert (1 / (1 + np.exp(-logits)) > gate).mean() >= 0.977
    assert gate_of(np.array([0.3], np.float32)) < 1 / (1 + np.exp(-0.3))


def test_the_key_changes_with_what_features_depend_on(tmp_path, base, data):
    lists = read_list(data)
    entry = lists.training[0]
    material = Material(lists, PLAN, CONFIG, base, "abc", tmp_path / "cache", Bank(), 0)
    key = material.key(entry, 0, ())
    assert material.key(entry, 0, ()) == key
    other_use = replace(CONFIG, case_calibration=(1.0, 0.0), role="marks")
    assert replace(material, config=other_use).key(entry, 0, ()) == key
    others = [
        replace(material, trunk_sha256="abd").key(entry, 0, ()),
        replace(material, seed=1).key(entry, 0, ()),
        replace(material, config=replace(CONFIG, trunk_blocks=2)).key(entry, 0, ()),
        material.key(replace(entry, lesion_free=True), 0, ()),
        material.key(entry, 1, ()),
        material.key(entry, 0, ("focus",)),
    ]
    assert len({key, *others}) == 7
