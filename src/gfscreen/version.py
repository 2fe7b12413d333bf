"""The version of the package, read by setuptools and by `--version` without importing anything else."""

__version__ = "0.1.0"
