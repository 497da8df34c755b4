"""Processes that work for another one."""

from __future__ import annotations

import os
import threading
import time


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
