"""The other commands: check, info, convert, generate, plot, list, bench, demo."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nco import Batch, api, examples, problems, read, solvers
from nco.cli.app import COMMANDS
from nco.cli.bench import _plan as plan_of
from nco.cli.plot import _results as results_of
from nco.mip import balans_package

PNG = b"\x89PNG"


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


# -------------------------------------------------------------------------------- check


def test_check_of_a_published_solution(nco, here):
    answer = nco("check", "X-n101-k25.vrp", "X-n101-k25.sol")
    assert answer.code == 0
    assert answer.out == "X-n101-k25: feasible, objective 27591\n"


def test_check_names_violations(nco, here):
    text = (here / "X-n101-k25.sol").read_text().splitlines()
    (here / "less.sol").write_text("\n".join(text[1:]) + "\n")
    answer = nco("check", "X-n101-k25.vrp", "less.sol")
    assert answer.code == 1
    assert "infeasible" in answer.out
    assert "missing" in answer.out
    row = json.loads(nco("check", "X-n101-k25.vrp", "less.sol", "--json").out)
    assert row["feasible"] is False
    assert row["objective"] is None
    assert row["violations"]


def test_check_finds_a_false_claim(nco, here):
    text = (here / "X-n101-k25.sol").read_text().replace("27591", "27000")
    (here / "false.sol").write_text(text)
    answer = nco("check", "X-n101-k25.vrp", "false.sol")
    assert answer.code == 1
    assert "27591" in answer.out
    assert "states 27000" in answer.out


def test_check_of_a_model_finds_a_false_claim(nco, here):
    (here / "a.lp").write_text("Minimize\n obj: 2 x + 3\nSubject To\n c: x >= 1\nEnd\n")
    for stated, code in (("5", 0), ("4", 1)):
        (here / "a.sol").write_text(f"objective value: {stated}\nx 1\n")
        assert nco("check", "a.lp", "a.sol").code == code
    assert "states 4" in nco("check", "a.lp", "a.sol").out


@pytest.mark.parametrize("text", ["", "\x00\x01", "[1, 2", "nonsense here"])
def test_check_of_what_is_no_solution(nco, here, one_error, text):
    (here / "bad.sol").write_text(text)
    answer = nco("check", "X-n101-k25.vrp", "bad.sol")
    assert answer.code == 2
    assert one_error(answer.err)
    assert "bad.sol" in answer.err


def test_check_of_the_results_of_a_batch(nco, here, one_error):
    """By their digests; also some of one file's among others."""
    nco("generate", "tsp", "--n", "8", "--count", "3", "--seed", "1", "--out", "set.npz")
    nco("solve", "set.npz", "berlin52.tsp", "-s", "greedy", "-t", "1", "--out", "all.jsonl", "-q")
    answer = nco("check", "set.npz", "all.jsonl")
    assert (answer.code, answer.out.count("feasible, objective")) == (0, 3)
    answer = nco("check", "berlin52.tsp", "all.jsonl")
    assert (answer.code, answer.out.count("feasible, objective")) == (0, 1)
    rows = rows_of((here / "all.jsonl").read_text())
    rows[1]["objective"] *= 2
    rows[2]["solution"] = [0, 1]
    (here / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = nco("check", "set.npz", "bad.jsonl", "--json")
    assert answer.code == 1
    checked = [(row["feasible"], row["truthful"]) for row in rows_of(answer.out)]
    assert checked == [(True, True), (True, False), (False, True)]
    rows[0]["solution"] = None
    (here / "none.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for args, text in [
        (("set.npz", "none.jsonl"), "none.jsonl:1: not a result: it has no solution"),
        (("er60.col", "all.jsonl"), "holds no result"),
        (("set.npz", "set.npz"), "set.npz"),
        (("set.npz", "berlin52.tsp"), "not a result"),
        (("set.npz", "all.jsonl", "--evaluation", "strong"), "one evaluation only"),
    ]:
        answer = nco("check", *args)
        assert (answer.code, one_error(answer.err)) == (2, True)
        assert text in answer.err


# --------------------------------------------------------------------------------- info


def test_info_of_an_instance(nco, here):
    values = json.loads(nco("info", "A-n32-k5.vrp", "--json").out)
    assert values["problem"] == "cvrp"
    assert values["n"] == 31
    assert values["metric"] == "EUC_2D"
    assert values["digest"] == read("A-n32-k5.vrp").digest
    assert values["fields"]["demands"]["shape"] == [32]
    assert "pyvrp" in values["solvers"]
    assert "savings" in values["solvers"]
    shown = nco("info", "A-n32-k5.vrp").out
    assert "EUC_2D" in shown
    assert "32 x 2" in shown


def test_info_bounds(nco, here):
    values = json.loads(nco("info", "strong200.kp", "--json").out)
    assert 66839 <= values["bound"] <= 67000


def test_info_of_a_batch(nco, here):
    np.savez("batch.npz", coords=np.random.default_rng(0).random((4, 6, 2)))
    values = json.loads(nco("info", "batch.npz", "--json").out)
    assert values["instances"] == 4
    assert values["n"] == 6


# ------------------------------------------------------------------ convert and generate


def test_convert_keeps_the_instance(nco, here):
    answer = nco("convert", "A-n32-k5.vrp", "a.json")
    assert (answer.code, answer.out) == (0, "a.json\n")
    assert read("a.json").digest == read("A-n32-k5.vrp").digest


def test_convert_to_a_model_keeps_the_optimum(nco, here):
    assert nco("convert", "er60.col", "er60.lp").code == 0
    args = ("--solver", "highs", "--time-limit", "30", "--json")
    assert rows_of(nco("solve", "er60.lp", *args).out)[0]["objective"] == 19


def test_convert_of_a_batch_numbers_files(nco, here):
    coords = np.random.default_rng(0).random((3, 6, 2))
    np.savez("batch.npz", coords=coords)
    answer = nco("convert", "batch.npz", "one.json")
    assert answer.out.split() == ["one-000.json", "one-001.json", "one-002.json"]
    assert read("one-001.json").digest == read("batch.npz")[1].digest


def test_convert_of_a_batch_to_models(nco, here):
    np.savez("batch.npz", coords=np.random.default_rng(0).random((2, 5, 2)))
    answer = nco("convert", "batch.npz", "one.mps")
    assert (answer.code, answer.out.split()) == (0, ["one-000.mps", "one-001.mps"])
    assert read("one-001.mps").problem == "mip"


def test_convert_of_a_batch_to_an_unfit_metric(nco, here, one_error):
    np.savez("batch.npz", coords=np.random.default_rng(0).random((3, 6, 2)))
    answer = nco("convert", "batch.npz", "new.npz", "--metric", "EUC_3D")
    assert (answer.code, one_error(answer.err)) == (2, True)
    assert "batch.npz: coords have 2 columns" in answer.err
    assert not (here / "new.npz").exists()


def test_convert_to_an_unknown_format(nco, here, one_error):
    answer = nco("convert", "A-n32-k5.vrp", "a.xyz")
    assert (answer.code, one_error(answer.err)) == (2, True)
    assert ".vrp" in answer.err
    assert not (here / "a.xyz").exists()


def test_generate_one_and_many(nco, here):
    args = ("generate", "tsp", "--n", "9", "--seed", "1", "--distribution", "clustered")
    assert nco(*args, "--out", "one.npz").code == 0
    one = read("one.npz")
    assert (one.problem, one.n) == ("tsp", 9)
    assert nco(*args, "--count", "3", "--out", "many.npz").code == 0
    many = read("many.npz")
    assert isinstance(many, Batch)
    assert len({i.digest for i in many}) == 3
    assert nco(*args, "--count", "3", "--out", "again.npz").code == 0
    assert [i.digest for i in read("again.npz")] == [i.digest for i in many]
    assert nco(*args, "--count", "2", "--out", "t.json").out.split() == ["t-000.json", "t-001.json"]


def test_generate_presets(nco, here):
    args = ("generate", "cvrp", "--n", "100", "--preset", "bq", "--out", "x.json")
    assert nco(*args).code == 0
    assert read("x.json").capacity == 50


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("tps", "--n", "5"), "did you mean tsp?"),
        (("tsp", "--n", "0"), "n = 0"),
        (("tsp", "--n", "5", "--distribution", "cluster"), "clustered"),
        (("tsp", "--n", "5", "--count", "0"), "count"),
        (("tsp", "--n", "5", "--count", "1" + 18 * "0"), "cannot generate tsp"),
        (("tsp", "--n", "5", "--seed", "-1"), "seed"),
        (("tsp", "--n", "5", "--param", "colour=red"), "colour"),
        (("tsp", "--n", "5", "--param", "distribution=clustered"), "give --distribution"),
        (("tsp", "--n", "5", "--param", "seed=3"), "give --seed"),
        (("tsp", "--n", "5", "--param", "count=3"), "give --count"),
        (("tsp", "--n", "5", "--param", "problem=tsp"), "name it first"),
        (("tsp",), "--n"),
    ],
)
def test_generate_refuses(nco, here, one_error, args, text):
    answer = nco("generate", *args, "--out", "x.json")
    assert answer.code == 2
    assert one_error(answer.err)
    assert text in answer.err
    assert not (here / "x.json").exists()


