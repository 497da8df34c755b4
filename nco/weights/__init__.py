"""Shipped weights with their model cards; what is known of weights without loading them.

A weights folder holds ``NAME.safetensors`` (policies and dividers in bfloat16, value networks
in float32), ``NAME.json`` (the card: problem, policy options, network shape, how it was trained,
measured gaps) and ``manifest.json`` (sha256 of every weights file).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Version of the card; a file of another one is refused.
FORMAT = 1
#: Name of the network's construction; changes whenever old weights would compute
#: something else.
ARCHITECTURE = "bq-1"
#: The same for value networks of two-stage problems.
VALUE_ARCHITECTURE = "value-1"
#: The same for dividers.
DIVIDER_ARCHITECTURE = "divider-1"
#: What each of them is, and the solver that takes it.
KINDS = {
    ARCHITECTURE: ("a policy", "bq"),
    VALUE_ARCHITECTURE: ("a value network", "neur2ro"),
    DIVIDER_ARCHITECTURE: ("a divider", "udc"),
}


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
    except (OSError, ValueError, TypeError) as error:
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
    found = _newest(problem, "") or _newest(problem, "-light")
    if found is None:
        raise WeightsError(
            f"no weights are shipped for {problem}: train some with 'nco train {problem}' and "
            "name them with weights=FILE"
        )
    return found


def default_divider(problem: str) -> Path:
    """The newest shipped divider of a problem.

    Raises
    ------
    WeightsError
        When none is shipped for it.
    """
    found = _newest(problem, "-divider")
    if found is None:
        raise WeightsError(
            f"no divider is shipped for {problem}: train one with 'nco train udc-{problem}' and "
            "name its folder with divider=RUN"
        )
    return found


def _newest(problem: str, kind: str) -> Path | None:
    """The newest shipped weights of a kind, such as "-light", for a problem."""
    folder = shipped_folder()
    pattern = rf"{re.escape(problem)}{kind}-v\d+"
    found = [name for name in manifest(folder) if re.fullmatch(pattern, name)]
    newest = max(found, key=lambda name: int(name.rpartition("v")[2]), default=None)
    return newest if newest is None else folder / f"{newest}.safetensors"


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
    if architecture not in KINDS:
        raise WeightsError(
            f"{path}: architecture {architecture!r} is not known here (known: {', '.join(KINDS)}); "
            "update nco or retrain"
        )
    return card


def read_checked(
    path: Path, problem: str | None, architecture: str
) -> tuple[dict[str, Any], bytes]:
    """Card and bytes of a weights file that is what it should be.

    Parameters
    ----------
    path
        A ``.safetensors`` file with its card and manifest beside it.
    problem
        Refuse weights of any other problem, if it is named.
    architecture
        Refuse weights of any other architecture.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, or for something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: no weights: {error.strerror}") from None
    card = read_card(path)
    if problem is not None and card["problem"] != problem:
        raise WeightsError(f"{path}: weights for {card['problem']}, not for {problem}")
    if card["architecture"] != architecture:
        what, solver = KINDS[card["architecture"]]
        wanted = KINDS[architecture][0]
        raise WeightsError(f"{path}: {what}, not {wanted}; use it with {solver}")
    expected = manifest(path.parent).get(path.stem)
    if expected is None:
        raise WeightsError(
            f"{path}: manifest.json beside it does not name it; export the weights again"
        )
    if hashlib.sha256(data).hexdigest() != expected:
        raise WeightsError(f"{path}: damaged (sha256 differs from the manifest's); fetch it again")
    return card, data


def misfit(path: Path, error: Exception) -> WeightsError:
    """The error of weights that do not load into the network of their card."""
    text = " ".join(str(error).split())
    return WeightsError(f"{path}: weights and card do not fit this version: {text}")


def write_checked(folder: str | Path, name: str, data: bytes, card: Mapping[str, Any]) -> Path:
    """Write a weights file with its card, and enter it in the manifest; its path.

    Parameters
    ----------
    folder
        The weights folder, made if it is missing.
    name
        File name without suffix, such as ``tsp-v1``.
    data
        The file's bytes.
    card
        The card without its format.
    """
    from nco.training.config import replacing

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    full = {"format": FORMAT, **card}
    sums = {**manifest(folder), name: hashlib.sha256(data).hexdigest()}
    path = folder / f"{name}.safetensors"
    for target, content in (
        (path, data),
        (folder / f"{name}.json", (json.dumps(full, indent=1, allow_nan=False) + "\n").encode()),
        (folder / "manifest.json", (json.dumps(sums, indent=1, sort_keys=True) + "\n").encode()),
    ):
        with replacing(target) as part:
            part.write_bytes(content)
    return path
