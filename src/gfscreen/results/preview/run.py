"""The preview of a run, case by case: a still for each, and one page for all."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.results.preview.case import ShownCase
from gfscreen.results.preview.findings_list import Link, link_to
from gfscreen.results.preview.montage import draw_montage
from gfscreen.results.preview.page import Page, PageCase, page_case, render
from gfscreen.results.preview.viewer import NIIVUE
from gfscreen.text import encodable, file_stem

PAGE_NAME = "index.html"
# Limits on the volumes inside the page, in MB of base64: browsers open 50 MB at once, and a CT is recognisable at 1 MB.
PAGE_MB = 48.0
CASE_MB = (1.0, 6.0)


def require_preview() -> None:
    """Raise UsageError, which names the extra to install, unless everything that a preview needs is there."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--preview draws with matplotlib, which is not installed; pip install 'gfscreen[preview]'")
    if not NIIVUE.is_file():
        raise UsageError(
            f"--preview needs {NIIVUE.name}, which this installation left out; use one made by pip install"
        )


class Preview:
    """Draws cases as they come and writes the page at the end. Only the small volumes stay in memory.

    Args:
        folder: gets `<case>.png` for every case and `index.html`; made if it is missing.
        expected: number of cases, which share the page's room.

    Raises UsageError if a part that is needed is not installed.

    """

    def __init__(self, folder: Path, expected: int) -> None:
        require_preview()
        self.folder = folder
        low, high = CASE_MB
        self.case_mb = min(max(PAGE_MB / max(expected, 1), low), high)
        self._cases: list[PageCase] = []

    def add(self, case: ShownCase, mask: Path | None = None, notice: str = "") -> None:
        """Write the still of a case and keep its small volumes for the page. Raises OutputError.

        What the page could not hold of it is met here, where it concerns this case alone.

        Args:
            case: the case.
            mask: its mask, to which the page links if it is there.
            notice: what the weights are of use for, drawn onto the still; empty draws nothing.

        """
        still = self._write(f"{file_stem(case.name)}.png", draw_montage(case, notice))
        links = _there(link_to("montage", still, self.folder), link_to("mask", mask, self.folder))
        used = sum(done.embedded.size for done in self._cases if done.embedded is not None)
        self._cases.append(page_case(case, min(self.case_mb * 1e6, PAGE_MB * 1e6 - used), links))

    def add_absent(self, name: str, status: str, why_not: str) -> None:
        """A case of which there is nothing to see."""
        self._cases.append(PageCase(name, status, why_not=why_not))

    def finish(
        self,
        title: str,
        facts: Sequence[tuple[str, str]] = (),
        banner: str = "",
        statistics: Path | None = None,
    ) -> Path:
        """Write the page; its path. Raises OutputError.

        Args:
            title: of the page.
            facts: name and value of what the run was made with.
            banner: what must be known before anything else; empty shows none.
            statistics: the table of this run, to which the page links if it is there.

        """
        links = _there(link_to("statistics (CSV)", statistics, self.folder))
        page = Page(title, self._cases, self.case_mb, PAGE_MB, facts, banner, links)
        return self._write(PAGE_NAME, encodable(render(page)).encode("utf-8"))

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
            ) from error
        return path


def _there(*links: Link | None) -> list[Link]:
    return [link for link in links if link is not None]
