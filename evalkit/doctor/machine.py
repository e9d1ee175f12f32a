"""The machine's own limits before a run: cores, memory, disk, shared memory, open files."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evalkit.doctor.findings import Finding, ok, problem, warning
from evalkit.paths import cache_folder

GIB = 2**30

#: Ray's logs, object spill and sockets; it refuses new objects when a disk is 95 % full.
RAY_FOLDER = Path(os.environ.get("RAY_TMPDIR", "/tmp"))

#: GiB: an environment of a suite takes 1 to 2 (with torch 5), assets up to 5; records, videos and tables of a run; Ray.
CACHE_GIB, RESULTS_GIB, TEMPORARY_GIB = 5.0, 2.0, 2.0

#: GiB of shared memory: the object store asks for 0.25 (cluster.py) and falls back to the disk where it has less.
SHARED_GIB = 0.3

#: Open files that one process may hold: more than twice what Ray's raylet was seen to (48, and 4 for each worker).
OPEN_FILES, OPEN_FILES_A_WORKER = 256, 10


@dataclass(frozen=True)
class Facts:
    """What a machine has. cores: those that this process may use. memory_gb: GiB that a run may take now."""

    cores: int
    memory_gb: float
    open_files: int


def facts() -> Facts:
    """Of this machine."""
    return Facts(len(os.sched_getaffinity(0)), available_memory() / GIB, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def available_memory() -> int:
    """Bytes that can be taken without swapping, inside this container's limit (cgroup 2 or 1) if it has one."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    for limit, used in (("memory.max", "memory.current"),
                        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        paths = [Path("/sys/fs/cgroup", name) for name in (limit, used)]
        if all(path.is_file() for path in paths) and (text := paths[0].read_text().strip()).isdigit():
            return max(0, min(available, int(text) - int(paths[1].read_text())))
    return available


def check_workers(machine: Facts, workers: int | None, memory_gb: float) -> Iterator[Finding]:
    """Cores, memory and open files for `workers` (None: one a core) of `memory_gb` GiB each."""
    asked = workers or machine.cores
    yield check_cores(machine, asked)
    yield check_memory(machine, asked, memory_gb)
    yield check_open_files(machine, asked)


def check_cores(machine: Facts, workers: int) -> Finding:
    """A worker keeps one core busy."""
    found = f"{machine.cores} cores, {workers} workers"
    if workers <= machine.cores:
        return ok("cores", found)
    return warning("cores", found, f"--workers {machine.cores}: more share the cores, and help only while they wait "
                   "for a policy")


def check_memory(machine: Facts, workers: int, memory_gb: float) -> Finding:
    """Every worker's simulator at its largest."""
    fits = int(machine.memory_gb / memory_gb)
    found = f"{machine.memory_gb:.1f} GiB free, {workers} workers take {workers * memory_gb:g} GiB"
    if fits >= workers:
        return ok("memory", found)
    if fits < 1:
        return problem("memory", found, f"free some: one worker needs {memory_gb:g} GiB")
    return warning("memory", found, f"{fits} workers fit; end what else runs here, or pass --workers {fits}")


def check_open_files(machine: Facts, workers: int) -> Finding:
    """Ray's raylet holds sockets and pipes of every worker."""
    needed = OPEN_FILES + OPEN_FILES_A_WORKER * workers
    found = f"{machine.open_files} allowed in a process, {needed} may be needed"
    if machine.open_files >= needed:
        return ok("open files", found)
    return warning("open files", found, f"ulimit -n {max(65536, needed)} in the shell that starts the run")


def check_disks(results: Path) -> Iterator[Finding]:
    """Cache, the folder of results, and Ray's own; places on one disk are one row."""
    places = [("cache", cache_folder(), CACHE_GIB), ("results", results, RESULTS_GIB),
              ("Ray", RAY_FOLDER, TEMPORARY_GIB)]
    disks: dict[int, list[tuple[str, Path, float]]] = {}
    for place in places:
        disks.setdefault(existing(place[1]).stat().st_dev, []).append(place)
    for members in disks.values():
        yield check_disk(members, shutil.disk_usage(existing(members[0][1])).free / GIB)
    yield check_writable([path for _, path, _ in places])


def check_disk(members: list[tuple[str, Path, float]], free: float) -> Finding:
    """members: (name, folder, GiB needed) of the places on one disk with `free` GiB."""
    names, needed = ", ".join(name for name, _, _ in members), sum(gib for _, _, gib in members)
    found = f"{free:.0f} GiB free for {names} ({', '.join(str(path) for _, path, _ in members)})"
    if free >= needed:
        return ok("disk", found)
    move = "free some, or move it: EVALKIT_CACHE for the cache, --out for results, RAY_TMPDIR for Ray"
    return (problem if free < needed / 4 else warning)("disk", f"{found}; {needed:g} GiB may be needed", move)


def check_writable(folders: list[Path]) -> Finding:
    """Whether a file can be made in each (a quota or a read-only mount shows only then)."""
    for folder in folders:
        try:
            with tempfile.TemporaryFile(dir=existing(folder)) as file:
                file.write(b"evalkit")
        except OSError as error:
            return problem("folders", f"{existing(folder)}: {error.strerror}",
                           "mend its permissions or quota, or use another folder")
    return ok("folders", f"files can be made in {', '.join(map(str, folders))}")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Where Ray keeps objects that travel between processes."""
    free = shutil.disk_usage(folder).free / GIB if folder.is_dir() else 0.0
    found = f"{free:.2f} GiB free in {folder}"
    if free >= SHARED_GIB:
        return ok("shared memory", found)
    return warning("shared memory", found, "Ray falls back to the disk, slower; in Docker: --shm-size=1g")


def existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
