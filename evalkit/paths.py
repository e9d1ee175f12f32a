"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

#: The folder that holds the packages evalkit, suites and baselines; workers import them from here.
PROJECT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Environments and assets: EVALKIT_CACHE, else ``$XDG_CACHE_HOME/evalkit``, else ``~/.cache/evalkit``.

    On a cluster it must be on a file system that all nodes share.
    """
    chosen = os.environ.get("EVALKIT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "evalkit"
