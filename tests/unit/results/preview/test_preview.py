"""The preview without a browser: heat map, still, page, and what `predict` and `stats` leave beside their masks."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import importlib.util
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.errors import OutputError, UsageError
from gfscreen.results.preview.case import ShownCase, shown_case
from gfscreen.results.preview.heatmap import (
    NO_BODY,
    UNKNOWN,
    Fate,
    cell_entry,
    cell_voxels,
    cells,
    fates,
    heat_layer,
    paint,
    window_entries,
)
from gfscreen.results.preview.montage import cut_out, draw_montage
from gfscreen.results.preview.page import Page, PageCase, page_case, render
from gfscreen.results.preview.volumes import SmallVolumes
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.run.optional_outputs import OptionalOutputs
from gfscreen.scan.grid import ModelGrid
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import CellMap
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.screening.screening import screen
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Window
from tests.helpers.engines import TINY_PLAN, bright_engine, constant_engine
from tests.helpers.nifti_files import write_nifti
from tests.helpers.runs import write_plan
from tests.helpers.scans import LESION_HU, TISSUE_HU, axes_affine, volume_of

# Left, back, head, 4 mm: 60 x 40 x 36 voxels, 240 x 160 x 144 mm.
AFFINE = axes_affine((0, 1, 2), (-1, -1, 1), (4.0, 4.0, 4.0), (100.0, 80.0, -70.0))
SHAPE = (60, 40, 36)


def two_lesions() -> np.ndarray:
    hu = np.full(SHAPE, TISSUE_HU, np.int16)
    hu[6:11, 8:12, 10:14] = LESION_HU
    hu[20:22, 30:32, 20] = LESION_HU
    return hu


def screened_case(**settings: Any) -> ShownCase:
    volume = volume_of(two_lesions(), AFFINE)
    result = screen(volume, TINY_PLAN, bright_engine(), Budget(), ScreeningSettings(**settings), keep_outputs=True)
    lesions = measure_lesions(volume, result.mask, result.network_outputs)
    return shown_case("a", "ok", volume, result.mask, lesions, result.region, result.network_outputs)


def decode(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(base64.b64decode(text))))


class TestNetworkOutputs:
    def test_nobody_asks_nobody_pays(self):
        assert screen(volume_of(two_lesions(), AFFINE), TINY_PLAN, bright_engine(), Budget()).network_outputs is None

    def test_what_a_screening_hands_out(self):
        volume = volume_of(two_lesions(), AFFINE)
        result = screen(volume, TINY_PLAN, bright_engine(), Budget(), keep_outputs=True)
        outputs = result.network_outputs
        assert outputs is not None
        assert len(outputs.windows) == result.windows_total
        assert int(outputs.kept.sum()) == result.windows_kept
        assert int(outputs.read.sum()) == result.windows_done
        assert set(np.round(outputs.glance_probability, 4)) == {0.05, 0.95}
        np.testing.assert_array_equal(outputs.kept, outputs.glance_probability > TINY_PLAN.gate)
        assert outputs.focus_probability.shape == outputs.grid.shape
        lesions = measure_lesions(volume, result.mask, outputs)
        assert [(lesion.glance_probability, lesion.focus_probability) for lesion in lesions] == [(0.95, 1.0)] * 2

    def test_places_go_to_the_model_grid_and_back(self):
        grid = ModelGrid(((3, 23), (0, 10), (5, 9)), (30, 10, 12), (60, 5, 36), (0.5, 2.0, 1.0), (1.0, 1.0, 3.0))
        outputs = NetworkOutputs(
            grid, (8, 8, 8), 0.5, [], [], None, None, np.zeros(0, bool), np.zeros(0, bool), np.zeros(grid.shape)
        )
        # x: 40 * 0.5 / 1 - 3 = 17; y: 4 * 2 / 1 = 8; z: 30 / 3 - 5 = 5.
        places = np.array([[40.0, 4.0, 30.0]])
        assert outputs.to_model(places).tolist() == [[17, 8, 5]]
        assert outputs.to_scan(outputs.to_model(places)) == pytest.approx(places)

    def test_dense_screening_has_no_glance(self):
        volume = volume_of(two_lesions(), AFFINE)
        result = screen(volume, TINY_PLAN, bright_engine(), Budget(), ScreeningSettings(gate=0.0), keep_outputs=True)
        assert result.network_outputs.glance_probability is None
        assert result.network_outputs.read.all()
        assert measure_lesions(volume, result.mask, result.network_outputs)[0].glance_probability is None


def small_outputs(probability: list[float] | None) -> NetworkOutputs:
    """Three sub-volumes of 8 x 8 x 8 in a row along x, overlapping by 4, the last one not at the end of the grid."""
    grid = ModelGrid(((0, 24), (0, 8), (0, 8)), (24, 8, 8), (24, 8, 8), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    windows = [Window((x, 0, 0), "abdomen") for x in (0, 4, 8)]
    return NetworkOutputs(
        grid=grid,
        size_voxels=(8, 8, 8),
        gate=0.5,
        windows=windows,
        grid_windows=windows,
        grid_probability=None,
        glance_probability=None if probability is None else np.array(probability),
        kept=np.array([True, False, True]),
        read=np.array([True, False, False]),
        focus_probability=np.zeros((24, 8, 8), np.float32),
    )


class TestHeatmap:
    def test_fates(self):
        assert fates(small_outputs([0.9, 0.2, 0.8])) == [Fate.READ, Fate.SKIPPED, Fate.UNREAD]
        assert fates(small_outputs([0.9, np.nan, 0.8])) == [Fate.READ, Fate.UNGLANCED, Fate.UNREAD]

    def test_cells_show_the_furthest_fate_and_the_highest_probability(self):
        fate, probability = cells(small_outputs([0.7, 0.2, 0.9]))
        assert cell_voxels(small_outputs(None).grid) == (4, 4, 4)
        assert fate.shape == (6, 2, 2)
        # Cells of 4 voxels along x: 0 in the first; 1 in the first and second; 2 in the second and third; 3 in the
        # third; nothing covers the last two.
        assert fate[:, 0, 0].tolist() == [Fate.READ, Fate.READ, Fate.UNREAD, Fate.UNREAD, Fate.OUTSIDE, Fate.OUTSIDE]
        assert probability[:, 1, 1] == pytest.approx([0.7, 0.7, 0.9, 0.9, 0, 0])

    def test_a_close_sub_volume_has_its_own_size(self):
        outputs = dataclasses.replace(small_outputs([0.7, 0.2, 0.9]), close_voxels=(4, 4, 4))
        outputs.windows[2] = Window((8, 0, 0), "abdomen", close=True)
        assert outputs.sizes.tolist() == [[8, 8, 8], [8, 8, 8], [4, 4, 4]]
        fate, _ = cells(outputs)
        assert fate[:, 0, 0].tolist() == [Fate.READ, Fate.READ, Fate.UNREAD, *[Fate.OUTSIDE] * 3]
        assert fate[2, 1, 1] == Fate.SKIPPED
        (*_, entry) = window_entries(outputs, SmallVolumes({}, {}, (12, 4, 4), (2, 2, 2), (0, 0, 0)))
        assert (entry["low"], entry["high"]) == ([3.5, -0.5, -0.5], [5.5, 1.5, 1.5])

    def test_paint(self):
        fate = np.full((5, 5, 5), Fate.SKIPPED, np.uint8)
        fate[:, :, 4] = Fate.OUTSIDE
        fate[1:4, 1:4, 0:3] = Fate.READ
        rgba = paint(fate, np.where(fate == Fate.READ, 1.0, 0.0).astype(np.float32))
        assert tuple(rgba[2, 2, 2][["R", "G", "B"]].item()) == (0xFF, 0xB0, 0x00)
        assert tuple(rgba[0, 0, 0][["R", "G", "B"]].item()) == (0x4F, 0x8C, 0xFF)
        assert not rgba["A"][:, :, 4].any()
        border, inside, skipped = rgba["A"][1, 2, 1], rgba["A"][2, 2, 1], rgba["A"][0, 0, 0]
        assert border > inside > skipped > 0

    def test_the_layer_lies_where_the_sub_volumes_lie(self):
        case = screened_case()
        outputs = case.network_outputs
        image = decode(heat_layer(outputs, case.affine_ras_mm))
        painted = np.asarray(image.dataobj)
        read = np.argwhere((painted["R"] == 0xFF) & (painted["G"] == 0xB0))
        places = nib.affines.apply_affine(image.affine, read)
        # Every cell of what was read lies inside a sub-volume that was read, by world position.
        low = nib.affines.apply_affine(case.affine_ras_mm, outputs.to_scan(outputs.starts[outputs.read] - 0.5))
        high = low + np.array(outputs.size_voxels) * TINY_PLAN.spacing_mm
        inside = ((places[:, None] >= low) & (places[:, None] <= high)).all(axis=2).any(axis=1)
        assert inside.all()
        # And the lesion's own place is painted as read: R 100 - 4 * 8 = 68; A 80 - 4 * 10 = 40; S -70 + 48 = -22.
        voxel = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), [68.0, 40.0, -22.0])).astype(int)
        assert painted["R"][tuple(voxel)] == 0xFF

    def test_without_glance_there_is_no_layer(self):
        assert heat_layer(small_outputs(None), np.eye(4)) is None

    def test_entries_for_the_pages_script(self):
        # The small grid begins at voxel 0 and has blocks of 2: voxel faces -0.5 and 7.5 are -0.5 and 3.5 there.
        small = SmallVolumes({}, {}, (12, 4, 4), (2, 2, 2), (0, 0, 0))
        first, second, _ = window_entries(small_outputs([0.91234, np.nan, 0.8]), small)
        assert first == {"low": [-0.5] * 3, "high": [3.5] * 3, "p": 0.9123, "fate": "read"}
        assert (second["low"][0], second["p"], second["fate"]) == (1.5, None, "unglanced")


def cell_outputs(logit: list[float]) -> NetworkOutputs:
    """The same with a row of Glance's cells, 12 x 12 x 12 voxels each: cell 0 to voxel 5, cell 1 to 17."""
    found = CellMap(np.array(logit, np.float32).reshape(3, 1, 1), (12.0, 12.0, 12.0))
    return dataclasses.replace(small_outputs([0.7, 0.2, 0.9]), cells=found)


