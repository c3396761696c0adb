"""Data walks one way: which room may import which, and what each may import from outside."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfclip"
ROOMS = ["sources", "records", "inputs", "models", "evaluation", "training", "serving"]
# Used by all rooms, and using none.
BASE = {"naming", "config_file", "console", "failures", "quiet", "version"}
# The public Python API stands with the commands: it may import anything.
COMMANDS = {
    "__main__",
    "completion",
    "make_records",
    "convert",
    "fit",
    "evaluate",
    "export",
    "predict",
    "serve",
    "quickstart",
    "search",
    "pipeline",
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module in ("tfclip", "tfclip.evaluation", "tfclip.training"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(path)
    used = {name.split(".")[1] for name in imported(path) if name.startswith("tfclip.")}
    if room in COMMANDS:
        return
    if room in BASE:
        assert used <= BASE
    else:
        assert room in ROOMS, f"{path} stands in no room"
        assert used <= {*ROOMS[: ROOMS.index(room) + 1], *BASE}


@pytest.mark.parametrize("room", ["sources", "records"])
def test_packing_rooms_know_no_keras(room):
    for path in (PACKAGE / room).glob("*.py"):
        assert not {"keras", "keras_hub"} & {name.split(".")[0] for name in imported(path)}


def test_every_file_says_its_job_first():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_help_does_not_pay_for_tensorflow():
    code = (
        "import sys, tfclip\n"
        "from tfclip import convert, evaluate, export\n"
        "from tfclip import fit, make_records, predict, quickstart, serve\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_another_keras_backend_is_refused():
    code = "import tfclip; tfclip.available_models()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"KERAS_BACKEND": "torch", "PATH": ""},
        cwd=PACKAGE.parent,
    )
    assert done.returncode != 0
    assert "KERAS_BACKEND=torch" in done.stderr.splitlines()[-1]
