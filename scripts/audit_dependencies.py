"""Look every locked package up in a database of known vulnerabilities, and say plainly where that could not be done.

pip-audit calls a package that its service does not know "skipped" and still ends with "No known vulnerabilities found",
exit code 0: behind a mirror that is all of them. Here a skipped package is one that was not audited.

Exit 0: every package was audited and none is known to be vulnerable; 1: vulnerabilities; 3: not all could be audited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILES = ("requirements-cpu.txt", "requirements-cuda.txt")
SERVICES = ("pypi", "osv")
EXIT_VULNERABLE = 1
EXIT_NOT_AUDITED = 3
LIMIT_S = 180.0


def ask(requirements: Path, service: str) -> dict[str, Any]:
    """One call of pip-audit: `audited` names, `skipped` name -> reason, `vulnerable` name -> identifiers, `error`."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--vulnerability-service",
        service,
        "--disable-pip",
        "--progress-spinner",
    ]
    command += ["off", "--require-hashes", "--requirement", str(requirements), "--format", "json"]
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        try:
            done = subprocess.run(
                [*command, "--output", file.name], capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return classify("", f"no answer within {LIMIT_S:.0f} s")
        said = done.stderr.strip().splitlines()
        return classify(Path(file.name).read_text(encoding="utf-8"), said[-1][:300] if said else "no answer")


def classify(text: str, said: str) -> dict[str, Any]:
    """What an answer of pip-audit amounts to; without one, `said` is the error."""
    answer: dict[str, Any] = {"audited": [], "skipped": {}, "vulnerable": {}, "error": None}
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return {**answer, "error": said}
    for package in packages:
        if "skip_reason" in package:
            answer["skipped"][package["name"]] = package["skip_reason"]
            continue
        answer["audited"].append(package["name"])
        if package.get("vulns"):
            answer["vulnerable"][f"{package['name']} {package['version']}"] = [
                found["id"] for found in package["vulns"]
            ]
    return answer


def verdict(answers: dict[str, dict[str, Any]]) -> str:
    """`vulnerable` if any service knows something, `clean` if one has audited every package, else `not audited`."""
    if any(answer["vulnerable"] for answer in answers.values()):
        return "vulnerable"
    whole = [a for a in answers.values() if a["error"] is None and a["audited"] and not a["skipped"]]
    return "clean" if whole else "not audited"


def describe(name: str, status: str, answers: dict[str, dict[str, Any]]) -> str:
    """The result of one file in a line or a few."""
    if status == "clean":
        count = max(len(answer["audited"]) for answer in answers.values())
        return f"{name}: {count} packages audited, no known vulnerability"
    lines = [f"{name}: {status.upper()}"]
    for service, answer in answers.items():
        for package, found in answer["vulnerable"].items():
            lines.append(f"  {package}: {', '.join(found)} ({service})")
        if status == "not audited":
            why = (
                answer["error"] or f"{len(answer['skipped'])} packages unknown to it, {len(answer['audited'])} audited"
            )
            lines.append(f"  {service}: {why}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Audit the images' locked requirements and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the result, JSON")
    args = parser.parse_args(argv)
    results: dict[str, Any] = {}
    for name in FILES:
        answers: dict[str, dict[str, Any]] = {}
        for service in SERVICES:
            answers[service] = ask(ROOT / name, service)
            if verdict(answers) != "not audited":
                break
        results[name] = {"status": verdict(answers), "services": answers}
        sys.stdout.write(describe(name, results[name]["status"], answers) + "\n")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    statuses = {result["status"] for result in results.values()}
    if "vulnerable" in statuses:
        return EXIT_VULNERABLE
    return EXIT_NOT_AUDITED if "not audited" in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
