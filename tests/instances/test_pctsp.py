"""Prize-collecting TSP: checks by hand, every tiny solution, MIP form."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io, plot
from nco.instances.core import Budget
from nco.instances.pctsp import PCTSP
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP


@st.composite
def instances(draw, most=4):
    n = draw(st.integers(1, most))
    point = st.tuples(st.integers(0, 9), st.integers(0, 9))
    amounts = st.lists(st.integers(0, 9), min_size=n, max_size=n)
    prizes = draw(amounts)
    return PCTSP(
        coords=draw(st.lists(point, min_size=n + 1, max_size=n + 1)),
        prizes=[0, *prizes],
        penalties=[0, *draw(amounts)],
        min_prize=draw(st.integers(0, sum(prizes))),
        metric=draw(st.sampled_from(["exact", "EUC_2D"])),
    )


@given(instances())
def test_every_tiny_solution(instance):
    """Length plus penalties of the others; enough prize; one canonical form."""
    for size in range(instance.n + 1):
        for order in map(list, itertools.permutations(range(1, instance.n + 1), size)):
            path = [0, *order, 0]
            legs = [
                math.dist(instance.coords[a], instance.coords[b])
                for a, b in itertools.pairwise(path)
            ]
            if instance.metric == "EUC_2D":
                legs = [math.floor(leg + 0.5) for leg in legs]
            paid = sum(
                int(instance.penalties[k]) for k in range(1, instance.n + 1) if k not in order
            )
            assert instance.objective(order) == pytest.approx(sum(legs) + paid)
            enough = sum(int(instance.prizes[k]) for k in order) >= instance.min_prize
            assert (not instance.violations(order)) == (enough or size == instance.n)
            assert instance.canonical(order) == instance.canonical(order[::-1])


def test_whole_numbers_stay_whole():
    instance = PCTSP(
        coords=[[0, 0], [3, 4]], prizes=[0, 1], penalties=[0, 7], min_prize=0, metric="EUC_2D"
    )
    assert instance.objective([]) == 7
    assert isinstance(instance.objective([1]), int)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prizes": [0, 1]}, "2 prizes for 3 nodes"),
        ({"penalties": [0, -1, 1]}, r"penalties\[1\] = -1 < 0"),
        ({"prizes": [1, 1, 1]}, "depot is 1, expected 0"),
        ({"min_prize": 5}, "all prizes give 2 < min_prize 5"),
    ],
)
def test_refused(fields, text):
    good = {"coords": [[0, 0], [1, 0], [2, 0]], "prizes": [0, 1, 1], "penalties": [0, 1, 1]}
    with pytest.raises(ValueError, match=text):
        PCTSP(**(good | fields))


@pytest.mark.parametrize(("n", "scale"), [(20, 2), (100, 4), (500, 9), (1000, 12), (2000, 15)])
def test_generator_is_the_papers(n, scale):
    """Prizes below 4 / n and penalties below 3 K / n, both uniform; minimum 1."""
    instance = PCTSP.generate(n, seed=n)
    assert instance.min_prize == 1
    for values, top in ((instance.prizes[1:], 4 / n), (instance.penalties[1:], 3 * scale / n)):
        assert values.min() >= 0
        assert 0.8 * top < values.max() <= top
        assert abs(values.mean() - top / 2) < 4 * top / math.sqrt(12 * n)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files(tmp_path, suffix):
    instance = PCTSP.generate(9, seed=3)
    io.write(instance, tmp_path / f"x{suffix}")
    again = io.read(tmp_path / f"x{suffix}")
    assert (again.problem, again.digest) == ("pctsp", instance.digest)
    io.write_solution(instance, [3, 1], tmp_path / "x.sol.json")
    assert io.read_solution(tmp_path / "x.sol.json", instance) == [3, 1]
    assert "(2 of 9 visited)" in plot.plot(instance, [3, 1]).get_title()


@pytest.mark.parametrize("solver", [SCIP, HiGHS])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_mip_has_the_optimum(solver, scale, optimum):
    instance = PCTSP.generate(5, seed=8, penalty_scale=scale)
    result = solver().solve(instance, Budget(20))
    assert result.status == "optimal"
    assert result.objective == pytest.approx(optimum(instance))


@given(instances(most=6), st.randoms(use_true_random=False))
def test_mip_knows_every_solution(instance, random):
    tour = list(range(1, instance.n + 1))
    random.shuffle(tour)
    view = instance.to_mip()
    x = view.encode(tour)
    assert view.mip.vector_violations(x) == []
    assert view.mip.value(x) == pytest.approx(instance.objective(tour))
    assert view.decode(x) == tour
    assert len(view.groups) == instance.nodes
    assert set(np.concatenate(view.groups).tolist()) == set(range(view.mip.n))
