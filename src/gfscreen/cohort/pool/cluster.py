"""The Ray cluster: one of this machine alone, or one that is there already."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from gfscreen.cpus import usable_cpus
from gfscreen.errors import EngineError, UsageError
from gfscreen.stopping import unstoppable

logger = logging.getLogger(__name__)

LOCAL = "local"
_CONNECT_S = 5.0
_START_S = 180
_DEFAULT_PORT = 6379
_CLIENT_PORT = 10001
# Items and records are small; the default would take a third of the memory.
_OBJECT_STORE_BYTES = 128 * 2**20
# On one machine without a dashboard nobody reads Ray's metrics and events: without them, and with a look at resources
# and memory every second in place of four and ten a second, its processes take 5.4 % of a core in place of 7.3 %.
_QUIET = {
    "RAY_enable_metrics_collection": "0",
    "RAY_metrics_report_interval_ms": "60000",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "RAY_debug_dump_period_milliseconds": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "5000",
    "RAY_memory_monitor_refresh_ms": "1000",
}


def connect(address: str) -> Any:
    """The module `ray`, connected: to a new Ray of this machine for `local`, else to `HOST:PORT`, `ray://` or `auto`.

    Nothing about the usage is sent to anybody. Raises UsageError if nobody answers there, EngineError if it cannot be
    started here, ModuleNotFoundError without the extra `cohort`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A worker on the CPU must not lose its view of GPUs that it was not given.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # On a machine that is busy a node takes longer than Ray allows for.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", f"{_START_S}")
    os.environ.setdefault("RAY_agent_register_timeout_ms", f"{1000 * _START_S}")
    if address == LOCAL:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
    import ray

    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address == LOCAL:
        # A cluster that the environment names is not this machine.
        os.environ.pop("RAY_ADDRESS", None)
        try:
            # No dashboard: it takes a fortieth of a core as long as it runs.
            with unstoppable():
                ray.init(
                    num_cpus=usable_cpus(), object_store_memory=_OBJECT_STORE_BYTES, include_dashboard=False, **common
                )
        except Exception as error:  # of many kinds: no room for its sockets, agents that take too long, ...
            first = str(error).strip().split("\n")[0]
            raise EngineError(
                f"Ray cannot be started on this machine ({first}); see its logs in /tmp/ray, or use --ray none"
            ) from error
        return ray
    _ask(address)
    try:
        ray.init(address=address, **common)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise UsageError(
            f"--ray {address}: no Ray cluster can be joined there ({first}); start it, give its token "
            "(RAY_AUTH_TOKEN), and have the same version of Ray"
        ) from error
    return ray


def _ask(address: str) -> None:
    """See that something listens, in seconds: Ray itself would try for minutes. Raises UsageError."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"gcs://{address}")
    try:
        port = parts.port or (_CLIENT_PORT if parts.scheme == "ray" else _DEFAULT_PORT)
    except ValueError as error:
        raise UsageError(f"--ray {address}: expected local, auto, HOST:PORT or ray://HOST:PORT") from error
    if not parts.hostname:
        raise UsageError(f"--ray {address}: expected local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((parts.hostname, port), _CONNECT_S).close()
    except OSError as error:
        raise UsageError(
            f"--ray {address}: nobody answers ({error.strerror or error}); start Ray there, or name another address"
        ) from error
