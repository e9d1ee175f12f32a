"""The contracts as checks: call them on your own Env or Policy. A failure quotes the rule that was broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.specs import check_policy_fits
from evalkit.suite import Env, Observation, Suite


def random_actions(suite: Suite, count: int, seed: int = 0) -> np.ndarray:
    """(count, D) actions, uniform in the suite's range."""
    low, high = suite.action.low or -1.0, suite.action.high or 1.0
    return np.random.default_rng(seed).uniform(low, high, (count, suite.action.size))


def play(env: Env, episode: Episode, actions: np.ndarray, looks: Callable[[int], bool]) -> list[tuple]:
    """Reset and step through `actions`; [(state hash, success, views), ...] with the reset first."""
    env.reset(episode)
    track = [(env.state_sha(), False, dict(env.observe().views))]
    for step, action in enumerate(actions, start=1):
        success = env.step(action, looks(step))
        track.append((env.state_sha(), success, dict(env.observe().views)))
    return track


def check_env(env: Env, episodes: Sequence[Episode], steps: int = 24, look_every: int = 8) -> None:
    """Raise AssertionError unless `env` keeps the Env contract on `episodes` (two or more of its task).

    Checks observations against the suite's declaration, that an episode depends on itself alone, and that looking
    changes neither physics nor later views.
    """
    actions = random_actions(env.suite, steps)
    first, other = episodes[0], episodes[1]
    lazy = play(env, first, actions, lambda step: step % look_every == 0)
    check_observation(env, env.observe(), first, steps, looked=steps % look_every == 0)
    between = play(env, other, actions, lambda step: False)
    assert between[0][0] != lazy[0][0], f"{first.id} and {other.id} start in the same state"
    eager = play(env, first, actions, lambda step: True)
    assert [state for state, _, _ in eager] == [state for state, _, _ in lazy], \
        "an episode depends on the Episode alone: not on what ran before, nor on what was looked at"
    assert [success for _, success, _ in eager] == [success for _, success, _ in lazy], \
        "success depends on the Episode and the actions alone"
    for step, ((_, _, seen), (_, _, always)) in enumerate(zip(lazy, eager)):
        looked = step % look_every == 0
        assert bool(seen) == (looked and bool(env.options.views)), f"views are there exactly when looked at ({step})"
        for name in seen:
            assert np.array_equal(seen[name], always[name]), \
                f"view {name!r} of step {step} is the one that rendering every step would have given"


def check_observation(env: Env, observation: Observation, episode: Episode, step: int, looked: bool) -> None:
    """Raise AssertionError unless `observation` is what the suite declares."""
    suite = env.suite
    assert observation.episode == episode and observation.step == step, "an observation names its episode and step"
    assert observation.instruction, "every observation carries its episode's instruction"
    assert set(observation.views) == (set(env.options.views) if looked else set()), \
        f"views are {sorted(observation.views)}, asked for {sorted(env.options.views)}"
    for name, image in observation.views.items():
        assert image.shape == suite.all_views[name] and image.dtype == np.uint8, \
            f"view {name!r} is {image.shape} {image.dtype}, declared {suite.all_views[name]} uint8"
    assert set(observation.state) == set(suite.state), f"state groups {sorted(observation.state)}"
    for name, value in observation.state.items():
        assert value.shape == (suite.state[name],) and np.isfinite(value).all(), \
            f"state group {name!r} is {value}, declared {suite.state[name]} finite numbers"
    assert observation.simulator is None, "only the rollout hands out the simulator, to privileged policies"


def fake_observation(suite: Suite, episode: Episode, step: int = 0) -> Observation:
    """A random Observation of the declared shapes, for trying a policy without a simulator."""
    generator = episode.generator(f"fake observation {step}")
    views = {name: generator.integers(0, 256, shape, dtype=np.uint8) for name, shape in suite.views.items()}
    state = {name: generator.normal(size=size) for name, size in suite.state.items()}
    return Observation(views, state, suite.tasks[episode.task].instruction, episode, step)


def check_policy(policy: Policy, suite: Suite) -> None:
    """Raise AssertionError (or InputError for its spec) unless `policy` keeps the Policy contract on `suite`.

    For policies that are not privileged; uses random observations, so it needs no simulator.
    """
    check_policy_fits(policy.spec, suite)
    policy.load()
    episodes = [Episode(suite.name, 0, index, seed=7 + index, max_steps=suite.max_steps) for index in range(3)]
    observations = [fake_observation(suite, episode) for episode in episodes]
    for episode in episodes:
        policy.reset(episode)
    together = policy.act(observations)
    assert len(together) == len(observations), f"{len(observations)} observations gave {len(together)} chunks"
    for chunk in together:
        suite.action.check(np.asarray(chunk))
        assert len(chunk) >= policy.spec.executed_steps, \
            f"a chunk has {len(chunk)} actions, the spec declares {policy.spec.executed_steps} executed"
    for episode, observation, expected in zip(episodes, observations, together):
        policy.reset(episode)
        alone = policy.act([observation])[0]
        assert np.array_equal(alone, expected), "an action depends on its own observation, not on the batch"


__all__ = ["check_env", "check_observation", "check_policy", "fake_observation", "play", "random_actions"]
