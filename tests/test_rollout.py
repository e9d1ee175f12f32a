"""Rollout: when somebody looks, when an episode ends, what its record says. Worked out by hand on the toy suite.

The near goal is 0.30 m away with a radius of 0.05 m. At speed 0.9 (0.045 m a step) the distance after steps 5, 6, 7
and 8 is 0.075, 0.030, 0.015 and 0.060 m: the point is inside after steps 6 and 7 only, or stays inside if it stops.
"""

from __future__ import annotations

import numpy as np
import pytest

from baselines.random import Random
from evalkit.observers import ActionRecorder, Observer, VideoRecorder
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from suites.toy.suite import ToyEnv
from tests.helpers import FAR, NEAR, UNREACHABLE, Drive, toy_env, toy_episode

THROUGH = [0.9] * 40
STOP_INSIDE = [0.9] * 6


class WatchedEnv(ToyEnv):
    """Keeps the steps that were looked at."""

    def reset(self, episode):
        super().reset(episode)
        self.steps, self.looks = 0, []

    def step(self, action, look):
        self.steps += 1
        self.looks += [self.steps] if look else []
        return super().step(action, look)


def looks(policy, observers=(), max_steps=40) -> list[int]:
    env = toy_env(UNREACHABLE, kind=WatchedEnv)
    run_episode(env, policy, toy_episode(UNREACHABLE, max_steps=max_steps), observers)
    return env.looks


@pytest.mark.parametrize("chunk, executed, max_steps, expected", [
    (1, 1, 5, [1, 2, 3, 4]),
    (4, 4, 12, [4, 8]),
    (8, 3, 12, [3, 6, 9]),
    (16, 16, 40, [16, 32]),  # the horizon cuts the third chunk after 8 steps
    (16, 16, 10, []),
])
def test_only_the_last_executed_step_is_looked_at(chunk, executed, max_steps, expected):
    """A policy with cameras is shown the step before its next query, and no other: not the episode's last one."""
    assert looks(Drive(THROUGH, chunk, executed, views=("top",)), max_steps=max_steps) == expected


def test_nobody_looks_for_a_policy_without_cameras():
    """A policy that reads state alone costs no picture."""
    assert looks(Drive(THROUGH, 4)) == []


def test_a_video_looks_at_its_own_steps():
    """Frames that are due are looked at, besides the policy's own steps."""
    assert looks(Drive(THROUGH, 3), [VideoRecorder(20.0)], max_steps=9) == [2, 4, 6, 8]
    assert looks(Drive(THROUGH, 3, views=("top",)), [VideoRecorder(20.0)], max_steps=9) == [2, 3, 4, 6, 8]


def test_the_policy_sees_what_it_would_always_see():
    """Pictures, state and step of each query are those of an environment that looks at every step."""
    policy = Drive(THROUGH, 4, views=("top",))
    run_episode(toy_env(FAR), policy, toy_episode(FAR, max_steps=12))
    env = toy_env(FAR)
    env.reset(toy_episode(FAR, max_steps=12))
    always = [env.observe()]
    for action in Drive(THROUGH, 12).chunk(always[0]):
        env.step(action, look=True)
        always.append(env.observe())
    assert [seen.step for seen in policy.seen] == [0, 4, 8]
    for seen in policy.seen:
        assert np.array_equal(seen.views["top"], always[seen.step].views["top"])
        assert np.allclose(seen.state["pos"], always[seen.step].state["pos"], atol=1e-12)


@pytest.mark.parametrize("executed, calls", [(1, 40), (3, 14), (8, 5), (16, 3), (40, 1), (64, 1)])
def test_the_horizon_is_exact(executed, calls):
    """An unsuccessful episode takes exactly its horizon, also when that ends inside a chunk."""
    record = run_episode(toy_env(UNREACHABLE), Drive(THROUGH, 64, executed), toy_episode(UNREACHABLE))
    assert (record.steps, record.policy_calls, record.outcome) == (40, calls, "failure")


