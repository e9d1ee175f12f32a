"""A checkpoint's config.yaml, parsed. No torch: the driver reads it before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evalkit.errors import InputError


def read_config(path: Path, layout: str) -> dict[str, Any]:
    """The parsed config.yaml. Raises InputError when it is missing (`layout`: how a checkpoint's folder should look) or
    malformed."""
    if not path.is_file():
        raise InputError(f"{path} is missing. {layout}")
    try:
        parsed = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{path} holds a {type(parsed).__name__}, expected a map")
    return parsed
