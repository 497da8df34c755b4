"""Generators: laws, seeds, options."""

import numpy as np
import pytest

from nco.instances import generate
from nco.instances.core import InputError
from nco.instances.registry import problems

DISTRIBUTIONS = {
    "tsp": generate.POINTS,
    "atsp": generate.MATRICES,
    "cvrp": [*generate.POINTS, "uchoa"],
    "knapsack": generate.ITEMS,
    "mis": generate.GRAPHS,
}
CASES = [(p, d) for p, names in DISTRIBUTIONS.items() for d in names]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("problem", "distribution"), CASES)
def test_seed_decides(problem, distribution):
    """The same seed gives the same instance, another one another; sizes are right."""
    cls = problems.load(problem)
    one = cls.generate(30, seed=5, distribution=distribution)
    assert one.n == 30
    assert one.digest == cls.generate(30, seed=5, distribution=distribution).digest
    assert one.digest != cls.generate(30, seed=6, distribution=distribution).digest
    assert one.name == f"{problem}-{distribution}-n30-s5"


@pytest.mark.parametrize(("problem", "distribution"), CASES)
def test_small_sizes(problem, distribution):
    """From one on, or a clear word."""
    cls = problems.load(problem)
    for n in (1, 2, 3, 7):
        if distribution == "barabasi-albert" and 1 < n <= 4:
            with pytest.raises(InputError, match="1 <= m < n"):
                cls.generate(n, seed=1, distribution=distribution)
            continue
        assert cls.generate(n, seed=1, distribution=distribution).n == n


@pytest.mark.parametrize("problem", DISTRIBUTIONS)
def test_refused(problem):
    """Unknown distributions and options list the known ones; sizes and seeds have limits."""
    cls = problems.load(problem)
    with pytest.raises(InputError, match="unknown distribution 'foo'") as caught:
        cls.generate(10, seed=1, distribution="foo")
    for name in DISTRIBUTIONS[problem]:
        assert name in caught.value.hint
    for n in (0, -3, 10**12):
        with pytest.raises(InputError, match=rf"n = {n}"):
            cls.generate(n, seed=1)
    with pytest.raises(InputError, match="seed = -1"):
        cls.generate(10, seed=-1)
    if problem != "knapsack":
        with pytest.raises(InputError, match=r"unknown option of .* 'colour'"):
            cls.generate(10, seed=1, colour="red")


@pytest.mark.parametrize(
    ("distribution", "options"),
    [
        ("clustered", {"clusters": 0}),
        ("clustered", {"deviation": 0}),
        ("explosion", {"radius_min": 0.5, "radius_max": 0.4}),
        ("explosion", {"rate": -1}),
        ("rotation", {"share_max": 2}),
    ],
)
def test_options_of_points_out_of_range(distribution, options):
    """Named with what is allowed."""
    with pytest.raises(InputError, match="option out of range"):
        generate.points(10, rng(), distribution, **options)


@pytest.mark.parametrize("distribution", generate.POINTS)
def test_points_fill_the_square(distribution):
    """Inside it, and finite."""
    for seed in range(20):
        x = generate.points(400, rng(seed), distribution)
        assert x.shape == (400, 2)
        assert ((x >= 0) & (x <= 1)).all()


def test_clustered():
    """Points are close to a few centres, unlike uniform ones."""
    x = generate.points(900, rng(), "clustered", clusters=3, deviation=0.01)
    cells = np.unique(np.floor(x * 20), axis=0)
    assert len(cells) < 40
    assert len(np.unique(np.floor(generate.points(900, rng(), "uniform") * 20), axis=0)) > 300


