"""Orienteering: checks by hand, every tiny solution, OPLib files, MIP form."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io, plot
from nco.instances.core import Budget, InputError, Sense
from nco.instances.op import OP
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP


@st.composite
def instances(draw, most=5):
    n = draw(st.integers(1, most))
    point = st.tuples(st.integers(0, 9), st.integers(0, 9))
    coords = draw(st.lists(point, min_size=n + 1, max_size=n + 1))
    prizes = draw(st.lists(st.integers(0, 9), min_size=n + 1, max_size=n + 1))
    return OP(
        coords=coords,
        prizes=prizes,
        max_length=draw(st.integers(0, 40)),
        metric=draw(st.sampled_from(["exact", "EUC_2D"])),
    )


def by_hand(instance, order):
    """Length and prize by the definition, without numpy."""
    path = [0, *order, 0]
    legs = [math.dist(instance.coords[a], instance.coords[b]) for a, b in itertools.pairwise(path)]
    if instance.metric == "EUC_2D":
        legs = [math.floor(leg + 0.5) for leg in legs]
    return sum(legs), sum(int(instance.prizes[k]) for k in {0, *order})


@given(instances(most=4))
def test_every_tiny_solution(instance):
    for size in range(instance.n + 1):
        for order in map(list, itertools.permutations(range(1, instance.n + 1), size)):
            length, prize = by_hand(instance, order)
            assert instance.objective(order) == prize <= instance.unbeatable()
            assert (not instance.violations(order)) == (length <= instance.max_length + 1e-9)
            twin = instance.canonical(order)
            assert twin == instance.canonical(order[::-1])
            assert sorted(twin) == sorted(order)


@pytest.mark.parametrize(
    ("solution", "text"),
    [([1, 1], "visited 2 times"), ([9], "does not exist"), ([0], "does not exist"), ([3], "limit")],
)
def test_violations_say_what(solution, text):
    instance = OP(coords=[[0, 0], [1, 0], [2, 0], [50, 0]], prizes=[0, 1, 1, 1], max_length=10)
    assert text in instance.violations(solution)[0]
    assert instance.violations([]) == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prizes": [0, 1]}, "2 prizes for 3 nodes"),
        ({"prizes": [0, -1, 1]}, r"prizes\[1\] = -1 < 0"),
        ({"max_length": math.nan}, "max_length = nan"),
        ({"coords": [[0, 0]]}, "has no customers"),
    ],
)
def test_refused(fields, text):
    good = {"coords": [[0, 0], [1, 0], [2, 0]], "prizes": [0, 1, 1], "max_length": 3}
    with pytest.raises(ValueError, match=text):
        OP(**(good | fields))


def test_generator_is_the_papers():
    """T = 4 from 100 on, prizes by distance: the farthest has 1, none less than 0.01."""
    instance = OP.generate(500, seed=1)
    assert (instance.n, instance.max_length, instance.sense) == (500, 4, Sense.MAXIMIZE)
    assert OP.generate(20, seed=1).max_length == 2
    away = np.linalg.norm(instance.coords - instance.coords[0], axis=1)
    assert instance.prizes[away.argmax()] == 1.0
    assert instance.prizes[1:].min() >= 0.01
    k = int(np.argsort(away)[250])
    assert instance.prizes[k] == (1 + math.floor(99 * away[k] / away.max())) / 100
    assert set(OP.generate(9, seed=1, prize="constant").prizes[1:]) == {1}
    with pytest.raises(InputError, match="unknown prize 'gold'"):
        OP.generate(9, seed=1, prize="gold")


def test_oplib_round_trip(tmp_path):
    """All metrics and depots; a depot that is not the first node comes first."""
    text = """NAME: tiny\nTYPE: OP\nDIMENSION: 3\nCOST_LIMIT: 12.5\nEDGE_WEIGHT_TYPE: EUC_2D
NODE_COORD_SECTION\n1 0 0\n2 3 4\n3 6 8\nNODE_SCORE_SECTION\n1 5\n2 0\n3 7\nDEPOT_SECTION\n2\n-1
EOF\n"""
    (tmp_path / "x.oplib").write_text(text)
    instance = io.read(tmp_path / "x.oplib")
    assert instance.problem == "op"
    assert instance.coords.tolist() == [[3, 4], [0, 0], [6, 8]]
    assert instance.prizes.tolist() == [0, 5, 7]
    assert instance.max_length == 12.5
    for name in ("y.oplib", "y.npz", "y.json"):
        io.write(instance, tmp_path / name)
        assert io.read(tmp_path / name).digest == instance.digest
    for solution in ([], [2], [1, 2]):
        io.write_solution(instance, solution, tmp_path / "y.sol")
        assert io.read_solution(tmp_path / "y.sol", instance) == solution
        assert io.stated_cost(tmp_path / "y.sol", instance) == instance.objective(solution)


@pytest.mark.parametrize(
    ("old", "new", "what", "line"),
    [
        ("2 4", "2 -4", "node 2: score -4 < 0", 10),
        ("COST_LIMIT: 9\n", "", "COST_LIMIT is missing", None),
        ("2 4", "2 x", "'x' in NODE_SCORE_SECTION is not a number", 10),
    ],
)
def test_bad_files(tmp_path, old, new, what, line):
    text = """NAME: t\nTYPE: OP\nDIMENSION: 2\nCOST_LIMIT: 9\nEDGE_WEIGHT_TYPE: EUC_2D
NODE_COORD_SECTION\n1 0 0\n2 3 5\nNODE_SCORE_SECTION\n2 4\n1 0\n"""
    path = tmp_path / "x.oplib"
    path.write_text(text)
    assert io.read(path).prizes.tolist() == [0, 4]
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        io.read(path)
    assert (caught.value.what, caught.value.line) == (what, line)


def test_benchmark_files(tmp_path, shared_data):
    """Every OPLib file is read and comes back the same; stored references are feasible."""
    files = sorted((shared_data / "routing" / "op").glob("*.oplib"))
    for path in files:
        instance = io.read(path)
        assert instance.violations([]) == []
        io.write(instance, tmp_path / path.name)
        assert io.read(tmp_path / path.name).digest == instance.digest
    batch = io.read(shared_data / "routing" / "op100.npz")
    assert batch.violations(batch.ref_solution) == [[]] * len(batch)
    assert np.allclose(batch.objective(batch.ref_solution), batch.ref_cost)
    assert len(files) > 5


def test_picture():
    instance = OP.generate(12, seed=2)
    assert "(2 of 12 visited)" in plot.plot(instance, [1, 2]).get_title()
    plot.plot(instance)
    plot.plot(instance, [])


@pytest.mark.parametrize("solver", [SCIP, HiGHS])
def test_mip_has_the_optimum(solver, optimum):
    instance = OP.generate(5, seed=4, max_length=1.6)
    result = solver().solve(instance, Budget(20))
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optimum(instance))


@given(instances())
def test_mip_knows_every_solution(instance):
    """What encode makes of a feasible tour is feasible with its value, and decodes to it."""
    tour = list(range(1, instance.n + 1))
    while instance.violations(tour):
        tour.pop()
    view = instance.to_mip()
    x = view.encode(tour)
    assert view.mip.vector_violations(x) == []
    assert view.mip.value(x) == pytest.approx(instance.objective(tour))
    assert view.decode(x) == tour