# --------------------------------------------------------------------------------- plot


def test_pictures_tell_settings_of_one_solver_apart(nco, here):
    nco("bench", "berlin52.tsp", "-s", "greedy", "-t", "1", "-o", "r.jsonl")
    row = json.loads((here / "r.jsonl").read_text())
    specs = ["greedy", "greedy:a=1"]
    (here / "r.jsonl").write_text("".join(json.dumps(row | {"spec": s}) + "\n" for s in specs))
    assert [result.solver for result in results_of(here / "r.jsonl")[0]] == specs


def test_plot_of_a_solution_and_of_results(nco, here):
    assert nco("plot", "X-n101-k25.vrp", "X-n101-k25.sol", "--out", "x.png").out == "x.png\n"
    assert (here / "x.png").read_bytes().startswith(PNG)
    nco("solve", "berlin52.tsp", "er60.col", "-s", "greedy", "-t", "1", "-o", "r.jsonl")
    assert nco("plot", "r.jsonl", "--out", "gap.svg").code == 0
    assert "<svg" in (here / "gap.svg").read_text()
    (here / "one.jsonl").write_text((here / "r.jsonl").read_text().splitlines()[0])
    assert nco("plot", "one.jsonl", "--kind", "convergence", "--out", "c.png").code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("X-n101-k25.vrp", "--out", "x.gif"),
        ("X-n101-k25.vrp", "--out", "/proc/x.png"),
        ("p0548.mps.gz", "--out", "x.png"),
        ("ftv47.atsp", "--out", "x.png"),
        ("X-n101-k25.vrp", "bad.sol", "--out", "x.png"),
        ("X-n101-k25.vrp", "--kind", "gap", "--out", "x.png"),
        ("none.jsonl", "--out", "x.png"),
        ("two.jsonl", "--kind", "convergence", "--out", "x.png"),
        ("two.jsonl", "--kind", "speed", "--out", "x.png"),
        ("X-n101-k25.vrp",),
        ("X-n101-k25.vrp", "X-n101-k25.sol", "--kind", "gap", "--out", "x.png"),
        (".", "--kind", "gap", "--out", "x.png"),
        ("two.jsonl", "X-n101-k25.sol", "--out", "x.png"),
    ],
)
def test_plot_refuses(nco, here, one_error, args):
    (here / "bad.sol").write_text("Route #1: 1 2 3\nCost 5\n")
    nco("solve", "berlin52.tsp", "er60.col", "-s", "greedy", "-t", "1", "-o", "two.jsonl")
    answer = nco("plot", *args)
    assert answer.code == 2
    assert one_error(answer.err)
    assert not list(here.glob("x.*"))


