"""TSPLIB and CVRPLIB files: what is read, what is refused and on which line."""

import csv
import itertools

import numpy as np
import pytest
import tsplib95
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import io, tsplib
from nco.instances.atsp import ATSP
from nco.instances.core import METRICS, InputError
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP


def put(folder, text, name="x.tsp"):
    path = folder / name
    path.write_text(text)
    return path


def refused(folder, text, name="x.tsp", problem=""):
    """The error of a bad file."""
    with pytest.raises(InputError) as caught:
        io.read(put(folder, text, name), problem)
    error = caught.value
    assert error.hint
    assert "\n" not in str(error)
    return error


SQUARE = """NAME: square
TYPE: TSP
DIMENSION: 4
EDGE_WEIGHT_TYPE: EUC_2D
NODE_COORD_SECTION
1 0 0
2 0 10
3 10 10
4 10 0
EOF
"""

ROUTES = """NAME : small
COMMENT : a comment
TYPE : CVRP
DIMENSION : 4
EDGE_WEIGHT_TYPE : EUC_2D
CAPACITY : 10
NODE_COORD_SECTION
1 0 0
2 0 10
3 10 10
4 10 0
DEMAND_SECTION
1 0
2 4
3 5
4 6
DEPOT_SECTION
1
-1
EOF
"""


# ------------------------------------------------------------------- against an oracle


@pytest.mark.parametrize("kind", [k for k in tsplib.METRIC_NAMES if k != "EXACT_2D"])
def test_distances_agree_with_tsplib95(tmp_path, kind):
    """Every EDGE_WEIGHT_TYPE, on coordinates with and without fractions."""
    dimension = METRICS[kind][1]
    rng = np.random.default_rng(7)
    for decimals in (0, 2):
        coords = np.round(rng.uniform(-85, 85, (25, dimension)), decimals)
        lines = [f"{k} {' '.join(map(repr, row))}" for k, row in enumerate(coords.tolist(), 1)]
        text = (
            f"NAME: x\nTYPE: TSP\nDIMENSION: 25\nEDGE_WEIGHT_TYPE: {kind}\nNODE_COORD_SECTION\n"
            + "\n".join(lines)
            + "\nEOF\n"
        )
        oracle = tsplib95.parse(text)
        ours = io.read(put(tmp_path, text)).distances
        for i, j in itertools.permutations(range(25), 2):
            assert ours.pairs(i, j) == oracle.get_weight(i + 1, j + 1), (i, j)


