"""Policies that act outside the rollout workers: same records, batches, and nothing lost when a replica dies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit import cluster, wire
from evalkit.config import make_config
from evalkit.errors import InputError
from evalkit.evaluation import measure
from evalkit.hosts import Actor, Batching, Served, act_on, choose_batching, pack_observation, unpack_observation
from evalkit.records import Run
from evalkit.registry import load_suite, make_policy
from evalkit.testing import fake_observation
from evalkit.workers import IdleCores, idle_seconds
from tests.acting_policies import Counting, Elsewhere, drift
from tests.helpers import toy_episode

TOY = load_suite("toy")


@pytest.fixture(scope="module", autouse=True)
def one_cluster():
    """A cluster for all runs of this file, which they join as those of a training script would: starting one takes
    seconds."""
    cluster.connect(None, 8)
    yield
    cluster.disconnect()


def run(folder: Path, policy: str = "Elsewhere", workers: int | None = 2, options: dict | None = None,
        **settings) -> Run:
    folder.mkdir(exist_ok=True)
    given = {"folder": str(folder)} if options is None else options
    return measure(make_config({"suites": "toy", "policy": f"tests.acting_policies:{policy}", "policy_options": given,
                                "episodes": "3", "workers": workers, "out": str(folder / "run"),
                                "policy_batch": 8, "policy_wait": 0.002, **settings}))


def measurements(run: Run) -> dict[str, dict]:
    return {name: record.measurement() for name, record in sorted(run.records().items())}


def batches(folder: Path) -> list[tuple[int, int]]:
    """(process id, size) of each batch."""
    return [tuple(map(int, line.split()[:2])) for line in (folder / "batches").read_text().splitlines()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Run:
    """The policy inside one rollout worker."""
    return run(tmp_path_factory.mktemp("inside") / "a", "InWorker", workers=1)


def test_replicas_give_the_records_of_a_policy_inside_the_worker(reference, tmp_path):
    """Where the policy acts, in how many processes and in which batches changes nothing."""
    found = run(tmp_path / "a", workers=3, policy_replicas=2, options={"folder": str(tmp_path / "a"), "seconds": 0.02})
    assert measurements(found) == measurements(reference)
    assert {record.outcome for record in found.records().values()} == {"success", "failure"}
    seen = batches(tmp_path / "a")
    assert len({process for process, _ in seen}) == 2
    assert max(size for _, size in seen) > 1, "observations of several workers travel together"
    assert found.info["policy"]["checkpoint"]["sha256"] == "0" * 64 and found.info["policy"]["served"]["replicas"] == 2


def test_a_killed_replica_costs_nothing(reference, tmp_path, capfd):
    """SIGKILL in the middle of a batch: it is replaced, its batch answered again, no attempt is lost."""
    found = run(tmp_path / "a", options={"folder": str(tmp_path / "a"), "kill_at": 9})
    assert measurements(found) == measurements(reference)
    assert {record.attempt for record in found.records().values()} == {1}
    assert len({process for process, _ in batches(tmp_path / "a")}) == 2
    assert "is replaced" in capfd.readouterr().err


def test_a_hanging_replica_is_replaced(reference, tmp_path, monkeypatch):
    """A replica that never answers is killed after policy_timeout."""
    monkeypatch.setattr("evalkit.hosts.LOOK_SECONDS", 0.5)
    found = run(tmp_path / "a", options={"folder": str(tmp_path / "a"), "hang_at": 7}, policy_timeout=2.0)
    assert measurements(found) == measurements(reference)


def test_one_bad_observation_does_not_take_others_with_it(reference, tmp_path):
    """An exception is the error of its own episode only, with the traceback of the policy's process."""
    found = run(tmp_path / "a", options={"folder": str(tmp_path / "a"), "fail": "toy/00/002"}, retries=0)
    records = found.records()
    assert [name for name, record in records.items() if record.outcome == "error"] == ["toy/00/002"]
    assert "this episode cannot be answered" in records["toy/00/002"].traceback
    expected = measurements(reference)
    assert all(measurements(found)[name] == expected[name] for name in expected if name != "toy/00/002")