@pytest.mark.parametrize("speeds, chunk, max_steps, expected", [
    # any_step, chunk_end, final, first success, steps, calls
    (THROUGH, 1, 40, (True, True, None, 6, 6, 6)),   # every step is a chunk end
    (THROUGH, 4, 40, (True, None, None, 6, 6, 2)),   # ended inside the second chunk: its end was not reached
    (THROUGH, 3, 40, (True, True, None, 6, 6, 2)),   # step 6 ends the second chunk
    (THROUGH, 3, 6, (True, True, True, 6, 6, 2)),    # and is the last of this horizon too
    (THROUGH, 4, 6, (True, True, True, 6, 6, 2)),    # the horizon ends the chunk
    (THROUGH, 4, 5, (False, False, False, None, 5, 2)),
    (THROUGH, 16, 40, (True, None, None, 6, 6, 1)),
    ([], 4, 40, (False, False, False, None, 40, 10)),
])
def test_any_step_rule(speeds, chunk, max_steps, expected):
    """The episode ends at the first success; variants that were not decided by then are None."""
    record = run_episode(toy_env(NEAR, "any_step"), Drive(speeds, chunk), toy_episode(NEAR, max_steps=max_steps))
    assert (record.any_step, record.chunk_end, record.final, record.first_success_step, record.steps,
            record.policy_calls) == expected
    assert record.outcome == ("success" if record.any_step else "failure")


@pytest.mark.parametrize("speeds, chunk, max_steps, expected", [
    (THROUGH, 4, 40, (True, False, False, 6, 40, 10)),      # inside at 6 and 7, outside at 8: no chunk end holds it
    (THROUGH, 3, 40, (True, True, None, 6, 6, 2)),
    (THROUGH, 7, 40, (True, True, None, 6, 7, 1)),          # the second of the two steps inside
    (STOP_INSIDE, 4, 40, (True, True, None, 6, 8, 2)),      # goes on after the first success, to the chunk's end
    (STOP_INSIDE, 16, 40, (True, True, None, 6, 16, 1)),
    (STOP_INSIDE, 4, 7, (True, True, True, 6, 7, 2)),       # the horizon cuts the chunk: its last step is its end
    (THROUGH, 16, 8, (True, False, False, 6, 8, 1)),
    ([*STOP_INSIDE, 0, 0.9, 0.9], 9, 9, (True, False, False, 6, 9, 1)),  # left again: 0.060 m at the end
    ([], 4, 40, (False, False, False, None, 40, 10)),
])
def test_chunk_end_rule(speeds, chunk, max_steps, expected):
    """The episode ends at the first chunk end that is successful; earlier successes are noted only."""
    record = run_episode(toy_env(NEAR, "chunk_end"), Drive(speeds, chunk), toy_episode(NEAR, max_steps=max_steps))
    assert (record.any_step, record.chunk_end, record.final, record.first_success_step, record.steps,
            record.policy_calls) == expected
    assert record.outcome == ("success" if record.chunk_end else "failure")


@pytest.mark.parametrize("rule", ["any_step", "chunk_end"])
@pytest.mark.parametrize("speeds, chunk, expected", [
    # any_step, chunk_end, final, first success, first successful chunk end
    (THROUGH, 3, (True, True, False, 6, 6)),
    (THROUGH, 4, (True, False, False, 6, None)),
    (STOP_INSIDE, 4, (True, True, True, 6, 8)),
    ([], 4, (False, False, False, None, None)),
])
def test_full_horizon_decides_every_variant(rule, speeds, chunk, expected):
    """Under the full horizon no success ends the episode and the last step is known; the rule's outcome is the same."""
    record = run_episode(toy_env(NEAR, rule), Drive(speeds, chunk), toy_episode(NEAR), full_horizon=True)
    assert (record.any_step, record.chunk_end, record.final, record.first_success_step,
            record.chunk_end_step) == expected
    assert record.steps == 40
    assert record.outcome == ("success" if expected[rule == "chunk_end"] else "failure")


def test_record_names_its_episode():
    """Id, seed, instruction and hashes of the first and last state are in the record."""
    env, episode = toy_env(FAR), toy_episode(FAR, index=4)
    record = run_episode(env, Drive([0.9]), episode)
    env.reset(episode)
    assert (record.id, record.suite, record.task, record.index, record.seed) == ("toy/01/004", "toy", 1, 4, 104)
    assert record.instruction == "go to the far goal"
    assert record.scene_sha == env.state_sha() != record.final_sha