@pytest.mark.parametrize("kind", tsplib.WEIGHT_FORMATS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_matrix_formats(tmp_path, kind, wrapped):
    """Every EDGE_WEIGHT_FORMAT, one row per line or all wrapped; spelled out from the manual."""
    n = 5
    full = np.random.default_rng(3).integers(1, 100, (n, n))
    full = full + full.T
    np.fill_diagonal(full, 0)
    cells = {
        "FULL_MATRIX": [[(i, j) for j in range(n)] for i in range(n)],
        "UPPER_ROW": [[(i, j) for j in range(i + 1, n)] for i in range(n - 1)],
        "LOWER_ROW": [[(i, j) for j in range(i)] for i in range(1, n)],
        "UPPER_DIAG_ROW": [[(i, j) for j in range(i, n)] for i in range(n)],
        "LOWER_DIAG_ROW": [[(i, j) for j in range(i + 1)] for i in range(n)],
        "UPPER_COL": [[(i, j) for i in range(j)] for j in range(1, n)],
        "LOWER_COL": [[(i, j) for i in range(j + 1, n)] for j in range(n - 1)],
        "UPPER_DIAG_COL": [[(i, j) for i in range(j + 1)] for j in range(n)],
        "LOWER_DIAG_COL": [[(i, j) for i in range(j, n)] for j in range(n)],
    }[kind]
    rows = [" ".join(str(full[cell]) for cell in row) for row in cells]
    if wrapped:
        words = " ".join(rows).split()
        rows = [" ".join(words[k : k + 3]) for k in range(0, len(words), 3)]
    text = (
        f"NAME: x\nTYPE: TSP\nDIMENSION: {n}\nEDGE_WEIGHT_TYPE: EXPLICIT\n"
        f"EDGE_WEIGHT_FORMAT: {kind}\nEDGE_WEIGHT_SECTION\n" + "\n".join(rows) + "\nEOF\n"
    )
    instance = io.read(put(tmp_path, text))
    assert (instance.matrix == full).all()
    assert instance.matrix.dtype == np.int64
    oracle = tsplib95.parse(text)
    for i, j in itertools.combinations(range(n), 2):
        assert oracle.get_weight(i, j) == full[i, j]


def test_every_file_of_the_library(shared_data):
    """All nodes are there and every stored solution costs what is published."""
    folder = shared_data / "routing" / "lib"
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 30
    solved = 0
    for row in rows:
        instance = io.read(folder / row["file"])
        assert (instance.nodes, instance.problem) == (int(row["n"]), row["type"].lower())
        solution = folder / f"{row['name']}.sol"
        if solution.exists():
            routes = io.read_solution(solution, instance)
            assert instance.violations(routes) == []
            cost = instance.objective(routes)
            assert cost == int(row["best_known"]) == io.stated_cost(solution, instance)
            assert isinstance(cost, int)
            solved += 1
    assert solved >= 10


@pytest.mark.parametrize("name", ["berlin52.tsp", "gr202.tsp", "att532.tsp", "ftv47.atsp"])
def test_real_files_agree_with_tsplib95(shared_data, name):
    """Costs of random pairs, from the file itself."""
    path = shared_data / "routing" / "lib" / name
    oracle, ours = tsplib95.load(str(path)), io.read(path)
    first = min(oracle.get_nodes())
    rng = np.random.default_rng(1)
    for i, j in rng.integers(0, ours.n, (300, 2)).tolist():
        if i != j:
            assert ours.distances.pairs(i, j) == oracle.get_weight(i + first, j + first)


def test_orienteering_files_can_be_split(shared_data):
    """The section parser serves other TSPLIB-like files, too."""
    for path in sorted((shared_data / "routing" / "op").glob("*.oplib")):
        spec = tsplib.parse(path, also=["TSPSOL"])
        assert spec.word("TYPE") == "OP"
        n = spec.dimension()
        assert spec.number("COST_LIMIT") > 0
        ids, scores, _ = tsplib.node_rows(spec.section("NODE_SCORE_SECTION"), n, 2, "a score")
        numbers, fields = tsplib.read_space(spec)
        assert (ids == numbers).all()
        assert len(scores) == len(fields["coords"]) == n


# ------------------------------------------------------------------------ what is read


def test_square(tmp_path):
    """Name, coordinates, metric and integer lengths."""
    instance = io.read(put(tmp_path, SQUARE))
    assert (instance.name, instance.n, instance.metric) == ("square", 4, "EUC_2D")
    assert instance.objective([0, 1, 2, 3]) == 40
    assert isinstance(instance.objective([0, 1, 2, 3]), int)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: t.replace(" ", "\t"),
        lambda t: t.replace(": ", " :\t"),
        lambda t: t.replace(":", " "),
        lambda t: t.replace("\n", "  \n"),
        lambda t: t.replace("\n", "\n\n"),
        lambda t: t.replace("EOF\n", ""),
        lambda t: t.rstrip("\n"),
        lambda t: t + "anything after EOF\n",
        lambda t: "\ufeff" + t,
        lambda t: t.lower(),
        lambda t: t.replace("\n1 0 0\n", "\n  1   0.0e0  0.\n"),
        lambda t: t.replace("3 10 10", "3 1e1 +1.0E+01"),
        lambda t: t.replace("1 0 0\n2 0 10\n3", "1 0 0 2 0\n10 3"),
        lambda t: t.replace("SECTION\n1 0 0\n2 0 10\n3 10 10\n4", "SECTION 1 0 0 2 0 10 3 10 10 4"),
        lambda t: t.replace("3 10 10\n", "COMMENT: amid the data\n3 10 10\n"),
        lambda t: "COMMENT: first\n" + t.replace("TYPE", "COMMENT again\nTYPE", 1),
        lambda t: t.replace("1 0 0\n2 0 10\n", "2 0 10\n1 0 0\n"),
        lambda t: t.replace("4 10 0", "4 10 0 0").replace("1 0 0", "1 0 0 0")
        .replace("2 0 10", "2 0 10 0").replace("3 10 10", "3 10 10 0"),
        lambda t: t.replace("1 0 0", "-5 0 0").replace("4 10 0", "400 10 0"),
        lambda t: t.replace("TYPE: TSP", "TYPE: TSP (M. Hofmeister)"),
        lambda t: t.replace("TYPE: TSP\n", ""),
        lambda t: t.replace("square", '"square"'),
    ],
)  # fmt: skip
def test_accepted_spellings(tmp_path, change):
    """Line ends, blanks, comments, order and layout do not change what is read."""
    path = tmp_path / "square.tsp"
    path.write_bytes(change(SQUARE).encode())
    plain = io.read(put(tmp_path, SQUARE, "plain.tsp"))
    assert io.read(path).digest == plain.digest
    assert io.read(path).name == "square"


