"""What becomes of compilations that outlast a command."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from nco.classical import compiling

KERNELS = """
from pathlib import Path

def compile_kernels():
    Path(__file__).with_name("compiled").touch()
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """The file of a module that can be imported, and what its compilation leaves."""
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "some_kernels.py", tmp_path / "compiled"
    sys.modules.pop("some_kernels", None)


def test_one_process_compiles(kernels):
    file, compiled = kernels
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        compiling.compile_alone("some_kernels", "compile_kernels")
        assert not compiled.exists()
    compiling.compile_alone("some_kernels", "compile_kernels")
    assert compiled.exists()


def test_a_command_does_not_wait_and_nothing_is_lost(kernels):
    """The thread would last for minutes; another process does its work."""
    file, compiled = kernels
    code = """if True:
        import sys, threading, time
        from nco.classical.compiling import THREAD
        from nco.cli import main
        name = f"{THREAD} some_kernels compile_kernels"
        threading.Thread(target=time.sleep, args=(300,), name=name).start()
        sys.argv = ["nco", "--version"]
        main()
    """
    environment = os.environ | {"PYTHONPATH": str(file.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nco ")
    for _ in range(600):
        if compiled.exists():
            break
        time.sleep(0.1)
    assert compiled.exists()
