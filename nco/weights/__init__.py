"""Shipped weights with their model cards; what is known of weights without loading them.

A weights folder holds ``NAME.safetensors`` (bfloat16), ``NAME.json`` (the card: problem,
policy options, network shape, how it was trained, measured gaps) and ``manifest.json``
(sha256 of every weights file).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

#: Version of the card; a file of another one is refused.
FORMAT = 1
#: Name of the network's construction; changes whenever old weights would compute
#: something else.
ARCHITECTURE = "bq-1"
#: The same for value networks of two-stage problems.
VALUE_ARCHITECTURE = "value-1"


class WeightsError(ValueError):
    """Weights that cannot be used; the text is one line with the remedy."""


def shipped_folder() -> Path:
    """Where the shipped weights are."""
    return Path(__file__).resolve().parent


def manifest(folder: Path) -> dict[str, str]:
    """Name -> sha256 of the weights in a folder."""
    path = folder / "manifest.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a manifest: {' '.join(str(error).split())}") from None


def shipped() -> dict[str, dict[str, Any]]:
    """Name -> card of the shipped weights, the default of each problem first."""
    folder = shipped_folder()
    names = sorted(manifest(folder), key=lambda name: (name.count("-"), name))
    return {name: read_card(folder / f"{name}.safetensors") for name in names}


def default_weights(problem: str) -> Path:
    """The shipped weights that are used for a problem unless others are named.

    The newest of the full policy; where there are none, the newest of the light one.

    Raises
    ------
    WeightsError
        When none are shipped for it.
    """
    folder = shipped_folder()
    names = manifest(folder)
    full, light = (
        [n for n in names if re.fullmatch(rf"{re.escape(problem)}{size}-v\d+", n)]
        for size in ("", "-light")
    )
    found = full or light
    if not found:
        raise WeightsError(
            f"no weights are shipped for {problem}: train some with 'nco train {problem}' and "
            "name them with weights=FILE"
        )
    newest = max(found, key=lambda name: int(name.rpartition("v")[2]))
    return folder / f"{newest}.safetensors"


def read_card(path: Path) -> dict[str, Any]:
    """The model card beside a weights file.

    Raises
    ------
    WeightsError
        When it is missing, or of a version or architecture that is not known.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        form, architecture = card["format"], card["architecture"]
        _ = card["problem"], card["policy"], card["network"]
    except FileNotFoundError:
        raise WeightsError(f"{path}: its card {card_path.name} is missing beside it") from None
    except KeyError as error:
        raise WeightsError(f"{card_path}: not a model card: {error} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise WeightsError(f"{card_path}: not a model card: {text}") from None
    if form != FORMAT:
        raise WeightsError(
            f"{path}: weights format {form}, this version reads {FORMAT}; update nco or retrain"
        )
    known = (ARCHITECTURE, VALUE_ARCHITECTURE)
    if architecture not in known:
        raise WeightsError(
            f"{path}: architecture {architecture!r} is not known here (known: {', '.join(known)}); "
            "update nco or retrain"
        )
    return card
