"""Merging: parts of one plan become one run; anything else is refused by name, and nothing is lost or changed."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import InputError
from evalkit.merge import merge
from evalkit.records import Record, Run, fingerprint_hash
from evalkit.tables import task_table, title

PARTS = {"simulator": "1.0", "max_steps": 40}
CONFIG = {"suites": ["toy"], "policy": "noop", "tasks": None, "episodes": [0, 2], "seed_policy": "per_episode",
          "seed": 7}


def record(task: int, index: int, outcome: str = "success", **values) -> Record:
    values = {"steps": 8, "scene_sha": f"{task}{index}", "fingerprint": fingerprint_hash(PARTS), **values}
    return Record(f"toy/{task:02d}/{index:03d}", "toy", task, index, seed=5, outcome=outcome, **values)


def make_run(folder, *records, config=None, parts=PARTS, machine="a", planned=None) -> Run:
    """A closed run folder over what its config plans; a record's video and actions are files with its id and folder."""
    config = {**CONFIG, **(config or {})}
    tasks = config["tasks"] if config["tasks"] is not None else range(3)
    planned = planned or [f"{suite}/{task:02d}/{index:03d}" for suite in config["suites"] for task in tasks
                          for index in range(*config["episodes"])]
    run = Run(folder)
    with closing(run):
        run.open({"config": config, "planned": planned, "command": f"evalkit run on {machine}",
                  "hardware": {"node": machine},
                  "fingerprints": {"toy": {"hash": fingerprint_hash(parts), "parts": parts}}})
        for item in records:
            if item.video:
                (folder / item.video).parent.mkdir(exist_ok=True)
                (folder / item.video).write_text(f"{item.id} {folder.name}")
            run.append(item)
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refusal(runs, out) -> str:
    """The message of a merge that is refused; nothing is left of it."""
    before = [contents(run.folder) for run in runs]
    with pytest.raises(InputError) as caught:
        merge(runs, out)
    assert not list(out.parent.glob(f".{out.name}*")) and [contents(run.folder) for run in runs] == before
    return str(caught.value)


def outcomes(run: Run) -> dict[str, str]:
    return {episode: item.outcome for episode, item in run.records().items()}


def test_two_halves_of_one_plan(tmp_path):
    """Two machines worked on the same command: the merged run has the records of both, in the plan's order."""
    first = make_run(tmp_path / "a", record(2, 1, "failure"), record(0, 0))
    second = make_run(tmp_path / "b", record(1, 0, "failure"), record(0, 1), machine="b")
    merged = merge([first, second], tmp_path / "out" / "merged")
    assert merged.info["planned"] == first.info["planned"] and merged.info["config"] == first.info["config"]
    assert list(merged.records().items()) == [
        ("toy/00/000", record(0, 0)), ("toy/00/001", record(0, 1)), ("toy/01/000", record(1, 0, "failure")),
        ("toy/02/001", record(2, 1, "failure"))]
    table = task_table(merged)
    assert table["successes"].tolist() == [2, 0, 0, 2] and table["missing"].tolist() == [0, 1, 1, 2]


def test_the_inputs_are_not_touched(tmp_path):
    """Every byte of the inputs stays, and merging them again gives the same records."""
    runs = [make_run(tmp_path / "a", record(0, 0, video="videos/v.mp4")), make_run(tmp_path / "b", record(0, 1))]
    before = [contents(run.folder) for run in runs]
    merge(runs, tmp_path / "one")
    merge(runs, tmp_path / "two")
    assert [contents(run.folder) for run in runs] == before
    assert (tmp_path / "one/episodes.jsonl").read_bytes() == (tmp_path / "two/episodes.jsonl").read_bytes()


@pytest.mark.parametrize("first, second, whole", [
    ({"episodes": [0, 1]}, {"episodes": [1, 2]}, CONFIG),
    ({"tasks": [0]}, {"tasks": [1, 2]}, {**CONFIG, "tasks": [0, 1, 2]}),
    ({"tasks": [0, 1, 2]}, {"tasks": None}, CONFIG),
])
def test_parts_of_a_plan(tmp_path, first, second, whole):
    """The same command over other episodes or tasks is a part of one plan; the merged config plans the whole."""
    runs = [make_run(tmp_path / "a", record(0, 0), config=first), make_run(tmp_path / "b", record(2, 1), config=second)]
    merged = merge(runs, tmp_path / "merged")
    assert merged.info["config"] == whole and len(merged.info["planned"]) == 6
    assert set(merged.records()) == {"toy/00/000", "toy/02/001"}


def test_a_merged_run_can_be_continued(tmp_path):
    """It is a run like any other: the whole plan's command goes on in its folder."""
    runs = [make_run(tmp_path / "a", record(0, 0), config={"episodes": [0, 1]}),
            make_run(tmp_path / "b", record(0, 1), config={"episodes": [1, 2]})]
    merge(runs, tmp_path / "merged")
    continued = make_run(tmp_path / "merged", record(1, 1))
    assert set(continued.records()) == {"toy/00/000", "toy/00/001", "toy/01/001"}


