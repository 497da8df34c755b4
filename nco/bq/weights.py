"""Models from and to weights files: safetensors, checked against a manifest.

Nothing is ever unpickled. What a weights folder holds: see `nco.weights`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from nco.bq.decoding import Model
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.weights import ARCHITECTURE, FORMAT, WeightsError, manifest, read_card


def read_model(path: str | Path, problem: str | None = None) -> Model:
    """The model in a weights file, in float32 on the CPU.

    Parameters
    ----------
    path
        A ``.safetensors`` file with its card and manifest beside it.
    problem
        Refuse weights of any other problem.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, for another problem, or not understood.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: no weights: {error.strerror}") from None
    card = read_card(path)
    if problem is not None and card["problem"] != problem:
        raise WeightsError(f"{path}: weights for {card['problem']}, not for {problem}")
    if card["architecture"] != ARCHITECTURE:
        raise WeightsError(f"{path}: a value network, not a policy; use it with neur2ro")
    expected = manifest(path.parent).get(path.stem)
    if expected is None:
        raise WeightsError(
            f"{path}: manifest.json beside it does not name it; export the weights again"
        )
    if hashlib.sha256(data).hexdigest() != expected:
        raise WeightsError(f"{path}: damaged (sha256 differs from the manifest's); fetch it again")
    try:
        policy = load_policy(card["problem"]).POLICY(**card["policy"])
        network = Network(NetworkConfig(**card["network"]))
        network.load_state_dict({k: v.float() for k, v in load(data).items()})
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise WeightsError(f"{path}: weights and card do not fit this version: {text}") from None
    return Model(network, policy, int(card.get("k", 0)), dict(card))


def write_weights(
    folder: str | Path,
    name: str,
    network: Network,
    problem: str,
    policy: Mapping[str, Any],
    **card: Any,
) -> Path:
    """Write weights in bfloat16 with their card, and enter them in the manifest.

    Parameters
    ----------
    folder
        The weights folder.
    name
        File name without suffix, such as ``tsp-v1``.
    network
        The network.
    problem, policy
        The policy's name and options.
    card
        What else the card says: candidates ``k``, training command, data, steps,
        hardware, measured gaps, licence.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().bfloat16() for k, v in network.state_dict().items()}
    data = save({k: v.contiguous() for k, v in tensors.items()})
    full = {
        "format": FORMAT,
        "architecture": ARCHITECTURE,
        "problem": problem,
        "policy": dict(policy),
        "network": network.config.to_dict(),
        "parameters": sum(v.numel() for v in tensors.values()),
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


def bf16_pays(device: torch.device) -> bool:
    """Whether inference in bfloat16 is faster there."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Without the instructions every product is emulated, far slower than float32.
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
