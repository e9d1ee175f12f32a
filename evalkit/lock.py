"""Lock: one driver a run folder, also where the file system has no locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path

from evalkit.errors import InputError

#: Seconds between two signs of life of whoever holds a folder, and how many must fail to come until it counts as gone.
BEAT_SECONDS, MISSED = 5.0, 3

#: What `flock` says where the file system has no locks (some network and FUSE mounts).
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class FolderLock:
    """Held from the constructor to `release` by a file ``.driver`` in `folder` that names the process.

    It is locked where the file system can lock; where it cannot, or locks hold on one machine only, the file's time,
    renewed every `BEAT_SECONDS`, shows that its writer lives. A driver that was killed leaves the file behind, which
    stops nobody. Raises InputError if another process holds it, OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / ".driver"
        self._me = {"host": platform.node(), "process": os.getpid(), "began": began(os.getpid())}
        self._file = self._open()
        try:
            locked = self._flock()
            if self._lives(self._holder(), locked):
                self._refuse()
            self._write()
            if not locked and self._holder() != self._me:  # two began at the same moment
                self._refuse()
        except BaseException:
            os.close(self._file)
            raise
        self._released = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="signs of life").start()

    def release(self) -> None:
        """Let others in."""
        self._released.set()
        with contextlib.suppress(OSError):  # the folder may have become read-only or gone; the lock ends with the file
            if self._holder() == self._me:
                self.path.unlink()
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _flock(self) -> bool:
        """Whether the file is locked now; False where that is not possible. Raises InputError if another holds it."""
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    self._refuse(error)
                return False
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file), os.stat(self.path)):
                    return True
            os.close(self._file)  # its holder removed the file between our opening and locking it
            self._file = self._open()

    def _holder(self) -> dict[str, object]:
        """Who wrote the file; empty: nobody, or only part of it."""
        try:
            held = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return held if isinstance(held, dict) else {}

    def _lives(self, holder: dict[str, object], locked: bool) -> bool:
        """Whether `holder` still writes: on this machine the lock or the process tells, on another the file's time."""
        if not holder:
            return False
        if holder.get("host") == self._me["host"]:
            return not locked and began(holder.get("process")) == holder.get("began")
        print(f"notice: {self.folder} was last written by a driver on {holder.get('host')}; looking for "
              f"{BEAT_SECONDS * MISSED:g} s whether it still runs", file=sys.stderr)
        before, end = self.path.stat().st_mtime_ns, time.monotonic() + BEAT_SECONDS * MISSED
        while time.monotonic() < end:
            time.sleep(BEAT_SECONDS / 10)
            if self.path.stat().st_mtime_ns != before:
                return True
        return False

    def _refuse(self, cause: BaseException | None = None) -> None:
        holder = self._holder()
        who = f" (process {holder.get('process')} on {holder.get('host')})" if holder else ""
        raise InputError(f"another evalkit process is writing to {self.folder}{who}; wait for it or pass another "
                         "--out") from cause

    def _write(self) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(self._me).encode(), 0)
        os.fsync(self._file)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a disk in trouble: the next record says so
                os.utime(self.path)


def began(process: object) -> str:
    """When a process of this machine began, in the kernel's ticks; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
