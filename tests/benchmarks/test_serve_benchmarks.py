"""Twenty seconds of the load and of the attack, on loopback."""

import json

import pytest

from benchmarks import serve_attack, serve_load


@pytest.mark.slow
def test_twenty_seconds_of_load(exported, capsys):
    flags = ["--seconds", "25", "--swap-seconds", "5", "--connections", "32"]
    code = serve_load.main([str(exported), *flags, "--cost-turns", "0", "--json"])
    result = json.loads(capsys.readouterr().out.splitlines()[-2])
    load, killed = result["load"], result["killed"]
    assert load["lost"] == load["wrong"] == 0, load["failures"]
    assert load["answered"] > 100 and load["versions_loaded"] >= 2
    assert killed["lost"] == 0, killed["failures"]
    assert all(seconds is not None for seconds in killed["seconds_until_answered"].values())
    # Growth needs more than twenty seconds to be told from warming up.
    assert code == 0 or load["growth"] < 1.3


@pytest.mark.slow
def test_twenty_seconds_of_attack(exported, capsys):
    flags = ["--requests", "1500", "--seconds", "20", "--slow-connections", "40"]
    code = serve_attack.main([str(exported), *flags, "--large-pixels", "9000000", "--json"])
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert result["tracebacks"] == 0
    parts = {name: part for name, part in result.items() if isinstance(part, dict)}
    assert len(parts) >= 10
    # Growth needs more than twenty seconds to be told from warming up.
    memory = parts.pop("memory")
    assert not any(part["wrong"] for part in parts.values()), out
    assert code == 0 or memory["growth"] < 1.3
