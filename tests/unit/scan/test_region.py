"""Chest or abdomen per axial position, from the share of lung in the body."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from gfscreen.run.report import region_detail
from gfscreen.scan.anatomy import Anatomy
from gfscreen.scan.grid import to_model
from gfscreen.scan.region import LUNG_SHARE, forced, region_of, split
from gfscreen.scan.volume import Geometry
from gfscreen.screening.screening import Screening
from tests.helpers.engines import TINY_PLAN
from tests.helpers.scans import AIR_HU, LUNG_HU, TISSUE_HU, axes_affine, volume_of

SLICE_MM = 5.0


def anatomy_of(lung_voxels: list[int], body_voxels: int = 100) -> Anatomy:
    """A body of 100 voxels in every slice, of which so many are lung; feet first."""
    body = np.zeros((body_voxels, 1, len(lung_voxels)), bool)
    body[:body_voxels] = True
    lungs = np.zeros_like(body)
    for z, count in enumerate(lung_voxels):
        lungs[:count, 0, z] = True
    return Anatomy((1, 1, 1), (4.0, 4.0, SLICE_MM), body, lungs)


class TestSplit:
    def test_everything_from_the_lowest_lung_upwards_is_chest(self):
        # 30 slices of abdomen, 30 of lung, 6 of neck without any lung: 150 mm against 180 mm.
        result = split(anatomy_of([0] * 30 + [30] * 30 + [0] * 6))
        assert result.split_slice == 30
        assert not result.chest[:30].any()
        assert result.chest[30:].all()
        assert result.label == "chest-abdomen"
        assert "lungs fill up to 30 %" in result.reason
        assert "180 mm" in result.reason
        assert "150 mm below" in result.reason

    @pytest.mark.parametrize(
        ("abdomen", "chest", "label"),
        [
            (0, 40, "chest"),
            (6, 40, "chest"),  # 30 mm of upper abdomen under a chest
            (40, 6, "abdomen"),  # the lung bases above an abdomen
            (29, 40, "chest"),  # 145 mm is below the 150 mm of a part
            (30, 40, "chest-abdomen"),  # 150 mm, more than a third
            (30, 90, "chest-abdomen"),  # 150 of 600 mm: exactly a quarter
            (30, 91, "chest"),  # less than a quarter
            (91, 30, "abdomen"),
        ],
    )
    def test_name_of_the_whole(self, abdomen, chest, label):
        assert split(anatomy_of([0] * abdomen + [30] * chest)).label == label

    def test_no_lungs(self):
        result = split(anatomy_of([0] * 20))
        assert result.label == "abdomen"
        assert not result.chest.any()
        assert result.split_slice == 20
        assert "no lungs" in result.reason

    @pytest.mark.parametrize(("voxels", "chest"), [(11, False), (12, True), (13, True)])
    def test_threshold_of_the_share(self, voxels, chest):
        assert LUNG_SHARE == 0.12
        assert split(anatomy_of([voxels] * 20)).chest.all() == chest

    @pytest.mark.parametrize(("slices", "chest"), [(4, False), (5, True)])
    def test_a_stretch_of_less_than_25_mm_is_gas(self, slices, chest):
        result = split(anatomy_of([0] * 10 + [30] * slices + [0] * 10))
        assert result.chest.any() == chest

    def test_gas_in_the_pelvis_does_not_move_the_split(self):
        assert split(anatomy_of([0] * 5 + [30] * 6 + [0] * 20 + [30] * 30)).split_slice == 31

    def test_a_single_slice_without_lung_does_not_cut_the_lungs_in_two(self):
        # A breathing artefact: without closing the gap the longer, upper half would decide.
        assert split(anatomy_of([0] * 10 + [30] * 10 + [0] + [30] * 20)).split_slice == 10

    def test_a_scan_of_one_slice(self):
        assert split(anatomy_of([30])).label == "chest"
        assert split(anatomy_of([0])).label == "abdomen"

    def test_an_empty_body(self):
        empty = np.zeros((5, 5, 4), bool)
        result = split(Anatomy((1, 1, 1), (4.0, 4.0, 5.0), empty, empty))
        assert (result.label, result.chest.any()) == ("abdomen", False)

    @pytest.mark.parametrize("region", ["chest", "abdomen"])
    def test_forced_says_what_the_image_says(self, region):
        result = forced(anatomy_of([30] * 40), region)
        assert result.forced
        assert result.label == region
        assert (result.chest == (region == "chest")).all()
        assert result.reason == "forced; the image says chest"


class TestRegionOfASubVolume:
    CHEST = np.array([False] * 6 + [True] * 4)

    @pytest.mark.parametrize(
        ("start", "size", "region"),
        [
            (0, 4, "abdomen"),
            (6, 4, "chest"),
            (4, 4, "chest"),  # two of each: a tie is chest
            (3, 4, "abdomen"),  # three of four are abdomen
            (-20, 50, "abdomen"),  # padded: 4 of the 10 real positions
            (5, 50, "chest"),  # 4 of 5
            (-8, 8, "abdomen"),  # nothing covered
            (30, 8, "abdomen"),
        ],
    )
    def test_that_of_most_of_its_slices(self, start, size, region):
        assert region_of(self.CHEST, start, size) == region


def chest_abdomen_hu(slices: int = 60, split_at: int = 30) -> np.ndarray:
    """A trunk (x, y, z) of 4 x 4 x 5 mm whose upper slices hold two lungs."""
    hu = np.full((60, 40, slices), AIR_HU, np.int16)
    hu[6:54, 6:34] = TISSUE_HU
    hu[12:26, 12:28, split_at:] = LUNG_HU
    hu[34:48, 12:28, split_at:] = LUNG_HU
    return hu


class TestReport:
    def detail(self, order: tuple[int, ...], signs: tuple[int, ...], **options: str) -> dict:
        """The report's words about the same patient stored along other axes."""
        canonical = chest_abdomen_hu()
        stored = canonical.transpose(order)[tuple(slice(None, None, s) for s in signs)]
        spacing = (4.0, 4.0, 5.0)
        volume = volume_of(stored, axes_affine(order, signs, tuple(spacing[o] for o in order), (0, 0, 0)))
        scan = to_model(volume, TINY_PLAN, **options)
        empty = np.zeros(volume.hu.shape, np.uint8)
        return region_detail(volume.geometry, Screening(empty, scan.region, 0, 0, 0, 0, None))

    def test_slices_from_feet_to_head(self):
        detail = self.detail((0, 1, 2), (1, 1, 1))
        assert (detail["slice_axis"], detail["abdomen_slices"], detail["chest_slices"]) == (2, [0, 29], [30, 59])
        assert detail["split_above_lowest_slice_mm"] == 150.0
        # Two lungs of 14 x 16 voxels, less their rounded corners, in a trunk of 48 x 28.
        assert detail["lung_share_max"] == pytest.approx(448 / 1344, abs=0.03)

    def test_slices_stored_from_head_to_feet(self):
        detail = self.detail((0, 1, 2), (1, 1, -1))
        assert (detail["abdomen_slices"], detail["chest_slices"]) == ([30, 59], [0, 29])

    def test_slices_along_the_first_axis_of_the_file(self):
        detail = self.detail((2, 0, 1), (1, -1, 1))
        assert (detail["slice_axis"], detail["abdomen_slices"], detail["chest_slices"]) == (0, [0, 29], [30, 59])

    def test_forced(self):
        detail = self.detail((0, 1, 2), (1, 1, 1), region="abdomen")
        assert detail["forced"] is True
        assert (detail["abdomen_slices"], detail["chest_slices"]) == ([0, 59], None)

    def test_fine_slices_are_split_on_the_coarse_grid(self):
        # 1 mm slices: blocks of five; the split is found within one block.
        volume = volume_of(chest_abdomen_hu(300, 152), np.diag([4.0, 4.0, 1.0, 1.0]))
        scan = to_model(volume, TINY_PLAN)
        detail = region_detail(volume.geometry, Screening(np.zeros((1, 1, 1)), scan.region, 0, 0, 0, 0, None))
        assert detail["chest_slices"][0] == pytest.approx(152, abs=5)
        assert detail["chest_slices"][1] == 299
        assert detail["abdomen_slices"][1] == detail["chest_slices"][0] - 1


