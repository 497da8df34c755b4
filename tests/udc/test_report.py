"""The target table of udc: whose value is the reference, and what holds; time against size."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def row(file, solver, objective, problem="tsp", digest="a", **other):
    """A row of a campaign."""
    made = {
        "key": f"{file}-{solver}-{digest}", "file": file, "solver": solver, "spec": solver,
        "problem": problem, "digest": digest, "time_limit": 60, "objective": objective,
        "bound": None, "ref_cost": None,
        "sense": "maximize" if problem in ("op", "knapsack", "mis") else "minimize",
    }  # fmt: skip
    return made | other


@pytest.fixture
def table(report):
    """The lines that the report prints of rows, by set."""

    def make(*rows):
        head, _, *lines = report("udc_report.py", rows).splitlines()
        names = [x.strip() for x in head.strip("|").split("|")]
        cells = [[x.strip() for x in line.strip("|").split("|")] for line in lines]
        return {cell[0]: dict(zip(names, cell, strict=True)) for cell in cells}

    return make


def test_gaps_are_to_the_best_of_the_stored_and_the_named_peers(table):
    found = table(
        row("tsp500.npz", "udc", 103.0, ref_cost=101.0),
        row("tsp500.npz", "lkh", 100.0),
        row("tsp500.npz", "or-opt", 90.0),  # no named peer
        row("tsp500.npz", "udc", 105.0, digest="b", ref_cost=100.0),
        row("cvrp500.npz", "udc", 107.0, "cvrp"),
        row("cvrp500.npz", "hgs", 100.0, "cvrp"),
        row("ovrp500.npz", "udc", 107.0, "ovrp"),  # nothing to compare with
    )
    assert set(found) == {"tsp500", "cvrp500"}
    tsp = found["tsp500"]
    assert (tsp["instances"], tsp["mean"], tsp["error"], tsp["worst"]) == ("2", "4", "1", "5")
    assert tsp["holds"] == "yes"
    assert tsp["reference"] == "lkh 60 s, stored"
    assert found["cvrp500"]["mean"] == "7"
    assert found["cvrp500"]["holds"] == "no"


def test_prizes_are_better_when_larger_and_costs_may_be_below_the_peer(table):
    found = table(
        row("op500.npz", "udc", 95.0, "op"),
        row("op500.npz", "prize-tour", 100.0, "op"),
        row("pctsp500.npz", "udc", 91.0, "pctsp"),
        row("pctsp500.npz", "ortools", 100.0, "pctsp"),
    )
    assert found["op500"]["mean"] == "5"
    assert found["pctsp500"]["mean"] == "-9"
    assert found["pctsp500"]["holds"] == "yes"


def test_the_farthest_way_and_back_bounds_the_longest_tour(table):
    found = table(
        row("mtsp500-m30.npz", "udc", 10.1, "mtsp", bound=10.0),
        row("mtsp500-m50.npz", "udc", 10.1, "mtsp", bound=10.0),
        row("mtsp500-m50.npz", "ortools", 20.2, "mtsp"),
        row("mtsp1000-m50.npz", "udc", 10.1, "mtsp", bound=10.0),
        row("mtsp1000-m50.npz", "ortools", 9.0, "mtsp"),
    )
    assert [found[f"mtsp{x}"]["mean"] for x in ("500-m30", "500-m50", "1000-m50")] == [
        "1", "-50", "1",
    ]  # fmt: skip


def test_libraries_have_best_known_values_and_large_sets_a_length(table):
    found = table(
        row("u574.tsp", "udc", 102.0, n=574, reference=100.0),
        row("rat783.tsp", "udc", 104.0, n=783, reference=100.0, digest="b"),
        row("pr1002.tsp", "udc", 108.0, n=1002, reference=100.0),
        row("pr1002.tsp", "lkh", 100.0, n=1002, reference=100.0),
        row("X-n502-k39.vrp", "udc", 105.0, "cvrp", n=501, reference=100.0),
        row("X-n783-k48.vrp", "udc", 90.0, "cvrp", n=782, reference=None),
        row("berlin52.tsp", "udc", 150.0, n=52, reference=100.0),  # of none of the ranges
        row("X-n101-k25.vrp", "udc", 150.0, "cvrp", n=100, reference=100.0),
        row("Golden_1.vrp", "udc", 150.0, "cvrp", n=600, reference=100.0),
        row("tsp100000.npz", "udc", 227.856, n=100_000),
    )
    assert [(name, line["mean"], line["holds"]) for name, line in found.items()] == [
        ("cvrplib-x1000", "5", "yes"),
        ("tsp100000", "1", "yes"),
        ("tsplib1000", "3", "yes"),
        ("tsplib5000", "8", "no"),
    ]
    assert found["cvrplib-x1000"]["instances"] == "1"
    assert found["tsp100000"]["reference"] == "per unit square"


def test_greedy_is_the_floor_of_knapsack_and_sets_have_sizes(table):
    found = table(
        row("knapsack500.npz", "udc", 99.9, "knapsack"),
        row("knapsack500.npz", "greedy", 99.7, "knapsack"),
        row("knapsack500.npz", "knapsack", 100.0, "knapsack"),
        row("mis-er-00.npz", "udc", 43.0, "mis"),
        row("mis-er-01.npz", "udc", 41.0, "mis", digest="b"),
        row("mis-er720-p0.05-00.npz", "udc", 80.0, "mis"),
    )
    knapsack = found["knapsack500"]
    assert (knapsack["mean"], knapsack["goal"], knapsack["floor"]) == ("0.1", "0.1", "0.3")
    assert found["mis-er"]["mean"] == "42"
    assert found["mis-er"]["holds"] == "yes"
    assert found["mis-er"]["worst"] == "41"
    assert found["mis-er720-p0.05"]["holds"] == "no"


def test_sizes_are_measured_once_and_their_slopes_drawn(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(SCRIPTS / "udc_scale.py"))
    points = tmp_path / "points.npz"
    np.savez(points, coords=np.random.default_rng(0).random((300, 2)))
    found = script["measure"](points, stages=1, effort=0.1, regions=0.0)
    assert found["n"] == 300
    assert 0.0 < found["percent"] < found["start_percent"]
    assert found["mib_more"] >= 0.0
    assert found["objective"] == pytest.approx(
        0.7124 * 300**0.5 * (1 + found["percent"] / 100), rel=1e-4
    )

    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["x", "--sizes", "1000", "4000", "--out", str(out), "--plot",
                                      str(tmp_path / "x.png")])  # fmt: skip
    ran = []

    def measured(n, settings, folder):
        ran.append(n)
        return found | {"n": n, "cpu_seconds": n / 100, "mib_more": (n / 100) ** 2}

    main = script["main"]
    main.__globals__["measured"] = measured
    main()
    main()  # what is there is not measured again
    assert ran == [1000, 4000]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["n"] for row in rows] == ran
    assert rows[0]["environment"]["date"]
    text = capsys.readouterr().out
    assert "slope of time 1.00, 1000 to 4000 nodes" in text
    assert "slope of memory 2.00" in text
    assert (tmp_path / "x.png").stat().st_size > 1000
