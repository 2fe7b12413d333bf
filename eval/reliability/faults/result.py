"""What came of a fault."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """A fault, how often it was made, and what was wrong afterwards.

    not_run: why it could not be made here; it then counts neither as survived nor as failed.
    """

    title: str
    times: int
    detail: str = ""
    not_run: str | None = None
    failures: list[str] = field(default_factory=list)
    failed_times: int = 0

    def note(self, attempt: int, problems: list[str]) -> None:
        """Take down what was wrong after one attempt; an empty list is what is wanted."""
        if problems:
            self.failed_times += 1
            self.failures += [f"attempt {attempt}: {problem}" for problem in problems[:3]]

    @property
    def survived(self) -> int:
        """Attempts after which everything was as it must be."""
        return 0 if self.not_run else self.times - self.failed_times
