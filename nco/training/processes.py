"""Processes that work for another one, and the signals that end training."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent is gone.

    A parent that was killed leaves nobody to work for, and its next call would find others
    at work in its folder.

    Parameters
    ----------
    parent
        The parent's number, as the parent or an early `os.getppid` tells it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event, which ends training with a checkpoint."""
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
