"""Print constraints.txt: the installed version of everything that tfclip and its extras need."""

import configparser
import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

HEADER = """\
# The versions that tfclip is tested with; make installs with them. Made by: make constraints
"""


def listed(text: str) -> list[str]:
    """Return the requirements in a value of setup.cfg."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def installed(roots: list[str]) -> dict[str, str]:
    """Return name and version of these requirements and of all that they need."""
    todo, seen, versions = [Requirement(root) for root in roots], set(), {}
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name.lower())
        key = name, frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        versions[name] = found.version
        for text in found.requires or []:
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                todo.append(needed)
    return versions


def main() -> None:
    """Read setup.cfg, and print what is installed."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    roots = listed(setup["options"]["install_requires"])
    for extra, text in setup["options.extras_require"].items():
        if extra not in ("gpu", "beam", "peers", "benchmarks"):
            roots += listed(text)
    pins = installed(roots)
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(pins.items())))


if __name__ == "__main__":
    main()
