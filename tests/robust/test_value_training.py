"""Labels and training of value networks: exact, repeatable, resumable."""

import dataclasses
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nco.cli import main
from nco.robust import labels, train
from nco.robust.encoding import ENCODERS, encode
from nco.robust.labels import label, read_labels
from nco.robust.train import ValueTrainer, ValueTraining
from nco.robust.weights import read_value_model
from nco.training import label as module
from nco.training.checkpoints import checkpoints

PROBLEMS = list(labels.MAKERS)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small instances for all label makers."""
    for problem, maker in labels.MAKERS.items():
        tiny = labels.LabelMaker(maker.instance, maker.pairs, (5, 6))
        monkeypatch.setitem(labels.MAKERS, problem, tiny)
    monkeypatch.setattr(labels, "CHUNK", 4)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_labels_are_the_problems_own_second_stages(problem):
    made = labels.make_chunk(problem, 3, 0, 1, 6, 9)
    maker = labels.MAKERS[problem]
    rng = np.random.default_rng([3, 0])
    instance = maker.instance(5, int(rng.integers(2**31)), rng)
    p = instance.two_stage.n
    x = np.unpackbits(made[f"x/{p}"][0], axis=-1, count=p).astype(float)
    xi = made[f"xi/{p}"][0].astype(float)[:, : instance.two_stage.uncertainty.dimension]
    assert all(instance.two_stage.uncertainty.contains(row, 1e-3) for row in xi)
    values, _ = instance.two_stage.recourse_at(x, xi)
    rough = 1e-12 if problem != "capital-budgeting" else labels.NEAR
    np.testing.assert_allclose(made[f"values/{p}"][0], values, rtol=rough)
    assert (len(x), len(xi)) == (6, 9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_encodings_of_one_instance_and_of_labels_agree(problem):
    maker, encoder = labels.MAKERS[problem], ENCODERS[problem]
    rng = np.random.default_rng(1)
    instance = maker.instance(6, 4, rng)
    network = train.SHAPES[problem]["paper"]
    q = instance.two_stage.uncertainty.dimension
    one = encode(encoder, network.streams, instance, q)
    xi = instance.two_stage.uncertainty.sample(3, rng)
    fields = encoder.fields(instance)
    assert set(fields) == set(encoder.names)
    many = encoder.scenario(fields, xi[None])
    for stream, numbers in zip(network.streams, one.scenario(xi), strict=True):
        assert (numbers is None) == (not stream.scenario)
        if numbers is not None:
            np.testing.assert_allclose(numbers, many[stream.elements][0], atol=1e-12)
    assert one.features[0].shape == (
        len(encoder.seen(instance.two_stage)),
        network.streams[0].features,
    )


def test_a_label_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    arguments = {"instances": 10, "seed": 1, "a": 4, "b": 8}
    assert label("capital-budgeting", whole, **arguments) == 320
    with pytest.raises(ValueError, match="not one label was finished"):
        label("capital-budgeting", parts, **arguments, minutes=0)
    folder = tmp_path / "parts.npz.parts"
    now = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(labels, "time", SimpleNamespace(monotonic=lambda: now))
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
        make = labels.MAKERS["capital-budgeting"].instance

        def slowly(*drawn):
            nonlocal now
            now += 60.0
            return make(*drawn)

        tiny = dataclasses.replace(labels.MAKERS["capital-budgeting"], instance=slowly)
        patch.setitem(labels.MAKERS, "capital-budgeting", tiny)
        assert label("capital-budgeting", parts, **arguments, minutes=5.5) == 6 * 32
    assert read_labels(parts)[1]["instances"] == 6
    with pytest.raises(ValueError, match="other arguments"):
        label("capital-budgeting", parts, instances=11, seed=1, a=4, b=8)
    label("capital-budgeting", parts, **arguments)
    assert not folder.exists()
    one, two = read_labels(whole)[0], read_labels(parts)[0]
    for n, group in one.items():
        for key, value in group.items():
            np.testing.assert_array_equal(value, two[n][key])


def test_a_finished_label_file_is_not_made_again(tmp_path, monkeypatch, caplog):
    out, arguments = tmp_path / "labels.npz", {"instances": 5, "seed": 1, "a": 4, "b": 8}
    assert label("capital-budgeting", out, **arguments) == 160
    made = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(labels, "make_chunk", None)
        assert label("capital-budgeting", out, **arguments) == 160
    assert "holds these 160 labels already" in caplog.text
    # Another call makes others, and damage is mended.
    assert label("capital-budgeting", out, **{**arguments, "seed": 2}) == 160
    assert out.read_bytes() != made
    out.write_bytes(made[:-30])
    assert label("capital-budgeting", out, **arguments) == 160
    assert read_labels(out)[1]["seed"] == 1


def test_bad_label_calls_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no value network knows tsp"):
        label("tsp", tmp_path / "x.npz", instances=1, seed=0)
    with pytest.raises(ValueError, match="a >= 4 and b >= 8"):
        label("two-stage-knapsack", tmp_path / "x.npz", instances=1, seed=0, a=1)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.npz: no labels"):
        read_labels(bad)
    np.savez(bad, tour=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"bad\.npz: not a label file"):
        read_labels(bad)


@pytest.fixture
def knapsack_labels(tmp_path):
    path = tmp_path / "labels.npz"
    made = labels.make_chunk("two-stage-knapsack", 1, 0, 40, 8, 8)
    meta = {"problem": "two-stage-knapsack", "instances": 40, "seed": 1, "a": 8, "b": 8}
    labels.write_labels(path, made, meta)
    return path


def settings(path, **changes):
    base = {"problem": "two-stage-knapsack", "labels": str(path), "steps": 60, "groups": 4,
            "held_out": 0.2, "eval_every": 30, "log_every": 10, "warmup": 5}  # fmt: skip
    return ValueTraining(**(base | changes))


def test_training_learns_and_its_weights_say_what_they_are(knapsack_labels, tmp_path):
    trainer = ValueTrainer(settings(knapsack_labels, steps=150), tmp_path / "run")
    before = train.validate(trainer.network, trainer.held_out)["mae"]
    trainer.run()
    path = trainer.export(tmp_path / "weights", "two-stage-knapsack-v1")
    model = read_value_model("two-stage-knapsack", path)
    assert model.card["measured"]["mae"] < 0.5 * before
    assert model.card["ranges"]["n"] == [5, 6]
    assert model.card["training"]["steps"] == 150
    assert model.card["labels"] == (
        "2,560 second stages by this package (8 first stages and 8 scenarios of 40 random "
        "instances), redrawn from seed 1"
    )
    rows = [json.loads(r) for r in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "mae" in r] == [30, 60, 90, 120, 150]


def test_a_stopped_run_goes_on_to_the_same_weights(knapsack_labels, tmp_path):
    whole = ValueTrainer(settings(knapsack_labels), tmp_path / "whole")
    whole.run()
    part = ValueTrainer(settings(knapsack_labels), tmp_path / "part")
    part.run(minutes=0.0)
    assert 0 < part.step < 60
    again = ValueTrainer(settings(knapsack_labels), tmp_path / "part")
    assert again.step == part.step
    again.run()
    for name, tensor in whole.average.items():
        assert torch.equal(again.average[name], tensor)
    with pytest.raises(ValueError, match="made with another lr"):
        ValueTrainer(settings(knapsack_labels, lr=0.1), tmp_path / "part")


def test_the_metrics_of_a_killed_run_hold_no_step_twice(knapsack_labels, tmp_path):
    given = settings(knapsack_labels, steps=4, log_every=1, eval_every=4)
    ValueTrainer(given, tmp_path).run(minutes=0.0)
    # As after a kill: rows that no checkpoint has seen, and half a row.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 9.0}\n{"step": 3, "lo')
    ValueTrainer(given, tmp_path).run()
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "mae" in row] == [4]


def test_progress_is_shown_unless_quiet(tmp_path, capsys):
    out, run = str(tmp_path / "l.npz"), str(tmp_path / "run")
    make = ["label", "two-stage-knapsack", "--count", str(256 * 8), "--out", out]
    fit = ["train", "two-stage-knapsack", "--data", out, "--out", run, "--set", "steps=2",
           "--set", "held_out=0.3", "--set", "eval_every=1"]  # fmt: skip
    assert main(make) == 0
    assert "1024 of 2048 labels" in capsys.readouterr().err
    assert main([*fit, "--minutes", "0"]) == 0
    told = capsys.readouterr().err
    assert "step 1, held-out error" in told
    assert "stopped at step 1 of 2; go on with --resume" in told
    assert main([*fit, "--resume", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_settings_are_checked(knapsack_labels, tmp_path):
    with pytest.raises(ValueError, match="no value network for tsp"):
        ValueTraining(problem="tsp")
    with pytest.raises(ValueError, match="shape 'round' not understood"):
        ValueTraining(problem="two-stage-knapsack", shape="round")
    with pytest.raises(ValueError, match="setting 'speed' not known"):
        ValueTraining.read({"problem": "two-stage-knapsack"}, None, ["speed=3"])
    with pytest.raises(ValueError, match="labels for two-stage-knapsack"):
        ValueTrainer(settings(knapsack_labels, problem="capital-budgeting"), tmp_path / "x")


def test_a_run_of_the_command_line_is_resumed_from_its_folder(knapsack_labels, tmp_path, capsys):
    run = ["train", "two-stage-knapsack", "--out", str(tmp_path / "run"), "--quiet"]
    changes = ["--set", "steps=6", "--set", "held_out=0.2", "--set", "eval_every=6"]
    first = [*run, "--data", str(knapsack_labels), "--device", "auto", *changes, "--minutes", "0"]
    assert main(first) == 0
    assert main(run) == 2
    assert "holds a run (go on with --resume" in capsys.readouterr().err
    assert main([*run, "--resume"]) == 0
    assert checkpoints(tmp_path / "run")[-1].name == "step-000000006"
    data = knapsack_labels.read_bytes()
    knapsack_labels.write_bytes(data[: len(data) // 2])
    assert main([*run, "--resume"]) == 2
    error = capsys.readouterr().err
    assert "labels.npz: no labels" in error
    assert len(error.splitlines()) == 1


def test_settings_of_another_problem_are_refused(tmp_path):
    (tmp_path / "x.toml").write_text('problem = "facility-location"\nlabels = "a.npz"\n')
    with pytest.raises(ValueError, match="settings for facility-location, not for two-stage"):
        ValueTraining.read({"problem": "two-stage"}, tmp_path / "x.toml", [])
    given = {"problem": "facility-location", "labels": "b.npz"}
    assert ValueTraining.read(given, tmp_path / "x.toml", []).labels == "b.npz"
    with pytest.raises(ValueError, match="lr = inf not understood; a finite number"):
        ValueTraining.read(given, None, ["lr=inf"])


def test_the_command_line(knapsack_labels, tmp_path, capsys):
    arguments = ["two-stage-knapsack", "--labels", str(knapsack_labels), "--out"]
    changes = ["--set", "steps=5", "--set", "held_out=0.2", "--set", "shape=relu"]
    target = tmp_path / "w" / "two-stage-knapsack-v2"
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert train.main([*arguments, str(tmp_path / "r"), *changes, "--export", str(target)]) == 0
    assert target.with_suffix(".safetensors").is_file()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert train.main([*arguments, str(tmp_path / "q"), "--set", "steps=none"]) == 2
    assert "steps = 'none' not understood" in capsys.readouterr().err
