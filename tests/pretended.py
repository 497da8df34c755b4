"""A CUDA device that is pretended on the CPU.

Its tensors hold one of the CPU each and say that they are on `DEVICE`. As on a real one, an
operation with tensors of both places fails, and so does one with a generator of the other place,
or a conversion to numpy. Speed, memory and what kernels can compute are not pretended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import pytest
import torch
import torch._dynamo  # looks for functions of torch when first imported, before any is replaced
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

#: With its number: PyTorch asks the driver for that of a device without.
DEVICE = torch.device("cuda:0")
#: What takes tensors of both places: copies, and indices of what is on the device.
COPIES = {"copy_", "_to_copy"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
#: Bytes that are free on the device.
FREE = 2**36


class Pretended(Tensor):
    """A tensor of the device; ``inner`` is the one that is computed with."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        """Of the same shape and type; PyTorch itself takes it for one without data."""
        made: Self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device="meta",
        )  # fmt: skip
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def numpy(self, *args: Any, **options: Any) -> np.ndarray[Any, Any]:
        raise TypeError("can't convert a tensor of the device to numpy; copy it to the host first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype, device=DEVICE)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """Makes what makes tensors make those of the device, too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})


class Generator(torch.Generator):
    """Of random numbers, on the CPU or on the device."""

    #: Those of the device, which PyTorch hands on as others of the same address.
    there: list[Generator] = []  # noqa: RUF012

    def __new__(cls, device: Any = "cpu") -> Self:
        made = super().__new__(cls, "cpu")
        if torch.device(device).type == "cuda":
            cls.there.append(made)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE if any(x is self for x in self.there) else torch.device("cpu")


def call(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """An operation of PyTorch with the tensors inside.

    Raises
    ------
    RuntimeError
        Where what takes part is not in one place.
    """
    name = func.overloadpacket.__name__
    if name == "_fused_sdp_choice":
        return 0  # attention by its formula: the fused ones are other operations there
    given = tree_leaves((args, kwargs))
    tensors = [x for x in given if isinstance(x, Tensor)]
    there = any(isinstance(x, Pretended) for x in tensors)
    # Indices may come from the host, but neither what they index nor what is put there. A single
    # number of the host may go with tensors of the device.
    together = [args[0], *args[2:3]] if name in INDEXED else tensors
    here = [x for x in together if isinstance(x, Tensor) and not isinstance(x, Pretended)]
    alien = any(x.dim() for x in here)
    if there and alien and name not in COPIES:
        raise RuntimeError(f"{func}: tensors of the host and of the device.")
    to = kwargs.get("device")
    result_there = there if to is None else torch.device(to).type != "cpu"
    known = [x._cdata for x in Generator.there]  # type: ignore[attr-defined]
    if any(
        isinstance(x, torch._C.Generator) and (x._cdata in known) != result_there for x in given
    ):
        raise RuntimeError(f"{func}: a generator of the other place.")
    options = kwargs if to is None else {**kwargs, "device": torch.device("cpu")}
    # Tensors of inference mode have no versions, which views of them ask for.
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
            modes.enter_context(torch.no_grad())
        inner = tree_map(lambda x: x.inner if isinstance(x, Pretended) else x, (args, options))
        out = func(*inner[0], **inner[1])
        if not result_there:
            return out
        out = tree_map(lambda x: Pretended(x) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(func, args, dict(kwargs), out)


def moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` or `torch.as_tensor`, which PyTorch dispatches nowhere."""

    def made(data: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        if isinstance(data, Pretended):
            return data.to(device or DEVICE, dtype or data.dtype)
        out = make(data, dtype=dtype, **options)
        return out if device is None else out.to(device)

    return made


def pretend(patch: pytest.MonkeyPatch) -> TorchDispatchMode:
    """Replace what asks for a device, until the patch is undone; the mode is to be entered."""
    answers: dict[str, Any] = {
        "_lazy_init": None, "is_available": True, "device_count": 1, "mem_get_info": (FREE, FREE),
        "get_device_capability": (9, 0), "memory_reserved": 0, "memory_allocated": 0,
        "synchronize": None, "set_device": None, "empty_cache": None,
    }  # fmt: skip
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    for name in ("tensor", "as_tensor"):
        patch.setattr(torch, name, moved(getattr(torch, name)))
    patch.setattr(Generator, "there", [])
    patch.setattr(torch, "Generator", Generator)
    # Whose tensors are replaced, not what they hold.
    patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    return Everywhere()