# --------------------------------------------------------------------------------- list


def test_list_names_everything(nco):
    assert set(problems.names()) <= {
        row["name"] for row in rows_of(nco("list", "problems", "--json").out)
    }
    rows = {row["name"]: row for row in rows_of(nco("list", "solvers", "--json").out)}
    assert list(rows) == solvers.names()
    assert rows["greedy"]["installed"] == "yes"
    assert "tsp" in rows["greedy"]["problems"]
    assert "mip" in rows["scip"]["problems"]
    assert {row["name"] for row in rows_of(nco("list", "extras", "--json").out)} >= {"lkh", "ray"}
    for kind in ("formats", "operators", "weights", "policies"):
        assert nco("list", kind).code == 0
    assert "TSP100 greedy, 8 views 0.74 %" in " ".join(nco("list", "weights").out.split())
    for row in rows_of(nco("list", "weights", "--json").out):
        assert row["measured"], row["name"]
        assert row["labels"], row["name"]
        assert row["licence"] == "Apache-2.0"
    for kind in ("policies", "dividers"):
        rows = {row["name"]: row for row in rows_of(nco("list", kind, "--json").out)}
        assert "travelling salesman" in rows["tsp"]["description"]
        assert rows.keys() >= {"tsp", "cvrp", "knapsack", "mis"}
    assert "validation MAE 0.0025" in " ".join(nco("list", "weights").out.split())
    overview = nco("list").out
    assert "problems" in overview
    assert "pyvrp" in overview