def test_explosion_leaves_a_hole():
    """Undo the scaling: no point is closer to the centre than the radius."""
    n, radius = 2000, 0.3
    x = generate.points(n, rng(3), "explosion", radius_min=radius, radius_max=radius)
    r = rng(3)
    plain = r.random((n, 2))
    centre = r.random(2)
    far = np.hypot(*(plain - centre).T) >= radius
    # The map into the square is a similarity, known from the points that did not move.
    a, b = plain[far][:2], x[far][:2]
    scale = np.hypot(*(b[1] - b[0])) / np.hypot(*(a[1] - a[0]))
    assert np.allclose(x[far] - b[0], scale * (plain[far] - a[0]))
    moved = (x[~far] - b[0]) / scale + a[0]
    assert len(moved) > 100
    assert np.hypot(*(moved - centre).T).min() >= radius * (1 - 1e-9)
    assert np.hypot(*(moved - centre).T).mean() == pytest.approx(radius + 0.1, rel=0.1)


def test_rotation_moves_a_share():
    """The moved points keep their distances to each other."""
    n = 1000
    x = generate.points(n, rng(4), "rotation", share_min=0.3, share_max=0.3)
    plain = rng(4).random((n, 2))
    still = rng(4)
    still.random((n, 2))
    chosen = still.random(n) < 0.3
    for group in (chosen, ~chosen):
        a, b = plain[group], x[group]
        before = np.hypot(*(a[1:] - a[0]).T)
        after = np.hypot(*(b[1:] - b[0]).T)
        assert np.allclose(after / before, after[0] / before[0])
    assert 250 < chosen.sum() < 350


# ---------------------------------------------------------------------------- matrices


def test_tmat_is_closed():
    """Triangle inequality, zero diagonal, shortest paths of the uniform matrix."""
    from scipy.sparse.csgraph import floyd_warshall

    closed = generate.matrix(40, rng(1), "tmat")
    plain = generate.matrix(40, rng(1), "uniform")
    assert (closed == floyd_warshall(plain)).all()
    assert (closed[:, None, :] <= closed[:, :, None] + closed[None]).all()
    assert (np.diag(closed) == 0).all()
    assert (closed != closed.T).any()
    assert closed.dtype == np.int64


def test_closure_matches_the_benchmark(shared_data):
    """The stored class is a fixed point."""
    with np.load(shared_data / "routing" / "atsp100.npz") as data:
        matrix = data["matrix"][0].astype(np.int64)
    assert (generate.closure(matrix) == matrix).all()


def test_crane():
    """Costs are nearly symmetric for short moves."""
    near = generate.matrix(50, rng(), "crane", u=1e6)
    assert np.abs(near - near.T).max() <= 4
    far = generate.matrix(50, rng(), "crane")
    assert np.abs(far - far.T).max() > 1000
    with pytest.raises(InputError, match="too many for a matrix"):
        generate.matrix(20000, rng(), "crane")


# -------------------------------------------------------------------------------- CVRP


@pytest.mark.parametrize(
    ("n", "options", "capacity"),
    [
        (100, {}, 50),
        (150, {}, 65),
        (1000, {}, 250),
        (5000, {}, 250),
        (5, {}, 20),
        (100, {"preset": "bq"}, 50),
        (200, {"preset": "bq"}, 80),
        (500, {"preset": "bq"}, 100),
        (1000, {"preset": "bq"}, 250),
        (500, {"preset": "udc"}, 100),
        (1000, {"preset": "udc"}, 200),
        (2000, {"preset": "udc"}, 300),
        (7000, {"preset": "udc"}, 300),
        (70, {"capacity": 33}, 33),
        (50, {"demand": "unitary", "route_size": 7.2}, 8),
    ],
)
def test_capacities(n, options, capacity):
    """By preset, by size, as told, or from the size of routes."""
    fields = generate.cvrp(n, rng(), "uniform", **options)
    assert fields["capacity"] == capacity
    assert len(fields["demands"]) == len(fields["coords"]) == n + 1
    assert fields["demands"][0] == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"preset": "bq"}, "unknown size of preset bq 70"),
        ({"preset": "foo"}, "unknown preset 'foo'"),
        ({"preset": "udc"}, "unknown size"),
        ({"preset": "bq", "capacity": 9}, "exclude each other"),
        ({"preset": "bq", "demand": "unitary"}, "preset bq with demand unitary"),
        ({"depot": "foo"}, "unknown depot"),
        ({"demand": "foo"}, "unknown demand"),
        ({"customers": "random"}, "unknown option of uniform 'customers'"),
        ({"route_size": 0.5, "demand": "unitary"}, "route_size >= 1"),
        ({"capacity": "x"}, "capacity = 'x' not understood"),
        ({"distribution": "uchoa", "customers": "foo"}, "unknown customers"),
        ({"distribution": "uchoa", "deviation": 1}, "unknown option of uchoa"),
        ({"distribution": "uchoa", "preset": "bq"}, "preset bq with demand unitary"),
    ],
)
def test_refused_cvrp(options, what):
    """Contradictions are told, not resolved."""
    with pytest.raises(InputError, match=what):
        generate.cvrp(70, rng(), **{"distribution": "uniform", **options})


