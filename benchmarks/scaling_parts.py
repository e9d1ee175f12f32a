"""Costs of the engine's parts, each measured alone: Ray's calls, the driver's work for a record, the broker."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import cluster
from evalkit.broker import Broker
from evalkit.episode import Episode
from evalkit.hosts import pack_observation
from evalkit.paths import PROJECT
from evalkit.records import Record, Run
from evalkit.registry import load_suite
from evalkit.testing import fake_observation


class Echo:
    """An actor that answers at once, or when it is told to."""

    def __init__(self):
        self._event = asyncio.Event()

    async def answer(self) -> None:
        """At once."""

    async def keep(self) -> None:
        """Never, as long as it matters."""
        await self._event.wait()


class TimedBroker(Broker):
    """A broker that tells how much of a core it has used."""

    async def cpu_seconds(self) -> float:
        """Of all threads of its process, Ray's included."""
        return time.process_time()


class Asker:
    """A rollout worker as far as the broker can see: asks, waits for the answer, asks again."""

    def ask(self, broker: Any, question: bytes, count: int) -> None:
        """`count` questions, one after another."""
        for _ in range(count):
            cluster.get(broker.ask.remote(question))


def call_seconds(waiting: int, count: int = 300) -> float:
    """Seconds of the driver for one call of an actor, from sending to the result in hand, while `waiting` other calls
    are on their way, as with so many busy workers."""
    echo = cluster.actor(Echo, cpus=0, concurrency=100_000)
    kept = [echo.keep.remote() for _ in range(waiting)]
    cluster.get(echo.answer.remote())
    start = time.perf_counter()
    for _ in range(count):
        reference = echo.answer.remote()
        while reference not in cluster.wait([reference, *kept], timeout=10):
            pass
        cluster.get(reference)
    seconds = (time.perf_counter() - start) / count
    cluster.kill(echo)
    return seconds


def record_seconds(count: int = 200) -> float:
    """Seconds to write one record and to have it on the disk (fsync) that holds the results."""
    episode = Episode("toy", 0, 0, 7, 40)
    record = Record(episode.id, episode.suite, 0, 0, 7, "success", instruction="x" * 80, scene_sha="x" * 16)
    with tempfile.TemporaryDirectory(dir=PROJECT / "results") as folder, closing(Run(Path(folder))) as run:
        run.open({"config": {}, "fingerprints": {}, "planned": []})
        start = time.perf_counter()
        for _ in range(count):
            run.append(record)
        return (time.perf_counter() - start) / count


def question_bytes(suite: str) -> bytes:
    """An observation with all views of `suite`, as it travels to the broker."""
    return pack_observation(fake_observation(load_suite(suite), Episode(suite, 0, 0, 7, 100)))


def broker_costs(question: bytes, askers: int, seconds: float = 6.0) -> dict[str, float]:
    """Of one broker, while `askers` processes ask and one taker answers whole batches at once: questions a second, and
    core-seconds that its process uses for a question."""
    broker = cluster.actor(TimedBroker, cpus=0, concurrency=100_000)
    processes = [cluster.actor(Asker, cpus=0) for _ in range(askers)]
    answer = np.zeros((16, 7), np.float32).tobytes()
    running = [process.ask.remote(broker, question, 1_000_000) for process in processes]
    cluster.get(broker.expect.remote(askers))
    answered, start, used = 0, 0.0, 0.0
    while not start or time.perf_counter() - start < seconds:
        questions = cluster.get(broker.take.remote("taker", askers, 0.005))
        cluster.get(broker.give.remote("taker", {number: answer for number, _ in questions}))
        answered += len(questions)
        if not start and answered >= 5 * askers:  # everybody is there
            answered, start, used = 0, time.perf_counter(), cluster.get(broker.cpu_seconds.remote())
    found = {"rate": answered / (time.perf_counter() - start),
             "core_seconds": (cluster.get(broker.cpu_seconds.remote()) - used) / answered}
    for actor in (*processes, broker):
        cluster.kill(actor)
    del running
    return found
