"""The compiled tour construction and local search, against plain definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical import local_search as ls
from nco.classical.local_search import Costs, LocalSearch
from nco.instances.core import METRICS, Distances

COORDINATE = st.integers(0, 12)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=14).map(
    lambda p: np.array(p, dtype=float)
)
SQUARES = st.integers(1, 10).flatmap(
    lambda n: st.lists(st.integers(0, 30), min_size=n * n, max_size=n * n).map(
        lambda v: np.array(v, dtype=float).reshape(n, n)
    )
)


def matrix_of(costs):
    n = costs.n
    return np.array([[costs.tour_length([i, j]) for j in range(n)] for i in range(n)]) / 2


def length(matrix, tour):
    return math.fsum(matrix[tour, np.roll(tour, -1)])


def edges_of(tour):
    return {frozenset(e) for e in zip(tour.tolist(), np.roll(tour, -1).tolist(), strict=True)}


def is_permutation(tour, n):
    return sorted(tour) == list(range(n))


def uniform(n, seed=0):
    return np.random.default_rng(seed).random((n, 2))


def asymmetric(n, seed=0):
    return np.random.default_rng(seed).integers(1, 100, (n, n)).astype(float)


DEGENERATE = {
    "line": np.column_stack([np.arange(20.0), np.zeros(20)]),
    "equal": np.ones((15, 2)),
    "pairs": np.repeat(uniform(12), 2, axis=0),
    "two places": np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0),
    "far point": np.vstack([uniform(20), [[1e9, 1e9]]]),
    **{f"n = {n}": uniform(n) for n in range(1, 8)},
}


# ------------------------------------------------------------------------------- costs


def test_every_metric_is_known():
    assert set(ls.METRIC_CODES) == set(METRICS)


@pytest.mark.parametrize("metric", METRICS)
def test_costs_are_those_of_the_instance(metric):
    rng = np.random.default_rng(1)
    coords = rng.uniform(-80, 80, (30, METRICS[metric][1]))
    coords[7] = coords[3]
    distances, costs = Distances(coords=coords, metric=metric), Costs.of_coords(coords, metric)
    for _ in range(20):
        tour = rng.permutation(30)
        assert costs.tour_length(tour) == pytest.approx(distances.tour_length(tour), rel=1e-12)


def test_costs_of_a_matrix():
    matrix = asymmetric(6)
    assert Costs.of_matrix(matrix).directed
    assert not Costs.of_matrix(matrix + matrix.T).directed
    assert Costs.of_matrix(matrix.astype(int)).tour_length([0, 2, 1, 5, 4, 3]) == length(
        matrix, [0, 2, 1, 5, 4, 3]
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Costs.of_coords(np.zeros((3, 2)), "EUC_5D"), "metric 'EUC_5D' not understood"),
        (lambda: Costs.of_coords(np.zeros((3, 3))), r"exact needs coords \[n, 2\]"),
        (lambda: Costs.of_coords(np.zeros((3, 2)), "MAN_3D"), r"MAN_3D needs coords \[n, 3\]"),
        (lambda: Costs.of_matrix(np.zeros((3, 2))), "not square"),
        (lambda: Costs.of_matrix(np.eye(3)).points, "no points"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), [0, 1, 1]), "not a permutation"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), [0, 1]), "not a permutation"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), depth=-1), "depth < 0"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), depth=99), "depth > 10"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), breadth=-1), "breadth < 0"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), segment=0), "segment < 1"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), heat=-0.1), "heat < 0"),
        (lambda: LocalSearch(Costs.of_matrix(np.eye(3)), range(3), heat=math.nan), "heat < 0"),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch):
    from numba import njit

    def unwritable(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr("numba.njit", unwritable)
    assert ls._kernel()(lambda x: x + 1)(2) == 3


# --------------------------------------------------------------------- neighbour lists


@pytest.mark.parametrize("metric", [m for m in METRICS if not m.startswith("XRAY")])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_neighbours_are_the_nearest(metric, k):
    coords = np.random.default_rng(2).uniform(-60, 60, (25, METRICS[metric][1]))
    coords[20:] = coords[0]
    costs = Costs.of_coords(coords, metric)
    matrix = matrix_of(costs)
    np.fill_diagonal(matrix, np.inf)
    neighbors, lengths = ls.neighbor_lists(costs, k)
    assert neighbors.shape == lengths.shape == (25, min(k, 24))
    for i in range(25):
        assert i not in neighbors[i]
        assert len(set(neighbors[i])) == len(neighbors[i])
        assert lengths[i] == pytest.approx(matrix[i, neighbors[i]])
        assert (np.diff(lengths[i]) >= 0).all()
        # Rounding moves a length by less than one unit.
        slack = 0.0 if metric == "exact" else 1.0
        assert (lengths[i] <= np.sort(matrix[i])[: lengths.shape[1]] + slack + 1e-9).all()


def test_neighbours_by_an_asymmetric_matrix():
    matrix = asymmetric(9)
    neighbors, lengths = ls.neighbor_lists(Costs.of_matrix(matrix), 4)
    np.fill_diagonal(matrix, np.inf)
    assert (lengths == np.sort(matrix, axis=1)[:, :4]).all()
    assert (matrix[np.arange(9)[:, None], neighbors] == lengths).all()


def test_neighbors_of_equal_points_are_not_the_same_few() -> None:
    neighbors, _ = ls.neighbor_lists(Costs.of_coords(np.ones((2000, 2))), 5)
    assert np.bincount(neighbors.ravel(), minlength=2000).max() <= 20


def test_neighbour_lists_can_be_given_up():
    asked = []
    assert (
        ls.neighbor_lists(Costs.of_coords(uniform(5)), 3, stop=lambda: not asked.append(1)) is None
    )
    assert asked == [1]


# ------------------------------------------------------------------------ construction


@pytest.mark.parametrize(("side", "dimensions"), [(16, 2), (8, 3)])
def test_the_curve_steps_from_cell_to_cell(side, dimensions):
    grid = np.array(list(itertools.product(range(side), repeat=dimensions)), dtype=float)
    rng = np.random.default_rng(0)
    grid = rng.permutation(grid)
    order = ls.hilbert_order(grid)
    assert is_permutation(order, len(grid))
    assert (np.abs(np.diff(grid[order], axis=0)).sum(axis=1) == 1).all()


@pytest.mark.parametrize("coords", DEGENERATE.values(), ids=DEGENERATE)
def test_construction_of_degenerate_inputs(coords):
    n = len(coords)
    costs = Costs.of_coords(coords)
    assert is_permutation(ls.hilbert_order(coords), n)
    assert is_permutation(ls.greedy_edge(costs), n)
    assert is_permutation(ls.greedy_edge(Costs.of_matrix(matrix_of(costs))), n)
    for start in {0, n - 1}:
        for tour in (
            ls.nearest_neighbor(costs, start),
            ls.nearest_neighbor(Costs.of_matrix(matrix_of(costs)), start),
        ):
            assert is_permutation(tour, n)
            assert tour[0] == start


def naive_greedy(matrix, directed):
    """Length of the tour by shortest edges first, each joining two different paths."""
    n = len(matrix)
    leaving, entering, path = np.zeros(n, int), np.zeros(n, int), list(range(n))
    total, edges = 0.0, 0
    for _, i, j in sorted((matrix[i, j], i, j) for i in range(n) for j in range(n) if i != j):
        if directed:
            free = not leaving[i] and not entering[j]
        else:
            free = leaving[i] + entering[i] < 2 and leaving[j] + entering[j] < 2
        if free and (path[i] != path[j] or edges == n - 1):
            leaving[i] += 1
            entering[j] += 1
            path = [path[i] if p == path[j] else p for p in path]
            total += matrix[i, j]
            edges += 1
    return total


@pytest.mark.parametrize("k", [2, 6, 29])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_edge_takes_the_shortest_edges(seed, k):
    costs = Costs.of_coords(uniform(30, seed))
    tour = ls.greedy_edge(costs, ls.neighbor_lists(costs, k))
    # Few candidates do not matter: the ends of paths look for the nearest other ends.
    assert costs.tour_length(tour) == pytest.approx(naive_greedy(matrix_of(costs), False), rel=0.1)
    if k == 29:
        assert costs.tour_length(tour) == pytest.approx(naive_greedy(matrix_of(costs), False))


@pytest.mark.parametrize("seed", range(4))
def test_greedy_edge_by_an_asymmetric_matrix(seed):
    matrix = np.random.default_rng(seed).random((20, 20))
    costs = Costs.of_matrix(matrix)
    tour = ls.greedy_edge(costs, ls.neighbor_lists(costs, 19))
    assert costs.tour_length(tour) == pytest.approx(naive_greedy(matrix, True))


@pytest.mark.parametrize("metric", ["exact", "MAX_2D", "MAN_2D", "GEO", "EUC_3D", "XRAY2"])
@pytest.mark.parametrize("n", [2, 9, 150])
def test_nearest_neighbor_goes_to_the_nearest(metric, n):
    scale = 80 if metric == "GEO" else 1e6
    coords = np.random.default_rng(n).uniform(0, scale, (n, METRICS[metric][1]))
    if metric == "XRAY2":
        coords[:, 0] *= 180 / 1e6
    costs = Costs.of_coords(coords, metric)
    tour = ls.nearest_neighbor(costs, n // 2)
    assert is_permutation(tour, n)
    gaps = np.abs(costs.points[:, None] - costs.points[None])
    near = np.linalg.norm(gaps, axis=-1) if costs.power == 2 else gaps.max(-1)
    near = gaps.sum(-1) if costs.power == 1 else near
    for k in range(n - 1):
        assert near[tour[k], tour[k + 1]] == pytest.approx(near[tour[k], tour[k + 1 :]].min())


def test_nearest_neighbor_by_a_matrix():
    matrix = asymmetric(12)
    tour = ls.nearest_neighbor(Costs.of_matrix(matrix), 5)
    assert tour[0] == 5
    for k in range(11):
        assert matrix[tour[k], tour[k + 1]] == matrix[tour[k], tour[k + 1 :]].min()


# ------------------------------------------------------------------------ local search


def run(costs, tour, kicks=200, **options):
    search = LocalSearch(costs, tour, **options)
    search.descend()
    search.perturb(kicks, horizon=kicks)
    return search


def check(search, costs, start):
    """What must hold after any search from ``start``; returns the length."""
    assert is_permutation(search.tour, costs.n)
    recomputed = costs.tour_length(search.tour)
    assert search.length == pytest.approx(recomputed, rel=1e-9, abs=1e-9)
    assert recomputed <= costs.tour_length(start) * (1 + 1e-9) + 1e-9
    assert np.array_equal(search._state.tour[search._state.position], np.arange(costs.n))
    return recomputed


@pytest.mark.parametrize("metric", METRICS)
def test_search_with_every_metric(metric):
    rng = np.random.default_rng(3)
    coords = rng.uniform(-80, 80, (60, METRICS[metric][1]))
    costs = Costs.of_coords(coords, metric)
    start = rng.permutation(60)
    found = check(run(costs, start, seed=1), costs, start)
    assert found < 0.5 * costs.tour_length(start)
    if METRICS[metric][2]:
        assert run(costs, start, seed=1).length == found  # integral costs stay exact


@pytest.mark.parametrize("directed", [False, True])
def test_search_with_a_matrix(directed):
    matrix = asymmetric(60)
    matrix = matrix if directed else matrix + matrix.T
    costs = Costs.of_matrix(matrix)
    start = np.random.default_rng(0).permutation(60)
    assert check(run(costs, start, seed=1), costs, start) < 0.5 * costs.tour_length(start)


@pytest.mark.parametrize("coords", DEGENERATE.values(), ids=DEGENERATE)
def test_search_of_degenerate_inputs(coords):
    for costs in (
        Costs.of_coords(coords),
        Costs.of_matrix(np.triu(matrix_of(Costs.of_coords(coords)), 1)),
    ):
        start = np.arange(len(coords))
        search = run(costs, start, kicks=30)
        check(search, costs, start)
        assert search.settled
        assert search.kicks == (30 if len(coords) > 3 else 0)


@given(POINTS, st.integers(0, 99), st.integers(0, 4), st.integers(0, 9), st.integers(1, 9))
def test_search_of_any_points(points, seed, depth, breadth, segment):
    costs = Costs.of_coords(points)
    start = np.random.default_rng(seed).permutation(len(points))
    search = run(costs, start, 20, seed=seed, depth=depth, breadth=breadth, segment=segment)
    check(search, costs, start)


@given(SQUARES, st.integers(0, 99), st.booleans())
def test_search_of_any_matrix(matrix, seed, symmetric):
    costs = Costs.of_matrix(matrix + matrix.T if symmetric else matrix)
    start = np.random.default_rng(seed).permutation(costs.n)
    check(run(costs, start, 20, seed=seed), costs, start)


def optimum(matrix):
    n = len(matrix)
    return min(length(matrix, [0, *rest]) for rest in itertools.permutations(range(1, n)))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_small_instances_are_solved(n, directed):
    for seed in range(8):
        matrix = asymmetric(n, seed)
        costs = Costs.of_matrix(matrix if directed else matrix + matrix.T)
        search = run(costs, range(n), kicks=300, seed=seed)
        assert search.length == optimum(costs.matrix)


def fixed_point(costs, start):
    """Descend, with all nodes looked at again, until nothing changes."""
    everything = ls.neighbor_lists(costs, costs.n - 1)
    tour, before = start, math.inf
    while True:
        search = LocalSearch(costs, tour, neighbors=everything, breadth=costs.n, depth=1)
        search.descend()
        tour = search.tour
        if search.length >= before:
            return tour
        before = search.length


def two_opt_moves(tour):
    for i, j in itertools.combinations(range(len(tour)), 2):
        yield [*tour[:i], *tour[i : j + 1][::-1], *tour[j + 1 :]]


def or_opt_moves(tour, *, turned=True):
    n = len(tour)
    for begin, size in itertools.product(range(n), range(1, 4)):
        ring = [*tour[begin:], *tour[:begin]]
        segment, rest = ring[:size], ring[size:]
        for at in range(1, len(rest)):
            yield [*rest[:at], *segment, *rest[at:]]
            if turned:
                yield [*rest[:at], *segment[::-1], *rest[at:]]


@pytest.mark.parametrize("seed", range(6))
def test_no_two_opt_or_or_opt_move_is_left(seed):
    costs = Costs.of_coords(uniform(14, seed))
    matrix = matrix_of(costs)
    tour = list(fixed_point(costs, np.random.default_rng(seed).permutation(14)))
    moves = itertools.chain(two_opt_moves(tour), or_opt_moves(tour))
    assert min(length(matrix, moved) for moved in moves) >= length(matrix, tour) - 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_no_exchange_of_segments_is_left_with_asymmetric_costs(seed):
    costs = Costs.of_matrix(asymmetric(12, seed))
    tour = list(fixed_point(costs, np.random.default_rng(seed).permutation(12)))
    best = min(
        length(costs.matrix, [*tour[:i], *tour[j:k], *tour[i:j], *tour[k:]])
        for i, j, k in itertools.combinations(range(13), 3)
    )
    assert best >= length(costs.matrix, tour)


@pytest.mark.parametrize("heat", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("directed", [False, True])
def test_the_best_tour_never_gets_longer(heat, directed):
    costs = Costs.of_matrix(asymmetric(80)) if directed else Costs.of_coords(uniform(80))
    search = LocalSearch(costs, np.arange(80), seed=5, heat=heat)
    lengths = [search.length]
    while not search.descend(100):
        lengths.append(search.length)
    for _ in range(60):
        search.perturb(7, horizon=420)
        lengths.append(search.length)
        assert costs.tour_length(search.tour) == pytest.approx(search.length, rel=1e-9)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < lengths[0]


@pytest.mark.parametrize("directed", [False, True])
def test_slices_do_not_matter_but_the_seed_does(directed):
    costs = Costs.of_matrix(asymmetric(200)) if directed else Costs.of_coords(uniform(200))
    start = np.random.default_rng(0).permutation(200)

    def sliced(seed, work, kicks):
        search = LocalSearch(costs, start, seed=seed)
        while not search.descend(work):
            pass
        while search.kicks < 400:
            search.perturb(min(kicks, 400 - search.kicks), horizon=400, work=10 * work)
        return search

    whole = run(costs, start, 400, seed=9)
    for work, kicks in ((1, 1), (50, 400), (1 << 50, 33)):
        search = sliced(9, work, kicks)
        assert np.array_equal(search.tour, whole.tour)
        assert search.length == whole.length
        assert search.moves == whole.moves
    assert not np.array_equal(run(costs, start, 400, seed=10).tour, whole.tour)


def test_a_slice_ends_when_its_work_is_done():
    search = LocalSearch(Costs.of_coords(uniform(2000)), np.arange(2000))
    assert not search.descend(100)
    assert not search.settled
    assert search.descend()
    assert search.perturb(10**9, work=10_000) < 1000


def test_a_rejected_kick_leaves_the_tour_as_it_was():
    costs = Costs.of_coords(uniform(300))
    search = LocalSearch(costs, np.arange(300), heat=0.0)
    search.descend()
    rejected = 0
    for _ in range(200):
        before, edges = search.length, edges_of(search.tour)
        search.perturb(1)
        if search.length == before:
            rejected += 1
            assert edges_of(search.tour) == edges
    assert rejected > 50


def test_a_full_log_ends_the_repair_of_a_kick():
    """With a log for a handful of reversals kicks are repaired in part, and undone."""
    costs = Costs.of_coords(uniform(300))
    search = LocalSearch(costs, np.arange(300))
    search.descend()
    before = search.length
    search._state = search._state._replace(log=np.empty((ls._LOG_MARGIN + 5, 2), dtype=np.int32))
    search.perturb(300, horizon=300)
    assert search.kicks == 300
    assert search.settled
    assert check(search, costs, np.arange(300)) <= before + 1e-9


def test_the_start_is_not_changed():
    start = np.arange(50, dtype=np.int32)
    run(Costs.of_matrix(asymmetric(50)), start)
    run(Costs.of_coords(uniform(50)), start)
    assert np.array_equal(start, np.arange(50))


def test_read_only_arrays_need_no_second_compilation():
    coords, matrix = uniform(20), asymmetric(20)
    before = None
    for writable in (True, False):
        coords.setflags(write=writable)
        matrix.setflags(write=writable)
        for costs in (Costs.of_coords(coords), Costs.of_matrix(matrix)):
            run(costs, ls.greedy_edge(costs), 5)
        count = {k: len(v.signatures) for k, v in vars(ls).items() if hasattr(v, "signatures")}
        assert before in (None, count)
        before = count
    assert before["_search"] == 1


@settings(max_examples=20)
@given(st.integers(4, 60), st.integers(0, 1000))
def test_kicks_stay_local(n, seed):
    """A kick changes at most the edges of three segments, so few new edges without repair."""
    costs = Costs.of_coords(uniform(n, seed))
    search = LocalSearch(costs, np.arange(n), seed=seed, segment=4)
    state = search._state
    state.counts[ls._QUEUED] = 0
    state.queued[:] = False
    before = edges_of(state.tour)
    ls._kick(
        state.coords, state.matrix, state.code, state.tour, state.position, state.queue,
        state.queued, state.log, state.counts, state.values, state.random, 4,
    )  # fmt: skip
    assert is_permutation(state.tour, n)
    assert len(edges_of(state.tour) - before) <= 4
    change = costs.take(search._order).tour_length(state.tour) - state.values[0]
    assert change == pytest.approx(-state.values[2], abs=1e-9)
    ls._undo(state.tour, state.position, state.log, state.counts, 0)
    assert edges_of(state.tour) == before


# ----------------------------------------------------------------- published instances


@pytest.mark.parametrize(
    ("file", "optimum", "kicks"),
    [
        ("berlin52.tsp", 7542, 2000),
        ("st70.tsp", 675, 2000),
        ("kroA100.tsp", 21282, 2000),
        ("gr202.tsp", 40160, 10_000),
        ("ftv47.atsp", 1776, 20_000),
    ],
)
def test_published_optima_are_reached(shared_data, file, optimum, kicks):
    from nco.instances.io import read

    distances = read(shared_data / "routing" / "lib" / file).distances
    costs = (
        Costs.of_matrix(distances.matrix)
        if distances.explicit or distances.metric == "GEO"
        else Costs.of_coords(distances.coords, distances.metric)
    )
    search = run(costs, ls.greedy_edge(costs), kicks, seed=1)
    assert search.length == optimum
    assert distances.tour_length(search.tour) == optimum


def test_gap_on_uniform_instances(shared_data):
    with np.load(shared_data / "routing" / "tsp1000.npz") as data:
        coords, reference = data["coords"][0].astype(float), data["ref_cost"][0]
    costs = Costs.of_coords(coords)
    search = LocalSearch(costs, ls.greedy_edge(costs), seed=1)
    assert search.length < 1.25 * reference
    search.descend()
    assert search.length < 1.05 * reference
    search.perturb(2000, horizon=2000)
    assert search.length < 1.01 * reference