def test_other_weights_are_refused(tmp_path):
    """The same path may hold another checkpoint by now; equal ones stay known, with what the policy says of itself."""
    runs = [make_run(tmp_path / name, record(task, 0)) for task, name in enumerate("abc")]
    for run, sha256 in zip(runs, ("1" * 64, "1" * 64, "2" * 64)):
        policy = {"checkpoint": {"path": "weights.pt", "sha256": sha256}, "note": "reconstruction"}
        (run.folder / "run.json").write_text(json.dumps({**run.info, "policy": policy}))
    text = refusal([runs[0], runs[2]], tmp_path / "mixed")
    assert "another policy" in text and "checkpoint 111111111111" in text and "checkpoint 222222222222" in text
    merged = merge(runs[:2], tmp_path / "merged")
    assert merged.info["policy"] == runs[0].info["policy"] and "[policy: reconstruction]" in title(merged)


def test_parts_that_do_not_add_up(tmp_path):
    """Task 0 on one machine and episode 1 of task 1 on another is no plan: an episode that nobody planned is named."""
    runs = [make_run(tmp_path / "a", config={"tasks": [0], "episodes": [0, 1]}),
            make_run(tmp_path / "b", config={"tasks": [1], "episodes": [1, 2]})]
    text = refusal(runs, tmp_path / "merged")
    assert "2 of 4 episodes are in none of the plans" in text and "toy/00/001" in text


def test_equal_measurements_are_kept_once(tmp_path, capsys):
    """Worker, time and attempt may differ; the episode is kept once, counted, and told."""
    runs = [make_run(tmp_path / "a", record(0, 0, seconds_physics=1.0), record(0, 1)),
            make_run(tmp_path / "b", record(0, 0, seconds_physics=9.0, attempt=2))]
    merged = merge(runs, tmp_path / "merged")
    assert len((tmp_path / "merged/episodes.jsonl").read_text().splitlines()) == 2
    assert "1 episodes were measured in more than one run" in capsys.readouterr().err
    assert merged.info["measured_more_than_once"] == 1
    assert merged.records()["toy/00/000"].seconds_physics == 1.0


@pytest.mark.parametrize("change", [{"outcome": "failure"}, {"final_sha": "ff"}, {"steps": 9}])
def test_a_determinism_fault_is_refused_loudly(tmp_path, change):
    """Another result of the same episode under the same fingerprint: both values and folders are named."""
    runs = [make_run(tmp_path / "a", record(0, 0), record(1, 0)),
            make_run(tmp_path / "b", replace(record(0, 0), **change), record(1, 0))]
    text = refusal(runs, tmp_path / "merged")
    (field, value), = change.items()
    assert "DETERMINISM FAULT: 1 episodes" in text and f"toy/00/000: {field}" in text
    assert f"{getattr(record(0, 0), field)!r} in {tmp_path / 'a'}" in text and f"{value!r} in {tmp_path / 'b'}" in text
    assert "toy/01/000" not in text


def test_many_faults_are_counted(tmp_path):
    """Ten are listed, the rest is a number."""
    config = {"episodes": [0, 12]}
    runs = [make_run(tmp_path / name, *[record(0, index, steps=steps) for index in range(12)], config=config)
            for name, steps in (("a", 1), ("b", 2))]
    text = refusal(runs, tmp_path / "merged")
    assert "12 episodes have different results" in text and text.count("toy/00/") == 10 and "2 more" in text


@pytest.mark.parametrize("turn", [1, -1])
def test_a_measurement_wins_over_an_error(tmp_path, turn):
    """Whichever run comes first, the error is left behind; of two errors the first run's is kept."""
    runs = [make_run(tmp_path / "a", record(0, 0, "error", traceback="boom a"), record(0, 1, "error", traceback="a")),
            make_run(tmp_path / "b", record(0, 0, "failure"), record(0, 1, "error", traceback="b"))]
    merged = merge(runs[::turn], tmp_path / "merged").records()
    assert merged["toy/00/000"] == record(0, 0, "failure")
    assert merged["toy/00/001"].traceback == ("a" if turn == 1 else "b")


def test_another_config_is_refused(tmp_path):
    """The keys that differ are named with both values, those that agree are not."""
    runs = [make_run(tmp_path / "a", record(0, 0)), make_run(tmp_path / "b", record(0, 1), config={"policy": "random"})]
    text = refusal(runs, tmp_path / "merged")
    assert "another config" in text and "policy: 'noop' there, 'random' here" in text and "seed" not in text


def test_another_fingerprint_is_refused(tmp_path):
    """The part that differs is named, with its suite and both values."""
    parts = {**PARTS, "simulator": "2.0"}
    runs = [make_run(tmp_path / "a", record(0, 0)),
            make_run(tmp_path / "b", record(0, 1, fingerprint=fingerprint_hash(parts)), parts=parts)]
    text = refusal(runs, tmp_path / "merged")
    assert "fingerprint of toy" in text and "simulator: '1.0' there, '2.0' here" in text and "max_steps" not in text