@pytest.mark.parametrize("demand", [*generate.DEMANDS, "quadrant", "many-small-few-large"])
def test_demand_laws(demand):
    """Ranges of Uchoa et al., on the grid and in the unit square."""
    for distribution in ("uchoa", "uniform"):
        fields = generate.cvrp(2000, rng(8), distribution, demand=demand)
        demands = fields["demands"][1:]
        side = 1000 if distribution == "uchoa" else 1
        low, high = generate.DEMANDS.get(demand, (1, 100))
        assert low <= demands.min()
        assert demands.max() <= high
        if demand in generate.DEMANDS:
            assert len(np.unique(demands)) == high - low + 1
        elif demand == "quadrant":
            left, low = (fields["coords"][1:] < side / 2).T
            assert demands[left == low].min() >= 51
            assert demands[left != low].max() <= 50
        else:
            assert 0.65 < (demands <= 10).mean() < 0.99
            assert not ((demands > 10) & (demands < 50)).any()


@pytest.mark.parametrize("customers", generate.CUSTOMERS)
@pytest.mark.parametrize("depot", generate.DEPOTS)
def test_uchoa(customers, depot):
    """Distinct grid points, rounded lengths, depot and clusters as asked."""
    fields = generate.cvrp(400, rng(2), "uchoa", customers=customers, depot=depot)
    coords = fields["coords"]
    assert fields["metric"] == "EUC_2D"
    assert len(np.unique(coords, axis=0)) == 401
    assert ((coords >= 0) & (coords <= 1000) & (coords == np.rint(coords))).all()
    if depot != "random":
        assert coords[0].tolist() == [[500, 500], [0, 0]][depot == "eccentric"]
    assert 3 <= fields["capacity"] <= 25
    # Neighbours within 40 units: 2 are expected of uniform points, clusters have more.
    gaps = np.hypot(*(coords[1:, None] - coords[None, 1:]).T)
    crowd = float((gaps < 40).sum(0).mean() - 1)
    low, high = {"random": (1, 3), "random-clustered": (3, 8), "clustered": (8, 40)}[customers]
    assert low < crowd < high


def test_depot_in_the_unit_square():
    """Also there it can be put."""
    assert generate.cvrp(9, rng(), "explosion", depot="central")["coords"][0].tolist() == [0.5, 0.5]
    assert generate.cvrp(9, rng(), "uniform", depot="eccentric")["coords"][0].tolist() == [0, 0]


# ---------------------------------------------------------------------------- knapsack


@pytest.mark.parametrize("distribution", generate.ITEMS)
def test_knapsack_classes(distribution):
    """Pisinger's laws, with R = 1000."""
    fields = generate.knapsack(3000, rng(1), distribution)
    v, w = fields["values"], fields["weights"]
    assert fields["capacity"] == w.sum() // 2
    assert min(v.min(), w.min()) >= 1
    spread = v - w
    low, high = {
        "uniform": (-999, 999),
        "weakly-correlated": (-100, 100),
        "strongly-correlated": (100, 100),
        "inverse-strongly-correlated": (-100, -100),
        "almost-strongly-correlated": (98, 102),
        "subset-sum": (0, 0),
    }[distribution]
    assert low <= spread.min()
    assert spread.max() <= high
    assert spread.max() - spread.min() >= 0.95 * (high - low)


