"""Several nodes for real: `ray start` a few times on this machine, each with its own cores, ports and folders."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.config import make_config
from evalkit.environments import find_environment
from evalkit.plan import make_plan
from evalkit.records import Run
from evalkit.suite import EnvOptions
from evalkit.workers import Job, Worker
from tests.helpers import evalkit
from tests.ray_nodes import several_nodes

pytestmark = pytest.mark.end_to_end

#: Tells where it acts, and lets no episode go on until every worker has one.
TELLING = "tests.acting_policies:Telling"

def told_to(folder: Path) -> Path:
    """A folder for what `TELLING` tells."""
    (folder / "told").mkdir()
    return folder / "told"


def measurements(folder: Path) -> dict[str, dict]:
    return {name: record.measurement() for name, record in Run(folder).records().items()}


def test_three_nodes_measure_what_one_machine_does(tmp_path):
    """A head and two more nodes, one with a cache of its own, which gets LIBERO's environment built there: every node
    works, in its own environment, and the records are a local run's, bit for bit."""
    told = told_to(tmp_path)
    options = ("run", "--suite", "libero_object", "--policy", TELLING, "--tasks", "0-2", "--episodes", 1,
               "--assets", "stand-in", "-o", f"folder={told}")
    done = evalkit(*options, "--workers", 1, "--out", tmp_path / "local", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = measurements(tmp_path / "local")
    for path in told.iterdir():
        path.unlink()
    with several_nodes() as nodes:
        cache = nodes.folder / "cache"
        nodes.start("first")
        nodes.start("second", EVALKIT_CACHE=str(cache))
        nodes.start("third")
        done = nodes.evalkit(*options, "-o", "together=3", "--workers", 3, "--out", tmp_path / "nodes")
        assert done.returncode == 0, done.stderr
        folder = find_environment("libero").folder
        assert measurements(tmp_path / "nodes") == expected and len(expected) == 3
        records = Run(tmp_path / "nodes").records().values()
        assert {record.node for record in records} == {"first", "second", "third"}
        for record in records:
            used = (told / record.id.replace("/", "-")).read_text()
            assert used == str(cache / "envs" / folder.name if record.node == "second" else folder)


def test_nodes_in_network_namespaces(tmp_path):
    """Two nodes in network namespaces that share nothing but a cable measure what this process does."""
    with ExitStack() as stack:
        stack.enter_context(two_namespaces())
        nodes = stack.enter_context(several_nodes("198.18.0.1"))
        here = ("ip", "netns", "exec", "evalkit-a")
        nodes.start("first", *here, ip="198.18.0.1")
        nodes.start("second", "ip", "netns", "exec", "evalkit-b", ip="198.18.0.2")
        choices = {"folder": str(told_to(tmp_path)), "together": 2}
        done = nodes.evalkit("run", "--suite", "toy", "--policy", TELLING, "--episodes", 3, "--workers", 2, "--out",
                             tmp_path / "nodes", *(f"-o{key}={value}" for key, value in choices.items()), prefix=here)
    assert done.returncode == 0, done.stderr
    records = Run(tmp_path / "nodes").records()
    assert {record.node for record in records.values()} == {"first", "second"}
    worker = Worker(Job(TELLING, choices, EnvOptions()))
    for episode in make_plan(make_config({"suites": "toy", "policy": TELLING, "episodes": "3"})):
        assert replace(worker.run(episode).record, fingerprint=records[episode.id].fingerprint).measurement() == \
            records[episode.id].measurement()


@contextmanager
def two_namespaces() -> Iterator[None]:
    """Network namespaces evalkit-a (198.18.0.1) and evalkit-b (198.18.0.2) with a cable between them, or a skip."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    steps = ["netns add evalkit-a", "netns add evalkit-b",
             "link add evk-a netns evalkit-a type veth peer name evk-b netns evalkit-b"]
    for end, address in (("a", "198.18.0.1"), ("b", "198.18.0.2")):
        steps += [f"-n evalkit-{end} addr add {address}/24 dev evk-{end}", f"-n evalkit-{end} link set evk-{end} up",
                  f"-n evalkit-{end} link set lo up"]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no network namespaces here: ip {step}: {done.stderr.strip()}")
        yield
    finally:
        for end in "ab":
            subprocess.run(["ip", "netns", "del", f"evalkit-{end}"], capture_output=True, check=False)
