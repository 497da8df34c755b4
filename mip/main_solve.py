"""The main solve: an engine on the whole model that goes on in time slices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nco.mip.backend import POLL, Backend, Limits, Outcome, Vector, Watch

#: Seconds to wait for an engine to pause.
PATIENCE = 0.5


class MainSolve:
    """An engine in its own thread, which works only while `run` lets it.

    The engine stops where it next asks its watch, and goes on from there: nothing is
    solved twice, and its bound keeps moving.

    Parameters
    ----------
    engine
        Gets the whole model.
    limits
        Of the whole solve; its clock goes on during pauses.
    watch
        Hears what the engine finds; its ``pause`` is taken over.
    """

    def __init__(self, engine: Backend, limits: Limits, watch: Watch):
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.seconds = 0.0
        self._engine, self._limits = engine, limits
        self._stopping = False
        self._go, self._idle, self._over = (threading.Event() for _ in range(3))
        asked = watch.stop
        self._watch = Watch(
            on_solution=watch.on_solution,
            on_bound=watch.on_bound,
            stop=lambda: self._stopping or asked(),
            pause=self._pause,
            suggest=watch.suggest,
        )
        self._thread: threading.Thread | None = None

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def finished(self) -> bool:
        """Whether the engine has ended."""
        return self._over.is_set()

    @property
    def nodes(self) -> int:
        """Branch-and-bound nodes so far; 0 while the engine works at the root."""
        return self._watch.nodes

    @property
    def idle(self) -> bool:
        """Whether the engine waits for the next `run`."""
        return self._idle.is_set()

    def _pause(self) -> None:
        while not self._go.is_set() and not self._watch.stop():
            self._idle.set()
            self._go.wait(0.05)
        self._idle.clear()

    def _work(self, start: Vector | None) -> None:
        try:
            self.outcome = self._engine.solve(self._limits, None, start, self._watch)
        except BaseException as error:
            self.error = error
        finally:
            self._over.set()
            self._idle.set()

    def start(self, x: Vector | None) -> None:
        """Begin, from column values [n] if there are any; works from the first `run` on."""
        self._thread = threading.Thread(target=self._work, args=(x,), name="nco-main")
        self._thread.start()

    def run(self, seconds: float, until: Callable[[], bool]) -> float:
        """Let the engine work, and wait for it to pause again.

        Parameters
        ----------
        seconds
            Length of the slice; engines overrun it by the time between their questions, of
            which at most `PATIENCE` is waited for.
        until
            Ends the slice early.

        Returns
        -------
        Seconds that passed.
        """
        begin = time.monotonic()
        self._idle.clear()
        self._go.set()
        while not self._over.is_set() and time.monotonic() - begin < seconds and not until():
            self._over.wait(min(POLL, max(0.001, begin + seconds - time.monotonic())))
        self._go.clear()
        # An engine deep in a relaxation does not answer; it then goes on beside the caller.
        patience = time.monotonic() + PATIENCE
        while not self._idle.wait(0.02):
            if self._watch.stop() or time.monotonic() > patience:
                break
        spent = time.monotonic() - begin
        self.seconds += spent
        return spent

    def stop(self, patience: float = 0.3) -> bool:
        """End the engine and free its memory; False if it does not answer in time."""
        self._stopping = True
        self._go.set()
        if self._thread is None:
            return True
        self._thread.join(patience)
        if self._thread.is_alive():
            return False
        self._engine.close()
        return True
