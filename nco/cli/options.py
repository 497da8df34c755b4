"""Options that commands share, their completion and their parsing."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer


def _names(kind: str, incomplete: str) -> list[tuple[str, str]]:
    from nco.instances import registry

    entries = getattr(registry, kind)
    return [(e.name, e.description) for e in entries if e.name.startswith(incomplete)]


def complete_problem(incomplete: str) -> list[tuple[str, str]]:
    """Registered problems that begin like this."""
    return _names("problems", incomplete)


def complete_solver(incomplete: str) -> list[tuple[str, str]]:
    """Registered solvers that begin like this."""
    return _names("solvers", incomplete)


def complete_metric(incomplete: str) -> list[str]:
    """Metrics that begin like this."""
    from nco.instances.core import METRICS

    return [name for name in METRICS if name.lower().startswith(incomplete.lower())]


Problem = Annotated[
    str,
    typer.Option(
        "--problem",
        help="Read files as this problem; by default they say it themselves.",
        autocompletion=complete_problem,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Measure coordinates in this metric; 'exact' for unrounded lengths.",
        autocompletion=complete_metric,
    ),
]
TruncateBudget = Annotated[
    bool,
    typer.Option(
        "--truncate-budget",
        help="Capital budgeting: round the budget down, as its published results have it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Log progress; twice: log details.")
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**63 - 1, help="Same seed, same result (without clocks)."),
]


class _Handler(logging.Handler):
    """Write to whatever stderr is at the moment, so that a live table stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def start_logging(verbose: int, quiet: bool = False) -> None:
    """Show what the library logs: warnings, with -v progress, with -vv details."""
    logger = logging.getLogger("nco")
    for old in [h for h in logger.handlers if isinstance(h, _Handler)]:
        logger.removeHandler(old)
    handler = _Handler()
    handler.setFormatter(logging.Formatter("nco: %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logger.setLevel(logging.ERROR if quiet else levels[min(verbose, 2)])


def read_config(path: Path) -> dict[str, Any]:
    """Solver and parameters of a TOML file; dashes in keys are underscores.

    Raises
    ------
    InputError
        When it cannot be read or is not TOML.
    """
    import tomllib

    from nco.instances.core import InputError

    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InputError(path, None, what, "check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(path, None, f"not TOML: {error}", "write key = value lines") from None
    return {key.replace("-", "_"): value for key, value in values.items()}


def check_limit(minutes: float | None) -> None:
    """Refuse ``--minutes`` that are no time limit, before any work is done.

    Raises
    ------
    InputError
        When they are negative or not a number.
    """
    from nco.instances.core import InputError
    from nco.training.config import check_minutes

    try:
        check_minutes(0.0 if minutes is None else minutes)
    except ValueError as error:
        raise InputError(None, None, str(error)) from None


def check_writable(path: Path, folder: bool = False) -> None:
    """Refuse a target that surely cannot be written, before any work is done.

    Parameters
    ----------
    path
        File, or folder that may not exist yet.
    folder
        Whether ``path`` is to be a folder.

    Raises
    ------
    InputError
        With the reason.
    """
    import tempfile

    from nco.instances.core import InputError, is_special

    if not folder and path.is_dir():
        raise InputError(path, None, "is a folder", "name a file")
    if folder and path.exists() and not path.is_dir():
        raise InputError(path, None, "is a file", "name a folder")
    if is_special(path):
        if not os.access(path, os.W_OK):
            raise InputError(path, None, "cannot be written", "check its rights")
        return
    parent = path if folder else path.parent
    while folder and not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, None, f"cannot be written: {reason}", "choose another folder"
        ) from None


@contextlib.contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, even where Ctrl-C is ignored (jobs in the background)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    before = signal.signal(
        signal.SIGTERM, handler if callable(handler) else signal.default_int_handler
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
