"""Pictures: what they draw, and that they need no display."""

import subprocess
import sys

import numpy as np
import pytest

import nco
from nco import plot
from nco.instances.core import Event


@pytest.fixture
def results():
    """Two results of one instance, made of whole cloth."""
    tsp = nco.TSP(coords=[[0, 0], [0, 3], [4, 3], [4, 0]], name="box", ref_cost=14.0)
    out = []
    for solver, first in (("slow", 18.0), ("quick", 16.0)):
        events = [Event(0.5, first), Event(1.0, 14.0), Event(1.5, 14.0, 13.0, "bound")]
        out.append(
            nco.Result.of(
                tsp, [0, 1, 2, 3], solver=solver, seconds=2.0, stopped=nco.Stop.TIME,
                bound=13.0, trajectory=events,
            )
        )  # fmt: skip
    return out


def test_tour_closes_and_shows_the_length(results):
    tsp = nco.TSP(coords=[[0, 0], [0, 3], [4, 3], [4, 0]], name="box")
    ax = plot.tour(tsp, [0, 1, 2, 3])
    (line,) = ax.get_lines()
    assert line.get_xydata().tolist() == [[0, 0], [0, 3], [4, 3], [4, 0], [0, 0]]
    assert ax.get_title() == "box: 14"


def test_routes_have_their_own_colours():
    cvrp = nco.read(nco.examples.path("X-n101-k25.vrp"))
    solution = nco.read_solution(nco.examples.path("X-n101-k25.sol"), cvrp)
    ax = plot.routes(cvrp, solution)
    # A line for each route and two for its ends.
    assert len(ax.get_lines()) == 3 * len(solution)
    assert "27,591" in ax.get_title()
    assert f"({len(solution)} routes)" in ax.get_title()


def test_draws_into_the_axes_it_is_given():
    ax = plot.axes(4, 3)
    tsp = nco.generate("tsp", 6)
    assert plot.tour(tsp, ax=ax) is ax
    assert plot.plot(nco.generate("cvrp", 6), ax=ax) is ax


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "knapsack", "mis"])
def test_every_problem_with_a_picture(problem, tmp_path):
    instance = nco.generate(problem, 15, seed=1)
    solution = nco.solve(instance, solver="greedy" if problem != "cvrp" else "savings").solution
    for given in (None, solution):
        plot.plot(instance, given).figure.savefig(tmp_path / "x.png")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_chosen_items_stand_out():
    knapsack = nco.Knapsack(values=[1, 2, 3], weights=[1, 2, 3], capacity=3)
    left, chosen = plot.knapsack(knapsack, [2]).collections
    assert left.get_offsets().tolist() == [[1, 1], [2, 2]]
    assert chosen.get_offsets().tolist() == [[3, 3]]


def test_without_coordinates_there_is_no_map():
    atsp = nco.read(nco.examples.path("ftv47.atsp"))
    with pytest.raises(ValueError, match="no picture"):
        plot.plot(atsp)
    with pytest.raises(ValueError, match="no coordinates"):
        plot.tour(atsp)


def test_convergence_has_steps_and_bounds(results):
    ax = plot.convergence(results)
    objective, bound = ax.get_lines()[:2]
    assert objective.get_xydata().tolist() == [[0.5, 18], [1.0, 14], [2.0, 14]]
    assert bound.get_xydata().tolist() == [[1.5, 13], [2.0, 13]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["slow", "quick", "reference"]
    other = nco.solve(nco.generate("tsp", 6), solver="greedy")
    with pytest.raises(ValueError, match="several instances"):
        plot.convergence([*results, other])
    with pytest.raises(ValueError, match="no results"):
        plot.convergence([])


def test_gap_starts_at_100_per_cent_and_falls_to_the_reference(results):
    ax = plot.gap(results)
    slow, quick = ax.get_lines()
    assert slow.get_ydata()[0] == 100.0
    at = slow.get_xdata().tolist().index(0.5)
    assert slow.get_ydata()[at] == pytest.approx(100 * 4 / 18)
    assert quick.get_ydata()[at] == pytest.approx(100 * 2 / 16)
    assert slow.get_ydata()[-1] == 1e-4
    given = plot.gap(results, references={results[0].digest: 7.0})
    assert given.get_lines()[0].get_ydata()[-1] == pytest.approx(50.0)
    with pytest.raises(ValueError, match="no results"):
        plot.gap([])


def test_needs_no_display_and_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys, nco; from nco import plot;"
        "plot.tour(nco.generate('tsp', 5)).figure.savefig('x.png');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {"PATH": "", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "x.png").exists()


def test_large_instances_are_lines_without_dots():
    tsp = nco.TSP(coords=np.random.default_rng(0).random((3000, 2)))
    assert not plot.tour(tsp, list(range(3000))).collections


@pytest.fixture
def generated():
    """Results of generation on a small facility location, as it logs them."""
    instance = nco.generate("facility-location", 3, seed=1, customers=4)
    return [nco.solve(instance, solver=s, time_limit=60) for s in ("ccg", "auto")]


def test_iterations_show_value_and_bound_closing(generated):
    ax = plot.iterations(generated)
    value, bound = ax.get_lines()[:2]
    rows = generated[0].extra["iterations"]
    assert value.get_ydata().tolist() == [r["objective"] for r in rows if r["objective"]]
    assert bound.get_ydata()[-1] == pytest.approx(value.get_ydata()[-1])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ccg", "auto"]
    with pytest.raises(ValueError, match="no result logs iterations"):
        plot.iterations(nco.solve(nco.generate("tsp", 6), solver="greedy"))


def test_time_split_adds_up_to_all_of_it(generated):
    ax = plot.time_split(generated)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["master", "adversary", "rest"]
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    assert ends == pytest.approx([r.seconds for r in generated])
    with pytest.raises(ValueError, match="where time went"):
        plot.time_split([nco.solve(nco.generate("tsp", 6), solver="greedy")])
