from __future__ import annotations

from pathlib import Path

import pytest

from nco.training.config import TrainConfig, write_text


def test_toml_round_trip(tmp_path: Path) -> None:
    config = TrainConfig(
        problem="tsp",
        data=("a\\b.npz", 'c"d'),
        weights=(1.0, 2.5),
        lr=1e-5,
        policy={"rotate": False},
    )
    path = tmp_path / "run.toml"
    path.write_text(config.toml())
    assert TrainConfig.read(path) == config


def test_changes_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('problem = "tsp"\nlr = 1\n')
    config = TrainConfig.read(path, ["lr=2e-3", "device=cpu", "policy.rotate=false", "data=x.npz"])
    assert (config.lr, config.device, config.data) == (2e-3, "cpu", ("x.npz",))
    assert config.policy == {"rotate": False}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("learning_rate=1", "setting 'learning_rate' is not known"),
        ("lr=nan", "lr = nan, clip = 1.0 not understood; above 0"),
        ("k=0", "k_min = 0 and k = 0 not understood; k at least 1"),
        ("warmup=-1", "warmup = -1 not understood; at least 0"),
        ("seed=-1", "seed = -1 not understood"),
        ("lr=fast", "lr = 'fast' not understood; expected float"),
        ("steps=1.5", "steps = 1.5 not understood; expected int"),
        ("lr", "write name=value"),
        ("batch=0", "batch = 0 not understood"),
        ("micro_batches=3", "does not split into 3"),
        ("optimizer=sgd", "adamw or muon"),
        ("edges=1.0", "needs head"),
        ("k_min=999", "k_min = 999"),
        ("checkpoint_every=inf", "checkpoint_every = inf not understood; a finite number"),
        ("lr=true", "lr = True not understood; expected float"),
        (f"lr=1{'0' * 400}", "lr = 1000"),
        ("lr.x=1", "lr = {'x': 1} not understood; expected float"),
        ("weights=abc", "weights = 'abc' not understood; expected float"),
        ("data=5", "data = 5 not understood; expected str"),
        ("data=['a', 5]", "data = 5 not understood; expected str"),
        ("problem=5", "problem = 5 not understood; expected str"),
    ],
)
def test_bad_settings_are_named(change: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TrainConfig.read(None, ["problem=tsp", change])


def test_the_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(problem="tsp", steps=100, warmup=10)
    rates = [config.learning_rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[100] == 0.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_text_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    write_text(path, "steps = 1\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_text(path, "steps = 2\n")
    assert path.read_text() == "steps = 1\n"
    write_text(path, "steps = 2\n")
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]
    assert TrainConfig.read(path, ["problem=tsp"]).steps == 2
