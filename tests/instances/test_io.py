"""Which format a file has, and files that cannot be read or written at all."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nco.instances import io
from nco.instances.core import Batch, InputError, Result, Stop, atomic_write
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.mps import captured
from nco.instances.registry import formats, problems
from nco.instances.tsp import TSP

TSP_TEXT = "TYPE: TSP\nDIMENSION: 2\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 3 4\n"


def put(folder, content, name):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        io.read(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    assert str(path) in text
    return caught.value


# ---------------------------------------------------------------------- hopeless files


@pytest.mark.parametrize(
    "name",
    [
        "x.tsp",
        "x.vrp",
        "x.kp",
        "x.col",
        "x.graph",
        "x.npz",
        "x.json",
        "x.edges",
        "x.mps",
        "x.lp",
        "x.atsp",
        "x.foo",
    ],
)
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"\n \n\t\n", "is empty"),
        (bytes(range(256)) * 40, None),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None),
        (b"\xff\xfe\x00\x00 text", None),
        (b"\x1f\x8b\x08garbage", "is not valid gzip"),
        (gzip.compress(b"TYPE: TSP\n" * 500, mtime=0)[:-9], "is not valid gzip"),
        (gzip.compress(b"TYPE: TSP\n" * 50, mtime=0) + b"tail", "is not valid gzip"),
        (gzip.compress(b"", mtime=0), "is empty"),
    ],
)  # fmt: skip
def test_junk(tmp_path, name, content, what):
    """Whatever the suffix promises."""
    error = refused(put(tmp_path, content, name))
    assert what is None or what in error.what


def test_missing_and_unreadable(tmp_path):
    """No such file, a folder, no rights, impossible names."""
    assert "no such file" in refused(tmp_path / "absent.tsp").what
    assert "is a folder" in refused(tmp_path).what
    path = put(tmp_path, TSP_TEXT, "x.tsp")
    assert refused(tmp_path / "x.tsp" / "y.tsp").hint
    with pytest.raises(InputError, match="no such file"):
        io.read(str(tmp_path / "nul\0.tsp"))
    with pytest.raises(InputError, match=r"cannot be read|no such file"):
        io.read(tmp_path / ("long" * 200))
    path.chmod(0)
    if not os.access(path, os.R_OK):
        assert "cannot be read" in refused(path).what


def test_size_is_limited(tmp_path, monkeypatch):
    """Also of what a small packed file unpacks to."""
    monkeypatch.setattr(io, "MAX_BYTES", 1 << 20)
    path = put(tmp_path, gzip.compress(b"1 " * (1 << 20), mtime=0), "x.tsp.gz")
    assert path.stat().st_size < 10_000
    assert "larger than" in refused(path).what


# ------------------------------------------------------------------- choice of formats


def test_content_beats_suffix_and_wish_beats_content(tmp_path):
    """The problem asked for, then TYPE or keys, then the suffix."""
    assert io.read(put(tmp_path, TSP_TEXT, "x.vrp")).problem == "tsp"
    assert io.read(put(tmp_path, TSP_TEXT, "x.whatever")).problem == "tsp"
    untyped = TSP_TEXT.replace("TYPE: TSP\n", "", 1)
    assert io.read(put(tmp_path, untyped, "x.tsp")).problem == "tsp"
    assert io.read(put(tmp_path, untyped, "x.foo"), "tsp").problem == "tsp"
    assert "unknown file type" in refused(put(tmp_path, untyped, "x.foo")).what
    assert ".tsp" in refused(put(tmp_path, untyped, "x.foo")).hint
    json_text = json.dumps({"coords": [[0, 0], [3, 4]], "metric": "EUC_2D"})
    assert io.read(put(tmp_path, json_text, "x.tsp")).n == 2
    assert "holds a mis, not a tsp" in refused(
        put(tmp_path, "p edge 2 1\ne 1 2\n", "x.col"), problem="tsp"
    ).what  # fmt: skip


def test_ambiguous_files(tmp_path):
    """Two formats that both fit are named."""
    path = put(tmp_path, "p edge 2 1\nTYPE: TSP\n", "x.foo")
    error = refused(path)
    assert "tsplib-tsp" in error.what
    assert "dimacs" in error.what
    assert "--problem" in error.hint
    # A suffix that fits decides, and so does the wish.
    assert "unknown line" in refused(put(tmp_path, "p edge 2 1\nTYPE: TSP\n", "x.col")).what
    assert "unknown line" in refused(path, problem="mis").what
    numbers = put(tmp_path, "1 2\n2 3\n", "x.foo")
    assert "by its suffix" in refused(numbers, problem="mis").hint
    assert "did you mean tsp" in refused_wish(numbers, "tps").hint


def refused_wish(path, problem):
    with pytest.raises(InputError) as caught:
        io.read(path, problem)
    return caught.value


def test_packed(tmp_path):
    """``.gz`` in reading and writing, and packed content without the suffix."""
    path = put(tmp_path, gzip.compress(TSP_TEXT.encode(), mtime=0), "x.tsp.gz")
    plain = io.read(put(tmp_path, TSP_TEXT, "x.tsp"))
    assert io.read(path).digest == plain.digest
    again = put(tmp_path, gzip.compress(TSP_TEXT.encode(), mtime=0), "y.tsp")
    assert io.read(again).digest == plain.digest
    io.write(plain, tmp_path / "z.TSP.GZ")
    assert (tmp_path / "z.TSP.GZ").read_bytes()[:2] == b"\x1f\x8b"
    assert io.read(tmp_path / "z.TSP.GZ").digest == plain.digest
    io.write_solution(plain, [1, 0], tmp_path / "s.tour.gz")
    assert io.read_solution(tmp_path / "s.tour.gz", plain) == [1, 0]


def test_every_problem_has_a_file_format():
    """A problem that cannot be stored would be of little use."""
    loaded = [entry.load() for entry in formats]
    for entry in problems:
        cls = entry.load()
        own = [f for f in loaded if f.problem == entry.name and f.write and f.read_solution]
        assert own or cls.required() <= cls.schema().keys()
    suffixes = [s for f in loaded for s in f.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(s == s.lower() and s.startswith(".") for s in suffixes)


def test_imports_stay_light():
    """Reading a file needs numpy and scipy, nothing heavier."""
    code = (
        "import sys; from nco.instances import io; from nco.instances.registry import formats;"
        "[e.load() for e in formats];"
        "heavy = {'torch', 'pyscipopt', 'ortools', 'pyvrp', 'matplotlib', 'numba', 'highspy'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------- writing


def test_writes_are_atomic(tmp_path):
    """A failure leaves the old file as it was, and nothing else."""
    path = put(tmp_path, "old", "x.tsp")
    with pytest.raises(InputError, match="asymmetric"):
        io.write(TSP(matrix=[[0, 1], [2, 0]]), path)
    assert path.read_text() == "old"

    def fail():
        with atomic_write(path) as file:
            file.write("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.tsp"]
    io.write(TSP(coords=[[0, 0]]), path)
    assert "DIMENSION: 1" in path.read_text()
    assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~current_umask())


def test_a_file_that_is_there_keeps_its_rights(tmp_path):
    path = tmp_path / "a.txt"
    path.touch(mode=0o600)
    with atomic_write(path) as file:
        file.write("private")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("private", 0o600)


def current_umask():
    value = os.umask(0)
    os.umask(value)
    return value


def test_links_and_pipes_stay_what_they_are(tmp_path):
    """Written through, never replaced; and nothing waits for a pipe."""
    instance = TSP(coords=[[0, 0]])
    target, link, pipe = (tmp_path / name for name in ("x.tsp", "link.tsp", "pipe.tsp"))
    link.symlink_to("x.tsp")
    io.write(instance, link)
    assert link.is_symlink()
    assert io.read(target).digest == instance.digest
    os.mkfifo(pipe)
    assert "is a device or a pipe" in refused(pipe).what
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    io.write(instance, pipe)
    assert os.read(reader, 1 << 16) == target.read_bytes()
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(InputError, match="cannot be written"), atomic_write("/dev/full") as file:
        file.write("x")


def test_unwritable(tmp_path):
    """Missing folders, folders as files, unknown suffixes."""
    instance = TSP(coords=[[0, 0]])
    for path, what in (
        (tmp_path / "no" / "x.tsp", "cannot be written"),
        (tmp_path / "x.foo", "no tsp format has the suffix .foo"),
        (tmp_path / "x", "no tsp format has the suffix (none)"),
    ):
        with pytest.raises(InputError) as caught:
            io.write(instance, path)
        assert what in caught.value.what
        assert caught.value.hint
    (tmp_path / "d.tsp").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        io.write(instance, tmp_path / "d.tsp")
    with pytest.raises(InputError, match="cannot be written"):
        io.write_solution(instance, [0], tmp_path / "no" / "x.tour")
    assert [p.name for p in tmp_path.iterdir()] == ["d.tsp"]


# --------------------------------------------------------------------------- solutions


INSTANCES = {
    "nodes": TSP(coords=[[0, 0], [3, 4], [0, 4]]),
    "items": Knapsack(values=[1, 2], weights=[1, 2], capacity=2),
    "sets": MIS(edges=[[0, 1]], weights=[1, 1]),
    "columns": MIP(c=[1.0, 2.0], A=[[1.0, 1.0]], row_upper=[1.0]),
}


@pytest.mark.parametrize("form", INSTANCES)
@pytest.mark.parametrize(
    "text",
    ['"x"', "7", "null", "[[1]]", "[1.5]", '["a"]', "[true]", "[null]", "{}", '{"x0": "a"}',
     '{"solution": 5}', '{"x0": true}', "[99999999999999999999999]", "[1, 2", '{"x0": NaN}'],
)  # fmt: skip
def test_json_solutions_of_the_wrong_form(tmp_path, form, text):
    """Refused, or a solution whose violations can be told."""
    instance = INSTANCES[form]
    path = put(tmp_path, text, "s.json")
    try:
        solution = io.read_solution(path, instance)
    except InputError:
        return
    assert isinstance(instance.violations(solution), list)
    assert isinstance(solution, dict if form == "columns" else list)


def test_results_are_solutions(tmp_path):
    """What solve --json writes can be checked and warm-started from."""
    instance = INSTANCES["nodes"]
    result = Result.of(instance, [0, 2, 1], solver="hand", seconds=0.0, stopped=Stop.FINISHED)
    path = put(tmp_path, result.to_json(), "r.json")
    assert io.read_solution(path, instance) == [0, 1, 2]
    assert io.stated_cost(path, instance) == instance.objective([0, 1, 2])
    renamed = put(tmp_path, result.to_json(), "r.tour")
    assert io.read_solution(renamed, instance) == [0, 1, 2]
    assert "is a result, not an instance" in refused(path).what
    assert io.stated_cost(put(tmp_path, "[0, 1, 2]", "p.json"), instance) is None
    assert io.stated_cost(put(tmp_path, "1 2 3", "p.tour"), instance) is None


@pytest.mark.parametrize("form", INSTANCES)
def test_solution_round_trip(tmp_path, form):
    """In the problem's own form and as JSON."""
    instance = INSTANCES[form]
    solution = {"nodes": [2, 0, 1], "items": [1], "sets": [0], "columns": {"x0": 0.5}}[form]
    for name in ("s.json", "s.own"):
        io.write_solution(instance, solution, tmp_path / name)
        assert io.read_solution(tmp_path / name, instance) == solution