def test_mixed_in_records_are_refused(tmp_path):
    """A record whose fingerprint is not its run's was copied from elsewhere."""
    runs = [make_run(tmp_path / "a", record(0, 0)), make_run(tmp_path / "b", record(0, 1, fingerprint="abc"))]
    text = refusal(runs, tmp_path / "merged")
    assert "toy/00/001" in text and "'abc'" in text and "mixed in" in text


def test_videos_and_actions_come_along(tmp_path):
    """Files of the kept records are copied under their names; a record with a video is preferred to its equal."""
    runs = [make_run(tmp_path / "a", record(0, 0)),
            make_run(tmp_path / "b", record(0, 0, video="videos/toy-00-000-success.mp4"))]
    (tmp_path / "a/actions/toy/00").mkdir(parents=True)
    (tmp_path / "b/actions/toy/00").mkdir(parents=True)
    for name, value in (("a", 1), ("b", 2)):
        np.save(tmp_path / name / "actions/toy/00/000.npy", np.full((2, 3), value))
    merged = merge(runs, tmp_path / "merged")
    assert merged.records()["toy/00/000"].video == "videos/toy-00-000-success.mp4"
    assert (tmp_path / "merged/videos/toy-00-000-success.mp4").read_text() == "toy/00/000 b"
    assert np.load(tmp_path / "merged/actions/toy/00/000.npy")[0, 0] == 2


def test_a_video_that_is_gone(tmp_path, capsys):
    """The record is kept without it, and a notice says so."""
    runs = [make_run(tmp_path / "a", record(0, 0, video="videos/v.mp4")), make_run(tmp_path / "b", record(0, 1))]
    (tmp_path / "a/videos/v.mp4").unlink()
    assert merge(runs, tmp_path / "merged").records()["toy/00/000"].video is None
    assert "v.mp4 is gone" in capsys.readouterr().err


@pytest.mark.parametrize("video", ["../../secret", "/etc/hostname"])
def test_a_video_outside_the_run_is_refused(tmp_path, video):
    """An edited path does not make merging copy files from elsewhere; the half-made folder is removed."""
    runs = [make_run(tmp_path / "a", record(0, 0)), make_run(tmp_path / "b", record(0, 1))]
    runs[0].episodes_path.write_text(json.dumps(asdict(record(0, 0, video=video))) + "\n")
    text = refusal(runs, tmp_path / "merged")
    assert "lies outside the run" in text and not (tmp_path / "merged").exists()


def test_unknown_fields_would_be_lost(tmp_path):
    """Records of a later version are not silently stripped."""
    runs = [make_run(tmp_path / "a", record(0, 0)), make_run(tmp_path / "b", record(0, 1))]
    runs[1].episodes_path.write_text(json.dumps({**asdict(record(0, 1)), "mood": "sunny"}) + "\n")
    assert "would lose: mood" in refusal(runs, tmp_path / "merged")


def test_torn_and_edited_records(tmp_path, capsys):
    """A torn last line is left out with a notice; any other bad line is refused by number."""
    runs = [make_run(tmp_path / "a", record(0, 0), record(1, 0)), make_run(tmp_path / "b", record(0, 1))]
    runs[0].episodes_path.write_bytes(runs[0].episodes_path.read_bytes()[:-9])
    assert set(merge(runs, tmp_path / "one").records()) == {"toy/00/000", "toy/00/001"}
    assert "torn last line" in capsys.readouterr().err
    runs[0].episodes_path.write_text("{}\n")
    assert "line 1 is not a record" in refusal(runs, tmp_path / "two")


def test_empty_runs_and_single_episodes(tmp_path):
    """A run that has not begun adds nothing and harms nothing."""
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", record(0, 1))]
    assert outcomes(merge(runs, tmp_path / "merged")) == {"toy/00/001": "success"}
    assert outcomes(merge([runs[0], make_run(tmp_path / "c")], tmp_path / "none")) == {}


def test_where_the_parts_came_from(tmp_path):
    """run.json keeps each part's command and machine, and how many of its records were kept."""
    runs = [make_run(tmp_path / "a", record(0, 0)), make_run(tmp_path / "b", record(0, 0), record(0, 1), machine="b")]
    origins = merge(runs, tmp_path / "merged").info["merged"]
    assert [(part["name"], part["command"], part["hardware"]["node"], part["records"], part["kept"])
            for part in origins] == [("a", "evalkit run on a", "a", 1, 1), ("b", "evalkit run on b", "b", 2, 1)]


@pytest.mark.parametrize("count, told", [(0, "at least two runs, got 0"), (1, "at least two runs, got 1")])
def test_too_few_runs(tmp_path, count, told):
    """One run is not a merge."""
    assert told in refusal([make_run(tmp_path / "a")][:count], tmp_path / "merged")


def test_the_same_run_twice_and_a_folder_that_is_there(tmp_path):
    """A run named twice is a slip, by whatever path; nothing is ever overwritten."""
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    assert "named twice" in refusal([first, Run(tmp_path / "b" / ".." / "a")], tmp_path / "merged")
    assert "there already" in refusal([first, second], tmp_path / "b")
