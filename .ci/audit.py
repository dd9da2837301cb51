"""`python .ci/audit.py PIP_AUDIT LOCK`: known vulnerabilities of what the lock holds, by pip-audit.

Exits 0 only where every package was looked up and none is vulnerable: where a service does not know a package, or does
not answer, pip-audit itself ends well.
"""

import json
import subprocess
import sys
from typing import Any

OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")


def main(pip_audit: str, lock: str) -> int:
    """Asks, prints what was found, and returns the exit code."""
    command = [pip_audit, "--requirement", lock, *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (the Makefile's)
    told, code = verdict(done.stdout, done.stderr)
    print(told)
    return code


def verdict(output: str, complaint: str) -> tuple[str, int]:
    """What is said of pip-audit's JSON (or of what it complained of where there is none), and the exit code."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except ValueError:
        last = (complaint.strip().splitlines() or ["nothing was said"])[-1]
        return f"no service answered, and nothing was audited: {last}", 1
    asked = [one for one in packages if "skip_reason" not in one]
    if not asked:
        return f"no service knows any of the {len(packages)} packages: nothing was audited", 1
    lines = [
        f"{one['name']} {one['version']}: {bug['id']}, mended in {', '.join(bug['fix_versions']) or 'no version yet'}"
        for one in asked
        for bug in one["vulns"]
    ]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if unknown:
        lines.append(f"not audited, because the service does not know them: {', '.join(unknown)}")
    if lines:
        return "\n".join(lines), 1
    return f"{len(asked)} packages, and no known vulnerability in them", 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
