"""The cluster: this machine alone or several. The only file that imports ray."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.environments import PROCESS_VARIABLES, environment_of
from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.texts import plain

#: Variables of the driver that actors get too; folders only on a cluster of one node: each of several has its own.
PASSED_ON, FOLDERS = ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID"), ("EVALKIT_CACHE", "XDG_CACHE_HOME", "HF_HOME")

#: Whose values `publish` leaves in the cluster's table.
NAMESPACE = b"evalkit"

#: Attempts to start a cluster of this machine.
STARTS = 3

#: Methods of Ray's Node (2.60, which is pinned) that start what nobody asks on one machine: autoscaler, dashboard, log
#: monitor. Without these three Python processes a start takes 3 CPU seconds instead of 7, and half of the time.
UNUSED = ("start_monitor", "start_api_server", "start_log_monitor")

#: Folder of sockets and logs of a cluster that `connect` started.
_session: Path | None = None

#: Actors to end when this process leaves a cluster that it had joined before the run; None where the run joined it.
_guests: list[Any] | None = None


class ProcessDied(RuntimeError):
    """An actor's process ended, or the cluster lost it. The text holds the last lines of what is known."""


def connect(address: str | None, cpus: int) -> None:
    """Connect to the cluster at `address`, or start one on this machine with room for `cpus` actors of one core.

    A process that is connected already, such as a training script that uses Ray, stays in its cluster.
    Raises InputError if the cluster cannot be reached or is smaller.
    """
    global _guests, _session
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave the GPU visible to EGL
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # no actor here could use a prestarted process
    # Ray's store would keep what became of every call: 4 to 6 MiB a thousand episodes.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    import ray

    if ray.is_initialized():
        _guests = []
        _check_size(cpus, "this process's cluster")
        return
    terminate = signal.getsignal(signal.SIGTERM)
    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:  # "local": without it ray would join whatever cluster RAY_ADDRESS or a `ray start` names
        _start_local(num_cpus=cpus, include_dashboard=False, object_store_memory=256 * 2**20, **common)
        _session = Path(_living()[0]["RayletSocketName"]).parents[1]
    else:
        try:
            _check_listening(address)
            ray.init(address=address, **common)
        except (OSError, ValueError, RuntimeError) as error:  # ConnectionError is an OSError
            raise InputError(f"cannot reach a Ray cluster at {address!r}: {error}\nStart one with `ray start --head`, "
                             "set RAY_AUTH_TOKEN_PATH if it asks for a token, or leave --ray-address out to use this "
                             "machine alone.") from error
        _check_size(cpus, f"the cluster at {address!r}")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)  # ray.init replaces it by one that does not unwind as Ctrl-C does


def _check_size(cpus: int, what: str) -> None:
    found = available_cores()
    if found < cpus:
        disconnect()
        raise InputError(f"{cpus} workers asked for, {what} has {found} CPUs; pass --workers {found} or fewer")


def disconnect(keep_logs: bool = False) -> None:
    """Leave the cluster; one that `connect` started ends, and its folder goes unless somebody may want Ray's logs.
    One that this process had joined before stays, without the actors of the run."""
    global _guests, _session
    import ray

    if _guests is None:
        ray.shutdown()
        if _session is not None and not keep_logs:
            shutil.rmtree(_session, ignore_errors=True)
        _session = None
        return
    for handle in _guests:
        kill(handle)
    _guests = None


def nodes() -> list[Mapping[str, float]]:
    """Resources of each living node: ``CPU``, ``GPU``, ``memory`` (bytes)."""
    return [node["Resources"] for node in _living()]


def _living() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _name(node: Mapping[str, Any]) -> str:
    """What `ray start --node-name` called it, else the machine's name."""
    return node["NodeName"] if node["NodeName"] != node["NodeManagerAddress"] else node["NodeManagerHostname"]


def node_name() -> str | None:
    """Name of the node that this process runs on; None outside a cluster."""
    import ray

    if not ray.is_initialized():
        return None
    number = ray.get_runtime_context().get_node_id()
    return next(_name(node) for node in ray.nodes() if node["NodeID"] == number)