def test_metric_override(tmp_path):
    """Another metric, without the reference that belonged to the old one."""
    instance = TSP(coords=[[0, 0], [1, 1], [1, 2]], metric="EUC_2D", ref_cost=3.0)
    exact = io.with_metric(instance, "exact")
    assert (exact.metric, exact.ref_cost) == ("exact", None)
    assert exact.objective([0, 1, 2]) == pytest.approx(1 + 2**0.5 + 5**0.5)
    many = Batch.of([instance, instance])
    assert io.with_metric(many, "CEIL_2D")[1].objective([0, 1, 2]) == 2 + 1 + 3
    for unfit in (instance, many):
        with pytest.raises(ValueError, match="coords have 2 columns"):
            io.with_metric(unfit, "EUC_3D")
    with pytest.raises(ValueError, match="no coordinates"):
        io.with_metric(TSP(matrix=np.zeros((2, 2))), "exact")
    assert "no coordinates" in refused(
        put(tmp_path, "1 2\n1 2\n", "x.kp"), metric="exact"
    ).what  # fmt: skip


@pytest.mark.parametrize("other", [io.silenced, captured])
def test_two_threads_that_silence_at_once_bring_the_output_back(other, capfd):
    inside = threading.Event()

    def first():
        with io.silenced():
            inside.set()
            time.sleep(0.05)

    def second():
        inside.wait()
        with other():
            time.sleep(0.1)

    workers = [threading.Thread(target=work) for work in (first, second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_what_is_captured_while_silent_is_kept_within(capfd):
    with io.silenced(), captured() as text:
        os.write(1, b"inner")
    os.write(1, b"outer")
    assert (text, capfd.readouterr().out) == (["inner"], "outer")


def test_whole_numbers_of_too_many_digits_are_one_line(tmp_path):
    path = put(tmp_path, "[1, " + "9" * 5000 + "]", "s.json")
    with pytest.raises(InputError, match=r"s\.json: a whole number has too many digits"):
        io.read_solution(path, TSP(coords=[[0, 0], [1, 1]]))
