"""The benchmark runner and the table it makes."""

import json
import signal
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nco import bench
from nco.instances import io
from nco.instances.core import Budget, InputError
from nco.instances.knapsack import Knapsack
from nco.instances.registry import solvers
from nco.instances.tsp import TSP


@pytest.fixture
def files(tmp_path):
    io.write(TSP.generate(8, seed=1), tmp_path / "a.tsp")
    io.write(Knapsack.generate(9, seed=1), tmp_path / "b.kp")
    return tmp_path


def test_runs_resume_and_keep_their_rows(files):
    """A second call runs nothing; a torn last line is run again."""
    plan = bench.Plan(
        files=(str(files / "a.tsp"), str(files / "b.kp")),
        solvers=("nearest-neighbor", "greedy"),
        time_limits=(5.0,),
    )
    out = files / "rows.jsonl"
    seen = []
    rows = bench.run(plan, out, jobs=2, on_row=lambda *call: seen.append(call))
    assert len(rows) == 4
    assert [call[1] for call in seen] == [1, 2, 3, 4]
    assert sum("unsupported" in row for row in rows) == 1
    assert all(row["environment"]["cpu"] for row in rows)
    text = out.read_text()
    assert bench.run(plan, out) == rows
    assert out.read_text() == text
    out.write_text(text[:-40])
    again = bench.run(plan, out)
    assert [r["key"] for r in again] == [r["key"] for r in rows]
    assert len(bench.load_rows(out)) == 4


def done(code, out="", err=""):
    """What a child process that runs nothing gives."""
    return lambda *args, **options: subprocess.CompletedProcess(args, code, out, err)


def test_interrupted_runs_are_not_done(files, monkeypatch):
    """Neither is kept, nor is another begun; one in the file is run again."""
    plan = bench.Plan(files=(str(files / "a.tsp"),), solvers=("greedy", "nearest-neighbor"))
    out = files / "rows.jsonl"
    tasks = bench._tasks(plan)
    made = [
        {"key": t.key, "spec": t.solver, "instance": "a", "n": 8, "time_limit": 10.0, "seed": 0}
        for t in tasks
    ]
    text = json.dumps(made[0] | {"stopped": "interrupted"}) + "\n"
    out.write_text(text)
    seen = []

    def run(task, core, solutions, children):
        seen.append(task.solver)
        return next(r for r in made if r["key"] == task.key) | {"stopped": stopped}

    monkeypatch.setattr(bench, "_run_task", run)
    stopped = "interrupted"
    assert bench.run(plan, out) == []
    assert (seen, out.read_text()) == (["greedy"], text)
    stopped = "time"
    assert [r["stopped"] for r in bench.run(plan, out)] == ["time", "time"]


def test_a_run_that_ctrl_c_kills_is_interrupted(files, monkeypatch):
    """Before it can catch it, say."""
    (task,) = bench._tasks(bench.Plan(files=(str(files / "a.tsp"),), solvers=("greedy",)))
    children = bench._Children()
    monkeypatch.setattr(children, "call", done(-signal.SIGINT, err="KeyboardInterrupt\n"))
    assert bench._run_task(task, None, False, children)["stopped"] == "interrupted"


def test_runs_that_are_ended_are_interrupted(files, monkeypatch):
    """Those under way, and those that begin just then; SIGTERM to the whole does this."""
    plan = bench.Plan(files=(str(files / "a.tsp"),), solvers=("or-opt",), time_limits=(300.0,))
    (task,) = bench._tasks(plan)
    children = bench._Children()
    with ThreadPoolExecutor(1) as pool:
        row = pool.submit(bench._run_task, task, None, False, children)
        while not children._running:
            assert not row.done()
        children.end()
    assert row.result()["stopped"] == "interrupted"
    assert bench._run_task(task, None, False, children)["stopped"] == "interrupted"
    assert not children._running


@pytest.mark.parametrize(
    ("jobs", "pin", "cores"), [(2, True, [0, 1]), (3, True, [None]), (2, False, [None])]
)
def test_runs_have_cores_of_their_own_or_none(files, monkeypatch, jobs, pin, cores):
    """Two that share a core would be measured at half its speed."""
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    plan = bench.Plan(files=(str(files / "a.tsp"),), solvers=("greedy",), seeds=(0, 1, 2))
    used = []

    def run(task, core, solutions, children):
        used.append(core)
        return {"key": task.key, "spec": task.solver}

    monkeypatch.setattr(bench, "_run_task", run)
    bench.run(plan, files / "rows.jsonl", jobs=jobs, pin=pin)
    assert set(used) <= set(cores)