class TestCellsOfGlance:
    LOGIT: ClassVar = [0.0, -np.log(3), np.inf]  # 0.5, 0.25, 1

    def test_opacity_is_by_the_cell_and_colour_by_the_sub_volume(self):
        fate, probability = cells(cell_outputs(self.LOGIT))
        # Where Focus was not pointed at, Glance has looked all the same.
        assert fate[:, 0, 0].tolist() == [Fate.READ, Fate.READ, Fate.UNREAD, Fate.UNREAD, Fate.SKIPPED, Fate.SKIPPED]
        # Blocks of 4 voxels are centred on 1.5, 5.5, 9.5, 13.5, 17.5, 21.5.
        assert probability[:, 1, 1] == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 1.0])
        rgba = paint(fate, probability)
        assert rgba["A"][0, 0, 0] > rgba["A"][2, 0, 0] > 0
        assert rgba["A"][5, 0, 0] > rgba["A"][4, 0, 0] > 0

    def test_what_nobody_looked_at_or_has_no_body_is_painted_weakly(self):
        fate, probability = cells(cell_outputs([np.nan, -np.inf, 0.0]))
        assert probability[:, 0, 0] == pytest.approx([0, 0, 0, 0, 0, 0.5])
        unlooked, without_body, looked = fate[[1, 3, 5], 0, 0]
        assert (unlooked, without_body, looked) == (Fate.READ, Fate.UNREAD, Fate.SKIPPED)
        none = np.zeros(0, bool)
        nothing_read = dataclasses.replace(
            cell_outputs([np.nan, -np.inf, 0.0]), windows=[], glance_probability=np.zeros(0), kept=none, read=none
        )
        assert cells(nothing_read)[0][[1, 3, 5], 0, 0].tolist() == [Fate.UNGLANCED, Fate.OUTSIDE, Fate.SKIPPED]
        assert (paint(fate, probability)["A"][2:4] > 0).all()

    def test_for_the_pages_script(self):
        # The small grid begins at voxel 2 and has blocks of 3: its voxel v is centred on 2 + 1 + 3 v.
        small = SmallVolumes({}, {}, (7, 2, 2), (3, 3, 3), (2, 2, 2))
        entry = cell_entry(cell_outputs([np.log(4), np.nan, -np.inf]), small)
        assert entry is not None
        codes = np.frombuffer(base64.b64decode(entry.pop("p")), np.uint8)
        assert codes.tolist() == [200, UNKNOWN, NO_BODY]  # 0.8 of 250
        assert entry == {"shape": [3, 1, 1], "slope": [0.25] * 3, "offset": [0.75] * 3, "steps": 250}
        # Voxels 3, 6, ..., 21 of the scan, by the rule of the page.
        assert [int(0.25 * v + 0.75) for v in range(7)] == [0, 1, 1, 1, 1, 2, 2]
        found = cell_outputs(self.LOGIT).cells
        assert found is not None
        assert found.index_of(np.arange(3.0, 22.0, 3.0), 0).tolist() == [0, 1, 1, 1, 1, 2, 2]

    def test_none_for_a_glance_of_sub_volumes(self):
        assert cell_entry(small_outputs([0.7, 0.2, 0.9]), SmallVolumes({}, {}, (7, 2, 2), (3, 3, 3), (2, 2, 2))) is None

    def test_the_page_says_what_is_shown(self, cases):
        case = screened_case()
        outputs = case.network_outputs
        assert outputs is not None
        logit = np.zeros([n // 3 + 1 for n in outputs.grid.shape], np.float32)
        judged = dataclasses.replace(outputs, cells=CellMap(logit, (3.0, 3.0, 3.0)))
        page = page_case(dataclasses.replace(case, network_outputs=judged, suspicion=0.314159), 2e6)
        html = render(Page("GF-Screen", [page], 6.0, 48.0))
        assert "probability of each cell" in html
        assert "<span>probability of a cell</span>" in html
        assert '<td class="right">0.31</td>' in html
        data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', html)[1])
        assert data["cases"][0]["cells"]["shape"] == list(logit.shape)
        before = render(Page("GF-Screen", cases, 6.0, 48.0))
        assert "of a cell" not in before
        assert json.loads(re.search(r'id="viewer-data">(.*?)</script>', before)[1])["cases"][0]["cells"] is None


class TestStill:
    def test_cut_out_pads_where_the_scan_ends(self):
        array = np.arange(4 * 4 * 4).reshape(4, 4, 4)
        part, start = cut_out(array, (0, 2, 3), 4.0, (1.0, 1.0, 2.0), -1)
        # Half of 4 mm: two voxels of 1 mm, one of 2 mm.
        assert part.shape == (5, 5, 3)
        assert start.tolist() == [-2, 0, 2]
        assert (part[:2] == -1).all()
        assert part[2, 2, 1] == array[0, 2, 3]
        assert (part[:, :, 2] == -1).all()

    def test_lesions_are_outlined_and_measured_in_the_picture(self):
        from PIL import Image

        picture = np.asarray(Image.open(io.BytesIO(draw_montage(screened_case()))).convert("RGB")).astype(int)
        red, green, blue = (picture[..., channel] for channel in range(3))
        vermilion = (red - blue > 80) & (red - green > 60)
        middle = picture.shape[0] // 2
        assert vermilion[:middle].sum() > 200  # one row per lesion
        assert vermilion[middle:].sum() > 50

    def test_a_notice_lies_across_the_top_and_hides_nothing(self):
        from PIL import Image

        def picture(notice: str) -> np.ndarray:
            return np.asarray(Image.open(io.BytesIO(draw_montage(case, notice))).convert("RGB")).astype(int)

        def amber(rows: np.ndarray) -> float:
            return float((np.abs(rows - [0xFD, 0xF0, 0xD2]).max(axis=2) < 12).mean())

        case = screened_case()
        plain, short = picture(""), picture("Of use for $lung$ nodules.")
        strip = len(short) - len(plain)
        assert 20 < strip < 50
        assert amber(plain) == 0
        assert amber(short[1 : strip - 1]) > 0.7
        assert np.array_equal(short[strip + 2 :], plain[2:])
        # What does not fit into one line is not cut off.
        assert len(picture("Of some use for lung nodules, of none for all else. " * 4)) > len(short)

    def test_a_finding_is_drawn_in_its_own_window(self, monkeypatch):
        from gfscreen.results.preview import montage

        seen = []
        monkeypatch.setattr(montage, "draw_plane", lambda *given: seen.append(given[5]))
        hu = np.full(SHAPE, TISSUE_HU, np.int16)
        hu[20:50, 5:35, 4:32] = -850
        mask = np.zeros(SHAPE, np.uint8)
        mask[30:35, 15:20, 15:20] = mask[6:10, 6:10, 15:19] = 1
        hu[mask > 0] = 20
        volume = volume_of(hu, AFFINE)
        draw_montage(shown_case("a", "ok", volume, mask, measure_lesions(volume, mask)))
        # Three planes each: the larger one in lung, the other between soft tissue of 40 HU.
        assert [(window.low_hu, window.high_hu) for window in seen] == [(-1350, 150)] * 3 + [(-45, 105)] * 3

    def test_more_lesions_make_a_higher_picture_up_to_a_limit(self):
        from PIL import Image

        def height(count: int) -> int:
            mask = np.zeros(SHAPE, np.uint8)
            mask[5 : 5 + 4 * count : 4, 10, 10] = 1
            volume = volume_of(two_lesions(), AFFINE)
            case = shown_case("a", "ok", volume, mask, measure_lesions(volume, mask))
            return int(Image.open(io.BytesIO(draw_montage(case))).height)

        assert height(0) == height(1) < height(2) < height(4) == height(6)


class Ids(HTMLParser):
    """Ids and everything that a browser would fetch because of an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "srcset", "poster", "data") or (key.endswith("href") and tag != "a"):
                self.loads.append(value or "")


@pytest.fixture(scope="module")
def cases() -> list[PageCase]:
    return [page_case(screened_case(), 1e9), PageCase("<b>", "failed", why_not="this case failed")]


class TestPage:
    def test_it_loads_nothing_and_escapes_what_others_wrote(self, cases):
        html = render(Page("GF-Screen", cases, 6.0, 48.0, [("engine", "<i>")], "Untrained"))
        found = Ids()
        found.feed(html)
        assert [url for url in found.loads if not url.startswith(("data:", "#"))] == []
        assert len(found.ids) == len(set(found.ids))
        assert "default-src &#x27;none&#x27;" in html
        assert "&lt;b&gt;" in html
        assert "<i>" not in html
        assert "1 of 2 cases can be viewed here" in html
        assert "48 MB of volumes, 6 MB per case" in html
        assert '<p class="banner warn notice" role="note">Untrained' in html

    def test_what_is_marked_is_called_a_finding(self, cases):
        html = render(Page("GF-Screen", cases, 6.0, 48.0))
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
        assert "findings by volume" in shown
        assert "lesion" not in shown.lower()

    def test_no_banner_without_a_text(self, cases):
        assert 'class="banner' not in render(Page("GF-Screen", cases, 6.0, 48.0))

    def test_findings_are_listed_by_volume_with_where_to_jump(self, cases):
        html = render(Page("GF-Screen", cases, 6.0, 48.0))
        rows = html.split('<tr data-row="0"')[1:]
        # 5 x 4 x 4 and 2 x 2 x 1 voxels of 64 mm3: 5.12 and 0.26 ml.
        assert ["5.12" in rows[0], "0.26" in rows[1]] == [True, True]
        embedded = cases[0].embedded
        assert embedded is not None
        for number, (row, finding) in enumerate(zip(rows, embedded.findings, strict=True)):
            assert row.startswith(f' data-number="{number}"')
            assert embedded.volumes.masks["findings"][finding.voxel] == 1
            assert finding.label == f"finding {number + 1}"

    def test_the_viewer_knows_each_findings_axes_and_window(self, cases):
        html = render(Page("GF-Screen", cases, 6.0, 48.0))
        text = html.split('id="viewer-data">')[1].split("</script>")[0]
        data = json.loads(text)
        first = data["cases"][0]["findings"][0]
        lesion = cases[0].lesions[0]
        assert [line["mm"] for line in first["lines"]] == [lesion.long_axis_mm, lesion.short_axis_mm]
        # LPS mm to RAS mm.
        (x, y, z), _ = lesion.long_axis_ends_mm
        assert first["lines"][0]["ends"][0] == [-x, -y, z]
        assert first["preset"] in data["presets"]
        # Left, back, head: i and j run against x and y.
        assert [(axis["name"], axis["size"], axis["flipped"]) for axis in data["cases"][0]["axes"]] == [
            ("i", 60, True),
            ("j", 40, True),
            ("k", 36, False),
        ]

    def test_the_layers(self, cases):
        assert sorted(cases[0].embedded.layers) == ["findings", "glance", "image"]
        assert len(cases[0].embedded.details["windows"]) == cases[0].windows_total
        dense = page_case(screened_case(gate=0.0), 1e9)
        assert sorted(dense.embedded.layers) == ["findings", "image"]

    def test_a_case_that_does_not_fit_is_listed_without_its_volume(self):
        case = page_case(screened_case(), 100)
        assert case.embedded is None
        html = render(Page("GF-Screen", [case], 1.0, 48.0))
        assert "does not fit into 0.00 MB" in html
        assert len(html) < 50_000  # no viewer

    def test_a_cases_share_of_the_page(self, tmp_path):
        from gfscreen.results.preview.run import Preview

        assert [Preview(tmp_path, n).case_mb for n in (1, 8, 16, 1000)] == [6.0, 6.0, 3.0, 1.0]


def hrefs(page: Path) -> set[str]:
    """Where the page links to, but for its own sections."""
    found = re.findall(r'<a href="([^"]*)"', page.read_text())
    return {unquote(href) for href in found if not href.startswith("#")}


class TestPredict:
    def test_statistics_and_preview_lie_beside_the_masks(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        (run.inputs / "b_0000.nii.gz").write_bytes(b"no image")
        screened = run(statistics=tmp_path / "s.json", preview=tmp_path / "see")
        assert screened.code == 1
        assert screened.written == ["a.nii.gz"]
        found, broken = json.loads((tmp_path / "s.json").read_text())["cases"]
        assert (found["name"], found["status"], found["lesion_count"]) == ("a", "ok", 2)
        assert [lesion["glance_probability"] for lesion in found["lesions"]] == [0.95, 0.95]
        assert found["lesion_volume_mm3"] == pytest.approx(1000 * screened.cases["a"]["lesion_volume_ml"], abs=1)
        assert (broken["status"], broken["lesion_count"]) == ("failed", None)
        assert broken["error"] == screened.cases["b"]["error"]
        assert (tmp_path / "s.csv").is_file()
        assert sorted(path.name for path in (tmp_path / "see").iterdir()) == ["a.png", "index.html"]

    def test_the_page_links_to_what_was_written(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        write_nifti(run.inputs / "b_0000.nii.gz", two_lesions(), AFFINE)
        assert run(statistics=tmp_path / "s.json", preview=tmp_path / "see").code == 0
        found = hrefs(tmp_path / "see" / "index.html")
        masks = [f"../{run.output.name}/{name}.nii.gz" for name in "ab"]
        assert found == {"a.png", "b.png", "../s.csv", *masks}
        assert all((tmp_path / "see" / name).is_file() for name in found)

    def test_without_statistics_there_is_no_link_to_them(self, tmp_path, run):
        (tmp_path / "s.csv").write_text("of another run")
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        assert run(preview=tmp_path / "see").code == 0
        assert hrefs(tmp_path / "see" / "index.html") == {"a.png", f"../{run.output.name}/a.nii.gz"}

    def test_statistics_that_could_not_be_written_are_not_linked_to(self, tmp_path, run, monkeypatch):
        def full(*_: Any) -> None:
            raise OutputError("no room")

        monkeypatch.setattr("gfscreen.results.statistics.documents.write_statistics", full)
        (tmp_path / "s.csv").write_text("of an earlier run")
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        assert run(statistics=tmp_path / "s.json", preview=tmp_path / "see").code == 1
        assert "../s.csv" not in hrefs(tmp_path / "see" / "index.html")

    def test_a_run_that_cannot_begin_still_names_every_case(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        (run.weights / "plan.json").unlink()
        assert run(statistics=tmp_path / "s.json", preview=tmp_path / "see").code == 1
        cases = json.loads((tmp_path / "s.json").read_text())["cases"]
        assert [(case["name"], case["status"]) for case in cases] == [("a", "failed")]
        assert "failed" in (tmp_path / "see" / "index.html").read_text()

    def test_a_fault_of_the_preview_costs_no_mask(self, tmp_path, monkeypatch, run):
        def fault(*_: Any) -> None:
            raise RuntimeError("no ink")

        monkeypatch.setattr("gfscreen.results.preview.run.draw_montage", fault)
        write_nifti(run.inputs / "a_0000.nii.gz", two_lesions(), AFFINE)
        screened = run(preview=tmp_path / "see")
        assert (screened.code, screened.only["status"], screened.written) == (1, "ok", ["a.nii.gz"])
        page = (tmp_path / "see" / "index.html").read_text()
        assert 'class="pill good">ok' in page
        assert "its preview could not be made" in page

    @pytest.mark.parametrize("option", ["statistics", "preview"])
    def test_nothing_but_masks_in_the_output_folder(self, tmp_path, option):
        inside = tmp_path / "out" / ("s.json" if option == "statistics" else "see")
        chosen = {"statistics": None, "preview": None, option: inside}
        with pytest.raises(UsageError, match=f"--{option} .*: lies in the output folder, where only masks may be"):
            OptionalOutputs(**chosen, output=tmp_path / "out", expected=1)

    def test_a_missing_library_is_told_before_screening(self, tmp_path, monkeypatch, capsys):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name))
        engine = constant_engine(1.0, 1.0)
        monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: engine)
        write_plan(tmp_path / "weights")
        write_nifti(tmp_path / "a_0000.nii.gz", two_lesions(), AFFINE)
        arguments = ["-i", f"{tmp_path}/a_0000.nii.gz", "-o", f"{tmp_path}/out", "--weights", f"{tmp_path}/weights"]
        assert main(["-q", "predict", *arguments, "--preview", f"{tmp_path}/see"]) == 2
        error = capsys.readouterr().err
        assert "pip install 'gfscreen[preview]'" in error
        assert error.count("\n") == 1
        assert engine.glanced == 0
        assert not (tmp_path / "out").exists()


def test_stats_draws_existing_masks_too(tmp_path):
    write_nifti(tmp_path / "a_0000.nii.gz", two_lesions(), AFFINE)
    write_nifti(tmp_path / "mask.nii.gz", (two_lesions() == LESION_HU).astype(np.uint8), AFFINE)
    pair = ["--image", str(tmp_path / "a_0000.nii.gz"), "--mask", str(tmp_path / "mask.nii.gz")]
    assert main(["-q", "stats", *pair, "-o", str(tmp_path / "s.json"), "--preview", str(tmp_path / "see")]) == 0
    assert sorted(path.name for path in (tmp_path / "see").iterdir()) == ["a.png", "index.html"]
    assert "Nothing is known of Glance here" in Path(tmp_path / "see" / "index.html").read_text()
    assert hrefs(tmp_path / "see" / "index.html") == {"a.png", "../mask.nii.gz", "../s.csv"}
