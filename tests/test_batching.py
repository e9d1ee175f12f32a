"""Batching: who travels together, who fails alone, and which thread the policy sees."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from evalkit.batching import Answer, Batcher
from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.specs import PolicySpec
from evalkit.suite import Observation
from evalkit.testing import fake_observation

TOY = load_suite("toy")


class Recorder(Policy):
    """Answers episode k with the number k, and keeps what it was asked: batches of episode indices, resets, threads.

    bad: episode indices at which `act` raises, whatever else is in the batch. seconds: how long `act` takes.
    """

    def __init__(self, bad: Sequence[int] = (), seconds: float = 0.0, stateful: bool = False):
        self.spec = PolicySpec("recorder", stateful=stateful)
        self.bad, self.seconds = bad, seconds
        self.batches: list[list[int]] = []
        self.resets: list[int] = []
        self.threads: set[int] = set()

    def reset(self, episode):
        self.resets.append(episode.index)
        self.threads.add(threading.get_ident())

    def act(self, observations):
        self.batches.append([observation.episode.index for observation in observations])
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        for index in self.batches[-1]:
            if index in self.bad:
                raise ValueError(f"cannot do episode {index}")
        return [np.full((1, 2), index, float) for index in self.batches[-1]]


def observation(index: int, step: int = 0) -> Observation:
    return fake_observation(TOY, Episode("toy", 0, index, 7, 40), step)


def ask(policy: Policy, observations: Sequence[Observation], **options) -> list[Answer | Exception]:
    """Send all observations at once through a Batcher."""
    async def run():
        async with Batcher(policy, **options) as batcher:
            return await asyncio.gather(*map(batcher.act, observations), return_exceptions=True)
    return asyncio.run(asyncio.wait_for(run(), 20))


def test_everyone_gets_the_own_answer():
    """Ten at once in batches of at most four: sizes 4, 4, 2, each answer belongs to its observation."""
    policy = Recorder()
    answers = ask(policy, [observation(index) for index in range(10)], most=4, wait=0.01)
    assert [float(found.chunk[0, 0]) for found in answers] == list(range(10))
    assert [len(batch) for batch in policy.batches] == [4, 4, 2]
    assert [found.batch for found in answers] == [4] * 8 + [2] * 2


def test_a_batch_waits_no_longer_than_asked():
    """One observation alone is acted upon after `wait`; its answer says how long it waited."""
    start = time.perf_counter()
    found, = ask(Recorder(), [observation(0)], most=4, wait=0.2)
    assert 0.15 <= found.waited <= time.perf_counter() - start < 5 and found.batch == 1


def test_no_waiting_when_everybody_is_there():
    """With as many requests as clients nobody waits, however long `wait` is."""
    start = time.perf_counter()
    answers = ask(Recorder(), [observation(0), observation(1)], most=16, wait=60, clients=2)
    assert time.perf_counter() - start < 10 and [found.batch for found in answers] == [2, 2]


def test_nobody_waits_for_who_left():
    """When a client leaves, a batch that waited for it is acted upon at once."""
    async def run():
        async with Batcher(Recorder(), wait=60, clients=3) as batcher:
            asked = [asyncio.create_task(batcher.act(observation(index))) for index in range(2)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in asked)
            batcher.clients = 2
            return await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert [found.batch for found in asyncio.run(run())] == [2, 2]


def test_the_next_batch_gathers_while_the_policy_acts():
    """Five that arrive during a query of 0.3 s are answered together, and have waited long enough by then."""
    policy = Recorder(seconds=0.3)

    async def run():
        async with Batcher(policy, wait=0.05) as batcher:
            first = asyncio.create_task(batcher.act(observation(0)))
            await asyncio.sleep(0.15)
            await asyncio.gather(first, *(batcher.act(observation(index)) for index in range(1, 6)))
    asyncio.run(run())
    assert policy.batches == [[0], [1, 2, 3, 4, 5]]


def test_one_thread_for_everything():
    """`load`, `reset` and `act` run in one thread, which is not the event loop's."""
    policy = Recorder()

    async def run():
        async with Batcher(policy) as batcher:
            assert await batcher.call(threading.get_ident) not in (threading.get_ident(), None)
            policy.threads.add(await batcher.call(threading.get_ident))
            await asyncio.gather(*(batcher.act(observation(index)) for index in range(3)))
            await batcher.act(observation(3))
    asyncio.run(run())
    assert len(policy.threads) == 1 and threading.get_ident() not in policy.threads


