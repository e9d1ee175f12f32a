"""Assets of a suite: which folder, of which kind, with which content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evalkit.registry import load_object
from evalkit.suite import Suite

REAL, ALTERED, STAND_IN, BUILT_IN = "real", "altered", "stand-in", "built-in"

#: What a table's title says about numbers made on assets of each kind.
WARNINGS = {
    REAL: "",
    ALTERED: "altered visuals: results of policies that use images are not comparable with published results",
    STAND_IN: "stand-in assets: not comparable with published results",
    BUILT_IN: "built-in scenes: not comparable with published results",
}


@dataclass(frozen=True)
class Assets:
    """A checked asset folder.

    kind: `real`; `altered` (upstream's physics, other pictures); `stand-in` (upstream's code on generated assets); or
    `built-in` (scenes of our own: the folder is their code).
    """

    kind: str
    folder: Path
    digest: str

    @property
    def scenes(self) -> str:
        """Where scenes made with them come from: ``upstream`` or ``builtin``."""
        return "builtin" if self.kind == BUILT_IN else "upstream"


def resolve_assets(suite: Suite, choice: str, tasks: list[int], python: Path | None,
                   scenes: str = "upstream") -> Assets | None:
    """The assets that `choice` (real, stand-in, auto or a folder) means for `tasks` of `suite` on `scenes`.

    None for a suite that needs none. Downloads or generates where that is the choice's meaning (`python` is the
    suite's interpreter). Raises InputError when the choice cannot be served.
    """
    if not suite.assets:
        return None
    return load_object(suite.assets)(suite, choice, scenes, tasks, python)


def local_assets(suite: Suite, python: Path) -> Assets:
    """The best assets of `suite` that are on this machine, by function ``local`` beside its `resolve_assets`.

    Never downloads; stand-ins that take seconds are generated. Raises InputError for a wrong folder that a variable
    names.
    """
    return load_object(f"{suite.assets.partition(':')[0]}:local")(suite, python)


@cache
def tree_digest(folder: Path) -> str:
    """Sixteen hex digits of all files below `folder` (names and bytes), hidden and compiled ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part[0] == "." or part == "__pycache__" for part in relative.parts):
            digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
