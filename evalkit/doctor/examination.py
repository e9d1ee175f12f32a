"""Examination: all checks of a machine, a suite and a policy, one after the other or side by side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evalkit import cluster, egl
from evalkit.assets import REAL, STAND_IN, WARNINGS, Assets, local_assets
from evalkit.doctor import machine
from evalkit.doctor.findings import PROBLEM, Finding, ok, problem, warning
from evalkit.environments import Environment, policy_environment, process_variables, python_version, ray_version
from evalkit.errors import InputError
from evalkit.registry import absolute_options, absolute_policy, load_suite, policy_class
from evalkit.suite import Suite

#: Debian's packages for EGL with software rendering; PyOpenGL needs libgl1 for glGetError.
GL_PACKAGES = ("libegl1", "libgl1", "libgl1-mesa-dri")

#: Checks at a time: most wait for processes that load simulators, each of which keeps a core busy.
AT_ONCE = 2

#: Seconds for one check in another interpreter; a checkpoint may take minutes to load.
SUITE_SECONDS, POLICY_SECONDS = 180.0, 3600.0

#: Seconds until an actor must be there, on a busy machine.
ACTOR_SECONDS = 120.0

#: Yields findings.
Check = Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Question:
    """What is asked. suites: names. policy, options: to be tried on them; None: none. workers: None: one a core.
    results: where runs go. quick: environments and OpenGL only. Suites that share an interpreter are tried as one."""

    suites: Sequence[str]
    policy: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    address: str | None = None
    results: Path = Path("results/runs")
    quick: bool = False


def examine(question: Question, fix: bool = False) -> list[Finding]:
    """All findings, in the table's order. `fix` may install the OpenGL library."""
    suites = [suite for suite in _representatives(question.suites) if suite.interpreter]
    built = [suite for suite in suites if _environment(suite).ready]
    drawing = {f"OpenGL, {suite.interpreter}": partial(check_gl, suite) for suite in built}
    findings = _run({"environments": partial(check_environments, suites), **drawing})
    if fix and any(finding.level == PROBLEM for finding in findings) and install_gl():
        findings = _run({"environments": partial(check_environments, suites), **drawing})
    return findings if question.quick else findings + _run(_slow_checks(question, built))


def _slow_checks(question: Question, built: Sequence[Suite]) -> dict[str, Check]:
    """What is checked beyond OpenGL, by name; `built`: a suite for each environment that is there."""
    needs = max(next(iter(load_suite(name).scenes.values())).memory_gb for name in question.suites)
    checks: dict[str, Check] = {f"scenes, {suite.interpreter}": partial(check_scenes, suite) for suite in built}
    for suite in _representatives(question.suites) if question.policy else ():
        checks[f"policy, {suite.name}"] = partial(check_policy, question, suite.name)
    checks["Ray"] = partial(check_ray, question.address, question.workers, needs, [*map(_environment, built)])
    if question.address is None:
        checks["workers"] = lambda: machine.check_workers(machine.facts(), question.workers, needs)
    return {**checks, "disks": partial(machine.check_disks, question.results),
            "shared memory": lambda: [machine.check_shared_memory()]}


def _representatives(suites: Iterable[str]) -> list[Suite]:
    """The first suite of each interpreter; suites that share one share simulator, views and actions."""
    found: dict[str, Suite] = {}
    for suite in map(load_suite, suites):
        found.setdefault(suite.interpreter, suite)
    return list(found.values())


def _environment(suite: Suite) -> Environment:
    return Environment(suite.interpreter, suite.requirements)


