"""A Glance on a pretrained trunk in both engines: the same cells for any size; with its file, and without."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.config import Plan, read_plan
from gfscreen.errors import InputError, UsageError, WeightsError
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, GlanceConfig
from gfscreen.networks.engines.openvino import OpenVINOEngine
from gfscreen.networks.models.manifest import verify
from gfscreen.screening.budget import Budget
from gfscreen.screening.screening import screen
from tests.helpers.nifti_files import write_painted
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint, volume_of

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("openvino")

from gfscreen.networks.engines.export import export_openvino, is_current  # noqa: E402 - torch is optional
from gfscreen.networks.engines.select import find_export, load_engine  # noqa: E402
from gfscreen.networks.engines.torch import TorchEngine  # noqa: E402
from gfscreen.networks.models.cell_glance import CellHead  # noqa: E402
from gfscreen.networks.models.weights import build_networks, init_weights, load_cells, save_weights  # noqa: E402
from tests.helpers.trunk import LICENCE, random_state, write_trunk  # noqa: E402

PLAN = Plan(
    preset="tiny",
    spacing_mm=(4.0, 4.0, 4.0),
    sub_volume_voxels=(64, 32, 32),
    gate=0.3,
    mark_from=0.2,
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
    cells=CellGlanceConfig(trunk_blocks=1, case_calibration=(1.0, 0.0)),
)
SMALL_GLANCE = GlanceConfig(architecture="resnet10", stage_channels=(4, 8, 8, 16), first_stride=(2, 2, 1), shortcut="B")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny Focus, a random head on a trunk of random tensors, and their export."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    head, focus = build_networks(PLAN)
    assert isinstance(head, CellHead)
    save_weights(folder, PLAN, head.state_dict(), focus.state_dict(), precision="float32")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("gfscreen.networks.engines.export.NOMINAL_SIDE_VOXELS", 16)
        write_trunk(folder, random_state(1), 1, monkeypatch)
        export_openvino(folder, folder / "openvino")
        yield folder


@pytest.fixture(scope="module")
def fast(weights: Path) -> OpenVINOEngine:
    return OpenVINOEngine(weights / "openvino", precision="fp32", reason="for a test")


@pytest.fixture(scope="module")
def eager(weights: Path) -> TorchEngine:
    return TorchEngine(weights, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test")


@pytest.fixture
def without_trunk(weights: Path, tmp_path: Path) -> Path:
    """The same folder, its export included, on a machine that lacks the trunk."""
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    (folder / "trunk.safetensors").unlink()
    return folder


@pytest.mark.parametrize("size", [(8, 16, 16), (16, 32, 32), (24, 48, 16), (40, 16, 80)])
def test_both_engines_say_the_same_of_every_size(fast, eager, size):
    volume = np.random.default_rng(sum(size)).random(size, dtype=np.float32)
    found, expected = fast.cells(volume), eager.cells(volume)
    assert found.shape == expected.shape == (2, size[0] // 4, size[1] // 8, size[2] // 8)
    assert found.dtype == expected.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["fast", "eager"])
def test_what_is_not_finite_is_refused(request, which, value):
    volume = np.full((8, 16, 16), 0.5, np.float32)
    volume[3, 4, 5] = value
    with pytest.raises(InputError, match=r"finite numbers, 1 of 2048 voxels are not"):
        request.getfixturevalue(which).cells(volume)


def test_an_answer_is_not_overwritten_by_the_next(fast):
    first = fast.cells(np.zeros((8, 16, 16), np.float32))
    before = first.copy()
    fast.cells(np.ones((8, 16, 16), np.float32))
    np.testing.assert_array_equal(first, before)


def test_seconds_are_those_of_the_export(weights, fast):
    """A first pass over nothing would cost as much as it saves."""
    seconds = json.loads((weights / "openvino" / "manifest.json").read_text())["info"]["seconds"]
    assert (fast.info.glance_s, fast.info.focus_s) == (seconds["glance"], seconds["focus"])


def test_the_export_carries_the_licence_of_the_trunk(weights):
    assert (weights / "openvino" / "NOTICE").read_text() == LICENCE
    assert "NOTICE" in verify(weights / "openvino").sha256


def test_a_scan_is_screened_alike_by_both(weights, fast, eager):
    """Through both stages: the same suspicion, the same sub-volumes kept, the same mask but for ties."""
    hu = paint(PAINTED_SHAPE, PAINTED_AFFINE)[0]
    plan = read_plan(weights)
    found = [
        screen(volume_of(hu, PAINTED_AFFINE), replace(plan, gate=0.0001), engine, Budget(), keep_outputs=True)
        for engine in (fast, eager)
    ]
    assert found[0].suspicion == pytest.approx(found[1].suspicion, abs=1e-3)
    assert found[0].windows_done == found[1].windows_done > 0
    assert (found[0].mask != found[1].mask).mean() < 1e-3
    for result in found:
        assert result.complete
        assert result.network_outputs is not None
        assert result.network_outputs.cells is not None
        assert not np.isnan(result.network_outputs.cells.logit).any()


@pytest.fixture(scope="module")
def beside(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert PLAN.cells is not None
    plan = replace(PLAN, glance=SMALL_GLANCE, gate=0.01, mark_from=0.3, cells=replace(PLAN.cells, role="marks"))
    folder = tmp_path_factory.mktemp("beside")
    init_weights(folder, plan, 3)
    shutil.copyfile(weights / "trunk.safetensors", folder / "trunk.safetensors")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("gfscreen.networks.engines.export.NOMINAL_SIDE_VOXELS", 16)
        export_openvino(folder, folder / "openvino")
    return folder


@pytest.fixture(scope="module")
def engines(beside: Path) -> tuple[OpenVINOEngine, TorchEngine]:
    return (
        OpenVINOEngine(beside / "openvino", precision="fp32", reason="for a test"),
        TorchEngine(beside, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test"),
    )


class TestBesideAGlance:
    """Sub-volumes are judged by the preset's kind of Glance, and cells say where Focus may mark."""

    def test_both_engines_answer_for_sub_volumes_and_for_cells(self, engines):
        random = np.random.default_rng(5)
        batch, volume = random.random((2, 64, 32, 32), np.float32), random.random((16, 32, 48), np.float32)
        for ask, given, shape in (("glance", batch, (2,)), ("cells", volume, (2, 4, 4, 6))):
            found, expected = (getattr(engine, ask)(given) for engine in engines)
            assert found.shape == expected.shape == shape
            np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_files_and_seconds(self, beside, engines):
        assert {"cells.safetensors", "glance.safetensors", "focus.safetensors", "plan.json"} == set(
            verify(beside).sha256
        )
        assert {"cells.xml", "cells.bin", "NOTICE"} < set(verify(beside / "openvino").sha256)
        assert engines[0].info.cells_s > 0

    def test_a_head_keeps_its_precision(self, beside):
        from safetensors.torch import load_file

        assert {tensor.dtype for tensor in load_file(beside / "cells.safetensors").values()} == {torch.float32}
        assert {tensor.dtype for tensor in load_file(beside / "glance.safetensors").values()} == {torch.float16}

    def test_a_scan_is_screened_alike_by_both(self, beside, engines):
        hu = paint(PAINTED_SHAPE, PAINTED_AFFINE)[0]
        found = [
            screen(volume_of(hu, PAINTED_AFFINE), read_plan(beside), engine, Budget(), keep_outputs=True)
            for engine in engines
        ]
        assert found[0].suspicion == pytest.approx(found[1].suspicion, abs=1e-3)
        assert found[0].windows_done == found[1].windows_done > 0
        assert (found[0].mask != found[1].mask).mean() < 1e-3

    @pytest.mark.parametrize("engine", ["openvino", "torch"])
    def test_without_the_trunk_predict_says_what_is_missing(self, beside, tmp_path, engine, capsys, monkeypatch):
        monkeypatch.setenv("GFSCREEN_CACHE", str(tmp_path / "cache"))
        folder = tmp_path / "weights"
        shutil.copytree(beside, folder, ignore=shutil.ignore_patterns("openvino", "trunk.safetensors"))
        (tmp_path / "in").mkdir()
        write_painted(tmp_path / "in" / "a_0000.nii.gz")
        command = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", str(folder)]
        assert main(["-q", *command, "--engine", engine, "--device", "cpu"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ERROR: {folder}/trunk.safetensors: the Glance of these weights needs the pretrained")

    def test_a_damaged_head_is_refused(self, beside, tmp_path):
        folder = shutil.copytree(beside, tmp_path / "weights")
        (folder / "cells.safetensors").write_bytes(bytes((folder / "cells.safetensors").stat().st_size))
        with pytest.raises(WeightsError, match=r"cells\.safetensors: damaged"):
            load_engine(folder, device="cpu", engine="torch", precision="fp32", gpu_memory_limit_mb=None)


class TestWithoutTheTrunk:
    def test_a_current_export_needs_none(self, without_trunk, fast):
        assert find_export(without_trunk) == without_trunk / "openvino"
        engine = load_engine(without_trunk, device="cpu", engine="openvino", precision="fp32", gpu_memory_limit_mb=None)
        volume = np.random.default_rng(0).random((8, 32, 16), dtype=np.float32)
        np.testing.assert_array_equal(engine.cells(volume), fast.cells(volume))

    def test_nor_do_predict_and_its_report(self, without_trunk, tmp_path):
        (tmp_path / "in").mkdir()
        write_painted(tmp_path / "in" / "a_0000.nii.gz")
        command = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", str(without_trunk)]
        report = tmp_path / "report.json"
        assert main([*command, "--engine", "openvino", "--report", str(report)]) == 0
        case = json.loads(report.read_text())["cases"][0]
        assert 0.0 < case["suspicion"] < 1.0
        assert (tmp_path / "out" / "a.nii.gz").is_file()

    @pytest.mark.parametrize("engine", ["openvino", "torch"])
    def test_predict_says_what_is_missing(self, without_trunk, tmp_path, engine, capsys, monkeypatch):
        monkeypatch.setenv("GFSCREEN_CACHE", str(tmp_path / "cache"))
        shutil.rmtree(without_trunk / "openvino")
        (tmp_path / "in").mkdir()
        write_painted(tmp_path / "in" / "a_0000.nii.gz")
        command = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", str(without_trunk)]
        assert main(["-q", *command, "--engine", engine, "--device", "cpu"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines == [
            f"ERROR: {without_trunk}/trunk.safetensors: the Glance of these weights needs the pretrained trunk astra, "
            f"which is not there; make it with: gfscreen trunk --blocks 1 -o {without_trunk}/trunk.safetensors"
        ]
        assert not list((tmp_path / "out").glob("*"))
        assert not (without_trunk / "openvino").exists()

    def test_export_says_so_and_leaves_nothing(self, without_trunk, capsys):
        shutil.rmtree(without_trunk / "openvino")
        assert main(["-q", "export", "--weights", str(without_trunk)]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        assert not list(without_trunk.glob("*export*"))
        assert not (without_trunk / "openvino").exists()

    def test_info_knows_the_weights_and_the_plan(self, without_trunk, capsys):
        assert main(["info", "--json", "--weights", str(without_trunk)]) == 0
        told = json.loads(capsys.readouterr().out)["weights"]
        assert told["export"] == "current"
        assert told["plan"]["cells"]["trunk_blocks"] == 1
        assert is_current(without_trunk / "openvino", without_trunk)


class TestAssemble:
    def test_a_glance_on_cells_keeps_its_gate_and_needs_no_trunk(self, without_trunk, tmp_path):
        from safetensors.torch import load_file

        from gfscreen.training.learning.assemble import assemble

        fast_plan = replace(read_plan(without_trunk), preset="fast", weights="trained")
        torch.manual_seed(4)
        head, focus = build_networks(fast_plan)
        save_weights(tmp_path / "glance", fast_plan, head.state_dict(), focus.state_dict(), precision="float32")
        assemble([tmp_path / "glance"], [tmp_path / "glance"], tmp_path / "made")
        plan = read_plan(tmp_path / "made")
        assert (plan.cells, plan.gate, plan.mark_from) == (PLAN.cells, 0.3, 0.2)
        stored = load_file(tmp_path / "made" / "glance.safetensors")
        assert set(stored) == set(head.state_dict())
        np.testing.assert_allclose(stored["coarse.weight"].float(), head.state_dict()["coarse.weight"], atol=1e-3)
        assemble([tmp_path / "glance"], [tmp_path / "glance"], tmp_path / "made", gate=0.7)
        assert read_plan(tmp_path / "made").gate == 0.7

    def test_marks_stand_beside_another_glance(self, without_trunk, tmp_path):
        """Cells of either role; and whoever takes a Glance that has some beside it takes them along."""
        from safetensors.torch import load_file

        from gfscreen.training.learning.assemble import assemble

        assert PLAN.cells is not None
        plain = replace(read_plan(without_trunk), preset="fast", weights="trained", cells=None, mark_from=0.0)
        plain = replace(plain, glance=SMALL_GLANCE)
        init_weights(tmp_path / "plain", plain, 1)
        sources = [tmp_path / "plain"], [tmp_path / "plain"]
        assemble(*sources, tmp_path / "both", gate=0.125, marks=without_trunk)
        plan = read_plan(tmp_path / "both")
        assert plan.cells == replace(PLAN.cells, role="marks")
        assert (plan.gate, plan.mark_from, plan.glance) == (0.125, 0.2, SMALL_GLANCE)
        head = load_file(without_trunk / "glance.safetensors")
        for folder in ("both", "again", "named"):
            stored = load_file(tmp_path / folder / "cells.safetensors")
            assert all(torch.equal(stored[name], value) for name, value in head.items())
            if folder == "both":
                assemble(sources[0], [tmp_path / "both"], tmp_path / "again")
                assemble(*sources, tmp_path / "named", marks=tmp_path / "both")
        assert read_plan(tmp_path / "again").cells == read_plan(tmp_path / "named").cells == plan.cells

    def test_the_trunk_comes_along_where_it_is(self, weights, tmp_path):
        from gfscreen.training.learning.assemble import assemble

        plan = replace(read_plan(weights), preset="fast", weights="trained", cells=None, mark_from=0.0)
        init_weights(tmp_path / "plain", replace(plan, glance=SMALL_GLANCE), 1)
        assemble([tmp_path / "plain"], [tmp_path / "plain"], tmp_path / "made", marks=weights)
        assert (tmp_path / "made/trunk.safetensors").read_bytes() == (weights / "trunk.safetensors").read_bytes()
        assert load_cells(tmp_path / "made") is not None

    def test_marks_that_cannot_be(self, without_trunk, tmp_path):
        from gfscreen.training.learning.assemble import assemble

        plan = replace(read_plan(without_trunk), preset="fast", weights="trained")
        head, focus = build_networks(plan)
        save_weights(tmp_path / "cells", plan, head.state_dict(), focus.state_dict(), precision="float32")
        init_weights(tmp_path / "plain", replace(plan, cells=None, mark_from=0.0, glance=SMALL_GLANCE), 1)
        cells, plain = [tmp_path / "cells"], [tmp_path / "plain"]
        with pytest.raises(UsageError, match=r"--marks .*plain: has no cells; name weights that train-cells made"):
            assemble(plain, plain, tmp_path / "made", marks=plain[0])
        with pytest.raises(UsageError, match="a Glance that judges cells takes no other cells"):
            assemble(plain, cells, tmp_path / "made", marks=cells[0])
        assert not (tmp_path / "made").exists()
