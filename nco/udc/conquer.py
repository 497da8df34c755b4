"""Conquerors beside the BQ policies: classical search on parts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nco.bq.decoding import Stopped, never
from nco.bq.policies.tsp import TourPolicy
from nco.bq.state import Cut, Fields, State
from nco.instances.core import Budget, Distances, Instance
from nco.udc.pieces import Piece
from nco.udc.solver import EFFORT, KICKS, TellsOnce


class CostPolicy(TourPolicy):
    """Tours and their parts measured by the instance itself, whatever its metric.

    Parameters
    ----------
    instances
        The tours' instances, by the field ``owner``.
    """

    name = "tsp"
    fields = ("owner",)
    #: Classical search begins with what there is, and makes no other changes.
    mixes = False

    def __init__(self, instances: Sequence[Instance[Any]]):
        self.distances: list[Distances] = [i.distances for i in instances]  # type: ignore[attr-defined]
        self.directed = not all(d.symmetric for d in self.distances)

    def length(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> Tensor:
        """Lengths [b] of open paths [b, m]."""
        rows = fields["owner"] if owner is None else fields["owner"][owner]
        out = torch.empty(len(paths), dtype=torch.float64)
        for number, distances in enumerate(self.distances):
            mine = rows == number
            legs = paths[mine].numpy()
            costs = distances.pairs(legs[:, :-1], legs[:, 1:]).sum(1)
            out[mine] = torch.as_tensor(costs, dtype=torch.float64)
        return out

    def places(self, fields: Fields, nodes: Tensor, owner: Tensor) -> Tensor | None:
        """Coordinates, where all instances have them and as many of them."""
        known = [d.coords for d in self.distances if d.coords is not None]
        if len(known) < len(self.distances) or len({c.shape[1] for c in known}) > 1:
            return None
        rows = fields["owner"][owner].tolist()
        return torch.stack(
            [torch.as_tensor(known[row][own]) for row, own in zip(rows, nodes.numpy(), strict=True)]
        )

    def substate(self, fields: Fields, paths: Tensor, owner: Tensor | None = None) -> State:
        """Node numbers only; the search asks the instance for costs."""
        index = torch.cat([paths[:, :1], paths[:, -1:], paths[:, 1:-1]], 1)
        rows = fields["owner"] if owner is None else fields["owner"][owner]
        return State(index[..., None].double(), index, index[:, :0].double(), owner=rows)


@dataclass(frozen=True)
class ClassicalConqueror(TellsOnce):
    """Parts one after the other by classical search, on the CPU.

    A part that the search fails on stays as it was; the first failure is told.

    Parameters
    ----------
    policy
        Cuts and measures.
    seed
        Seed of all searches.
    turns
        Numbers of the searches, each of which has a seed of its own.
    """

    device = torch.device("cpu")
    #: Its search begins with what there is, and with another seed.
    once = False

    policy: Any
    seed: int = field(default=0, kw_only=True)
    turns: Iterator[int] = field(
        default_factory=itertools.count, kw_only=True, compare=False, repr=False
    )

    def next_seed(self) -> int:
        """The seed of the next search."""
        # Not every solver takes larger ones, or negative ones.
        return (self.seed * 1_000_003 + next(self.turns)) % (2**31 - 1)

    def part(self, cut: Cut, row: int) -> Sequence[int] | None:
        """The new actions of one part as they are recorded; None where there are none."""
        raise NotImplementedError

    def conquer(self, cut: Cut, stop: Callable[[], bool] = never, beam: int = 1) -> Tensor:
        """New parts [parts, steps] for those cut out, filled up with -1; there is no beam."""
        old = cut.state.index[:, 2:] if cut.old is None else cut.old
        rows: list[Sequence[int]] = []
        for row, now in enumerate(old.tolist()):
            if stop():
                raise Stopped(_filled(rows) if rows else None)
            try:
                made = self.part(cut, row)
            except Exception as error:  # whatever a solver of one's own raises
                reason = " ".join(str(error).split()) or type(error).__name__
                self._tell("a part stays as it was, as its search failed: %s", reason)
                made = None
            rows.append(now if made is None else made)
        return _filled(rows)


def _filled(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows as one array, filled up with -1."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(row, dtype=torch.int64) for row in rows], True, -1
    )


def tour_part(cut: Cut, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nodes of one part of a tour from end to end, and what fixed ways lead to.

    Returns
    -------
    Node numbers in the order they have now [m], and for each one more than the other end of
    the fixed way that it is an end of, else 0 [m].
    """
    index = cut.state.index[row].numpy()
    known = np.flatnonzero(index >= 0)
    known = np.r_[known[0], known[2:], known[1]]
    ways = np.zeros(len(known), dtype=np.int64)
    if not cut.state.dense:
        ways = cut.state.nodes[row, :, -1].long().abs().numpy()[known]
    return index[known], ways


