"""`eval realism`: what is measured of a lesion, and a discriminator that tells what differs and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from eval.__main__ import main
from eval.tuning.realism import FOLDS, MEASURES, discriminate, measures

GRID_MM = (1.0, 1.0, 3.0)
SHAPE = (64, 64, 32)
RADIUS_MM = 12.0


def distance_mm() -> NDArray[np.float64]:
    return np.linalg.norm((np.moveaxis(np.indices(SHAPE), 0, -1) - (32, 32, 16)) * GRID_MM, axis=-1) - RADIUS_MM


def liver(fade_mm: float, noise_hu: float = 5.0, core_hu: float = 0.0, inner_noise_hu: float = 5.0):
    """A liver of 110 HU with a lesion of 70 that fades from 88 to 12 % over `fade_mm`."""
    distance = distance_mm()
    share = 1 / (1 + np.exp(4 * distance / fade_mm))
    hu = 110 - 40 * share + core_hu * (distance < -0.6 * RADIUS_MM)
    noise = np.random.default_rng(3).normal(0, np.where(distance < 0, inner_noise_hu, noise_hu))
    return (hu + noise).astype(np.int16), distance < 0


def measured(**how: float) -> dict[str, float]:
    values = measures(*liver(**how), GRID_MM)
    assert values is not None
    return dict(zip(MEASURES, values, strict=True))


class TestMeasures:
    def test_a_border_is_seen_fading(self):
        crisp, soft = measured(fade_mm=0.5), measured(fade_mm=6.0)
        # A tenth, for the outline runs between voxels.
        assert crisp["profile from 0 to 1.5 mm"] == pytest.approx(0.0, abs=0.12)
        assert 0.35 < soft["profile from 0 to 1.5 mm"] < 0.5
        assert crisp["profile from -5 to -3 mm"] == pytest.approx(1.0, abs=0.05)
        assert crisp["contrast"] == pytest.approx(1.0, abs=0.05)

    def test_grain_is_that_inside_against_that_outside(self):
        assert measured(fade_mm=1.0)["grain"] == pytest.approx(0.0, abs=0.15)
        assert measured(fade_mm=1.0, inner_noise_hu=10.0)["grain"] == pytest.approx(np.log(2), abs=0.15)

    def test_a_core_goes_the_way_of_the_lesion(self):
        assert measured(fade_mm=1.0)["core"] == pytest.approx(0.0, abs=0.1)
        # 20 HU darker where the lesion is 40 HU darker than the liver.
        assert measured(fade_mm=1.0, core_hu=-20.0)["core"] == pytest.approx(0.5, abs=0.1)

    def test_a_brighter_lesion_measures_as_a_darker_one_does(self):
        hu, mask = liver(fade_mm=3.0)
        upside_down = measures((220 - hu).astype(np.int16), mask, GRID_MM)
        as_it_is = measures(hu, mask, GRID_MM)
        assert upside_down is not None
        assert as_it_is is not None
        np.testing.assert_allclose(upside_down, as_it_is, atol=0.02)

    def test_nothing_of_what_lies_in_lung(self):
        hu, mask = liver(fade_mm=1.0)
        assert measures(np.where(mask, hu, -850).astype(np.int16), mask, GRID_MM) is None

    def test_nothing_of_what_is_too_small_or_no_lesion(self):
        hu, mask = liver(fade_mm=1.0)
        speck = ndimage.binary_erosion(mask, iterations=4)
        speck[:, :, :15] = False
        assert measures(hu, speck & (distance_mm() < -11), GRID_MM) is None
        assert measures(hu, np.zeros_like(mask), GRID_MM) is None


class TestDiscriminator:
    def lesions(self, rng: np.random.Generator, count: int, shift: float = 0.0) -> list[NDArray[np.float64]]:
        drawn = rng.normal(0, 1, (count, len(MEASURES)))
        drawn[:, 4] += shift
        return list(drawn)

    def test_what_is_alike_cannot_be_told(self):
        rng = np.random.default_rng(1)
        found = discriminate(self.lesions(rng, 60), self.lesions(rng, 60))["discriminator"]
        assert found["low"] < 0.5 < found["high"]

    def test_what_differs_is_told_and_by_what(self):
        rng = np.random.default_rng(1)
        found = discriminate(self.lesions(rng, 60, shift=3.0), self.lesions(rng, 60))
        assert found["discriminator"]["low"] > 0.85
        alone = found["measures"]
        assert max(alone, key=alone.get) == MEASURES[4]

    def test_a_wider_spread_is_told_too(self):
        """By the squares: half of the real ones lie on one side and half on the other."""
        rng = np.random.default_rng(1)
        real = [*self.lesions(rng, 40, shift=4.0), *self.lesions(rng, 40, shift=-4.0)]
        assert discriminate(real, self.lesions(rng, 80))["discriminator"]["low"] > 0.8


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        """Livers with four lesions each, and shapes to grow others from."""
        rng = np.random.default_rng(2)
        shape, affine = (100, 100, 44), np.diag([*GRID_MM, 1.0])
        entries = []
        for name in ("A", "B", "C"):
            label = np.zeros(shape, np.uint8)
            grid = np.moveaxis(np.indices(shape), 0, -1)
            for x in (30, 70):
                for y in (30, 70):
                    label[np.linalg.norm((grid - (x, y, 22)) * GRID_MM, axis=-1) < 9] = 1
            hu = ndimage.gaussian_filter(110.0 - 40 * label, (1, 1, 0.4)) + rng.normal(0, 8, shape)
            hu[:4], hu[-4:], hu[:, :4], hu[:, -4:] = -1000, -1000, -1000, -1000
            nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), tmp_path / f"{name}_0000.nii.gz")
            nib.save(nib.Nifti1Image(label, affine), tmp_path / f"{name}.nii.gz")
            entries.append({"image": f"{name}_0000.nii.gz", "label": f"{name}.nii.gz"})
        mask = np.linalg.norm(np.moveaxis(np.indices((21, 21, 9)), 0, -1) * (1, 1, 2.5) - (10, 10, 10), axis=-1) < 9
        (tmp_path / "shapes").mkdir()
        bits = np.packbits(mask)
        np.savez(
            tmp_path / "shapes/uls23_LiTS.npz", ids=["liver_0_lesion_01"], shape=[mask.shape], spacing=[[1, 1, 2.5]],
            label=[1], voxels=[mask.sum()], offset=[0, len(bits)], bits=bits,
        )  # fmt: skip
        content = {"name": "livers", "training": entries, "validation": [], "shapes": "shapes", "dev_percent": 0}
        (tmp_path / "list.json").write_text(json.dumps(content))
        return tmp_path

    def run(self, data: Path) -> int:
        arguments = ["--data", str(data / "list.json"), "--cache", str(data / "cache"), "-o", str(data / "out.json")]
        return main(["realism", *arguments])

    def test_as_many_inserted_ones_as_a_scan_has_of_its_own(self, data: Path):
        assert self.run(data) == 0
        found = json.loads((data / "out.json").read_text())
        assert found["real"] == {"A": 4, "B": 4, "C": 4}
        for kind in ("soft", "copied"):
            assert set(found[kind]["measures"]) == set(MEASURES)
            assert found[kind]["discriminator"]["with_lesion"] == 12
            assert 8 <= found[kind]["discriminator"]["without_lesion"] <= 12

    def test_too_few_lesions_is_told(self, data: Path, capsys: pytest.CaptureFixture[str]):
        content = json.loads((data / "list.json").read_text())
        content["training"] = content["training"][:1]
        (data / "list.json").write_text(json.dumps(content))
        assert self.run(data) == 2
        line = capsys.readouterr().err
        assert "4 real lesions" in line
        assert str(2 * FOLDS) in line
