"""From a training run to a weights file.

``python -m nco.training.export RUN --folder nco/weights --name tsp-v1 --card KEY=VALUE``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nco.bq.decoding import Model
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.weights import read_model, write_weights
from nco.training.checkpoints import CheckpointError, checkpoints, read_checkpoint


def read_run(folder: str | Path, problem: str | None = None) -> Model:
    """The model of a run's newest checkpoint.

    Parameters
    ----------
    folder
        The run's folder.
    problem
        Refuse a run for any other problem.

    Raises
    ------
    CheckpointError
        When there is none, it is damaged, or for another problem.
    """
    found = checkpoints(Path(folder))
    if not found:
        raise CheckpointError(f"{folder}: holds no checkpoint")
    tensors, meta = read_checkpoint(found[-1])
    try:
        network = Network(NetworkConfig(**meta["network"]))
        network.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        config = meta["config"]
        policy = load_policy(config["problem"]).POLICY(**config["policy"])
        name = f"{Path(folder).name}/{found[-1].name}"
        model = Model(network, policy, int(config["eval_k"]), {"name": name, **meta})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{found[-1]}: does not fit this version: {text}") from None
    if problem not in (None, config["problem"]):
        raise CheckpointError(f"{folder}: trained for {config['problem']}, not for {problem}")
    return model


def read_trained(path: str | Path, problem: str | None = None) -> Model:
    """The model of a weights file or of a training run's folder.

    Raises
    ------
    CheckpointError, nco.weights.WeightsError
        When it cannot be read, or is for another problem.
    """
    return read_run(path, problem) if Path(path).is_dir() else read_model(path, problem)


def export(run: str | Path, folder: str | Path, name: str, **card: Any) -> Path:
    """Write a run's newest checkpoint as a weights file.

    Parameters
    ----------
    run
        Folder of the training run.
    folder, name
        The weights folder, and the file's name without suffix.
    card
        Further entries of the model card, such as measured gaps. The range of ``sizes`` is
        that of the labels unless another one is given.
    """
    model = read_run(run)
    meta = model.card
    config = meta["config"]
    training = training_of(meta, "suffixes")
    # Checkpoints of earlier versions do not say it.
    known = {"sizes": meta["sizes"]} if "sizes" in meta else {}
    return write_weights(
        folder,
        name,
        model.network,
        config["problem"],
        config["policy"],
        **{"k": config["eval_k"], "training": training, **known, **card},
    )


def training_of(meta: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """What a card says of the run of a checkpoint, which counts its batches in a unit."""
    config = meta["config"]
    return {
        "steps": meta["step"],
        unit: meta["step"] * config["batch"] * meta.get("world", 1),
        "seconds": round(meta["seconds"]),
        "config": config,
        "data": meta["data"],
        "versions": meta["versions"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the export."""
    parser = argparse.ArgumentParser(prog="python -m nco.training.export", description=__doc__)
    parser.add_argument("run", help="folder of a training run")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--divider", action="store_true", help="the divider of a run of both")
    parser.add_argument("--card", action="append", default=[], metavar="KEY=JSON")
    options = parser.parse_args(arguments)
    try:
        card = {}
        for item in options.card:
            key, _, value = item.partition("=")
            card[key] = json.loads(value)
        if options.divider:
            from nco.udc.divide import write_divider as write
        else:
            write = export
        print(write(options.run, options.folder, options.name, **card))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
