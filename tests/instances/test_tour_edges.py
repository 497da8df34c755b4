"""Tours with fixed and missing edges: checks, refusals, costs for searches, files."""

import itertools

import numpy as np
import pytest
import tsplib95
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import io, tour_edges
from nco.instances.atsp import ATSP
from nco.instances.core import Batch, InputError, UnsupportedError
from nco.instances.tsp import TSP


def tours(n):
    return [[0, *rest] for rest in itertools.permutations(range(1, n))]


def legs(tour, directed):
    pairs = zip(tour, tour[1:] + tour[:1], strict=True)
    return {pair if directed else tuple(sorted(pair)) for pair in pairs}


@st.composite
def instances(draw):
    """Tours of four to six nodes with the edges of a random path fixed, some others missing."""
    n = draw(st.integers(4, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    directed = draw(st.booleans())
    order = rng.permutation(n)
    through = np.stack([order, np.roll(order, -1)], axis=1)
    fields = {}
    fixed = through[rng.random(n) < 0.4]
    if len(fixed):
        fields["fixed"] = fixed
    if draw(st.booleans()):
        every = np.array(list(itertools.permutations(range(n), 2)))
        fields["edges"] = np.concatenate([through, every[rng.random(len(every)) < 0.3]])
    if directed:
        matrix = rng.integers(0, 50, (n, n))
        np.fill_diagonal(matrix, 0)
        return ATSP(matrix=matrix + (matrix.T if draw(st.booleans()) else 0), **fields)
    scale = draw(st.sampled_from([1.0, 0.37]))
    metric = "EUC_2D" if scale == 1.0 else "exact"
    return TSP(coords=rng.integers(0, 40, (n, 2)) * scale, metric=metric, **fields)


@settings(max_examples=60)
@given(instances())
def test_checks_say_what_sets_of_edges_say(instance):
    """Against plain sets, for every tour; a canonical tour has the same edges."""
    n, directed = instance.n, instance.directed
    fixed = set() if instance.fixed is None else set(map(tuple, instance.fixed.tolist()))
    for tour in tours(n):
        used = legs(tour, directed)
        there = used if instance.edges is None else set(map(tuple, instance.edges.tolist()))
        fine = fixed <= used <= there
        assert (instance.violations(tour) == []) == fine == instance.admits(tour)
        assert legs(instance.canonical(tour), directed) == used


@settings(max_examples=60)
@given(instances())
def test_the_shortest_tours_of_searches_have_all_fixed_edges(instance):
    """Their optimum is the optimum, longer by the surplus."""
    plain = instance.search_distances
    if not instance.restricted:
        assert plain is instance.distances
        return
    assert plain.symmetric is not instance.directed
    assert plain.symmetric in (False, bool((plain.matrix == plain.matrix.T).all()))
    for tour in tours(instance.n):
        if instance.admits(tour):
            length = instance.objective(tour) + instance.surplus
            assert plain.tour_length(tour) == pytest.approx(length, rel=1e-12, abs=1e-9)
    if instance.edges is None:
        best = min(tours(instance.n), key=plain.tour_length)
        shortest = min(instance.objective(t) for t in tours(instance.n) if instance.admits(t))
        assert instance.admits(best)
        assert instance.objective(best) == pytest.approx(shortest)
    assert plain.integral == instance.distances.integral
    assert not plain.integral or (plain.matrix == np.rint(plain.matrix)).all()


@given(instances(), st.randoms())
def test_mended_tours_have_all_fixed_edges(instance, random):
    """Each node once; a tour that has them stays as it is."""
    order = list(range(instance.n))
    random.shuffle(order)
    mended = tour_edges.mended(instance, order)
    assert sorted(mended) == sorted(order)
    assert instance.replace(edges=None).violations(mended) == []
    assert tour_edges.mended(instance, mended) == mended


@settings(max_examples=30)
@given(instances())
def test_files_keep_edges(tmp_path_factory, instance):
    """TSPLIB, JSON and arrays, alone and in a batch."""
    folder = tmp_path_factory.mktemp("edges")
    for suffix in (f".{instance.problem}", ".json", ".npz"):
        io.write(instance, folder / f"x{suffix}")
        assert io.read(folder / f"x{suffix}", instance.problem).digest == instance.digest
    for suffix in (".json", ".npz"):
        io.write(Batch.of([instance, instance]), folder / f"two{suffix}")
        two = io.read(folder / f"two{suffix}", instance.problem)
        assert [i.digest for i in two] == [instance.digest] * 2
    if instance.metric == "EUC_2D" and instance.fixed is not None:
        oracle = tsplib95.load(str(folder / "x.tsp")).fixed_edges
        assert [[a - 1, b - 1] for a, b in oracle] == instance.fixed.tolist()


POINTS = np.random.default_rng(0).integers(0, 100, (6, 2))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"fixed": [[0, 6]]}, "fixed: edge 0-6: nodes are 0..5"),
        ({"fixed": [[0, -1]]}, "fixed: edge 0--1"),
        ({"fixed": [[2, 2]]}, "fixed: edge 2-2 joins a node to itself"),
        ({"fixed": [[0, 1, 2]]}, "fixed are not pairs"),
        ({"fixed": [[0.5, 1]]}, "fixed are not pairs"),
        ({"fixed": [0, 1]}, "fixed has 1 dimensions"),
        ({"fixed": [[0, 1], [0, 2], [3, 0]]}, "node 0 has three fixed edges"),
        ({"fixed": [[0, 1], [1, 2], [2, 0]]}, "fixed edges close a cycle of 3 of 6 nodes"),
        ({"edges": [[0, 7]]}, "edges: edge 0-7"),
        ({"edges": []}, "node 0 has too few edges: 0, a tour needs 2"),
        ({"edges": [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]}, "node 0 has too few edges: 1"),
        (
            {"edges": [[k, (k + 1) % 6] for k in range(6)], "fixed": [[0, 3]]},
            "fixed edge 0-3 is not among the edges",
        ),
    ],
)
def test_refused_edges(fields, what):
    """Edges that are none, or that are in no tour."""
    with pytest.raises(ValueError, match=what):
        TSP(coords=POINTS, **fields)


