"""Records of real LIBERO runs: the same for any number of workers, after any death, and played back."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from evalkit.records import Run
from tests.test_end_to_end import REPOSITORY, command, evalkit, measurements

pytestmark = pytest.mark.end_to_end


def test_same_records_for_any_workers_and_after_kill(tmp_path):
    """One worker; three workers; and a driver killed with -9 half-way and repeated: the same planned records."""
    common = ("--suite", "libero_spatial", "--policy", "random", "--tasks", "0-1", "--episodes", 2,
              "--assets", "stand-in")
    evalkit("run", *common, "--workers", 1, "--out", tmp_path / "one")
    evalkit("run", *common, "--workers", 3, "--out", tmp_path / "three")

    killed = tmp_path / "killed"
    driver = subprocess.Popen(command("run", *common, "--workers", 2, "--out", killed), cwd=REPOSITORY,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(measurements(killed)) < 2:
        assert driver.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    survived = measurements(killed)
    assert 2 <= len(survived) < 4
    evalkit("run", *common, "--workers", 2, "--out", killed)

    expected = measurements(tmp_path / "one")
    assert sorted(expected) == [f"libero_spatial/{task:02d}/{index:03d}" for task in range(2) for index in range(2)]
    assert measurements(tmp_path / "three") == expected
    assert measurements(killed) == expected
    lines = (killed / "episodes.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["id"] for line in lines}) == 4, "nothing is measured twice"


def test_worker_killed_in_mid_episode_costs_one_attempt(tmp_path):
    """A simulator process that dies (SIGKILL) is replaced and its episode is measured in another attempt."""
    out, common = tmp_path / "run", ("--suite", "libero_goal", "--tasks", "1", "--episodes", 2, "--assets", "stand-in")
    evalkit("run", *common, "--policy", "tests.faulty_policies:KillsItselfOnce", "-o", f"marker={tmp_path / 'marker'}",
            "--workers", 1, "--out", out)
    records = Run(out).records().values()
    assert sorted(record.attempt for record in records) == [1, 2]
    assert all(record.outcome == "failure" and record.steps == 300 for record in records)


def test_recorded_actions_replay_to_the_same_states(tmp_path):
    """What --record-actions keeps, the replay policy plays back bit for bit, seen by a video or not."""
    common = ("--suite", "libero_object", "--tasks", "0", "--episodes", 2, "--assets", "stand-in")
    evalkit("run", *common, "--policy", "scripted", "--record-actions", "--out", tmp_path / "recorded")
    evalkit("run", *common, "--policy", "replay", "-o", f"actions={tmp_path / 'recorded'}", "--video", 1,
            "--out", tmp_path / "replayed")
    facts = [[(record["id"], record["outcome"], record["steps"], record["scene_sha"], record["final_sha"])
              for record in measurements(tmp_path / name).values()] for name in ("recorded", "replayed")]
    assert sorted(facts[0]) == sorted(facts[1])
    outcome = Run(tmp_path / "replayed").records()["libero_object/00/000"].outcome
    assert [path.name for path in (tmp_path / "replayed" / "videos").iterdir()] == [
        f"libero_object-00-000-{outcome}.mp4"]
