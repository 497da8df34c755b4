"""Pictures of solutions and of runs.

Every function draws into ``ax`` (a new figure's, without one) and returns it; nothing
touches pyplot or needs a display: ``plot.tour(instance, solution).figure.savefig(path)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Event, Instance, Result, Sense, primal_gap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Above so many nodes, dots would hide the lines.
MAX_DOTS = 2_000


def axes(width: float = 6.0, height: float = 6.0) -> Axes:
    """The axes of a new figure that needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.subplots()


def plot(instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None) -> Axes:
    """The picture that fits an instance, with a solution or alone.

    Raises
    ------
    ValueError
        When there is none for this problem.
    """
    if instance.problem in DRAWERS:
        return DRAWERS[instance.problem](instance, solution, ax=ax)
    if getattr(instance, "coords", None) is not None:
        if instance.solution_form == "routes":
            return routes(instance, solution, ax=ax)
        if instance.solution_form == "nodes":
            return tour(instance, solution, ax=ax)
    raise ValueError(f"no picture shows a {instance.problem} like this; plot its results instead.")


def _coords(instance: Instance[Any]) -> NDArray[np.float64]:
    coords = getattr(instance, "coords", None)
    if coords is None:
        raise ValueError("has no coordinates to draw.")
    return np.asarray(coords, dtype=np.float64)[:, :2]


def _finish(ax: Axes, instance: Instance[Any], solution: Any, extra: str = "") -> Axes:
    title = instance.name or instance.problem
    if solution is not None:
        title += f": {_number(instance.objective(solution))}"
    ax.set_title(title + extra)
    return ax


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _map(ax: Axes | None) -> Axes:
    ax = ax or axes()
    ax.set_aspect("equal", adjustable="datalim")
    return ax


def tour(instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None) -> Axes:
    """A closed tour.

    Parameters
    ----------
    instance
        An instance with coordinates [n, 2].
    solution
        Nodes in visiting order, or None to draw the nodes alone.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        When the instance has no coordinates.
    """
    xy = _coords(instance)
    ax = _map(ax)
    if solution is not None and len(solution):
        path = xy[[*solution, solution[0]]]
        ax.plot(path[:, 0], path[:, 1], color="tab:blue", linewidth=_width(len(xy)))
    _dots(ax, xy)
    return _finish(ax, instance, solution)


def routes(instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None) -> Axes:
    """Routes from a depot, one colour each; the legs at the depot are thin.

    Parameters
    ----------
    instance
        An instance with coordinates [n + 1, 2], row 0 the depot.
    solution
        Routes of customers without the depot, or None to draw the nodes alone.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        When the instance has no coordinates.
    """
    from matplotlib import colormaps

    xy = _coords(instance)
    ax = _map(ax)
    colors = colormaps["tab20"].colors  # type: ignore[attr-defined]
    count = 0
    for number, route in enumerate(r for r in solution or () if len(r)):
        color = colors[number % len(colors)]
        inner = xy[list(route)]
        ax.plot(inner[:, 0], inner[:, 1], color=color, linewidth=_width(len(xy)))
        # An open route has no way back.
        for end in inner[:1] if instance.problem == "ovrp" else inner[[0, -1]]:
            ax.plot([xy[0, 0], end[0]], [xy[0, 1], end[1]], color=color, linewidth=0.4, alpha=0.6)
        count += 1
    _dots(ax, xy[1:])
    ax.scatter(xy[:1, 0], xy[:1, 1], marker="s", color="black", s=40, zorder=3, label="depot")
    if solution is not None and instance.solution_form != "routes":
        return ax
    return _finish(ax, instance, solution, f" ({count} routes)" if count else "")


def _dots(ax: Axes, xy: NDArray[np.float64]) -> None:
    if len(xy) <= MAX_DOTS:
        ax.scatter(xy[:, 0], xy[:, 1], s=max(2.0, min(16.0, 1600.0 / len(xy))), color="0.25")


def _width(n: int) -> float:
    return max(0.3, min(1.5, 30.0 / math.sqrt(n)))


def knapsack(instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None) -> Axes:
    """Items by weight and value; the chosen ones stand out.

    Parameters
    ----------
    instance
        A knapsack with values and weights [n].
    solution
        Chosen items, or None.
    ax
        Axes to draw into.
    """
    ax = ax or axes(7, 5)
    weights, values = np.asarray(instance.weights), np.asarray(instance.values)  # type: ignore[attr-defined]
    chosen = np.zeros(len(values), dtype=bool)
    if solution is not None:
        chosen[list(solution)] = True
    ax.scatter(weights[~chosen], values[~chosen], s=10, color="0.7", label="left")
    ax.scatter(weights[chosen], values[chosen], s=14, color="tab:blue", label="chosen")
    ax.set_xlabel("weight")
    ax.set_ylabel("value")
    if solution is not None:
        ax.legend()
    return _finish(ax, instance, solution)