def test_a_policy_that_cannot_load_is_the_users_error_before_any_episode(tmp_path):
    """The message alone, and no run folder."""
    with pytest.raises(InputError, match="lacks the key 'y'; pass another"):
        run(tmp_path / "a", options={"folder": str(tmp_path / "a"), "refuse": True})
    assert not (tmp_path / "a" / "run").exists()


def test_stateful_policies_are_reset_and_refuse_replicas(tmp_path):
    """Each episode counts its own queries; a second replica would count wrongly."""
    found = run(tmp_path / "a", "Counting", options={}, tasks="2")
    assert {record.steps for record in found.records().values()} == {40}
    actor = Actor(Served("tests.acting_policies:Counting", {}, {"toy": Counting(TOY).spec}))
    first, other = toy_episode(index=0), toy_episode(index=1)
    for episode, step, expected in ((first, 0, 1), (other, 0, 1), (first, 1, 2), (first, 0, 1), (other, 1, 2)):
        answers = actor.answers([(5, fake_observation(TOY, episode, step))])
        assert wire.unpack(answers[5])[0, 0] * 40 == pytest.approx(expected)
    with pytest.raises(InputError, match="pass 1"):
        run(tmp_path / "b", "Counting", options={}, policy_replicas=2)


def test_many_errors_in_a_row_end_the_run_and_it_resumes(tmp_path, capfd):
    """After max_errors the run stops; the repeated command measures what is missing."""
    folder = tmp_path / "a"
    folder.mkdir()
    values = {"suites": "toy", "policy": "tests.faulty_policies:Faulty", "episodes": "6", "tasks": "0", "workers": 1,
              "retries": 0, "max_errors": 2, "out": str(folder / "run"),
              "policy_options": {"markers": str(folder), "raise_once": "toy/00/001,toy/00/002"}}
    stopped = measure(make_config(values))
    assert [record.outcome for record in stopped.records().values()] == ["success", "error", "error"]
    assert "2 episodes in a row ended in errors" in capfd.readouterr().err
    assert [record.outcome for record in measure(make_config(values)).records().values()] == ["success"] * 6


def test_workers_are_added_while_cores_idle(reference, tmp_path, monkeypatch):
    """Without --workers the pool starts with one a core and grows where a core would find nothing to do; the records
    stay the same."""
    monkeypatch.setattr("evalkit.cluster.cores", lambda address: 1)
    monkeypatch.setattr("evalkit.workers.IdleCores.enough_for_one", lambda self: True)
    found = run(tmp_path / "a", workers=None, options={"folder": str(tmp_path / "a"), "seconds": 0.1})
    assert measurements(found) == measurements(reference)
    assert max(size for _, size in batches(tmp_path / "a")) > 1, "more than one worker asked at the same time"


def test_idle_cores_are_told_from_the_kernels_count(monkeypatch):
    """Another worker is worth while where cores together idled more than 0.7 s a second; asked every five seconds."""
    now, idle = [100.0], [50.0]
    monkeypatch.setattr("evalkit.workers.time.monotonic", lambda: now[0])
    monkeypatch.setattr("evalkit.workers.idle_seconds", lambda: idle[0])
    cores = IdleCores()
    now[0], idle[0] = 104.0, 54.0
    assert not cores.enough_for_one()  # too soon
    now[0], idle[0] = 106.0, 54.0
    assert not cores.enough_for_one()  # 4 of 6 seconds
    now[0], idle[0] = 112.0, 58.5
    assert cores.enough_for_one()      # 4.5 of 6 seconds since the last answer


def test_idle_seconds_only_grow():
    """Two readings of the kernel's count, in seconds of all cores."""
    before, start = idle_seconds(), time.monotonic()
    time.sleep(0.05)
    assert 0 <= idle_seconds() - before <= (time.monotonic() - start) * (os.cpu_count() or 1) + 1


def test_evaluate_calls_the_callers_own_object(reference, tmp_path):
    """`evalkit.evaluate`: the object stays in this process, is called in batches, and gives the same records."""
    (tmp_path / "a").mkdir()
    policy = Elsewhere(TOY, str(tmp_path / "a"), seconds=0.03)  # long enough for the second worker to start
    found = evalkit.evaluate(policy, "toy", episodes=3, workers=2, out=str(tmp_path / "run"), name="step-100")
    assert measurements(found) == measurements(reference)
    seen = batches(tmp_path / "a")
    assert {process for process, _ in seen} == {os.getpid()} and max(size for _, size in seen) > 1
    assert found.info["config"]["policy"] == "step-100"


