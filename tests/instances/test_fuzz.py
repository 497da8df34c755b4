"""Mutated files: a valid instance or an InputError of one line, nothing else.

``--hypothesis-profile thorough`` tries far more of them.
"""

import gzip
import io as std_io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io
from nco.instances.atsp import ATSP
from nco.instances.core import Batch, InputError
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.tsp import TSP

FULL = """NAME: f
TYPE: {kind}
COMMENT: five nodes
DIMENSION: 5
EDGE_WEIGHT_TYPE: EXPLICIT
EDGE_WEIGHT_FORMAT: {format}
DISPLAY_DATA_TYPE: TWOD_DISPLAY
EDGE_WEIGHT_SECTION
{rows}
DISPLAY_DATA_SECTION
1 0 0
2 1 0.5
3 1e1 2
4 3 3
5 -4 1
EOF
"""
CVRP_TEXT = """NAME : v
TYPE : CVRP
DIMENSION : 4
EDGE_WEIGHT_TYPE : EUC_2D
CAPACITY : 10
DISTANCE : 99
SERVICE_TIME : 1.5
VEHICLES : 3
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
GEO = """NAME: g
TYPE: TSP
DIMENSION: 3
EDGE_WEIGHT_TYPE: GEO
NODE_COORD_SECTION
1 37.44 -25.40
2 38.43 -9.08
3 41.11 -8.36
EOF
"""
MPS = """NAME          SMALL
ROWS
 N  COST
 L  LIM1
 G  LIM2
 E  MYEQN
COLUMNS
    MARKER    'MARKER'    'INTORG'
    X         COST      1   LIM1      1
    X         LIM2      1
    MARKER    'MARKER'    'INTEND'
    Y         COST      2   LIM1      1
    Y         MYEQN    -1
    Z         COST     -1   MYEQN     1
RHS
    RHS       LIM1      4   LIM2      1
    RHS       MYEQN     7
RANGES
    RNG       LIM1      2.5
BOUNDS
 UP BND       X         4
 LO BND       Y        -1
 FR BND       Z
ENDATA
"""
LP = """\\ small
Maximize
 obj: 2 x + 3 y - z
Subject To
 c1: x + y + z <= 10
 c2: x - 3 y >= -2
Bounds
 0 <= x <= 4
 y <= 3.5
 z free
General
 x
