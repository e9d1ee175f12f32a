"""Faults injected into runs of the toy suite: afterwards the records are those of an undisturbed run.

`make faults` runs these, those marked `faults`, and the same on real simulators and several nodes
(tests/test_faults_slow.py).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import evalkit.evaluation
from evalkit import cluster
from evalkit.config import make_config
from evalkit.errors import InputError, Stopped
from evalkit.evaluation import measure
from evalkit.progress import LEAP, Beat, SteadyClock, Watch
from evalkit.records import Record, Run
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.workers import Job, Worker
from tests.fault_matrix import compare, measurements
from tests.helpers import UNREACHABLE, command, environment, toy_episode
from tests.test_remote import evalkit_server

#: Episodes of each of the three tasks.
EPISODES = 4


@pytest.fixture(scope="module", autouse=True)
def one_cluster():
    """A cluster for all runs of this file: starting one takes seconds."""
    cluster.connect(None, 8)
    yield
    cluster.disconnect()


def run(folder: Path, faults: str = "", **settings) -> Run:
    """Measure the plan; options of the policy do not enter a record."""
    markers = folder / "markers"
    markers.mkdir(parents=True, exist_ok=True)
    options = {"markers": str(markers), "faults": faults, **settings.pop("options", {})}
    given = {"suites": "toy", "policy": "tests.faulty_policies:Plagued", "policy_options": options,
             "episodes": str(EPISODES), "workers": 2, "out": str(folder / "run"), **settings}
    return measure(make_config(given))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """Measurements of a run in which nothing breaks."""
    found = measurements(run(tmp_path_factory.mktemp("undisturbed")).folder)
    assert len(found) == 3 * EPISODES
    return found


def last_notice(said: str, *words: str) -> str:
    """The last line of stderr that holds all `words`."""
    lines = [line for line in said.replace("\r", "\n").splitlines() if all(word in line for word in words)]
    assert lines, f"nothing about {words!r} in:\n{said}"
    return lines[-1].strip().rpartition("notice: ")[2]


#: What befalls a worker -> its row in the matrix, and what must be said.
BREAKS = {
    "kill": ("SIGKILL of a worker", ""), "stopped": ("SIGSTOP of a worker", "has not answered for"),
    "native": ("a worker hangs in native code that keeps the interpreter's lock", "has not answered for"),
    "endless": ("an endless loop that swallows every exception", "in phase 'policy'")}


def test_workers_that_break_cost_one_attempt(undisturbed, tmp_path, capfd):
    """The process is replaced and its episode measured by another attempt, whatever it was stuck in."""
    episodes = {kind: f"toy/01/{index:03d}" for index, kind in enumerate(BREAKS)}
    found = run(tmp_path, ",".join(f"{kind}={name}" for kind, name in episodes.items()), stall=3.0, workers=3,
                retries=5)
    said = capfd.readouterr().err
    for kind, (fault, words) in BREAKS.items():
        compare(fault, found.folder, undisturbed, last_notice(said, f"{episodes[kind]} is tried again", words))
        assert found.records()[episodes[kind]].attempt > 1


@pytest.mark.parametrize("settings, fault, words", [
    pytest.param({"worker_episodes": 2}, "a worker is replaced after 2 episodes", "", marks=pytest.mark.faults),
    ({"worker_memory": 0.35, "options": {"grow_mb": 100}}, "memory that grows by 100 MB an episode", "GiB after")])
def test_workers_are_recycled_without_a_trace(undisturbed, tmp_path, capfd, settings, fault, words):
    """More processes than workers served the run; its records do not show it."""
    found = run(tmp_path, **settings)
    processes = len(list((tmp_path / "markers").glob("process-*")))
    said = capfd.readouterr().err
    compare(fault, found.folder, undisturbed, f"{processes} processes served"
            + (f"; {last_notice(said, words)}" if words else ""))
    assert processes >= 4 and {record.attempt for record in found.records().values()} == {1}


def test_wrong_answers_are_errors_until_the_policy_is_mended(undisturbed, tmp_path, capfd):
    """NaN, a wrong shape, nothing, an exception: errors with their cause; the run stops and can be continued."""
    kinds = {"nan": "NaN or infinity", "shape": "shape", "nothing": "NoneType", "raise": "the policy gave up"}
    faults = ",".join(f"{kind}=toy/00/{index:03d}" for index, kind in enumerate(kinds))
    settings = {"workers": 1, "retries": 0, "max_errors": 4}
    stopped = run(tmp_path, faults, **settings)
    records = stopped.records()
    assert [record.outcome for record in records.values()] == ["error"] * 4, "stopped after four in a row"
    assert "4 episodes in a row ended in errors" in capfd.readouterr().err
    (tmp_path / "markers" / "mended").touch()
    found = run(tmp_path, faults, **settings)
    for index, (kind, cause) in enumerate(kinds.items()):
        trace = records[f"toy/00/{index:03d}"].traceback
        assert cause in trace, trace
        compare({"nan": "a policy returns NaN", "shape": "a policy returns a wrong shape", "raise": "a policy raises",
                 "nothing": "a policy returns nothing"}[kind], found.folder, undisturbed,
                f"error outcome: {cluster.last_lines(trace, 1)}; the run stopped after 4 in a row, and was continued "
                "with the policy mended")


@pytest.mark.faults
def test_a_killed_replica_costs_nothing(tmp_path, capfd):
    """Its batch is answered by the one that replaces it, within the same attempts."""
    found = {}
    for name, kill_at in (("undisturbed", 0), ("killed", 9)):
        folder = tmp_path / name
        folder.mkdir()
        found[name] = measure(make_config({
            "suites": "toy", "policy": "tests.acting_policies:Elsewhere", "episodes": "2", "workers": 2,
            "policy_options": {"folder": str(folder), "kill_at": kill_at}, "out": str(folder / "run"),
            "policy_batch": 4, "policy_wait": 0.002}))
    compare("SIGKILL of a policy replica", found["killed"].folder, measurements(found["undisturbed"].folder),
            last_notice(capfd.readouterr().err, "is replaced").partition(": The actor")[0])
    assert {record.attempt for record in found["killed"].records().values()} == {1}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of its own whose size can be changed, e.g. ``small_disk("16k")``."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        again = ["remount,"] if os.path.ismount(folder) else [""]
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", again[0] + options, "tmpfs", folder], capture_output=True,
                              text=True, check=False)
        if done.returncode and not again[0]:
            pytest.skip(f"no mounting here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("settings, pages, fault", [
    ({}, 3, "disk full while records are appended"),
    pytest.param({"video": "all"}, 8, "disk full while a video is written", marks=pytest.mark.faults)])
def test_a_full_disk_stops_the_run_and_nothing_is_lost(undisturbed, tmp_path, small_disk, settings, pages, fault):
    """A real file system without room: a message, whole records, and the same command goes on when there is room."""
    out = small_disk(f"size={4 * pages}k") / "run"
    with pytest.raises(Stopped, match="No space left on device") as stopped:
        run(tmp_path, out=str(out), **settings)
    kept = (out / "episodes.jsonl").read_bytes()
    assert kept == b"" or kept.endswith(b"\n"), "no torn line"
    before = measurements(out)
    assert len(before) < 3 * EPISODES
    small_disk("size=8m")
    found = run(tmp_path, out=str(out), **settings)
    compare(fault, out, undisturbed, f"stopped with {len(before)} records: {stopped.value}".replace(str(out), "RUN"))
    assert (out / "episodes.jsonl").read_bytes().startswith(kept)
    assert all((out / record.video).stat().st_size > 0 for record in found.records().values() if record.video)
    assert len(list((out / "videos").iterdir()) if settings else []) == (3 * EPISODES if settings else 0)


def break_append(monkeypatch, call: str, code: int, number: int) -> None:
    """Let `os.write` (after 100 bytes) or `os.fsync` fail in the `number`-th append to an episodes.jsonl."""
    real, calls = getattr(os, call), []

    def broken(file, *content):
        if threading.current_thread() is threading.main_thread() and Path(f"/proc/self/fd/{file}").resolve().name == \
                "episodes.jsonl":
            calls.append(file)
            if len(calls) == number:
                if content:
                    real(file, content[0][:100])
                raise OSError(code, os.strerror(code))
        return real(file, *content)

    monkeypatch.setattr(f"evalkit.records.os.{call}", broken)


FAILING = pytest.mark.parametrize("call, code", [("write", errno.ENOSPC), ("fsync", errno.EIO), ("write", errno.EROFS)])


@FAILING
def test_an_append_that_fails_leaves_whole_lines(tmp_path, monkeypatch, call, code):
    """Whichever call fails, after whatever part was written, the file is as before, and appending goes on."""
    run, first, second = Run(tmp_path), *(Record(f"toy/00/{index:03d}", "toy", 0, index, 7, "success")
                                          for index in (0, 1))
    with closing(run):
        run.open({"config": {}, "planned": [], "fingerprints": {}})
        run.append(first)
        before = run.episodes_path.read_bytes()
        break_append(monkeypatch, call, code, 1)
        with pytest.raises(Stopped, match=f"{os.strerror(code)}.*repeat the same command"):
            run.append(second)
        assert run.episodes_path.read_bytes() == before
        run.append(second)
    assert list(run.records().values()) == [first, second]


@pytest.mark.faults
@FAILING
def test_a_disk_in_trouble_stops_the_run_and_nothing_is_lost(undisturbed, tmp_path, monkeypatch, call, code):
    """What was recorded stays, byte for byte, and the same command goes on."""
    break_append(monkeypatch, call, code, 5)
    with pytest.raises(Stopped, match=f"{os.strerror(code)}.*repeat the same command") as stopped:
        run(tmp_path)
    monkeypatch.undo()
    content = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    assert content.count(b"\n") == 4 and content.endswith(b"\n")
    found = run(tmp_path)
    compare({errno.ENOSPC: "write fails after 100 bytes (no space)", errno.EIO: "fsync fails (I/O error)",
             errno.EROFS: "the folder becomes read-only"}[code], found.folder, undisturbed,
            f"stopped with 4 records: {stopped.value}".replace(str(found.folder), "RUN"))
    assert found.episodes_path.read_bytes().startswith(content)


def test_a_read_only_folder_is_refused_before_any_worker(undisturbed, tmp_path, small_disk, monkeypatch):
    """A real read-only mount; the same command runs once it can be written."""
    out = small_disk("size=1m") / "run"
    small_disk("ro")
    with monkeypatch.context() as patch, pytest.raises(InputError, match="Read-only file system") as refused:
        patch.setattr(evalkit.evaluation, "WorkerPool", None)
        run(tmp_path, out=str(out))
    small_disk("rw")
    found = run(tmp_path, out=str(out))
    compare("a read-only folder", found.folder, undisturbed, f"refused: {refused.value}".replace(str(out), "RUN"))


@pytest.mark.faults
def test_a_volume_that_vanishes(undisturbed, tmp_path, small_disk, monkeypatch):
    """Unmounted in mid-run: the run stops at the next record, and goes on when the volume is back."""
    volume, place = small_disk("size=1m"), tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "--bind", volume, place], check=True)
    show = evalkit.evaluation.show

    def unmount(bar, record):
        if os.path.ismount(place) and bar.n == 3:
            subprocess.run(["umount", "-l", place], check=True)
        show(bar, record)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="cannot write") as stopped:
        patch.setattr(evalkit.evaluation, "show", unmount)
        run(tmp_path, out=str(place / "run"))
    subprocess.run(["mount", "--bind", volume, place], check=True)
    try:
        before = len(Run(place / "run").records())
        found = run(tmp_path, out=str(place / "run"))
        compare("the volume vanishes and comes back", found.folder, undisturbed,
                f"stopped with {before} records: {stopped.value}".replace(str(found.folder), "RUN"))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_lost_connection_begins_the_episode_anew(monkeypatch):
    """Within one attempt, with a fresh state; a server that only drops connections is an ordinary error after some
    tries, one that nobody finds any more ends the run."""
    monkeypatch.setattr("evalkit.workers.LONGEST_PAUSE", 0.0)
    episode = toy_episode(UNREACHABLE)
    with evalkit_server(load_suite("toy")) as server:
        options = {"url": server.url, "connect_timeout": 5, "patience": 0.3}
        worker = Worker(Job("remote", options, EnvOptions(("top",))))
        expected = worker.run(episode).record.measurement()
        server.spoil = {len(server.requests) + 3: lambda reply: None}
        assert worker.run(episode).record.measurement() == expected and server.connections == 3
        server.spoil = dict.fromkeys(range(10**4), lambda reply: None)
        dropped = worker.run(episode)
        assert dropped.record is None and not dropped.gone and "lost the connection" in dropped.traceback
    worker = Worker(Job("remote", {**options, "connect_timeout": 0.3, "protocol": "evalkit"}, EnvOptions(("top",))))
    gone = worker.run(episode)
    assert gone.gone and "nobody answers" in gone.traceback


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """`evalkit serve` in a process of its own, on one port whenever it is started."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.process = folder, free_port(), None

    def start(self) -> None:
        self.process = subprocess.Popen(
            command("serve", "tests.acting_policies:Elsewhere", "--suite", "toy", "-o", f"folder={self.folder}",
                    "-o", "seconds=0.01", "--port", self.port), cwd=self.folder, env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    served = Server(tmp_path)
    served.start()
    yield served
    served.stop()


def run_remote(server: Server, name: str, **options) -> Run:
    """Measure with the server's policy."""
    values = {"url": f"ws://127.0.0.1:{server.port}", "connect_timeout": 60, **options}
    return measure(make_config({"suites": "toy", "policy": "remote", "policy_options": values, "workers": 2,
                                "episodes": "3", "out": str(server.folder / name)}))


def when_records(folder: Path, count: int, action: Callable[[], None]) -> threading.Thread:
    """A thread that does `action` once the run in `folder` has `count` records."""
    def wait() -> None:
        while not folder.joinpath("episodes.jsonl").exists() or len(Run(folder).records()) < count:
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.faults
def test_a_server_that_goes_away_and_comes_back(tmp_path, server, capfd):
    """The run waits, the episodes begin anew with a fresh state, at no attempt's cost. One that stays away stops the
    run with an error outcome, and the same command continues it."""
    expected = measurements(run_remote(server, "undisturbed").folder)
    seconds = float(os.environ.get("EVALKIT_OUTAGE_SECONDS", 2))

    def restart() -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    thread = when_records(tmp_path / "outage", 2, restart)
    found = run_remote(server, "outage")
    thread.join()
    compare(f"a remote server is killed and comes back after {seconds:g} s", found.folder, expected,
            "the run waited, and the episodes under way began anew")
    assert {record.attempt for record in found.records().values()} == {1}

    thread = when_records(tmp_path / "for-ever", 2, server.stop)
    stopped = run_remote(server, "for-ever", patience=1.0, connect_timeout=5)
    thread.join()
    errors = [record for record in stopped.records().values() if record.outcome == "error"]
    assert len(errors) == 1 and "nobody answers at ws://" in errors[0].traceback
    assert "the policy's server is gone" in capfd.readouterr().err
    server.start()
    wait_until_listening(server.port)
    found = run_remote(server, "for-ever", patience=1.0, connect_timeout=5)
    compare("a remote server disappears for ever", found.folder, expected,
            f"{len(stopped.records()) - 1} records, one error outcome ({cluster.last_lines(errors[0].traceback, 1)}), "
            "then the run stopped; continued with the server started again".replace(str(server.port), "PORT"))


def wait_until_listening(port: int) -> None:
    while True:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def holding(folder: Path) -> subprocess.Popen:
    """Another process that holds the run in `folder` until it is killed."""
    code = ("from pathlib import Path; from evalkit.records import Run\n"
            f"run = Run(Path({str(folder)!r}))\nrun.lock()\nprint('locked', flush=True)\ninput()")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=environment())
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_driver_is_refused_before_any_worker(undisturbed, tmp_path, monkeypatch):
    """It names the first, starts nothing, leaves the folder alone; a driver that was killed stops nobody."""
    first = holding(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(InputError, match=f"process {first.pid} on") as refused:
        patch.setattr(evalkit.evaluation, "WorkerPool", None)
        run(tmp_path)
    first.kill()
    first.wait()
    found = run(tmp_path)
    compare("two drivers on one folder", found.folder, undisturbed,
            f"the second is refused: {refused.value}".replace(str(found.folder), "RUN").replace(str(first.pid), "PID"))
    assert not (found.folder / ".driver").exists()


def test_a_second_driver_is_refused_where_there_are_no_locks(tmp_path, monkeypatch):
    """On a file system without locks the process tells, or on another machine its signs of life."""
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("evalkit.lock.fcntl.flock", no_locks)
    monkeypatch.setattr("evalkit.lock.BEAT_SECONDS", 0.2)
    first = Run(tmp_path)
    first.lock()
    with pytest.raises(InputError, match="another evalkit process"):
        Run(tmp_path).lock()
    held = (tmp_path / ".driver").read_text()
    (tmp_path / ".driver").write_text(held.replace(str(os.getpid()), "999999999"))  # a killed driver's
    second = Run(tmp_path)
    second.lock()
    (tmp_path / ".driver").write_text(held.replace('"host": "', '"host": "far-'))   # alive: `second` renews its time
    with pytest.raises(InputError, match="on far-"):
        Run(tmp_path).lock()
    for run in (first, second):
        run._lock._released.set()
    third = Run(tmp_path)
    third.lock()  # no sign of life any more
    for run in (first, second, third):
        run.close()


@pytest.mark.faults
def test_a_jumping_clock_changes_nothing(undisturbed, tmp_path, monkeypatch):
    """The driver's wall clock leaps by days at every look, its monotonic clock once by an hour (as after a suspended
    machine)."""
    days, real, hour = [0.0], time.time, []

    def leaping() -> float:
        days[0] = 86400.0 * 3 - days[0]
        return real() + days[0]

    monotonic = time.monotonic
    monkeypatch.setattr("evalkit.workers.time.time", leaping)
    monkeypatch.setattr("evalkit.progress.time.monotonic", lambda: monotonic() + sum(hour))
    thread = when_records(tmp_path / "run", 3, lambda: hour.append(3600.0))
    found = run(tmp_path, stall=20.0, timeout=60.0)
    thread.join()
    monkeypatch.undo()
    compare("clocks that jump (wall clock by days, monotonic by an hour)", found.folder, undisturbed, "nothing")
    assert {record.attempt for record in found.records().values()} == {1}


def test_a_steady_clock_credits_no_leap(monkeypatch):
    """Seconds pass as they do, a leap counts `LEAP` at most, and going back counts nothing."""
    now = [100.0]
    monkeypatch.setattr("evalkit.progress.time.monotonic", lambda: now[0])
    clock = SteadyClock()
    seen = []
    for moment in (103.0, 4000.0, 4001.0):
        now[0] = moment
        seen.append(clock())
    assert seen == [3.0, 3.0 + LEAP, 4.0 + LEAP]


@pytest.mark.parametrize("beats, now, problem", [
    ([], 500.0, ""),                                                             # never heard: left to the timeout
    ([(Beat(1, 5, "physics"), 10.0)], 109.0, ""),
    ([(Beat(1, 5, "physics"), 10.0)], 111.0, "not answered for 101 s"),          # silent
    ([(Beat(1, 5, "reset"), 10.0), (Beat(2, 5, "reset"), 90.0)], 111.0, "no progress for 101 s, in phase 'reset'"),
    ([(Beat(1, 5, "physics"), 10.0), (Beat(2, 6, "physics"), 90.0)], 111.0, ""),
    ([(Beat(1, 5, "policy", 50.0), 10.0), (Beat(2, 5, "policy", 50.0), 90.0)], 155.0, ""),   # waits for a server
    ([(Beat(1, 5, "policy", 50.0), 10.0), (Beat(2, 5, "policy", 50.0), 90.0)], 161.0, "not answered for 71 s"),
    ([(Beat(1, 5, "policy", 50.0), 10.0), (Beat(2, 5, "policy", 50.0), 150.0)], 161.0, "no progress for 151 s"),
])
def test_a_watch_judges_by_progress(beats, now, problem):
    """Silence and a count that stands still are told apart; the phase's own patience is added to the second."""
    watch = Watch(100.0, 0.0)
    for beat, moment in beats:
        watch.hear(beat, moment)
    found = watch.problem(now)
    assert problem in found if problem else not found