def test_an_episode_is_reset_at_its_first_step():
    """Step 0 resets its episode, later steps do not."""
    policy = Recorder()
    ask(policy, [observation(0, step=0), observation(1, step=8), observation(2, step=0)])
    assert policy.resets == [0, 2]


def test_a_bad_observation_fails_alone():
    """Three travel together and one raises: the other two are answered, each by itself, at a second try."""
    policy = Recorder(bad=[1])
    good, bad, other = ask(policy, [observation(index, step=4) for index in range(3)])
    assert (good.chunk[0, 0], other.chunk[0, 0]) == (0, 2) and "cannot do episode 1" in str(bad)
    assert policy.batches == [[0, 1, 2], [0], [1], [2]] and [good.batch, other.batch] == [3, 3]


def test_a_stateful_policy_is_not_asked_twice():
    """Where a failed query may have moved the policy's state, the whole batch fails instead of being tried again."""
    policy = Recorder(bad=[1], stateful=True)
    answers = ask(policy, [observation(index, step=4) for index in range(3)])
    assert [str(error) for error in answers] == ["cannot do episode 1"] * 3 and policy.batches == [[0, 1, 2]]


def test_an_error_does_not_stop_the_batcher():
    """After a failed query the next ones are answered."""
    async def run():
        async with Batcher(Recorder(bad=[0])) as batcher:
            with pytest.raises(ValueError, match="episode 0"):
                await batcher.act(observation(0))
            return await batcher.act(observation(1))
    assert asyncio.run(run()).chunk[0, 0] == 1


def test_a_policy_that_raises_stop_iteration():
    """`next` on an exhausted iterator inside a policy reaches the client as an error too."""
    class Exhausted(Recorder):
        def act(self, observations):
            return [next(iter([]))]
    error, = ask(Exhausted(), [observation(0)])
    assert isinstance(error, RuntimeError) and "StopIteration" in str(error)


def test_too_few_chunks():
    """A policy that drops an answer is found out: nobody gets somebody else's chunk."""
    class Short(Recorder):
        def act(self, observations):
            return super().act(observations)[:1]
    one, two = ask(Short(), [observation(0), observation(1)])
    assert (one.chunk[0, 0], two.chunk[0, 0]) == (0, 1)  # asked one by one after the mismatch

    class None_(Recorder):
        def act(self, observations):
            return []
    error, = ask(None_(), [observation(0)])
    assert "answered 1 observations with 0 chunks" in str(error)


def test_queries_of_one_episode_keep_their_order():
    """Two queries of the same episode never share a batch: the earlier is answered first."""
    policy = Recorder()
    ask(policy, [observation(0, step=0), observation(0, step=8), observation(1)], wait=0.02)
    assert policy.batches == [[0, 1], [0]]


def test_who_gave_up_is_not_asked_for():
    """A request that was cancelled while it waited does not reach the policy."""
    policy = Recorder(seconds=0.2)

    async def run():
        async with Batcher(policy, wait=0.01) as batcher:
            first = asyncio.create_task(batcher.act(observation(0)))
            await asyncio.sleep(0.1)
            gone, stays = (asyncio.create_task(batcher.act(observation(index))) for index in (1, 2))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(first, stays)
    asyncio.run(run())
    assert policy.batches == [[0], [2]]


def test_stopping_refuses_what_waits():
    """Leaving the batcher answers waiting requests with ConnectionAbortedError, and later ones too."""
    policy = Recorder(seconds=0.3)

    async def run():
        async with Batcher(policy, wait=0.0) as batcher:
            tasks = [asyncio.create_task(batcher.act(observation(index))) for index in range(2)]
            await asyncio.sleep(0.1)
            tasks.append(asyncio.create_task(batcher.act(observation(2))))
            await asyncio.sleep(0.05)
        with pytest.raises(ConnectionAbortedError):
            await batcher.act(observation(3))
        return await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in asyncio.run(run())] == [ConnectionAbortedError] * 3