class TestOnTheModelGrid:
    def test_each_axial_position_keeps_its_region(self):
        # 60 slices of 5 mm, the upper 30 with lungs; on the 4 mm grid the split lies at 150/4 = 37.5.
        scan = to_model(volume_of(chest_abdomen_hu()), TINY_PLAN)
        first_chest = scan.grid.box[2][0] + int(scan.chest.argmax())
        assert first_chest == pytest.approx(37.5, abs=1.0)
        assert scan.chest[scan.chest.argmax() :].all()


phantom = pytest.importorskip("eval.phantom")


class TestPhantoms:
    """Digital patients, whose region is known for every slice."""

    @pytest.mark.parametrize(
        ("kind", "seed"), [("chest", 0), ("abdomen", 1), ("chest-abdomen", 2), ("chest-abdomen", 3)]
    )
    def test_the_split_falls_within_30_mm_of_the_truth(self, kind, seed):
        patient = phantom.make_phantom(kind, seed, spacing_mm=(4.0, 4.0, 5.0))
        decision = to_model(volume_of(patient.image, patient.affine_ras), TINY_PLAN).region
        assert decision.label == kind
        assert nib.aff2axcodes(patient.affine_ras)[2] == "S", "slices from feet to head"
        truth = patient.region.index("chest")
        assert set(patient.region[:truth]) <= {"abdomen"}
        assert abs(decision.split_slice * decision.slice_mm - truth * 5.0) <= 30.0

    def test_the_couch_is_not_body(self, monkeypatch):
        arguments = {"kind": "chest", "seed": 1, "shape": (192, 160, 16), "spacing_mm": (2.0, 2.0, 5.0)}
        patient = phantom.make_phantom(**arguments)
        monkeypatch.setattr("eval.phantom.assemble.paint_couch", lambda *_, **__: None)
        alone = phantom.make_phantom(**arguments)
        couch = (patient.image > -300) & (alone.image < -700)
        assert couch.sum() > 1000, "the couch is there"
        plan = TINY_PLAN
        with_couch, without = (to_model(volume_of(p.image, p.affine_ras), plan) for p in (patient, alone))
        extra = with_couch.anatomy.body & ~without.anatomy.body
        assert extra.sum() < 0.002 * without.anatomy.body.sum()
        assert with_couch.grid.box == without.grid.box


def test_geometry_of_a_scan_without_slices_up_is_still_reported():
    """A coronal series: the head lies along the second axis of the file."""
    geometry = Geometry((60, 60, 40), axes_affine((0, 2, 1), (-1, -1, 1), (4.0, 5.0, 4.0), (0, 0, 0)))
    assert geometry.ras_axes == ((0, 2, 1), (True, False, True))
