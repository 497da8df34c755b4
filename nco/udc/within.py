"""Stages of several kinds: beside groups of whole routes, paths within single routes.

A route from the depot and back is a path with fixed ends for a policy of tours, whatever
the routes are for: where it is not longer after, neither are all routes together nor the
longest of them, and loads stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nco.bq.decoding import Conqueror, never
from nco.bq.state import Cut, Fields


@dataclass(frozen=True)
class RoutePaths:
    """Solutions of a problem of routes, whose parts are paths within single routes.

    Parameters
    ----------
    routes
        The problem's policy, a `nco.bq.policies.cvrp.RoutesPolicy`: what solutions are.
    tours
        A `nco.bq.policies.tsp.TourPolicy`, which decides the paths.
    """

    routes: Any
    tours: Any

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the problem's own."""
        return getattr(self.routes, name)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Of every route a path of at most ``size`` nodes, all of it in half of the cases.

        A path that an open route ends with has no fixed last node: in half of the cases it
        keeps the one that it has, else any of its nodes is drawn.
        """
        steps, device = actions.shape[1], actions.device
        known = actions >= 0
        # A route's actions stand side by side, up to the next one's or the end of all.
        owner, first = (known & (actions % 2 == 1)).nonzero(as_tuple=True)
        after = torch.where(owner[1:] == owner[:-1], first[1:], known.sum(1)[owner[:-1]])
        after = torch.cat([after, known.sum(1)[owner[-1:]]])
        count = after - first
        draw = torch.rand(len(count), 4, generator=generator, device=device)
        span = (2.0 * draw[:, 0] * count).ceil().long().clamp(3, size).minimum(count)
        offset = (draw[:, 1] * (count - span + 1)).long()
        column = torch.arange(int(span.max()) if len(span) else 0, device=device)
        outside = column >= span[:, None]
        first = first + offset
        place = (first[:, None] + column).masked_fill(outside, -1)
        nodes = actions // 2
        window = nodes[owner[:, None], place].masked_fill(outside, -1)
        # Before the first and after the last is the depot.
        begin = nodes[owner, first - 1].masked_fill(offset == 0, 0)[:, None]
        end = nodes[owner, (first + span).clamp_max(steps - 1)]
        end = end.masked_fill(offset + span == count, 0)[:, None]
        free = (offset + span == count)[:, None] & bool(getattr(self.routes, "open", False))
        path = self._path(begin, window, end.masked_fill(free, -1))
        cost = self._length(fields, path, owner)
        last = torch.where(draw[:, 2] < 0.5, span - 1, (draw[:, 3] * span).long())[:, None]
        end = torch.where(free, window.gather(1, last), end)
        inner = window.scatter(1, last, window.gather(1, last).masked_fill(free, -1))
        inner = inner.gather(1, (inner < 0).to(torch.int8).argsort(dim=1, stable=True))
        some = (inner >= 0).sum(1) > 1
        if not bool(some.any()):
            return None
        begin, inner, end, owner = begin[some], inner[some], end[some], owner[some]
        filled = torch.where(inner < 0, begin, inner)
        state = self.tours.substate(fields, torch.cat([begin, filled, end], 1), owner)
        index = torch.cat([begin, end, inner], 1)
        state = replace(state, index=index, dense=bool((inner >= 0).all()))
        return Cut(state, owner, cost[some], place[some], window[some])

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As the policy of tours says; a path with another last node than now stays as decided."""
        old, index = cut.old, cut.state.index
        assert old is not None
        count = (old >= 0).sum(1)
        last = old.gather(1, count[:, None] - 1)
        moved = (count > (index[:, 2:] >= 0).sum(1)) & (last != index[:, 1:2])[:, 0]
        mixed: Tensor = self.tours.recombine(fields, cut, new)
        new = F.pad(new, (0, mixed.shape[1] - new.shape[1]), value=-1)
        return torch.where(moved[:, None], new, mixed)

    @staticmethod
    def _path(begin: Tensor, inner: Tensor, end: Tensor) -> Tensor:
        """Nodes [parts, m + 2] of paths, filled up with -1; an end [parts, 1] of -1 is none."""
        count = (inner >= 0).sum(1, keepdim=True)
        return torch.cat([begin, F.pad(inner, (0, 1), value=-1).scatter(1, count, end)], 1)

    def _length(self, fields: Fields, path: Tensor, owner: Tensor) -> Tensor:
        """Lengths [parts] of paths that are filled up with -1."""
        legs = torch.stack([path[:, :-1], path[:, 1:]], 2)
        who = owner.repeat_interleave(legs.shape[1])
        lengths = self.tours.length(fields, legs.flatten(0, 1).clamp_min(0), who)
        return (lengths.view(legs.shape[:2]) * (path[:, 1:] >= 0)).sum(1)

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """Lengths [parts] of the new paths."""
        begin, end = cut.state.index[:, :1], cut.state.index[:, 1:2]
        return self._length(fields, self._path(begin, new, end), cut.owner)

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """Solutions with the better paths put in."""
        path = self._path(cut.state.index[:, :1], new, cut.state.index[:, 1:2])[:, 1:]
        row, column = ((cut.place >= 0) & better[:, None]).nonzero(as_tuple=True)
        owner, at = cut.owner[row], cut.place[row, column]
        actions = actions.clone()
        actions[owner, at] = 2 * path[row, column] + actions[owner, at] % 2
        return actions