def test_depot_elsewhere(tmp_path):
    """The depot becomes node 0, the others keep their order; numbers may be arbitrary."""
    text = ROUTES.replace("DEPOT_SECTION\n1", "DEPOT_SECTION\n3")
    text = text.replace("1 0\n2 4\n3 5\n", "3 0\n2 4\n1 5\n")
    instance = io.read(put(tmp_path, text, "x.vrp"))
    assert instance.coords.tolist() == [[10, 10], [0, 0], [0, 10], [10, 0]]
    assert instance.demands.tolist() == [0, 5, 4, 6]
    renumbered = text
    for old, new in (("1 ", "101 "), ("2 ", "70 "), ("3 ", "-3 "), ("4 ", "999 ")):
        renumbered = renumbered.replace(f"\n{old}", f"\n{new}")
    renumbered = renumbered.replace("DEPOT_SECTION\n3", "DEPOT_SECTION\n-3")
    assert io.read(put(tmp_path, renumbered, "y.vrp")).coords.tolist() == [
        [10, 10], [0, 10], [0, 0], [10, 0],
    ]  # fmt: skip


def test_depot_in_a_matrix(tmp_path):
    """Rows and columns move with the depot, also of an asymmetric matrix."""
    text = """TYPE: CVRP
DIMENSION: 3
CAPACITY: 5
EDGE_WEIGHT_TYPE: EXPLICIT
EDGE_WEIGHT_FORMAT: FULL_MATRIX
EDGE_WEIGHT_SECTION
0 12 13
21 0 23
31 32 0
DEMAND_SECTION
1 3
2 0
3 2
DEPOT_SECTION
2
-1
"""
    instance = io.read(put(tmp_path, text, "x.vrp"))
    assert instance.matrix.tolist() == [[0, 21, 23], [12, 0, 13], [32, 31, 0]]
    assert instance.demands.tolist() == [0, 3, 2]
    assert instance.objective([[1, 2]]) == 21 + 13 + 32


def test_limits_of_routes(tmp_path):
    """DISTANCE, SERVICE_TIME and VEHICLES are read and checked."""
    text = ROUTES.replace("CAPACITY", "DISTANCE: 45\nSERVICE_TIME: 3.5\nVEHICLES: 2\nCAPACITY")
    instance = io.read(put(tmp_path, text, "x.vrp"))
    assert (instance.max_distance, instance.service_time, instance.vehicles) == (45, 3.5, 2)
    assert instance.violations([[1, 2], [3]]) == []
    tight = instance.replace(max_distance=40)
    assert tight.violations([[1, 2], [3]]) == ["route 1: length 41.0 > distance limit 40"]
    assert instance.violations([[1], [2], [3]]) == ["3 routes > 2 vehicles"]


def test_display_data_beside_a_matrix(tmp_path):
    """Kept for plots; they do not change the costs."""
    text = """TYPE: TSP
DIMENSION: 3
EDGE_WEIGHT_TYPE: EXPLICIT
EDGE_WEIGHT_FORMAT: UPPER_ROW
DISPLAY_DATA_TYPE: TWOD_DISPLAY
EDGE_WEIGHT_SECTION
1 2 3
DISPLAY_DATA_SECTION
1 0 0
2 5 5
3 9 9
EOF
"""
    instance = io.read(put(tmp_path, text))
    assert instance.coords.tolist() == [[0, 0], [5, 5], [9, 9]]
    assert instance.objective([0, 1, 2]) == 1 + 3 + 2


