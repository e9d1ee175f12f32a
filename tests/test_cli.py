"""The command line: what people type, what they see, and the exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from evalkit.records import Run
from evalkit.registry import policy_names, suite_names
from tests.helpers import command, environment, evalkit, lines, planned_ids, refused

TOY = ("--suite", "toy", "--policy", "noop")

#: Name -> arguments and what the message must hold: what was got, what is allowed.
BAD_INPUT = {
    "no suite": (("plan", "--policy", "noop"), ["no suite", "--suite"]),
    "no policy": (("plan", "--suite", "toy"), ["no policy", "--policy"]),
    "suite": (("plan", "--suite", "libero_gaol", "--policy", "noop"), ["libero_gaol", "Did you mean 'libero_goal'?"]),
    "task": (("plan", *TOY, "--tasks", "0,7"), ["unknown task 7", "0 to 2"]),
    "task text": (("plan", *TOY, "--tasks", "nearr"), ["'nearr'", "Did you mean 'near'?"]),
    "episodes": (("plan", *TOY, "--episodes", "21"), ["'21'", "20"]),
    "range": (("plan", *TOY, "--episodes", "5:5"), ["'5:5'", "A < B"]),
    "policy": (("plan", "--suite", "toy", "--policy", "nop"), ["'nop'", "Did you mean 'noop'?"]),
    "user policy": (("plan", "--suite", "toy", "--policy", "no_such:Class"), ["no_such", "package.module:Class"]),
    "policy option": (("plan", *TOY, "--policy-option", "speed=3"), ["speed", "(none)"]),
    "option form": (("plan", *TOY, "-o", "speed"), ["KEY=VALUE", "'speed'"]),
    "spec": (("plan", "--suite", "toy", "--policy", "tests.faulty_policies:Unfit"), ["thermal", "top", "mood", "goal"]),
    "spec, one of two": (("plan", "--suite", "libero_goal,toy", "--policy", "scripted", "--seed-policy", "per_episode"),
                         ["'scripted'", "'toy'", "made for libero_spatial"]),
    "seed policy": (("plan", *TOY, "--seed-policy", "reference"), ["'reference'", "per_episode, fixed"]),
    "seed": (("plan", "--suite", "libero_goal", "--policy", "noop", "--seed", "8"), ["seed 7", "got seed 8"]),
    "video": (("plan", *TOY, "--video", "some"), ["'some'", "none, failures, all"]),
    "workers": (("plan", *TOY, "--workers", "0"), ["workers is 0", "at least 1"]),
    "workers text": (("plan", *TOY, "--workers", "many"), ["--workers", "valid integer"]),
    "flag": (("plan", *TOY, "--episode", "3"), ["--episode", "--episodes"]),
    "command": (("evaluate",), ["evaluate"]),
    "config file": (("plan", "--config", "absent.yaml"), ["absent.yaml", "No such file"]),
    "config key": (("plan", "--config", "key.yaml"), ["'worker'", "Did you mean 'workers'?"]),
    "config value": (("plan", "--config", "value.yaml"), ["workers is 'two'", "whole number"]),
    "config syntax": (("plan", "--config", "syntax.yaml"), ["syntax.yaml", "not valid YAML"]),
    "retries": (("run", *TOY, "--retries", "-1"), ["retries is -1", "0 or more"]),
    "timeout": (("run", *TOY, "--timeout", "0"), ["timeout is 0", "positive"]),
    "stall": (("run", *TOY, "--stall", "0"), ["stall is 0", "positive"]),
    "worker memory": (("run", *TOY, "--worker-memory", "0"), ["worker_memory is 0", "positive"]),
    "replay": (("run", "--suite", "toy", "--policy", "replay"), ["needs a recording", "--record-actions"]),
    "recording": (("run", "--suite", "toy", "--policy", "replay", "-o", "actions=."), ["no recorded actions", "npz"]),
    "out": (("run", *TOY, "--out", "key.yaml"), ["key.yaml", "is a file"]),
    "no run": (("table", "."), ["not a run", "run.json"]),
    "table format": (("table", ".", "--format", "html"), ["'html'", "terminal, markdown, csv, latex"]),
    "listing": (("list", "suite"), ["'suite'", "Did you mean 'suites'?"]),
    "list tasks": (("list", "tasks", "--suite", "tory"), ["'tory'", "Did you mean 'toy'?"]),
    "environment": (("env", "create", "liberro"), ["'liberro'", "Did you mean 'libero'?"]),
}


@pytest.fixture(scope="module")
def bad_input(tmp_path_factory):
    """What each bad input gave, in a folder with three bad config files; and that folder."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "key.yaml").write_text("suite: toy\npolicy: noop\nworker: 2\n")
    (folder / "value.yaml").write_text("suite: toy\npolicy: noop\nworkers: two\n")
    (folder / "syntax.yaml").write_text("suite: [toy\n")
    return dict(zip(BAD_INPUT, refused((arguments for arguments, _ in BAD_INPUT.values()), folder))), folder


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input(bad_input, name):
    """Status 2 and one screen that says what was got and what is allowed; no traceback, nothing on stdout."""
    done = bad_input[0][name]
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) < 25 and "Traceback" not in done.stderr and done.stdout == ""
    for part in BAD_INPUT[name][1]:
        assert part in done.stderr


