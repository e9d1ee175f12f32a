"""A checkpoint's config.yaml, parsed. No torch: the driver reads it before anything is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import InputError
from evalkit.parsing import ParseError, parse_yaml, read_text

#: Least and most of the numbers that size a model, far beyond every released one: a config cannot ask for all memory.
RANGES = {
    "action_dim": (1, 4096), "state_dim": (0, 4096), "horizon": (1, 4096), "frames": (1, 4096), "steps": (1, 10_000),
    "buckets": (1, 10**6), "heads": (1, 4096), "attention_heads": (1, 4096), "cross_dim": (1, 2**20),
    "text_length": (1, 2**16), "extract_layer": (0, 4096), "condition_time": (0, 1),
}


def read_config(path: Path, layout: str) -> dict[str, Any]:
    """The parsed config.yaml. Raises InputError when it is missing (`layout`: how a checkpoint's folder should look) or
    malformed."""
    if not path.is_file():
        raise InputError(f"{path} is missing. {layout}")
    try:
        parsed = parse_yaml(read_text(path))
    except (ParseError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{path} holds a {type(parsed).__name__}, expected a map")
    return parsed


@contextlib.contextmanager
def reading(source: Path | str) -> Iterator[None]:
    """Raise InputError, in the name of `source`, when a value inside the block is of another type than a config's."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise InputError(f"{source} holds a value that cannot be used: {type(error).__name__}: {error}. Take the file "
                         "that was saved with the checkpoint") from error


def check_ranges(settings: Mapping[str, Any], source: Path | str) -> None:
    """Raise InputError for a number of `settings` outside `RANGES`."""
    for name, (least, most) in RANGES.items():
        if name in settings and not least <= settings[name] <= most:
            raise InputError(f"{source}: {name} is {settings[name]}; allowed: {least} to {most}")
