"""Data walks one way: which room may import which, and what each may import from outside."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfclip"
ROOMS = ["sources", "records", "inputs", "models", "evaluation", "training", "serving"]
# The order of sub-folders within a room; "" is the files beside them. A file that is named here
# has a rank of its own.
SUB_ROOMS = {
    "records": ["", "flags", "packing", "scores"],
    "models": ["layers", "towers", "objective", "", "weights"],
    "evaluation": ["metrics", "datasets", "embedding", "decisions", "report", "search", "tasks"],
    "training": ["interval", "options", "data", "workers", "setup", "loop", "callbacks", ""],
}
WITHOUT_TENSORFLOW = ("evaluation/metrics", "evaluation/decisions")
MOST_MODULES = 16
# Used by all rooms, and using none.
BASE = {
    *(
        "backend",
        "config_file",
        "console",
        "failures",
        "files",
        "flag_errors",
        "graphs",
        "memory",
        "naming",
        "plugins",
        "quiet",
        "text_lists",
        "text_repair",
    ),
    "version",
}
# The public Python API stands with the commands: it may import anything.
COMMANDS = {
    "__main__",
    "completion",
    "make_records",
    "score_records",
    "embed_records",
    "convert",
    "soup",
    "weights",
    "fit",
    "evaluate",
    "export",
    "predict",
    "adapt",
    "serve",
    "serve_index",
    "quickstart",
    "search",
    "pipeline",
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


NAMES = {dotted(path): path for path in MODULES}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, also within functions and for types alone."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            # `from tfclip.models import registry` names a module behind the import.
            names |= {f"{node.module}.{alias.name}" for alias in node.names} & NAMES.keys()
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


def rank(name: str, order: list[str]) -> int:
    """The place of a module in the order of its room's sub-folders."""
    parts = name.split(".")[2:]
    if parts[0] in order:
        return order.index(parts[0])
    assert len(parts) == 1, f"{name} stands in no sub-folder of SUB_ROOMS"
    return order.index("")


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_imports_within_a_room_point_one_way(room):
    order = SUB_ROOMS[room]
    for name, path in NAMES.items():
        if not name.startswith(f"tfclip.{room}."):
            continue
        for used in imported(path) & NAMES.keys():
            if used.startswith(f"tfclip.{room}."):
                assert rank(used, order) <= rank(name, order), f"{name} imports {used}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: imported(path) & NAMES.keys() for name, path in NAMES.items()}
    # Taking away, again and again, what imports nothing that is left leaves the circles.
    while free := {name for name, used in graph.items() if not used & graph.keys()}:
        graph = {name: used for name, used in graph.items() if name not in free}
    assert not graph, sorted(graph)


def test_no_folder_is_too_long_to_read():
    for folder in {path.parent for path in MODULES} - {PACKAGE}:
        assert len([p for p in MODULES if p.parent == folder]) <= MOST_MODULES, folder


@pytest.mark.parametrize("folder", WITHOUT_TENSORFLOW)
def test_numbers_and_decisions_load_no_tensorflow(folder):
    names = [name for name, path in NAMES.items() if path.parent == PACKAGE / folder]
    assert names
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if heavy := {'tensorflow', 'keras'} & set(sys.modules): sys.exit(f'{name}: {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["sources", "records"])
def test_packing_rooms_know_no_keras(room):
    for path in (PACKAGE / room).rglob("*.py"):
        assert not {"keras", "keras_hub"} & {name.split(".")[0] for name in imported(path)}


def test_every_file_says_its_job_first():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_help_does_not_pay_for_tensorflow():
    code = (
        "import sys, tfclip\n"
        "from tfclip import convert, evaluate, export, soup\n"
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


def test_tensorflow_traces_what_is_written():
    """AutoGraph would rewrite the source of every function that it meets: seconds a command."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            place, name = f"{path}:{call.lineno}", call.func.attr
            if ast.unparse(call.func) == "tf.function":
                assert any(word.arg == "autograph" for word in call.keywords), place
            if name in ("map", "flat_map", "filter", "interleave") and call.args:
                threads = ast.unparse(call.func.value) in ("pool", "threads")
                assert threads or ast.unparse(call.args[0]).startswith("as_written("), place
        assert "@tf.function\n" not in path.read_text(encoding="utf-8"), path
