"""Workers: one record an episode, the same for any number of workers, whatever happens to them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import pairwise

import pytest

from evalkit import cluster
from evalkit.config import make_config
from evalkit.episode import Episode
from evalkit.evaluation import measure
from evalkit.plan import make_plan
from evalkit.progress import SteadyClock
from evalkit.records import Record, Run
from evalkit.suite import EnvOptions, ProcessNeeds
from evalkit.workers import EpisodeQueue, Job, Worker, WorkerPool, _Seat
from tests.helpers import evalkit, lines, planned_ids


@pytest.fixture(scope="module", autouse=True)
def one_cluster():
    """A cluster for all runs of this file, which they join as those of a training script would: starting one takes
    seconds."""
    cluster.connect(None, 8)
    yield
    cluster.disconnect()


def episodes(task: int, count: int, max_steps: int = 40) -> list[Episode]:
    return [Episode("toy", task, index, 1, max_steps) for index in range(count)]


def take(queue: EpisodeQueue, current: int | None = None) -> str | None:
    taken = queue.take(None if current is None else ("toy", current))
    return taken and taken.id


def test_queue_hands_out_each_episode_once():
    """Whatever the workers hold, every episode comes exactly once, then None."""
    planned = make_plan(make_config({"suites": "toy", "policy": "noop"}))
    queue, holds, taken = EpisodeQueue(planned), [None, None, None], []
    assert len(queue) == 60
    while (episode := queue.take(holds[len(taken) % 3])) is not None:
        holds[len(taken) % 3] = (episode.suite, episode.task)
        taken.append(episode)
    assert sorted(episode.id for episode in taken) == sorted(episode.id for episode in planned)
    assert len(queue) == 0 and queue.take(None) is None


def test_queue_starts_with_the_longest_task():
    """Workers without a simulator start tasks that nobody has, longest first."""
    queue = EpisodeQueue([*episodes(0, 2), *episodes(1, 5), *episodes(2, 3)])
    assert [take(queue) for _ in range(3)] == ["toy/01/000", "toy/02/000", "toy/00/000"]


def test_queue_keeps_a_worker_at_its_task():
    """A worker goes on with the task its simulator holds, in the order of the episodes."""
    queue = EpisodeQueue([*episodes(0, 2), *episodes(1, 3)])
    assert [take(queue, 0), take(queue, 0)] == ["toy/00/000", "toy/00/001"]
    assert [take(queue, 1) for _ in range(3)] == ["toy/01/000", "toy/01/001", "toy/01/002"]


def test_queue_prefers_a_fresh_task_to_sharing():
    """A worker that has finished its task takes one that nobody has begun, even if another has more left."""
    queue = EpisodeQueue([*episodes(0, 9), *episodes(1, 1), *episodes(2, 2)])
    assert [take(queue), take(queue), take(queue, 2)] == ["toy/00/000", "toy/02/000", "toy/02/001"]
    assert take(queue, 2) == "toy/01/000"


def test_queue_shares_the_longest_rest():
    """When every task has begun, an idle worker helps where most steps are left."""
    queue = EpisodeQueue([*episodes(0, 2, 10), *episodes(1, 3, 10), *episodes(2, 2, 1000)])
    assert [take(queue) for _ in range(3)] == ["toy/02/000", "toy/01/000", "toy/00/000"]
    assert take(queue) == "toy/02/001"  # 1000 steps left, against 20 and 10
    assert take(queue) == "toy/01/001"


def test_queue_takes_back():
    """An episode put back is handed out again, after the others of its task."""
    queue = EpisodeQueue(episodes(0, 3))
    first = queue.take(None)
    queue.put_back(first)
    assert len(queue) == 3 and [take(queue, 0) for _ in range(4)] == ["toy/00/001", "toy/00/002", "toy/00/000", None]


@pytest.mark.parametrize("video, kept", [
    ("none", []), ("failures", ["toy/02/004", "toy/02/005"]), ("1", ["toy/00/004", "toy/02/004"]),
    ("all", ["toy/00/004", "toy/00/005", "toy/02/004", "toy/02/005"]),
])
def test_videos_are_those_asked_for(video, kept):
    """none, the failures, all, or the first N planned episodes of each task."""
    job = Job("tests.faulty_policies:Slow", {"seconds": 0}, EnvOptions(("top",)), video=video, first_index=4)
    worker = Worker(job)
    results = [worker.run(episode) for task in (0, 2) for episode in episodes(task, 6)[4:]]
    assert [result.record.outcome for result in results] == ["success", "success", "failure", "failure"]
    assert [result.episode.id for result in results if result.video] == kept


def test_worker_returns_exceptions_and_goes_on():
    """An exception is a result without a record; the next episode is measured."""
    worker = Worker(Job("tests.faulty_policies:Faulty", {"raise_always": "toy/00/000"}, EnvOptions()))
    failed, measured = (worker.run(episode) for episode in episodes(0, 2))
    assert failed.record is None and "a fault that always comes" in failed.traceback
    assert measured.record.outcome == "success" and measured.traceback is None


def measurements(run: Run) -> dict[str, dict]:
    return {name: record.measurement() for name, record in run.records().items()}


@pytest.fixture(scope="module")
def random_runs(tmp_path_factory) -> dict[str, Run]:
    """One plan measured by one worker, by three, and by two in a run that had lost half of its records."""
    folder = tmp_path_factory.mktemp("random")
    values = {"suites": "toy", "policy": "random", "policy_options": {"chunk": 3, "views": 1}, "episodes": "4"}
    runs = {name: measure(make_config({**values, "workers": workers, "out": str(folder / name)}))
            for name, workers in (("one", 1), ("three", 3))}
    resumed = folder / "resumed"
    shutil.copytree(runs["one"].folder, resumed)
    kept = (resumed / "episodes.jsonl").read_bytes().splitlines(keepends=True)[:5]
    (resumed / "episodes.jsonl").write_bytes(b"".join(kept) + b'{"id": "toy/0')
    runs["resumed"] = measure(make_config({**values, "workers": 2, "out": str(resumed)}))
    return runs


def test_every_planned_episode_is_recorded_once(random_runs):
    """The lines of a run are exactly the plan, also after a torn line and a resume."""
    for run in random_runs.values():
        assert sorted(line["id"] for line in lines(run.folder)) == planned_ids([0, 1, 2], 4)


def test_measurements_do_not_depend_on_workers_or_resume(random_runs):
    """Scene, trajectory and outcome of every episode are the same for 1 and 3 workers and for a resumed run."""
    one = measurements(random_runs["one"])
    assert measurements(random_runs["three"]) == one and measurements(random_runs["resumed"]) == one
    assert len({record["scene_sha"] for record in one.values()}) == 12  # no two episodes share a scene


def test_records_say_when_and_where(random_runs):
    """Each names its worker and node; a worker's episodes do not overlap, and last at least as long as their phases."""
    records = sorted(random_runs["three"].records().values(), key=lambda record: record.started)
    assert {record.worker for record in records} <= {0, 1, 2} and all(record.node for record in records)
    for worker in range(3):
        own = [record for record in records if record.worker == worker]
        assert all(before.ended <= after.started + 0.002 for before, after in pairwise(own))
    phases = ("reset", "physics", "render", "policy")
    assert all(record.ended - record.started >= sum(getattr(record, f"seconds_{phase}") for phase in phases) - 0.002
               for record in records)


