"""The files for clusters: both sbatch scripts on a real SLURM of this machine, the KubeRay manifest's fields.

Skipped where SLURM or Ray is not installed, unless GFSCREEN_REQUIRE_SLURM=1 and GFSCREEN_REQUIRE_RAY=1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eval.reliability.threshold_engine import write_threshold_weights
from gfscreen.cohort.records import Layout, read_records
from gfscreen.command.cli import build_parser
from tests.helpers.nifti_files import write_painted
from tests.helpers.orthanc import free_port
from tests.helpers.places import ROOT
from tests.helpers.ray_cluster import alone, environment, need_ray
from tests.helpers.slurm import Slurm, need_slurm

FILES = ROOT / "scripts" / "cluster"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    need_slurm()
    server = Slurm(tmp_path_factory.mktemp("slurm"), cpus=4)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def site(tmp_path):
    """Scans, weights, and programs on a PATH of the job's own: (variables of a job, folder of results)."""
    (tmp_path / "in").mkdir()
    for name in "abcde":
        write_painted(tmp_path / "in" / f"{name}_0000.nii.gz")
    (tmp_path / "bin").mkdir()
    for name, module in (("gfscreen", "gfscreen"), ("ray", "ray.scripts.scripts")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    own = environment()
    variables = {
        "SOURCE": str(tmp_path / "in"),
        "OUT": str(tmp_path / "out"),
        "GFSCREEN_WEIGHTS": str(write_threshold_weights(tmp_path / "weights")),
        "PATH": f"{tmp_path}/bin:{own['PATH']}:/usr/sbin:/usr/bin",
        "RAY_PORT": str(free_port()),
        **{name: value for name, value in own.items() if name == "PYTHONPATH" or name.startswith("RAY_")},
    }
    return variables, tmp_path / "out"


def done(output: Path) -> dict[str, str]:
    return {record.name: record.status for record in read_records(Layout(output))}


@pytest.mark.slow
def test_job_array(slurm, site):
    variables, output = site
    job = slurm.submit(FILES / "array.sbatch", options=("--array=1-2", "--cpus-per-task=1"), **variables)
    log = slurm.wait(job)
    assert done(output) == dict.fromkeys("abcde", "ok"), log
    assert "INFO: 3 series: 3 done, 0 failed" in log
    assert "INFO: 2 series: 2 done, 0 failed" in log
    assert len(list((output / "masks").iterdir())) == 5


@pytest.mark.slow
def test_ray_job(slurm, site):
    need_ray()
    variables, output = site
    options = ("--nodes=1", "--cpus-per-task=2")
    with alone():
        job = slurm.submit(FILES / "cohort.sbatch", "--cpus-per-worker", "1", options=options, **variables)
        log = slurm.wait(job)
    assert done(output) == dict.fromkeys("abcde", "ok"), log
    assert "INFO: 5 series: 5 done, 0 failed" in log
    assert (output / "worklist.html").is_file(), log
    assert not (output / "driver.pid").exists()


def test_the_scripts_are_sound():
    program = Path(sys.executable).with_name("shellcheck")
    if not program.is_file():
        pytest.skip("needs shellcheck, of the development environment")
    command = [program, "-s", "bash", *sorted(FILES.glob("*.sbatch"))]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


QUANTITIES = {"additionalProperties": {"type": "string", "pattern": "^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}}


def group(**own):
    """Schema of a group of pods: its own fields, parameters of `ray start` as text, a pod template."""
    container = {
        "type": "object",
        "required": ["name", "image"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
            "image": {"type": "string"},
            "env": {
                "type": "array",
                "items": {
                    "required": ["name", "value"],
                    "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
                    "additionalProperties": False,
                },
            },
            "resources": {
                "properties": {"limits": QUANTITIES, "requests": QUANTITIES},
                "additionalProperties": False,
            },
            "volumeMounts": {"type": "array", "items": {"required": ["name", "mountPath"]}},
        },
        "additionalProperties": False,
    }
    pod = {
        "type": "object",
        "required": ["containers"],
        "properties": {
            "containers": {"type": "array", "minItems": 1, "items": container},
            "volumes": {"type": "array", "items": {"required": ["name"]}},
            "terminationGracePeriodSeconds": {"type": "integer"},
        },
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "required": ["rayStartParams", "template", *own],
        "properties": {
            **own,
            "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
            "template": {"required": ["spec"], "properties": {"spec": pod}, "additionalProperties": False},
        },
        "additionalProperties": False,
    }


WHOLE = {"type": "integer", "minimum": 0}
# The fields that the manifest uses, by KubeRay's types of ray.io/v1; a field that is not here is misspelt, or new.
RAY_JOB = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"required": ["name"]},
        "spec": {
            "type": "object",
            "properties": {
                "entrypoint": {"type": "string"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "backoffLimit": WHOLE,
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "autoscalerOptions": {
                            "properties": {"idleTimeoutSeconds": WHOLE},
                            "additionalProperties": False,
                        },
                        "headGroupSpec": group(),
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": group(
                                groupName={"type": "string"}, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE
                            ),
                        },
                    },
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}


def test_the_kuberay_manifest_has_the_fields_of_a_ray_job():
    yaml, jsonschema = pytest.importorskip("yaml"), pytest.importorskip("jsonschema")
    manifest = yaml.safe_load((FILES / "kuberay.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(RAY_JOB)
    jsonschema.validate(manifest, RAY_JOB)
    # What it starts is a command that there is.
    words = manifest["spec"]["entrypoint"].split()
    assert words[:3] == ["gfscreen", "cohort", "run"]
    arguments = build_parser().parse_args(words[1:])
    assert arguments.ray == "auto"
    # Volumes that are mounted are there.
    groups = [
        manifest["spec"]["rayClusterSpec"]["headGroupSpec"],
        *manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"],
    ]
    for one in groups:
        spec = one["template"]["spec"]
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == "2.60.0"
