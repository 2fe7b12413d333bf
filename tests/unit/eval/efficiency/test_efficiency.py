"""Sampling, areas, launching and the files of `python -m eval efficiency`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from eval.__main__ import main
from eval.efficiency import areas
from eval.efficiency.gpu import MIB, GpuReading, open_gpu
from eval.efficiency.host import HostReading, busy_percent, organisers_cpu
from eval.efficiency.launch import CommandLaunch, ContainerLaunch, Folders
from eval.efficiency.measure import team_name
from eval.efficiency.own import ContainerProbe, OwnReading, TreeProbe, find_cgroup
from eval.efficiency.results import ORGANISERS_COLUMNS, organisers_json, organisers_row
from eval.efficiency.runner import find_cases, read_report, run_case
from eval.efficiency.sampler import Sample, UsageSampler, shifted

HOST = HostReading((50.0, 10.0, 30.0), 65.0, 1000.0)


# --- NVML through its library's interface ----------------------------------------------------------------------------


class FakeNvml(SimpleNamespace):
    """The part of `pynvml` in use, playing a recording: (free MiB, s it takes) per memory query; None: it fails."""

    class NVMLError(Exception):
        pass

    def __init__(self, recording=(), total=16384, processes=(), utilisation=37, clock=None, count=1):
        super().__init__(now=0.0, closed=0, position=0)
        self.recording, self.total, self.processes = list(recording), total, list(processes)
        self.utilisation, self.count = utilisation, count

    def clock(self):
        return self.now

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlShutdown(self):  # noqa: N802
        self.closed += 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return f"handle {index}"

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return b"Quadro RTX 5000"

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        if self.position < 1:  # the probe asks once for the card's size
            self.position += 1
            return SimpleNamespace(total=self.total * MIB, free=0, used=self.total * MIB)
        entry = self.recording[self.position - 1]
        self.position += 1
        if entry is None:
            raise self.NVMLError("lost")
        free, duration = entry
        self.now += duration
        # `used` of NVML leaves out what the driver reserves; the organisers take total - free.
        return SimpleNamespace(total=self.total * MIB, free=free * MIB, used=1)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        if self.utilisation is None:
            raise self.NVMLError("not supported")
        return SimpleNamespace(gpu=self.utilisation, memory=5)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=p, usedGpuMemory=None if mb is None else mb * MIB) for p, mb in self.processes]


def play(monkeypatch, nvml, own=None):
    """Sample through the recording, 0.1 s of sleep after each round, and return the samples."""
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    probe = open_gpu(0, nvml.clock)
    assert probe is not None
    sampler = UsageSampler(probe, nvml.clock)
    sampler.own = SimpleNamespace(source="test", read=lambda: own)
    samples = []
    for _ in nvml.recording:
        samples.append(sampler.take())
        nvml.now += 0.1
    probe.close()
    assert nvml.closed == 1
    return samples


def test_areas_of_a_recording_with_a_late_query(monkeypatch):
    # Used = 16384 - free: 400, 1400, 2400, 4400, 400 MiB. Queries take no time, but the fourth takes 1 s.
    recording = [(15984, 0), (14984, 0), (13984, 0), (11984, 1.0), (15984, 0)]
    samples = play(monkeypatch, FakeNvml(recording))
    # Taken at 0, 0.1, 0.2, then 0.3..1.3 (middle 0.8), then 1.4.
    assert [s.gpu.time_s for s in samples] == pytest.approx([0, 0.1, 0.2, 0.8, 1.4])
    idle = [Sample(0, HOST, GpuReading(0, 0, 300.0), None)]
    figures = areas.gpu_figures(samples, idle, end_s=1.5)
    assert figures["max_mb"] == 4400
    # Organisers: (400 + 1400 + 2400 + 4400 + 400) x 0.1 = 900.
    assert figures["organisers_area_mb_s"] == pytest.approx(900)
    # True: 0.1 x 900 + 0.1 x 1900 + 0.6 x 3400 + 0.6 x 2400 + 0.1 x 400 (held to the end)
    #     = 90 + 190 + 2040 + 1440 + 40 = 3800. The late query alone makes the organisers' area read four times too low.
    assert figures["area_mb_s"] == pytest.approx(3800)
    assert (figures["idle_mb"], figures["max_above_idle_mb"]) == (300, 4100)
    assert figures["longest_query_s"] == 1.0
    assert figures["max_utilisation_percent"] == 37
    assert figures["mean_utilisation_percent"] == pytest.approx(37)


def test_several_processes_share_the_card(monkeypatch):
    # 900 + 50 MiB are ours, 2000 belong to a stranger; the card as a whole has 3000 in use.
    own = OwnReading(1.0, None, None, None, frozenset({100, 200}))
    nvml = FakeNvml([(13384, 0)] * 2, processes=[(100, 900), (200, 50), (999, 2000)])
    samples = play(monkeypatch, nvml, own)
    assert samples[0].gpu.used_mb == 3000
    figures = areas.gpu_figures(samples, [], end_s=0.2)
    assert (figures["max_mb"], figures["own_max_mb"], figures["idle_mb"]) == (3000, 950, None)
    # 3000 from 0 to 0.2 s.
    assert figures["area_mb_s"] == pytest.approx(600)


@pytest.mark.parametrize("processes", [[(100, None)], [(999, 5)], []])
def test_own_gpu_memory_that_is_not_told_is_null(monkeypatch, processes):
    own = OwnReading(1.0, None, None, None, frozenset({100}))
    samples = play(monkeypatch, FakeNvml([(16000, 0)], processes=processes), own)
    assert areas.gpu_figures(samples, [], 0.1)["own_max_mb"] is None


def test_a_lost_query_is_left_out_and_counted(monkeypatch):
    # 1000 at 0 s, nothing at 0.1 s, 3000 at 0.2 s: true area 0.2 x 2000, theirs (1000 + 3000) x 0.1.
    samples = play(monkeypatch, FakeNvml([(15384, 0), None, (13384, 0)], utilisation=None))
    figures = areas.gpu_figures(samples, [], end_s=0.2)
    assert figures["area_mb_s"] == pytest.approx(400)
    assert figures["organisers_area_mb_s"] == pytest.approx(400)
    assert figures["readings_lost"] == 1
    assert figures["max_utilisation_percent"] is None


def test_no_library_no_driver_no_device_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpu() is None
    nvml = FakeNvml(count=1)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert open_gpu(1) is None
    assert nvml.closed == 1
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(nvml.NVMLError("driver not loaded"))
    assert open_gpu(0) is None


def test_the_real_library_has_every_name_in_use():
    import pynvml

    for name in [n for n in vars(FakeNvml) if n.startswith("nvml")] + ["NVMLError"]:
        assert hasattr(pynvml, name), name


# --- Areas -----------------------------------------------------------------------------------------------------------


def test_integral_by_hand():
    # 2 held over 0..1, then (2 + 4)/2 over 1..3, then 4 held over 3..4.
    assert areas.integral([(1, 2), (3, 4)], 0, 4) == 2 + 6 + 4
    assert areas.integral([(0.5, 7)], 0, 2) == 14
    assert areas.integral([], 0, 2) is None
    assert areas.integral([(-1, 3), (9, 3)], 0, 2) == 6  # moved to the limits


def test_nothing_measured_is_none():
    blank = [Sample(0.0, HOST, None, None)]
    assert areas.gpu_figures(blank, [], 1.0) is None
    assert areas.own_figures(blank, "x", 1.0) is None
    assert areas.cpu_figures([], [], 1.0) is None
    assert areas.ram_figures([], [], 1.0) is None
    assert areas.organisers_area([]) is None


def test_cpu_and_ram_figures_by_hand():
    # Idle shares 30 and 50 %: used 70 and 50 by their count, 65 and 45 by ours, at 0.5 and 1.5 of 2 s.
    samples = [
        Sample(0.5, HostReading((50.0, 10.0, 30.0), 65.0, 1000.0), None, None),
        Sample(1.5, HostReading((30.0, 10.0, 50.0), 45.0, 3000.0), None, None),
    ]
    idle = [Sample(-0.5, HostReading((0.0, 0.0, 90.0), 5.0, 800.0), None, None)]
    cpu = areas.cpu_figures(samples, idle, 2.0)
    assert cpu["organisers_max_percent"] == 70
    assert cpu["organisers_area_percent_s"] == pytest.approx(12)
    assert cpu["area_percent_s"] == pytest.approx(0.5 * 65 + 55 + 0.5 * 45)
    assert (cpu["max_percent"], cpu["mean_percent"], cpu["idle_percent"]) == (65, pytest.approx(55), 5)
    ram = areas.ram_figures(samples, idle, 2.0)
    assert (ram["max_mb"], ram["idle_mb"], ram["max_above_idle_mb"]) == (3000, 800, 2200)
    assert ram["organisers_area_mb_s"] == pytest.approx(400)
    assert ram["area_mb_s"] == pytest.approx(0.5 * 1000 + 2000 + 0.5 * 3000)


Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")


def test_cpu_shares_by_the_organisers_formula_and_without_it():
    before = Times(10, 0, 5, 100, 1, 0, 0, 0, 2, 0)
    now = Times(10.06, 0.02, 5.02, 100.1, 1.01, 0, 0, 0.01, 2.06, 0)
    # Their sum is 0.06 + 0.02 + 0.10 + 0.1 = 0.28.
    assert organisers_cpu(before, now) == pytest.approx((6 / 0.28, 2 / 0.28, 10 / 0.28))
    # All kinds but guest (within user): 0.06 + 0.02 + 0.02 + 0.1 + 0.01 + 0.01 = 0.22; idle and waiting 0.11.
    assert busy_percent(before, now) == pytest.approx(50)
    assert busy_percent(now, now) is None


def test_times_count_from_the_start_of_the_process():
    samples = [Sample(5.0, HOST, GpuReading(5.5, 1.0, 9.0), None), Sample(6.0, HOST, None, None)]
    moved = shifted(samples, 5.0)
    assert [s.time_s for s in moved] == [0.0, 1.0]
    assert moved[0].gpu.time_s == 0.5


# --- The program's own share -----------------------------------------------------------------------------------------


def write(path: Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", ["docker/abc", "system.slice/docker-abc.scope"])
def test_cgroup_version_2(tmp_path, name):
    folder = tmp_path / name
    write(folder / "memory.current", f"{300 * MIB}\n")
    write(folder / "memory.peak", f"{400 * MIB}\n")
    write(folder / "memory.stat", f"anon {200 * MIB}\nfile {100 * MIB}\n")
    write(folder / "cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    write(folder / "cgroup.procs", "12\n34\n")
    found = find_cgroup("abc", tmp_path)
    assert found is not None
    assert found.version == 2
    assert found.read() == OwnReading(300, 200, 2.5, 400, frozenset({12, 34}))


def test_cgroup_version_1(tmp_path):
    memory, cpu = tmp_path / "memory" / "docker" / "abc", tmp_path / "cpu,cpuacct" / "docker" / "abc"
    write(memory / "memory.usage_in_bytes", f"{300 * MIB}")
    write(memory / "memory.max_usage_in_bytes", f"{400 * MIB}")
    write(memory / "memory.stat", f"rss 1\ntotal_rss {200 * MIB}\n")
    write(memory / "cgroup.procs", "7")
    write(cpu / "cpuacct.usage", "1500000000")
    found = find_cgroup("abc", tmp_path)
    assert found is not None
    assert found.version == 1
    assert found.read() == OwnReading(300, 200, 1.5, 400, frozenset({7}))


def test_cgroup_by_the_path_of_its_process(tmp_path):
    write(tmp_path / "user.slice/x/docker-abc.scope" / "memory.current", "1048576")
    assert find_cgroup("abc", tmp_path) is None
    found = find_cgroup("abc", tmp_path, "0::/user.slice/x/docker-abc.scope\n")
    assert found is not None
    assert found.read().ram_mb == 1
    write(tmp_path / "memory/odd/abc" / "memory.usage_in_bytes", "2097152")
    found = find_cgroup("abc", tmp_path, "5:cpu,cpuacct:/odd/abc\n4:memory:/odd/abc\n")
    assert found is not None
    assert (found.read().ram_mb, found.read().cpu_s) == (2, None)


def test_a_container_before_and_after_its_life_has_no_reading(tmp_path):
    probe = ContainerProbe(tmp_path / "cid", tmp_path)
    assert probe.read() is None
    write(tmp_path / "cid", "abc")
    write(tmp_path / "docker/abc/memory.current", "1048576")
    assert probe.read().ram_mb == 1
    assert probe.source == "cgroup v2"
    shutil.rmtree(tmp_path / "docker")
    assert probe.read() is None


def test_a_process_tree_is_summed():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(40_000_000); input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        probe = TreeProbe(process.pid)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reading = probe.read()
            if reading is not None and len(reading.pids) == 2 and reading.ram_mb > 45:
                break
            time.sleep(0.02)
        assert len(reading.pids) == 2
        assert reading.ram_mb > 45
        assert reading.cpu_s >= 0
    finally:
        process.communicate(b"\n", timeout=20)
    assert probe.read() is None


# --- Running one case ------------------------------------------------------------------------------------------------

COPY = "cp {input}/a_0000.nii.gz {output}/a.nii.gz"


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "cases" / "a_0000.nii.gz"
    write(path, "not looked into")
    return path


def measure(scan, out, command, timeout_s=30.0, gpu=None):
    return run_case(scan, out, CommandLaunch(command), gpu, timeout_s, idle_s=0.0)


def test_a_case_that_runs(scan, tmp_path):
    result = measure(scan, tmp_path / "out", COPY)
    assert (result.name, result.case, result.status, result.exit_code, result.error) == ("a_0000", "a", "ok", 0, "")
    assert (tmp_path / "out" / "predictions" / "a.nii.gz").read_text() == "not looked into"
    assert result.time_s > 0
    assert result.cpu_s is not None
    assert len(result.idle) >= 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["logs", "predictions"]  # no folder of the run left


def shell(script):
    return f"sh -c '{script}' sh {{input}} {{output}}"


def test_a_failing_case_keeps_its_exit_code_and_last_words(scan, tmp_path):
    result = measure(scan, tmp_path / "out", shell("echo first; echo no weights >&2; exit 3"))
    assert (result.status, result.exit_code) == ("failed", 3)
    assert result.error == "a_0000: exit code 3: first | no weights"


def test_a_killed_case_is_137(scan, tmp_path):
    result = measure(scan, tmp_path / "out", shell("kill -9 $$"))
    assert (result.status, result.exit_code) == ("failed", 137)
    assert "killed" in result.error


def test_a_case_without_mask_is_no_output(scan, tmp_path):
    stale = tmp_path / "out" / "predictions" / "a.nii.gz"
    write(stale, "of a run before")
    result = measure(scan, tmp_path / "out", shell("touch $2/other.txt"))
    assert (result.status, result.exit_code, result.unexpected_outputs) == ("no_output", 0, ["other.txt"])
    assert not stale.exists()


def test_a_case_over_time_is_killed_with_its_descendants(scan, tmp_path):
    # The grandchild leaves the process group, as a daemon would.
    note = tmp_path / "pid"
    script = f'setsid sh -c "echo \\$\\$ > {note}; exec sleep 60" & sleep 60'
    threads = threading.active_count()
    start = time.monotonic()
    result = measure(scan, tmp_path / "out", shell(script), timeout_s=1.0)
    assert time.monotonic() - start < 20
    assert (result.status, result.exit_code) == ("timeout", 137)
    assert "still running after 1.0 s" in result.error
    assert threading.active_count() == threads
    assert not psutil.pid_exists(int(note.read_text())) or psutil.Process(int(note.read_text())).status() == "zombie"


def test_a_daemon_left_in_the_group_is_ended(scan, tmp_path):
    note = tmp_path / "pid"
    result = measure(scan, tmp_path / "out", shell(f"sleep 60 & echo $! > {note}; cp $1/* $2/a.nii.gz"))
    assert result.status == "ok"
    time.sleep(0.1)
    pid = int(note.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where the tests were started in the background and a shell has set it to be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_case_and_says_so(scan, tmp_path):
    threads = threading.active_count()
    timer = threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    result = measure(scan, tmp_path / "out", shell("sleep 60"))
    timer.join()
    assert result.status == "interrupted"
    assert result.time_s < 20
    assert threading.active_count() == threads


def test_the_report_is_found_by_name(tmp_path):
    path = tmp_path / "report.json"
    entries = [{"name": "b", "seconds": {"read": 2}}, {"name": "a_0000.nii.gz", "seconds": {"read": 1}}]
    path.write_text(json.dumps({"cases": entries}))
    assert read_report(path, "a")["seconds"] == {"read": 1}
    assert read_report(path, "c") is None
    path.write_text('{"cases": 5}')
    assert read_report(path, "a") is None
    assert read_report(tmp_path / "none", "a") is None


def test_cases_are_found_in_a_folder_its_images_or_one_file(tmp_path):
    write(tmp_path / "set" / "images" / "b_0000.nii.gz", "")
    write(tmp_path / "set" / "labels" / "b.nii.gz", "")
    write(tmp_path / "set" / "images" / ".hidden_0000.nii.gz", "")
    assert [p.name for p in find_cases(tmp_path / "set")] == ["b_0000.nii.gz"]
    assert [p.name for p in find_cases(tmp_path / "set" / "images" / "b_0000.nii.gz")] == ["b_0000.nii.gz"]
    assert find_cases(tmp_path / "set" / "labels") == []


def test_a_running_sampler_cannot_be_started_twice():
    sampler = UsageSampler(None)
    sampler.start()
    try:
        with pytest.raises(RuntimeError, match="runs already"):
            sampler.start()
    finally:
        sampler.stop()
    assert sampler.stop() is sampler.samples


# --- The files -------------------------------------------------------------------------------------------------------


def run(*arguments):
    return main(["efficiency", *map(str, arguments)])


def test_files_without_a_gpu(scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    out = tmp_path / "out"
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"cases": [{"name": "a", "seconds": {"read": 0.5}}]}))
    script = f"cp {report} $GFSCREEN_REPORT; cp $1/* $2/a.nii.gz; sleep 0.4"
    assert run("-i", scan.parent, "-o", out, "--command", shell(script), "--idle", "0", "--name", "team") == 0
    assert "GPU not measured" in capsys.readouterr().out
    theirs = json.loads((out / "a_0000.json").read_text())
    assert sorted(theirs) == ["RAM_list", "cpu_list", "gpu_memory", "time"]
    assert theirs["gpu_memory"] is None
    assert all(len(entry) == 3 for entry in theirs["cpu_list"])
    assert len(theirs["cpu_list"]) == len(theirs["RAM_list"]) >= 1
    with (out / "team_Efficiency.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert tuple(rows[0]) == ORGANISERS_COLUMNS
    assert rows[1][0] == "a_0000"
    assert rows[1][2:4] == ["", ""]  # never 0
    detail = json.loads((out / "detail" / "a_0000.json").read_text())
    assert (detail["gpu"], detail["stages_s"]) == (None, {"read": 0.5})
    assert detail["own"]["source"] == "process tree"
    assert detail["ram"]["idle_mb"] > 0
    for curve in ("GPU", "CPU", "RAM"):
        assert (out / f"a_0000_{curve}-Time.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in out.glob("*.json")] == ["a_0000.json"]  # the organisers' collector reads every JSON here


def test_the_organisers_rounding():
    detail = {
        "name": "a_0000",
        "time_s": 12.3456,
        "gpu": {"max_mb": 2613.6, "organisers_area_mb_s": 900.4},
        "cpu": {"organisers_max_percent": 70.123, "organisers_area_percent_s": 12.005},
        "ram": {"max_mb": 3000.456, "organisers_area_mb_s": 400.6},
    }
    assert organisers_row(detail) == ["a_0000", 12.35, 2614.0, 900.0, 70.12, 12.01, 3000.46, 401.0]


def test_gpu_samples_go_into_the_organisers_json(monkeypatch):
    samples = play(monkeypatch, FakeNvml([(15984, 0), (14984, 0)]))
    assert organisers_json(SimpleNamespace(samples=samples, time_s=1.0))["gpu_memory"] == [400, 1400]


def test_a_failed_case_is_exit_one_and_the_others_run(tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / "cases" / f"{name}_0000.nii.gz", name)
    script = shell("test -f $1/b_0000.nii.gz && cp $1/* $2/b.nii.gz")
    out = tmp_path / "out"
    assert run("-i", tmp_path / "cases", "-o", out, "--command", script, "--idle", "0", "--json") == 1
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert [c["status"] for c in summary["cases"]] == ["failed", "ok"]
    assert list(summary["failed"]) == ["a_0000"]
    assert summary["max_gpu_mb"] is None
    assert "failed: a_0000: exit code 1" in shown.err
    assert [p.name for p in (out / "predictions").iterdir()] == ["b.nii.gz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--command", "cp {input} x"], "{output}"),
        (["--command", "no-such-program {input} {output}"], "no program"),
        (["-i", "nowhere", "--command", COPY], "no scan"),
    ],
)
def test_wrong_usage_is_exit_two(scan, tmp_path, capsys, arguments, message):
    assert run("-i", scan.parent, "-o", tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err


def test_image_or_command_is_required(scan, tmp_path):
    with pytest.raises(SystemExit) as raised:
        run("-i", scan.parent, "-o", tmp_path)
    assert raised.value.code == 2


# --- Containers ------------------------------------------------------------------------------------------------------


def test_the_command_line_is_the_organisers():
    folders = Folders(Path("/s/inputs"), Path("/s/outputs"), Path("/s"))
    launch = ContainerLaunch("team:latest", gpu_index=1, with_report=False)
    words = launch.command(folders, "team-run")
    theirs = (
        "docker container run --shm-size=28gb -m 28G --gpus device=1 --name team-run --rm --cidfile /s/container.cid "
        "-v /s/inputs:/workspace/inputs/ -v /s/outputs:/workspace/outputs/ team:latest /bin/bash -c"
    )
    assert words == [*theirs.split(), "sh predict.sh"]


def test_options_of_the_container():
    folders = Folders(Path("/s/inputs"), Path("/s/outputs"), Path("/s"))
    words = ContainerLaunch("team", cpus=2, docker_args=("--network", "none")).command(folders, "n")
    assert "--gpus" not in words
    text = " ".join(words)
    assert "--cpus 2" in text
    assert "-v /s/report:/workspace/report -e GFSCREEN_REPORT=/workspace/report/report.json" in text
    assert text.endswith("--network none team /bin/bash -c sh predict.sh")


@pytest.mark.parametrize(
    ("image", "expected"), [("gfscreen:latest", "gfscreen"), ("host:5000/a/team@sha256:1", "team"), (None, "command")]
)
def test_team_name(image, expected):
    assert team_name(image) == expected


FAKE_DOCKER = """#!{python}
import os, shutil, sys, time
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(words) + chr(10))
if words[:2] == ["image", "inspect"]:
    sys.exit(0 if words[2] == "team:latest" else "no such image")
