"""What this machine is."""

from __future__ import annotations

import contextlib
import functools
import platform
from pathlib import Path


@functools.cache
def processor() -> str:
    """The processor's name, as its maker and the system tell it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
