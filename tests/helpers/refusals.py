"""What a reader says of a scan that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gfscreen.errors import InputError
from gfscreen.scan.volume import read_volume


def error_of(path: Path, *more: Any, read: Callable[..., Any] = read_volume) -> str:
    """The message of the refusal: one line that begins with the file's name."""
    with pytest.raises(InputError) as caught:
        read(path, *more)
    message = str(caught.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    return message