def test_refused_arcs():
    """An arc has a direction even where costs have none."""
    matrix = np.ones((4, 4)) - np.eye(4)
    assert ATSP(matrix=matrix, fixed=[[0, 1], [1, 2]]).directed
    for fixed, what in (
        ([[0, 1], [2, 1]], "two fixed arcs enter node 1"),
        ([[0, 1], [0, 2]], "two fixed arcs leave node 0"),
        ([[0, 1], [1, 0]], "fixed arcs close a cycle of 2 of 4 nodes"),
    ):
        with pytest.raises(ValueError, match=what):
            ATSP(matrix=matrix, fixed=fixed)
    with pytest.raises(ValueError, match="node 0 has too few arcs to it: 0, a tour needs 1"):
        ATSP(matrix=matrix, edges=[[0, 1], [1, 2], [2, 3], [3, 1]])


def test_edges_that_say_nothing_are_no_edges():
    """Repetition, order and direction of edges do not change an instance."""
    plain = TSP(coords=POINTS)
    assert TSP(coords=POINTS, fixed=np.empty((0, 2))).digest == plain.digest
    once = TSP(coords=POINTS, fixed=[[0, 1], [2, 3]])
    again = TSP(coords=POINTS, fixed=[[3, 2], [1, 0], [0, 1], [2, 3]])
    assert again.digest == once.digest != plain.digest
    ring = [[k, (k + 1) % 6] for k in range(6)]
    assert TSP(coords=POINTS, fixed=ring).violations(list(range(6))) == []


def test_violations_name_edges():
    """What is left out, and what does not exist."""
    instance = TSP(coords=POINTS, fixed=[[0, 3]], edges=[[i, j] for i in range(6) for j in range(i)
                   if (i, j) != (2, 1)])  # fmt: skip
    assert instance.violations([0, 1, 2, 3, 4, 5]) == [
        "edge 0-3 is fixed but not in the tour",
        "edge 1-2 does not exist",
    ]
    assert "node 5 is missing" in instance.violations([0, 1, 2, 3, 4, 4])
    arcs = ATSP(matrix=np.ones((4, 4)) - np.eye(4), fixed=[[2, 1]])
    assert arcs.violations([0, 1, 2, 3]) == ["arc 2->1 is fixed but not in the tour"]
    assert arcs.violations([0, 3, 2, 1]) == []


