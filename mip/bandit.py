"""Which arm to try next: MABWiser's policies over rewards per second."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nco.instances.core import InputError, atomic_write, check_kinds

#: Policies by name; "random" chooses evenly and learns nothing.
POLICIES = ("softmax", "epsilon-greedy", "thompson", "ucb1", "lin-ucb", "random")
#: Policy -> name and largest value of its parameter, where it has one; zero is too small.
PARAMETERS = {
    "softmax": ("tau", math.inf),
    "epsilon-greedy": ("epsilon", 1.0),
    "ucb1": ("alpha", math.inf),
    "lin-ucb": ("alpha", math.inf),
}
#: Only this many latest trials count: what pays changes as the search goes on.
WINDOW = 80
#: Latest trials of an arm that say whether it pays now.
LATEST = 4
#: Trials that a remembered arm starts with at most.
REMEMBERED = 3


@dataclass
class ArmStatistics:
    """What one arm has brought.

    Parameters
    ----------
    tries
        Sub-solves.
    wins
        New best solutions.
    empty
        Times it had no neighbourhood to offer.
    seconds
        Time in its sub-solves.
    reward
        Sum of rewards, each in [0, 1].
    gain
        Sum of improvements of the minimised objective.
    """

    tries: int = 0
    wins: int = 0
    empty: int = 0
    seconds: float = 0.0
    reward: float = 0.0
    gain: float = 0.0


def check_policy(policy: str, parameter: float | None) -> None:
    """Refuse an unknown policy, or a parameter that it does not have.

    Raises
    ------
    ValueError
        In both cases.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} not understood; known: {', '.join(POLICIES)}.")
    if parameter is None:
        return
    if policy not in PARAMETERS:
        raise ValueError(f"policy {policy} has no parameter; leave it out.")
    name, most = PARAMETERS[policy]
    if not 0 < parameter <= most or math.isinf(parameter):
        limits = "above 0" if math.isinf(most) else f"above 0, at most {most:g}"
        raise ValueError(f"policy_parameter = {parameter} not understood; {name} is {limits}.")


def _policy(name: str, parameter: float | None) -> Any:
    from mabwiser.mab import LearningPolicy

    if name == "softmax":
        return LearningPolicy.Softmax(tau=0.1 if parameter is None else parameter)
    if name == "epsilon-greedy":
        return LearningPolicy.EpsilonGreedy(epsilon=0.15 if parameter is None else parameter)
    if name == "thompson":
        return LearningPolicy.ThompsonSampling()
    if name == "ucb1":
        return LearningPolicy.UCB1(alpha=0.3 if parameter is None else parameter)
    if name == "lin-ucb":
        return LearningPolicy.LinUCB(alpha=0.3 if parameter is None else parameter)
    return LearningPolicy.Random()


