#!/bin/sh
# Ray without a dashboard and without logs to the driver still runs the processes of both.
#
# Guess:     ray.init(include_dashboard=False, log_to_driver=False) starts what schedules tasks and holds objects, and
#            neither a dashboard nor what tails log files for the driver.
# Behaviour: five Python processes run beside the driver before any task: the dashboard (without its web server), an
#            agent of it, one of runtime environments, the log monitor and the autoscaler's monitor. Together they hold
#            500 MB that no array of the user's is in.
# Versions:  ray 2.60.0 with its extra `default`, psutil 7.2.2. Seen on 2026-11-29.
# Why:       a worker that reads CT wants all cores and memory of its node. On two cores these processes took about 5 % of
#            one, which is counted against the share that a cluster may cost beside a plain loop over the scans; on a
#            node that is given 2 GB beside a scan of 1200 slices they are what does not fit.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check "ray[default]==2.60.0" psutil==7.2.2
RAY_USAGE_STATS_ENABLED=0 "$work/env/bin/python" - <<'PYTHON'
import time

import psutil
import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100_000_000)
time.sleep(10)
found = {}
for process in psutil.Process().children(recursive=True):
    line = " ".join(process.cmdline())
    for name in ("dashboard/dashboard.py", "DashboardAgent", "RuntimeEnvAgent", "log_monitor.py", "monitor.py"):
        if name in line and name not in found and (name != "monitor.py" or "autoscaler" in line):
            found[name] = process.memory_info().rss / 1e6
for name, megabytes in found.items():
    print(f"{name:24} {megabytes:5.0f} MB")
print(f"{len(found)} processes, {sum(found.values()):.0f} MB resident")
assert "dashboard/dashboard.py" in found, "it has changed: no dashboard runs"
assert "log_monitor.py" in found, "it has changed: no log monitor runs"
assert sum(found.values()) > 200
ray.shutdown()
PYTHON