def test_evaluate_takes_a_function_and_a_name(tmp_path):
    """A plain function is a policy of one action a query; the same function by name gives the same records."""
    by_object = evalkit.evaluate(drift, "toy", episodes=2, workers=2, out=str(tmp_path / "object"))
    file = Path(__file__).with_name("acting_policies.py")
    by_name = evalkit.evaluate(f"{file}:drift", "toy", episodes=2, workers=2, out=str(tmp_path / "name"))
    assert measurements(by_object) == measurements(by_name) and len(measurements(by_name)) == 6


def test_evaluate_twice_measures_twice(tmp_path, monkeypatch):
    """Weights change during training, so that a second call must not find the records of the first."""
    monkeypatch.chdir(tmp_path)
    first = evalkit.evaluate(drift, "toy", tasks="0", episodes=1, workers=1)
    time.sleep(1.1)
    second = evalkit.evaluate(drift, "toy", tasks="0", episodes=1, workers=1)
    assert first.folder != second.folder and first.folder.parent == Path("results/runs")


def test_a_batch_that_raises_is_tried_one_by_one(tmp_path):
    """Each number gets its own chunk or its own traceback."""
    policy = Elsewhere(TOY, str(tmp_path), fail="toy/00/001")
    batch = [(index, fake_observation(TOY, toy_episode(index=index))) for index in range(3)]
    answers = act_on(policy, batch)
    assert isinstance(answers[1], str) and "cannot be answered" in answers[1]
    assert all(np.array_equal(wire.unpack(answers[index]), policy.chunk(batch[index][1])) for index in (0, 2))


@pytest.mark.parametrize("nonsense, cause", [
    (lambda items: None, "TypeError"), (lambda items: [None] * len(items), "dtype object"),
    (lambda items: [], "0 chunks")])
def test_nonsense_is_an_error_of_its_episode(nonsense, cause):
    """A policy that answers nothing, or what is no chunk, neither stops its process nor the caller's."""
    policy = Counting(TOY)
    policy.act = nonsense
    answers = act_on(policy, [(index, fake_observation(TOY, toy_episode(index=index))) for index in range(2)])
    assert set(answers) == {0, 1} and all(isinstance(text, str) and cause in text for text in answers.values())


def test_an_observation_travels_whole():
    """Every field arrives, arrays bit for bit."""
    sent = fake_observation(TOY, toy_episode(index=3), step=5)
    found = unpack_observation(pack_observation(sent))
    assert (found.episode, found.step, found.instruction, found.query_seed) == \
        (sent.episode, sent.step, sent.instruction, sent.query_seed)
    for group in ("views", "state"):
        assert {name: (array.dtype, array.tobytes()) for name, array in getattr(found, group).items()} == \
            {name: (array.dtype, array.tobytes()) for name, array in getattr(sent, group).items()}


def test_suites_of_one_embodiment_share_a_loaded_policy():
    """Weights are loaded once for all four LIBERO suites."""
    names = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    specs = {name: make_policy("random", load_suite(name), {}).spec for name in names}
    assert len(Actor(Served("random", {}, specs)).loaded) == 1


@pytest.mark.parametrize("seconds, size", [
    ({1: 0.1, 2: 0.2, 4: 0.4}, 1),              # batching gains nothing
    ({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.2}, 4),      # flat up to 4: 10, 20, 40, 40 a second
    ({1: 0.1, 2: 0.11, 4: 0.13, 8: 0.24}, 4),   # 33.3 a second is over 90 % of 30.8
    ({1: 0.1, 2: 0.11, 4: 0.13, 8: 0.2}, 8),    # 30.8 against 40
])
def test_batch_size_follows_from_the_warm_up(seconds, size):
    """The smallest batch with nine tenths of the best throughput; patience is a tenth of one observation."""
    assert choose_batching(seconds) == Batching(size, pytest.approx(0.01))


def test_a_cluster_of_this_machine_is_bare():
    """Ray's own two processes and nothing that nobody asks: three Python processes, half of the start."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    started = " ".join(Path("/proc", child, "cmdline").read_text() for child in children)
    assert "gcs_server" in started and "raylet" in started
    assert not any(name in started for name in ("monitor.py", "dashboard.py"))