class Bandit:
    """Arms, their statistics, and the policy that chooses among them.

    Parameters
    ----------
    arms
        Names.
    policy
        One of `POLICIES`.
    parameter
        The policy's own: tau, epsilon or alpha; None for its default.
    seed
        Of its random choices.
    memory
        Statistics of earlier runs, from `load_memory`.

    Raises
    ------
    ValueError
        When there are no arms, one comes twice, or the policy is not understood.
    """

    def __init__(
        self,
        arms: Sequence[str],
        policy: str = "softmax",
        parameter: float | None = None,
        *,
        seed: int = 0,
        memory: Mapping[str, ArmStatistics] | None = None,
    ):
        if not arms or len(set(arms)) != len(arms):
            raise ValueError("arms are missing or come twice.")
        check_policy(policy, parameter)
        self.policy = policy
        self.arms = list(arms)
        self.statistics = {arm: ArmStatistics() for arm in arms}
        self._contextual = policy == "lin-ucb"
        self._binary = policy == "thompson"
        self._rng = np.random.default_rng(seed)
        self._parameter, self._seed = parameter, seed
        self._mab: Any = None
        self._trials: list[tuple[str, float, list[float]]] = []
        for arm in self.arms:
            known = (memory or {}).get(arm)
            if known is not None and known.tries:
                mean = min(1.0, known.reward / known.tries)
                self._trials += [(arm, mean, [])] * min(REMEMBERED, known.tries)
        #: Arms that wait for their first turn, in the order they were named.
        self.untried = [arm for arm in self.arms if not any(t[0] == arm for t in self._trials)]

    def choose(
        self,
        context: Sequence[float] = (),
        among: Sequence[str] | None = None,
        *,
        hurry: bool = False,
        explore: bool = True,
    ) -> str:
        """The next arm.

        Parameters
        ----------
        context
            Features of the state, for contextual policies.
        among
            The arms that may be chosen now; default all.
        hurry
            Choose by mean rewards rather than load MABWiser, which takes a second or two.
        explore
            Whether arms that wait for their first turn come before the policy's choice.
        """
        allowed = list(self.arms if among is None else among)
        trials = self._trials[-WINDOW:]
        known = [arm for arm in allowed if arm not in self.untried]
        if explore or not known:
            for k, arm in enumerate(self.untried):
                if arm in allowed:
                    return self.untried.pop(k)
        if self.policy == "random" or not trials:
            return str(self._rng.choice(known))
        if hurry and self._mab is None:
            means = np.array([self._recent(arm) for arm in known])
            return str(self._rng.choice(known, p=means / means.sum() if means.any() else None))
        self.load()
        names = [t[0] for t in trials]
        rewards = [t[1] for t in trials]
        if self._binary:
            # Posterior draws want successes and failures.
            rewards = [float(self._rng.random() < r) for r in rewards]
        if self._contextual:
            width = len(context) + 1
            rows = [[1.0, *(t[2] or [0.0] * (width - 1))] for t in trials]
            self._mab.fit(names, rewards, rows)
            state: tuple[Any, ...] = ([[1.0, *context]],)
        else:
            self._mab.fit(names, rewards)
            state = ()
        arm = str(self._mab.predict(*state))
        if arm in known:
            return arm
        # It may prefer an arm that is not allowed, or has still to wait.
        worth = self._mab.predict_expectations(*state)
        return max(known, key=lambda other: float(worth[other]))

    def _recent(self, arm: str) -> float:
        rewards = [reward for name, reward, _ in self._trials[-WINDOW:] if name == arm]
        return float(np.mean(rewards[-LATEST:])) if rewards else 0.0

    def promise(self) -> float:
        """The largest mean of an arm's latest rewards; 0 without trials."""
        return max(self._recent(arm) for arm in self.arms)

    def load(self) -> None:
        """Make the policy now, which loads MABWiser."""
        if self._mab is None and self.policy != "random":
            from mabwiser.mab import MAB

            self._mab = MAB(self.arms, _policy(self.policy, self._parameter), seed=self._seed)

    def learn(
        self,
        arm: str,
        reward: float,
        *,
        seconds: float = 0.0,
        gain: float = 0.0,
        win: bool = False,
        context: Sequence[float] = (),
    ) -> None:
        """Record one trial; rewards lie in [0, 1].

        Raises
        ------
        ValueError
            When the reward lies outside.
        """
        if not 0.0 <= reward <= 1.0:
            raise ValueError(f"reward = {reward} outside of [0, 1].")
        known = self.statistics[arm]
        known.tries += 1
        known.wins += win
        known.seconds += seconds
        known.reward += reward
        known.gain += gain
        self._trials.append((arm, reward, list(context)))

    def nothing(self, arm: str) -> None:
        """Record that the arm had nothing to offer: worth no more than a vain try."""
        self.statistics[arm].empty += 1
        self._trials.append((arm, 0.0, []))


def load_memory(path: str | os.PathLike[str]) -> dict[str, ArmStatistics]:
    """Statistics of earlier runs; none if the file does not exist yet.

    Raises
    ------
    InputError
        When the file is something else.
    """
    from nco.instances.io import parse_json

    if not Path(path).exists():
        return {}
    value = parse_json(path)
    try:
        return {str(arm): _remembered(known) for arm, known in value.items()}
    except (AttributeError, TypeError, InputError):
        raise InputError(
            path, None, "is not a memory of arms", "name a file that --memory has written"
        ) from None


def _remembered(known: Mapping[str, Any]) -> ArmStatistics:
    check_kinds(ArmStatistics, known, "memory")
    statistics = ArmStatistics(**known)
    values = asdict(statistics).values()
    # Sums of rewards in [0, 1] may be a hair above the tries.
    if min(values) < 0 or max(values) == math.inf or statistics.reward > statistics.tries + 1e-6:
        raise TypeError
    return statistics


def check_memory(path: str | os.PathLike[str]) -> None:
    """Refuse, before a search, what cannot be read now or written at its end.

    Raises
    ------
    InputError
        When the file is something else, or its folder does not exist or cannot be written to.
    """
    load_memory(path)
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise InputError(path, None, "no such folder", "make it, or name another one")
    if not os.access(folder, os.W_OK):
        raise InputError(path, None, "its folder cannot be written to", "name another one")


def save_memory(
    path: str | os.PathLike[str],
    statistics: Mapping[str, ArmStatistics],
) -> None:
    """Add what this run has learnt to what is remembered by now. Atomic.

    Raises
    ------
    InputError
        When the file has become something else, or cannot be written.
    """
    # Others may have added to it since this run began; they wait for each other.
    folder = os.open(Path(path).absolute().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        merged = load_memory(path)
        for arm, known in statistics.items():
            total = merged.setdefault(arm, ArmStatistics())
            for key, value in asdict(known).items():
                setattr(total, key, getattr(total, key) + value)
        with atomic_write(path) as file:
            json.dump({arm: asdict(known) for arm, known in merged.items()}, file, indent=1)
            file.write("\n")
    finally:
        os.close(folder)