@pytest.mark.parametrize(
    ("spec", "text"),
    [("greedy:colour=1", "colour"), ("greedy:time_limit=1", "time_limit"), ("bq:beam=0", "beam")],
)
def test_specifications_are_checked_before_anything_runs(files, spec, text):
    """Limits and seeds are no parameters of a solver: the plan has them."""
    with pytest.raises(InputError, match=text):
        bench.run(bench.Plan(files=(str(files / "a.tsp"),), solvers=("greedy", spec)), files / "r")
    assert not (files / "r").exists()


def test_failed_runs_count_for_their_problem(files, monkeypatch):
    """A solver that crashes is no choice for it."""
    instance = io.read(files / "a.tsp")
    result = solvers.load("greedy")().solve(instance, Budget())
    runs = iter([done(0, result.to_json()), done(1, err="crashed\n")])
    monkeypatch.setattr(bench._Children, "call", lambda *a, **k: next(runs)(*a, **k))
    plan = bench.Plan(files=(str(files / "a.tsp"),), solvers=("greedy",), seeds=(0, 1))
    rows = bench.run(plan, files / "rows.jsonl")
    assert [r["problem"] for r in rows] == ["tsp", "tsp"]
    assert rows[1]["error"] == "crashed"
    (choice,) = bench.choices(rows)
    assert (choice["problem"], choice["solvers"]) == ("tsp", [])


def row(instance, spec, objective, n=100, limit=1.0, **more):
    return {
        "key": f"{instance}/{spec}", "digest": instance, "instance": instance, "problem": "tsp",
        "spec": spec, "objective": objective, "sense": "minimize", "n": n, "time_limit": limit,
        "seconds": 1.1, "reference": 100.0, **more,
    }  # fmt: skip


def test_table_and_choices():
    """Mean and worst gaps per solver; the choice table leaves out what failed."""
    rows = [
        row("a", "x", 101.0), row("b", "x", 105.0), row("a", "y", 100.0), row("b", "y", None),
    ]  # fmt: skip
    best, other = bench.summarize(rows)
    assert (best.solver, best.runs, best.solved, best.gap, best.worst) == ("x", 2, 2, 3.0, 5.0)
    assert best.overshoot == pytest.approx(0.1)
    assert (other.solver, other.solved) == ("y", 1)
    assert bench.choices(rows) == [
        {"problem": "tsp", "n": 100, "time_limit": 1.0, "solvers": [["x", 3.0, 2, 1.1]]}
    ]


def test_gap_without_reference_is_to_the_best_row():
    """Both senses."""
    rows = [row("a", "x", 90.0, reference=None), row("a", "y", 99.0, reference=None)]
    assert bench.row_gaps(rows) == {"a/x": 0.0, "a/y": pytest.approx(10.0)}
    maximised = [{**r, "sense": "maximize"} for r in rows]
    assert bench.row_gaps(maximised)["a/x"] == pytest.approx(100 * 9 / 99)


@pytest.mark.parametrize(("n", "bucket"), [(1, 1), (52, 32), (99, 100), (400, 316), (10**6, 10**6)])
def test_size_buckets(n, bucket):
    """Half decades."""
    assert bench.size_bucket(n) == bucket


def test_plans_from_toml(tmp_path):
    """Patterns start from the root; unknown keys and sections are named."""
    path = tmp_path / "plan.toml"
    path.write_text('[one]\nfiles = ["a.tsp"]\nsolvers = ["greedy"]\n')
    plan = bench.Plan.from_toml(path, "one", root="/data")
    assert plan.files == ("/data/a.tsp",)
    with pytest.raises(InputError, match="no plan 'two'"):
        bench.Plan.from_toml(path, "two")
    path.write_text('files = ["a.tsp"]\ncolour = 1\n')
    with pytest.raises(InputError, match="unknown key 'colour'"):
        bench.Plan.from_toml(path)
    path.write_text("files = []\n")
    with pytest.raises(InputError, match="files is empty"):
        bench.Plan.from_toml(path)
    path.write_text('files = ["a.tsp"]\n')
    with pytest.raises(InputError, match=r"no plan 'two' \(it has no tables\)"):
        bench.Plan.from_toml(path, "two")


@pytest.mark.parametrize(
    "text",
    ["files = 5", "files = [1]", 'files = "a.tsp"', 'problems = "tsp"', "problems = { a = 1 }",
     'solvers = "greedy"', 'time_limits = ["1"]', "references = [1]"],
)  # fmt: skip
def test_plans_of_wrong_kinds(tmp_path, text):
    """In one line that names the key."""
    path = tmp_path / "plan.toml"
    path.write_text(text if text.startswith("files") else f'files = ["a.tsp"]\n{text}')
    with pytest.raises(InputError, match=f"{text.split()[0]} = .* not understood"):
        bench.Plan.from_toml(path)


