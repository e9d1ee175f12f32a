"""What Linux says about a process and those below it: memory, file handles, zombies, and what was left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalkit.lock import began

#: Kinds by what the command line holds; first match.
KINDS = {"ray::Worker": "workers", "ray::Broker": "broker", "raylet/raylet": "raylet", "gcs_server": "gcs_server"}


@dataclass(frozen=True)
class Process:
    """kind: see `KINDS`, ``driver`` for the first, else ``others``. memory: MiB of its own (anonymous) memory. handles:
    open files, sockets, pipes. began: when, in the kernel's ticks; numbers of processes are used again."""

    pid: int
    began: str
    kind: str
    memory: float
    handles: int
    zombie: bool


def family(root: int) -> list[Process]:
    """`root` and all processes below it; one that ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            found.append(look(pid, root))
        except OSError:
            continue
    return found


def look(pid: int, root: int) -> Process:
    """One process. Raises OSError when it is gone."""
    folder = Path(f"/proc/{pid}")
    command = (folder / "cmdline").read_bytes().decode(errors="replace")
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    kind = "driver" if pid == root else next((kind for part, kind in KINDS.items() if part in command), "others")
    zombie = status["State"].startswith("Z")
    return Process(pid, began(pid), kind, int(status.get("RssAnon", "0 kB").split()[0]) / 1024,
                   0 if zombie else len(os.listdir(folder / "fd")), zombie)


def leftovers() -> set[str]:
    """Names in shared memory and in folders of temporary files that a run could leave behind."""
    folders = (Path("/dev/shm"), Path("/tmp"), Path("/tmp/ray"))
    return {str(path) for folder in folders if folder.is_dir() for path in folder.iterdir()}