def on_each_node(function: Callable[..., Any], *arguments: Any, gpus: float = 0) -> dict[str, Any]:
    """What ``function(*arguments)`` returns on every node that has so many GPUs, in that node's own Python and with its
    own environment variables, by node. Raises InputError that names the node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task, running, found = ray.remote(function), [], {}
    for node in _living():
        if node["Resources"].get("GPU", 0) >= gpus:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"num_cpus": 0, "max_retries": 0, "runtime_env": runtime(None, {}), "scheduling_strategy": there}
            running.append((_name(node), task.options(**options).remote(*arguments)))
    for name, reference in running:
        try:
            found[name] = get(reference)
        except Exception as error:
            raise InputError(f"node {name!r} of the cluster is not ready:\n{last_lines(str(error))}") from error
    return found


def cores(address: str | None) -> int:
    """Cores of this machine, or of the whole cluster at `address`."""
    import ray

    if address is None and not ray.is_initialized():
        return os.cpu_count() or 1
    connect(address, 1)
    found = available_cores()
    disconnect()
    return found


def available_cores() -> int:
    """Cores of the living nodes of the cluster that this process is connected to."""
    return int(sum(resources.get("CPU", 0) for resources in nodes()))


def gpus() -> int:
    """GPUs of the whole cluster."""
    return int(sum(resources.get("GPU", 0) for resources in nodes()))


def actor(kind: type, *arguments: Any, python: Path | None = None, cpus: float = 1, gpus: float = 0,
          memory: int | None = None, variables: Mapping[str, str] | None = None, concurrency: int | None = None,
          here: bool = False) -> Any:
    """A handle of a new process that holds ``kind(*arguments)``, in interpreter `python` (None: the driver's).

    here: on the driver's own node, so that no other node takes it along when it is lost.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options = {"num_cpus": cpus, "num_gpus": gpus, "memory": memory, "max_restarts": 0, "max_task_retries": 0,
               "runtime_env": runtime(python, variables or {})}
    if concurrency is not None:
        options["max_concurrency"] = concurrency
    if here:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False)
    handle = ray.remote(kind).options(**options).remote(*arguments)
    if _guests is not None:
        _guests.append(handle)
    return handle


def runtime(python: Path | None, variables: Mapping[str, str]) -> dict[str, Any]:
    """Ray's runtime_env of an actor: interpreter, import path, environment variables."""
    several = len(nodes()) > 1
    names = PASSED_ON if several else (*PASSED_ON, *FOLDERS)
    passed = {name: os.environ[name] for name in names if name in os.environ}
    environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(PROJECT), os.getcwd()]),
                                                **PROCESS_VARIABLES, **passed, **variables}}
    if python is not None and several:
        environment["py_executable"] = (f"{shlex.quote(sys.executable)} -m evalkit.environments "
                                        f"{environment_of(python).name}")
    elif python is not None:
        environment["py_executable"] = str(python)
    return environment


def get(reference: Any, timeout: float | None = None) -> Any:
    """What a call returned. Re-raises what it raised; ProcessDied if its process is gone; TimeoutError."""
    import ray

    try:
        return ray.get(reference, timeout=timeout)
    except ray.exceptions.GetTimeoutError as error:
        raise TimeoutError(str(error)) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ProcessDied(last_lines(str(error))) from error


def wait(references: Sequence[Any], timeout: float) -> list[Any]:
    """Those of `references` that are finished: at least one, unless `timeout` seconds pass."""
    import ray

    return ray.wait(list(references), num_returns=1, timeout=timeout)[0]


def kill(handle: Any) -> None:
    """End an actor's process."""
    import ray

    ray.kill(handle, no_restart=True)


def publish(key: str, value: bytes) -> None:
    """Leave `value` where any process of the cluster finds it: in the head node's table, which needs no process and no
    port of its own."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(key.encode(), value, overwrite=True, namespace=NAMESPACE)


def published(key: str) -> bytes | None:
    """What was last published under `key`."""
    from ray.experimental import internal_kv

    return internal_kv._internal_kv_get(key.encode(), namespace=NAMESPACE)


def unpublish(prefix: str) -> None:
    """Remove what was published under keys that begin with `prefix`."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(prefix.encode(), del_by_prefix=True, namespace=NAMESPACE)


def _start_local(**options: Any) -> None:
    """Start a cluster of this machine alone; again if a busy machine was too slow for Ray's own limit of 30 s, which
    it reports by a bare Exception. Raises InputError after `STARTS` attempts."""
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            with _bare_node():
                ray.init(address="local", **options)
            return
        except Exception as error:
            ray.shutdown()
            if attempt == STARTS:
                raise InputError(f"Ray did not start on this machine in {STARTS} attempts: {error}\nIs it overloaded "
                                 "or out of memory or disk space? Ray's own logs are in /tmp/ray.") from error
            print(f"notice: Ray did not start ({last_lines(str(error), 1)}); trying again", file=sys.stderr)


@contextlib.contextmanager
def _bare_node() -> Iterator[None]:
    """A node that Ray starts meanwhile does without what is `UNUSED`."""
    from ray._private.node import Node

    kept = {name: getattr(Node, name) for name in UNUSED}
    for name in kept:
        setattr(Node, name, lambda node, **options: None)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Node, name, method)


def _check_listening(address: str) -> None:
    """Raise OSError soon if nobody listens at ``[scheme://]host:port``: Ray itself would try for many minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator:
        socket.create_connection((host, int(port)), timeout=10).close()


def last_lines(text: str, count: int = 12) -> str:
    """The last `count` lines of `text` that are not empty."""
    return "\n".join([plain(line) for line in text.splitlines() if line.strip()][-count:])
