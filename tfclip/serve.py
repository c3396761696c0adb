"""python -m tfclip.serve check EXPORTED: is an exported model fit for TensorFlow Serving?"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, run, say

# Of each list in a printed answer.
MOST_NUMBERS = 5
KIT_BATCHING = Path("deploy/batching_parameters.txt")


@dataclass(frozen=True)
class CheckFlags:
    """Check layout, ops, signatures, warm-up, batching and answers of an export, without a server.

    Exit code 1 when it is not fit."""

    exported: Positional[Path]
    """What `tfclip.export --out` wrote; its highest version is checked."""
    batching: Path | None = None
    """The parameters file of a server that merges requests: deploy/batching_parameters.txt where
    that is there."""

    def __post_init__(self):
        if not self.exported.is_dir():
            raise FileNotFoundError(
                f"no export at {self.exported}; make one with: python -m tfclip.export RUN "
                "--out DIR"
            )
        if self.batching is not None and not self.batching.is_file():
            raise FileNotFoundError(f"no batching parameters at --batching {self.batching}")

    def parameters(self) -> Path | None:
        """The parameters file to check with, or None."""
        return self.batching or (KIT_BATCHING if KIT_BATCHING.is_file() else None)


def check(flags: CheckFlags) -> dict:
    """Print a line for each check, and the request that a client would send, with its answer."""
    from tfclip.serving.check import check_export, curl_request, example_answer
    from tfclip.serving.signatures import ENCODE_TEXT, default_row

    findings, loaded = [], {}
    for finding in check_export(flags.exported, flags.parameters(), loaded):
        findings.append({"check": finding.name, "ok": finding.ok, "detail": finding.detail})
        print(f"{'ok    ' if finding.ok else 'failed'}  {finding.name}: {finding.detail}")
    failed = [finding["check"] for finding in findings if not finding["ok"]]
    result = {"fit": not failed, "checks": findings}
    if failed:
        raise CommandFailed(
            f"{flags.exported} is not fit for TensorFlow Serving: {', '.join(failed)} failed",
            result=result,
        )
    answer = example_answer(loaded)
    say("a client asks TensorFlow Serving's REST interface like this:")
    print(curl_request(flags.exported))
    is_text = default_row(loaded) == ENCODE_TEXT
    say(f"and is answered{'' if is_text else ', for a drawn red disk'}:")
    print(_shortened(answer))
    return {**result, "curl": curl_request(flags.exported), "answer": answer}


def _shortened(answer: dict) -> str:
    """An answer as JSON in a few lines: long lists end in dots."""

    def cut(value):
        if isinstance(value, list):
            shown = [cut(item) for item in value[:MOST_NUMBERS]]
            return shown + ["..."] * (len(value) > MOST_NUMBERS)
        return round(value, 6) if isinstance(value, float) else value

    outputs = answer["outputs"]
    if not isinstance(outputs, dict):
        return json.dumps({"outputs": cut(outputs)})
    lines = (f"  {json.dumps(name)}: {json.dumps(cut(v))}" for name, v in outputs.items())
    return '{"outputs": {\n' + ",\n".join(lines) + "\n}}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {"check": Command(CheckFlags, check)}
    return run("tfclip.serve", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