def test_seconds_are_told_apart():
    """What the environment spends rendering is not counted as physics, reset or policy."""
    class SlowCamera(ToyEnv):
        def _look(self, look):
            super()._look(look)
            self._seconds += 5.0 * look

    record = run_episode(toy_env(kind=SlowCamera), Drive([], views=("top",)), toy_episode(max_steps=3))
    assert 15.0 <= record.seconds_render < 15.5  # the reset and two of three steps
    assert max(record.seconds_reset, record.seconds_physics, record.seconds_policy) < 1.0


def test_observers_do_not_change_the_record():
    """Video and recorded actions leave the measurement as it is without them."""
    policy = Random(load_suite("toy"), chunk=5)
    plain, watched = (run_episode(toy_env(FAR), policy, toy_episode(FAR), observers)
                      for observers in ([], [VideoRecorder(20.0), ActionRecorder()]))
    assert plain.measurement() == watched.measurement()


def test_observers_see_the_reset_and_every_step():
    """on_reset once, on_step after each step with the action that was executed."""
    class Diary(Observer):
        def __init__(self):
            self.entries = []

        def on_reset(self, observation):
            self.entries.append(("reset", observation.step))

        def on_step(self, action, observation):
            self.entries.append((round(float(np.linalg.norm(action)), 6), observation.step))

    diary = Diary()
    run_episode(toy_env(UNREACHABLE), Drive([0.1, 0.2, 0.3], 2), toy_episode(UNREACHABLE, max_steps=4), [diary])
    assert diary.entries == [("reset", 0), (0.1, 1), (0.2, 2), (0.3, 3), (0.0, 4)]


class Literal(Drive):
    """Answers every query with one array."""

    def __init__(self, answer: object, **spec):
        super().__init__([], **spec)
        self.answer = answer

    def act(self, observations):
        return [self.answer for _ in observations]


@pytest.mark.parametrize("chunk", [np.zeros(2), np.zeros((1, 3)), np.zeros((0, 2)), np.zeros((1, 1, 2)), [[0.0]], 0.0])
def test_wrong_chunk_shape_raises(chunk):
    """A chunk of another shape is an exception, which the engine records as an error, never as a failure."""
    with pytest.raises(ValueError, match="shape"):
        run_episode(toy_env(), Literal(chunk), toy_episode())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_chunk_that_is_not_finite_raises(value):
    """NaN or infinity is an exception, also in steps that would not be executed."""
    with pytest.raises(ValueError, match="NaN"):
        run_episode(toy_env(), Literal([[0.0, 0.0], [0.0, value]], chunk=2, executed=1), toy_episode())


def test_chunk_shorter_than_declared_raises():
    """A policy that declares to execute 4 steps must return at least 4; a longer chunk is cut."""
    with pytest.raises(ValueError, match="returned 3 actions but declares to execute 4"):
        run_episode(toy_env(), Literal(np.zeros((3, 2)), chunk=4), toy_episode())
    assert run_episode(toy_env(), Literal(np.zeros((9, 2)), chunk=4), toy_episode()).policy_calls == 10


def test_only_privileged_policies_get_the_simulator():
    """The simulator's handle is in the observation of a privileged policy and of no other, observers included."""
    class Spy(Observer):
        simulators: tuple = ()

        def on_step(self, action, observation):
            self.simulators += (observation.simulator,)

    for privileged in (False, True):
        env, spy, policy = toy_env(), Spy(), Drive(STOP_INSIDE, privileged=privileged)
        run_episode(env, policy, toy_episode(), [spy])
        assert all(seen.simulator is (env if privileged else None) for seen in policy.seen)
        assert set(spy.simulators) == {None}


def test_exceptions_pass_through():
    """The loop hides nothing: what a policy raises reaches the caller."""
    class Broken(Drive):
        def act(self, observations):
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run_episode(toy_env(), Broken([]), toy_episode())