def test_tiny_tours():
    """One and two nodes; a whole tour of fixed edges."""
    assert TSP(coords=[[0, 0]], edges=[]).violations([0]) == []
    two = TSP(coords=[[0, 0], [1, 0]], fixed=[[1, 0]], edges=[[0, 1]])
    assert two.violations([0, 1]) == []
    both = ATSP(matrix=[[0, 1], [2, 0]], fixed=[[0, 1], [1, 0]])
    assert both.violations([0, 1]) == []
    assert tour_edges.mended(both, [1, 0]) == [1, 0]
    ring = TSP(coords=POINTS, fixed=[[k, (k + 1) % 6] for k in range(6)])
    assert ring.violations(tour_edges.mended(ring, [3, 0, 5, 1, 4, 2])) == []


def test_many_nodes_need_a_matrix():
    """Above 10,000 nodes there are no costs for searches."""
    many = TSP(coords=np.zeros((10_001, 2)), fixed=[[0, 1]])
    with pytest.raises(UnsupportedError, match="needs n <= 10,000 where edges are fixed"):
        _ = many.search_distances
    with pytest.raises(ValueError, match="too many nodes for missing edges"):
        many.replace(edges=[[0, 1]])


def test_huge_costs_are_scaled():
    """Costs near the largest that are valid."""
    points = [[0, 0], [4e11, 0], [4e11, 4e11], [0, 4e11], [1e11, 2e11]]
    instance = TSP(coords=points, fixed=[[0, 2]])
    best = min(tours(5), key=instance.search_distances.tour_length)
    assert instance.admits(best)
    assert np.isnan(instance.surplus)


# ------------------------------------------------------------------------------ TSPLIB

SQUARE = """NAME: square
TYPE: TSP
DIMENSION: 4
EDGE_WEIGHT_TYPE: EUC_2D
EDGE_DATA_FORMAT: EDGE_LIST
NODE_COORD_SECTION
10 0 0
20 0 10
30 10 10
40 10 0
FIXED_EDGES_SECTION
10 30
30 20
-1
EOF
"""
HCP = """NAME : h
TYPE : HCP
DIMENSION : 5
EDGE_DATA_FORMAT : ADJ_LIST
EDGE_DATA_SECTION
1 2 3 5 -1
2 1
3 -1
3 4 -1
4 5 -1
-1
EOF
"""


def read(folder, text, problem=""):
    path = folder / "x.tsp"
    path.write_text(text)
    return io.read(path, problem)


def test_fixed_edges_by_node_number(tmp_path):
    """Node numbers of the file, on lines of their own or not, with or without an end."""
    instance = read(tmp_path, SQUARE)
    assert instance.fixed.tolist() == [[0, 2], [1, 2]]
    assert instance.objective(instance.canonical([0, 2, 1, 3])) == 14 + 10 + 14 + 10
    for old, new in (
        ("10 30\n30 20\n-1\n", "10 30 30 20\n"),
        ("10 30\n30 20\n-1\n", "10\n30 30\n20 -1\n"),
        ("30 20\n", "20 30\n30 10\n"),
    ):
        assert read(tmp_path, SQUARE.replace(old, new)).digest == instance.digest


def test_fixed_arcs(tmp_path):
    """Of an ATSP; a symmetric matrix changes nothing about their direction."""
    text = (
        "TYPE: ATSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: FULL_MATRIX\n"
        "EDGE_WEIGHT_SECTION\n0 1 2\n1 0 3\n2 3 0\nFIXED_EDGES_SECTION\n2 1\n-1\nEOF\n"
    )
    instance = read(tmp_path, text)
    assert instance.fixed.tolist() == [[1, 0]]
    assert instance.violations([0, 1, 2]) == ["arc 1->0 is fixed but not in the tour"]
    assert instance.violations(instance.canonical([1, 0, 2])) == []