def test_read_as_another_problem(tmp_path):
    """A wish goes where the file has the fields, and says what is missing where not."""
    tour = io.read(put(tmp_path, ROUTES, "x.vrp"), "tsp")
    assert isinstance(tour, TSP)
    assert tour.n == 4
    error = refused(tmp_path, SQUARE, problem="atsp")
    assert "EXPLICIT" in str(error)
    assert "CAPACITY is missing" in refused(tmp_path, SQUARE, problem="cvrp").what
    assert "knapsack" in refused(tmp_path, SQUARE, problem="knapsack").what
    assert "did you mean cvrp" in refused(tmp_path, SQUARE, problem="cvrpp").hint


def test_unrounded_metric(tmp_path):
    """EXACT_2D, and the caller's override."""
    exact = io.read(put(tmp_path, SQUARE.replace("EUC_2D", "EXACT_2D").replace("10 10", "9 9")))
    assert exact.metric == "exact"
    rounded = io.read(put(tmp_path, SQUARE.replace("10 10", "9 9")), metric="exact")
    assert rounded.digest == exact.digest
    assert rounded.objective([0, 1, 2, 3]) == pytest.approx(20 + 2 * 82**0.5)


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("TYPE: TSP", "TYPE: SOP", 2, "TYPE SOP not supported"),
        ("TYPE: TSP", "TYPE: TOUR", 2, "is a tour"),
        ("DIMENSION: 4", "DIMENSION: 5", 9, "4 entries, DIMENSION says 5"),
        ("DIMENSION: 4", "DIMENSION: 3", 9, "4 entries, DIMENSION says 3"),
        ("DIMENSION: 4", "DIMENSION: 1000000000000", 9, "4 entries"),
        ("DIMENSION: 4", "DIMENSION: 0", 3, "not a node count"),
        ("DIMENSION: 4", "DIMENSION: 4.5", 3, "not a node count"),
        ("DIMENSION: 4", "DIMENSION: many", 3, "not a number"),
        ("DIMENSION: 4", "DIMENSION: -4", 3, "not a number >= 0"),
        ("DIMENSION: 4\n", "", None, "DIMENSION is missing"),
        ("DIMENSION", "DIMENSIONS", 3, "unknown keyword 'DIMENSIONS'"),
        ("NAME", "TITLE", 1, "unknown keyword 'TITLE'"),
        ("DIMENSION: 4", "DIMENSION: 4\nDIMENSION: 4", 4, "comes twice"),
        ("DIMENSION: 4", "DIMENSION: 4\n17", 4, "'17' belongs to no section"),
        ("EUC_2D", "EUC_4D", 4, "EUC_4D not supported"),
        ("EUC_2D", "SPECIAL", 4, "SPECIAL not supported"),
        ("EDGE_WEIGHT_TYPE: EUC_2D\n", "", None, "no EDGE_WEIGHT_TYPE"),
        ("EUC_2D", "EXPLICIT", None, "EDGE_WEIGHT_SECTION is missing"),
        ("EUC_2D", "EUC_3D", 6, "3 numbers in NODE_COORD_SECTION, expected 4"),
        ("NODE_COORD_SECTION\n", "", 5, "'1 0 0' belongs to no section"),
        ("3 10 10", "3 10", 8, "2 numbers in NODE_COORD_SECTION"),
        ("3 10 10", "3 10 10 7", 8, "4 numbers in NODE_COORD_SECTION"),
        ("3 10 10", "3 10 ten", 8, "'ten' in NODE_COORD_SECTION is not a number"),
        ("3 10 10", "3 10 nan", 8, "'nan' in NODE_COORD_SECTION is not a number"),
        ("3 10 10", "3 10 -inf", 8, "'-inf' in NODE_COORD_SECTION is not a number"),
        ("3 10 10", "3 10 1e999", 8, "'1e999' in NODE_COORD_SECTION is not a number"),
        ("3 10 10", "3 10 1_0", 8, "'1_0' in NODE_COORD_SECTION is not a number"),
        ("3 10 10", "3 10 1e13", 8, "node 3 has a coordinate > 1e+12"),
        ("3 10 10", "nan 10 10", 8, "'nan' in NODE_COORD_SECTION: neither"),
        ("3 10 10", "2 10 10", 8, "node 2 comes twice"),
        ("3 10 10", "2.5 10 10", 8, "node number 2.5 is not whole"),
        ("3 10 10\n4 10 0\nEOF\n", "", 7, "2 entries, DIMENSION says 4"),
        ("EOF", "NODE_COORD_SECTION\n1 2 3\nEOF", 10, "NODE_COORD_SECTION comes twice"),
    ],
)  # fmt: skip
def test_refused(tmp_path, old, new, line, what):
    """One line with the line number, what is wrong and a remedy."""
    assert old in SQUARE
    error = refused(tmp_path, SQUARE.replace(old, new, 1))
    assert what in error.what
    assert error.line == line