if words[:2] == ["container", "run"]:
    mounts = dict(reversed(w.rstrip("/").rsplit(":", 1)) for w, o in zip(words[1:], words) if o == "-v")
    open(words[words.index("--cidfile") + 1], "w").write("abc")
    time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
    for name in os.listdir(mounts["/workspace/inputs"]):
        target = name.replace("_0000", "")
        shutil.copy(mounts["/workspace/inputs"] + "/" + name, mounts["/workspace/outputs"] + "/" + target)
    sys.exit(int(os.environ.get("FAKE_CODE", "0")))
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A `docker` that notes what it is asked; returns the notes."""
    log = tmp_path / "docker.log"
    program = tmp_path / "bin" / "docker"
    write(program, FAKE_DOCKER.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return lambda: log.read_text().splitlines()


def test_one_container_per_case(docker, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "cases" / f"{name}_0000.nii.gz", name)
    assert run("-i", tmp_path / "cases", "-o", tmp_path / "out", "--image", "team:latest", "--idle", "0") == 0
    runs = [line for line in docker() if line.startswith("container run")]
    assert len(runs) == 2
    assert all("--gpus" not in line for line in runs)
    assert sorted(p.name for p in (tmp_path / "out" / "predictions").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    assert (tmp_path / "out" / "team_Efficiency.csv").is_file()


def test_a_device_is_passed_where_nvml_has_one(docker, scan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([(15984, 0)] * 500))
    assert run("-i", scan, "-o", tmp_path / "out", "--image", "team:latest", "--idle", "0") == 0
    assert any("--gpus device=0" in line for line in docker())
    detail = json.loads((tmp_path / "out" / "detail" / "a_0000.json").read_text())
    assert detail["gpu"]["max_mb"] == 400
    assert detail["gpu_index"] == 0


def test_a_container_over_time_is_removed(docker, scan, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SLEEP", "1.5")
    code = run("-i", scan, "-o", tmp_path / "out", "--image", "team:latest", "--idle", "0", "--timeout", "0.4")
    assert code == 1
    detail = json.loads((tmp_path / "out" / "detail" / "a_0000.json").read_text())
    assert detail["status"] == "timeout"
    name = next(line for line in docker() if line.startswith("container run")).split("--name ")[1].split()[0]
    assert f"rm -f {name}" in docker()


def test_a_container_killed_for_memory(docker, scan, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CODE", "137")
    assert run("-i", scan, "-o", tmp_path / "out", "--image", "team:latest", "--idle", "0") == 1
    assert json.loads((tmp_path / "out" / "detail" / "a_0000.json").read_text())["exit_code"] == 137


def test_a_termination_signal_removes_the_container(docker, scan, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SLEEP", "1.5")
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    code = run("-i", scan, "-o", tmp_path / "out", "--image", "team:latest", "--idle", "0")
    timer.join()
    assert code == 130
    assert any(line.startswith("rm -f gfscreen-eval-") for line in docker())
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_image_is_exit_two(docker, scan, tmp_path, capsys):
    assert run("-i", scan, "-o", tmp_path / "out", "--image", "other") == 2
    assert "image other: no such image" in capsys.readouterr().err


@pytest.mark.container
def test_a_real_container_is_measured_and_removed(scan, tmp_path):
    """With a real engine: an image of this machine's own shell, run as the organisers run theirs."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("needs a Docker engine")
    image, root = "gfscreen-eval-test:latest", tmp_path / "root"
    programs = [shutil.which(p) for p in ("bash", "sh", "cp", "sleep")]
    libraries = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout.split()
    for source in {*programs, *(w for w in libraries if w.startswith("/") and not w.endswith(":"))}:
        target = root / (f"bin/{Path(source).name}" if source in programs else source[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(source).resolve(), target)
    write(root / "workspace/predict.sh", "sleep 1\ncp /workspace/inputs/a_0000.nii.gz /workspace/outputs/a.nii.gz\n")
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    subprocess.run(["docker", "import", "-c", "WORKDIR /workspace", archive, image], check=True, capture_output=True)
    try:
        assert run("-i", scan, "-o", tmp_path / "out", "--image", image, "--idle", "0", "--cpus", "1") == 0
        left = subprocess.run(["docker", "ps", "-aq", "--filter", f"ancestor={image}"], capture_output=True, text=True)
        assert left.stdout == ""
    finally:
        subprocess.run(["docker", "image", "rm", image], capture_output=True)
    detail = json.loads((tmp_path / "out" / "detail" / "a_0000.json").read_text())
    assert detail["time_s"] >= 1
    assert detail["own"]["source"].startswith("cgroup v")
    assert detail["own"]["max_ram_mb"] > 0