def test_hamiltonian_cycles(tmp_path):
    """Both forms of EDGE_DATA_SECTION; every edge costs 1."""
    instance = read(tmp_path, HCP)
    assert instance.problem == "tsp"
    assert instance.edges.tolist() == [[0, 1], [0, 2], [0, 4], [1, 2], [2, 3], [3, 4]]
    assert instance.violations([0, 1, 2, 3, 4]) == []
    assert instance.objective([0, 1, 2, 3, 4]) == 5
    assert instance.violations([0, 2, 1, 3, 4]) == ["edge 1-3 does not exist"]
    listed = "1 2\n1 3\n1 5\n3 2\n3 4\n4 5\n-1\n"
    body = HCP[HCP.index("1 2 3 5") : HCP.index("EOF")]
    edge_list = HCP.replace(body, listed).replace("ADJ_LIST", "EDGE_LIST")
    assert read(tmp_path, edge_list).digest == instance.digest
    assert read(tmp_path, HCP.replace("5 -1\n-1\n", "5\n")).digest == instance.digest
    oracle = {tuple(sorted((a - 1, b - 1))) for a, b in tsplib95.parse(HCP).get_edges()}
    assert oracle == set(map(tuple, instance.edges.tolist()))


@pytest.mark.parametrize(
    ("text", "old", "new", "line", "what"),
    [
        (SQUARE, "10 30", "10 31", 12, "node 31 does not exist"),
        (SQUARE, "10 30", "50 30", 12, "node 50 does not exist"),
        (SQUARE, "10 30", "10 30.5", 12, "node 30.5 does not exist"),
        (SQUARE, "10 30", "10 1e300", 12, "node 1e+300 does not exist"),
        (SQUARE, "30 20", "20 20", 13, "an edge from node 20 to itself"),
        (SQUARE, "30 20\n", "30\n", 13, "FIXED_EDGES_SECTION ends within a pair"),
        (SQUARE, "-1\n", "-1\n40 10\n", 15, "goes on after its end"),
        (SQUARE, "30 20", "20 30\n40 30", 14, "node 30 has three fixed edges"),
        (SQUARE, "30 20", "30 20\n10 20", 14, "fixed edges close a cycle of 3 of 4 nodes"),
        (SQUARE, "30 20", "30 x", 13, "'x' in FIXED_EDGES_SECTION"),
        (SQUARE, "FIXED_EDGES", "EDGE_DATA", 11, "node 10 has too few edges: 1, a tour needs 2"),
        (
            SQUARE, "EOF", "EDGE_DATA_SECTION\n10 20\n20 30\n30 40\n40 10\n-1\nEOF", 12,
            "fixed edge 10-30 is not among the edges there are",
        ),
        (HCP, "ADJ_LIST", "LIST", 4, "EDGE_DATA_FORMAT LIST not supported"),
        (HCP, "EDGE_DATA_FORMAT : ADJ_LIST\n", "", 4, "no EDGE_DATA_FORMAT"),
        (HCP, "DIMENSION : 5", "DIMENSION : 8", 5, "7 edges make no cycle of 8 nodes"),
        (HCP, "DIMENSION : 5", "DIMENSION : 4", 6, "node 5 does not exist"),
        (HCP, "DIMENSION : 5", "DIMENSION : 10001", 3, "10001 nodes are too many"),
        (HCP, "4 5 -1", "4 9 -1", 10, "node 9 does not exist"),
        (HCP, "4 5 -1", "4 4 -1", 10, "an edge from node 4 to itself"),
        (HCP, "-1\nEOF", "-1\n5 1 -1\nEOF", 12, "goes on after its end"),
        (HCP, "TA_SECTION", "TA_SECTIONS", 5, "unknown keyword 'EDGE_DATA_SECTIONS'"),
    ],
)  # fmt: skip
def test_refused_sections(tmp_path, text, old, new, line, what):
    """By line, with a remedy, in the file's own node numbers."""
    assert old in text
    with pytest.raises(InputError) as caught:
        read(tmp_path, text.replace(old, new, 1))
    assert what in caught.value.what
    assert caught.value.hint
    assert caught.value.line == line


def test_edges_are_for_tours(tmp_path):
    """Other problems refuse them by name."""
    text = SQUARE.replace("TYPE: TSP", "TYPE: CVRP\nCAPACITY: 5")
    with pytest.raises(InputError, match="FIXED_EDGES_SECTION is for tsp and atsp, not cvrp"):
        read(tmp_path, text)
