"""The command line: ``nco``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default the process's.
    """
    from nco.cli.app import INTERRUPTED, run

    if argv is not None:
        return run(list(argv))
    _own_stdout()
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # One more Ctrl-C would end the process by the signal instead of with this code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A thread that was waited for when Ctrl-C came may call itself dead and still be listed.
    if any(t.name.startswith("nco-") for t in threading.enumerate()):
        # Neither an engine that has not yet noticed the end of its time nor the compiler
        # must keep the process.
        if compiling := sys.modules.get("nco.classical.compiling"):
            compiling.finish_elsewhere()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _own_stdout() -> None:
    """Send what C libraries print to stderr, so that stdout holds results only."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        if sys.stdout.fileno() != 1:
            return
        own = os.dup(1)
        os.dup2(2, 1)
    except (AttributeError, OSError, ValueError):
        return  # closed streams, or none of the operating system's
    sys.stdout = os.fdopen(
        own, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, buffering=1
    )
