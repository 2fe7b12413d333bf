"""Errors that a user can act on. Each message names the file, the rule, the value found and the remedy, in one line."""

from __future__ import annotations


class GFScreenError(Exception):
    """Base of all errors that are reported as one line without a traceback."""


class UsageError(GFScreenError):
    """The command was called wrongly: exit code 2."""


class InputError(GFScreenError):
    """One scan cannot be read or screened: the case fails, the others go on, exit code 1."""


class ScanTooLargeError(InputError):
    """One scan does not fit into the memory that is free now; the case fails unless it fits once others are done."""


class OutputError(GFScreenError):
    """A result cannot be written: the case fails, nothing half-written is left, exit code 1."""


class WeightsError(GFScreenError):
    """Weights or plan are missing, damaged or do not fit each other: no case can be screened, exit code 1."""


class EngineError(GFScreenError):
    """An inference engine is not available or cannot load the networks: exit code 1."""
