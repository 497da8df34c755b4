"""The compiled search of `nco.classical.mis_tabu`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel
from nco.classical.xorshift import random_state, uniform

#: Moves looked at in one step, at most.
_SAMPLE = 64
#: Steps for which a node that left does not come back, plus up to the number of swaps.
_TENURE = 7

# Columns of the counts that the kernel keeps.
_CHOSEN, _FREE, _ONE, _STEP, _QUIET, _BEST_SIZE = range(6)


@kernel()
def _enter(v: int, kind: int, lists: Any, place: Any, counts: Any) -> None:
    lists[kind, counts[kind]] = v
    place[kind, v] = counts[kind]
    counts[kind] += 1


@kernel()
def _leave(v: int, kind: int, lists: Any, place: Any, counts: Any) -> None:
    counts[kind] -= 1
    last = lists[kind, counts[kind]]
    at = place[kind, v]
    lists[kind, at] = last
    place[kind, last] = at
    place[kind, v] = -1


@kernel()
def _add(
    v: int, indptr: Any, indices: Any, lists: Any, place: Any, counts: Any, tight: Any, owner: Any
) -> None:
    """Choose a node that has no chosen neighbour."""
    _leave(v, _FREE, lists, place, counts)
    _enter(v, _CHOSEN, lists, place, counts)
    for k in range(indptr[v], indptr[v + 1]):
        w = indices[k]
        tight[w] += 1
        owner[w] += v
        if tight[w] == 1:
            _leave(w, _FREE, lists, place, counts)
            _enter(w, _ONE, lists, place, counts)
        elif tight[w] == 2:
            _leave(w, _ONE, lists, place, counts)


@kernel()
def _drop(
    v: int, indptr: Any, indices: Any, lists: Any, place: Any, counts: Any, tight: Any, owner: Any
) -> None:
    _leave(v, _CHOSEN, lists, place, counts)
    _enter(v, _FREE, lists, place, counts)
    for k in range(indptr[v], indptr[v + 1]):
        w = indices[k]
        tight[w] -= 1
        owner[w] -= v
        if tight[w] == 1:
            _enter(w, _ONE, lists, place, counts)
        elif tight[w] == 0:
            _leave(w, _ONE, lists, place, counts)
            _enter(w, _FREE, lists, place, counts)


@kernel()
def _force(
    v: int, indptr: Any, indices: Any, lists: Any, place: Any, counts: Any, tight: Any, owner: Any,
    until: Any, weights: Any,
) -> float:  # fmt: skip
    """Choose a node in place of its chosen neighbours; the weight lost by that."""
    lost = 0.0
    for k in range(indptr[v], indptr[v + 1]):
        w = indices[k]
        if place[_CHOSEN, w] >= 0:
            _drop(w, indptr, indices, lists, place, counts, tight, owner)
            until[w] = counts[_STEP] + _TENURE
            lost += weights[w]
    _add(v, indptr, indices, lists, place, counts, tight, owner)
    return lost - weights[v]


@kernel()
def _search(
    steps: int, patience: int, restart: bool, indptr: Any, indices: Any, weights: Any, lists: Any,
    place: Any, counts: Any, tight: Any, owner: Any, until: Any, best: Any, values: Any, state: Any,
) -> None:  # fmt: skip
    """Add, swap or drop, step by step.

    ``values`` are the weights of now, of the best since the last restart, and of the best.
    """
    n = len(weights)
    for _ in range(steps):
        counts[_STEP] += 1
        step = counts[_STEP]
        # Nodes without a chosen neighbour: the heaviest comes in.
        found, most = -1, -np.inf
        count = counts[_FREE]
        at = int(uniform(state) * count)
        for k in range(min(count, _SAMPLE)):
            v = lists[_FREE, (at + k) % count]
            if until[v] >= step and values[0] + weights[v] <= values[2]:
                continue
            if weights[v] > most:
                found, most = v, weights[v]
        if found >= 0 and most >= 0.0:
            _add(found, indptr, indices, lists, place, counts, tight, owner)
            values[0] += most
        else:
            # Else one with a single chosen neighbour takes its place.
            found, most = -1, -np.inf
            count = counts[_ONE]
            at = int(uniform(state) * count)
            for k in range(min(count, _SAMPLE)):
                v = lists[_ONE, (at + k) % count]
                gain = weights[v] - weights[owner[v]]
                if until[v] >= step and values[0] + gain <= values[2]:
                    continue
                if gain > most:
                    found, most = v, gain
            out, least = -1, np.inf
            chosen = counts[_CHOSEN]
            if found < 0 or most < 0.0:
                at = int(uniform(state) * chosen)
                for k in range(min(chosen, _SAMPLE)):
                    v = lists[_CHOSEN, (at + k) % chosen]
                    if weights[v] < least:
                        out, least = v, weights[v]
            if found >= 0 and (out < 0 or most >= -least):
                u = owner[found]
                _drop(u, indptr, indices, lists, place, counts, tight, owner)
                _add(found, indptr, indices, lists, place, counts, tight, owner)
                until[u] = step + _TENURE + int(uniform(state) * min(count, n))
                values[0] += most
            elif out >= 0:
                _drop(out, indptr, indices, lists, place, counts, tight, owner)
                until[out] = step + _TENURE
                values[0] -= least
        counts[_QUIET] += 1
        if values[0] > values[1] + 1e-12 * abs(values[1]):
            values[1] = values[0]
            counts[_QUIET] = 0
        if values[0] > values[2] + 1e-12 * abs(values[2]):
            values[2] = values[0]
            counts[_BEST_SIZE] = counts[_CHOSEN]
            for k in range(counts[_CHOSEN]):
                best[k] = lists[_CHOSEN, k]
        if counts[_QUIET] > patience:
            counts[_QUIET] = 0
            if restart:
                # A new set, by random additions.
                while counts[_CHOSEN] > 0:
                    v = lists[_CHOSEN, counts[_CHOSEN] - 1]
                    _drop(v, indptr, indices, lists, place, counts, tight, owner)
                values[0] = 0.0
                for v in range(n):
                    until[v] = 0
            else:
                # Some nodes come in whatever they replace.
                for _k in range(1 + int(uniform(state) * 4)):
                    v = int(uniform(state) * n)
                    if place[_CHOSEN, v] < 0:
                        values[0] -= _force(
                            v, indptr, indices, lists, place, counts, tight, owner, until, weights
                        )
            values[1] = values[0]


class Search:
    """A search for the heaviest independent set.

    Parameters
    ----------
    indptr, indices
        The neighbours of node k are ``indices[indptr[k]:indptr[k + 1]]``.
    weights
        Weights of the nodes [n].
    chosen
        The set it begins with.
    seed
        The same seed gives the same search.
    patience
        Steps without a better set before it begins elsewhere.
    restart
        Whether it begins anew then, or near where it is.
    """

    def __init__(
        self,
        indptr: NDArray[Any],
        indices: NDArray[Any],
        weights: NDArray[Any],
        chosen: list[int],
        *,
        seed: int,
        patience: int,
        restart: bool,
    ):
        n = len(weights)
        self._graph = (
            np.array(indptr, dtype=np.int64),
            np.array(indices, dtype=np.int32),
            np.array(weights, dtype=np.float64),
        )
        self._lists = np.zeros((3, n), dtype=np.int64)
        self._place = np.full((3, n), -1, dtype=np.int64)
        self._counts = np.zeros(6, dtype=np.int64)
        self._tight = np.zeros(n, dtype=np.int64)
        self._owner = np.zeros(n, dtype=np.int64)
        self._until = np.zeros(n, dtype=np.int64)
        self._best = np.zeros(n, dtype=np.int64)
        self._lists[_FREE] = self._place[_FREE] = np.arange(n)
        self._counts[_FREE] = n
        total = 0.0
        for v in chosen:
            _add(
                v, self._graph[0], self._graph[1], self._lists, self._place, self._counts,
                self._tight, self._owner,
            )  # fmt: skip
            total += float(self._graph[2][v])
        self._best[: len(chosen)] = chosen
        self._counts[_BEST_SIZE] = len(chosen)
        self._values = np.array([total, total, total])
        self._state = random_state(seed)
        self._patience = patience
        self._restart = restart

    def run(self, steps: int) -> float:
        """Go on for some steps; the weight of the best set."""
        _search(
            steps, self._patience, self._restart, *self._graph, self._lists, self._place,
            self._counts, self._tight, self._owner, self._until, self._best, self._values,
            self._state,
        )  # fmt: skip
        return float(self._values[2])

    @property
    def chosen(self) -> list[int]:
        """The best set."""
        return sorted(self._best[: self._counts[_BEST_SIZE]].tolist())


def compile_kernels() -> None:
    """Compile what `Search` needs, or load it from numba's cache."""
    indptr, indices = np.array([0, 1, 2]), np.array([1, 0])
    Search(indptr, indices, np.ones(2), [0], seed=0, patience=10, restart=True).run(1)