def test_refusal_lists_what_is_supported(tmp_path):
    """Types, metrics, formats and keywords."""
    assert "TSP, ATSP, CVRP" in refused(tmp_path, SQUARE.replace("E: TSP", "E: SOP")).hint
    assert "CEIL_2D" in refused(tmp_path, SQUARE.replace("EUC_2D", "FOO")).hint
    assert "did you mean DIMENSION" in refused(tmp_path, SQUARE.replace("DIMENSI", "DIMENTI")).hint
    assert "CAPACITY" in refused(tmp_path, SQUARE.replace("NAME", "FOO")).hint


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("CAPACITY : 10\n", "", None, "CAPACITY is missing"),
        ("CAPACITY : 10", "CAPACITY : 5", 16, "node 4: demand 6 > CAPACITY 5"),
        ("CAPACITY : 10", "CAPACITY : 10 20", 6, "not a number"),
        ("CAPACITY : 10", "CAPACITY : inf", 6, "not a number"),
        ("2 4\n", "2 -4\n", 14, "node 2: demand -4 < 0"),
        ("2 4\n", "", 15, "3 entries, DIMENSION says 4"),
        ("2 4\n", "2\n", 14, "1 numbers in DEMAND_SECTION"),
        ("2 4\n", "9 4\n", 14, "node 9 has a demand but no coordinates"),
        ("2 4\n", "3 4\n", 15, "node 3 comes twice"),
        ("1 0\n2 4", "1 3\n2 4", 13, "the depot, node 1, has demand 3"),
        ("DEPOT_SECTION\n1\n", "DEPOT_SECTION\n1\n2\n", 17, "2 depots (1 2); one is supported"),
        ("DEPOT_SECTION\n1\n", "DEPOT_SECTION\n7\n", 18, "depot 7 is not a node"),
        ("DEPOT_SECTION\n1\n", "DEPOT_SECTION\n", 17, "no depot"),
        ("CAPACITY", "VEHICLES: 0\nCAPACITY", 6, "VEHICLES 0"),
        ("CAPACITY", "VEHICLES: 1.5\nCAPACITY", 6, "VEHICLES 1.5"),
        ("DEMAND_SECTION", "DEMANDS_SECTION", 12, "did you mean"),
    ],
)
def test_refused_routes(tmp_path, old, new, line, what):
    """CVRP: capacity, demands, depot."""
    assert old in ROUTES
    error = refused(tmp_path, ROUTES.replace(old, new, 1), "x.vrp")
    assert what in str(error)
    assert error.line == line


def test_refused_matrices(tmp_path):
    """Wrong counts, negative or huge costs, asymmetry: by line."""
    head = "TYPE: TSP\nDIMENSION: 3\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: {}\n"
    full = head.format("FULL_MATRIX") + "EDGE_WEIGHT_SECTION\n0 1 2\n1 0 3\n2 3 0\nEOF\n"
    assert io.read(put(tmp_path, full)).n == 3
    for old, new, line, what in (
        ("2 3 0", "2 4 0", 7, "cost 2-3 is 3, 3-2 is 4"),
        ("2 3 0", "2 3", 8, "8 numbers, FULL_MATRIX of 3 nodes needs 9"),
        ("2 3 0", "2 3 0 1", 8, "10 numbers"),
        ("1 0 3", "1 0 -3", 7, "cost -3 < 0"),
        ("1 0 3", "1 0 3e13", 7, "cost 3e+13 > 1e+12"),
        ("1 0 3", "1 0 x", 7, "'x' in EDGE_WEIGHT_SECTION is not a number"),
        ("FULL_MATRIX", "UPPER_ROW", 7, "9 numbers, UPPER_ROW of 3 nodes needs 3"),
        ("FULL_MATRIX", "FUNCTION", 4, "EDGE_WEIGHT_FORMAT FUNCTION not supported"),
        ("DIMENSION: 3", "DIMENSION: 1000000000000", 8, "9 numbers"),
    ):
        error = refused(tmp_path, full.replace(old, new))
        assert what in error.what
        assert error.line == line, what
    assert "TYPE: ATSP" in refused(tmp_path, full.replace("2 3 0", "2 4 0")).hint
    asymmetric = full.replace("2 3 0", "2 4 0").replace("TYPE: TSP", "TYPE: ATSP")
    assert isinstance(io.read(put(tmp_path, asymmetric)), ATSP)


