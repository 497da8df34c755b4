"""Running the command line in this process, and in one of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nco import examples
from nco.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def nco(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run ``nco ARGS`` here."""

    def run(*args: Any) -> Answer:
        capsys.readouterr()
        code = main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def nco_process() -> Callable[..., subprocess.Popen[str]]:
    """Start ``nco ARGS`` in a process group of its own."""

    def start(*args: Any, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "nco", *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **options,
        )

    return start


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder that holds the bundled instances."""
    for file in examples.FOLDER.iterdir():
        if file.suffix not in (".py", ".csv") and file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_one_error(text: str) -> bool:
    """Whether a text is exactly one ``nco: error:`` line."""
    lines = text.splitlines()
    return len(lines) == 1 and lines[0].startswith("nco: error: ")


@pytest.fixture
def one_error() -> Callable[[str], bool]:
    return is_one_error
