"""What ``nco solve`` shows: a live table while it runs, and the final one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nco.instances.core import Event, Instance, Result, relative_gap

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger("nco")

#: Finished instances that the live table keeps in sight.
KEPT = 12
#: Width of a table that goes to a file or a pipe.
WIDTH = 160


def number(value: float | None) -> str:
    """A number for a table; empty for None."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"


def percent(value: float | None, *, signed: bool = False) -> str:
    """Per cent for a table; empty for None."""
    if value is None:
        return ""
    return f"{value:+.2f}%" if signed else f"{value:.2f}%"


def _gap(result: Result) -> float | None:
    return None if result.gap is None else 100.0 * result.gap


def solver_label(result: Result) -> str:
    """The solver's name; for ``auto`` also what it chose."""
    plan = result.extra.get("plan")
    return f"{result.solver} ({plan})" if plan else result.solver


@dataclass(frozen=True)
class Row:
    """One line of the final table: an instance, or all of a batch.

    Parameters
    ----------
    name, n
        Name and size.
    results
        The results, one for each instance.
    """

    name: str
    n: int
    results: Sequence[Result]

    def cells(self) -> list[str]:
        """The columns' texts; of a batch, means."""
        first = self.results[0]
        if len(self.results) == 1:
            status = str(first.status)
            if first.status not in ("optimal", "infeasible", "unbounded"):
                status += f" ({first.stopped})"
            return [
                self.name, first.problem, str(self.n), solver_label(first),
                number(first.objective), number(first.bound), percent(_gap(first)),
                percent(first.ref_gap, signed=True), status, f"{first.seconds:.2f}",
            ]  # fmt: skip
        solved = [r for r in self.results if r.feasible]
        optimal = sum(r.status == "optimal" for r in solved)
        status = f"{len(solved)} feasible"
        if optimal:
            status += f", {optimal} optimal"
        return [
            f"{self.name} × {len(self.results)}", first.problem, str(self.n), solver_label(first),
            number(_mean([r.objective for r in solved])),
            number(_mean([r.bound for r in solved])),
            percent(_mean([_gap(r) for r in solved])),
            percent(_mean([r.ref_gap for r in solved]), signed=True),
            status, f"{_mean([r.seconds for r in self.results]):.2f}",
        ]  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


COLUMNS = (
    "name", "problem", "n", "solver", "objective", "bound", "gap", "ref gap", "status", "seconds",
)  # fmt: skip
_RIGHT = {"n", "objective", "bound", "gap", "ref gap", "seconds"}


def _table(columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in _RIGHT else "left",
            overflow="fold",
            no_wrap=column in _RIGHT,
        )
    return table


def print_table(rows: Sequence[Row]) -> None:
    """Print the final table on stdout, with less in it where it is too wide."""
    screen = console()
    lines = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in rows]
    columns = [c for c in COLUMNS if any(line[c] for line in lines)]
    for shorten in (None, "status", "solver", "problem"):
        if shorten == "problem":
            columns.remove(shorten)
        elif shorten is not None:
            for line in lines:
                line[shorten] = line[shorten].partition(" (")[0]
        if _width(columns, lines) <= screen.width:
            break
    table = _table(columns)
    for line in lines:
        table.add_row(*(line[c] for c in columns))
    screen.print(table)


def _width(columns: Sequence[str], lines: Sequence[dict[str, str]]) -> int:
    return sum(max(len(c), *(len(line[c]) for line in lines)) + 3 for c in columns)


def console(*, stderr: bool = False) -> Any:
    """A rich console; wide where its output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return Console(file=stream, width=None if terminal else WIDTH, highlight=False, markup=False)


class Line:
    """One line on stderr that says how far a long command is; nothing if not ``shown``.

    On a terminal the line changes in place, elsewhere it is repeated at most twice a minute.
    """

    def __init__(self, shown: bool):
        self._status: Any = None
        self._shown = shown
        self._console = console(stderr=True)
        self._said = -1e9

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            self._status = self._console.status("starting ...")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: str) -> None:
        """How far it is now."""
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._said > 30.0:
            self._said = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Something that stays."""
        if self._shown:
            self._console.print(text)


class Progress:
    """A live table on stderr of what is being solved; nothing if not ``shown``.

    Its `on_event` is the listener; every event is also logged.

    Parameters
    ----------
    shown
        Whether to draw.
    total
        Number of instances, as far as known.
    """

    def __init__(self, shown: bool, total: int = 0):
        self.total = total
        self.done = 0
        self._finished: list[list[str]] = []
        self._current: tuple[str, int, str] | None = None
        self._begin = time.monotonic()
        self._event: Event | None = None
        self._live: Any = None
        if shown:
            from rich.live import Live

            self._live = Live(
                get_renderable=self.render,
                console=console(stderr=True),
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, instance: Instance[Any], solver: str) -> None:
        """An instance's turn begins."""
        self._current = (instance.name or instance.problem, instance.n, solver)
        self._event = None
        self._begin = time.monotonic()
        logger.info("solving %s (n = %d) with %s", *self._current)

    def on_event(self, event: Event) -> None:
        """An improvement of what is being solved."""
        self._event = event
        logger.info(
            "%.2f s: objective %s, bound %s (%s)",
            event.seconds,
            number(event.objective) or "none",
            number(event.bound) or "none",
            event.by,
        )

    def finish(self, result: Result, n: int) -> None:
        """An instance is done."""
        self.done += 1
        self._finished.append(Row(result.instance, n, [result]).cells())
        del self._finished[:-KEPT]
        self._current = None

    def render(self) -> Table:
        """The table of this moment."""
        table = _table([*COLUMNS[:8], "by", "seconds"])
        for cells in self._finished:
            table.add_row(*cells)
        if self._current is not None:
            name, n, solver = self._current
            event = self._event or Event(0.0, None)
            gap = None
            if event.objective is not None and event.bound is not None:
                gap = relative_gap(event.objective, event.bound)
            table.add_row(
                name, "", str(n), solver, number(event.objective), number(event.bound),
                percent(None if gap is None else 100.0 * gap), "", event.by,
                f"{time.monotonic() - self._begin:.1f}",
            )  # fmt: skip
        if self.total > 1:
            table.caption = f"{self.done} of {self.total}"
        return table