# --------------------------------------------------------------------------- solutions


@pytest.mark.parametrize(
    "text",
    [
        "TYPE: TOUR\nDIMENSION: 4\nTOUR_SECTION\n2\n1\n4\n3\n-1\nEOF\n",
        "TOUR_SECTION\n2 1 4 3 -1\n-1\nEOF\n",
        "TOUR_SECTION\n2 1 4 3",
        "2 1 4 3\n",
        "1\n0\n3\n2\n",
        "1 0 3 2 -1\n",
        "[1, 0, 3, 2]",
        '{"solution": [1, 0, 3, 2]}',
    ],
)
def test_tours(tmp_path, text):
    """All forms of one tour."""
    instance = io.read(put(tmp_path, SQUARE))
    assert io.read_solution(put(tmp_path, text, "x.opt.tour"), instance) == [1, 0, 3, 2]


def test_several_tours(tmp_path):
    """All are read; as a solution counts the shortest feasible one."""
    instance = io.read(put(tmp_path, SQUARE))
    text = "TYPE: TOUR\nTOUR_SECTION\n1 3 2 4 -1\n1 2 3 4 -1\n1 2 3 -1\n-1\nEOF\n"
    path = put(tmp_path, text, "x.tour")
    assert tsplib.read_tours(path, instance) == [[0, 2, 1, 3], [0, 1, 2, 3], [0, 1, 2]]
    assert io.read_solution(path, instance) == [0, 1, 2, 3]
    hopeless = put(tmp_path, "TOUR_SECTION\n1 2 -1\n3 4 -1\n", "y.tour")
    assert instance.violations(io.read_solution(hopeless, instance))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("TOUR_SECTION\n2 1 5 3 -1\n", 2, "node 5 does not exist"),
        ("TOUR_SECTION\n2 1\n1.5 3 -1\n", 3, "node 1.5 does not exist"),
        ("TOUR_SECTION\n2 -7\n", 2, "node -7 does not exist"),
        ("TOUR_SECTION\n2 x\n", 2, "'x' in TOUR_SECTION"),
        ("TOUR_SECTION\n-1\n", 1, "no nodes"),
        ("DIMENSION: 5\nTOUR_SECTION\n1 2 3 4 5 -1\n", 1, "a tour of 5 nodes, the instance has 4"),
        ("1 2 3 nan\n", 1, "not a number"),
        ("\n\n", None, "is empty"),
    ],
)
def test_refused_tours(tmp_path, text, line, what):
    """Tours that name no nodes."""
    instance = io.read(put(tmp_path, SQUARE))
    with pytest.raises(InputError, match=what) as caught:
        io.read_solution(put(tmp_path, text, "x.tour"), instance)
    assert caught.value.line == line


