"""python -m tfclip.serve check EXPORTED: is an exported model fit for TensorFlow Serving?"""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, run, say


@dataclass(frozen=True)
class CheckFlags:
    """Check layout, signatures, ops and answers of an export; exit code 1 when it is not fit."""

    exported: Positional[Path]
    """What `tfclip.export --out` wrote; its highest version is checked."""

    def __post_init__(self):
        if not self.exported.is_dir():
            raise FileNotFoundError(
                f"no export at {self.exported}; make one with: python -m tfclip.export RUN "
                "--out DIR"
            )


def check(flags: CheckFlags) -> dict:
    """Print a line for each check, and the request that a client would send."""
    from tfclip.serving.check import check_export, curl_request

    findings = []
    for finding in check_export(flags.exported):
        findings.append({"check": finding.name, "ok": finding.ok, "detail": finding.detail})
        print(f"{'ok    ' if finding.ok else 'failed'}  {finding.name}: {finding.detail}")
    failed = [finding["check"] for finding in findings if not finding["ok"]]
    result = {"fit": not failed, "checks": findings, "curl": curl_request(flags.exported)}
    if failed:
        raise CommandFailed(
            f"{flags.exported} is not fit for TensorFlow Serving: {', '.join(failed)} failed",
            result=result,
        )
    say("a client asks TensorFlow Serving's REST interface like this:")
    print(result["curl"])
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {"check": Command(CheckFlags, check)}
    return run("tfclip.serve", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
