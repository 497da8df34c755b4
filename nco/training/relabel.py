"""Labels by a policy itself, for which no expert is needed."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

import torch

from nco.bq.decoding import Model, choose, construct, improve
from nco.bq.policies import load_policy
from nco.bq.regions import with_regions
from nco.bq.weights import bf16_pays
from nco.training.config import check_minutes
from nco.training.experts import expert_for
from nco.training.export import read_trained
from nco.training.label import Parts, Progress, finished, log_progress, pack
from nco.training.labels import Arrays, draw, find_recipe, read_labels
from nco.training.train import pick_device
from nco.weights import default_weights


def relabel(
    model: Model,
    problem: str,
    out: str | Path,
    *,
    old: str = "",
    n: int = 0,
    count: int = 0,
    seed: int = 0,
    recipe: str = "",
    first: int = 0,
    rounds: int = 100,
    sizes: tuple[int, int] = (10, 100),
    views: int = 1,
    chunk: int = 0,
    minutes: float = math.inf,
    progress: Progress = log_progress,
) -> int:
    """Make labels by a policy itself: decode, then reconstruct.

    Pseudo-labels as in F. Luo et al., Self-improved learning for scalable neural
    combinatorial optimization (2024). Old labels are where it starts from; the better of old
    and new is kept for every instance.

    Parameters
    ----------
    model
        The policy, on its device.
    problem
        The problem's name.
    out
        The label file.
    old
        Labels to improve; or "", and the instances are drawn.
    n, count, seed, recipe, first
        The instances, as for `label`.
    rounds, sizes
        Rounds of reconstruction, and the smallest and largest number of nodes in a part.
    views
        Views that are decoded to start from.
    chunk
        Labels that are made at a time; 0 for as many as suit the device.
    minutes
        Begin no chunk after that time.
    progress
        As for `label`.

    Raises
    ------
    ValueError
        As `label`, when the old labels are of another problem or too few, and when instances
        are to be drawn beside them.
    """
    check_minutes(minutes)
    if min(rounds, views - 1, chunk) < 0:
        raise ValueError(
            f"rounds = {rounds}, views = {views}, chunk = {chunk} not understood; at least 0, 1, 0."
        )
    out = Path(out)
    chunk = chunk or (1000 if model.device.type == "cuda" else 50)
    stored: Arrays = {}
    if old:
        labels = read_labels(old)
        if labels.problem != problem:
            raise ValueError(f"{old}: labels of {labels.problem}, not of {problem}.")
        if n or recipe or first:
            raise ValueError(f"{old} has its instances; leave out n, recipe and first.")
        if not 0 <= count <= len(labels):
            raise ValueError(f"count = {count} not understood; {old} has {len(labels)} labels.")
        count = count or len(labels)
        meta, fields = dict(labels.source), labels.part(0, count)
        stored = {k: fields[k] for k in labels.stored}
        digest = labels.digest
    else:
        recipe = find_recipe(problem, recipe or expert_for(problem)[1].recipe)
        if min(n, count) < 1:
            raise ValueError(f"n = {n}, count = {count} not understood; at least 1.")
        meta = {"recipe": recipe, "seed": seed, "first": first, "n": n}
        fields, digest = draw(recipe, seed, first, count, n), ""
    if model.policy.online:
        raise ValueError(f"{problem} shows prizes at visits: nothing can be chosen afterwards.")
    absent = [k for k in model.policy.fields if k not in fields]
    if absent:
        raise ValueError(f"the instances have no {absent[0]}; choose another recipe.")
    teacher = load_policy(problem).TEACHER()
    shape = {"expert": "bq", "effort": rounds, "unit": "rounds"}
    stamp = {**meta, **shape, "old": digest, "weights": fingerprint(model), "sizes": list(sizes),
             "views": views, "seed": seed, "chunk": chunk}  # fmt: skip
    if finished(out, problem, count, **meta, **shape, call=stamp):
        return count
    parts = Parts(out, count, stamp, chunk)
    deadline, todo = time.monotonic() + minutes * 60, parts.missing()
    done = count - sum(size for _, size in todo)
    for begin, size in todo:
        if time.monotonic() > deadline:
            break
        some = {k: torch.as_tensor(v[begin : begin + size]) for k, v in fields.items()}
        given = {k: v for k, v in some.items() if k in model.policy.fields}
        actions = construct(model, given, views=views)
        if old:
            before = teacher.actions(some).to(model.device)
            there = {k: v.to(model.device) for k, v in given.items()}
            actions = choose(model.policy, there, before, actions)
        actions = improve(
            with_regions(model),
            given,
            actions,
            sizes=sizes,
            rounds=rounds,
            seed=(seed * 1_000_003 + begin) % 2**63,
        )
        new = teacher.labels(some, actions.cpu())
        parts.write(begin, size, pack({k: v.numpy() for k, v in new.items()}))
        done += size
        progress(done, count)
    return parts.merge(problem, stored, **meta, **shape, call=stamp)


def fingerprint(model: Model) -> str:
    """sha256 of a model's weights."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        sha.update(name.encode() + tensor.cpu().float().numpy().tobytes())
    return sha.hexdigest()


def find_model(weights: str, problem: str, device: str) -> Model:
    """A problem's model by weights file, run folder or, for "", as shipped.

    Raises
    ------
    ValueError
        When there is none, or it is for another problem.
    """
    path = Path(weights) if weights else default_weights(problem)
    model = read_trained(path, problem)
    where = pick_device(device)
    return model.on(where, bf16=bf16_pays(where))