def _run(checks: Mapping[str, Check]) -> list[Finding]:
    """Findings of all checks, in the order of `checks`; a few run at once, with a progress bar. One that raises is a
    finding itself."""
    results: dict[str, list[Finding]] = {}
    bar = tqdm(total=len(checks), unit="check", file=sys.stderr, leave=False, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(AT_ONCE) as pool:
        started = {pool.submit(_findings, name, check): name for name, check in checks.items()}
        for done in as_completed(started):
            results[started[done]] = done.result()
            bar.set_postfix_str(f"{started[done]} checked")
            bar.update()
    return [finding for name in checks for finding in results[name]]


def _findings(name: str, check: Check) -> list[Finding]:
    try:
        return list(check())
    except InputError as error:
        return [problem(name, str(error), "mend what it says")]
    except Exception as error:
        return [problem(name, f"the check itself failed: {type(error).__name__}: {error}", "this is a bug; report it")]


# --- environments ---------------------------------------------------------------------------------


def check_environments(suites: Iterable[Suite]) -> Iterator[Finding]:
    """Whether they are built; that of the driver, too."""
    yield ok("evalkit", f"Python {python_version()}, Ray {ray_version()} in {sys.prefix}")
    for suite in suites:
        name, environment = suite.interpreter, _environment(suite)
        if environment.ready:
            yield ok(f"{name} environment", f"built in {environment.folder}")
        else:
            yield warning(f"{name} environment", "not built, so nothing of it was checked",
                          f"evalkit env create {name} (else the first run builds it)")


def check_gl(suite: Suite) -> Iterator[Finding]:
    """Which OpenGL backends draw in the suite's interpreter."""
    yield from _elsewhere(_environment(suite).python, suite.interpreter, "evalkit.doctor.preflight", "gl")


def check_scenes(suite: Suite) -> Iterator[Finding]:
    """The assets on this machine, and the suite's simulator on them."""
    name, python = suite.interpreter, _environment(suite).python
    try:
        assets = local_assets(suite, python)
    except InputError as error:
        yield problem(f"{name} assets", str(error), f"evalkit assets {suite.name} finds or downloads them")
        return
    yield judge_assets(name, suite, assets)
    if suite.preflight:
        settings = {"suite": suite.name, "kind": assets.kind, "folder": str(assets.folder), "digest": assets.digest}
        yield from _elsewhere(python, name, "evalkit.doctor.preflight", "check", json.dumps(settings))


def judge_assets(name: str, suite: Suite, assets: Assets) -> Finding:
    """Kind, folder and digest of what is here."""
    found = f"{assets.kind}, digest {assets.digest}, in {assets.folder}"
    if assets.kind == REAL:
        return ok(f"{name} assets", found)
    move = f"evalkit assets {suite.name} downloads the real ones" if assets.kind == STAND_IN else \
        f"fine for policies without views; evalkit assets {suite.name} --assets real" if assets.scenes == "upstream" \
        else f"evalkit assets {suite.name} gets upstream's"
    return warning(f"{name} assets", f"{found}: {WARNINGS[assets.kind]}", move)


# --- policy ---------------------------------------------------------------------------------------


def check_policy(question: Question, suite_name: str) -> Iterator[Finding]:
    """Load the policy where a run would, and ask it once. One that lives in the workers is tried in the suite's
    interpreter."""
    name, suite = f"{question.policy} on {suite_name}", load_suite(suite_name)
    environment = policy_environment(question.policy) or (
        _environment(suite) if suite.interpreter and not policy_class(question.policy).interpreter else None)
    if environment is not None and not environment.ready:
        yield warning(name, f"not tried: environment {environment.name!r} is not built",
                      f"evalkit env create {environment.name}")
        return
    settings = {"policy": absolute_policy(question.policy), "suite": suite_name,
                "options": absolute_options(question.options)}
    python = environment.python if environment else Path(sys.executable)
    if environment is not None and environment.torch:
        yield from judge_sharing(name, egl.usable(egl.devices(), os.environ.get("CUDA_VISIBLE_DEVICES")))
    yield from _elsewhere(python, name, "evalkit.doctor.inference", json.dumps(settings), seconds=POLICY_SECONDS)


def judge_sharing(name: str, drawing: Sequence[egl.Device]) -> Iterator[Finding]:
    """Whether simulators draw on the only GPU, where a policy with torch computes, too. drawing: devices of workers."""
    if len(drawing) == 1 and drawing[0].cuda is not None and "MUJOCO_GL" not in os.environ:
        yield warning(f"{name} GPU", f"{drawing[0]}: simulators draw where the policy computes; NVIDIA's driver has "
                      "been seen to abort then (4 of 4 runs; apart 0 of 6)",
                      "if workers die, MUJOCO_GL=osmesa lets the CPU draw, or use a second GPU")


# --- Ray ------------------------------------------------------------------------------------------


class Probe:
    """An actor that says what its process is."""

    def versions(self) -> tuple[str, str]:
        """(Python's minor version, Ray's version)."""
        return python_version(), ray_version()


def check_ray(address: str | None, workers: int | None, memory_gb: float,
              environments: Iterable[Environment]) -> Iterator[Finding]:
    """Whether Ray starts here, or answers at `address`; its nodes; and whether actors start in each environment."""
    started = time.monotonic()
    cluster.connect(address, 1)
    try:
        where = f"answers at {address}" if address else "starts on this machine"
        yield ok("Ray", f"{where} within {time.monotonic() - started:.0f} s")
        if address:
            yield judge_nodes(cluster.nodes(), workers, memory_gb)
        waiting = {environment.name: cluster.actor(Probe, python=environment.python, cpus=0).versions.remote()
                   for environment in environments}
        for name, reference in waiting.items():
            yield judge_actor(name, cluster.get(reference, ACTOR_SECONDS))
    finally:
        cluster.disconnect()


def judge_nodes(nodes: Sequence[Mapping[str, float]], workers: int | None, memory_gb: float) -> Finding:
    """nodes: resources of each (CPU, GPU, memory in bytes). workers of `memory_gb` GiB each are asked for."""
    lines = "\n".join(f"node {number}: {node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, "
                      f"{node.get('memory', 0) / machine.GIB:.0f} GiB" for number, node in enumerate(nodes))
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    fits = sum(int(min(node.get("CPU", 0), node.get("memory", 0) / machine.GIB / memory_gb)) for node in nodes)
    asked = workers or cpus
    if asked > cpus:
        return problem("Ray nodes", f"{lines}\n{asked} workers asked for", f"--workers {cpus} or fewer")
    if asked > fits:
        return warning("Ray nodes", f"{lines}\n{asked} workers of {memory_gb:g} GiB do not fit", f"--workers {fits}")
    return ok("Ray nodes", f"{lines}\n{asked} workers fit")


def judge_actor(name: str, versions: tuple[str, str]) -> Finding:
    """versions: of Python (minor) and Ray in an actor of environment `name`."""
    own = python_version(), ray_version()
    if versions == own:
        return ok(f"{name} actor", f"starts, with Python {own[0]} and Ray {own[1]} as here")
    return problem(f"{name} actor", f"has Python {versions[0]} and Ray {versions[1]}, this process {own[0]} and "
                   f"{own[1]}", f"evalkit env remove {name}, then evalkit env create {name}")


# --- helpers --------------------------------------------------------------------------------------


def _elsewhere(python: Path, name: str, module: str, *arguments: str, seconds: float = SUITE_SECONDS
               ) -> list[Finding]:
    """The findings that ``python -m module ARGUMENTS`` prints, called after `name`; a crash is one, too."""
    try:
        done = subprocess.run([str(python), "-m", module, *arguments], env=process_variables(), capture_output=True,
                              text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return [problem(name, f"{module} did not end within {seconds:g} s", "something hangs; run it by hand: evalkit "
                        f"env run NAME -m {module} ...")]
    if done.returncode != 0:
        return [problem(name, f"{module} ended with status {done.returncode}:\n{cluster.last_lines(done.stderr, 6)}",
                        "mend what it says")]
    found = [Finding(**fields) for fields in json.loads(done.stdout.strip().splitlines()[-1])]
    return [replace(finding, name=f"{name} {finding.name}") for finding in found]


def install_gl() -> bool:
    """Install `GL_PACKAGES` where that is possible without a prompt (root, or sudo without a password)."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") is None or (prefix and shutil.which("sudo") is None):
        return False
    print(f"installing {' '.join(GL_PACKAGES)} (needed to render)", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *GL_PACKAGES]):
        done = subprocess.run([*prefix, "apt-get", "-q", *arguments], stdin=subprocess.DEVNULL, env=environment,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return False
    return True
