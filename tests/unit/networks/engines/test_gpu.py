"""The memory cap, batches and fallbacks of the CUDA engine, with a card that is only numbers; no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gfscreen.config import Plan
from gfscreen.errors import EngineError
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.engines import gpu_memory
from gfscreen.networks.engines.gpu_memory import CONTEXT_MB, GpuMemory

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
MB = 2**20

PLAN = Plan(
    sub_volume_voxels=(64, 32, 32),
    glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
    # Windows of 4 in a grid of 32 x 16 x 16: the second block of stage one is shifted and has a mask.
    focus=FocusConfig(feature_size=12, depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 2), window_size=4),
)


class FakeCuda:
    """Stands in for `torch.cuda`: a card of 16,000 MB."""

    def __init__(self, allocated: float = 0.0, peak: float = 0.0, reserved: float = 0.0, free: float = 15000.0) -> None:
        self.allocated, self.peak, self.reserved, self.free = allocated, peak, reserved, free
        self.fraction: float | None = None
        self.calls: list[str] = []

    def set_device(self, index: Any) -> None:
        assert isinstance(index, int), "torch refuses a device without a number here"
        self.calls.append("set_device")

    def init(self) -> None:
        self.calls.append("init")

    def synchronize(self, _: Any) -> None:
        self.calls.append("synchronize")

    def get_device_properties(self, _: Any) -> Any:
        return SimpleNamespace(total_memory=16000 * MB)

    def set_per_process_memory_fraction(self, fraction: float, index: Any) -> None:
        assert isinstance(index, int), "torch refuses a device without a number here"
        self.fraction = fraction

    def mem_get_info(self, _: Any) -> tuple[float, float]:
        return self.free * MB, 16000 * MB

    def memory_allocated(self, _: Any) -> float:
        return self.allocated * MB

    def memory_reserved(self, _: Any) -> float:
        return self.reserved * MB

    def max_memory_allocated(self, _: Any) -> float:
        return self.peak * MB

    def max_memory_reserved(self, _: Any) -> float:
        return self.peak * MB

    def reset_peak_memory_stats(self, _: Any) -> None:
        self.calls.append("reset")


def memory(cuda: FakeCuda, limit_mb: float | None, monkeypatch: pytest.MonkeyPatch, used: list[Any]) -> GpuMemory:
    monkeypatch.setattr(gpu_memory, "card_used_mb", lambda _: used.pop(0))
    opened = GpuMemory(cuda, SimpleNamespace(index=0), limit_mb)
    opened.open()
    return opened


class TestCap:
    def test_the_context_is_counted_in(self, monkeypatch):
        # 500 MB were used before the context, 950 after: it has 450. 4096 - 450 - 200 for workspaces = 3446 of 16000.
        cuda = FakeCuda()
        assert memory(cuda, 4096.0, monkeypatch, [500.0, 950.0]).context_mb == 450.0
        assert cuda.fraction == pytest.approx(3446 / 16000)

    @pytest.mark.parametrize("used", [[None, None], [500.0, None], [500.0, 400.0]])
    def test_an_allowance_where_it_cannot_be_measured(self, monkeypatch, used):
        cuda = FakeCuda()
        assert memory(cuda, 4096.0, monkeypatch, used).context_mb is None
        assert cuda.fraction == pytest.approx((4096 - CONTEXT_MB) / 16000)

    def test_a_limit_below_the_context(self, monkeypatch):
        with pytest.raises(EngineError, match=r"--gpu-memory-limit 600: the CUDA context alone takes about 650 MB"):
            memory(FakeCuda(), 600.0, monkeypatch, [0.0, 450.0])

    def test_no_limit(self, monkeypatch):
        cuda = FakeCuda()
        memory(cuda, None, monkeypatch, [0.0, 450.0])
        assert cuda.fraction is None

    def test_a_limit_above_the_card(self, monkeypatch):
        cuda = FakeCuda()
        memory(cuda, 64000.0, monkeypatch, [0.0, 450.0])
        assert cuda.fraction == 1.0


class TestBatch:
    def test_from_the_peak_of_one(self, monkeypatch):
        # Of 3446 MB 146 are weights; one sub-volume took 405 more. 85 % of 3300 MB are 2805, six of them.
        cuda = FakeCuda(allocated=146.0, peak=551.0)
        assert memory(cuda, 4096.0, monkeypatch, [0.0, 450.0]).batch_after(146.0, 1, 8) == 6

    def test_no_more_than_is_useful_and_at_least_one(self, monkeypatch):
        opened = memory(FakeCuda(allocated=146.0, peak=150.0), 4096.0, monkeypatch, [0.0, 450.0])
        assert opened.batch_after(146.0, 1, 8) == 8
        opened = memory(FakeCuda(allocated=146.0, peak=4000.0), 4096.0, monkeypatch, [0.0, 450.0])
        assert opened.batch_after(146.0, 1, 8) == 1

    def test_what_others_have_taken_of_the_card(self, monkeypatch):
        # 1000 MB are free on the card: 850 / 405 are two, whatever the limit says.
        cuda = FakeCuda(allocated=146.0, peak=551.0, reserved=146.0, free=1000.0)
        assert memory(cuda, 4096.0, monkeypatch, [0.0, 450.0]).batch_after(146.0, 1, 8) == 2

    def test_peak_with_the_context(self, monkeypatch):
        assert memory(FakeCuda(peak=1000.0), None, monkeypatch, [0.0, 450.0]).peak_mb() == 1450.0
        assert memory(FakeCuda(peak=1000.0), None, monkeypatch, [None, None]).peak_mb() == 1000.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gfscreen.networks.models.weights import init_weights

    folder = tmp_path_factory.mktemp("tiny")
    init_weights(folder, PLAN, 0)
    return folder


@pytest.fixture
def engine(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CUDA engine that has not touched its GPU."""
    from gfscreen.networks.engines.torch import TorchEngine

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setattr("gfscreen.networks.engines.torch.keep_large_buffers", lambda: None)
    made = TorchEngine(weights, device="cuda", precision="auto", gpu_memory_limit_mb=4096.0, reason="for a test")
    made._memory = GpuMemory(FakeCuda(allocated=146.0, peak=551.0), torch.device("cuda"), 4096.0)
    return made


