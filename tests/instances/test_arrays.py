"""Arrays in .npz and JSON: inference, batches, references, and damaged files."""

import dataclasses
import json
import zipfile
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from nco.instances import arrays, io
from nco.instances.atsp import ATSP
from nco.instances.core import Batch, InputError, Instance
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.registry import Entry, problems
from nco.instances.tsp import TSP


def save(folder, name="x.npz", **values):
    path = folder / name
    np.savez(path, **values)
    return path


def save_json(folder, **values):
    path = folder / "x.json"
    path.write_text(json.dumps(values))
    return path


def refused(path, problem=""):
    with pytest.raises(InputError) as caught:
        io.read(path, problem)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


COORDS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
ASYMMETRIC = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
CASES = {
    "tsp": {"coords": COORDS},
    "atsp": {"matrix": ASYMMETRIC},
    "cvrp": {"coords": COORDS, "demands": np.array([0, 2, 3]), "capacity": np.array(5)},
    "knapsack": {
        "values": np.array([1, 2]), "weights": np.array([1.5, 2]), "capacity": np.array(3),
    },
    "mis": {"edges": np.array([[0, 1]]), "weights": np.array([1, 1, 4])},
}  # fmt: skip
SOLUTIONS = {
    "tsp": [0, 1, 2], "atsp": [0, 1, 2], "cvrp": [[1, 2]], "knapsack": [0], "mis": [0, 2],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".npz", ".json", ".npz.gz", ".json.gz"])
def test_round_trip(tmp_path, name, suffix):
    """Problem from the keys; references, name and every bit survive."""
    instance = io.read(save(tmp_path, "first.npz", **CASES[name]))
    assert (instance.problem, instance.name) == (name, "first")
    known = instance.replace(
        ref_solution=SOLUTIONS[name],
        ref_cost=instance.objective(SOLUTIONS[name]),
        ref_method="by hand",
        name="a name",
    )
    io.write(known, tmp_path / f"y{suffix}")
    again = io.read(tmp_path / f"y{suffix}")
    assert again.digest == instance.digest
    for key in ("name", "ref_cost", "ref_solution", "ref_method"):
        assert getattr(again, key) == getattr(known, key)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_batch_round_trip(tmp_path, name, suffix):
    """One more dimension in front; references may be known for some only."""
    stacked = {k: np.stack([v, v, v]) for k, v in CASES[name].items()}
    solution = json.dumps([SOLUTIONS[name], None, SOLUTIONS[name]])
    path = save(tmp_path, **stacked, ref_cost=np.array([1.5, np.nan, 2]), ref_solution=solution)
    batch = io.read(path)
    assert isinstance(batch, Batch)
    assert (len(batch), batch.cls.problem) == (3, name)
    io.write(batch, tmp_path / f"y{suffix}")
    for some in (batch, io.read(tmp_path / f"y{suffix}")):
        assert some[2].digest == io.read(save(tmp_path, "one.npz", **CASES[name])).digest
        assert [i.ref_cost for i in some] == [1.5, None, 2]
        assert [i.ref_solution for i in some] == [SOLUTIONS[name], None, SOLUTIONS[name]]
        assert some[1].name == "x[1]"


def test_scalars_may_be_shared(tmp_path):
    """A capacity or metric once, or once per instance."""
    coords, demands = np.stack([COORDS] * 2), np.array([[0, 1, 2], [0, 2, 2]])
    batch = io.read(save(tmp_path, coords=coords, demands=demands, capacity=4, metric="EUC_2D"))
    assert [(i.capacity, i.metric) for i in batch] == [(4, "EUC_2D")] * 2
    batch = io.read(save(tmp_path, coords=coords, demands=demands, capacity=[4, 5]))
    assert [i.capacity for i in batch] == [4, 5]