PLANS = [
    (path, name)
    for path in sorted((Path(__file__).resolve().parents[1] / "scripts/bench").glob("*.toml"))
    for name in tomllib.loads(path.read_text())
]


@pytest.mark.parametrize(("path", "name"), PLANS, ids=lambda value: getattr(value, "stem", value))
def test_the_plans_of_the_repository_name_solvers_that_there_are(path, name):
    for spec in bench.Plan.from_toml(path, name).solvers:
        solver, params = bench.parse_solver(spec)
        try:
            made = solvers.load(solver)
        except ImportError:
            continue  # an extra that is not installed
        made(**params)


def test_solver_specifications():
    """Values are JSON where they can be."""
    assert bench.parse_solver("auto:plan=lkh") == ("auto", {"plan": "lkh"})
    assert bench.parse_solver("pyvrp:neighbors=20") == ("pyvrp", {"neighbors": 20})
    with pytest.raises(InputError, match="has no value"):
        bench.parse_solver("pyvrp:neighbors")
    with pytest.raises(InputError, match="did you mean pyvrp"):
        bench.parse_solver("pyvpr")


def test_foreign_lines_are_named(tmp_path):
    """Not a result file."""
    path = tmp_path / "rows.jsonl"
    path.write_text("hello\n" + json.dumps({}) + "\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:1: not a result line"):
        bench.load_rows(path)
    path.write_text(json.dumps({}) + "\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:1: not a result line"):
        bench.load_rows(path)
    path.write_bytes(b"\x00\x96\xff")
    with pytest.raises(InputError, match="is not a text file"):
        bench.load_rows(path)


@pytest.mark.parametrize(
    "change",
    [{"time_limits": [float("nan")]}, {"time_limits": [float("inf")]}, {"time_limits": [-1.0]},
     {"seeds": [-1]}, {"seeds": [0.5]}, {"first": 0}, {"first": -1}],
)  # fmt: skip
def test_plans_refuse_what_cannot_be_run(change):
    """Before anything is measured, not once in every row."""
    with pytest.raises(ValueError, match="not understood"):
        bench.Plan(**{"files": ["a.tsp"], **change})


def test_references(tmp_path):
    """An empty cell is unknown; what is no number is named."""
    path = tmp_path / "best.csv"
    path.write_text("name,best_known\na,7542\nb,\n")
    assert bench.read_references([str(path)]) == {"a": 7542.0}
    for text, what in [
        (b"name,best_known\na,7e\n", "best.csv:2: '7e' is not a number"),
        (b"name,best_known\na,7\nb,nan\n", "best.csv:3: 'nan' is not a number"),
        (b"name,best_known\na,inf\n", "best.csv:2: 'inf' is not a number"),
        (b'name,best_known\n"a' + b"a" * 140_000, "best.csv:2: not CSV: "),
        (b"a,b\n1,2\n", "best.csv:2: no name and best_known"),
        (b"\x89\x00\x1a", "is not a text file"),
        (b"", "is empty"),
    ]:
        path.write_bytes(text)
        with pytest.raises(InputError, match=what):
            bench.read_references([str(path)])


def test_rows_of_other_scripts_resume(tmp_path):
    """Rows with keys are stamped, known again, and not glued to a torn line."""
    path = tmp_path / "new" / "rows.jsonl"
    rows = bench.RowFile(path)
    assert "a" not in rows
    row = rows.add("a", {"seconds": 1.0, "versions": {"engine": "2"}})
    assert next(iter(row)) == "key"
    assert row["versions"].keys() == {"engine", "nco"}
    assert row["environment"] == bench.environment()
    assert "a" in rows
    path.write_text(path.read_text() + '{"key": "b", "sec')
    rows = bench.RowFile(path)
    assert "a" in rows
    assert "b" not in rows
    rows.add("b", {"seconds": 2.0})
    assert [r["key"] for r in bench.load_rows(path, {"key", "seconds"})] == ["a", "b"]
    path.write_text(path.read_text().rstrip("\n"))
    bench.RowFile(path).add("c", {"seconds": 3.0})
    assert [r["key"] for r in bench.load_rows(path, {"key", "seconds"})] == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["my notes", '{"key": "a"}\nmy notes', '{"key": "a\n', "[1"])
def test_files_of_something_else_are_left_alone(tmp_path, text):
    """Only a line that begins like a row and has no end is torn."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="not a result line"):
        bench.RowFile(path)
    assert path.read_text() == text
