"""Lesions of a mask, measured; the documents that are written; and `gfscreen stats`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.reliability.torture.store import rotation
from gfscreen.command.cli import main
from gfscreen.errors import UsageError
from gfscreen.results.statistics.documents import (
    COLUMNS,
    SCHEMA_VERSION,
    MeasuredCase,
    csv_path,
    measure_case,
    to_csv,
    to_json,
    write_statistics,
)
from gfscreen.results.statistics.lesions import axial_tilt_deg, measure_lesions
from gfscreen.scan.grid import ModelGrid
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.screening.windows import Window
from tests.helpers.nifti_files import write_nifti
from tests.helpers.scans import affine_of, axes_affine, volume_of

# Left, back, head: 2 x 3 x 5 mm.
AFFINE = axes_affine((0, 1, 2), (-1, -1, 1), (2.0, 3.0, 5.0), (40.0, 60.0, -20.0))
SHAPE = (20, 16, 10)


def scan() -> tuple[np.ndarray, np.ndarray]:
    """A block of 4 x 2 x 3 voxels of 100 and 120 HU, and a single voxel at the edge."""
    hu, mask = np.full(SHAPE, 40, np.int16), np.zeros(SHAPE, np.uint8)
    mask[5:9, 6:8, 2:5] = 1
    hu[5:9, 6:8, 2:5] = 100
    hu[5:9, 7, 2:5] = 120
    mask[19, 3, 9] = 1
    return hu, mask


class TestMeasurements:
    @pytest.fixture
    def lesions(self):
        hu, mask = scan()
        return measure_lesions(volume_of(hu, AFFINE), mask)

    def test_the_largest_comes_first(self, lesions):
        assert [lesion.id for lesion in lesions] == [1, 2]
        assert [lesion.voxels for lesion in lesions] == [24, 1]
        assert [lesion.volume_mm3 for lesion in lesions] == [24 * 30, 30]

    def test_place(self, lesions):
        block, edge = lesions
        # Voxels 5..8, 6..7, 2..4: their mean is (6.5, 6.5, 3). R 40 - 13 = 27 is L -27; A 60 - 19.5 = 40.5 is P -40.5.
        assert block.centroid_voxel == (6.5, 6.5, 3.0)
        assert block.centroid_mm == (-27.0, -40.5, -5.0)
        assert block.slices == (2, 4)
        assert edge.centroid_mm == (-2.0, -51.0, 25.0)
        assert (edge.slices, edge.inside_voxel) == ((9, 9), (19, 3, 9))
        assert block.inside_voxel[2] == block.axes_slice
        assert 5 <= block.inside_voxel[0] <= 8

    def test_axes(self, lesions):
        block, edge = lesions
        # 4 x 2 pixels of 2 x 3 mm: 8 x 6 mm. Side middles (0, 1.5) to (8, 4.5): sqrt(73); (1, 0) to (7, 6): sqrt(72).
        assert block.long_axis_mm == pytest.approx(np.sqrt(73), abs=1e-3)
        # All slices are alike: the one nearest to the feet is named.
        assert block.axes_slice == 2
        ends = np.array(block.long_axis_ends_mm)
        assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(block.long_axis_mm, abs=2e-3)
        assert set(ends[:, 2]) == {-10.0}  # slice 2 at -20 + 2 * 5
        # One pixel: a diamond of 2 and 3 mm.
        assert (edge.long_axis_mm, edge.short_axis_mm) == (3.0, 2.0)

    def test_hounsfield_units(self, lesions):
        # Half 100, half 120: mean 110, population SD 10.
        assert (lesions[0].hu_mean, lesions[0].hu_sd) == (110.0, 10.0)
        assert (lesions[1].hu_mean, lesions[1].hu_sd) == (40.0, 0.0)

    def test_border(self, lesions):
        assert [lesion.touches_border for lesion in lesions] == [False, True]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("end", [0, -1])
    def test_each_face_of_the_scan_is_a_border(self, axis, end):
        mask = np.zeros(SHAPE, np.uint8)
        place = [5, 5, 5]
        place[axis] = end
        mask[tuple(place)] = 1
        assert measure_lesions(volume_of(mask, AFFINE), mask)[0].touches_border

    def test_probabilities_are_unknown_without_network_outputs(self, lesions):
        assert lesions[0].glance_probability is None
        assert lesions[0].focus_probability is None

    def test_parts_that_touch_by_a_corner_are_one_lesion(self):
        mask = np.zeros(SHAPE, np.uint8)
        mask[4, 4, 4] = mask[5, 5, 5] = mask[7, 5, 5] = 1
        assert [lesion.voxels for lesion in measure_lesions(volume_of(mask, AFFINE), mask)] == [2, 1]

    def test_any_label_above_zero_is_lesion(self):
        mask = np.zeros(SHAPE, np.int16)
        mask[4, 4, 4], mask[4, 4, 5], mask[9, 9, 9] = 1, 7, -1
        assert [lesion.voxels for lesion in measure_lesions(volume_of(mask, AFFINE), mask)] == [2]

    def test_an_empty_mask_has_none(self):
        assert measure_lesions(volume_of(np.zeros(SHAPE), AFFINE), np.zeros(SHAPE, np.uint8)) == []

    def test_the_slice_with_the_longest_axis_counts(self):
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:6, 5, 3] = mask[3:9, 5, 4] = mask[4:7, 5, 5] = 1
        lesion = measure_lesions(volume_of(mask, AFFINE), mask)[0]
        assert (lesion.axes_slice, lesion.long_axis_mm, lesion.short_axis_mm) == (4, 12.0, 3.0)  # 6 x 2 mm

    def test_islands_in_a_slice_are_measured_apart(self):
        """One lesion of two arms that meet in slice 5 alone: in slice 4 they are two outlines."""
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:8, 5, 4] = mask[10:15, 5, 4] = 1
        mask[7:11, 5, 5] = 1
        lesions = measure_lesions(volume_of(mask, AFFINE), mask)
        assert len(lesions) == 1
        # 6 pixels of 2 mm; from the first arm to the end of the second it would be 26 mm.
        found = lesions[0]
        assert (found.axes_slice, found.axes_slice_pieces) == (4, 2)
        assert (found.long_axis_mm, found.short_axis_mm) == (12.0, 3.0)
        # In the arm that was measured, not between both.
        assert found.inside_voxel in ((4, 5, 4), (5, 5, 4))

    def test_the_number_of_pieces_is_in_both_documents(self):
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:8, 5, 4] = mask[10:15, 5, 4] = mask[7:11, 5, 5] = 1
        case = measure_case("a", "ok", volume_of(mask, AFFINE), mask)
        assert json.loads(to_json([case]))["cases"][0]["lesions"][0]["axes_slice_pieces"] == 2
        assert list(csv.DictReader(io.StringIO(to_csv([case]))))[1]["axes_slice_pieces"] == "2"

    def test_axial_is_of_the_patient_not_of_the_file(self):
        """A sagittal file: its first axis runs to the head, its last from left to right."""
        affine = axes_affine((2, 1, 0), (-1, 1, 1), (5.0, 3.0, 2.0), (0.0, 0.0, 100.0))
        mask = np.zeros((10, 16, 20), np.uint8)
        mask[6, 5, 3:9] = 1  # six voxels of 2 mm to the right
        mask[2:7, 5, 3] = 1  # and five of 5 mm downwards, which no axial slice shows
        volume = volume_of(mask, affine)
        lesion = measure_lesions(volume, mask)[0]
        assert (lesion.long_axis_mm, lesion.short_axis_mm) == (12.0, 3.0)
        case = measure_case("a", "ok", volume, mask)
        assert case.slice_axis == 0
        assert (lesion.slices, lesion.axes_slice) == ((2, 6), 6)

    def test_a_tilted_scan_is_measured_in_its_own_slices(self):
        columns = rotation(0, 20.0) @ np.diag([2.0, 3.0, 5.0])
        mask = np.zeros(SHAPE, np.uint8)
        mask[4, 4:9, 3] = 1  # five voxels of 3 mm along the tilted second axis
        volume = volume_of(mask, affine_of(columns))
        lesion = measure_lesions(volume, mask)[0]
        assert (lesion.long_axis_mm, lesion.short_axis_mm) == (15.0, 2.0)
        assert lesion.volume_mm3 == 5 * 30
        assert axial_tilt_deg(volume) == pytest.approx(20.0)
        assert axial_tilt_deg(volume_of(mask, AFFINE)) == pytest.approx(0.0, abs=1e-6)
        ends = np.array(lesion.long_axis_ends_mm)
        assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(15.0, abs=2e-3)


def outputs(probability: list[float] | None, focus: np.ndarray | None = None) -> NetworkOutputs:
    """Two sub-volumes of 8 voxels side by side on a model grid of 20 x 8 x 8 voxels that begins at x = 2."""
    grid = ModelGrid(((2, 22), (0, 8), (0, 8)), (24, 8, 8), (24, 8, 8), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    windows = [Window((0, 0, 0), "abdomen"), Window((6, 0, 0), "abdomen")]
    return NetworkOutputs(
        grid=grid,
        size_voxels=(8, 8, 8),
        gate=0.5,
        windows=windows,
        grid_windows=windows,
        grid_probability=None,
        glance_probability=None if probability is None else np.array(probability),
        kept=np.array([True, False]),
        read=np.array([True, False]),
        focus_probability=np.zeros((20, 8, 8), np.float32) if focus is None else focus,
    )


class TestProbabilities:
    @pytest.mark.parametrize(
        ("x", "found"),
        [(3, 0.9), (8, 0.9), (12, 0.4), (16, None), (1, None)],
        ids=["the first alone", "both: the highest", "the second alone", "behind both", "cropped off"],
    )
    def test_glance_is_that_of_the_sub_volumes_that_hold_the_centre(self, x, found):
        # On the model grid the sub-volumes reach from 0 to 7 and from 6 to 13; native x is two more.
        assert outputs([0.9, 0.4]).glance_at(np.array([float(x), 4.0, 4.0])) == found

    def test_what_was_not_glanced_at_is_unknown(self):
        assert outputs([np.nan, 0.4]).glance_at(np.array([3.0, 4.0, 4.0])) is None
        assert outputs([np.nan, 0.4]).glance_at(np.array([8.0, 4.0, 4.0])) == 0.4
        assert outputs(None).glance_at(np.array([8.0, 4.0, 4.0])) is None

    def test_focus_is_the_mean_inside_the_lesion(self):
        focus = np.zeros((20, 8, 8), np.float32)
        focus[4:6, 3, 3] = 0.6, 0.9
        assert outputs([0.9, 0.4], focus).focus_mean(np.array([[6, 3, 3], [7, 3, 3]])) == pytest.approx(0.75)
        assert outputs([0.9, 0.4], focus).focus_mean(np.zeros((0, 3), np.intp)) is None

    def test_both_reach_the_lesion(self):
        focus = np.full((20, 8, 8), 0.75, np.float32)
        mask = np.zeros((24, 8, 8), np.uint8)
        mask[4:6, 3, 3] = 1
        volume = volume_of(mask, np.diag([1.0, 1.0, 1.0, 1.0]))
        lesion = measure_lesions(volume, mask, outputs([0.9, 0.4], focus))[0]
        assert (lesion.glance_probability, lesion.focus_probability) == (0.9, 0.75)


class TestDocuments:
    @pytest.fixture
    def cases(self) -> list[MeasuredCase]:
        hu, mask = scan()
        return [
            measure_case("a", "ok", volume_of(hu, AFFINE), mask),
            measure_case("none", "degraded", volume_of(hu, AFFINE), mask * 0),
            MeasuredCase("broken", error="broken: expected a NIfTI file"),
        ]

    def test_json(self, cases):
        document = json.loads(to_json(cases))
        assert (document["schema"], document["schema_version"]) == ("gfscreen-statistics", SCHEMA_VERSION)
        found, none, broken = document["cases"]
        assert (found["lesion_count"], found["lesion_volume_mm3"], found["lesions_touching_border"]) == (2, 750.0, 1)
        assert found["longest_axis_mm"] == found["lesions"][0]["long_axis_mm"]
        assert (found["shape"], found["spacing_mm"], found["slice_axis"]) == ([20, 16, 10], [2.0, 3.0, 5.0], 2)
        assert found["lesions"][0]["glance_probability"] is None
        # Nothing there is 0 lesions; but no longest axis. Nothing measured is null.
        assert (none["lesion_count"], none["lesion_volume_mm3"], none["longest_axis_mm"]) == (0, 0, None)
        totals = ("lesion_count", "lesion_volume_mm3", "longest_axis_mm", "lesions_touching_border", "shape")
        assert all(broken[key] is None for key in totals)
        assert (broken["status"], broken["error"]) == ("failed", "broken: expected a NIfTI file")

    def test_csv_holds_the_same_numbers(self, cases):
        rows = list(csv.DictReader(io.StringIO(to_csv(cases))))
        assert tuple(rows[0]) == COLUMNS
        assert [(row["case"], row["row"]) for row in rows] == [
            ("a", "scan"), ("a", "lesion"), ("a", "lesion"), ("none", "scan"), ("broken", "scan"),
        ]  # fmt: skip
        scan_row, block, edge, none, broken = rows
        assert (scan_row["lesion_count"], scan_row["lesion_volume_mm3"], scan_row["volume_mm3"]) == ("2", "750.0", "")
        assert (block["lesion_id"], block["volume_mm3"], block["hu_mean"], block["first_slice"]) == (
            "1", "720.0", "110.0", "2",
        )  # fmt: skip
        assert (block["centroid_l_mm"], block["centroid_p_mm"], block["centroid_s_mm"]) == ("-27.0", "-40.5", "-5.0")
        assert (block["touches_border"], edge["touches_border"]) == ("false", "true")
        assert (block["glance_probability"], none["longest_axis_mm"], broken["lesion_count"]) == ("", "", "")
        assert {row["schema_version"] for row in rows} == {str(SCHEMA_VERSION)}

    def test_the_table_goes_beside_the_document(self, cases, tmp_path):
        write_statistics(tmp_path / "deep" / "s.json", cases)
        assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["s.csv", "s.json"]
        with pytest.raises(UsageError, match=r"s\.txt: statistics need a name that ends in \.json"):
            csv_path(Path("s.txt"))


class TestStatsCommand:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch) -> Path:
        hu, mask = scan()
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
        write_nifti(tmp_path / "images" / "a_0000.nii.gz", hu, AFFINE)
        write_nifti(tmp_path / "masks" / "a.nii.gz", mask, AFFINE)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_one_scan_and_its_mask(self, folder):
        arguments = ["--image", "images/a_0000.nii.gz", "--mask", "masks/a.nii.gz", "-o", "s.json"]
        assert main(["-q", "stats", *arguments]) == 0
        case = json.loads((folder / "s.json").read_text())["cases"][0]
        assert (case["name"], case["status"], case["lesion_count"]) == ("a", "ok", 2)
        assert (folder / "s.csv").is_file()
        assert not (folder / "index.html").exists()

    def test_folders_pair_by_name_and_a_bad_pair_stops_no_other(self, folder, capsys):
        hu, mask = scan()
        write_nifti(folder / "images" / "b_0000.nii.gz", hu, AFFINE)
        for name, array, affine in (
            ("c", mask[:-1], AFFINE),
            ("d", mask, AFFINE @ np.diag([-1.0, 1, 1, 1])),
        ):
            write_nifti(folder / "images" / f"{name}_0000.nii.gz", hu, AFFINE)
            write_nifti(folder / "masks" / f"{name}.nii.gz", array, affine)
        assert main(["-q", "stats", "--image", "images", "--mask", "masks", "-o", "s.json"]) == 1
        cases = {case["name"]: case for case in json.loads((folder / "s.json").read_text())["cases"]}
        assert [case["status"] for case in cases.values()] == ["ok", "failed", "failed", "failed"]
        assert "no mask b.nii.gz in masks" in cases["b"]["error"]
        assert "shape (19, 16, 10) differs from the scan's (20, 16, 10)" in cases["c"]["error"]
        # The first axis runs the other way: its last voxel lies 2 * 19 * 2 mm off.
        assert "a corner lies 76 mm from the scan's, allowed are 0.2 mm" in cases["d"]["error"]
        assert len(capsys.readouterr().err.splitlines()) == 3

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--image", "images", "--mask", "absent", "-o", "s.json"], "no such file or folder"),
            (["--image", "images", "--mask", "masks", "-o", "s.csv"], "ends in .json"),
            (["--image", "absent", "--mask", "masks", "-o", "s.json"], "no such file or folder"),
            (["--image", "images", "--mask", "masks/a.nii.gz", "-o", "s.json"], "one mask for 2 scans"),
        ],
    )
    def test_wrong_usage_is_one_line_and_exit_code_2(self, folder, capsys, arguments, said):
        write_nifti(folder / "images" / "b_0000.nii.gz", scan()[0], AFFINE)
        assert main(["-q", "stats", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert not (folder / "s.json").exists()


@pytest.mark.shared
def test_real_labels_against_nibabel_alone(shared_dir):
    """Count, volume and centre of a real label, found with another reader and another labelling."""
    from scipy import ndimage

    name = "NSCLC_LUNG1-003"
    image = nib.load(shared_dir / "data" / "labels" / f"{name}.nii.gz")
    label = np.asarray(image.dataobj) > 0
    from gfscreen.scan.volume import read_volume

    volume = read_volume(shared_dir / "data" / "images" / f"{name}_0000.nii.gz")
    case = measure_case(name, "ok", volume, label)
    labels, count = ndimage.label(label, np.ones((3, 3, 3)))
    assert case.lesion_count == count == 4
    voxel_mm3 = float(np.prod(image.header.get_zooms()))
    sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    assert [lesion.volume_mm3 for lesion in case.lesions] == pytest.approx(list(sizes * voxel_mm3), rel=1e-5)
    largest = 1 + int(np.bincount(labels.ravel())[1:].argmax())
    ras = nib.affines.apply_affine(image.affine, np.argwhere(labels == largest).mean(axis=0))
    assert case.lesions[0].centroid_mm == pytest.approx((-ras[0], -ras[1], ras[2]), abs=2e-3)
