"""Several nodes for real: `ray start` a few times on this machine, each with its own cores, ports and folders."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.helpers import command, environment

#: Ray itself gives a node 30 s to start, which a busy machine may not keep.
STARTS = 4


class Nodes:
    """A cluster of `ray start` nodes of one core each. variables: what every node and driver of it needs."""

    def __init__(self, folder: Path, ip: str = "127.0.0.1"):
        self.folder, self.processes = folder, {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"{ip}:{free.getsockname()[1]}"
        (folder / "token").write_text(secrets.token_hex(32))  # a head asks for one: nobody else may join it
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
                          "RAY_USAGE_STATS_ENABLED": "0"}

    def start(self, name: str, *prefix: str, ip: str = "127.0.0.1", **variables: str) -> None:
        """One more node; the first is the head. prefix: a command that runs `ray start`, such as ip netns exec."""
        role = [f"--address={self.address}"] if self.processes else [
            "--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false"]
        arguments = [*prefix, str(Path(sys.executable).with_name("ray")), "start", *role, f"--node-ip-address={ip}",
                     f"--node-name={name}", "--num-cpus=1", "--object-store-memory=100000000",
                     f"--temp-dir={self.folder / name}", "--block"]
        log = self.folder / f"{name}.log"
        for _ in range(STARTS):
            with open(log, "w") as file:
                process = subprocess.Popen(arguments, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                                           env=environment(**{**self.variables, **variables, **self._mark(name)}))
            while process.poll() is None and "Ray runtime started" not in log.read_text():
                time.sleep(0.1)
            if process.poll() is None:
                self.processes[name] = process
                return
        raise RuntimeError(f"node {name} did not start:\n{log.read_text()[-2000:]}")

    def _mark(self, name: str) -> dict[str, str]:
        """By what its processes are known."""
        return {"EVALKIT_TEST_NODE": f"{self.folder.name}-{name}"}

    def kill(self, name: str) -> None:
        """What the loss of a machine is: every process of the node, at once."""
        (mark,) = self._mark(name).values()
        while found := processes_of(mark):
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.processes[name].poll()
            time.sleep(0.1)

    def stop(self) -> None:
        """End every node, the head last."""
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)

    def evalkit(self, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        """Run the command line on this cluster."""
        return subprocess.run([*prefix, *command(*arguments, "--ray-address", self.address)], cwd=self.folder,
                              env=environment(**self.variables), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)


@contextmanager
def several_nodes(ip: str = "127.0.0.1") -> Iterator[Nodes]:
    """An empty cluster; its folder has a short name, since Ray keeps sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="evk"))
    nodes = Nodes(folder, ip)
    try:
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder)


def processes_of(identity: str) -> list[int]:
    """Processes whose environment holds `identity`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if identity.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found
