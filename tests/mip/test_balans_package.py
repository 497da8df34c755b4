"""The adapter of the balans package, with the package where there is one."""

import sys

import pytest

from nco.instances.core import Budget, Stop, UnsupportedError
from nco.mip.balans_package import INTERPRETER, BalansPackage


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An interpreter that says what a file says, whatever it is asked."""

    def make(text):
        script = tmp_path / "fake.py"
        script.write_text(text)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv(INTERPRETER, str(program))

    return make


def test_solutions_are_checked_and_kept(fake, hard_mip):
    fake(
        "import json\nprint(json.dumps({'balans': '9'}))\n"
        "print(json.dumps([0.1, {'0': 1.0}]))\n"
        "print(json.dumps([0.2, {str(k): 1.0 for k in range(150)}]))\n"
    )
    result = BalansPackage().solve(hard_mip, Budget(20))
    # The second one violates the rows.
    assert result.solution == {"x0": 1.0}
    assert result.stopped is Stop.FINISHED
    assert result.versions["balans"] == "9"


def test_columns_that_the_package_added_are_left_out(fake, hard_mip):
    n = hard_mip.n
    fake(
        "import json\nprint(json.dumps({'balans': '9'}))\n"
        f"print(json.dumps([0.1, {{'0': 1.0, '{n}': 2.5}}]))\n"
    )
    assert BalansPackage().solve(hard_mip, Budget(20)).solution == {"x0": 1.0}


def test_it_is_killed_at_the_deadline(fake, hard_mip):
    fake("import time\ntime.sleep(600)\n")
    assert BalansPackage().solve(hard_mip, Budget(0.5)).stopped is Stop.TIME


def test_its_last_words_are_passed_on(fake, hard_mip, caplog):
    fake("raise ValueError('too short')\n")
    result = BalansPackage().solve(hard_mip, Budget(20))
    assert result.stopped is Stop.ERROR
    assert "too short" in caplog.text


def test_without_the_package(hard_mip, monkeypatch):
    monkeypatch.delenv(INTERPRETER, raising=False)
    monkeypatch.setattr("nco.mip.balans_package.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=INTERPRETER):
        BalansPackage().solve(hard_mip, Budget(1))
    monkeypatch.setenv(INTERPRETER, "python")
    with pytest.raises(UnsupportedError, match="time limit"):
        BalansPackage().solve(hard_mip, Budget())
