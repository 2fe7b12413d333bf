"""What a worker keeps: counts, and each finding once; and the check of the seeds before it begins."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

from eval.reliability.fuzz.seeds import Seed
from eval.reliability.fuzz.target import Finding, Reader

STATE_FILE = "worker.json"


def place_of(error: BaseException) -> str:
    """File and line of the innermost frame of the product: what tells findings apart."""
    cause = error.__cause__ or error
    frames = [f for f in traceback.extract_tb(cause.__traceback__) if "gfscreen" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside the product"


class Log:
    """Counts and findings, written to a file that `run` reads, also after this process has died."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self._folder, self._reader = folder, reader
        self.findings: dict[str, dict[str, object]] = {}

    def add(self, error: Finding, data: bytes, suffix: str) -> None:
        """Keep a finding and the file that made it, once per kind and place."""
        key = f"{error.kind} at {place_of(error)}"
        known = self.findings.get(key)
        if known is not None:
            known["times"] = int(str(known["times"])) + 1
            return
        name = f"finding-{error.kind}-{len(self.findings)}-{self._reader.executions}{suffix}"
        (self._folder / name).write_bytes(data)
        self.findings[key] = {"what": key, "message": str(error)[:300], "file": name, "times": 1}
        self.write()

    def write(self) -> None:
        """Write the state so far."""
        state = {
            "executions": self._reader.executions,
            "outcomes": dict(self._reader.outcomes),
            "slowest_s": round(self._reader.slowest_s, 3),
            "largest_mb": round(self._reader.largest_mb, 1),
            "growth_mb": round(self._reader.growth_mb, 1),
            "findings": list(self.findings.values()),
        }
        temporary = self._folder / (STATE_FILE + ".part")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._folder / STATE_FILE)


def read_seeds(reader: Reader, seeds: list[Seed]) -> None:
    """Every seed must be accepted, or nothing is tested; also loads what is loaded on first use."""
    for seed in seeds:
        outcome = reader.execute(seed.data, seed.suffix)
        if outcome != "scan":
            raise RuntimeError(f"a valid {seed.suffix} file is refused; the reader or the seeds are wrong")
    reader.start()
