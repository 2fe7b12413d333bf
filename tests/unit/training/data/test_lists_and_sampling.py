"""Lists and their errors, the split by patient, the cache on the model grid, sampling, settings."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from gfscreen.config import preset_plan
from gfscreen.errors import InputError, UsageError
from gfscreen.training.data.cache import Scan, load_scan, prepare_scan
from gfscreen.training.data.lists import on_dev_side, read_list
from gfscreen.training.data.places import deep_lung_points
from gfscreen.training.data.sampling import PatchSampler, Source
from gfscreen.training.objectives import IGNORE
from gfscreen.training.settings import Mix, settings_from
from gfscreen.training.synthesis.augmentation import distort
from gfscreen.training.synthesis.lesion_bank import Shape
from gfscreen.training.synthesis.tissue import LUNG, SOFT, tissue_map

SHAPE, SPACING = (120, 100, 40), (1.5, 1.5, 3.0)
PLAN = preset_plan("fast")


def body_hu():
    """An ellipse of soft tissue in air, with a brighter lesion of 12 x 12 x 5 voxels."""
    hu = np.full(SHAPE, -1000, np.int16)
    i, j = np.indices(SHAPE[:2])
    hu[((i - 60) / 50) ** 2 + ((j - 50) / 40) ** 2 <= 1] = 60
    hu[70:82, 50:62, 18:23] = 120
    return hu


def write(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(array, affine), path)


def label_array():
    label = np.zeros(SHAPE, np.uint8)
    label[70:82, 50:62, 18:23] = 1
    return label


@pytest.fixture
def folder(tmp_path):
    """Two cases and their list; the second is the validation side."""
    for name in ("A", "B"):
        write(tmp_path / f"imagesTr/{name}_0000.nii.gz", body_hu())
        write(tmp_path / f"labelsTr/{name}.nii.gz", label_array())
    item = [{"image": f"imagesTr/{n}_0000.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in ("A", "B")]
    (tmp_path / "list.json").write_text(json.dumps({"training": item[:1], "validation": item[1:]}))
    return tmp_path


def change(folder, **keys):
    path = folder / "list.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return path


class TestList:
    def test_reads(self, folder):
        data = read_list(folder / "list.json")
        assert [e.name for e in data.training] == ["A"]
        assert [e.patient for e in data.validation] == ["B"]

    def test_folder_with_a_list(self, folder):
        (folder / "list.json").rename(folder / "dataset.json")
        assert [e.name for e in read_list(folder).validation] == ["B"]

    @pytest.mark.parametrize("value", ["yes", 1])
    def test_phantom_is_true_or_left_out(self, folder, value):
        content = json.loads((folder / "list.json").read_text())
        content["training"][0]["phantom"] = value
        (folder / "list.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="phantom is"):
            read_list(folder / "list.json")

    def test_folder_without_a_list_trains_on_all(self, folder):
        (folder / "imagesTr").rename(folder / "images")
        (folder / "labelsTr").rename(folder / "labels")
        data = read_list(folder)
        assert [e.patient for e in data.training] == ["A", "B"]
        assert data.validation == ()

    def test_folder_with_neither(self, tmp_path):
        with pytest.raises(InputError, match=r"neither dataset\.json nor images/X_0000\.nii\.gz"):
            read_list(tmp_path)

    def test_missing_file_is_named(self, folder):
        (folder / "labelsTr/A.nii.gz").unlink()
        with pytest.raises(InputError, match=r"training\[0\].*A\.nii\.gz.*does not exist"):
            read_list(folder / "list.json")

    def test_other_shape(self, folder):
        write(folder / "labelsTr/A.nii.gz", label_array()[:-1])
        with pytest.raises(InputError, match=r"expected the image's shape \(120, 100, 40\), got \(119, 100, 40\)"):
            read_list(folder / "list.json")

    def test_other_place(self, folder):
        affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
        affine[2, 3] = 30
        write(folder / "labelsTr/A.nii.gz", label_array(), affine)
        with pytest.raises(InputError, match=r"lies 30\.0 mm away"):
            read_list(folder / "list.json")

    def test_empty_label_folder(self, folder):
        (folder / "labelsTr/A.nii.gz").unlink()
        (folder / "labelsTr/B.nii.gz").unlink()
        path = change(folder, training=[{"image": "imagesTr/A_0000.nii.gz"}], validation=[])
        with pytest.raises(InputError, match=r"no training scan has a label .*is empty"):
            read_list(path)

    def test_patient_on_both_sides(self, folder):
        entry = {"image": "imagesTr/A_0000.nii.gz", "label": "labelsTr/A.nii.gz", "patient": "P"}
        path = change(folder, training=[entry], validation=[{**entry, "image": "imagesTr/B_0000.nii.gz"}])
        with pytest.raises(InputError, match="patient P is in training and in validation"):
            read_list(path)

    def test_unknown_label_value(self, folder):
        write(folder / "labelsTr/A.nii.gz", label_array() * 7)
        data = read_list(folder / "list.json")
        with pytest.raises(InputError, match="label value 7 is unknown; known are 0, 1"):
            prepare_scan(data.training[0], PLAN)

    def test_no_list(self, tmp_path):
        with pytest.raises(InputError, match="not readable as a data list"):
            read_list(tmp_path / "none.json")


class TestCache:
    def test_model_grid_and_label(self, folder):
        scan = prepare_scan(read_list(folder / "list.json").training[0], PLAN)
        # 12 x 12 x 5 voxels of 6.75 mm3 are 4860 mm3; the model grid has 3 mm3.
        assert (scan.label == 1).sum() * 3 == pytest.approx(4860, rel=0.1)
        assert np.median(scan.hu[scan.label == 1]) == pytest.approx(120, abs=2)
        assert len(scan.lesions) == (scan.label == 1).sum()
        assert not scan.chest.any()

    def test_second_reading_comes_from_the_cache(self, folder, tmp_path):
        entry = read_list(folder / "list.json").training[0]
        first = load_scan(entry, PLAN, tmp_path / "cache")
        (cached,) = (tmp_path / "cache").glob("*.npz")
        stamp = cached.stat().st_mtime_ns
        second = load_scan(entry, PLAN, tmp_path / "cache")
        assert cached.stat().st_mtime_ns == stamp
        for key in ("hu", "label", "tissue", "body", "chest", "lesions"):
            assert (getattr(first, key) == getattr(second, key)).all()

    def test_changed_label_is_prepared_again(self, folder, tmp_path):
        entry = read_list(folder / "list.json").training[0]
        load_scan(entry, PLAN, tmp_path / "cache")
        write(folder / "labelsTr/A.nii.gz", np.zeros(SHAPE, np.uint8))
        assert len(load_scan(entry, PLAN, tmp_path / "cache").lesions) == 0

    def test_unannotated_scan_is_unknown(self, folder):
        path = change(folder, training=[*json.loads((folder / "list.json").read_text())["training"]],
                      validation=[{"image": "imagesTr/B_0000.nii.gz", "label": None}])  # fmt: skip
        scan = prepare_scan(read_list(path).validation[0], PLAN)
        assert (scan.label == IGNORE).all()
        assert not scan.annotated


class TestSplit:
    def test_depends_on_the_patient_alone(self):
        assert on_dev_side("LIDC-IDRI-0001", 25) == on_dev_side("LIDC-IDRI-0001", 25)

    def test_share(self):
        share = np.mean([on_dev_side(f"LIDC-IDRI-{i:04d}", 25) for i in range(1000)])
        assert share == pytest.approx(0.25, abs=0.04)

    def test_kept_patient(self):
        wanted = next(f"P{i}" for i in range(100) if on_dev_side(f"P{i}", 25))
        assert not on_dev_side(wanted, 25, (wanted,))


class TestSampling:
    @pytest.fixture
    def source(self, folder):
        return Source((prepare_scan(read_list(folder / "list.json").training[0], PLAN),))

    def test_real_holds_lesion_and_background_does_not(self, source):
        sampler = PatchSampler(source, PLAN, Mix())
        for seed in range(6):
            rng = np.random.default_rng(seed)
            real, background = (sampler.draw(rng, (32, 32, 32), kind=k) for k in ("real", "background"))
            assert (real.label == 1).any()
            assert not (background.label == 1).any()
            assert real.image.min() >= 0
            assert real.image.max() <= 1

    def test_both_windows_move_together(self, source):
        """Of a Focus that sees both, the second channel is the same place, turned and zoomed like the first."""
        both = dataclasses.replace(PLAN, focus=dataclasses.replace(PLAN.focus, hu_channels="both"))
        for seed in range(8):
            plain = PatchSampler(source, both, Mix()).draw_plain(np.random.default_rng(seed), (32, 32, 32), kind="real")
            assert plain.other_window is not None
            np.testing.assert_array_equal(plain.channels, np.stack([plain.image, plain.other_window]))
            # From -175 to 250 HU both windows tell the same tissue.
            hu = plain.image * 425 - 175
            within = (plain.image > 0) & (plain.image < 1)
            np.testing.assert_allclose(plain.other_window[within], (hu[within] + 900) / 1550, atol=1e-5)
            drawn = PatchSampler(source, both, Mix(), strong=True).draw(
                np.random.default_rng(seed), (32, 32, 32), kind="real"
            )
            assert drawn.other_window is not None
            assert (drawn.label == 1).any()
            for channel in drawn.channels:
                assert np.median(channel[drawn.label == 1]) > np.median(channel[drawn.label == 0])

    def test_soft_tissue_of_a_chest_takes_lesions_where_its_window_is_seen(self, source):
        chest = dataclasses.replace(source.scans[0], chest=np.ones_like(source.scans[0].chest))
        mask = np.ones((8, 8, 8), bool)
        source = Source((chest,), (), (Shape("s", "s", "uls23_LiTS", mask, (1.0, 1.0, 3.0)),))
        both = dataclasses.replace(PLAN, focus=dataclasses.replace(PLAN.focus, hu_channels="both"))
        assert not PatchSampler(source, PLAN, Mix()).possible["soft"]
        assert PatchSampler(source, both, Mix()).possible["soft"]

    def test_real_lesions_of_patients_are_copied_into_other_soft_tissue(self, source):
        (scan,) = source.scans
        # A liver with a ball in its middle; the host is liver throughout.
        radius = np.linalg.norm(
            (np.moveaxis(np.indices((64, 64, 32)), 0, -1) - (32, 32, 16)) * PLAN.spacing_mm, axis=-1
        )
        label = (radius < 9).astype(np.uint8)
        liver = dataclasses.replace(
            scan, name="liver", hu=np.where(label, 60, 110).astype(np.int16), label=label,
            tissue=np.full(label.shape, SOFT, np.uint8), body=np.ones(label.shape, bool), chest=np.zeros(32, bool),
            lesions=np.argwhere(label).astype(np.int16),
        )  # fmt: skip
        bare = np.zeros_like(label)
        host = dataclasses.replace(liver, name="host", hu=np.full(label.shape, 90, np.int16), label=bare, weight=1e6)
        mix = Mix(real=0, background=0, copied=1)
        sampler = PatchSampler(Source((liver, host)), PLAN, mix)
        sample, twin = sampler.draw_twins(np.random.default_rng(0), (64, 64, 32))
        assert sample.inserted
        assert twin is not None
        assert np.abs(sample.image - twin.image)[sample.label == 1].mean() > 0.04
        drawn = dataclasses.replace(liver, phantom=True)
        with pytest.raises(UsageError, match="copied"):
            PatchSampler(Source((drawn, host)), PLAN, mix)

    def test_a_scan_is_seen_as_if_without_contrast_medium(self, source):
        scan = source.scans[0]
        bright = dataclasses.replace(scan, hu=np.where(scan.body, 180, -1000).astype(np.int16))
        dimmed, plain = (
            PatchSampler(Source((bright,)), PLAN, Mix(real=1, background=0, unenhanced=share)).draw_plain(
                np.random.default_rng(0), (32, 32, 32), kind="real"
            )
            for share in (1.0, 0.0)
        )
        assert dimmed.image.max() < plain.image.max() - 0.03
        assert (bright.hu == np.where(scan.body, 180, -1000)).all()

    def test_drawn_by_the_generator_alone(self, source):
        one, two = (PatchSampler(source, PLAN, Mix()).draw(np.random.default_rng(3), (32, 32, 32)) for _ in range(2))
        assert (one.image == two.image).all()
        assert (one.label == two.label).all()

    def test_image_and_label_move_together(self, source):
        sampler = PatchSampler(source, PLAN, Mix(real=1, background=0))
        for seed in range(8):
            sample = sampler.draw(np.random.default_rng(seed), (64, 64, 32))
            if not (sample.label == 0).any():
                continue
            inside, outside = sample.image[sample.label == 1], sample.image[sample.label == 0]
            assert np.median(inside) > np.median(outside)

    @pytest.fixture
    def trunk(self):
        """A trunk of fat, muscle inside it, a lung inside that, and shapes of a tumour and of a node; no lesion."""
        i, j = np.indices((220, 200))
        radius = np.hypot(i - 110, j - 100)
        hu = np.full((220, 200, 40), -1000, np.int16)
        hu[radius < 98] = -100
        hu[radius < 82] = 50
        hu[(radius < 74) & (np.abs(i - 110) > 12)] = -850
        body, label = np.repeat((radius < 98)[..., None], 40, axis=2), np.zeros(hu.shape, np.uint8)
        scan = Scan(
            name="A", patient="A", annotated=True, hu=hu, label=label, tissue=tissue_map(hu, body, PLAN.spacing_mm),
            body=body, chest=np.ones(40, bool), loose=None, lesions=np.zeros((0, 3), np.int16),
        )  # fmt: skip
        mask = np.hypot(*np.indices((24, 24)) - 12) < 11
        shapes = tuple(
            Shape(name, name, name, np.repeat(mask[..., None], 8, axis=2), (1.0, 1.0, 3.0))
            for name in ("kits23_tumor_cyst", "uls23_NIH_LN_MED")
        )
        return Source((scan,), (), shapes)

    def deep(self, body):
        """Where a scan that is lung throughout is known to be deep, with voxels of 1.5 x 1.5 x 3 mm."""
        scan = Scan(
            name="A", patient="A", annotated=True, hu=np.zeros(body.shape, np.int16),
            label=np.zeros(body.shape, np.uint8), tissue=np.full(body.shape, LUNG, np.uint8), body=body,
            chest=np.ones(body.shape[2], bool), loose=None, lesions=np.zeros((0, 3), np.int16),
        )  # fmt: skip
        return deep_lung_points(scan, (1.5, 1.5, 3.0))

    def test_in_a_crop_that_the_body_fills_deep_is_what_is_deep_below_its_sides(self):
        """Where no skin is seen it may begin right beyond them; scipy alone measures from one corner."""
        points = self.deep(np.ones((160, 120, 9), bool))
        # Every fourth voxel; deeper than 60 mm are more than 10 steps of 6 mm: the 11th at the earliest, voxel 40.
        # From the other side the same: of 40 steps along x the 30th at the latest, of 30 along y the 20th.
        assert points.min(axis=0).tolist() == [40, 40, 0]
        assert points.max(axis=0).tolist() == [116, 76, 8]

    def test_a_small_crop_that_the_body_fills_has_no_depth(self):
        assert len(self.deep(np.ones((76, 76, 60), bool))) == 0

    def test_skin_within_the_scan_counts_as_before(self):
        body = np.zeros((200, 200, 5), bool)
        body[20:180, 20:180] = True
        points = self.deep(body)
        # The body begins at voxel 20, the last air before it is voxel 16: 11 steps on, voxel 60. From 180 on is air.
        assert points.min(axis=0).tolist() == [60, 60, 0]
        assert points.max(axis=0).tolist() == [136, 136, 4]

    def test_masses_that_lean_and_nodes_in_fat(self, trunk):
        """Both kinds are drawn where they belong."""
        sampler = PatchSampler(trunk, PLAN, Mix(real=0, background=0, leaning=1, nodes=1))
        assert sampler.possible["leaning"]
        for kind in ("leaning", "nodes"):
            drawn = [sampler.draw(np.random.default_rng(seed), (96, 96, 32), kind=kind) for seed in range(4)]
            assert all(d.inserted and (d.label == 1).any() for d in drawn)

    def test_masses_by_size(self, trunk):
        """Every doubling of the volume is drawn alike, however many shapes it has and hard they are to place."""
        i, j, k = np.indices((60, 60, 20)) - np.array([30, 30, 10])[:, None, None, None]
        radius_mm = np.sqrt(i**2 + j**2 + (3 * k) ** 2)

        def ball(ml):
            mask = radius_mm < (ml * 750 / np.pi) ** (1 / 3)
            return Shape(f"{ml} ml", "s", "uls23_LiTS", mask, (1.0, 1.0, 3.0))

        source = dataclasses.replace(trunk, shapes=(*(ball(0.5) for _ in range(30)), ball(3), ball(24)))

        def volumes_ml(from_ml):
            mix = Mix(real=0, background=0, masses=1, sized_from_ml=from_ml)
            drawn = [
                PatchSampler(source, PLAN, mix).draw_plain(np.random.default_rng(seed), (96, 96, 32), kind="masses")
                for seed in range(12)
            ]
            return [(sample.label == 1).sum() * 0.003 for sample in drawn]

        assert np.median(volumes_ml(0.0)) < 2
        sized = volumes_ml(2.0)
        assert min(sized) > 1
        assert 2 < sum(ml > 10 for ml in sized) < 10

    def test_masses_of_a_size_that_no_shape_has(self, trunk):
        with pytest.raises(UsageError, match="none of the kinds"):
            PatchSampler(trunk, PLAN, Mix(real=0, background=0, masses=1, sized_from_ml=500.0))

    def test_strong_twins_are_changed_alike(self, trunk):
        """Turned and zoomed by the same draw, the twins still differ by the lesion only."""
        mix, size = Mix(real=0, background=0, leaning=1), (96, 96, 32)
        strong, plain = (PatchSampler(trunk, PLAN, mix, strong=on) for on in (True, False))
        changed = 0
        for seed in range(12):
            sample, twin = strong.draw_changed_twins(np.random.default_rng(seed), size)
            assert twin is not None
            assert (sample.label == 1).any()
            assert not (twin.label == 1).any()
            elsewhere = np.abs(sample.image - twin.image)[sample.label == 0]
            assert np.median(elsewhere) < 0.02
            before, _ = plain.draw_changed_twins(np.random.default_rng(seed), size)
            changed += not np.array_equal(before.image, sample.image)
        assert changed > 3

    def test_kinds_that_cannot_be_drawn(self, source):
        with pytest.raises(UsageError, match="none of the kinds"):
            PatchSampler(source, PLAN, Mix(real=0, background=0, nodules=1))


class TestDistort:
    def test_the_label_moves_with_the_image(self):
        """Wherever a bright block and its label go, they go together; what is mirrored in has no label."""
        image, label = np.full((48, 48, 16), 0.3, np.float32), np.zeros((48, 48, 16), np.uint8)
        image[20:30, 14:26, 4:9], label[20:30, 14:26, 4:9] = 0.8, 1
        volumes = []
        for seed in range(60):
            (turned,), moved = distort(np.random.default_rng(seed), image[None], label)
            assert turned.dtype == np.float32
            assert 0 <= turned.min() <= turned.max() <= 1
            assert set(np.unique(moved)) <= {0, 1, IGNORE}
            inside, outside = np.median(turned[moved == 1]), np.median(turned[moved == 0])
            halfway = turned > (inside + outside) / 2
            assert 2 * (halfway & (moved == 1)).sum() / (halfway[moved != IGNORE].sum() + (moved == 1).sum()) > 0.85
            volumes.append((moved == 1).sum() / (label == 1).sum())
        assert min(volumes) < 0.8
        assert max(volumes) > 1.3
        assert sum(v == 1 for v in volumes) > 15

    def test_the_same_generator_gives_the_same(self):
        image = np.random.default_rng(1).random((32, 32, 32), np.float32)
        label = (image > 0.9).astype(np.uint8)
        first, second = (distort(np.random.default_rng(7), image[None], label) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


class TestSettings:
    def test_presets(self):
        assert settings_from("paper", None).group == 16
        assert settings_from("fast", None).plan.preset == "fast"

    def test_file_over_preset(self, tmp_path):
        path = tmp_path / "s.json"
        path.write_text('{"preset": "fast", "batch": 3, "mix": {"real": 1.0}}')
        settings = settings_from(None, path)
        assert (settings.batch, settings.mix.real, settings.ema) == (3, 1.0, 0.99)

    def test_a_dice_for_all_that_is_drawn(self, tmp_path):
        """Settings of before there were other kinds stand: what is never drawn needs no Dice."""
        path = tmp_path / "s.json"
        path.write_text('{"batch_dice": true, "dice_kinds": ["real", "background", "nodules", "masses", "soft"]}')
        assert settings_from("fast", path).batch_dice

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('{"bach": 3}', "unknown key 'bach'"),
            ('{"group": 1}', "group must be at least 2"),
            ('{"crop_voxels": [48, 64, 32]}', "multiples of 32"),
            ('{"crop_voxels": [32, 32, 32]}', "reach 64 along one axis"),
            ('{"small_lesion_ml": -1}', "small_lesion_ml must be 0 or more, got -1"),
            ('{"dice_kinds": ["nodule"]}', "dice_kinds may hold real, background, nodules"),
            ('{"dice_kinds": ["nodules"], "batch_dice": true}', "batch_dice to false"),
            ('{"preset": "paper"}', "is for preset 'paper'"),
            ("[", "not readable as JSON"),
        ],
    )
    def test_errors(self, text, words, tmp_path):
        path = tmp_path / "s.json"
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            settings_from("fast", path)
