"""Hides a package from Ray's processes: jsonschema can do without it, and its import takes seconds of a core.

It is there for the SBOM alone; every process of Ray imports jsonschema, and a node whose agents take 15 s gives up.
"""

raise ImportError("hidden from Ray in tests")