End
"""


def archive(**values):
    data = std_io.BytesIO()
    np.savez(data, **values)
    return data.getvalue()


COORDS = np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 3.0]])
FILES = {
    "x.tsp": GEO,
    "y.tsp": FULL.format(kind="TSP", format="UPPER_ROW", rows="1 2 3 4\n5 6 7\n8 9\n10"),
    "x.atsp": FULL.format(kind="ATSP", format="FULL_MATRIX", rows="0 1 2 3 4\n" * 5),
    "z.tsp": GEO.replace("EOF", "FIXED_EDGES_SECTION\n1 3\n-1\nEOF"),
    "y.atsp": FULL.format(kind="ATSP", format="FULL_MATRIX", rows="0 1 2 3 4\n" * 5).replace(
        "EOF",
        "EDGE_DATA_FORMAT: ADJ_LIST\nEDGE_DATA_SECTION\n1 2 3 -1\n2 3 4 -1\n3 4 5\n1 -1\n"
        "4 5 -1\n5 1 -1\n-1\nFIXED_EDGES_SECTION\n2 3\n-1\nEOF",
    ),
    "x.hcp": "TYPE: HCP\nDIMENSION: 4\nEDGE_DATA_FORMAT: EDGE_LIST\nEDGE_DATA_SECTION\n"
    "1 2\n2 3\n3 4\n4 1\n1 3\n-1\nEOF\n",
    "z.json": '{"coords": [[0, 0], [0, 3], [4, 3]], "fixed": [[0, 1]], "edges": [[0, 1], [1, 2], '
    "[2, 0]]}",
    "x.vrp": CVRP_TEXT,
    "x.ovrp": CVRP_TEXT.replace("TYPE : CVRP", "TYPE : OVRP"),
    "x.oplib": GEO.replace("TYPE: TSP", "TYPE: OP\nCOST_LIMIT: 9000").replace(
        "EOF", "NODE_SCORE_SECTION\n1 0\n2 5\n3 7\nDEPOT_SECTION\n1\n-1\nEOF"
    ),
    "x.kp": "3 10\n1 2\n3 4\n5.5 6\n0 1 1\n",
    "y.kp": "3\n1 1 2\n2 3 4\n3 5.5 6\n10\n",
    "z.kp": "knapPI_1\nn 2\nc 10\nz 8\ntime 0.01\n1,3,4,1\n2,5,6,1\n-----\n" * 2,
    "x.col": "c x\np edge 5 3\ne 1 2\ne 2 3\ne 3 4\nn 5 7\n",
    "x.graph": "% x\n5 3 011\n1 2 9\n1 1 9 3 9\n1 2 9 4 9\n1 3 9\n7\n",
    "x.edges": "# FromNodeId ToNodeId\n0 1\n1 2\n2 30\n",
    "x.mps": MPS,
    "x.lp": LP,
    "x.json": '{"problem": "cvrp", "coords": [[0, 0], [0, 3], [4, 3]], "demands": [0, 1, 2.5], '
    '"capacity": 5, "ref_cost": 12.0, "ref_solution": [[1, 2]], "ref_method": "x"}',
    "y.json": '{"values": [[1, 2], [3, 4]], "weights": [[1, 1], [2, 2]], "capacity": [2, 3],\n'
    '"ref_cost": [3, null]}',
    "x.npz": archive(
        coords=COORDS, demands=np.array([0, 1, 2]), capacity=5, ref_cost=12.0,
        ref_solution="[[1, 2]]",
    ),
    "y.npz": archive(coords=np.stack([COORDS] * 2), ref_solution="[[0, 1, 2], [2, 1, 0]]"),
    "x.tsp.gz": gzip.compress(GEO.encode(), mtime=0),
}  # fmt: skip

SOLUTIONS = {
    "x.tour": (
        TSP(coords=COORDS),
        "NAME: x\nTYPE: TOUR\nDIMENSION: 3\nTOUR_SECTION\n1\n3\n2\n-1\n1 2 3 -1\nEOF\n",
    ),
    "y.tour": (ATSP(matrix=[[0, 1, 2], [3, 0, 4], [5, 6, 0]]), "1 3 2\n"),
    "x.sol": (
        CVRP(coords=COORDS, demands=[0, 1, 2], capacity=5),
        "Route #1: 2\nRoute #2: 1\nCost 14\n",
    ),
    "y.sol": (Knapsack(values=[1, 2, 3], weights=[1, 2, 3], capacity=4), "# value 4\n0\n2\n"),
    "z.sol": (Knapsack(values=[1, 2, 3], weights=[1, 2, 3], capacity=4), "1 0 1\n"),
    "x.mis": (MIS(edges=[[0, 1]], weights=[1, 1, 1], labels=[4, 7, 9]), "# weight 2\n4\n9\n"),
    "x.json": (CVRP(coords=COORDS, demands=[0, 1, 2], capacity=5), '{"solution": [[1], [2]]}'),
}

WORDS = (
    "nan", "-nan", "inf", "-inf", "-1", "0", "1", "2", "3", "7", "1.5", "-0.0", "1e308", "-1e308",
    "1e-320", "1e999", "999999999999", "1000000000000000000000", "9" * 400, "1_0", "٣", "x",
    "''", '"', "#", "%", ":", ",", "-", "[", "]", "{", "}", "null", "true", "NaN", "Infinity",
    "EOF", "TYPE: TSP", "TYPE: ATSP", "TYPE: CVRP", "TYPE: TOUR", "DIMENSION: 1000000000000",
    "DIMENSION: 3", "CAPACITY: 0", "EDGE_WEIGHT_TYPE: EUC_2D", "EDGE_WEIGHT_TYPE: XRAY1",
    "EDGE_WEIGHT_FORMAT: FULL_MATRIX", "EDGE_WEIGHT_FORMAT: LOWER_DIAG_COL", "TOUR_SECTION",
    "NODE_COORD_SECTION", "DEPOT_SECTION", "DEMAND_SECTION", "FIXED_EDGES_SECTION", "COMMENT:",
    "EDGE_DATA_SECTION", "EDGE_DATA_FORMAT: EDGE_LIST", "EDGE_DATA_FORMAT: ADJ_LIST", "TYPE: HCP",
    "p edge 1000000000000 1", "knapPI_", "n", "c", "z", "-----", "\0", "\t", "\r", "\n", "",
)  # fmt: skip


@st.composite
def mutated(draw, content):
    """One to four mutations of a file: lines, words, characters, bytes, or its end."""
    binary = isinstance(content, bytes)
    data = content if binary else content.encode()
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["truncate", "flip"] if binary else KINDS))
        if kind == "truncate":
            data = data[: draw(st.integers(0, len(data)))]
        elif kind == "flip":
            if data:
                at = draw(st.integers(0, len(data) - 1))
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        else:
            text = data.decode("utf-8", "replace")
            separator = "\n" if kind.endswith("line") else " "
            parts = text.split(separator)
            at = draw(st.integers(0, len(parts) - 1))
            other = draw(st.integers(0, len(parts) - 1))
            if kind.startswith("delete"):
                del parts[at]
            elif kind.startswith("double"):
                parts.insert(at, parts[at])
            elif kind.startswith("swap"):
                parts[at], parts[other] = parts[other], parts[at]
            elif kind.startswith("insert"):
                parts.insert(at, draw(st.sampled_from(WORDS)))
            else:
                parts[at] = draw(st.sampled_from(WORDS))
            data = separator.join(parts).encode("utf-8", "replace")
    return data


KINDS = [
    "truncate", "flip",
    *(f"{verb} {what}" for verb in ("delete", "double", "swap", "insert", "replace")
      for what in ("line", "word")),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def attempt(action, path):
    """The result, or None after an InputError in good form."""
    try:
        return action()
    except InputError as error:
        text = str(error)
        assert str(path) in text
        assert "\n" not in text
        assert len(text) < 1500
        return None


def test_the_originals_are_valid(folder):
    """Otherwise the mutations would prove little."""
    for name, content in FILES.items():
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert io.read(path) is not None
    for name, (instance, text) in SOLUTIONS.items():
        path = folder / name
        path.write_text(text)
        assert instance.violations(io.read_solution(path, instance)) == []


@pytest.mark.parametrize("name", FILES)
def test_instances(folder, name):
    """Reading never fails in another way, and what is read can be used."""
    path = folder / name

    @given(mutated(FILES[name]), st.sampled_from(["", "", "", "tsp", "cvrp", "knapsack"]))
    def run(data, problem):
        path.write_bytes(data)
        read = attempt(lambda: io.read(path, problem), path)
        if read is None:
            return
        for instance in read if isinstance(read, Batch) else [read]:
            assert instance.n >= 0
            assert len(instance.digest) == 64
            if isinstance(instance, TSP):
                assert instance.objective(list(range(instance.n))) >= 0
            elif isinstance(instance, CVRP):
                routes = [[k] for k in range(1, instance.n + 1)]
                assert instance.objective(routes) >= 0
                instance.violations(routes)
            elif isinstance(instance, (Knapsack, MIS)):
                assert instance.objective([0]) >= 0
                assert instance.violations([]) == []

    run()


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solutions(folder, name):
    """A solution whose violations can be told, or an InputError."""
    path = folder / name
    instance, content = SOLUTIONS[name]

    @given(mutated(content))
    def run(data):
        path.write_bytes(data)
        solution = attempt(lambda: io.read_solution(path, instance), path)
        if solution is not None and instance.violations(solution) == []:
            assert instance.violations(instance.canonical(solution)) == []
            assert instance.objective(solution) >= 0
        claim = attempt(lambda: io.stated_cost(path, instance), path)
        assert claim is None or isinstance(claim, (int, float))

    run()