def independent_set(
    instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None
) -> Axes:
    """A graph on a circle, ordered by degree; the chosen nodes stand out.

    Parameters
    ----------
    instance
        An independent set problem with edges [m, 2].
    solution
        Chosen nodes, or None.
    ax
        Axes to draw into.
    """
    from matplotlib.collections import LineCollection

    ax = _map(ax)
    edges = np.asarray(instance.edges, dtype=np.int64).reshape(-1, 2)  # type: ignore[attr-defined]
    n = instance.n
    place = np.empty(n)
    place[np.argsort(np.bincount(edges.reshape(-1), minlength=n), kind="stable")] = np.arange(n)
    angle = 2.0 * np.pi * place / n
    xy = np.stack([np.cos(angle), np.sin(angle)], 1)
    lines = LineCollection(list(xy[edges]), colors="0.8", linewidths=0.3, zorder=1)
    ax.add_collection(lines)
    chosen = np.zeros(n, dtype=bool)
    if solution is not None:
        chosen[list(solution)] = True
    ax.scatter(xy[~chosen, 0], xy[~chosen, 1], s=8, color="0.5", zorder=2)
    ax.scatter(xy[chosen, 0], xy[chosen, 1], s=18, color="tab:red", zorder=3)
    ax.set_axis_off()
    ax.autoscale_view()
    return _finish(ax, instance, solution)


def visits(instance: Instance[Any], solution: Any = None, *, ax: Axes | None = None) -> Axes:
    """A tour from the depot through some customers, drawn as one of `routes`."""
    ax = routes(instance, None if solution is None else [solution], ax=ax)
    extra = "" if solution is None else f" ({len(solution)} of {instance.n} visited)"
    return _finish(ax, instance, solution, extra)


#: Problem -> its own picture, where coordinates alone do not make it.
DRAWERS = {
    "knapsack": knapsack,
    "mis": independent_set,
    "op": visits,
    "pctsp": visits,
    "spctsp": visits,
}


# --------------------------------------------------------------------------------- runs


def _steps(events: Iterable[Event], attribute: str, end: float) -> tuple[list[float], list[float]]:
    times: list[float] = []
    values: list[float] = []
    for event in events:
        value = getattr(event, attribute)
        if value is not None and (not values or value != values[-1]):
            times.append(event.seconds)
            values.append(value)
    if values:
        times.append(max(end, times[-1]))
        values.append(values[-1])
    return times, values


def convergence(results: Result | Sequence[Result], *, ax: Axes | None = None) -> Axes:
    """Objective (solid) and dual bound (dashed) over time, one colour for each result.

    Parameters
    ----------
    results
        One result, or several of one instance.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        Without results, or with those of several instances.
    """
    results = _of_one_instance(results)
    ax = ax or axes(7, 4.5)
    for number, result in enumerate(results):
        color = f"C{number % 10}"
        times, values = _steps(result.trajectory, "objective", result.seconds)
        ax.step(times, values, where="post", color=color, label=_label(result, results))
        times, values = _steps(result.trajectory, "bound", result.seconds)
        if values:
            ax.step(times, values, where="post", color=color, linestyle="--", linewidth=1)
    if results[0].ref_cost is not None:
        ax.axhline(results[0].ref_cost, color="0.5", linewidth=0.8, label="reference")
    ax.set_xlabel("seconds")
    ax.set_ylabel("objective")
    ax.set_title(results[0].instance or results[0].problem)
    ax.legend()
    return ax


