"""The bandit learns what pays, remembers, and is never fooled by no-ops."""

import math

import numpy as np
import pytest

from nco.instances.core import InputError
from nco.mip.bandit import POLICIES, Bandit, load_memory, save_memory

LEARNING = [p for p in POLICIES if p != "random"]


def play(policy, rounds=200, seed=1):
    bandit = Bandit(["poor", "good", "idle"], policy, seed=seed)
    rng = np.random.default_rng(seed)
    chosen = []
    for _ in range(rounds):
        arm = bandit.choose([0.5, 0.1])
        chosen.append(arm)
        if arm == "idle":
            bandit.nothing(arm)
        else:
            win = rng.random() < (0.8 if arm == "good" else 0.1)
            bandit.learn(arm, 0.9 if win else 0.02, win=win, seconds=1, context=[0.5, 0.1])
    return bandit, chosen


@pytest.mark.parametrize("policy", LEARNING)
def test_the_best_arm_is_played_most(policy):
    bandit, chosen = play(policy)
    late = chosen[50:]
    assert late.count("good") > 0.5 * len(late)
    assert bandit.statistics["good"].wins > bandit.statistics["poor"].wins


@pytest.mark.parametrize("policy", POLICIES)
def test_every_arm_is_tried_and_a_seed_repeats(policy):
    assert set(play(policy)[1][:3]) == {"poor", "good", "idle"}
    assert play(policy)[1] == play(policy)[1]


def test_statistics():
    bandit = Bandit(["a", "b"])
    bandit.learn("a", 0.75, seconds=2.0, gain=3.0, win=True)
    bandit.learn("a", 0.0, seconds=1.0)
    bandit.nothing("b")
    known = bandit.statistics["a"]
    assert (known.tries, known.wins, known.seconds, known.reward) == (2, 1, 3.0, 0.75)
    assert (bandit.statistics["b"].tries, bandit.statistics["b"].empty) == (0, 1)
    with pytest.raises(ValueError, match="reward"):
        bandit.learn("a", 1.5)


def test_among():
    bandit = Bandit(["a", "b", "c"], seed=3)
    assert {bandit.choose(among=["b"]) for _ in range(5)} == {"b"}


def test_what_pays_comes_before_what_is_new():
    bandit = Bandit(["a", "b", "c"], seed=2)
    assert [bandit.choose() for _ in range(2)] == ["a", "b"]
    assert bandit.promise() == 0.0
    bandit.learn("a", 0.9)
    bandit.learn("b", 0.01)
    assert bandit.promise() == 0.9
    chosen = [bandit.choose(hurry=True, explore=False) for _ in range(40)]
    assert set(chosen) <= {"a", "b"}
    assert chosen.count("a") > 30
    assert bandit.choose() == "c"
    for _ in range(4):
        bandit.learn("a", 0.0)
    assert bandit.promise() == pytest.approx(0.01)


def test_memory_is_kept_and_used(tmp_path):
    path = tmp_path / "arms.json"
    assert load_memory(path) == {}
    bandit, _ = play("softmax")
    save_memory(path, bandit.statistics)
    memory = load_memory(path)
    assert memory["good"] == bandit.statistics["good"]
    warm = Bandit(["poor", "good"], "softmax", 0.02, memory=memory)
    chosen = [warm.choose() for _ in range(10)]
    assert chosen.count("good") == 10
    # Also where another run has added to it meanwhile.
    for _ in range(2):
        save_memory(path, bandit.statistics)
    assert load_memory(path)["good"].tries == 3 * memory["good"].tries


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"a": 3}', '{"a": {"tires": 1}}', "{", '{"a": {"tries": "1"}}',
        '{"a": {"tries": 1.5}}', '{"a": {"tries": -1}}', '{"a": {"tries": 2, "reward": null}}',
        '{"a": {"tries": 2, "reward": 3}}', '{"a": {"tries": 2, "reward": NaN}}',
        '{"a": {"seconds": Infinity}}',
    ],
)  # fmt: skip
def test_bad_memory(tmp_path, text):
    path = tmp_path / "arms.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"arms\.json"):
        load_memory(path)


@pytest.mark.parametrize("arguments", [([],), (["a", "a"],), (["a"], "greedy")])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=r"arms|policy"):
        Bandit(*arguments)


@pytest.mark.parametrize(
    ("policy", "parameter", "what"),
    [
        ("softmax", 0.0, "tau is above 0"), ("softmax", math.inf, "tau is above 0"),
        ("epsilon-greedy", 1.5, "epsilon is above 0, at most 1"), ("ucb1", -1.0, "alpha"),
        ("lin-ucb", math.nan, "alpha"), ("thompson", 1.0, "has no parameter"),
        ("random", 1.0, "has no parameter"),
    ],
)  # fmt: skip
def test_bad_parameters_of_policies(policy, parameter, what):
    with pytest.raises(ValueError, match=what):
        Bandit(["a"], policy, parameter)


def test_where_new_arms_wait_the_best_known_one_is_played():
    known = ["a", "b", "good", "c"]
    bandit = Bandit([*known, *"defghij"], "thompson", seed=1)
    for turn in range(120):
        arm = known[turn % 4]
        bandit.choose(among=[arm])
        bandit.learn(arm, 0.9 if arm == "good" else 0.05, seconds=1, win=arm == "good")
    chosen = [bandit.choose(explore=False) for _ in range(50)]
    assert chosen.count("good") > 40
