"""Faults on real simulators and on a cluster of several nodes, and faults that take long: ``make faults``."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from evalkit.paths import PROJECT
from evalkit.records import Run
from tests.fault_matrix import compare, measurements
from tests.helpers import command, environment
from tests.ray_nodes import processes_of, several_nodes
from tests.test_faults import BREAKS, last_notice

pytestmark = pytest.mark.faults

#: Simulator -> what is run there: twelve episodes of half a second, or four of LIBERO with its stand-in assets.
PLANS = {"toy": ("--suite", "toy", "--tasks", "0-1", "--episodes", 6, "-o", "seconds=0.05"),
         "libero": ("--suite", "libero_object", "--tasks", "0-1", "--episodes", 2, "--assets", "stand-in")}

#: Seconds without progress that are allowed: LIBERO builds its first simulator in 15 s, in over 45 s where several
#: people's workers share two cores.
STALL = {"toy": 3, "libero": 120}

BOTH = pytest.mark.parametrize("simulator", ["toy", "libero"])


def arguments(simulator: str, folder: Path, faults: str = "") -> list[str]:
    """The command line of a run in `folder`; the policy's options do not enter a record."""
    (folder / "markers").mkdir(parents=True, exist_ok=True)
    return command("run", *PLANS[simulator], "--policy", "tests.faulty_policies:Plagued", "--workers", 2, "-o",
                   f"markers={folder / 'markers'}", *(["-o", f"faults={faults}"] if faults else []), "--stall",
                   STALL[simulator], "--out", folder / "run")


def start(line: list[str], **variables: str) -> subprocess.Popen:
    return subprocess.Popen(line, cwd=PROJECT, env=environment(**variables), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(line: list[str]) -> str:
    """Run a command that must measure everything; what it said."""
    driver = start(line)
    said = driver.communicate()[1]
    assert driver.returncode == 0, said
    return said


class Undisturbed(dict):
    """Measurements of runs in which nothing breaks, by simulator, by one worker each; made when they are needed."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def __missing__(self, simulator: str) -> dict[str, dict]:
        finish([*arguments(simulator, self.folder / simulator), "--workers", "1"])
        self[simulator] = measurements(self.folder / simulator / "run")
        return self[simulator]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


def wait_for_records(driver: subprocess.Popen, folder: Path, count: int, processes: int = 1) -> None:
    """Until the run has `count` records and so many workers have begun an episode."""
    while len(Run(folder / "run").records()) < count or len(list((folder / "markers").glob("process-*"))) < processes:
        assert driver.poll() is None, f"the run ended too early: {driver.communicate()[1]}"
        time.sleep(0.05)


def test_libero_workers_that_break(undisturbed, tmp_path):
    """Killed, stuck in native code, stopped, in an endless loop: each costs one attempt."""
    episodes = dict(zip(BREAKS, sorted(undisturbed["libero"])))
    said = finish([*arguments("libero", tmp_path, ",".join(f"{kind}={name}" for kind, name in episodes.items())),
                   "--retries", "5", "--workers", "4"])
    for kind, (fault, words) in BREAKS.items():
        assert Run(tmp_path / "run").records()[episodes[kind]].attempt > 1
        compare(fault, tmp_path / "run", undisturbed["libero"],
                last_notice(said, f"{episodes[kind]} is tried again", words))


def test_liberos_endless_placement(undisturbed, tmp_path):
    """Where upstream's own reset would try for ever, the attempt ends with its cause; the next is undisturbed."""
    name = min(undisturbed["libero"])
    said = last_notice(finish(arguments("libero", tmp_path, f"placement={name}")), f"{name} is tried again")
    compare("no free placement (upstream's reset tries for ever)", tmp_path / "run", undisturbed["libero"], said)
    assert "no free placement in 1000 attempts" in said


def test_libero_workers_are_recycled(undisturbed, tmp_path):
    """A process an episode gives the records of one process for all."""
    finish([*arguments("libero", tmp_path), "--worker-episodes", "1"])
    processes = len(list((tmp_path / "markers").glob("process-*")))
    compare("a worker is replaced after every episode", tmp_path / "run", undisturbed["libero"],
            f"{processes} processes served")
    assert processes == 4


@BOTH
def test_a_killed_driver(undisturbed, tmp_path, simulator):
    """SIGKILL in mid-run: nothing of it goes on living, and the same command measures what is missing."""
    identity = uuid.uuid4().hex
    driver = start(arguments(simulator, tmp_path), EVALKIT_TEST=identity)
    wait_for_records(driver, tmp_path, 2)
    driver.kill()
    driver.communicate()
    while processes_of(identity):
        time.sleep(0.2)
    kept = Run(tmp_path / "run").episodes_path.read_bytes()
    finish(arguments(simulator, tmp_path))
    compare("SIGKILL of the driver", tmp_path / "run", undisturbed[simulator],
            f"{len(kept.splitlines())} records kept, no process left; continued by the same command")
    assert Run(tmp_path / "run").episodes_path.read_bytes().startswith(kept[:kept.rfind(b"\n") + 1])


def test_a_stopped_driver(undisturbed, tmp_path):
    """A driver that stood still for longer than --stall (a suspended machine) does not take its workers for stuck."""
    driver = start(arguments("toy", tmp_path))
    wait_for_records(driver, tmp_path, 2)
    driver.send_signal(signal.SIGSTOP)
    time.sleep(8)
    driver.send_signal(signal.SIGCONT)
    said = driver.communicate()[1]
    assert driver.returncode == 0 and "stuck" not in said, said
    compare("the driver stands still for 8 s, --stall 3", tmp_path / "run", undisturbed["toy"], "it went on")


@BOTH
def test_a_lost_node(undisturbed, tmp_path, simulator):
    """Its episodes move to the other node, and the run does not wait for the place that was lost with it."""
    noticed_soon = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    with several_nodes() as nodes:
        nodes.start("head", **noticed_soon)
        nodes.start("other", ip="127.0.0.2", **noticed_soon)
        driver = start([*arguments(simulator, tmp_path), "--ray-address", nodes.address], **nodes.variables)
        wait_for_records(driver, tmp_path, 1, processes=2)
        nodes.kill("other")
        said = driver.communicate()[1]
    assert driver.returncode == 0, said
    moved = last_notice(said, "is tried again") if "is tried again" in said else "no episode was under way there"
    compare("SIGKILL of a Ray node (one of two)", tmp_path / "run", undisturbed[simulator],
            moved.partition(": The actor")[0])
