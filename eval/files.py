"""Files that a user names."""

from __future__ import annotations

import json
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