def test_matrix_is_tsp_only_if_symmetric(tmp_path):
    """A key or a wish decides otherwise."""
    symmetric = ASYMMETRIC + ASYMMETRIC.T
    assert io.read(save(tmp_path, matrix=symmetric)).problem == "tsp"
    assert io.read(save(tmp_path, matrix=np.stack([symmetric, symmetric]))).cls is TSP
    assert io.read(save(tmp_path, matrix=np.stack([symmetric, ASYMMETRIC]))).cls is ATSP
    assert io.read(save(tmp_path, matrix=symmetric, problem="atsp")).problem == "atsp"
    assert io.read(save(tmp_path, matrix=symmetric), "atsp").problem == "atsp"
    assert io.read(save(tmp_path, matrix=ASYMMETRIC, problem="tsp")).problem == "tsp"


def test_benchmark_sets(shared_data):
    """Read as they are; the references cost what the files say."""
    routing = shared_data / "routing"
    for path in sorted(routing.glob("*.npz")):
        batch = io.read(path)
        with np.load(path) as raw:
            assert len(batch) == len(raw["ref_cost"])
            if "coords" in raw:
                assert (batch[1].coords == raw["coords"][1].astype(np.float64)).all()
        if batch.ref_solution is not None:
            assert batch.violations(batch.ref_solution) == [[]] * len(batch)
            costs = batch.objective(batch.ref_solution)
            assert np.allclose(costs, batch.ref_cost, rtol=1e-12, atol=0)
    assert batch[0].name == f"{path.stem}[0]"


