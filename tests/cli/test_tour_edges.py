"""Files with FIXED_EDGES_SECTION and EDGE_DATA_SECTION on the command line."""

import json

import pytest

FIXED = "FIXED_EDGES_SECTION\n1 52\n7 33\n-1\nEOF"


@pytest.fixture
def fixed(here):
    """berlin52 with two fixed edges."""
    text = (here / "berlin52.tsp").read_text()
    assert text.count("EOF") == 1
    (here / "fixed.tsp").write_text(text.replace("EOF", FIXED))
    return here


def test_solve_check_info_and_convert(nco, fixed):
    answer = nco("solve", "fixed.tsp", "-s", "or-opt", "-t", "5", "--json", "-o", "fixed.tour")
    row = json.loads(answer.out)
    tour = row["solution"]
    assert answer.code == 0
    assert 51 in (tour[1], tour[-1])
    assert row["objective"] > 7542
    assert nco("check", "fixed.tsp", "fixed.tour").code == 0
    assert nco("check", "berlin52.tsp", "fixed.tour").code == 0
    information = json.loads(nco("info", "fixed.tsp", "--json").out)
    assert information["fields"]["fixed"]["shape"] == [2, 2]
    assert "or-opt" in information["solvers"]
    assert "bq" not in information["solvers"]
    assert nco("convert", "fixed.tsp", "fixed.json").code == 0
    assert json.loads(nco("info", "fixed.json", "--json").out)["digest"] == row["digest"]
    assert nco("convert", "fixed.tsp", "fixed.lp").code == 0


def test_starts_and_tours_without_the_edges(nco, fixed):
    nco("solve", "berlin52.tsp", "-s", "greedy", "-t", "5", "-o", "plain.tour")
    answer = nco("check", "fixed.tsp", "plain.tour")
    assert answer.code == 1
    assert "edge 0-51 is fixed but not in the tour" in answer.out + answer.err
    answer = nco("solve", "fixed.tsp", "--start", "plain.tour", "-t", "1")
    assert answer.code == 2
    assert "start is infeasible: edge 0-51 is fixed" in answer.err
    assert answer.err.count("\n") == 1


def test_hamiltonian_cycle(nco, here):
    (here / "cube.hcp").write_text(
        "NAME: cube\nTYPE: HCP\nDIMENSION: 8\nEDGE_DATA_FORMAT: EDGE_LIST\nEDGE_DATA_SECTION\n"
        "1 2\n2 3\n3 4\n4 1\n5 6\n6 7\n7 8\n8 5\n1 5\n2 6\n3 7\n4 8\n-1\nEOF\n"
    )
    row = json.loads(nco("solve", "cube.hcp", "-s", "or-opt", "-t", "5", "--json").out)
    assert row["objective"] == 8


def test_contradictions(nco, fixed):
    text = (fixed / "fixed.tsp").read_text()
    (fixed / "cycle.tsp").write_text(text.replace("7 33\n", "52 33\n33 1\n"))
    answer = nco("solve", "cycle.tsp", "-t", "1")
    line = text[: text.index("7 33")].count("\n") + 2
    assert answer.code == 2
    assert f"cycle.tsp:{line}: fixed edges close a cycle of 3 of 52 nodes" in answer.err
    assert answer.err.count("\n") == 1
