"""The contracts as checks: call them on your own Env or Policy. A failure quotes the rule that was broken.

`evalkit check-policy` runs the Policy contract from the command line, in the policy's own interpreter.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.policy import Policy
from evalkit.registry import absolute_policy, load_suite, make_policy
from evalkit.specs import check_policy_fits
from evalkit.suite import Env, Observation, Suite
from evalkit.texts import plain_lines

#: Largest difference between two answers to one observation that counts as none. Kernels differ with the size of a
#: batch: 1e-6 is usual in float32, 1e-2 in bfloat16 on a GPU (pass --tolerance there).
TOLERANCE = 1e-4

#: Packages that a policy's constructor must not import: the driver builds every policy, and has none of them.
HEAVY = ("torch", "tensorflow", "jax", "transformers", "diffusers")


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


@dataclass(frozen=True)
class Trial:
    """A loaded policy on trial. tolerance: largest difference between two answers that counts as none."""

    policy: Policy
    suite: Suite
    tolerance: float = TOLERANCE

    def observations(self, step: int = 0) -> list[Observation]:
        """Three observations of three episodes, each with pictures, state and instruction of its own."""
        episodes = [Episode(self.suite.name, 0, index, 7 + index, self.suite.max_steps) for index in range(3)]
        return [replace(fake_observation(self.suite, episode, step), instruction=self.instruction(episode.index))
                for episode in episodes]

    def instruction(self, index: int) -> str:
        """A text that only the observation of this index has."""
        return f"{self.suite.tasks[index % len(self.suite.tasks)].instruction}, variant {index}" if index else \
            self.suite.tasks[0].instruction

    def ask(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """The checked chunks of one batch; episodes whose step is 0 are reset first."""
        for observation in observations:
            if observation.step == 0:
                self.policy.reset(observation.episode)
        chunks = self.policy.act(observations)
        assert len(chunks) == len(observations), f"{len(observations)} observations gave {len(chunks)} chunks"
        chunks = [np.array(chunk) for chunk in chunks]
        for chunk in chunks:
            self.check_chunk(chunk)
        return chunks

    def check_chunk(self, chunk: np.ndarray) -> None:
        """Raise AssertionError unless `chunk` is what suite and spec declare."""
        try:
            self.suite.action.check(chunk)
        except ValueError as error:
            raise AssertionError(str(error)) from error
        spec = self.policy.spec
        assert spec.executed_steps <= len(chunk) <= spec.chunk_length, \
            f"a chunk has {len(chunk)} actions, the spec declares {spec.executed_steps} executed of {spec.chunk_length}"

    def same(self, a: np.ndarray, b: np.ndarray, rule: str) -> None:
        """Raise AssertionError, quoting `rule`, unless two chunks are equal within the tolerance."""
        assert a.shape == b.shape, f"{rule}: the chunks have shapes {a.shape} and {b.shape}"
        assert distance(a, b) <= self.tolerance, \
            f"{rule}: actions differ by up to {distance(a, b):.2g}, allowed {self.tolerance:g}"


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between two chunks; infinite where their shapes differ."""
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def gives_chunks(trial: Trial) -> None:
    """act gives one chunk an observation: finite real (T, D), executed_steps <= T <= chunk_length"""
    trial.ask(trial.observations())
    trial.ask(trial.observations(step=trial.policy.spec.executed_steps))


def ignores_the_batch(trial: Trial) -> None:
    """an action depends on its own observation: not on the batch, nor on its place in it"""
    observations = trial.observations()
    together = trial.ask(observations)
    backwards = trial.ask(observations[::-1])[::-1]
    for place, observation in enumerate(observations):
        alone, = trial.ask([observation])
        trial.same(alone, together[place], f"observation {place} of {len(observations)} alone and in a batch")
        trial.same(backwards[place], together[place], f"observation {place} of a batch and of the reversed batch")


def follows_each_instruction(trial: Trial) -> None:
    """each observation of a batch is answered with its own instruction, not with another's"""
    observations = trial.observations()
    together = trial.ask(observations)
    for place, observation in enumerate(observations):
        own, = trial.ask([observation])
        for other in observations:
            if other is observation:
                continue
            swapped, = trial.ask([replace(observation, instruction=other.instruction)])
            assert distance(together[place], swapped) >= distance(together[place], own) / 2, \
                (f"in a batch, the observation with instruction {observation.instruction!r} was answered as if it were "
                 f"{other.instruction!r} (within {distance(together[place], swapped):.2g}; with its own instruction "
                 f"alone the action differs by {distance(together[place], own):.2g})")


def repeats_itself(trial: Trial) -> None:
    """the same observation gives the same action again, whatever global random generators do in between"""
    observations = trial.observations()
    first = trial.ask(observations)
    random.seed(1)
    np.random.seed(1)
    for a, b in zip(first, trial.ask(observations)):
        trial.same(a, b, "the same observations twice; draw from observation.generator(...)")


def draws_from_the_query_seed(trial: Trial) -> None:
    """all randomness follows from observation.query_seed, the seed that also travels over a wire"""
    observations = trial.observations()
    elsewhere = [replace(observation, seed=observation.query_seed,
                         episode=replace(observation.episode, seed=observation.episode.seed + 1))
                 for observation in observations]
    for a, b in zip(trial.ask(observations), trial.ask(elsewhere)):
        trial.same(a, b, "equal query seeds in episodes of different seeds; draw from observation.generator(...), not "
                         "from episode.generator(...)")