def gap(
    results: Result | Sequence[Result],
    *,
    references: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean primal gap over time for every solver, in per cent on a log scale.

    Parameters
    ----------
    results
        Results of any instances; those of one solver make one line.
    references
        Digest -> objective to measure against; by default the stored reference, or
        the best among the results.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        Without results.
    """
    results = [results] if isinstance(results, Result) else list(results)
    if not results:
        raise ValueError("no results to draw.")
    best = _references(results, references or {})
    ax = ax or axes(7, 4.5)
    end = max(r.seconds for r in results)
    times = np.unique([0.0, end, *(e.seconds for r in results for e in r.trajectory)])
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.solver, []).append(result)
    for solver, members in groups.items():
        lines = np.array([_gap_line(r, best.get(r.digest), times) for r in members])
        # On a log scale nothing is zero.
        ax.step(times, np.maximum(100.0 * lines.mean(0), 1e-4), where="post", label=solver)
    ax.set_yscale("log")
    ax.set_xlabel("seconds")
    ax.set_ylabel("mean primal gap (%)")
    count = len({r.digest for r in results})
    ax.set_title(f"{count} instance{'' if count == 1 else 's'}")
    ax.legend()
    return ax


def _references(results: Sequence[Result], given: Mapping[str, float]) -> dict[str, float]:
    out = {}
    for result in results:
        values = [v for v in (given.get(result.digest), result.ref_cost) if v is not None]
        found = [r.objective for r in results if r.digest == result.digest]
        known = [v for v in found if v is not None]
        if values:
            out[result.digest] = values[0]
        elif known:
            out[result.digest] = min(known) if result.sense is Sense.MINIMIZE else max(known)
    return out


def _gap_line(
    result: Result, reference: float | None, times: NDArray[np.float64]
) -> NDArray[np.float64]:
    line = np.ones(len(times))
    if reference is None:
        return line
    for event in result.trajectory:
        if event.objective is not None:
            line[times >= event.seconds] = primal_gap(event.objective, reference)
    return line


def _of_one_instance(results: Result | Sequence[Result]) -> list[Result]:
    results = [results] if isinstance(results, Result) else list(results)
    if not results:
        raise ValueError("no results to draw.")
    if len({r.digest for r in results}) > 1:
        raise ValueError("results of several instances; draw one, or their gap.")
    return results


def _label(result: Result, results: Sequence[Result]) -> str:
    same = sum(r.solver == result.solver for r in results)
    return f"{result.solver}, seed {result.seed}" if same > 1 else result.solver


def arms(results: Iterable[Result], *, ax: Axes | None = None) -> Axes:
    """What each arm of `balans` did: tries, wins among them, and the seconds they took.

    Parameters
    ----------
    results
        Results of `balans`; their arms are added up, those of workers too.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        When no result tells of arms, or one not as `balans` does.
    """
    totals: dict[str, NDArray[np.float64]] = {}
    try:
        for result in results:
            for extra in (result.extra, *result.extra.get("workers", ())):
                for arm, known in extra.get("arms", {}).items():
                    row = np.array([known["tries"], known["wins"], known["seconds"]], dtype=float)
                    totals[arm] = totals.get(arm, np.zeros(3)) + row
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("the arms of a result are not understood; solve with balans.") from None
    if not totals:
        raise ValueError("no result tells of arms; solve with balans and write results as .jsonl.")
    ordered = sorted(totals.items(), key=lambda item: (item[1][1], item[1][0]))
    names = [arm for arm, _ in ordered]
    values = np.array([row for _, row in ordered])
    ax = ax or axes(7.0, 1.0 + 0.35 * len(names))
    ax.barh(names, values[:, 0], color="tab:gray", alpha=0.4, label="tries")
    ax.barh(names, values[:, 1], color="tab:blue", height=0.45, label="wins")
    for number, (tries, _, seconds) in enumerate(values.tolist()):
        ax.annotate(
            f"{seconds:.1f} s", (tries, number), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    ax.set_xlabel("sub-solves")
    ax.legend(loc="lower right")
    return ax


def iterations(results: Result | Sequence[Result], *, ax: Axes | None = None) -> Axes:
    """Value (solid) and dual bound (dashed) after each iteration of scenario generation.

    Parameters
    ----------
    results
        Results of `ccg`, `neur2ro` or others that log iterations, of one instance.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        When no result logs iterations, or with those of several instances.
    """
    from matplotlib.ticker import MaxNLocator

    # Other solvers only count theirs.
    told = [r for r in _of_one_instance(results) if isinstance(r.extra.get("iterations"), list)]
    if not told:
        raise ValueError("no result logs iterations; solve a two-stage problem, results as .jsonl.")
    ax = ax or axes(7, 4.5)
    for number, result in enumerate(told):
        color = f"C{number % 10}"
        rows = result.extra["iterations"]
        for keys, style in ((("objective", "best"), "-"), (("bound", "believed"), "--")):
            points = [(k, row[key]) for k, row in enumerate(rows, 1) for key in keys
                      if row.get(key) is not None]  # fmt: skip
            if points:
                x, y = zip(*points, strict=True)
                label = _label(result, told) if style == "-" else None
                ax.plot(x, y, style, marker=".", color=color, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("iteration")
    ax.set_ylabel("objective")
    ax.set_title(told[0].instance or told[0].problem)
    ax.legend()
    return ax


def time_split(results: Result | Iterable[Result], *, ax: Axes | None = None) -> Axes:
    """Mean seconds of each solver in its parts: master, adversary, evaluation, the rest.

    Parameters
    ----------
    results
        Results of solvers for two-stage problems, of any instances.
    ax
        Axes to draw into.

    Raises
    ------
    ValueError
        When no result tells of the parts.
    """
    results = [results] if isinstance(results, Result) else list(results)
    by_solver: dict[str, list[dict[str, float]]] = {}
    for result in results:
        spent = result.extra.get("seconds")
        if isinstance(spent, Mapping):
            rest = max(0.0, result.seconds - sum(spent.values()))
            by_solver.setdefault(result.solver, []).append({**spent, "rest": rest})
    if not by_solver:
        raise ValueError("no result tells where time went; solve a two-stage problem.")
    names = list(by_solver)
    parts = list(dict.fromkeys(part for rows in by_solver.values() for r in rows for part in r))
    parts.append(parts.pop(parts.index("rest")))
    ax = ax or axes(7.0, 1.2 + 0.4 * len(names))
    left = np.zeros(len(names))
    for part in parts:
        width = np.array([np.mean([r.get(part, 0.0) for r in by_solver[n]]) for n in names])
        color = "0.8" if part == "rest" else None
        ax.barh(names, width, left=left, label=part, color=color)
        left += width
    ax.set_xlabel("seconds, mean over instances")
    ax.legend()
    return ax