def test_resuming_measures_nothing_twice(random_runs):
    """The records that were there stay as they are, byte for byte."""
    before = (random_runs["one"].folder / "episodes.jsonl").read_bytes().splitlines()[:5]
    assert (random_runs["resumed"].folder / "episodes.jsonl").read_bytes().splitlines()[:5] == before


def test_run_json_says_what_was_run(random_runs):
    """Config, plan, fingerprint, versions and hardware are in run.json, and records carry the fingerprint."""
    run = random_runs["three"]
    info = json.loads((run.folder / "run.json").read_text())
    assert info["planned"] == planned_ids([0, 1, 2], 4) and info["config"]["policy_options"] == {"chunk": 3, "views": 1}
    assert info["settings"]["workers"] == 3
    assert {"python", "ray", "numpy"} <= set(info["versions"]) and info["hardware"]["cores"] >= 1
    assert "revision" in info["git"]
    assert {record.fingerprint for record in run.records().values()} == {info["fingerprints"]["toy"]["hash"]}


@pytest.mark.parametrize("needs, most, tasks", [
    (ProcessNeeds(0.1, resets=2), 2, 2), (ProcessNeeds(0.1, one_task=True), 4, 1), (ProcessNeeds(0.1), 9, 3),
])
def test_workers_are_replaced_when_worn(tmp_path, needs, most, tasks):
    """A process serves as many episodes, and as many tasks, as its suite's needs allow; records stay complete."""
    job = Job("tests.faulty_policies:LeavesItsProcess", {"folder": str(tmp_path)}, EnvOptions())
    planned = [episode for task in range(3) for episode in episodes(task, 3, max_steps=2)]
    with WorkerPool(job, ["toy"], 1, needs=needs) as pool:
        results = list(pool.run(planned))
    assert sorted(result.record.id for result in results) == planned_ids([0, 1, 2], 3)
    served = {}
    for path in tmp_path.iterdir():
        served.setdefault(path.read_text(), []).append(path.name.split("-")[1])
    assert max(len(names) for names in served.values()) <= most
    assert max(len(set(names)) for names in served.values()) <= tasks
    assert (len(served) == 1) == (needs == ProcessNeeds(0.1))