def test_a_new_problem_needs_its_class_only(tmp_path):
    """Its keys are unknown, and the text lists what is known; once registered they are read."""
    path = save(tmp_path, coords=np.zeros((4, 3, 2)), gains=np.ones((4, 3)), max_length=4.0)
    error = refused(path)
    assert "the keys (coords, gains, max_length) are not those of one known problem" in error.what
    assert "tsp, atsp, cvrp" in error.hint

    @dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
    class Orienteering(Instance[list[int]]):
        problem: ClassVar[str] = "test-op"
        coords: NDArray[Any] = dataclasses.field(metadata={"ndim": 2})
        gains: NDArray[Any]
        max_length: float
        colour: str = "red"

        @property
        def n(self):
            return len(self.gains)

    globals()["Orienteering"] = Orienteering
    entries = problems._entries
    saved = dict(entries)
    try:
        problems.add(Entry("test-op", f"{__name__}:Orienteering"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Entry, "load", load_here)
            batch = io.read(path)
            assert (batch.cls, len(batch), batch[3].n, batch[3].max_length) == (
                Orienteering,
                4,
                3,
                4.0,
            )
            io.write(batch[0].replace(colour="blue"), tmp_path / "x.json")
            assert io.read(tmp_path / "x.json").colour == "blue"
    finally:
        entries.clear()
        entries.update(saved)


def load_here(entry):
    """Entry.load that finds the class of the test above without an import."""
    if entry.name == "test-op":
        return globals()["Orienteering"]
    import importlib

    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"coords": COORDS, "capacity": 5}, "the keys (capacity, coords) are not those of one"),
        ({"foo": COORDS}, "the keys (foo) are not those of one"),
        ({"ref_method": "x"}, "the keys (none) are not those of one"),
        ({"coords": COORDS, "problem": "tspp"}, "unknown problem 'tspp'"),
        ({"coords": COORDS, "problem": "cvrp"}, "cvrp needs capacity, demands"),
        ({"coords": COORDS, "problem": "tsp", "demands": [0, 1]}, "unknown key 'demands' of tsp"),
        ({"c": [1.0], "A": [[1.0]], "problem": "mip"}, "mip is not stored as arrays"),
        ({"coords": [[0, 0], [0, "a"]]}, "coords is not an array of numbers"),
        ({"coords": np.array([[0, 1j]])}, "coords is not an array of numbers"),
        ({"coords": np.array([[True, False]])}, "coords is not an array of numbers"),
        ({"coords": [0.0, 1.0]}, "coords has 1 dimensions, expected 2"),
        ({"coords": np.zeros((1, 1, 3, 2))}, "coords has 4 dimensions, expected 2"),
        ({"coords": np.zeros((0, 3, 2))}, "holds no instances"),
        ({"coords": [[0.0, np.nan]]}, "coords[0, 1] = nan is not a finite number"),
        ({"coords": [[[0.0, 1]], [[0.0, np.inf]]]}, "instance 1: coords[0, 1] = inf"),
        ({"coords": [[0.0, 1.0, 2.0]]}, "coords have 3 columns, expected 2"),
        ({"coords": COORDS, "metric": "FOO"}, "metric 'FOO' not understood"),
        ({"coords": COORDS, "metric": 7}, "metric is not a word"),
        ({"matrix": [[0, 1], [-1, 0]]}, "matrix[1, 0] = -1 < 0"),
        ({**CASES["cvrp"], "capacity": "five"}, "capacity is not a number"),
        ({**CASES["cvrp"], "capacity": np.nan}, "capacity is not a finite number"),
        ({**CASES["cvrp"], "capacity": [[5]]}, "capacity is not a number"),
        ({**CASES["cvrp"], "capacity": [5]}, "capacity is an array, but there is one instance"),
        ({"coords": COORDS, "metric": ["exact"]}, "metric is an array"),
        ({**CASES["cvrp"], "capacity": 2}, "customer 2: demand 3 > capacity 2"),
        ({**CASES["cvrp"], "demands": [[0, 1, 1]]}, "coords has 2 dimensions in a batch"),
        ({**CASES["cvrp"], "demands": [0, 1]}, "2 demands for 3 nodes"),
        ({**CASES["cvrp"], "vehicles": 1.5}, "vehicles = 1.5 not understood"),
        ({"coords": COORDS, "ref_cost": "low"}, "ref_cost is not a number"),
        ({"coords": COORDS, "ref_cost": [1.0]}, "ref_cost is not a number"),
        ({"coords": COORDS[None], "ref_cost": 1.0}, "ref_cost is not a number per instance"),
        ({"coords": COORDS, "ref_solution": "[0, 1"}, "ref_solution is not JSON"),
        ({"coords": COORDS, "ref_solution": "[0, 1.5]"}, "whole numbers only"),
        ({"coords": COORDS[None], "ref_solution": "[[0], [1]]"}, "not a list, one per instance"),
        ({"coords": COORDS[None], "ref_solution": "[7]"}, "instance 0: a solution is a list"),
    ],
)  # fmt: skip
def test_refused(tmp_path, values, what):
    """The same in both containers where both can say it."""
    with pytest.raises(InputError) as caught:
        io.read(save(tmp_path, **values))
    assert what in str(caught.value)
    if all(np.asarray(v).dtype.kind != "c" and np.asarray(v).size for v in values.values()):
        plain = {k: np.asarray(v).tolist() for k, v in values.items()}
        text = json.dumps(plain)
        (tmp_path / "y.json").write_text(text)
        with pytest.raises(InputError) as caught:
            io.read(tmp_path / "y.json")
        if "NaN" not in text and "Infinity" not in text:
            assert what in str(caught.value)


def test_a_graph_without_edges(tmp_path):
    """JSON has no empty array of pairs; in a batch neither."""
    graph = MIS(edges=[], weights=[1, 2])
    for content in (graph, Batch.of([graph, graph])):
        for name in ("x.json", "x.npz"):
            io.write(content, tmp_path / name)
            again = io.read(tmp_path / name)
            first = again[1] if isinstance(again, Batch) else again
            assert (type(again), first.digest) == (type(content), graph.digest)


def test_huge_integers(tmp_path):
    """Beyond 64 bits nothing wraps around."""
    one = np.array([1], dtype=np.uint64)
    huge = np.array([2**63], dtype=np.uint64)
    error = refused(save(tmp_path, values=one, weights=huge, capacity=1))
    assert "exceeds 2^63" in str(error)
    for weight in (2**63, 10**30):
        refused(save_json(tmp_path, values=[1], weights=[weight], capacity=1))


