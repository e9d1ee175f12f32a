"""The rollout loop: one policy, one environment, one episode, one record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from evalkit.episode import Episode
from evalkit.observers import Observer
from evalkit.policy import Policy
from evalkit.progress import Progress
from evalkit.records import FAILURE, SUCCESS, Record
from evalkit.suite import Env, Observation


def run_episode(env: Env, policy: Policy, episode: Episode, observers: Sequence[Observer] = (),
                full_horizon: bool = False, progress: Progress | None = None) -> Record:
    """Roll out one episode and return its Record. No Ray, no retries, no printing; exceptions pass through.

    progress: is told of every phase. The episode ends when the suite's success rule is decided, or with `full_horizon`
    after `episode.max_steps`.
    """
    clock, tally = Clock(env, progress or Progress()), Tally(env.suite.success_rule)
    with clock.phase("reset"):
        policy.reset(episode)
        env.reset(episode)
    scene, observation = env.state_sha(), env.observe()
    for observer in observers:
        observer.on_reset(observation)

    while tally.steps < episode.max_steps and (full_horizon or not tally.decided):
        with clock.phase("policy", policy.patience):
            chunk = query(policy, env, observation)
        tally.policy_calls += 1
        for action, last in executed(chunk, policy, episode.max_steps - tally.steps):
            step = tally.steps + 1
            shown = last and step < episode.max_steps and bool(policy.spec.views)  # after the last step nobody is asked
            look = shown or any(observer.wants_frame(step) for observer in observers)
            with clock.phase("physics"):
                success = env.step(action, look)
            tally.count(success, chunk_end=last)
            observation = env.observe()
            for observer in observers:
                observer.on_step(action, observation)
            if tally.decided and not full_horizon:
                break

    return tally.record(episode, clock, scene=scene, final=env.state_sha(), instruction=observation.instruction)


def query(policy: Policy, env: Env, observation: Observation) -> np.ndarray:
    """One checked chunk (T, D) from `policy`; T is at least the number of steps it declares to execute."""
    if policy.spec.privileged:
        observation = replace(observation, simulator=env.simulator)
    chunk = np.asarray(policy.act([observation])[0])
    env.suite.action.check(chunk)
    if len(chunk) < policy.spec.executed_steps:
        raise ValueError(f"policy {policy.spec.name!r} returned {len(chunk)} actions but declares to execute "
                         f"{policy.spec.executed_steps}")
    return chunk


def executed(chunk: np.ndarray, policy: Policy, remaining: int) -> Iterator[tuple[np.ndarray, bool]]:
    """(action, is it the last one executed) for the part of `chunk` that is executed."""
    count = min(policy.spec.executed_steps, remaining)
    for position in range(count):
        yield chunk[position], position == count - 1


@dataclass
class Tally:
    """Counts steps and successes, and knows when the suite's success rule is decided."""

    rule: str
    steps: int = 0
    policy_calls: int = 0
    first_success_step: int | None = None
    chunk_end_step: int | None = None
    last: bool = False
    last_was_chunk_end: bool = True

    def count(self, success: bool, chunk_end: bool) -> None:
        """One more step, after which the success predicate was `success`."""
        self.steps += 1
        self.last, self.last_was_chunk_end = success, chunk_end
        if success and self.first_success_step is None:
            self.first_success_step = self.steps
        if success and chunk_end and self.chunk_end_step is None:
            self.chunk_end_step = self.steps

    @property
    def decided(self) -> bool:
        """Whether the rule's answer is already yes."""
        return (self.first_success_step if self.rule == "any_step" else self.chunk_end_step) is not None

    def record(self, episode: Episode, clock: Clock, scene: str, final: str, instruction: str) -> Record:
        """The Record of the finished episode."""
        at_horizon = self.steps == episode.max_steps
        chunk_end = self.chunk_end_step is not None
        return Record(
            id=episode.id, suite=episode.suite, task=episode.task, index=episode.index, seed=episode.seed,
            outcome=SUCCESS if self.decided else FAILURE,
            any_step=self.first_success_step is not None,
            chunk_end=chunk_end if chunk_end or self.last_was_chunk_end else None, chunk_end_step=self.chunk_end_step,
            final=self.last if at_horizon else None,
            first_success_step=self.first_success_step, steps=self.steps, policy_calls=self.policy_calls,
            instruction=instruction, scene_sha=scene, final_sha=final,
            **{f"seconds_{phase}": round(seconds, 4) for phase, seconds in clock.seconds.items()},
        )


class Clock:
    """Wall-clock seconds by phase; what the environment spends rendering is taken out of each phase."""

    def __init__(self, env: Env, progress: Progress):
        self.env, self.progress = env, progress
        self.seconds = {"reset": 0.0, "physics": 0.0, "render": 0.0, "policy": 0.0}

    @contextmanager
    def phase(self, name: str, patience: float = 0.0) -> Iterator[None]:
        """Charge the block to `name`, its renders to ``render``; see `Progress.enter` for `patience`."""
        self.progress.enter(name, patience)
        start, rendered = time.perf_counter(), self.env.render_seconds
        yield
        render = self.env.render_seconds - rendered
        self.seconds["render"] += render
        self.seconds[name] += time.perf_counter() - start - render
