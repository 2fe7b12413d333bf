"""A real SLURM of one node on this machine: munge, controller and node daemon, everything below one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.orthanc import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"))


def need_slurm() -> None:
    """Skips where SLURM is not installed or the user is not root; with GFSCREEN_REQUIRE_SLURM=1 it fails."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing or os.geteuid() != 0:
        message = f"needs root and SLURM (Debian: apt-get install slurm-wlm munge), without: {missing}"
        if os.environ.get("GFSCREEN_REQUIRE_SLURM") == "1":
            pytest.fail(message)
        pytest.skip(message)


class Slurm:
    """The daemons and what is asked of them."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        host = os.uname().nodename.partition(".")[0]
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self.config = folder / "slurm.conf"
        self.config.write_text(
            f"""ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
        )
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.config)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._run(
            *("munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key"),
            *(f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid"),
            *(f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed"),
        )
        self._until(lambda: (self.folder / "munge.socket").exists())
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        self._until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t", check=False))

    def _run(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _until(self, holds, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < end, logs
            assert all(process.poll() is None for process in self._processes), logs
            time.sleep(0.2)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def ask(self, *command: str, check: bool = True, **more: str) -> str:
        done = subprocess.run(
            command, env={**self.environment, **more}, capture_output=True, text=True, check=False, cwd=self.folder
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout.strip()

    def submit(self, script: Path, *arguments: str, options: tuple[str, ...] = (), **variables: str) -> str:
        """The number of a job."""
        log = f"--output={self.folder}/job-%j.log"
        return self.ask("sbatch", "--parsable", log, *options, str(script), *arguments, **variables)

    def wait(self, job: str, seconds: float = 300.0) -> str:
        """Wait for a job; its log."""
        self._until(lambda: not self.ask("squeue", "--noheader", f"--jobs={job}", check=False), seconds)
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("job-*.log")))
