"""Broker: batches of whatever waits, every question answered once, whatever happens to those who answer."""

from __future__ import annotations

import asyncio

import pytest

from evalkit.broker import Broker, PolicyError


def run(scenario) -> None:
    asyncio.run(asyncio.wait_for(scenario(Broker()), 20))


async def asked(broker: Broker, *questions: str) -> list[asyncio.Task]:
    """Tasks that wait for answers; every question has reached the broker."""
    tasks = [asyncio.ensure_future(broker.ask(question)) for question in questions]
    await asyncio.sleep(0)
    return tasks


def test_a_batch_is_what_waits_in_order():
    """`take` returns at once when it can be filled, and leaves the rest for the next."""
    async def scenario(broker):
        tasks = await asked(broker, "a", "b", "c")
        first = await broker.take("t", 2, 3600)
        assert first == [(1, "a"), (2, "b")]
        second = await broker.take("t", 2, 0)
        assert second == [(3, "c")]
        await broker.give("t", {1: "trace", 2: 22, 3: 33})
        assert await tasks[1] == 22 and await tasks[2] == 33
        with pytest.raises(PolicyError, match="trace"):
            await tasks[0]
    run(scenario)


def test_a_batch_waits_for_more_only_so_long():
    """One question is answered alone after the patience; one that comes meanwhile joins the batch."""
    async def scenario(broker):
        taking = asyncio.ensure_future(broker.take("t", 3, 0.05))
        await asked(broker, "a")
        await asyncio.sleep(0.01)
        await asked(broker, "b")
        assert await taking == [(1, "a"), (2, "b")]
    run(scenario)


def test_nobody_is_waited_for_who_cannot_come():
    """With all workers' questions waiting or being answered, a batch is ready at once, long before its patience."""
    async def scenario(broker):
        await broker.expect(3)
        await asked(broker, "a")
        taking = asyncio.ensure_future(broker.take("t", 9, 3600))
        await asked(broker, "b", "c")
        assert await taking == [(1, "a"), (2, "b"), (3, "c")]
        await broker.give("t", {1: 1})
        await asked(broker, "d")
        assert await broker.take("u", 9, 3600) == [(4, "d")]  # b and c are with t
        await broker.expect(2)
    run(scenario)


def test_takers_share():
    """Two takers that wait get different questions; neither is left without one for ever."""
    async def scenario(broker):
        takers = [asyncio.ensure_future(broker.take(name, 1, 0)) for name in ("t", "u")]
        await asyncio.sleep(0)
        await asked(broker, "a")
        await asyncio.sleep(0.01)
        await asked(broker, "b")
        assert sorted((await takers[0]) + (await takers[1])) == [(1, "a"), (2, "b")]
    run(scenario)


def test_what_a_lost_taker_had_comes_first_to_the_next():
    """Nothing is lost with a taker: its batch goes to another, before what came later; its late answers are ignored."""
    async def scenario(broker):
        tasks = await asked(broker, "a", "b", "c")
        await broker.take("dead", 2, 0)
        assert await broker.forget("dead") == 2
        assert await broker.take("dead", 2, 0) == []
        assert await broker.take("next", 5, 0) == [(1, "a"), (2, "b"), (3, "c")]
        await broker.give("dead", {1: "late"})
        await broker.give("next", {1: 11, 2: 22, 3: 33})
        assert [await task for task in tasks] == [11, 22, 33]
    run(scenario)


def test_a_forgotten_taker_that_waits_is_sent_away():
    """A process that was given up may still wait in `take`; it must not swallow questions."""
    async def scenario(broker):
        waiting = asyncio.ensure_future(broker.take("dead", 1, 0))
        await asyncio.sleep(0.01)
        await broker.forget("dead")
        assert await waiting == []
        await asked(broker, "a")
        assert await broker.take("next", 1, 0) == [(1, "a")]
    run(scenario)


def test_overdue_takers_are_named():
    """Only a taker that still owes answers is overdue."""
    async def scenario(broker):
        await asked(broker, "a", "b")
        await broker.take("slow", 1, 0)
        await broker.take("quick", 1, 0)
        await broker.give("quick", {2: 2})
        await asyncio.sleep(0.02)
        assert await broker.overdue(0.01) == ["slow"] and await broker.overdue(3600) == []
    run(scenario)
