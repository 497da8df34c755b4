from __future__ import annotations

import numpy as np
import pytest

from nco.classical import constructive
from nco.classical import random_insertion as module
from nco.classical.random_insertion import random_insertion
from nco.instances.core import Budget
from nco.instances.tsp import TSP


@pytest.mark.parametrize("n", [1, 2, 3, 4, 50])
def test_every_node_once_and_the_same_again(n: int) -> None:
    points = np.random.default_rng(n).random((n, 2))
    tour = random_insertion(points, seed=2)
    assert sorted(tour) == list(range(n))
    assert tour == random_insertion(points, seed=2)


def test_it_is_about_as_short_as_when_all_legs_are_tried() -> None:
    ratio = []
    for seed in range(4):
        points = np.random.default_rng(seed).random((300, 2))
        order = np.random.default_rng(seed).permutation(300)
        tour = order[:3].tolist()
        for v in order[3:].tolist():
            a, b = points[tour], points[[*tour[1:], tour[0]]]
            extra = np.linalg.norm(a - points[v], axis=1) + np.linalg.norm(b - points[v], axis=1)
            tour.insert(int((extra - np.linalg.norm(a - b, axis=1)).argmin()) + 1, v)
        tsp = TSP(coords=points)
        ratio.append(tsp.objective(random_insertion(points, seed)) / tsp.objective(tour))
    assert np.mean(ratio) < 1.03


def test_points_at_one_place_follow_each_other() -> None:
    points = np.repeat(np.random.default_rng(0).random((5, 2)), 40, axis=0)
    tour = np.array(random_insertion(points)) // 40
    assert (np.diff(tour) != 0).sum() == 4


def test_it_stops_in_time() -> None:
    with pytest.raises(TimeoutError):
        random_insertion(np.random.default_rng(0).random((50, 2)), budget=Budget(time_limit=0.0))


def test_looks_at_the_clock_change_nothing_and_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).random((700, 2))
    tour = random_insertion(points, seed=3)
    monkeypatch.setattr(module, "LOOKS", 7)
    for least in (constructive.COMPILE_FROM, 0):  # as it is, and compiled
        monkeypatch.setattr(constructive, "COMPILE_FROM", least)
        assert random_insertion(points, 3, Budget()) == tour
    budget, looks = Budget(), 0

    def spent() -> bool:
        nonlocal looks
        looks += 1
        return looks > 150

    monkeypatch.setattr(budget, "spent", spent)
    with pytest.raises(TimeoutError):
        random_insertion(points, 3, budget)
    assert looks == 151
