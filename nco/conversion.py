"""Making instances and moving them from format to format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import numpy as np

from nco.api import Many, PathLike
from nco.instances import io, registry
from nco.instances.core import Batch, InputError, Instance, check_seed, is_whole


@overload
def generate(
    problem: str,
    n: int,
    *,
    seed: int = ...,
    distribution: str | None = ...,
    count: None = ...,
    **options: Any,
) -> Instance[Any]: ...
@overload
def generate(
    problem: str,
    n: int,
    *,
    seed: int = ...,
    distribution: str | None = ...,
    count: int,
    **options: Any,
) -> Many: ...
def generate(
    problem: str,
    n: int,
    *,
    seed: int = 0,
    distribution: str | None = None,
    count: int | None = None,
    **options: Any,
) -> Instance[Any] | Many:
    """Random instances.

    Parameters
    ----------
    problem
        Registered name.
    n
        Size.
    seed
        The same seed gives the same instances.
    distribution
        Name of a distribution; by default the problem's first.
    count
        So many instances, with seeds spawned from ``seed``; None for one alone.
    options
        Parameters of the distribution.

    Returns
    -------
    An instance; with ``count`` a batch, or a list where sizes differ from one instance
    to the next.

    Raises
    ------
    InputError
        When a name, the size or an option is not understood, or memory does not suffice.
    """
    cls: type[Instance[Any]] = registry.problems.load(problem)
    if distribution is not None:
        options["distribution"] = distribution
    if count is not None and not (is_whole(count) and count >= 1):
        raise InputError(None, None, f"count = {count} not understood", "give a whole number >= 1")
    check_seed(seed)
    try:
        if count is None:
            return cls.generate(n, seed=seed, **options)
        seeds = np.random.SeedSequence(seed).generate_state(count)
        instances = [cls.generate(n, seed=int(s), **options) for s in seeds]
    except InputError:
        raise
    except (TypeError, ValueError, MemoryError) as error:
        what = str(error) or "out of memory"
        raise InputError(None, None, f"cannot generate {problem}: {what}") from None
    name = f"{instances[0].name.rpartition('-s')[0] or problem}-s{seed}"
    shapes = [
        {k: v.shape for k, v in i.data().items() if isinstance(v, np.ndarray)} for i in instances
    ]
    stackable = instances[0].data().keys() <= cls.schema().keys()
    if stackable and all(shape == shapes[0] for shape in shapes):
        return Batch.of(instances, name=name)
    return [i.replace(name=f"{name}[{k}]") for k, i in enumerate(instances)]


def write_many(instances: Many, path: PathLike) -> list[Path]:
    """Write a batch as one ``.npz``, or numbered files ``stem-000.suffix``.

    Returns
    -------
    The files written.

    Raises
    ------
    InputError
        When the suffix fits no format of the problem, or a file cannot be written.
    """
    path = Path(path)
    if io.suffix(path) == ".npz":
        batch = instances if isinstance(instances, Batch) else None
        if batch is None:
            try:
                batch = Batch.of(instances, name=path.name.split(".")[0])
            except ValueError as error:
                raise InputError(path, None, str(error), "use another suffix") from None
        io.write(batch, path)
        return [path]
    stem, _, ending = path.name.partition(".")
    width = max(3, len(str(len(instances) - 1)))
    paths = [path.with_name(f"{stem}-{k:0{width}d}.{ending}") for k in range(len(instances))]
    for instance, target in zip(instances, paths, strict=True):
        io.write(instance, target)
    return paths


def convert(
    source: PathLike,
    target: PathLike,
    *,
    problem: str = "",
    metric: str | None = None,
    truncate_budget: bool = False,
) -> list[Path]:
    """Write what a file holds in another format.

    A problem with a compact model can also be written as that model (``.mps``, ``.lp``).
    A batch becomes one ``.npz``, or numbered files.

    Parameters
    ----------
    source, target
        Files; the target's suffix chooses its format.
    problem, metric, truncate_budget
        How to read the source, as in `nco.instances.io.read`.

    Returns
    -------
    The files written.

    Raises
    ------
    InputError
        When the source cannot be understood, or the target's format cannot hold it.
    """
    content = io.read(source, problem, metric, truncate_budget)
    if isinstance(content, Batch):
        modelled = _modelled(content[0], target)
        return write_many([_model(i, target) for i in content] if modelled else content, target)
    io.write(_model(content, target) if _modelled(content, target) else content, target)
    return [Path(target)]


def _modelled(instance: Instance[Any], target: PathLike) -> bool:
    return io.suffix(target) in (".mps", ".lp") and instance.problem != "mip"


def _model(instance: Instance[Any], target: PathLike) -> Instance[Any]:
    to_mip = getattr(instance, "to_mip", None)
    if to_mip is None:
        raise InputError(target, None, f"{instance.problem} has no MIP form", "use another suffix")
    view = to_mip()
    model: Instance[Any] = view.mip.replace(name=instance.name)
    return model
