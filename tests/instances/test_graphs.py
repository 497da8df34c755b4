"""Graph files: DIMACS, METIS, edge lists, and solutions in their numbering."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io
from nco.instances.core import InputError
from nco.instances.mis import MIS

DIMACS = "c a path and a lone node\np edge 5 3\ne 1 2\ne 2 3\ne 3 4\nn 5 7\n"
METIS = "% weighted\n5 3 010\n1 2\n1 1 3\n1 2 4\n1 3\n7\n"
EDGES = "# FromNodeId ToNodeId\n-4 10\n10 12\n12\t300\n"


def put(folder, text, name):
    path = folder / name
    path.write_text(text)
    return path


def test_dimacs_and_metis_agree(tmp_path):
    """One weighted graph, with an isolated node."""
    expected = MIS(edges=[[0, 1], [1, 2], [2, 3]], weights=[1, 1, 1, 1, 7])
    for name, text in (("x.col", DIMACS), ("x.graph", METIS)):
        graph = io.read(put(tmp_path, text, name))
        assert graph.digest == expected.digest
        assert graph.labels.tolist() == [1, 2, 3, 4, 5]
        assert graph.name == "x"


@pytest.mark.parametrize(
    "text",
    [
        DIMACS.replace("edge", "col"),
        DIMACS.replace("\n", "\r\n"),
        DIMACS.replace(" ", "\t"),
        DIMACS.replace("e 1 2\n", "e 2 1\ne 1 2\n").replace("5 3", "5 4"),
        DIMACS.replace("e 1 2\n", "e 2 1\ne 1 2\n"),
        DIMACS.replace("edge 5 3", "edge 5 6"),
        DIMACS.replace("c a", "can a"),
    ],
)
def test_dimacs_spellings(tmp_path, text):
    """Files that count lines, edges or both directions."""
    path = put(tmp_path, text, "x.unknown")
    assert io.read(path).digest == io.read(put(tmp_path, DIMACS, "x.col")).digest


def test_metis_formats(tmp_path):
    """Sizes and edge weights are skipped, comments and blank lines count as they should."""
    plain = "3 1\n2\n1\n\n"
    expected = MIS(edges=[[0, 1]], weights=[1, 1, 1]).digest
    for text in (
        plain,
        "%c\n\n3 1\n%c\n2\n1\n\n\n\n",
        "3 1 0\n2\n1\n\n",
        "3 1 1\n2 9\n1 9\n\n",
        "3 1 100\n5 2\n5 1\n5\n",
        "3 1 011 1\n1 2 9\n1 1 9\n1\n",
        "3 1 111\n5 1 2 9\n5 1 1 9\n5 1\n",
    ):
        assert io.read(put(tmp_path, text, "x.graph")).digest == expected, text


def test_edge_list(tmp_path):
    """Any numbers, in sorted order; SNAP files are recognised by their first line."""
    graph = io.read(put(tmp_path, EDGES, "x.txt"))
    assert graph.labels.tolist() == [-4, 10, 12, 300]
    assert graph.edges.tolist() == [[0, 1], [1, 2], [2, 3]]
    both = EDGES + "300 12\n% twice\n"
    assert io.read(put(tmp_path, both, "x.edges")).digest == graph.digest
    columns = "node_1,node_2\n-4,10\n10, 12\n12,300\n"
    assert io.read(put(tmp_path, columns, "x.csv")).digest == graph.digest


def test_edges_of_nodes_to_themselves_are_left_out(tmp_path, caplog):
    """As graphs of SNAP have them; the nodes stay."""
    graph = io.read(put(tmp_path, EDGES + "12 12\n7 7\n", "x.edges"))
    assert graph.labels.tolist() == [-4, 7, 10, 12, 300]
    assert graph.edges.tolist() == [[0, 2], [2, 3], [3, 4]]
    assert "2 edges of nodes to themselves are left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "line", "what"),
    [
        ("x.col", DIMACS.replace("e 3 4\n", ""), 2, "the header says 3 edges, 2 follow"),
        ("x.col", DIMACS.replace("p edge 5 3\n", ""), 2, "before the header"),
        ("x.col", "c only\n", None, "has no problem line"),
        ("x.col", DIMACS.replace("edge", "sp"), 2, "not supported"),
        ("x.col", DIMACS + "p edge 5 3\n", 7, "a second problem line"),
        ("x.col", DIMACS.replace("e 2 3", "e 2 6"), 4, "node 6 is out of range"),
        ("x.col", DIMACS.replace("e 2 3", "e 0 3"), 4, "node 0 is out of range"),
        ("x.col", DIMACS.replace("e 2 3", "e 2 x"), 4, "'x' is not a whole number"),
        ("x.col", DIMACS.replace("e 2 3", "e 2 1_0"), 4, "'1_0' is not a whole number"),
        ("x.col", DIMACS.replace("e 2 3", "e 2 " + "9" * 99), 4, "is not a whole number"),
        ("x.col", DIMACS.replace("e 2 3", "e 2"), 4, "1 numbers, expected two"),
        ("x.col", DIMACS.replace("e 2 3", "e 3 3"), 4, "node 3 is adjacent to itself"),
        ("x.col", DIMACS.replace("e 2 3", "f 2 3"), 4, "unknown line 'f 2 3'"),
        ("x.col", DIMACS.replace("n 5 7", "n 5 -7"), 6, "weight -7 is out of range"),
        ("x.col", DIMACS.replace("n 5 7", "n 5 nan"), 6, "'nan' is not a whole number"),
        ("x.col", DIMACS + "n 5 8\n", 7, "node 5 has two weights"),
        ("x.col", DIMACS.replace("5 3", "1000000000000 3"), 2, "1000000000000 nodes claimed"),
        ("x.col", DIMACS.replace("5 3", "0 3"), 2, "number of nodes 0 is out of range"),
        ("x.graph", METIS.replace("5 3", "6 3"), 7, "5 node lines, the header says 6"),
        ("x.graph", METIS.replace("5 3", "4 3"), 7, "5 node lines, the header says 4"),
        ("x.graph", METIS.replace("5 3", "1000000000000 3"), 7, "5 node lines"),
        ("x.graph", METIS.replace("5 3", "5 4"), 2, "6 neighbours, but 4 edges need 8"),
        ("x.graph", METIS.replace("010", "010 2"), 2, "2 weights per node"),
        ("x.graph", METIS.replace("010", "012"), 2, "fmt '012' not supported"),
        ("x.graph", METIS.replace("1 1 3", "1 3"), 3, "node 1 lists 2, but 2 does not list 1"),
        ("x.graph", METIS.replace("1 1 3", "1 1 6"), 4, "node 6 is out of range"),
        ("x.graph", METIS.replace("1 1 3", "1 1 2"), 4, "node 2 is adjacent to itself"),
        ("x.graph", METIS.replace("1 1 3", "x 1 3"), 4, "weight 'x' is not a whole number"),
        ("x.graph", METIS.replace("\n7\n", "\n\n"), 7, "0 numbers do not fit fmt 010"),
        ("x.graph", METIS.replace("010", "011"), 3, "2 numbers do not fit fmt 011"),
        ("x.graph", "5\n", 1, "is no METIS header"),
        ("x.edges", EDGES.replace("10 12", "10 12 3"), 3, "3 numbers, expected two"),
        ("x.edges", EDGES.replace("10 12", "10,12,"), 3, "'12,' is not a whole number"),
        ("x.csv", "a,b\n", None, "holds no edge"),
        ("x.csv", "a,b\nc,d\n", 2, "'c' is not a whole number"),
        ("x.csv", "a,7\n1,2\n", 1, "'a' is not a whole number"),
        ("x.edges", EDGES.replace("10 12", "10 1.5"), 3, "'1.5' is not a whole number"),
        ("x.edges", "9 2\n1 2\n3 9\n", 1, "looks like a header"),
        ("x.edges", "# empty\n", None, "holds no edge"),
        ("x.edges", "%%MatrixMarket matrix\n3 3 1\n1 2\n", 1, "Matrix Market"),
    ],
)
def test_refused(tmp_path, name, text, line, what):
    """One line with the line number and a remedy."""
    with pytest.raises(InputError) as caught:
        io.read(put(tmp_path, text, name))
    assert what in caught.value.what
    assert caught.value.line == line
    assert caught.value.hint


def test_solutions_use_the_numbers_of_the_file(tmp_path):
    """From 1, from 0, or whatever the edge list says."""
    for name, text, words in (
        ("x.col", DIMACS, "1\n3\n"),
        ("x.graph", METIS, "1\n3\n"),
        ("x.edges", EDGES, "-4\n12\n"),
    ):
        graph = io.read(put(tmp_path, text, name))
        assert io.read_solution(put(tmp_path, words, "s.mis"), graph) == [0, 2]
        io.write_solution(graph, [0, 2], tmp_path / "t.mis")
        assert (tmp_path / "t.mis").read_text() == "# 2 nodes, weight 2\n" + words
        assert io.read_solution(tmp_path / "t.mis", graph) == [0, 2]
        assert io.stated_cost(tmp_path / "t.mis", graph) == 2
    plain = graph.replace(labels=None)
    assert io.read_solution(put(tmp_path, "0\n2\n", "s.mis"), plain) == [0, 2]
    for text, what in (
        ("11\n", "node 11 is not in the graph"),
        ("-5\n", "node -5 is out of range"),
        ("10 12\n", "2 numbers"),
        ("ten\n", "'ten' is not a whole number"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            io.read_solution(put(tmp_path, text, "b.mis"), graph)
        assert caught.value.line == 1


@given(
    n=st.integers(1, 9),
    pairs=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8))),
    weights=st.lists(st.integers(0, 10**12), min_size=9, max_size=9),
    unit=st.booleans(),
)
def test_round_trips(tmp_path_factory, n, pairs, weights, unit):
    """All three formats, where they can hold the graph."""
    edges = np.array([(i, j) for i, j in pairs if i < j < n], dtype=int).reshape(-1, 2)
    graph = MIS(edges=edges, weights=np.ones(n) if unit else weights[:n])
    folder = tmp_path_factory.mktemp("g")
    for suffix in (".col", ".graph", ".edges"):
        path = folder / f"x{suffix}"
        if suffix == ".edges" and ((graph.weights != 1).any() or len(np.unique(edges)) < n):
            with pytest.raises(InputError, match="neither weights nor lone nodes"):
                io.write(graph, path)
            continue
        io.write(graph, path)
        assert io.read(path).digest == graph.digest


def test_refuses_fractional_weights(tmp_path):
    """The text formats hold whole numbers."""
    graph = MIS(edges=[[0, 1]], weights=[0.5, 1])
    with pytest.raises(InputError, match="whole weights only"):
        io.write(graph, tmp_path / "x.col")
    io.write(graph, tmp_path / "x.json")
    assert io.read(tmp_path / "x.json").digest == graph.digest


def test_large_graph(tmp_path):
    """A hundred thousand edges through every format."""
    graph = MIS.generate(20000, seed=1, p=5e-4)
    for suffix in (".col", ".graph"):
        io.write(graph, tmp_path / f"x{suffix}")
        assert io.read(tmp_path / f"x{suffix}").digest == graph.digest