def leaves_observations_alone(trial: Trial) -> None:
    """observations are only read: their arrays may be read-only, and are as before afterwards"""
    observations = trial.observations()
    before = pickle.dumps([(observation.views, observation.state) for observation in observations])
    trial.ask(observations)
    assert pickle.dumps([(observation.views, observation.state) for observation in observations]) == before, \
        "the policy changed an observation's arrays: copy before editing in place"
    for observation in observations:
        for array in (*observation.views.values(), *observation.state.values()):
            array.flags.writeable = False
    try:
        trial.ask(observations)
    except ValueError as error:
        raise AssertionError(f"with read-only arrays, as a server gets them: {error}; copy before editing") from error


def describes_itself(trial: Trial) -> None:
    """describe gives JSON types, synchronize returns"""
    json.dumps(trial.policy.describe(), allow_nan=False)
    trial.policy.synchronize()


#: The Policy contract on a loaded policy; what each says is its docstring. Those first whose faults break others too.
RULES: tuple[Callable[[Trial], None], ...] = (
    gives_chunks, leaves_observations_alone, repeats_itself, follows_each_instruction, ignores_the_batch,
    draws_from_the_query_seed, describes_itself)


def check_policy(policy: Policy, suite: Suite, tolerance: float = TOLERANCE) -> None:
    """Raise AssertionError (or InputError for its spec) unless `policy` keeps the Policy contract on `suite`.

    For policies that are not privileged; uses random observations, so it needs no simulator. Loads the policy.
    """
    check_policy_fits(policy.spec, suite)
    policy.load()
    for rule in RULES:
        rule(Trial(policy, suite, tolerance))


def check_constructor(name: str, suite_name: str, options: Mapping[str, Any]) -> None:
    """Raise AssertionError unless policy `name` is built lightly, in a fresh process from pickled options.

    Its module and constructor may import none of `HEAVY`, and the same options must give the same spec twice. Raises
    InputError when the policy cannot be built at all.
    """
    try:
        job = pickle.dumps((absolute_policy(name), suite_name, dict(options)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"the options must be picklable, workers get them from the driver: {error}") from error
    paths = os.pathsep.join([str(PROJECT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", "from evalkit.testing import _construct; _construct()"], input=job,
                          capture_output=True, check=False, env={**os.environ, "PYTHONPATH": paths})
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 2:
        raise InputError(said)
    assert done.returncode == 0, f"the constructor fails in a fresh process:\n{said[-1500:]}"
    heavy = done.stdout.decode().split("imported:")[-1].split()
    assert not heavy, (f"importing or constructing the policy imports {', '.join(heavy)}: move that into load() or "
                       "act() (the driver builds every policy to read its spec)")


class _Watch:
    """A finder that finds nothing and remembers which of `HEAVY` were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Called at each import that is not yet loaded."""
        if name in HEAVY and name not in self.seen:
            self.seen.append(name)


def _construct() -> None:
    """In the process of `check_constructor`: build the policy twice and print what it imported."""
    watch = _Watch()
    sys.meta_path.insert(0, watch)
    name, suite_name, options = pickle.load(sys.stdin.buffer)
    suite, before = load_suite(suite_name), pickle.dumps(options)
    try:
        specs = [make_policy(name, suite, options).spec for _ in range(2)]
    except Exception as error:
        if not watch.seen and isinstance(error, InputError):
            print(error, file=sys.stderr)
            sys.exit(2)
        if not watch.seen:
            raise
        specs = []  # what it imports is the cause, or is to be mended first
    assert pickle.dumps(options) == before, "the constructor changes its options"
    assert not specs or specs[0] == specs[1], f"the same options give different specs:\n{specs[0]}\n{specs[1]}"
    print("imported:", *watch.seen)


def report_rule(text: str, check: Callable[[], None]) -> bool:
    """Run `check` and print one line, with the reason where the rule is broken; whether it is kept."""
    try:
        check()
    except AssertionError as error:
        print(f"FAIL  {text}\n      {error}", flush=True)
        return False
    except InputError:
        raise
    except Exception:
        print(f"FAIL  {text}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"ok    {text}", flush=True)
    return True


def main(settings: Mapping[str, Any]) -> int:
    """Load the policy that `settings` name (policy, suite, options, tolerance) and print a line a rule; 1 if one is
    broken, else 0."""
    suite = load_suite(settings["suite"])
    policy = make_policy(settings["policy"], suite, settings["options"])
    check_policy_fits(policy.spec, suite)
    if not report_rule("load", policy.load):
        return 1
    trial = Trial(policy, suite, settings["tolerance"])
    first, *others = ((rule.__doc__ or rule.__name__, partial(rule, trial)) for rule in RULES)
    if not report_rule(*first):
        print("The other rules need such chunks: mend this first, then check again.")
        return 1
    return 0 if all([report_rule(*other) for other in others]) else 1


__all__ = ["RULES", "TOLERANCE", "Trial", "check_constructor", "check_env", "check_observation", "check_policy",
           "fake_observation", "play", "random_actions"]


if __name__ == "__main__":
    try:
        sys.exit(main(json.loads(sys.argv[1])))
    except InputError as error:
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        sys.exit(2)