def test_knapsack_capacities():
    """Presets, a share of the total weight, or as told; the largest item always fits."""
    for preset, n, capacity in (
        ("bq", 200, 25),
        ("bq", 77, 25),
        ("udc", 500, 50),
        ("udc", 5000, 500),
    ):
        fields = generate.knapsack(n, rng(), "uniform", preset=preset)
        assert fields["capacity"] == capacity
        assert 0 <= fields["values"].min() < fields["values"].max() < 1
    third = generate.knapsack(100, rng(), "uniform", fraction=1 / 3)
    assert third["capacity"] == third["weights"].sum() // 3
    assert generate.knapsack(9, rng(), "uniform", capacity=7)["capacity"] == 7
    tiny = generate.knapsack(9, rng(), "uniform", fraction=1e-9)
    assert tiny["capacity"] == tiny["weights"].max()
    for options, what in (
        ({"preset": "udc"}, "unknown size of preset udc 9"),
        ({"preset": "foo"}, "unknown preset"),
        ({"preset": "bq", "distribution": "subset-sum"}, "preset bq with subset-sum"),
        ({"fraction": 0}, "option out of range"),
        ({"largest": 0}, "option out of range"),
        ({"largest": 2.5}, "largest = 2.5 not understood"),
        ({"capacity": "x"}, "capacity = 'x' not understood"),
        ({"preset": "bq", "largest": 9}, "preset and largest exclude each other"),
        ({"capacity": 9, "fraction": 0.1}, "capacity and fraction exclude each other"),
    ):
        with pytest.raises(InputError, match=what):
            generate.knapsack(9, rng(), **{"distribution": "uniform", **options})


# ------------------------------------------------------------------------------ graphs


def test_erdos_renyi():
    """All pairs are possible, their number is binomial."""
    seen = np.zeros((6, 6), dtype=int)
    for seed in range(400):
        edges = generate.mis(6, rng(seed), "erdos-renyi", p=0.3)["edges"]
        assert len(np.unique(edges, axis=0)) == len(edges)
        seen[edges[:, 0], edges[:, 1]] += 1
    upper = seen[np.triu_indices(6, 1)]
    assert seen.sum() == upper.sum()
    assert 80 < upper.min() <= upper.max() < 160
    assert len(generate.mis(9, rng(), "erdos-renyi", p=1)["edges"]) == 36
    assert len(generate.mis(9, rng(), "erdos-renyi", p=0)["edges"]) == 0
    many = len(generate.mis(100_000, rng(), "erdos-renyi", p=1e-5)["edges"])
    assert many == pytest.approx(50_000, rel=0.03)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="0 <= p <= 1"):
            generate.mis(9, rng(), "erdos-renyi", p=p)
    with pytest.raises(InputError, match="unknown option of erdos-renyi 'm'"):
        generate.mis(9, rng(), "erdos-renyi", m=2)


def test_barabasi_albert():
    """m edges per new node, simple, connected, old nodes have large degrees."""
    edges = generate.mis(2000, rng(), "barabasi-albert", m=3)["edges"]
    assert len(edges) == 3 * 1997
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert (edges[:, 0] < edges[:, 1]).all()
    degree = np.bincount(edges.ravel())
    assert degree.min() >= 1
    assert degree[3:].min() >= 3
    assert degree[:20].mean() > 5 * degree[-1000:].mean()


def test_no_global_state():
    """Nothing here may depend on numpy's global state."""
    before = np.random.get_state()[1].tolist()
    for problem in DISTRIBUTIONS:
        problems.load(problem).generate(10, seed=1)
    assert np.random.get_state()[1].tolist() == before
