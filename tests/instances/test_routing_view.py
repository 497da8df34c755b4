"""What a routing form proves infeasible."""

import numpy as np
import pytest

from nco.instances import routing
from nco.instances.core import Distances
from nco.instances.routing import out_of_reach


@pytest.mark.parametrize("seed", range(20))
def test_out_of_reach_is_what_shortest_paths_say(seed):
    """Against Floyd and Warshall, on matrices without a triangle inequality and with zeros."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    matrix = rng.integers(0, 20, (n, n)).astype(float)
    np.fill_diagonal(matrix, 0)
    service = rng.integers(0, 5, n)
    service[0] = 0
    shortest = matrix.copy()
    for k in range(n):
        shortest = np.minimum(shortest, shortest[:, [k]] + shortest[[k], :])
    farthest = float((shortest[0] + shortest[:, 0] + service).max())
    distances = Distances(matrix=matrix)
    assert not out_of_reach(distances, farthest, service)
    assert out_of_reach(distances, farthest - 0.5, service)


def test_out_of_reach_without_shortest_paths(monkeypatch):
    """Straight lines need none; for many nodes of other costs nothing is claimed."""
    points = np.random.default_rng(0).random((30, 2)) * 100
    monkeypatch.setattr(routing, "REACH_NODES", 10)
    assert out_of_reach(Distances(coords=points, metric="exact"), 10.0)
    assert not out_of_reach(Distances(coords=points, metric="EUC_2D"), 10.0)
    monkeypatch.setattr(routing, "REACH_NODES", 30)
    assert out_of_reach(Distances(coords=points, metric="EUC_2D"), 10.0)