def test_list_says_what_a_solver_lacks(nco, monkeypatch):
    monkeypatch.delenv(balans_package.INTERPRETER, raising=False)
    monkeypatch.setattr(balans_package, "find_spec", lambda name: None)
    rows = {row["name"]: row for row in rows_of(nco("list", "solvers", "--json").out)}
    assert rows["balans-package"]["problems"] == []
    assert "nco[bench]" in rows["balans-package"]["installed"]


def test_list_of_an_unknown_kind(nco, one_error):
    answer = nco("list", "solver")
    assert (answer.code, one_error(answer.err)) == (2, True)
    assert "solvers" in answer.err


# ------------------------------------------------------------------------ bench and demo


def test_bench_measures_and_resumes(nco, here):
    args = ("bench", "berlin52.tsp", "--solver", "greedy", "--time-limit", "1")
    references = ("--references", str(examples.FOLDER / "references.csv"))
    answer = nco(*args, *references, "--out", "rows.jsonl")
    assert answer.code == 0
    assert "greedy" in answer.out
    rows = rows_of((here / "rows.jsonl").read_text())
    assert rows[0]["reference"] == 7542
    again = nco(*args, *references, "--out", "rows.jsonl")
    assert again.err == ""
    assert (here / "rows.jsonl").read_text().count("\n") == 1
    assert "greedy" in nco("bench", "--show", "--out", "rows.jsonl").out
    wide = nco("bench", "--show", "--out", "rows.jsonl", "--by", "n", "--wide").out
    assert "greedy 1 s" in " ".join(wide.split())
    assert wide.split()[-4] == "52"
    assert nco("bench", "--show", "--out", "rows.jsonl", "--choices", "auto.json").code == 0
    assert json.loads((here / "auto.json").read_text())[0]["problem"] == "tsp"


def test_bench_with_failed_runs_ends_with_code_1(nco, here, one_error):
    """All runs are finished and shown; a run that is done again counts once."""
    solvers = ("--solver", "bq:weights=none", "--solver", "nearest-neighbor")
    answer = nco("bench", "berlin52.tsp", *solvers, "--time-limit", "1", "--out", "rows.jsonl")
    assert answer.code == 1
    assert "nearest-neighbor" in answer.out
    last = answer.err.splitlines()[-1]
    assert last.startswith("nco: error: 1 of 2 runs failed, first berlin52 bq:weights=none: ")
    assert last.count("none") == 2
    shown = nco("bench", "--show", "--out", "rows.jsonl")
    assert (shown.code, one_error(shown.err)) == (1, True)
    failed, done = rows_of((here / "rows.jsonl").read_text())
    assert "error" in failed
    with (here / "rows.jsonl").open("a") as file:
        file.write(json.dumps(done | {"key": failed["key"]}) + "\n")
    shown = nco("bench", "--show", "--out", "rows.jsonl")
    assert (shown.code, shown.err) == (0, "")


def test_bench_without_files(nco, here, one_error):
    answer = nco("bench")
    assert (answer.code, one_error(answer.err)) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--time-limit", "nan"], ["--time-limit", "inf"], ["--seed", "-1"], ["--first", "-1"],
        ["--first", "0"], ["--plan", "x"],
        ["--by", "colour"], ["--out", "folder"], ["--out", "binary"], ["--references", "binary"],
        ["--references", "folder"], ["--choices", "folder"], ["--choices", "none/auto.json"],
        ["--solver", "greedy:colour=1"], ["--show"],
        ["--show", "--out", "none.jsonl"], ["--show", "--out", "binary"], ["--show", "--out", "{}"],
    ],
)  # fmt: skip
def test_bench_refuses_before_it_measures(nco, here, one_error, words):
    (here / "folder").mkdir()
    (here / "binary").write_bytes(b"\x89\x00\xff")
    (here / "{}").write_text("{}\n")
    answer = nco("bench", "berlin52.tsp", "--solver", "greedy", "--out", "rows.jsonl", *words)
    assert (answer.code, one_error(answer.err), answer.out) == (2, True, "")
    assert not (here / "rows.jsonl").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc")
