"""One Python environment for each suite and native baseline, built once by `uv` and kept under a key of its pins."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from evalkit.errors import InputError, unknown
from evalkit.paths import PROJECT, cache_folder
from evalkit.policy import DRIVER
from evalkit.registry import load_suite, policy_class, policy_names, suite_names

WORKER_REQUIREMENTS = Path(__file__).with_name("worker-requirements.txt")
#: Environment variables of every simulator process; they must be set before numpy is loaded.
#: OpenBLAS picks kernels by CPU, and their last bits differ: on a CPU with AVX-512 a LIBERO episode ends in other bits
#: than on one without (measured: 200 recorded episodes replay bit for bit with Haswell kernels on both, on neither with
#: each other's). One choice for all makes records equal between machines; every x86-64 server since 2013 has it.
#: Python keeps compiled modules in our environments also where a container image forbids it: else a LIBERO worker takes
#: 4.6 CPU seconds to its first simulator instead of 2.1 (measured).
PROCESS_VARIABLES = {
    "OPENBLAS_CORETYPE": "Haswell" if platform.machine() == "x86_64" else "",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "",
}

#: PyTorch's own index of CPU builds; asked only where pip's configured places have none.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

_READY = "evalkit.json"  # written last: a folder without it is an unfinished build


@dataclass(frozen=True)
class Environment:
    """An interpreter of its own. name: e.g. ``libero``; requirements: pins, installed without dependencies."""

    name: str
    requirements: Path

    @property
    def torch(self) -> str | None:
        """The version of torch it pins, if any."""
        match = re.search(r"^torch==([\w.]+)", self.requirements.read_text(), re.MULTILINE)
        return match and match[1]

    @property
    def key(self) -> str:
        """Differs when Python's minor version, Ray, any pin or the kind of torch differs."""
        parts = [python_version(), ray_version(), self.requirements.read_text(), WORKER_REQUIREMENTS.read_text()]
        parts += [torch_build()] if self.torch else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]

    @property
    def folder(self) -> Path:
        """``<cache>/envs/<name>-py3.11-<key>``."""
        return cache_folder() / "envs" / f"{self.name}-py{python_version()}-{self.key}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether it has been built completely."""
        return (self.folder / _READY).exists()


def python_version() -> str:
    """``3.11``: Ray needs the same minor version in driver and workers."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def ray_version() -> str:
    """The driver's Ray version, which workers get too."""
    return importlib.metadata.version("ray")


def _suite_pins() -> dict[str, Path]:
    """Names and pins of the suites' environments."""
    return {suite.interpreter: suite.requirements for suite in map(load_suite, suite_names()) if suite.interpreter}


def _policy_pins() -> dict[str, Path]:
    """Names and pins of the policies' environments. A policy that cannot be imported is left out, with a notice: it
    must not cost the others theirs."""
    found = {}
    for name in policy_names():
        try:
            owner = policy_class(name)
        except Exception as error:  # the user's own module may raise anything
            print(f"notice: policy {name!r} cannot be imported ({error!r}); its environment is left out",
                  file=sys.stderr)
            continue
        if owner.interpreter not in ("", DRIVER):
            found[owner.interpreter] = owner.requirements
    return found


def environment_names() -> list[str]:
    """Names of all environments: the suites', then the policies'."""
    return list(_suite_pins() | _policy_pins())


def find_environment(name: str) -> Environment:
    """The Environment called `name`. Raises InputError."""
    suites = _suite_pins()
    declared = suites if name in suites else suites | _policy_pins()
    if name not in declared:
        raise unknown("environment", name, declared)
    return Environment(name, declared[name])


def policy_environment(policy: str) -> Environment | None:
    """The environment that a policy acts in; None: the driver's Python, or the rollout workers."""
    found = policy_class(policy)
    name, requirements = getattr(found, "interpreter", ""), getattr(found, "requirements", None)
    if name in ("", DRIVER):
        return None
    return Environment(name, requirements) if requirements else find_environment(name)


