"""The audit of the packages: what was not looked up must never pass for clean; and the list of what the image holds."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.places import ROOT


@pytest.fixture(scope="module")
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit_dependencies", ROOT / "scripts" / "audit_dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, *vulnerabilities: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": v, "fix_versions": []} for v in vulnerabilities]}


SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}


def answer(audit: Any, *packages: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = audit.classify(json.dumps({"dependencies": list(packages), "fixes": []}), "")
    return found


class TestVerdict:
    def test_clean_if_all_were_looked_up(self, audit):
        assert audit.verdict({"pypi": answer(audit, package("numpy"), package("scipy"))}) == "clean"

    def test_vulnerable_if_any_is(self, audit):
        answers = {"pypi": answer(audit, package("numpy"), package("scipy", "CVE-2026-1"))}
        assert audit.verdict(answers) == "vulnerable"
        assert "scipy 1.0: CVE-2026-1 (pypi)" in audit.describe("r.txt", "vulnerable", answers)

    def test_not_audited_if_one_was_skipped(self, audit):
        """pip-audit itself ends with "No known vulnerabilities found" and 0 here."""
        assert audit.verdict({"pypi": answer(audit, package("scipy"), SKIPPED)}) == "not audited"

    def test_not_audited_if_all_were_skipped(self, audit):
        answers = {"pypi": answer(audit, SKIPPED), "osv": audit.classify("", "ConnectionError: osv")}
        assert audit.verdict(answers) == "not audited"
        said = audit.describe("r.txt", "not audited", answers)
        assert said.startswith("r.txt: NOT AUDITED")
        assert "ConnectionError: osv" in said

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"dependencies": []}'])
    def test_not_audited_without_an_answer(self, audit, text):
        assert audit.verdict({"pypi": audit.classify(text, "no answer")}) == "not audited"

    def test_what_one_service_knows_counts_though_it_has_skipped_others(self, audit):
        assert audit.verdict({"pypi": answer(audit, SKIPPED, package("scipy", "CVE-2026-1"))}) == "vulnerable"


@pytest.mark.parametrize(
    ("answers", "code"),
    [(["clean"], 0), (["skipped", "clean"], 0), (["skipped", "error"], 3), (["vulnerable"], 1)],
)
def test_exit_codes_and_the_result_that_is_kept(audit, tmp_path, monkeypatch, answers, code):
    kinds = {
        "clean": answer(audit, package("numpy")),
        "skipped": answer(audit, SKIPPED),
        "vulnerable": answer(audit, package("numpy", "CVE-2026-1")),
        "error": audit.classify("", "ConnectionError"),
    }
    given = dict(zip(audit.SERVICES, answers, strict=False))
    monkeypatch.setattr(audit, "ask", lambda _, service: kinds[given[service]])
    assert audit.main(["-o", str(tmp_path / "results" / "audit.json")]) == code
    kept = json.loads((tmp_path / "results" / "audit.json").read_text())
    assert set(kept) == set(audit.FILES)
    assert {entry["status"] for entry in kept.values()} == {{0: "clean", 1: "vulnerable", 3: "not audited"}[code]}


@pytest.mark.parametrize("image", ["cpu", "cuda"])
def test_the_sbom_lists_every_locked_package(tmp_path, image):
    pytest.importorskip("cyclonedx_py")
    locked = ROOT / f"requirements-{image}.txt"
    target = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(ROOT / "pyproject.toml")]
    subprocess.run([*command, "--output-reproducible", "--of", "JSON", "-o", str(target), str(locked)], check=True)
    sbom = json.loads(target.read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {(part["name"].lower(), part["version"]) for part in sbom["components"]}
    expected = set(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", locked.read_text(), re.MULTILINE))
    assert expected
    assert listed == {(name, version) for name, version in expected}
