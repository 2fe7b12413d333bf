"""The progress line: case, number, stage, and what is left by the mean of the cases that were screened."""

from __future__ import annotations

import os

import pytest

from gfscreen.command.progress import TerminalProgress, duration
from gfscreen.screening.progress import CaseProgress


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("gfscreen.command.progress.time.monotonic", clock)
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback=(80, 24): os.terminal_size((80, 24)))
    return clock


def shown(capsys) -> str:
    """The last line as a person sees it."""
    return capsys.readouterr().err.rpartition("\r")[2].removesuffix("\x1b[K")


def screened(progress: TerminalProgress, clock: Clock, number: int, seconds: float, cases: int = 200) -> None:
    progress.begin_case(number, cases, f"case{number}")
    progress("glance", 1, 9)
    clock.now_s += seconds


def test_the_line(clock, capsys):
    progress = TerminalProgress()
    assert isinstance(progress, CaseProgress)
    screened(progress, clock, 1, 8.0)
    assert shown(capsys) == "[1/200] case1  glance 1/9", "nothing is known of the time yet"
    screened(progress, clock, 2, 12.0)
    progress.begin_case(3, 200, "CASE")
    assert shown(capsys) == "[3/200] CASE  about 33 min left"
    clock.now_s += 4.0
    progress("focus", 7, 19)
    assert shown(capsys) == "[3/200] CASE  focus 7/19  about 33 min left"  # 198 x 10 s less 4 s
    clock.now_s += 500.0  # a case that takes longer than the mean
    progress("focus", 8, 19)
    assert shown(capsys).endswith("about 33 min left")


def test_cases_of_an_earlier_run_do_not_count(clock, capsys):
    progress = TerminalProgress()
    for number in range(1, 5):
        progress.begin_case(number, 10, "kept")
        clock.now_s += 0.1
    screened(progress, clock, 5, 30.0, 10)
    progress.begin_case(6, 10, "next")
    assert shown(capsys) == "[6/10] next  about 2 min left"


def test_it_ends_with_an_empty_line(clock, capsys):
    progress = TerminalProgress()
    progress.begin_case(1, 1, "a")
    progress("focus", 3, 3)
    assert shown(capsys) == ""


def test_it_never_wraps_and_shows_no_control_characters(clock, capsys):
    progress = TerminalProgress()
    progress.begin_case(1, 2, "x\n\x1b[31m" + "y" * 300)
    line = shown(capsys)
    assert len(line) < 80
    assert "\x1b" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (34 * 60, "34 min"), (5400, "1.5 h"), (9000, "2.5 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