def test_bad_input_leaves_nothing_behind(bad_input):
    """Refused commands have made no file and no folder."""
    assert sorted(path.name for path in bad_input[1].iterdir()) == ["key.yaml", "syntax.yaml", "value.yaml"]


def test_plan_prints_and_writes_nothing(tmp_path):
    """`plan` lists tasks, instructions, episodes and steps, and leaves the folder as it was."""
    (tmp_path / "run.yaml").write_text("suite: toy\npolicy: noop\nepisodes: 9\n")
    done = evalkit("plan", "--config", "run.yaml", "--tasks", "1-2", "--episodes", "3:5", "--out", "elsewhere",
                   cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    for part in ("noop", "go to the far goal", "3 to 4", "4 episodes, at most 160 control steps", "toy/01/003",
                 "toy/02/004"):
        assert part in done.stdout
    assert "near" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_plan_of_a_suite_needs_no_simulator(tmp_path):
    """The work list of the LIBERO suites is printed by the driver alone."""
    done = evalkit("plan", "--suite", "libero", "--policy", "scripted", "--episodes", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "80 episodes, at most 26400 control steps; first libero_spatial/00/000, last libero_10/09/001" in done.stdout


def test_lists(tmp_path):
    """`list` names every suite, policy and task."""
    suites, policies, tasks = (evalkit("list", *what, cwd=tmp_path).stdout for what in (
        ["suites"], ["policies"], ["tasks", "--suite", "toy,libero_10"]))
    assert all(name in suites for name in [*suite_names(), "group: libero_spatial, libero_object"])
    assert [line.split()[0] for line in policies.splitlines()] == policy_names()
    assert tasks.splitlines()[1] == "toy/01  go to the far goal" and len(tasks.splitlines()) == 13


def test_environments_are_listed(tmp_path):
    """`env list` says where each environment lies and whether it is built; it builds none."""
    done = evalkit("env", "list", cwd=tmp_path, EVALKIT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0 and "libero" in done.stdout and "not built" in done.stdout
    assert str(tmp_path / "cache") in done.stdout and list(tmp_path.iterdir()) == []


def test_removing_what_is_not_built(tmp_path):
    """`env remove` of an environment that is not there is no error."""
    done = evalkit("env", "remove", "libero", cwd=tmp_path, EVALKIT_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, "libero was not built\n")


def test_installed_script_finds_the_users_policy(tmp_path):
    """``module:Class`` is looked for in the current folder, by the script `evalkit` too."""
    (tmp_path / "my_policy.py").write_text("from baselines.noop import Noop\n\n\nclass Mine(Noop):\n    pass\n")
    script = Path(sys.executable).with_name("evalkit")
    done = subprocess.run([script, "plan", "--suite", "toy", "--policy", "my_policy:Mine"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "60 episodes" in done.stdout, done.stderr


RECORDED = ("run", "--suite", "toy", "--policy", "random", "--tasks", "0,2", "--episodes", 2, "--workers", 2,
            "--record-actions", "--video", "all")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with videos and recorded actions in its default folder: the folder, its parent, what was printed."""
    folder = tmp_path_factory.mktemp("recorded")
    done = evalkit(*RECORDED, cwd=folder, RAY_ADDRESS="127.0.0.1:1")  # no cluster there: must not be asked for
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1].removeprefix("run folder: "), folder, done


def test_run_prints_table_and_folder(recorded):
    """A complete run ends with status 0, its table and its folder, named after suite and policy."""
    run, folder, done = recorded
    assert run.parent == folder / "results/runs" and run.name.startswith("toy-random-")
    for part in ("near", "unreachable", "average", "0/2", "95% interval"):
        assert part in done.stdout
    assert "INCOMPLETE" not in done.stdout
    assert sorted(line["id"] for line in lines(run)) == planned_ids([0, 2], 2)


def test_videos_are_named_by_id_and_outcome(recorded):
    """One mp4 an episode; each record names its own."""
    run = recorded[0]
    expected = {f"videos/{line['id'].replace('/', '-')}-{line['outcome']}.mp4" for line in lines(run)}
    assert {line["video"] for line in lines(run)} == expected
    assert {f"videos/{path.name}" for path in (run / "videos").iterdir()} == expected
    assert all((run / name).read_bytes()[4:8] == b"ftyp" for name in expected)


def test_the_same_command_again_changes_nothing(recorded):
    """A complete run is not measured again: the same table, no byte of the folder touched, no Ray started."""
    run, folder, first = recorded
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = evalkit(*RECORDED, "--ray-address", "127.0.0.1:1", cwd=folder)
    assert again.returncode == 0 and again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_another_config_in_the_folder_is_refused(recorded):
    """The keys that differ are named with both values, status 2, and nothing is written."""
    run, folder, _ = recorded
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = evalkit("run", "--suite", "toy", "--policy", "random", "--tasks", "0,2", "--episodes", 3, "--seed", 9,
                   "--out", run, cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "episodes: [0, 2] there, [0, 3] now" in done.stderr and "seed: 7 there, 9 now" in done.stderr
    assert "policy" not in done.stderr.partition("another config:")[2].partition("Pass another")[0]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_recorded_actions_replay_to_the_same_end(recorded, tmp_path):
    """Policy replay on a recorded run has the same outcomes, lengths and final states."""
    run, folder, _ = recorded
    done = evalkit("run", "--suite", "toy", "--policy", "replay", "-o", f"actions={run}", "--tasks", "0,2",
                   "--episodes", 2, "--workers", 1, "--out", tmp_path / "replay", cwd=folder)
    assert done.returncode == 0, done.stderr
    ends = [{name: (record.outcome, record.steps, record.scene_sha, record.final_sha)
             for name, record in Run(path).records().items()} for path in (run, tmp_path / "replay")]
    assert len(ends[0]) == 4 and ends[0] == ends[1]


def test_replay_refuses_what_was_not_recorded(recorded):
    """Planned episodes without a recording are told before anything starts."""
    run, folder, _ = recorded
    done = evalkit("plan", "--suite", "toy", "--policy", "replay", "-o", f"actions={run}", "--episodes", 3, cwd=folder)
    assert done.returncode == 2 and "lacks 5 of 9 planned episodes" in done.stderr and "toy/00/002" in done.stderr


SLOW = ("run", "--suite", "toy", "--policy", "tests.faulty_policies:Slow", "-o", "seconds=0.04", "--tasks", "1,2",
        "--episodes", 5, "--workers", 2, "--out", "run")


def interrupt(folder: Path, more: int, stop: signal.Signals, group: bool = False) -> tuple[int, str, list[bytes]]:
    """Start the slow run, wait for `more` records, send `stop`: status, stderr, and the whole lines written."""
    records = folder / "run" / "episodes.jsonl"

    def written() -> list[bytes]:
        content = records.read_bytes() if records.exists() else b""
        return [line for line in content.splitlines(True) if line.endswith(b"\n")]

    target = len(written()) + more
    process = subprocess.Popen(command(*SLOW), cwd=folder, env=environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        while len(written()) < target and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, f"ended by itself with {process.returncode}:\n{process.stderr.read()}"
        (os.killpg if group else os.kill)(process.pid, stop)
        return process.wait(120), process.stderr.read() if stop != signal.SIGKILL else "", written()
    finally:
        process.kill()
        process.stderr.close()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """One run stopped by Ctrl-C, by SIGTERM and by SIGKILL of the driver, each in mid-run, then completed."""
    folder = tmp_path_factory.mktemp("interrupted")
    stops = {"SIGINT": interrupt(folder, 2, signal.SIGINT, group=True), "SIGTERM": interrupt(folder, 1, signal.SIGTERM),
             "SIGKILL": interrupt(folder, 1, signal.SIGKILL)}
    return stops, evalkit(*SLOW, cwd=folder), folder / "run"


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_interrupting_leaves_a_resumable_run(interrupted, stop):
    """Ctrl-C and SIGTERM end with status 130 and one line that says how to go on."""
    status, text, _ = interrupted[0][stop]
    assert status == 130, text
    assert "interrupted" in text and "Repeat the same command" in text and "Traceback" not in text


def test_every_stop_was_in_mid_run(interrupted):
    """Each attempt was stopped with some but not all of the ten records, so the tests below mean something."""
    counts = [len(written) for _, _, written in interrupted[0].values()]
    assert 2 <= counts[0] < counts[1] < counts[2] < 10
    assert interrupted[0]["SIGKILL"][0] == -signal.SIGKILL


def test_the_repeated_command_completes_the_run(interrupted):
    """After Ctrl-C, SIGTERM and kill -9 the records are exactly the planned ones, none twice, and the status is 0."""
    _, last, run = interrupted
    assert last.returncode == 0, last.stderr
    assert Counter(line["id"] for line in lines(run)) == Counter(planned_ids([1, 2], 5))
    assert " 5/5 " in last.stdout and " 0/5 " in last.stdout


def test_nothing_recorded_is_lost_or_changed(interrupted):
    """The final file begins with the very lines that were there at each stop."""
    stops, _, run = interrupted
    final = (run / "episodes.jsonl").read_bytes()
    assert all(final.startswith(b"".join(written)) for _, _, written in stops.values())
