"""The command line: ``nco``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default the process's.
    """
    from nco.cli.app import run

    return run(sys.argv[1:] if argv is None else list(argv))
