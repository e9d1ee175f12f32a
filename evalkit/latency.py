"""How fast a policy answers: milliseconds of single queries, by stage, and throughput against batch size.

`evalkit latency`; runs in the policy's interpreter and writes one JSON file (`Measurement`):

    python -m evalkit.latency '{"policy": "random", "suite": "toy", "options": {}, "file": "out.json", ...}'

Single queries are measured as the DiT4DiT paper's efficiency table counts them: one observation at a time, warm, the
instruction already known (what a policy remembers of a text is warm too; a first query with a new text is measured
apart). Each observation has an episode, pictures, state and noise of its own. The clock stops when the device is done.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.parsing import parse_json, read_text
from evalkit.policy import Policy
from evalkit.registry import load_suite, make_policy
from evalkit.suite import Observation, Suite
from evalkit.testing import fake_observation
from evalkit.texts import plain_lines

#: Queries before anything is measured: kernels are chosen, caches filled.
WARM_UP = 5

#: Queries with a new instruction, and queries with clocks in every stage.
NEW_TEXTS, STAGED = 5, 20

#: Measured queries of each batch size: at least the first, at most the second where time allows.
FEWEST, MOST = 3, 20


@dataclass(frozen=True)
class Settings:
    """What is measured. name: the policy as its user called it. method: its name in the paper's table. calls: single
    queries. max_batch: largest batch of the throughput curve. seconds: time for all measurements together, about.
    file: where the JSON goes."""

    policy: str
    suite: str
    name: str
    method: str
    file: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 100
    max_batch: int = 32
    seconds: float = 300.0

    def check(self) -> None:
        """Raise InputError for a number out of range."""
        for name, low in (("calls", 3), ("max_batch", 1), ("seconds", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: {low} or more")


@dataclass(frozen=True)
class Batch:
    """Throughput at one batch size: queries measured, their median milliseconds, observations a second."""

    size: int
    calls: int
    ms: float
    per_second: float


@dataclass(frozen=True)
class Measurement:
    """The JSON file. All times are milliseconds.

    device, dtype, parameters, note: out of `described`, what the policy says of itself (`Policy.describe`). machine:
    processor or GPU by name. weights: ``real``, ``synthetic`` (the note says so) or ``none``.
    ms: each single query. first_query: from the loaded policy's first query. new_instruction: queries with a text that
    was not seen before. stages: medians by name, from `staged` further queries that wait for the device after each
    stage; ``other`` is the rest of those queries. limit: why the throughput curve ends where it does.
    """

    method: str
    policy: str
    suite: str
    date: str
    machine: str
    cores: int
    device: str
    dtype: str
    parameters: int | None
    weights: str
    note: str
    described: Mapping[str, Any]
    versions: Mapping[str, str]
    chunk_length: int
    executed_steps: int
    load: float
    first_query: float
    new_instruction: list[float]
    ms: list[float]
    stages: Mapping[str, float]
    staged: int
    throughput: list[Batch]
    limit: str

    @property
    def hz(self) -> float:
        """Queries a second: one over the median."""
        return 1000 / statistics.median(self.ms)

    @property
    def size(self) -> str:
        """The number of parameters in words; "" where it is not known."""
        if not self.parameters:
            return ""
        return f"{self.parameters / 1e9:.2f} B parameters" if self.parameters >= 1e8 else \
            f"{self.parameters:,} parameters"

    @property
    def hz_range(self) -> tuple[float, float]:
        """Queries a second at the 95th and the 5th percentile of a query's time."""
        slow, fast = np.percentile(self.ms, [95, 5])
        return float(1000 / slow), float(1000 / fast)

    def message(self) -> dict[str, Any]:
        """The file's content, with the figures that a reader looks for first."""
        summary = {"hz": round(self.hz, 4), "hz_range": [round(value, 4) for value in self.hz_range],
                   "calls": len(self.ms)}
        return {"kind": "latency", **summary, **asdict(self)}