def test_bench_ends_its_runs_with_sigterm(nco_process, here):
    """And writes no rows of them."""
    process = nco_process(
        "bench", "berlin52.tsp", "-s", "pyvrp", "-t", "300", "--out", "rows.jsonl", "--jobs", "2"
    )
    mine = Path(f"/proc/{process.pid}/task")
    while not (found := [c for t in mine.iterdir() for c in (t / "children").read_text().split()]):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode == 130
    assert not any(Path(f"/proc/{child}").exists() for child in found)
    assert not (here / "rows.jsonl").exists()


def test_bench_tables_count_failures_and_order_numbers(nco, here):
    rows = [
        {
            "key": f"{n}{seed}", "digest": str(n), "instance": "a", "problem": "tsp", "n": n,
            "spec": "greedy", "time_limit": 1.0, "seed": seed, "seconds": 0.5,
            **({"error": "lost"} if seed else {"objective": 9.0, "sense": "minimize"}),
        }
        for n in (1000, 52)
        for seed in (0, 1)
    ]  # fmt: skip
    (here / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in ([], ["--wide"]):
        answer = nco("bench", "--show", "--out", "rows.jsonl", "--by", "n", *words)
        assert answer.out.index("52") < answer.out.index("1000")
    assert answer.out.count("(1 of 2)") == 2


def test_bench_takes_two_stage_instances_for_no_plans(tmp_path, monkeypatch):
    """Nor a pattern."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.toml").write_text('model = "m.mps"\nsecond_stage = ["y*"]\n')
    (tmp_path / "plan.toml").write_text('files = ["b.tsp"]\n')
    for file, data, files in [
        ("own/a.toml", "", ("own/a.toml",)),
        ("own/*.toml", "", ("own/*.toml",)),
        ("a.toml", "own", ("own/a.toml",)),
        ("plan.toml", "own", ("own/b.tsp",)),
    ]:
        assert plan_of([file], "", Path(data), *[None] * 5).files == files


def test_demo_draws_every_example(nco, here):
    answer = nco("demo", "--time-limit", "0.3", "--out", "pictures")
    assert answer.code in (0, 1)
    pictures = {p.name for p in (here / "pictures").iterdir()}
    assert "berlin52.png" in pictures
    for name in examples.references():
        assert name in answer.out


# ------------------------------------------------------------------------------ the rest


def test_help_names_every_command_and_option(nco):
    shown = nco("--help").out
    for command in COMMANDS:
        assert command in shown
        assert nco(command, "--help").code == 0
    assert nco().out == shown


def test_version(nco):
    from nco import __version__

    assert nco("--version").out == f"nco {__version__}\n"


def test_unknown_command_and_option(nco, one_error):
    answer = nco("slove")
    assert (answer.code, one_error(answer.err)) == (2, True)
    assert "did you mean solve?" in answer.err
    answer = nco("--jsn")
    assert (answer.code, one_error(answer.err)) == (2, True)


def test_internal_errors_are_one_line(nco, here, one_error, monkeypatch):
    from nco import inspection

    def broken(*args, **options):
        raise KeyError("lost")

    monkeypatch.setattr(inspection, "check", broken)
    answer = nco("check", "X-n101-k25.vrp", "X-n101-k25.sol")
    assert answer.code == 1
    assert one_error(answer.err)
    assert "KeyError" in answer.err
    assert "-vv" not in answer.err  # there is none
    monkeypatch.setattr(api, "parse_solver", broken)
    answer = nco("solve", "berlin52.tsp")
    assert one_error(answer.err)
    assert "(-vv shows where)" in answer.err


def test_an_interrupted_command_keeps_its_code():
    """However often Ctrl-C is pressed while the interpreter ends."""
    code = """if True:
        import os, signal, sys
        import nco.cli.app
        from nco.cli import main
        nco.cli.app.run = lambda args: nco.cli.app.INTERRUPTED
        code = main()
        os.kill(os.getpid(), signal.SIGINT)
        sys.exit(code)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=200)
    assert done.returncode == 130, done.stderr