def on_card(engine: Any, monkeypatch: pytest.MonkeyPatch, fits: int, error: Exception | None = None) -> list[int]:
    """Let batches of up to `fits` run on the card; returns the sizes that were tried. On the CPU all is as it is."""
    real, sizes = engine._forward, []
    monkeypatch.setattr(gpu_memory, "card_used_mb", lambda _: None)

    def forward(name: str, batch: np.ndarray) -> np.ndarray:
        if engine._memory is None:
            return real(name, batch)
        if not engine._opened:
            engine._memory.open()
            engine._opened = True
        sizes.append(len(batch))
        if len(batch) > fits:
            raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return batch if name == "focus" else batch[:, 0, 0, 0]

    monkeypatch.setattr(engine, "_forward", forward)
    return sizes


def patches(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 64, 32, 32), dtype=np.float32)


class TestEngine:
    def test_the_gpu_is_touched_by_the_first_batch_only(self, engine, monkeypatch):
        assert (engine._opened, engine.peak_gpu_mb(), engine.info.precision) == (False, None, "fp16")
        engine.release()
        assert {p.device.type for network in engine._networks.values() for p in network.parameters()} == {"cpu"}
        on_card(engine, monkeypatch, 8)
        engine.glance(patches(1))
        assert engine._opened
        assert engine.peak_gpu_mb() == 551.0

    def test_batches_grow_to_what_fits(self, engine, monkeypatch):
        assert (engine.glance_batch, engine.focus_batch) == (1, 1)
        on_card(engine, monkeypatch, 8)
        # 4096 - 700 - 146 = 3250 MB; 85 % of it hold 551 - 146 = 405 MB six times. Not more than doubled at once.
        for size, expected in ((1, 2), (2, 4), (4, 6), (6, 6)):
            engine.focus(patches(size))
            assert (engine.glance_batch, engine.focus_batch) == (1, expected)
        engine.glance(patches(1))
        assert engine.glance_batch == 2

    def test_out_of_memory_halves_the_batch_of_both(self, engine, monkeypatch):
        sizes = on_card(engine, monkeypatch, 1)
        engine._fits = {"glance": 16, "focus": 8}
        engine.glance_batch = engine.focus_batch = 4
        batch = patches(4)
        np.testing.assert_array_equal(engine.focus(batch), batch)
        assert sizes == [4, 2, 1, 1, 2, 1, 1]
        assert (engine.glance_batch, engine.focus_batch, engine.info.device) == (1, 1, "cuda")

    @pytest.mark.parametrize(
        "error",
        [None, RuntimeError("CUDA error: an illegal memory access"), EngineError("--gpu-memory-limit 100: raise it")],
    )
    def test_what_does_not_fit_at_all_is_computed_on_the_cpu(self, engine, weights, monkeypatch, error, caplog):
        from gfscreen.networks.engines.torch import TorchEngine

        on_card(engine, monkeypatch, 0, error)
        batch = patches(2)
        with caplog.at_level("WARNING", "gfscreen"):
            found = engine.focus(batch)
        cpu = TorchEngine(weights, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test")
        np.testing.assert_allclose(found, cpu.focus(batch), atol=1e-6)
        assert (engine.info.device, engine.info.precision, engine.focus_batch) == ("cpu", "fp32", 1)
        assert "fell back to the CPU" in engine.info.reason
        assert any("the GPU cannot go on" in record.getMessage() for record in caplog.records)
        np.testing.assert_allclose(engine.glance(batch), cpu.glance(batch), atol=1e-6)
        assert engine.peak_gpu_mb() is None

    def test_faults_of_ours_are_not_taken_for_the_gpus(self, engine, monkeypatch):
        on_card(engine, monkeypatch, 0, RuntimeError("shapes do not match"))
        with pytest.raises(RuntimeError, match="shapes"):
            engine.focus(patches(1))
        assert engine.info.device == "cuda"


class TestFusedAttention:
    """On the CPU: the fused call against MONAI's explicit one in fp32."""

    @pytest.fixture
    def pair(self) -> tuple[Any, Any]:
        """Two equal networks, one of them fused, with attention that matters: biases are drawn, not zero."""
        from monai.networks.nets.swin_unetr import WindowAttention

        from gfscreen.networks.models.attention import FusedWindowAttention, fuse_attention
        from gfscreen.networks.models.focus import FocusProbability, build_focus

        torch.manual_seed(1)
        explicit = build_focus(PLAN.focus)
        for module in explicit.modules():
            if isinstance(module, WindowAttention):
                torch.nn.init.normal_(module.relative_position_bias_table, std=1.0)
        fused = build_focus(PLAN.focus)
        fused.load_state_dict(explicit.state_dict())
        fuse_attention(fused)
        assert sum(isinstance(module, FusedWindowAttention) for module in fused.modules()) == sum(PLAN.focus.depths)
        assert fused.state_dict().keys() == explicit.state_dict().keys()
        return FocusProbability(explicit).eval(), FocusProbability(fused).eval()

    def test_equal_in_single_precision(self, pair):
        x = torch.rand(2, 1, 64, 32, 32)
        with torch.inference_mode():
            expected, found = (network(x) for network in pair)
        assert expected.std() > 0.01
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_half_precision_stays_half_and_gives_the_mask(self, pair):
        import torch.nn.functional as F

        types: set[Any] = set()
        real = F.scaled_dot_product_attention

        def watched(q: Any, k: Any, v: Any, attn_mask: Any, scale: float) -> Any:
            types.update({q.dtype, attn_mask.dtype})
            return real(q, k, v, attn_mask=attn_mask, scale=scale)

        x = torch.rand(1, 1, 64, 32, 32)
        explicit, fused = pair
        with torch.inference_mode():
            expected = explicit(x)
            with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
                patch.setattr(F, "scaled_dot_product_attention", watched)
                found = fused(x)
        assert types == {torch.bfloat16}
        assert (found - expected).abs().mean() < 0.02
        clear = (expected - 0.5).abs() > 0.05
        assert clear.float().mean() > 0.3
        assert ((found > 0.5) == (expected > 0.5))[clear].float().mean() > 0.995