def read(path: Path) -> Measurement:
    """The Measurement in a JSON file. Raises InputError."""
    try:
        found = parse_json(read_text(path))
        if not isinstance(found, dict) or found.pop("kind", None) != "latency":
            raise InputError(f"{path} is not a file of `evalkit latency`")
        for name in ("hz", "hz_range", "calls"):
            del found[name]
        measured = Measurement(**{**found, "throughput": [Batch(**batch) for batch in found["throughput"]]})
        _check_types(measured)
        return measured
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of `evalkit latency`: {error}") from error


def _check_types(found: Measurement) -> None:
    """Raise TypeError for a value that `message` does not have, of those that tables show."""
    texts = (found.method, found.policy, found.suite, found.machine, found.weights, found.note, found.dtype)
    if not (all(isinstance(text, str) and text == plain_lines(text) for text in texts)
            and (found.parameters is None or (type(found.parameters) is int and 0 <= found.parameters < 1e15))
            and isinstance(found.ms, list) and found.ms
            and all(type(ms) in (int, float) and 0 < ms < 1e12 for ms in found.ms)):
        raise TypeError("it holds a value of another type")


class StageClock:
    """Seconds by stage of a policy's `act`. A stage inside another counts for itself alone."""

    def __init__(self, policy: Policy, clock: Callable[[], float]):
        self._policy, self._clock = policy, clock
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Takes the place of `Policy.stage`."""
        self.seconds.setdefault(name, 0.0)
        self._policy.synchronize()
        start = self._clock()
        self._inner.append(0.0)
        yield
        self._policy.synchronize()
        seconds = self._clock() - start
        self.seconds[name] += seconds - self._inner.pop()
        self._inner[-1] += seconds


class Bench:
    """Measures one loaded policy on one suite; `clock` tells seconds."""

    def __init__(self, policy: Policy, suite: Suite, clock: Callable[[], float] = time.perf_counter):
        self.policy, self.suite, self.clock = policy, suite, clock
        self._episodes = 0

    def observations(self, count: int) -> list[Observation]:
        """Fresh observations, each of an episode of its own that the policy has been told of; all with one text."""
        first, self._episodes = self._episodes, self._episodes + count
        episodes = [Episode(self.suite.name, 0, index, 7, self.suite.max_steps)
                    for index in range(first, self._episodes)]
        for episode in episodes:
            self.policy.reset(episode)
        return [fake_observation(self.suite, episode) for episode in episodes]

    def query(self, observations: Sequence[Observation]) -> float:
        """Milliseconds until the chunks of one batch are there."""
        self.policy.synchronize()
        start = self.clock()
        chunks = self.policy.act(observations)
        self.policy.synchronize()
        elapsed = 1000 * (self.clock() - start)
        for chunk in chunks:
            self.suite.action.check(np.asarray(chunk))
        return elapsed

    def singles(self, count: int) -> list[float]:
        """Milliseconds of `count` single queries."""
        return [self.query(self.observations(1)) for _ in range(count)]

    def new_texts(self, count: int) -> list[float]:
        """Milliseconds of single queries with an instruction that was not seen before."""
        fresh = self.observations(count)
        return [self.query([replace(observation, instruction=f"{observation.instruction} ({number})")])
                for number, observation in enumerate(fresh, start=1)]

    def stages(self, count: int) -> dict[str, float]:
        """Median milliseconds of each stage over `count` single queries; ``other``: of the rest. Empty where the policy
        names no stages."""
        before, samples = self.policy.stage, []
        for _ in range(count):
            clock = StageClock(self.policy, self.clock)
            self.policy.stage = clock.stage
            whole = self.query(self.observations(1))
            samples.append({**{name: 1000 * seconds for name, seconds in clock.seconds.items()},
                            "other": whole - 1000 * sum(clock.seconds.values())})
        self.policy.stage = before
        names = list(dict.fromkeys(name for sample in samples for name in sample if name != "other"))
        return {name: statistics.median(sample.get(name, 0.0) for sample in samples)
                for name in (*names, "other")} if names else {}

    def throughput(self, max_batch: int, seconds: float) -> tuple[list[Batch], str]:
        """Observations a second for batches of 1, 2, 4 ... `max_batch`, and why the curve ends there."""
        found: list[Batch] = []
        end = self.clock() + seconds
        size = 1
        while size <= max_batch:
            expected = 2 * found[-1].ms / 1000 if found else 0.0
            if self.clock() + expected * (FEWEST + 1) > end:
                return found, f"the time of {seconds:.3g} s does not allow a batch of {size}"
            try:
                found.append(self._batch(size, min(end, self.clock() + (end - self.clock()) / 2)))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                return found, f"memory does not allow a batch of {size}"
            size *= 2
        return found, f"largest batch asked for: {max_batch}"

    def _batch(self, size: int, end: float) -> Batch:
        self.query(self.observations(size))
        samples: list[float] = []
        while len(samples) < FEWEST or (len(samples) < MOST and self.clock() < end):
            samples.append(self.query(self.observations(size)))
        ms = statistics.median(samples)
        return Batch(size, len(samples), ms, 1000 * size / ms)


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that memory is short: Python's, or torch's of a GPU."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or \
        "out of memory" in str(error).lower()


def measure(settings: Settings) -> Measurement:
    """Load the policy and measure it. Raises InputError."""
    settings.check()
    suite = load_suite(settings.suite)
    policy = make_policy(settings.policy, suite, dict(settings.options))
    if policy.spec.privileged:
        raise InputError(f"policy {settings.policy!r} reads the simulator itself: its time cannot be told from the "
                         "simulator's")
    start = time.perf_counter()
    policy.load()
    loaded = 1000 * (time.perf_counter() - start)
    end = time.perf_counter() + settings.seconds
    bench = Bench(policy, suite)
    first = bench.singles(1)[0]
    bench.singles(WARM_UP if first < 10 * settings.seconds else 1)  # a hundredth of the time
    single = _within(bench, settings.calls, end)
    new = bench.new_texts(NEW_TEXTS)
    staged = min(STAGED, max(3, len(single) // 2))
    stages = bench.stages(staged)
    curve, limit = bench.throughput(settings.max_batch, max(1.0, end - time.perf_counter()))
    described = dict(policy.describe())
    note = str(described.get("note") or "")
    device = str(described.get("device") or "cpu")
    return Measurement(
        method=settings.method, policy=settings.name, suite=settings.suite,
        date=datetime.date.today().isoformat(), machine=machine(device), cores=os.cpu_count() or 1, device=device,
        dtype=str(described.get("dtype") or ""), parameters=described.get("parameters"),
        weights=kind_of_weights(described), note=note, described=described, versions=versions(),
        chunk_length=policy.spec.chunk_length, executed_steps=policy.spec.executed_steps, load=loaded,
        first_query=first, new_instruction=new, ms=single, stages=stages,
        staged=staged if stages else 0, throughput=curve, limit=limit)


def _within(bench: Bench, calls: int, end: float) -> list[float]:
    """`calls` single queries, fewer where half of the time until `end` is over before; three at least."""
    half = time.perf_counter() + (end - time.perf_counter()) / 2
    samples: list[float] = []
    while len(samples) < calls and (len(samples) < 3 or time.perf_counter() < half):
        samples += bench.singles(1)
    return samples


def kind_of_weights(described: Mapping[str, Any]) -> str:
    """``synthetic`` where the policy's note says so, ``none`` for a policy without parameters, else ``real``."""
    if "synthetic" in str(described.get("note") or "").lower():
        return "synthetic"
    return "real" if described.get("parameters") else "none"


def machine(device: str) -> str:
    """The processor that did the work, by name: the GPU as torch calls it, this machine's CPU with its cores, or
    `device` itself where it is a name already."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        return torch.cuda.get_device_name(device)
    if device.lower() != "cpu":
        return device
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _cpu_lines() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def versions() -> dict[str, str]:
    """Python, numpy, and of what the policy has loaded: torch and its libraries."""
    names = [name for name in ("torch", "transformers", "diffusers") if name in sys.modules]
    found = {name: str(getattr(sys.modules[name], "__version__", "")) for name in ("numpy", *names)}
    return {"python": platform.python_version(), **found}


def main(text: str) -> int:
    """Measure what the JSON `text` says and write its file; the exit status."""
    try:
        settings = Settings(**json.loads(text))
        found = measure(settings)
    except InputError as error:
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        return 2
    Path(settings.file).write_text(json.dumps(found.message(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
