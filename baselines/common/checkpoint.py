"""Checkpoints: read without running what is pickled in them, and put into modules without a key too many or too few."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from evalkit.errors import InputError

#: Keys that an error names of each kind; the rest is counted.
NAMED = 4


def read_state_dict(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of a file written by `torch.save`, mapped into memory: pages are read when a tensor is.

    Raises InputError for a missing or damaged file, anything but a flat map from names to tensors, and for pickled
    code, which is refused, never run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise InputError(f"checkpoint {path} holds more than tensors, so it is refused: unpickling it would run code.\n"
                         f"{str(error).splitlines()[0]}\nSave a plain state dict: torch.save(model.state_dict(), path)"
                         ) from error
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError, AttributeError, AssertionError,
            OverflowError, MemoryError, struct.error) as error:  # a damaged file ends anywhere in torch's reader
        raise InputError(f"checkpoint {path} cannot be read: {error}\nA download that was cut short looks like this; "
                         "compare its size and hash with the publisher's.") from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) and isinstance(value, torch.Tensor)
                                               for name, value in loaded.items()):
        raise InputError(f"checkpoint {path} is not a flat state dict (names to tensors)")
    return dict(loaded)


def _is_zip(path: Path) -> bool:
    """Whether it is torch's present format, the one that can be mapped."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def take(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name[len(prefix):]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_prefixes(tensors: Mapping[str, torch.Tensor], prefixes: Iterable[str], source: Path | str) -> None:
    """Raise InputError if a name starts with none of `prefixes`, or a prefix has no name."""
    prefixes = tuple(prefixes)
    foreign = [name for name in tensors if not name.startswith(prefixes)]
    empty = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in tensors)]
    if foreign or empty:
        raise InputError(f"checkpoint {source} has other parts than this policy:\n"
                         + _listed("unexpected", foreign) + _listed("missing: no key under", empty)
                         + "Is it a checkpoint of this policy, complete and as released?")


def load_strict(module: nn.Module, tensors: Mapping[str, torch.Tensor], skip: Sequence[str] = (),
                name: str = "") -> None:
    """Assign `tensors` to `module` (which may be on `meta`) without copying them.

    skip: prefixes of names that are left out on purpose, on either side. Raises InputError naming missing, unexpected
    and wrongly shaped keys; name: what `module` is, for this error.
    """
    wanted, given = (
        {key: value for key, value in pairs.items() if not any(key.startswith(prefix) for prefix in skip)}
        for pairs in (module.state_dict(keep_vars=True), tensors))
    shapes = [f"{key} {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
              for key in wanted if key in given and given[key].shape != wanted[key].shape]
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    if missing or unexpected or shapes:
        raise InputError(f"the checkpoint does not fit {name or type(module).__name__}:\n" + _listed("missing", missing)
                         + _listed("unexpected", unexpected) + _listed("of another shape", shapes)
                         + "Is it of another size, version or embodiment than config.yaml and the base folder say?")
    module.load_state_dict(given, strict=False, assign=True)


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"  - {kind} ({len(names)}): {', '.join(names[:NAMED])}{more}\n"


def check_materialized(module: nn.Module, name: str) -> None:
    """Raise RuntimeError if a parameter or buffer still lies on `meta`."""
    left = [key for key, tensor in [*module.named_parameters(), *module.named_buffers()] if tensor.is_meta]
    if left:
        raise RuntimeError(f"{name} still has tensors on meta: {left[:NAMED]}")


def parameter_count(tensors: Mapping[str, torch.Tensor]) -> int:
    """Numbers in all tensors."""
    return sum(tensor.numel() for tensor in tensors.values())


def file_sha256(path: Path | str) -> str:
    """sha256 of a file, read once in pieces."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 24):
            digest.update(piece)
        return digest.hexdigest()