def way_heads(path: NDArray[np.int64], ways: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places whose node is the first end of a fixed way to the node after it."""
    return np.flatnonzero((ways[:-1] > 0) & (path[1:] + 1 == ways[:-1]))


def tour_actions_of(
    path: NDArray[np.int64], ways: NDArray[np.int64], order: NDArray[np.intp]
) -> list[int]:
    """What is recorded of a path's nodes in a new order: of a fixed way, where it is entered."""
    path, ways = path[order], ways[order]
    path[way_heads(path, ways) + 1] = -1
    inner: list[int] = path[1:-1].tolist()
    return [node for node in inner if node >= 0]


@dataclass(frozen=True)
class OrOptConqueror(ClassicalConqueror):
    """Parts of tours by `nco.classical.local_search`: a descent, then kicks.

    Parameters
    ----------
    policy
        Measures tours of the instances: a `CostPolicy`, perhaps with regions.
    effort
        Kicks per node of a part.
    seed, turns
        As for `ClassicalConqueror`.
    """

    effort: float = KICKS

    def part(self, cut: Cut, row: int) -> Sequence[int]:
        """As `ClassicalConqueror.part`."""
        assert cut.state.owner is not None
        path, ways = tour_part(cut, row)
        distances = self.policy.distances[int(cut.state.owner[row])]
        return tour_actions_of(path, ways, self._order(distances, path, ways, self.next_seed()))

    def _order(
        self, distances: Distances, path: NDArray[Any], ways: NDArray[Any], seed: int
    ) -> NDArray[Any]:
        """Places of the path's nodes in a better order, ends and fixed ways as they are.

        Parameters
        ----------
        distances
            The instance's costs.
        path, ways
            As `tour_part` gives them.
        seed
            Seed of the kicks.
        """
        from nco.classical.local_search import Costs, LocalSearch

        m = len(path)
        costs = distances.pairs(path[:, None], path[None, :]).astype(np.float64)
        scale = float(costs.max())
        same = np.arange(m)
        if m < 5 or not scale > 0.0:
            return same
        costs /= scale
        # The way from last to first closes the tour at a price that no detour outweighs;
        # so are fixed ways, whose first end stands before the second.
        head = np.r_[way_heads(path, ways), m - 1]
        tail = (head + 1) % m
        costs[head, tail] = -float(m)
        if not self.policy.directed:
            costs[tail, head] = -float(m)
        search = LocalSearch(Costs.of_matrix(costs), same, seed=seed, heat=0.0)
        search.descend()
        search.perturb(round(self.effort * m))
        tour = search.tour
        tour = np.roll(tour, -int(np.flatnonzero(tour == 0)[0]))
        if tour[-1] != m - 1:
            tour = np.r_[tour[0], tour[:0:-1]]
        place = np.empty(m, dtype=np.int64)
        place[tour] = same
        gap = place[tail[:-1]] - place[head[:-1]]
        kept = (gap == 1) if self.policy.directed else (np.abs(gap) == 1)
        return tour if tour[-1] == m - 1 and kept.all() else same


@dataclass(frozen=True)
class SolverConqueror(ClassicalConqueror):
    """Parts as instances of their own, by any solver.

    Parameters
    ----------
    policy
        Cuts and measures: a `CostPolicy` for tours, else the problem's policy.
    wholes
        The instance of every solution that is cut.
    solver
        Solves one instance.
    piece
        As in `nco.udc.dividers.Divider`; None for tours.
    budget
        Of the whole search.
    effort
        Iterations of the solver per node of a part.
    seed, turns
        As for `ClassicalConqueror`.
    """

    wholes: Sequence[Instance[Any]]
    solver: Any
    piece: Callable[[Any, NDArray[np.int64], NDArray[Any]], Piece] | None
    budget: Budget
    effort: float = EFFORT

    def part(self, cut: Cut, row: int) -> Sequence[int] | None:
        """As `ClassicalConqueror.part`."""
        if self.piece is None:
            return self._path(cut, row)
        whole = self.wholes[int(cut.owner[row])]
        assert cut.old is not None
        index, actions = cut.state.index[row].numpy(), cut.old[row]
        index = index[index >= 0]
        now: list[int] = actions[actions >= 0].tolist()
        if len(index) <= self.policy.markers:
            return now  # there is nothing to choose from
        piece = self.piece(whole, index, cut.state.scalar[row].double().numpy())
        start = piece.solution(now)
        solution = self._solve(piece.instance, start)
        return None if solution is None else piece.actions(solution)

    def _solve(self, instance: Instance[Any], start: Any) -> Any:
        limit = None if self.budget.time_limit is None else self.budget.left()
        budget = self.budget.child(limit, max(1, round(self.effort * instance.n)))
        start = start if start and not instance.violations(start) else None
        seed = self.next_seed()
        return self.solver.solve(instance, budget, seed=seed, start=start).solution

    def _path(self, cut: Cut, row: int) -> Sequence[int] | None:
        """A path as a tour: between its ends, and within fixed ways, lie nodes near no other."""
        path, ways = tour_part(cut, row)
        whole: Any = self.wholes[int(cut.owner[row])]
        m, head = len(path), way_heads(path, ways)
        first, second = np.r_[m - 1, head], np.r_[0, head + 1]
        extra = m + np.arange(len(first))
        costs = np.empty((m + len(extra),) * 2)
        costs[:m, :m] = whole.distances.pairs(path[:, None], path[None, :])
        np.fill_diagonal(costs[:m, :m], 0.0)
        far = 3.0 * float(costs[:m, :m].max())
        costs[m:], costs[:, m:] = far, far
        costs[extra, extra] = costs[first, extra] = costs[extra, second] = 0.0
        if not self.policy.directed:
            costs[extra, first] = costs[second, extra] = 0.0
        made = type(whole)(matrix=costs)
        start = np.insert(np.arange(m), np.r_[0, head + 1], extra).tolist()
        solution = self._solve(made, start)
        if solution is None:
            return None
        tour = np.asarray(solution)
        tour = np.roll(tour, -int(np.flatnonzero(tour == m)[0]))
        if tour[1] != 0:
            tour = np.r_[tour[0], tour[:0:-1]]
        inner = tour[tour < m]
        place = np.argsort(inner)
        gap = place[head + 1] - place[head]
        kept = (gap == 1) if self.policy.directed else (np.abs(gap) == 1)
        if (inner[0], inner[-1]) != (0, m - 1) or not kept.all():
            return None
        return tour_actions_of(path, ways, inner)