def process_variables() -> dict[str, str]:
    """Environment variables under which any interpreter imports evalkit, suites, baselines and the user's modules, and
    computes the same last bits as in a run (threads and kernels decide them)."""
    paths = [str(PROJECT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **PROCESS_VARIABLES, "PYTHONPATH": os.pathsep.join(paths)}


def torch_build() -> str:
    """``cuda`` or ``cpu``: EVALKIT_TORCH, or what fits this machine. Raises InputError on another value."""
    chosen = os.environ.get("EVALKIT_TORCH") or ("cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu")
    if chosen not in ("cuda", "cpu"):
        raise InputError(f"EVALKIT_TORCH is {chosen!r}; allowed: cpu, cuda (unset: what fits this machine)")
    return chosen


def environment_of(python: Path) -> Environment:
    """The environment whose interpreter, built on this machine, is `python`."""
    return find_environment(json.loads((python.parents[1] / _READY).read_text())["name"])


def ensure_environment(environment: Environment) -> Path:
    """The interpreter of `environment`, built first if need be. Idempotent; safe from several processes."""
    if environment.ready:
        return environment.python
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{environment.folder}.lock"):
        if not environment.ready:
            print(f"building the environment {environment.name!r} in {environment.folder} (once)", file=sys.stderr)
            shutil.rmtree(environment.folder, ignore_errors=True)
            _build(environment)
    return environment.python


def _build(environment: Environment) -> None:
    _uv("venv", "--python", sys.executable, str(environment.folder))
    install = ("pip", "install", "--python", str(environment.python))
    if environment.torch and torch_build() == "cuda":
        _uv(*install, f"torch=={environment.torch}")
    elif environment.torch:
        _install_cpu_torch(environment)
    _uv(*install, "--no-deps", "-r", str(environment.requirements))
    _uv(*install, "-r", str(WORKER_REQUIREMENTS), f"ray=={ray_version()}", "-c", str(environment.requirements))
    info = {"name": environment.name, "python": sys.version.split()[0], "ray": ray_version()}
    (environment.folder / _READY).write_text(json.dumps(info) + "\n")


def _install_cpu_torch(environment: Environment) -> None:
    """torch's CPU build, from where pip is configured to look (find-links, indexes) or from PyTorch's own index.

    By pip, since uv does not read pip's configuration. The local version ``+cpu`` never matches a CUDA build.
    """
    _uv("pip", "install", "--python", str(environment.python), "pip")
    wanted = f"torch=={environment.torch}+cpu"
    command = [str(environment.python), "-m", "pip", "--quiet", "install", "--no-deps", wanted]
    for further in ([], ["--extra-index-url", TORCH_CPU_INDEX, "--retries", "1", "--timeout", "20"]):
        done = subprocess.run([*command, *further], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)
        if done.returncode == 0:
            return
    raise InputError(f"no CPU build {wanted} for Python {python_version()}: neither where pip looks nor at "
                     f"{TORCH_CPU_INDEX}:\n{done.stderr.strip()[-600:]}\n"
                     "Point PIP_FIND_LINKS at a folder that holds the wheel, or set EVALKIT_TORCH=cuda to take the "
                     "CUDA build (several GB).")


def _uv(*arguments: str) -> None:
    """Run uv quietly. Raises InputError with its output when it fails."""
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          env={**os.environ, "VIRTUAL_ENV": ""})
    if done.returncode != 0:
        raise InputError(f"uv {' '.join(arguments)} failed with status {done.returncode}:\n{done.stderr.strip()}\n"
                         "Check that a Python package index can be reached, then repeat the command.")


def become(name: str, arguments: Sequence[str]) -> None:
    """Go on as the interpreter of environment `name` of this machine, wherever its cache is; does not return."""
    python = str(ensure_environment(find_environment(name)))
    os.execv(python, [python, *arguments])


def remove_environment(environment: Environment) -> bool:
    """Delete it; False when there was nothing to delete."""
    if not environment.folder.exists():
        return False
    shutil.rmtree(environment.folder)
    return True


if __name__ == "__main__":  # python -m evalkit.environments NAME ARGUMENTS: how a node starts a worker
    become(sys.argv[1], sys.argv[2:])