def test_json_is_strict(tmp_path):
    """Line numbers, no NaN, no repeated keys, no results taken for instances."""
    path = tmp_path / "x.json"
    for text, line, what in (
        ('{"coords": [[0, 1],\n [NaN, 2]]}', 2, "NaN is not a JSON number"),
        ('{"name": "NaN",\n\n "coords": [[-Infinity, 2]]}', 3, "-Infinity is not"),
        ('{"coords": [[0, 1],\n [2 2]]}', 2, "not valid JSON"),
        ('{"coords": [[0, 1]]', 1, "not valid JSON"),
        ('{"coords": [[0, 1]], "coords": 1}', None, "'coords' comes twice"),
        ('{"coords": [[0, 1], [2]]}', None, "coords has rows of unequal length"),
        ('{"coords": {"a": 1}}', None, "coords is not an array of numbers"),
        ('{"coords": null}', None, "are not those of one known problem"),
        ('{"solution": [1], "objective": 3}', None, "is a result, not an instance"),
        ("[" * 100000, None, "nested too deeply"),
        ("[1, 2]", None, "is not a JSON object"),
    ):
        path.write_text(text)
        error = refused(path)
        assert what in error.what
        assert error.line == line, text


def test_damaged_archives(tmp_path):
    """Truncated, garbled, pickled, foreign: one line each, and nothing is executed."""
    good = save(tmp_path, **CASES["cvrp"]).read_bytes()
    bad = tmp_path / "bad.npz"
    for k in range(1, len(good), 7):
        bad.write_bytes(good[:k])
        assert refused(bad).path == str(bad)
    np.savez(bad, coords=np.array([{"a": 1}], dtype=object))
    assert "Object arrays" in refused(bad).what
    np.save(tmp_path / "bare.npy", COORDS)
    bad.write_bytes((tmp_path / "bare.npy").read_bytes())
    refused(bad)


@pytest.mark.parametrize("claim", ["(1000000000000, 2)", "(10**12,)", "(-1, 2)", "(300000000,)"])
def test_archives_cannot_claim_memory(tmp_path, claim):
    """A member whose header says more than it holds."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {claim}, }}\n".encode()
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("coords.npy", member)
    assert "not a valid .npz file" in refused(tmp_path / "x.npz").what


def test_other_archives(tmp_path):
    """A zip of something else."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a valid .npz file" in refused(tmp_path / "x.npz").what
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("folder/", "")
    refused(tmp_path / "x.npz")


def test_cannot_be_arrays(tmp_path):
    """A MIP's sparse rows have formats of their own; nothing is pickled."""
    mip = MIP(c=[1.0], A=[[1.0]], row_lower=[1.0])
    for name in ("x.npz", "x.json"):
        with pytest.raises(InputError, match="use its own format"):
            io.write(mip, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_metric_override_of_a_batch(tmp_path):
    """Unrounded lengths for all, and no stale references."""
    path = save(tmp_path, coords=COORDS[None] * 1.4, metric="EUC_2D", ref_cost=[4.0])
    batch = io.read(path, metric="exact")
    assert batch[0].objective([0, 1, 2]) == pytest.approx(1.4 * (2 + 2**0.5))
    assert batch[0].ref_cost is None
    with pytest.raises(InputError, match="metric 'FOO' not understood"):
        io.read(path, metric="FOO")
    with pytest.raises(InputError, match="no coordinates"):
        io.read(save(tmp_path, matrix=ASYMMETRIC), metric="exact")


def test_schema_of_every_problem():
    """Dimensions as the constructors want them."""
    edges = {"fixed": 2, "edges": 2}
    assert TSP.schema() == {"coords": 2, "matrix": 2, "metric": 0, **edges}
    assert CVRP.required() == {"demands", "capacity"}
    assert ATSP.required() == {"matrix"}
    assert MIS.schema()["edges"] == 2
    assert Knapsack.schema() == {"values": 1, "weights": 1, "capacity": 0}
    assert not MIP.required() <= MIP.schema().keys()
    assert arrays.infer("x", {"coords": COORDS}) is TSP