def test_workers_are_admitted_by_memory(tmp_path, capsys):
    """A pool that memory cannot hold is made smaller, with a notice, and still measures everything."""
    job = Job("noop", {}, EnvOptions())
    with WorkerPool(job, ["toy"], 3, needs=ProcessNeeds(memory_gb=10_000)) as pool:
        assert pool.size == 1
        assert len(list(pool.run(episodes(0, 2, max_steps=2)))) == 2
    assert "memory admits 0 of 3 workers (10000 GiB each)" in capsys.readouterr().err


FAULTS = {"raise_once": "toy/00/001", "kill_once": "toy/01/001", "raise_always": "toy/00/002",
          "hang_always": "toy/01/002"}


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory):
    """Records and exit status of one run in which four of six episodes meet a fault, with one retry."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "markers").mkdir()
    options = [f"--policy-option={key}={value}" for key, value in {**FAULTS, "markers": folder / "markers"}.items()]
    done = evalkit("run", "--suite", "toy", "--policy", "tests.faulty_policies:Faulty", *options, "--tasks", "0,1",
                   "--episodes", 3, "--workers", 2, "--retries", 1, "--timeout", 3, "--out", folder / "run", cwd=folder)
    return folder / "run", done


@pytest.fixture
def faulty_records(faulty_run) -> dict[str, Record]:
    return Run(faulty_run[0]).records()


def test_a_worker_that_draws_otherwise_takes_no_part(monkeypatch, capsys):
    """A node with another GPU would write other pictures under the first worker's fingerprint."""
    pool = WorkerPool(Job("noop", {}, EnvOptions()), ["toy"], 2)
    pool._clock = SteadyClock()
    pool.described = {"toy": {"mujoco": "3.2.3", "renderer": "llvmpipe"}}
    pool._seats = [_Seat(number, actor="a", starting=f"worker {number}") for number in range(2)]
    started = {"worker 0": pool.described, "worker 1": {"toy": {"mujoco": "3.2.3", "renderer": "NVIDIA"}}}
    for name, fake in {"wait": lambda references, timeout: references, "get": started.get, "kill": lambda actor: None,
                       "unpublish": lambda key: None}.items():
        monkeypatch.setattr(cluster, name, fake)
    pool._look_at_starts(running=True)
    assert [seat.actor for seat in pool._seats] == ["a", None]
    assert "toy: renderer is 'NVIDIA' here and 'llvmpipe' in the run" in capsys.readouterr().err


def test_every_episode_ends_in_one_record(faulty_run):
    """Whatever happened on the way, each planned episode has exactly one line."""
    run, done = faulty_run
    assert Counter(line["id"] for line in lines(run)) == Counter(planned_ids([0, 1], 3)), done.stderr


def test_a_passing_exception_is_retried(faulty_records):
    """An episode whose policy raised once is measured by its second attempt."""
    record = faulty_records[FAULTS["raise_once"]]
    assert (record.outcome, record.attempt, record.traceback) == ("success", 2, None)


def test_a_killed_worker_costs_one_attempt(faulty_records):
    """SIGKILL of the worker in mid-episode: the same episode is measured by its second attempt."""
    record = faulty_records[FAULTS["kill_once"]]
    assert (record.outcome, record.attempt, record.traceback) == ("success", 2, None)


def test_a_lasting_exception_is_an_error(faulty_records):
    """After the last attempt the episode is an error that holds the traceback; it is no failure."""
    record = faulty_records[FAULTS["raise_always"]]
    assert (record.outcome, record.attempt, record.any_step) == ("error", 2, None)
    assert "Traceback" in record.traceback and "RuntimeError: a fault that always comes" in record.traceback


def test_a_hanging_episode_is_an_error(faulty_records):
    """An episode over its time ends with its worker; what it took to start a new worker is not counted."""
    record = faulty_records[FAULTS["hang_always"]]
    assert (record.outcome, record.attempt) == ("error", 2) and "timeout: no result within 3 s" in record.traceback
    assert record.ended - record.started >= 3 and record.node is None, "a killed worker cannot say where"


def test_other_episodes_are_not_affected(faulty_records):
    """Episodes without a fault are measured by their first attempt."""
    others = {name: record for name, record in faulty_records.items() if name not in FAULTS.values()}
    assert len(others) == 2
    assert all((record.outcome, record.attempt) == ("success", 1) for record in others.values())


def test_errors_make_the_exit_status_1(faulty_run):
    """The table shows the errors beside the rate, stderr names reasons and what is left, the status is 1."""
    done = faulty_run[1]
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(" 2/2 ") == 2 and "INCOMPLETE: 2 episodes" in done.stdout
    assert "error toy/00/002 after 2 attempts: RuntimeError: a fault that always comes" in done.stderr
    assert "2 of 6 planned episodes have no measurement" in done.stderr
    assert "Traceback" not in done.stderr
