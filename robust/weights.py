"""Value networks from and to weights files; see `nco.weights`. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from nco.robust.network import ValueConfig, ValueNetwork
from nco.weights import (
    FORMAT,
    VALUE_ARCHITECTURE,
    WeightsError,
    default_weights,
    manifest,
    read_card,
)


@dataclass(frozen=True)
class ValueModel:
    """A trained value network.

    Parameters
    ----------
    network
        The network, in float32 on the CPU.
    card
        Its card.
    """

    network: ValueNetwork
    card: Mapping[str, Any]


def read_value_model(problem: str, path: str | Path | None = None) -> ValueModel:
    """The value network in a weights file, by default the shipped one.

    Parameters
    ----------
    problem
        What it must be for.
    path
        A ``.safetensors`` file with its card and manifest beside it, or None.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, for another problem, or not understood.
    """
    path = default_weights(problem) if path is None else Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: no weights: {error.strerror}") from None
    card = read_card(path)
    if card["problem"] != problem:
        raise WeightsError(f"{path}: weights for {card['problem']}, not for {problem}")
    if card["architecture"] != VALUE_ARCHITECTURE:
        raise WeightsError(f"{path}: not a value network; name weights made by 'nco train'")
    expected = manifest(path.parent).get(path.stem)
    if expected is None:
        raise WeightsError(
            f"{path}: manifest.json beside it does not name it; export the weights again"
        )
    if hashlib.sha256(data).hexdigest() != expected:
        raise WeightsError(f"{path}: damaged (sha256 differs from the manifest's); fetch it again")
    try:
        network = ValueNetwork(ValueConfig(**card["network"]))
        network.load_state_dict({k: v.float() for k, v in load(data).items()})
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise WeightsError(f"{path}: weights and card do not fit this version: {text}") from None
    return ValueModel(network.requires_grad_(False).eval(), card)


def write_value_weights(
    folder: str | Path, name: str, network: ValueNetwork, problem: str, **card: Any
) -> Path:
    """Write a value network in float32 with its card, and enter it in the manifest.

    Parameters
    ----------
    folder
        The weights folder.
    name
        File name without suffix, such as ``two-stage-knapsack-v1``.
    network, problem
        The network and what it is for.
    card
        What else the card says: ranges of the inputs, training, measured errors.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().float().contiguous() for k, v in network.state_dict().items()}
    data = save(tensors)
    full = {
        "format": FORMAT,
        "architecture": VALUE_ARCHITECTURE,
        "problem": problem,
        "policy": {},
        "network": network.config.to_dict(),
        "parameters": sum(v.numel() for v in tensors.values()),
        "licence": "Apache-2.0",
        **card,
    }
    sums = {**manifest(folder), name: hashlib.sha256(data).hexdigest()}
    path = folder / f"{name}.safetensors"
    for target, content in (
        (path, data),
        (folder / f"{name}.json", (json.dumps(full, indent=1) + "\n").encode()),
        (folder / "manifest.json", (json.dumps(sums, indent=1, sort_keys=True) + "\n").encode()),
    ):
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
    return path