@dataclass(frozen=True)
class KindCut(Cut):
    """Parts of one of several kinds.

    Parameters
    ----------
    kind
        Its number.
    """

    kind: int = 0

    def key(self) -> Tensor:
        """As `Cut.key`, and other for other kinds."""
        return super().key() + self.kind


@dataclass(frozen=True)
class KindsPolicy:
    """Solutions whose parts are of one of two kinds; all else is as the first says.

    Parameters
    ----------
    kinds
        What cuts and measures parts of each kind.
    share
        Share of the cuts that are of the second kind.
    """

    kinds: tuple[Any, Any]
    share: float

    def __getattr__(self, name: str) -> Any:
        """What is not said here is the first one's own."""
        return getattr(self.kinds[0], name)

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Parts of the kind that is drawn; of the first where the second has none."""
        draw = float(torch.rand((), generator=generator, device=actions.device))
        for kind in (1, 0) if draw < self.share else (0,):
            cut: Cut | None = self.kinds[kind].cut(fields, actions, size, generator)
            if cut is not None:
                return KindCut(**vars(cut), kind=kind)
        return None

    def part_cost(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As its kind says."""
        assert isinstance(cut, KindCut)
        cost: Tensor = self.kinds[cut.kind].part_cost(fields, cut, new)
        return cost

    def recombine(self, fields: Fields, cut: Cut, new: Tensor) -> Tensor:
        """As its kind says."""
        assert isinstance(cut, KindCut)
        mixed: Tensor = self.kinds[cut.kind].recombine(fields, cut, new)
        return mixed

    def paste(
        self, fields: Fields, actions: Tensor, cut: Cut, new: Tensor, better: Tensor
    ) -> Tensor:
        """As its kind says."""
        assert isinstance(cut, KindCut)
        pasted: Tensor = self.kinds[cut.kind].paste(fields, actions, cut, new, better)
        return pasted


@dataclass(frozen=True)
class WithinRoutes:
    """A conqueror of groups of routes, and one of tours for paths within routes.

    Parameters
    ----------
    routes, tours
        The two conquerors.
    share
        Share of the stages that are the second one's.
    """

    routes: Conqueror
    tours: Conqueror
    share: float

    @functools.cached_property
    def policy(self) -> Any:
        """Cuts parts of both kinds."""
        routes = self.routes.policy
        return KindsPolicy((routes, RoutePaths(routes, self.tours.policy)), self.share)

    @property
    def device(self) -> torch.device:
        """That of both."""
        return self.routes.device

    @property
    def once(self) -> bool:
        """As the conqueror of routes says."""
        return self.routes.once

    def conquer(self, cut: Cut, stop: Callable[[], bool] = never, beam: int = 1) -> Tensor:
        """New parts [parts, steps], as the conqueror of their kind decides."""
        assert isinstance(cut, KindCut)
        return (self.routes, self.tours)[cut.kind].conquer(cut, stop, beam)
