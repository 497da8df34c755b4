from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nco.bq.decoding import Model
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.weights import write_weights
from nco.training.evaluate import evaluate, main


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    policy = load_policy("tsp").POLICY()
    torch.manual_seed(0)
    network = Network(NetworkConfig(policy.node_dim, policy.markers, layers=1, width=8, heads=2))
    return str(write_weights(tmp_path_factory.mktemp("w"), "tsp-v1", network, "tsp", {}, k=5))


def write_set(path: Path, **arrays: object) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_gaps_of_every_way_of_decoding(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coords = np.random.default_rng(0).random((3, 9, 2))
    file = write_set(tmp_path / "a.npz", coords=coords, ref_cost=np.ones(3))
    args = ["--views", "1", "8", "--beam", "1", "4", "--device", "cpu", "--fp32"]
    assert main([weights, file, *args]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    gap = {(row["views"], row["beam"]): row["gap"] for row in rows}
    assert len(gap) == 4
    assert gap[8, 1] <= gap[1, 1]
    assert all(row["n"] == 3 and row["worst"] >= row["gap"] for row in rows)
    assert {row["k"] for row in rows} == {5}, "the model's own"


def test_whole_coordinates_are_coordinates(weights: str, tmp_path: Path) -> None:
    coords = np.random.default_rng(0).integers(0, 100, (2, 9, 2))
    file = write_set(tmp_path / "a.npz", coords=coords, ref_cost=np.ones(2))
    assert main([weights, file, "--device", "cpu", "--fp32"]) == 0


def test_nothing_won_is_a_whole_gap() -> None:
    policy = load_policy("op").POLICY()
    network = Network(NetworkConfig(policy.node_dim, policy.markers, layers=1, width=8, heads=2))
    fields = {
        "coords": torch.tensor([[[0.0, 0.0], [5.0, 5.0]]]),
        "prizes": torch.tensor([[0, 1]]),
        "max_length": torch.tensor([1.0]),
    }
    row = evaluate(Model(network, policy), fields, np.array([3.0]))
    assert (row["gap"], row["n"]) == (100.0, 1)


def test_what_cannot_be_evaluated_is_one_line(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_set(tmp_path / "kp.npz", values=np.ones((2, 3)), ref_cost=np.ones(2))
    bare = write_set(tmp_path / "bare.npz", coords=np.ones((2, 3, 2)))
    short = write_set(tmp_path / "short.npz", coords=np.ones((3, 4, 2)), ref_cost=np.ones(2))
    nothing = write_set(tmp_path / "nothing.npz", coords=np.ones((2, 4, 2)), ref_cost=np.zeros(2))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    cases = [
        ([weights, other], "kp.npz: has no coords, which the tsp policy reads."),
        ([weights, bare], "bare.npz: no .npz file of instances with ref_cost."),
        ([weights, str(tmp_path / "junk.npz")], "junk.npz: no .npz file of instances"),
        ([weights, short], "short.npz: 3 rows of coords for 2 ref_cost."),
        ([weights, nothing], "nothing.npz: no ref_cost to which a gap can be taken."),
        ([weights, short, "--views", "1", "0"], "views = 0 not understood; at least 1."),
        ([weights, short, "--beam", "0"], "beam = 0 not understood; at least 1."),
        ([weights, short, "--k", "-1"], "k = -1 not understood; at least 0."),
        ([weights, short, "--count", "-1"], "count = -1 not understood; at least 1."),
        ([weights, short, "--rounds", "-1"], "rounds = -1 not understood; at least 0."),
        ([str(tmp_path), other], "holds no checkpoint"),
        ([weights, bare, "--device", "tpu"], "device 'tpu' not understood"),
    ]
    if not torch.cuda.is_available():
        cases.append(([weights, bare, "--device", "cuda"], "device cuda: no CUDA device here"))
    for arguments, text in cases:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
