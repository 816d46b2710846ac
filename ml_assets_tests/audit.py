"""What is locked, compared with the known vulnerabilities, as far as they can be asked for.

python -m ml_assets_tests.audit FILE   FILE as `uv export` writes it, without digests

Without the network it says so and fails nothing.
"""

import json
import re
import subprocess
import sys
from typing import Any


def report(dependencies: list[dict[str, Any]]) -> int:
    """Print what pip-audit found of each package; the exit status."""
    skipped = [found for found in dependencies if "skip_reason" in found]
    if skipped:
        print(
            f"{len(skipped)} of {len(dependencies)} packages could not be audited, such as: "
            f"{skipped[0]['skip_reason']}"
        )
    holes = [
        f"{found['name']} {found['version']}: {hole['id']}, "
        f"mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for found in dependencies
        for hole in found.get("vulns", [])
    ]
    print("\n".join(holes) or f"{len(dependencies) - len(skipped)} packages without a known hole")
    return 1 if holes else 0


def main(requirements: str) -> int:
    """Ask, and print what is known."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", requirements, "--format", "json"]
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        return report(json.loads(done.stdout)["dependencies"])
    except json.JSONDecodeError:
        reason = done.stderr.strip().rpartition("\n")[2]
        if not re.search("Connection|Proxy|Timeout|timed out", reason):
            print(f"pip-audit failed: {done.stderr}")
            return 2
        print(f"nothing was audited, the vulnerabilities cannot be asked for: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
