"""Runs of `predict` with such an engine, and what they leave behind."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gfscreen.config import PLAN_FILE, Plan, plan_to_json
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine


def write_plan(folder: Path, plan: Plan = TINY_PLAN) -> Path:
    """A weights folder that holds only the plan: enough where the engine is faked."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(json.dumps(plan_to_json(plan)))
    return folder


@dataclass
class Run:
    """What a run left behind: exit code, report, names in the output folder."""

    code: int
    report: dict[str, Any]
    output: Path

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        return {case["name"]: case for case in self.report["cases"]}

    @property
    def only(self) -> dict[str, Any]:
        assert len(self.report["cases"]) == 1
        case: dict[str, Any] = self.report["cases"][0]
        return case

    @property
    def written(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir()) if self.output.is_dir() else []


class Runner:
    """Runs `predict` with a fake engine on files below one temporary folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, plan: Plan = TINY_PLAN) -> None:
        self.inputs, self.output = folder / "inputs", folder / "outputs"
        self.inputs.mkdir()
        self.report, self.weights = folder / "report.json", write_plan(folder / "weights", plan)
        self._monkeypatch = monkeypatch

    def __call__(self, source: Path | None = None, engine: FakeEngine | None = None, **options: Any) -> Run:
        engine = engine or bright_engine()
        self._monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: engine)
        # Otherwise the age of the test session would count against a deadline.
        self._monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
        keys = {field.name for field in dataclasses.fields(ScreeningSettings)} & set(options)
        settings = ScreeningSettings(**{key: options.pop(key) for key in keys})
        output = options.pop("output", self.output)
        code = predict(
            Options(source or self.inputs, output, self.weights, settings=settings, report=self.report, **options)
        )
        return Run(code, json.loads(self.report.read_text(encoding="utf-8")), output)
