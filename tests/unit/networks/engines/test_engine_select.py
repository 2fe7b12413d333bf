"""Which engine is chosen, why, and what is verified before it runs; and the engines on networks of a few operations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen.config import Plan
from gfscreen.errors import EngineError, InputError, UsageError, WeightsError
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.engines import select
from gfscreen.networks.engines.openvino import FOCUS_MODEL, GLANCE_MODEL, OpenVINOEngine, precision_of
from gfscreen.networks.engines.select import find_export, load_engine, resolve_device
from gfscreen.networks.models.manifest import read_manifest, write_manifest
from tests.helpers.cpus import has_bf16
from tests.helpers.runs import write_plan


def machine(monkeypatch: pytest.MonkeyPatch, *packages: str, driver: bool = False) -> None:
    """Pretend that only these packages are installed, and that a CUDA driver answers or not."""
    monkeypatch.setattr(select, "installed", lambda package: package in packages)
    monkeypatch.setattr(select, "cuda_driver_present", lambda: driver)


class TestChoice:
    @pytest.mark.parametrize(
        ("packages", "driver", "device", "engine", "chosen", "because"),
        [
            (("torch", "openvino"), True, "auto", "auto", ("torch", "cuda"), "NVIDIA driver with a device answers"),
            (("torch", "openvino"), False, "auto", "auto", ("openvino", "cpu"), "no usable NVIDIA device; OpenVINO"),
            (("openvino",), True, "auto", "auto", ("openvino", "cpu"), "no usable NVIDIA device"),
            (("torch",), False, "auto", "auto", ("torch", "cpu"), "OpenVINO is not installed"),
            (("torch", "openvino"), True, "cpu", "auto", ("openvino", "cpu"), "asked for by --device; OpenVINO"),
            (("torch", "openvino"), True, "cpu", "torch", ("torch", "cpu"), "torch: asked for by --engine"),
            (("torch", "openvino"), True, "auto", "openvino", ("openvino", "cpu"), "OpenVINO"),
            (("torch", "openvino"), False, "cuda", "auto", ("torch", "cuda"), "asked for by --device"),
            (("torch",), True, "cuda:1", "torch", ("torch", "cuda:1"), "asked for by --device"),
        ],
    )
    def test_by_device_engine_and_machine(self, monkeypatch, packages, driver, device, engine, chosen, because):
        machine(monkeypatch, *packages, driver=driver)
        name, resolved, reason = resolve_device(device, engine)
        assert (name, resolved) == chosen
        assert because in reason

    @pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", "", "CPU"])
    def test_unknown_device_is_wrong_usage(self, monkeypatch, device):
        machine(monkeypatch, "torch", "openvino")
        with pytest.raises(UsageError, match=f"--device {device}: expected auto, cpu, cuda or cuda:N"):
            resolve_device(device, "auto")

    def test_openvino_on_a_gpu_is_wrong_usage(self, monkeypatch):
        machine(monkeypatch, "torch", "openvino", driver=True)
        with pytest.raises(UsageError, match="openvino runs on the CPU only"):
            resolve_device("cuda", "openvino")

    def test_unknown_engine_is_wrong_usage(self, monkeypatch):
        machine(monkeypatch, "torch", "openvino")
        with pytest.raises(UsageError, match="--engine onnx"):
            resolve_device("cpu", "onnx")

    @pytest.mark.parametrize(
        ("packages", "device", "engine", "said"),
        [
            (("openvino",), "cuda", "auto", "torch is not installed"),
            (("torch",), "cpu", "openvino", "OpenVINO is not installed"),
            ((), "auto", "auto", "neither OpenVINO nor torch is installed"),
        ],
    )
    def test_what_is_not_installed(self, monkeypatch, packages, device, engine, said):
        machine(monkeypatch, *packages)
        with pytest.raises(EngineError, match=said):
            resolve_device(device, engine)

    def test_the_driver_is_asked_without_torch(self):
        assert select.cuda_driver_present() in (True, False)


def weights_folder(folder: Path) -> Path:
    """Looks like weights to everything that does not load them."""
    write_plan(folder)
    for name in ("glance.safetensors", "focus.safetensors"):
        (folder / name).write_bytes(name.encode())
    write_manifest(folder, ["plan.json", "glance.safetensors", "focus.safetensors"], {})
    return folder


def resident_mb() -> float:
    """Memory of this process that is resident, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def export_folder(folder: Path, weights: Path, copies: int = 1) -> Path:
    """Networks of one operation: the brightest voxel as suspicion, the patch itself as outline; 32 x 32 x 32.

    With copies the way there goes through so many of the patch, 128 KiB each.
    """
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    def many(x: Any) -> Any:
        return ops.tile(x, np.array([1, copies, 1, 1, 1]))

    folder.mkdir(parents=True)
    x = ops.parameter([1, 1, 32, 32, 32], np.float32)
    openvino.save_model(openvino.Model([ops.reduce_max(many(x), [1, 2, 3, 4])], [x]), folder / GLANCE_MODEL)
    x = ops.parameter([1, 1, 32, 32, 32], np.float32)
    openvino.save_model(openvino.Model([ops.reduce_max(many(x), [1])], [x]), folder / FOCUS_MODEL)
    names = [path.name for path in folder.iterdir()]
    write_manifest(folder, names, {"weights_digest": read_manifest(weights).digest})
    return folder


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GFSCREEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path, cache: Path) -> Path:
    return weights_folder(tmp_path / "weights")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where exports would have been made; none is."""
    made: list[Path] = []

    def pretend(weights: Path, target: Path) -> Path:
        made.append(target)
        return target

    monkeypatch.setattr("gfscreen.networks.engines.export.export_openvino", pretend)
    return made


class TestExports:
    def test_that_beside_the_weights_is_taken(self, weights, exports):
        made = export_folder(weights / "openvino", weights)
        assert find_export(weights) == made
        assert exports == []

    def test_that_in_the_cache_is_taken(self, weights, exports, cache):
        made = export_folder(cache / "openvino" / read_manifest(weights).digest[:16], weights)
        assert find_export(weights) == made
        assert exports == []

    def test_without_one_it_is_made_beside_the_weights(self, weights, exports):
        find_export(weights)
        assert exports == [weights / "openvino"]

    def test_in_the_cache_where_the_weights_are_read_only(self, weights, exports, cache, monkeypatch):
        monkeypatch.setattr(select.os, "access", lambda *_: False)
        find_export(weights)
        assert exports == [cache / "openvino" / read_manifest(weights).digest[:16]]

    def test_that_of_other_weights_is_made_anew(self, weights, exports):
        export_folder(weights / "openvino", weights)
        (weights / "glance.safetensors").write_bytes(b"trained on")
        write_manifest(weights, ["plan.json", "glance.safetensors", "focus.safetensors"], {})
        find_export(weights)
        assert exports == [weights / "openvino"]

    def test_damaged_weights_are_not_exported(self, weights, exports):
        (weights / "focus.safetensors").write_bytes(b"x")
        with pytest.raises(WeightsError, match=r"focus.safetensors: damaged"):
            find_export(weights)
        assert exports == []

    @pytest.mark.parametrize("damage", ["a network", "its manifest", "a missing file"])
    def test_a_damaged_one_in_the_cache_is_made_anew(self, weights, exports, cache, damage, monkeypatch):
        monkeypatch.setattr(select.os, "access", lambda *_: False)
        made = export_folder(cache / "openvino" / read_manifest(weights).digest[:16], weights)
        if damage == "its manifest":
            (made / "manifest.json").write_text("{")
        elif damage == "a network":
            (made / "focus.bin").write_bytes(b"x" * (made / "focus.bin").stat().st_size)
        else:
            (made / GLANCE_MODEL).unlink()
        assert find_export(weights) == made
        assert exports == [made]


class TestOpenVINOEngine:
    @pytest.fixture
    def engine(self, weights: Path) -> OpenVINOEngine:
        folder = export_folder(weights / "openvino", weights)
        return OpenVINOEngine(folder, precision="fp32", reason="for a test")

    def test_shapes_types_and_values(self, engine):
        batch = np.random.default_rng(0).random((3, 32, 32, 32), dtype=np.float32)
        suspicion, outline = engine.glance(batch), engine.focus(batch)
        assert (suspicion.shape, suspicion.dtype) == ((3,), np.float32)
        assert (outline.shape, outline.dtype) == ((3, 32, 32, 32), np.float32)
        np.testing.assert_allclose(suspicion, batch.max(axis=(1, 2, 3)))
        np.testing.assert_allclose(outline, batch)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("stage", ["glance", "focus"])
    def test_what_is_not_finite_is_refused(self, engine, stage, value):
        batch = np.full((2, 32, 32, 32), 0.5, np.float32)
        batch[1, 3, 4, 5] = value
        with pytest.raises(
            InputError, match=r"finite numbers, 1 of 65536 voxels are not; .* please report it"
        ) as caught:
            getattr(engine, stage)(batch)
        assert "\n" not in str(caught.value)

    def test_an_answer_is_not_overwritten_by_the_next(self, engine):
        first = engine.focus(np.full((1, 32, 32, 32), 0.25, np.float32))
        engine.focus(np.full((1, 32, 32, 32), 0.75, np.float32))
        assert (first == 0.25).all()

    @pytest.mark.parametrize("stage", ["glance", "focus"])
    def test_memory_that_was_computed_in_is_given_back(self, weights, stage):
        """Both networks go by way of 128 MB here; released they hold none, and answer as before.

        In a process of its own: where torch has trained, the allocator keeps what is given back to it.
        """
        folder = export_folder(weights / "openvino", weights, copies=1024)
        script = (
            "import pathlib, sys, numpy as np\n"
            "from gfscreen.networks.engines.openvino import OpenVINOEngine\n"
            "from tests.unit.networks.engines.test_engine_select import resident_mb\n"
            "engine = OpenVINOEngine(pathlib.Path(sys.argv[1]), precision='fp32', reason='for a test')\n"
            "engine.release()  # Focus may still be compiled\n"
            "batch = np.random.default_rng(0).random((1, 32, 32, 32), dtype=np.float32)\n"
            "glance = sys.argv[2] == 'glance'\n"
            "ask, release = (engine.glance, engine.release_glance) if glance else (engine.focus, engine.release)\n"
            "engine.focus(batch)\n"
            "engine.release()\n"
            "before = resident_mb()\n"
            "first = ask(batch)\n"
            "held = resident_mb()\n"
            "release()\n"
            "after = resident_mb()\n"
            "assert held - before > 100, (before, held, after)\n"
            "assert held - after > 100, (before, held, after)\n"
            "np.testing.assert_array_equal(ask(batch), first)\n"
        )
        root = Path(__file__).parents[4]
        subprocess.run([sys.executable, "-c", script, folder, stage], cwd=root, timeout=300, check=True)

    def test_says_what_it_is(self, engine):
        assert (engine.info.name, engine.info.device, engine.info.precision) == ("openvino", "cpu", "fp32")
        assert engine.peak_gpu_mb() is None

    def test_seconds_are_measured_and_scaled_by_those_of_the_export(self, engine, weights):
        assert engine.info.glance_s > 0
        assert engine.info.focus_s is None  # this export says nothing of seconds
        folder = weights / "openvino"
        seconds = {"weights_digest": read_manifest(weights).digest, "seconds": {"glance": 0.1, "focus": 0.7}}
        write_manifest(folder, [path.name for path in folder.iterdir() if path.name != "manifest.json"], seconds)
        info = OpenVINOEngine(folder, precision="fp32", reason="for a test").info
        assert info.focus_s == pytest.approx(7.0 * info.glance_s)

    def test_bf16_only_where_the_cpu_has_it(self, weights):
        folder = export_folder(weights / "openvino", weights)

        class Cpu:
            def __init__(self, *names: str) -> None:
                self.names = names

            def get_property(self, *_: str) -> tuple[str, ...]:
                return self.names

        modern, older = Cpu("FP32", "BF16"), Cpu("FP32", "INT8")
        assert [precision_of(modern, wanted) for wanted in ("auto", "bf16", "fp32")] == ["bf16", "bf16", "f32"]
        assert [precision_of(older, wanted) for wanted in ("auto", "fp32")] == ["f32", "f32"]
        with pytest.raises(UsageError, match="this CPU does not compute in bfloat16"):
            precision_of(older, "bf16")
        expected = "bf16" if has_bf16() else "fp32"
        assert OpenVINOEngine(folder, precision="auto", reason="r").info.precision == expected

    def test_a_signal_after_engines_came_and_went(self, weights):
        """In a process of its own, which a stale signal stack would end with 139."""
        folder = export_folder(weights / "openvino", weights)
        script = (
            "import os, pathlib, signal, sys\n"
            "from gfscreen.networks.engines.openvino import OpenVINOEngine\n"
            "for _ in range(3):\n"
            "    engine = OpenVINOEngine(pathlib.Path(sys.argv[1]), precision='fp32', reason='test')\n"
            "    del engine\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
            "os.kill(os.getpid(), signal.SIGTERM)\n"
        )
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script, folder], timeout=300, check=False)
        assert done.returncode == 7

    def test_focus_that_cannot_be_compiled_is_said_when_it_is_needed(self, weights):
        folder = export_folder(weights / "openvino", weights)
        (folder / FOCUS_MODEL).write_text("<net></net>")
        write_manifest(folder, [path.name for path in folder.iterdir() if path.name != "manifest.json"], {})
        engine = OpenVINOEngine(folder, precision="fp32", reason="for a test")
        patch = np.full((1, 32, 32, 32), 0.5, np.float32)
        assert engine.glance(patch) == [0.5]
        with pytest.raises(EngineError, match="OpenVINO cannot load the networks"):
            engine.focus(patch)

    def test_views_of_a_larger_array(self, engine):
        batch = np.random.default_rng(0).random((1, 64, 32, 32), dtype=np.float32)[:, ::2]
        np.testing.assert_allclose(engine.focus(batch), batch)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads; the engine itself asks for all of them."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.set_num_threads", lambda _: None)
        patch.setattr("gfscreen.networks.engines.torch.keep_large_buffers", lambda: None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = pytest.importorskip("gfscreen.networks.models.weights")
    plan = Plan(
        sub_volume_voxels=(64, 32, 32),
        glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
        focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    )
    folder = tmp_path_factory.mktemp("tiny")
    weights.init_weights(folder, plan, 0)
    return folder


@pytest.mark.usefixtures("one_thread")
class TestTorchEngine:
    def engine(self, weights: Path, device: str = "cpu", **options: Any) -> Any:
        from gfscreen.networks.engines.torch import TorchEngine

        return TorchEngine(weights, device=device, precision="fp32", gpu_memory_limit_mb=None, reason="r", **options)

    def test_shapes_types_and_batches(self, tiny):
        engine = self.engine(tiny)
        assert (engine.info.name, engine.info.device, engine.info.precision) == ("torch", "cpu", "fp32")
        batch = np.random.default_rng(0).random((2, 64, 32, 32), dtype=np.float32)
        suspicion, outline = engine.glance(batch), engine.focus(batch)
        assert (suspicion.shape, suspicion.dtype) == ((2,), np.float32)
        assert (outline.shape, outline.dtype) == ((2, 64, 32, 32), np.float32)
        assert min(suspicion.min(), outline.min()) >= 0.0
        assert max(suspicion.max(), outline.max()) <= 1.0
        engine.release()
        # One by one they are the same: nothing of a batch leaks into its neighbours.
        np.testing.assert_allclose(engine.glance(batch[1:]), suspicion[1:], atol=1e-6)
        np.testing.assert_allclose(engine.focus(batch[1:]), outline[1:], atol=1e-5)
        assert engine.peak_gpu_mb() is None

    @pytest.mark.parametrize("stage", ["glance", "focus"])
    def test_what_is_not_finite_is_refused(self, tiny, stage):
        batch = np.zeros((1, 64, 32, 32), np.float32)
        batch[0, 3, 4, 5] = np.nan
        with pytest.raises(InputError, match="1 of 65536 voxels are not"):
            getattr(self.engine(tiny), stage)(batch)

    def test_a_gpu_that_is_not_there(self, tiny, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(EngineError, match=r"--device cuda: no usable CUDA device .* use --device cpu"):
            self.engine(tiny, "cuda")

    def test_out_of_memory_halves_the_batch_and_remembers(self, tiny, monkeypatch):
        import torch

        engine = self.engine(tiny)
        engine.focus_batch = 4
        sizes: list[int] = []

        def crowded(name: str, batch: np.ndarray) -> np.ndarray:
            sizes.append(len(batch))
            if len(batch) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return batch

        monkeypatch.setattr(engine, "_forward", crowded)
        batch = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
        np.testing.assert_array_equal(engine.focus(batch), batch)
        assert sizes == [4, 2, 1, 1, 2, 1, 1]
        assert engine.focus_batch == 1

    def test_out_of_memory_with_a_single_sub_volume_is_an_error(self, tiny, monkeypatch):
        import torch

        engine = self.engine(tiny)

        def full(*_: Any) -> None:
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(engine, "_forward", full)
        with pytest.raises(torch.OutOfMemoryError):
            engine.focus(np.zeros((1, 4, 4, 4), np.float32))


class TestVerifiedBeforeLoading:
    def load(self, weights: Path, **options: Any) -> Any:
        settings = {"device": "cpu", "engine": "openvino", "precision": "fp32", "gpu_memory_limit_mb": None}
        return load_engine(weights, **{**settings, **options})

    def test_intact(self, weights):
        export_folder(weights / "openvino", weights)
        assert self.load(weights).info.name == "openvino"

    @pytest.mark.parametrize("name", [GLANCE_MODEL, "focus.bin"])
    def test_a_damaged_export(self, weights, name):
        folder = export_folder(weights / "openvino", weights)
        (folder / name).write_bytes(b"x" * (folder / name).stat().st_size)
        with pytest.raises(WeightsError, match=rf"openvino/{name}: damaged, the manifest says sha256"):
            self.load(weights)

    def test_a_changed_plan(self, weights):
        export_folder(weights / "openvino", weights)
        plan = json.loads((weights / "plan.json").read_text())
        (weights / "plan.json").write_text(json.dumps({**plan, "gate": 0.1}))
        with pytest.raises(WeightsError, match=r"plan.json: damaged"):
            self.load(weights)

    def test_an_export_that_openvino_cannot_read(self, weights):
        folder = export_folder(weights / "openvino", weights)
        (folder / GLANCE_MODEL).write_text("<net></net>")
        names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
        write_manifest(folder, names, {"weights_digest": read_manifest(weights).digest})
        with pytest.raises(EngineError, match="OpenVINO cannot load the networks") as caught:
            self.load(weights)
        assert "\n" not in str(caught.value)

    def test_wrong_usage_comes_before_missing_weights(self, tmp_path):
        with pytest.raises(UsageError):
            self.load(tmp_path / "none", device="gpu")