def test_routes(tmp_path):
    """CVRPLIB's form, loosely spelled; the stated cost may be wrong or missing."""
    instance = io.read(put(tmp_path, ROUTES, "x.vrp"))
    path = put(tmp_path, "Route #1: 1 2\nroute 2 : 3\nRoute #3:\nCost 999\nTime 1.5\n", "x.sol")
    assert io.read_solution(path, instance) == [[1, 2], [3], []]
    assert io.stated_cost(path, instance) == 999
    for text, line, what in (
        ("Route #1: 1 2 3\n1 2\n", 2, "'1 2' is no route"),
        ("Route #1: 0 1 0\n", 1, "customer 0 does not exist"),
        ("Route #1: 1 2 4\n", 1, "customer 4 does not exist"),
        ("Route #1: 1 2 x\n", 1, "customer x does not exist"),
        ("Route #1 1 2\n", 1, "is no route"),
        ("Cost 1\n", None, "holds no route"),
        ("Route #1: " + "9" * 5000, 1, "does not exist"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            io.read_solution(put(tmp_path, text, "y.sol"), instance)
        assert caught.value.line == line


def test_solutions_are_written_as_read(tmp_path):
    """Tours and routes, with the cost they state."""
    tsp, vrp = io.read(put(tmp_path, SQUARE)), io.read(put(tmp_path, ROUTES, "x.vrp"))
    for instance, solution, name in ((tsp, [2, 0, 1, 3], "t.tour"), (vrp, [[3], [1, 2]], "r.sol")):
        io.write_solution(instance, solution, tmp_path / name)
        assert io.read_solution(tmp_path / name, instance) == solution
        assert io.stated_cost(tmp_path / name, instance) == instance.objective(solution)
        io.write_solution(instance, solution, tmp_path / "s.json")
        assert io.read_solution(tmp_path / "s.json", instance) == solution
    loaded = tsplib95.load(str(tmp_path / "t.tour"))
    assert loaded.tours == [[3, 1, 2, 4]]


# ------------------------------------------------------------------------- round trips


coordinate = st.one_of(
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.1, -0.0, 1 / 3, 5e-324, 1e12, 123456789.125]),
)


@given(
    metric=st.sampled_from(sorted(METRICS)),
    points=st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=8),
)
def test_tsp_round_trip(tmp_path_factory, metric, points):
    """Bit for bit, in every metric."""
    coords = np.array(points, dtype=np.float64)[:, : METRICS[metric][1]]
    instance = TSP(coords=coords, metric=metric, name="a  b")
    path = tmp_path_factory.mktemp("t") / "x.tsp"
    io.write(instance, path)
    again = io.read(path)
    assert again.digest == instance.digest
    assert again.name == "a b"


@given(st.data())
def test_matrix_round_trip(tmp_path_factory, data):
    """ATSP and TSP with a matrix; whole numbers stay integers, others keep every bit."""
    n = data.draw(st.integers(1, 6))
    cost = st.one_of(st.integers(0, 10**6), st.floats(0, 1e6))
    matrix = np.array(data.draw(st.lists(cost, min_size=n * n, max_size=n * n))).reshape(n, n)
    np.fill_diagonal(matrix, 0)
    folder = tmp_path_factory.mktemp("m")
    atsp = ATSP(matrix=matrix, coords=matrix[:, [0, 0]])
    io.write(atsp, folder / "x.atsp")
    assert io.read(folder / "x.atsp").digest == atsp.digest
    tsp = TSP(matrix=matrix + matrix.T)
    io.write(tsp, folder / "x.tsp")
    assert io.read(folder / "x.tsp").digest == tsp.digest


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1, 0.37]),
    limit=st.sampled_from([None, 77, 12.5]),
    service=st.sampled_from([0, 1.25]),
    vehicles=st.sampled_from([None, 9]),
    explicit=st.booleans(),
)
def test_cvrp_round_trip(tmp_path_factory, seed, scale, limit, service, vehicles, explicit):
    """All fields, plain and gzipped."""
    base = CVRP.generate(6, seed=seed)
    space = {"coords": base.coords}
    if explicit:
        space = {"matrix": np.random.default_rng(seed).integers(0, 99, (7, 7))}
        np.fill_diagonal(space["matrix"], 0)
    instance = CVRP(
        **space,
        demands=base.demands * scale,
        capacity=base.capacity * scale,
        max_distance=limit,
        service_time=service,
        vehicles=vehicles,
    )
    for name in ("x.vrp", "x.vrp.gz"):
        path = tmp_path_factory.mktemp("v") / name
        io.write(instance, path)
        assert io.read(path).digest == instance.digest


def test_refuses_to_write(tmp_path):
    """What TSPLIB cannot say is not written, and leaves no file."""
    with pytest.raises(InputError, match="asymmetric"):
        io.write(TSP(matrix=[[0, 1], [2, 0]]), tmp_path / "x.tsp")
    with pytest.raises(InputError, match="suffix"):
        io.write(TSP(coords=[[0, 0]]), tmp_path / "x.vrp")
    assert list(tmp_path.iterdir()) == []
