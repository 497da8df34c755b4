"""``nco label``, ``nco train`` and what they say to bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nco.training import label as label_module
from nco.training.checkpoints import checkpoints, read_checkpoint
from nco.training.labels import read_labels, write_labels

SMALL = [
    "layers=1", "width=16", "heads=2", "ff=16", "batch=8", "held_out=4", "k=6", "warmup=1",
    "bf16=false", "eval_every=4", "log_every=1", "steps=6", "device=cpu",
]  # fmt: skip


def settings(*more):
    return [word for change in (*SMALL, *more) for word in ("--set", change)]


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "tsp.npz"
    rng = np.random.default_rng(0)
    tours = rng.permuted(np.tile(np.arange(10), (30, 1)), axis=1)
    write_labels(path, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=3)
    return path


@pytest.fixture
def run(nco, labels, tmp_path):
    done = nco("train", "tsp", "--data", labels, "--out", tmp_path / "run", *settings(), "-q")
    assert done.code == 0, done.err
    return tmp_path / "run"


def test_from_labels_to_a_solution(nco, here):
    done = nco("label", "knapsack", "--n", 12, "--count", 20, "--seed", 1, "--out", "kp.npz")
    assert (done.code, done.out) == (0, "kp.npz 20\n"), done.err
    done = nco("train", "knapsack", "--data", "kp.npz", "--out", "run", *settings())
    assert (done.code, done.out) == (0, "run\n"), done.err
    assert "step 6: greedy gap" in done.err or "step 6, greedy gap" in done.err
    assert Path("run/curve.png").stat().st_size > 1000
    done = nco("plot", "run", "--out", "again.svg")
    assert (done.code, done.out) == (0, "again.svg\n"), done.err
    nco("generate", "knapsack", "--n", 12, "--out", "x.json")
    done = nco("solve", "x.json", "--solver", "bq", "--param", "weights=run", "-t", 1, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["solver"] == "bq"


def test_a_policy_labels_for_itself(nco, run, tmp_path):
    args = ["label", "tsp", "--expert", "bq", "--weights", run, "--device", "cpu"]
    own = ["-n", 9, "-c", 6, "--effort", 3, "--seed", 2**63 - 1, "-o", tmp_path / "own.npz"]
    done = nco(*args, *own, "-q")
    assert done.code == 0, done.err
    assert len(read_labels(str(tmp_path / "own.npz"))) == 6
    done = nco(*args, "--from", tmp_path / "own.npz", "--effort", 5, "-o", tmp_path / "new.npz")
    assert done.out == f"{tmp_path / 'new.npz'} 6\n", done.err


def test_a_run_is_resumed_only_when_asked(nco, labels, run, tmp_path, one_error):
    again = ["train", "tsp", "--data", labels, "--out", run, *settings("steps=8"), "-q"]
    done = nco(*again)
    assert done.code == 2
    assert "holds a run (go on with --resume" in done.err
    assert one_error(done.err)
    assert nco(*again, "--resume").code == 0
    assert [p.name for p in checkpoints(run)][-1] == "step-000000008"
    # The settings are in the folder.
    assert nco("train", "tsp", "--out", run, "--resume", "--set", "steps=9", "-q").code == 0
    assert [p.name for p in checkpoints(run)][-1] == "step-000000009"


def test_another_problem_starts_from_its_trunk(nco, run, tmp_path):
    done = nco("label", "knapsack", "-n", 10, "-c", 12, "-o", tmp_path / "kp.npz", "-q")
    assert done.code == 0, done.err
    done = nco(
        "train", "knapsack", "--data", tmp_path / "kp.npz", "--out", tmp_path / "kp",
        "--init-from", run, *settings("steps=1"), "-v",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "tensors from" in done.err


def edit_card(path, **changes):
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


WEIGHTS = {
    "of another problem": (
        lambda path: None, "kp", "weights for tsp, not for knapsack",
    ),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-100]), "tsp", "damaged (sha256 differs",
    ),
    "of an unknown architecture": (
        lambda path: edit_card(path, architecture="bq-9"), "tsp", "'bq-9' is not known",
    ),
    "of another format": (
        lambda path: edit_card(path, format=9), "tsp", "weights format 9, this version reads 1",
    ),
    "without a card": (
        lambda path: path.with_suffix(".json").unlink(), "tsp", "its card tsp-v1.json is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WEIGHTS)
def test_bad_weights_are_one_line(what, nco, run, tmp_path, one_error):
    from nco.training.export import export

    path = export(run, tmp_path / "weights", "tsp-v1", licence="MIT", gaps={})
    spoil, kind, text = WEIGHTS[what]
    spoil(path)
    problem = {"kp": "knapsack", "tsp": "tsp"}[kind]
    nco("generate", problem, "--n", 8, "--out", tmp_path / "x.json")
    done = nco("solve", tmp_path / "x.json", "-s", "bq", "-p", f"weights={path}", "-t", 1)
    assert done.code == 2
    assert text in done.err
    assert one_error(done.err)


def test_a_checkpoint_of_another_version_is_refused(nco, labels, run, one_error):
    meta = checkpoints(run)[-1] / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 9}))
    done = nco("train", "tsp", "--out", run, "--resume")
    assert done.code == 2
    assert "checkpoint format 9, this version reads 1" in done.err
    assert one_error(done.err)


def test_a_damaged_checkpoint_is_refused(nco, labels, run, one_error):
    shard = next(checkpoints(run)[-1].glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-9])
    done = nco("train", "tsp", "--out", run, "--resume")
    assert done.code == 2
    assert "is damaged (sha256 differs)" in done.err
    assert one_error(done.err)


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "op", "knapsack"])
def test_labels_that_violate_their_instance_are_refused(nco, problem, tmp_path, one_error):
    tour = np.tile(np.arange(1, 9), (12, 1))
    fields = {
        "tsp": {"tour": np.zeros((12, 8), dtype=int), "coords": np.random.rand(12, 8, 2)},
        "cvrp": {
            "tour": tour, "start": np.tile(np.arange(8) == 0, (12, 1)),
            "coords": np.random.rand(12, 9, 2), "demands": np.tile(np.arange(9), (12, 1)),
            "capacity": np.full(12, 9),
        },
        "op": {
            "tour": tour, "coords": np.random.rand(12, 9, 2), "prizes": np.ones((12, 9)),
            "max_length": np.full(12, 0.1),
        },
        "knapsack": {
            "chosen": np.ones((12, 8), dtype=bool), "values": np.ones((12, 8)),
            "weights": np.ones((12, 8)), "capacity": np.ones(12),
        },
    }[problem]  # fmt: skip
    write_labels(tmp_path / "bad.npz", problem, fields)
    done = nco("train", problem, "-d", tmp_path / "bad.npz", "-o", tmp_path / "run", *settings())
    assert done.code == 2
    assert "bad.npz: label 0 " in done.err
    assert one_error(done.err)


@pytest.mark.parametrize("problem", ["op", "knapsack", "tsp", "cvrp"])
def test_labels_that_leave_nothing_to_decide_are_one_line(problem, nco, tmp_path, one_error):
    fields = {
        "op": {
            "tour": np.zeros((12, 8), dtype=int), "coords": np.random.rand(12, 9, 2),
            "prizes": np.ones((12, 9)), "max_length": np.full(12, 1e-9),
        },
        "knapsack": {
            "chosen": np.zeros((12, 8), dtype=bool), "values": np.ones((12, 8)),
            "weights": np.ones((12, 8)), "capacity": np.zeros(12),
        },
        "tsp": {"tour": np.tile(np.arange(2), (12, 1)), "coords": np.random.rand(12, 2, 2)},
        "cvrp": {
            "tour": np.ones((12, 1), dtype=int), "start": np.ones((12, 1), dtype=bool),
            "coords": np.random.rand(12, 2, 2), "demands": np.ones((12, 2)),
            "capacity": np.full(12, 9),
        },
    }[problem]  # fmt: skip
    write_labels(tmp_path / "x.npz", problem, fields)
    done = nco("train", problem, "-d", tmp_path / "x.npz", "-o", tmp_path / "run", *settings())
    assert done.code == 2
    assert "x.npz: its labels leave nothing to decide" in done.err
    assert one_error(done.err)


def test_labels_of_another_problem_are_refused(nco, labels, tmp_path, one_error):
    done = nco("train", "atsp", "-d", labels, "-o", tmp_path / "run", *settings())
    assert done.code == 2
    assert "labels of tsp, not of atsp" in done.err
    assert one_error(done.err)


@pytest.mark.parametrize("problem", ["atsp", "tsp"])
def test_n_beyond_memory_is_one_line(nco, problem, tmp_path, one_error):
    pytest.importorskip({"atsp": "elkai", "tsp": "fast_tsp"}[problem])
    done = nco("label", problem, "-n", 10**11, "-c", 1, "-o", tmp_path / "x.npz")
    assert done.code == 2
    assert "need" in done.err
    assert "GiB, this machine has" in done.err
    assert one_error(done.err)


def test_a_batch_beyond_memory_is_one_line(nco, labels, tmp_path, one_error):
    done = nco(
        "train", "tsp", "-d", labels, "-o", tmp_path / "run", *settings(f"batch={10**12}"), "-q"
    )
    assert done.code == 2
    assert "out of memory in step 0: use more micro_batches" in done.err
    assert one_error(done.err)


def test_a_loss_that_is_not_finite_names_the_batch(nco, labels, run, one_error):
    before = read_checkpoint(checkpoints(run)[-1])[0]
    done = nco("train", "tsp", "--out", run, "--resume", "--set", "steps=9", "-q",
               "--set", "lr=1e20")  # fmt: skip
    assert done.code == 2
    assert "trained with lr = 0.00075, not 1e+20" in done.err
    fresh = run.with_name("fresh")
    done = nco("train", "tsp", "-d", labels, "-o", fresh, *settings("lr=1e20"), "-q")
    assert done.code == 2
    assert "loss is not finite in the batch of step" in done.err
    assert "nothing was saved yet" in done.err
    assert one_error(done.err)
    after = read_checkpoint(checkpoints(run)[-1])[0]
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_one_line(nco, labels, run, tmp_path, one_error):
    args = ["-d", labels, "-o", tmp_path / "gpu", *settings(), "--device", "cuda"]
    own = ["-n", 5, "-c", 1, "-o", tmp_path / "x.npz", "--weights", run, "--device", "cuda"]
    for done in (nco("train", "tsp", *args), nco("label", "tsp", "-e", "bq", *own)):
        assert done.code == 2
        assert "no CUDA device here" in done.err
        assert one_error(done.err)


def test_outside_of_the_trained_range_it_warns_and_goes_on(nco, run, tmp_path):
    from nco.training.export import export

    path = export(run, tmp_path / "weights", "tsp-v1", licence="MIT", gaps={}, sizes=[5, 20])
    nco("generate", "tsp", "--n", 30, "--out", tmp_path / "x.json")
    done = nco("solve", tmp_path / "x.json", "-s", "bq", "-p", f"weights={path}", "-t", 1)
    assert done.code == 0
    assert "n = 30 is outside of what the policy was trained for: 5..20" in done.err
    # Runs, and what is exported without a range, have that of their labels.
    plain = export(run, tmp_path / "plain", "tsp-v1", licence="MIT", gaps={})
    for weights in (run, plain):
        done = nco("solve", tmp_path / "x.json", "-s", "bq", "-p", f"weights={weights}", "-t", 1)
        assert done.code == 0
        assert "n = 30 is outside of what the policy was trained for: 10..10" in done.err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("label", "mip", "-n", 5, "-c", 1), "no expert at all for mip"),
        (("label", "tsp", "-n", 5, "-c", 1, "-e", "lkh"), "no expert lkh for tsp"),
        (("label", "tsp", "-n", 0, "-c", 1), "n = 0, count = 1, jobs = 1 not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "-j", 0), "--jobs 0 not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "--recipe", "x"), "recipe 'x' for tsp is not known"),
        (("label", "atsp", "-n", 2, "-c", 1), "n = 2: lkh needs at least 3"),
        (("label", "cvrp", "-n", 5, "-c", 1, "--effort", "nan"), "effort nan not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "--effort", "-1"), "effort -1.0 not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "--weights", "x"), "weights are for the expert bq"),
        (("label", "tsp", "-e", "fast-tsp", "--from", "x"), "improved by bq only, not by fast-tsp"),
        (("label", "tsp", "--from", "none.npz", "--weights", "none"), "none: no weights"),
        (("label", "tsp", "-n", 5, "-c", 1, "--minutes", "nan"), "minutes = nan not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "--minutes", "-1"), "minutes = -1 not understood"),
        (("label", "tsp", "-n", 5, "-c", 1, "--views", 8), "views are for the expert bq"),
        (("label", "tsp", "-n", 5, "-c", 1, "-e", "bq", "-j", 2), "jobs = 2 not understood; bq"),
        (("label", "two-stage", "-c", 256, "--from", "x", "-n", 5), "--n: nothing to say"),
        (
            ("label", "capital-budgeting", "-c", 256, "--expert", "bq", "--effort", 0),
            "--expert, --effort: nothing to say",
        ),
        (("label", "capital-budgeting", "-c", -256), "--count -256 not understood"),
        (("train", "two-stage"), "a value network needs one label file"),
        (("train", "two-stage", "-d", "x", "--init-from", "y"), "trained from the start"),
        (("train", "two-stage", "-d", "x", "--device", "tpu"), "'tpu' not understood"),
        (("train", "tsp", "-d", "x", "--set", "weights=abc"), "weights = 'abc' not understood"),
        (("train", "tsp", "--set", "data=5"), "data = 5 not understood; expected str"),
        (("train", "tsp", "--minutes", "nan"), "minutes = nan not understood; at least 0"),
        (("train", "tsp", "--minutes", "-1"), "minutes = -1 not understood; at least 0"),
        (("train", "tsp"), "data is empty"),
        (("train", "mip", "-d", "x"), "there is no policy for problem 'mip'"),
        (("train", "tsp", "-d", "none.npz"), "none.npz: no labels"),
        (("train", "tsp", "--set", "rate=1"), "setting 'rate' is not known"),
        (("train", "tsp", "--set", "lr"), "'lr' not understood; write name=value"),
        (("train", "tsp", "--config", "none.toml"), "none.toml"),
        (("train", "tsp", "--set", "policy.turn=true"), "setting policy.turn is not known; there"),
        (
            ("train", "tsp", "--set", "policy.rotate=False"),
            "policy.rotate = 'False' not understood",
        ),
        (("train", "cvrp", "--set", "teacher.order=3"), "teacher.order = 3 not understood"),
        (("train", "tsp", "--set", "policy=3"), "policy = 3 not understood"),
        (("train", "tsp", "--set", "device=meta"), "device 'meta' not understood, or not there"),
        (("train", "tsp", "-d", "x", "--device", "tpu"), "'tpu' not understood"),
        (("plot", ".", "-o", "x.png"), "is no training run"),
    ],
)
def test_bad_arguments_are_one_line(args, text, nco, here, one_error):
    out = () if args[0] == "plot" else ("--out", "x.npz" if args[0] == "label" else "run")
    done = nco(*args, *out)
    assert done.code == 2
    assert text in done.err
    assert one_error(done.err)


def test_settings_of_another_problem_are_refused(nco, tmp_path, one_error):
    (tmp_path / "x.toml").write_text('problem = "cvrp"\n')
    done = nco("train", "tsp", "--config", tmp_path / "x.toml", "--out", tmp_path / "run")
    assert done.code == 2
    assert "settings for cvrp, not for tsp" in done.err
    assert one_error(done.err)


def killed(command, kills, seed, ready):
    """Run a command again and again, killed at random moments once it is at work."""
    rng = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(kills):
        before = ready()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while ready() == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.2 * rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kills", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_killed_label_makers_go_on_to_the_same_labels(kills, tmp_path, monkeypatch):
    options = {"n": 40, "count": 4000, "seed": 3}
    whole, out = tmp_path / "whole.npz", tmp_path / "labels.npz"
    parts = tmp_path / "labels.npz.parts"
    command = [sys.executable, "-m", "nco", "label", "knapsack", "--jobs", "2", "--out", str(out)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]

    def ready():
        return out.exists(), len(list(parts.glob("0*.npz"))) if parts.exists() else 0

    killed(command, kills, seed=kills, ready=ready)
    label_module.label("knapsack", whole, **options)
    assert read_labels(str(out)).digest == read_labels(str(whole)).digest
    assert not parts.exists()


def test_a_killed_training_of_the_command_line_goes_on(labels, tmp_path):
    def command(out):
        return [
            sys.executable, "-m", "nco", "train", "tsp", "--data", str(labels), "--out", str(out),
            "--resume", *settings("steps=120", "checkpoint_every=0.0"),
        ]  # fmt: skip

    killed(command(tmp_path / "a"), 3, seed=1, ready=lambda: checkpoints(tmp_path / "a"))
    killed(command(tmp_path / "b"), 0, seed=1, ready=lambda: None)
    a, b = (read_checkpoint(checkpoints(tmp_path / f)[-1])[0] for f in "ab")
    assert all(torch.equal(a[k], b[k]) for k in b)
