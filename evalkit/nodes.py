"""Nodes: what every machine of a cluster needs before an actor starts there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evalkit import cluster
from evalkit.assets import tree_digest
from evalkit.environments import ensure_environment, environment_of, find_environment
from evalkit.errors import InputError
from evalkit.paths import PROJECT

#: Code that decides results.
CODE = ("evalkit", "suites", "baselines")


def prepare(python: Path | None, assets: Path | None = None, gpus: float = 0) -> None:
    """Make a cluster of several nodes ready for actors in interpreter `python`: each node with so many GPUs builds that
    environment in its own cache, and has the driver's code and `assets` at the same paths.

    Raises InputError that names the node. Nothing to do on a single node: it is the driver's own.
    """
    if len(cluster.nodes()) < 2:
        return
    name = environment_of(python).name if python else None
    folders = [*(PROJECT / part for part in CODE), *([assets] if assets else [])]
    cluster.on_each_node(prepare_this, name, {folder: tree_digest(folder) for folder in folders}, gpus=gpus)


def prepare_this(environment: str | None, digests: Mapping[Path, str]) -> None:
    """Build `environment` on this node, and check folders against the driver's `digests`. Raises InputError."""
    if environment:
        ensure_environment(find_environment(environment))
    for folder, digest in digests.items():
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: put code and assets on a file system that all nodes share, "
                             "or copy them to the same paths")
        if tree_digest(folder) != digest:
            raise InputError(f"{folder} holds other files than on the driver's machine: copy those there, so that no "
                             "record depends on its node")
