"""What a stranger installs: declared dependencies, version, licence, the console command."""

import ast
import configparser
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tfclip
from tfclip.__main__ import command_summaries, main

ROOT = Path(__file__).parents[1]
# Modules whose distribution has another name, or several packages below one name.
DISTRIBUTION = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "tensorflow_text": "tensorflow-text",
    "google.protobuf": "protobuf",
    "tensorflow_serving": "tensorflow-serving-api",
    "apache_beam": "apache-beam",
    "tensorflow_datasets": "tensorflow-datasets",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc": "grpcio",
    "keras_hub": "keras-hub",
}
# Typing stubs have the version of what they describe.
UNBOUND = re.compile(r"types-")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def every_requirement() -> list[str]:
    parsed = setup()
    listed = requirements(parsed["options"]["install_requires"])
    for text in parsed["options.extras_require"].values():
        listed += requirements(text)
    return listed


def imported_modules() -> set[str]:
    found = set()
    for path in (ROOT / "tfclip").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module)
    tops = {name if name.startswith("google.") else name.split(".")[0] for name in found}
    tops = {"google.protobuf" if name.startswith("google.protobuf") else name for name in tops}
    return {name for name in tops if name not in sys.stdlib_module_names and name != "tfclip"}


def test_every_import_is_a_declared_dependency():
    declared = {name_of(one) for one in every_requirement()}
    missing = {
        module
        for module in imported_modules()
        if DISTRIBUTION.get(module, module).lower().replace("_", "-") not in declared
    }
    assert not missing


@pytest.mark.parametrize("requirement", every_requirement())
def test_every_dependency_has_a_lower_and_an_upper_bound(requirement):
    assert UNBOUND.match(requirement) or (">=" in requirement and ",<" in requirement)


def test_the_constraints_lie_within_the_bounds_and_name_every_dependency():
    from packaging.requirements import Requirement

    lines = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    pinned = dict(line.lower().split("==") for line in lines)
    core = requirements(setup()["options"]["install_requires"])
    test = requirements(setup()["options.extras_require"]["test"])
    for text in core + test:
        requirement = Requirement(text)
        version = pinned[name_of(text)]
        assert requirement.specifier.contains(version), f"{text} and {version}"


def test_the_version_is_written_once(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfclip {tfclip.__version__}\n"
    assert setup()["metadata"]["version"] == "attr: tfclip.version.__version__"
    assert f"version: {tfclip.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_licence_is_apache_and_what_came_from_elsewhere_is_named():
    assert "Apache License\n" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    assert "openai/CLIP" in notice and "CLIP_benchmark" in notice
    assert setup()["metadata"]["license"] == "Apache-2.0"


def test_the_address_of_the_project_is_the_same_everywhere():
    project = setup()["metadata"]
    address = project["url"]
    assert f"repository-code: {address}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"{address}/blob/main/CHANGELOG.md" in project["project_urls"]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert re.findall(r"https://\S*?tfclip(?=`)", contributing)[0] == address


def test_the_console_command_lists_every_command(capsys):
    commands = {
        path.stem
        for path in (ROOT / "tfclip").glob("*.py")
        if "def main(" in path.read_text() and path.stem != "__main__"
    }
    assert set(command_summaries()) == commands
    assert all(command_summaries().values())
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in commands)


def test_an_unknown_command_is_one_line(capsys):
    assert main(["fitt"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "nearest first: fit" in told


def test_the_commands_get_the_words_behind_their_name(capsys):
    assert main(["serve", "check", "nowhere"]) == 2
    assert "no export at nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tfclip", "fi"], "fit"),
        (["tfclip", "fit", "lap"], "laptop"),
        (["tfclip", "evaluate", "runs/x", "retr"], "retrieval"),
        (["tfclip", "fit", "laptop", "--batch-s"], "--batch-size"),
    ],
)
def test_bash_completes(words, expected, tmp_path):
    from tfclip.completion import script

    (tmp_path / "completion").write_text(script("bash"))
    ask = (
        f"source {tmp_path}/completion; COMP_WORDS=({' '.join(words)}); "
        f"COMP_CWORD={len(words) - 1}; _tfclip; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path)
    assert expected in done.stdout.split(), done.stderr


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "tfclip" / "py.typed").exists()
    assert "py.typed" in setup()["options.package_data"]["tfclip"]


def test_an_installed_tfclip_has_the_version_of_the_code():
    try:
        installed = metadata.version("tfclip")
    except metadata.PackageNotFoundError:
        pytest.skip("run from its source")
    assert installed == tfclip.__version__
