"""Files that a user names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gfscreen.errors import UsageError


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises UsageError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; name an existing one or leave the option out") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as JSON ({error}); write it again") from error


def write_shown(path: Path, result: Any) -> None:
    """Write JSON values to a file, whose folder is made, and to stdout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
