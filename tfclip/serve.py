"""python -m tfclip.serve check|run EXPORTED: check an export, or serve it on this machine."""

import gc
import importlib.util
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, run, say
from tfclip.models.model_directory import holds_model
from tfclip.serving.server.options import Access, Limits, ServerOptions

# Numbers of each list that are shown of a printed answer.
MOST_NUMBERS = 5
KIT_BATCHING = Path("deploy/batching_parameters.txt")


@dataclass(frozen=True)
class CheckFlags:
    """Check layout, ops, signatures, warm-up, batching and answers of an export, without a server.

    The exit code is 1 if a check fails."""

    exported: Positional[Path]
    """The folder that `tfclip export --out` wrote; its highest version is checked."""
    batching: Path | None = None
    """The batching parameters of a server that merges requests; by default
    deploy/batching_parameters.txt if it exists."""

    def __post_init__(self):
        if not self.exported.is_dir():
            raise FileNotFoundError(
                f"no export at {self.exported}; make one with: python -m tfclip.export RUN "
                "--out DIR"
            )
        if self.batching is not None and not self.batching.is_file():
            raise FileNotFoundError(f"no batching parameters at --batching {self.batching}")

    def parameters(self) -> Path | None:
        """Return the batching parameters to check with, or None."""
        return self.batching or (KIT_BATCHING if KIT_BATCHING.is_file() else None)


@dataclass(frozen=True)
class RunFlags:
    """Serve an export on this machine over REST and gRPC, as TensorFlow Serving does, with a page.

    Meant for one machine and for trials; deploy/ has the files for TensorFlow Serving and
    Kubernetes. A new version in the folder is loaded, warmed up, and replaces the old one.
    SIGTERM and Ctrl-C end the server after the received requests are answered. Needs the extra
    [serving]."""

    exported: Positional[Path]
    """The folder that `tfclip export --out` wrote; its highest version is served. A single version
    (DIR/3) is served without looking for others."""
    model: str = "tfclip"
    """The name of the model, part of every path: /v1/models/NAME:predict."""
    index: Path | None = None
    """A search index for the search box of the page: its folder (RUN/search/NAME), or its name in
    runs/. Its pictures must exist, and its embeddings must be of this model."""
    poll_seconds: float = 1.0
    """Seconds between two checks of the folder for a new version."""
    merge: bool = True
    """Answer waiting requests for the same signature in one call of the model."""
    warm_up: bool = True
    """Run the warm-up requests of a version before it answers; without, first answers are slow."""
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        if not self.exported.exists():
            raise FileNotFoundError(
                f"no export at {self.exported}; make one with: python -m tfclip.export RUN "
                "--out DIR"
            )
        if holds_model(self.exported):
            raise ValueError(
                f"{self.exported} is a run, but serve needs an export; make one with: python -m "
                f"tfclip.export {self.exported} --out DIR"
            )
        if not re.fullmatch(r"[\w.-]+", self.model):
            raise ValueError(
                f"received --model {self.model}; allowed: letters, digits, dots, - and _"
            )
        if self.poll_seconds <= 0:
            raise ValueError(f"received --poll-seconds {self.poll_seconds:g}; allowed: more than 0")
        for package in ("uvicorn", "starlette", "grpc_health", "tensorflow_serving"):
            if importlib.util.find_spec(package) is None:
                raise ValueError(
                    f"serve run needs the package {package}; install the extra: "
                    "pip install 'tfclip[serving]'"
                )

    def options(self) -> ServerOptions:
        """Return the options of the server."""
        return ServerOptions(
            exported=self.exported,
            model=self.model,
            access=self.access,
            limits=self.limits,
            index=self.index,
            poll_seconds=self.poll_seconds,
            merge=self.merge,
            warm_up=self.warm_up,
        )


def run_server(flags: RunFlags) -> dict:
    """Serve until SIGTERM or Ctrl-C."""
    from tfclip.serving.server.memory import use_one_heap
    from tfclip.serving.server.startup import check_startup

    access, options = flags.access, flags.options()
    check_startup(options)
    use_one_heap()
    from tfclip.serving.server.run import Addresses, Server

    if not access.is_loopback() and access.token is None:
        say(
            f"warning: everyone who can reach {access.host} can use this server; restrict it with "
            "--token and --tls-cert"
        )
    server = Server(options, say)
    # What was imported stays: garbage is then looked for among the objects of requests alone.
    gc.freeze()
    server.load()
    addresses = []

    def started(at: Addresses) -> None:
        addresses.append(at)
        say(f"REST and the page: {at.rest}/")
        if at.grpc is not None:
            say(f"gRPC: {at.grpc}")
        say(f"try it: curl {at.rest}/v1/models/{flags.model}")

    server.run(started)
    return {"rest": addresses[0].rest, "grpc": addresses[0].grpc} if addresses else {}


def check(flags: CheckFlags) -> dict:
    """Print the result of each check, and an example request with its answer."""
    from tfclip.serving.check import check_export, curl_request, example_answer
    from tfclip.serving.signatures import ENCODE_TEXT, default_row

    findings: list = []
    loaded: dict = {}
    for finding in check_export(flags.exported, flags.parameters(), loaded):
        findings.append(finding)
        print(f"{'ok    ' if finding.ok else 'failed'}  {finding.name}: {finding.detail}")
    failed = [finding.name for finding in findings if not finding.ok]
    checks = [{"check": f.name, "ok": f.ok, "detail": f.detail} for f in findings]
    result = {"fit": not failed, "checks": checks}
    if failed:
        raise CommandFailed(
            f"{flags.exported} is not fit for TensorFlow Serving: {', '.join(failed)} failed",
            result=result,
        )
    answer = example_answer(loaded)
    say("example request to TensorFlow Serving's REST interface:")
    print(curl_request(flags.exported))
    is_text = default_row(loaded) == ENCODE_TEXT
    say(f"its answer{'' if is_text else ' for a drawn red disk'}:")
    print(_shortened(answer))
    return {**result, "curl": curl_request(flags.exported), "answer": answer}


def _shortened(answer: dict) -> str:
    """Return an answer as JSON in a few lines: long lists are cut and end in dots."""

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
    commands = {"check": Command(CheckFlags, check), "run": Command(RunFlags, run_server)}
    return run("tfclip.serve", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
