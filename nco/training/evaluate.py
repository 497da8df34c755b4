"""Greedy, beam and multi-view gaps of a model on files of instances with references.

``python -m nco.training.evaluate MODEL FILE.npz... --k 0 32 --views 1 8 --beam 1 16`` needs
torch, numpy and safetensors only; MODEL is a weights file or a run's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from nco.bq.decoding import Model, construct, improve
from nco.bq.regions import with_regions
from nco.bq.weights import bf16_pays
from nco.training.export import read_trained
from nco.training.train import TrainingError, pick_device


def read_fields(path: str | Path, count: int | None) -> tuple[dict[str, torch.Tensor], Any]:
    """Arrays of a batch file that are instance data, and its reference costs.

    Parameters
    ----------
    path
        A ``.npz`` with a leading instance axis in every array.
    count
        Only that many instances.

    Raises
    ------
    ValueError
        When the file is no such set.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {k: data[k] for k in data.files}
        reference = np.asarray(arrays.pop("ref_cost"), dtype=np.float64)[:count]
    except (OSError, ValueError, KeyError, AttributeError, BadZipFile):
        raise ValueError(f"{path}: no .npz file of instances with ref_cost.") from None
    if not (reference.ndim == 1 and (np.isfinite(reference) & (reference != 0.0)).any()):
        raise ValueError(f"{path}: no ref_cost to which a gap can be taken.")
    fields = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            continue
        each = array[:count] if array.ndim else np.full(len(reference), array[()])
        if len(each) != len(reference):
            raise ValueError(f"{path}: {len(each)} rows of {name} for {len(reference)} ref_cost.")
        if name == "coords" and each.dtype.kind != "f":
            each = each.astype(np.float64)  # as instances hold them
        fields[name] = torch.as_tensor(each)
    return fields, reference


def evaluate(
    model: Model,
    fields: Mapping[str, torch.Tensor],
    reference: Any,
    *,
    rounds: int = 0,
    sizes: tuple[int, int] = (10, 100),
    **options: Any,
) -> dict[str, float]:
    """Mean and worst gap in per cent, signed so that worse is positive, and seconds.

    Parameters
    ----------
    model, fields, reference
        What to decode, and the references' costs.
    rounds, sizes
        Rounds of reconstruction afterwards, and the sizes of parts.
    options
        As `nco.bq.decoding.construct`.
    """
    begin = time.perf_counter()
    actions = construct(model, fields, **options)
    if rounds:
        actions = improve(with_regions(model), fields, actions, rounds=rounds, sizes=sizes)
    there = {k: v.to(model.device) for k, v in fields.items()}
    # On the CPU again, everything has been waited for.
    cost = model.policy.cost(there, actions).cpu()
    seconds = time.perf_counter() - begin
    # Costs of problems that are maximised are negative, or 0 where nothing was won.
    known = torch.as_tensor(reference).abs()
    gap = 100.0 * (cost - torch.where(cost > 0.0, known, -known)) / known
    gap = gap[torch.isfinite(gap)]
    return {
        "n": len(gap),
        "gap": float(gap.mean()),
        "worst": float(gap.max()),
        "seconds": seconds,
    }


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers that make no sense.

    Raises
    ------
    ValueError
        Naming the first of them.
    """
    for name, least in {"k": 0, "views": 1, "beam": 1, "rounds": 0, "count": 1}.items():
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value < least:
                raise ValueError(f"{name} = {value} not understood; at least {least}.")


def rows(
    model: Model, files: Sequence[str], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """One row per file and way of decoding."""
    for file in files:
        fields, reference = read_fields(file, options.count)
        missing = [k for k in model.policy.fields if k not in fields]
        if missing:
            raise ValueError(
                f"{file}: has no {missing[0]}, which the {model.policy.name} policy reads."
            )
        for k in options.k or [model.k]:
            for views in options.views:
                for beam in options.beam:
                    result = evaluate(
                        replace(model, k=k),
                        fields,
                        reference,
                        beam=beam,
                        views=views,
                        rounds=options.rounds,
                    )
                    yield {
                        "file": Path(file).stem,
                        "k": k,
                        "views": views,
                        "beam": beam,
                        "rounds": options.rounds,
                        **result,
                    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the evaluation; one JSON line per row."""
    parser = argparse.ArgumentParser(prog="python -m nco.training.evaluate", description=__doc__)
    parser.add_argument("model", help="weights file or folder of a training run")
    parser.add_argument("files", nargs="+", help=".npz batches with ref_cost")
    parser.add_argument("--k", type=int, nargs="+", help="instead of the model's own; 0 for all")
    parser.add_argument("--views", type=int, nargs="+", default=[1])
    parser.add_argument("--beam", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the network, first")
    options = parser.parse_args(arguments)
    try:
        check_options(options)
        device = pick_device(options.device)
        model = read_trained(options.model).on(
            device, bf16=bf16_pays(device) and not options.fp32, compiled=options.compile
        )
        for row in rows(model, options.files, options):
            print(json.dumps(row), flush=True)
    except (ValueError, OSError, MemoryError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
