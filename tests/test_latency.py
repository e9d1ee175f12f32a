"""`evalkit latency`: what is timed, what is not, how it is labelled, and its way into the paper's table."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from evalkit import latency_report
from evalkit.errors import InputError
from evalkit.latency import Batch, Bench, Measurement, Settings, kind_of_weights, machine, measure, out_of_memory, read
from evalkit.paper import efficiency_table, find_latencies
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.specs import PolicySpec
from evalkit.suite import Suite
from tests.helpers import evalkit

TOY = load_suite("toy")


class Timed(Policy):
    """A device with a clock of its own: work is queued in `act` and takes its time when somebody synchronises.

    A query of B observations takes 10 + 2 B ms: 4 in stage `vision`, B of it in `layers` inside, B in `head`, the rest
    outside; a text that was not seen before takes 50 more. memory: largest batch.
    """

    def __init__(self, suite: Suite, memory: int = 64, note: str = ""):
        self.spec = PolicySpec("timed", chunk_length=8, executed_steps=4)
        self.now, self.queued, self.memory, self.note = 0.0, 0.0, memory, note
        self.batches: list[list] = []
        self.resets: list = []
        self.texts = set()

    def clock(self) -> float:
        return self.now

    def synchronize(self):
        self.now, self.queued = self.now + self.queued, 0.0

    def describe(self):
        return {"parameters": 1_500_000_000, "device": "cpu", "dtype": "bfloat16", "note": self.note}

    def reset(self, episode):
        self.now += 7  # must not be counted
        self.resets.append(episode.id)

    def act(self, observations):
        count = len(observations)
        if count > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        self.batches.append(list(observations))
        new = {observation.instruction for observation in observations} - self.texts
        self.texts |= new
        self.queued += 0.05 * len(new)
        with self.stage("vision"):
            self.queued += 0.004
            with self.stage("layers"):
                self.queued += 0.001 * count
        with self.stage("head"):
            self.queued += 0.001 * count
        self.queued += 0.006
        return [np.zeros((8, 2))] * count


@pytest.fixture
def bench():
    policy = Timed(TOY)
    return Bench(policy, TOY, clock=policy.clock)


def test_single_queries(bench):
    """12 ms each until the device is done, after the text is known; resets are not counted."""
    assert bench.singles(1) == [pytest.approx(62)]
    assert bench.singles(4) == [pytest.approx(12)] * 4
    seen = [batch[0] for batch in bench.policy.batches]
    assert len({observation.episode.id for observation in seen}) == 5 == len(bench.policy.resets)
    assert len({observation.instruction for observation in seen}) == 1
    assert len({observation.views["top"].tobytes() for observation in seen}) == 5


def test_new_instructions(bench):
    """Each has a text of its own: 62 ms every time."""
    bench.singles(1)
    assert bench.new_texts(3) == [pytest.approx(62)] * 3


def test_throughput(bench):
    """12, 14, 18, 26 ms for 1, 2, 4, 8: 83.3, 142.9, 222.2, 307.7 observations a second."""
    bench.singles(1)
    found, why = bench.throughput(8, 1e6)
    assert [batch.size for batch in found] == [1, 2, 4, 8] and why == "largest batch asked for: 8"
    assert [round(batch.ms, 6) for batch in found] == [12, 14, 18, 26]
    assert [round(batch.per_second, 1) for batch in found] == [83.3, 142.9, 222.2, 307.7]
    assert all(batch.calls == 20 for batch in found)


def test_throughput_ends_with_memory():
    """The first batch that does not fit ends the curve, and is named; other errors are not swallowed."""
    policy = Timed(TOY, memory=5)
    found, why = Bench(policy, TOY, clock=policy.clock).throughput(32, 1e6)
    assert [batch.size for batch in found] == [1, 2, 4] and why == "memory does not allow a batch of 8"

    class Broken(Timed):
        def act(self, observations):
            raise RuntimeError("another fault")
    with pytest.raises(RuntimeError, match="another fault"):
        Bench(Broken(TOY), TOY).throughput(4, 1e6)


def test_throughput_ends_with_time():
    """A small budget measures the small batches, each at least three times, and says so."""
    policy = Timed(TOY)
    bench = Bench(policy, TOY, clock=policy.clock)
    bench.singles(1)
    policy.reset = lambda episode: None
    found, why = bench.throughput(1024, 0.5)
    assert found[-1].size < 1024 and all(batch.calls >= 3 for batch in found)
    assert why == f"the time of 0.5 s does not allow a batch of {2 * found[-1].size}"


def test_what_short_memory_looks_like():
    """Python's error, torch's class by name, and its message."""
    class OutOfMemoryError(RuntimeError):
        pass
    assert out_of_memory(MemoryError()) and out_of_memory(OutOfMemoryError("x"))
    assert out_of_memory(RuntimeError("CUDA out of memory.")) and not out_of_memory(RuntimeError("shapes differ"))


def test_stages(bench):
    """4 ms in `vision`, 1 in `layers` (which lies inside and counts for itself alone), 1 in `head`, 6 in none; in the
    order in which they begin. The policy's own `stage` is put back."""
    before = bench.policy.stage
    found = bench.stages(3)
    assert {name: round(ms, 6) for name, ms in found.items()} == {"vision": 4, "layers": 1, "head": 1, "other": 6}
    assert list(found) == ["vision", "layers", "head", "other"] and bench.policy.stage is before


def test_a_policy_without_stages():
    """No names, no table."""
    class Plain(Timed):
        def act(self, observations):
            return [np.zeros((8, 2))] * len(observations)
    assert Bench(Plain(TOY), TOY).stages(3) == {}


def test_bad_chunks_are_not_timed():
    """A policy that returns rubbish has no speed."""
    class Rubbish(Timed):
        def act(self, observations):
            return [np.full((8, 2), np.nan)]
    with pytest.raises(ValueError, match="NaN"):
        Bench(Rubbish(TOY), TOY).singles(1)


@pytest.mark.parametrize("described, kind", [
    ({"parameters": 5, "note": "Synthetic weights of the true dimensions"}, "synthetic"), ({"parameters": 5}, "real"),
    ({}, "none"), ({"note": "synthetic"}, "synthetic")])
def test_kinds_of_weights(described, kind):
    """What the note calls synthetic is labelled so; a policy without parameters has no weights."""
    assert kind_of_weights(described) == kind


def test_machine():
    """A CPU by its name and cores; a device that is a name already stays."""
    assert machine("cpu") == machine("CPU") and machine("cpu").endswith(" cores")
    assert machine("NVIDIA H200") == "NVIDIA H200"


MEASURED = Measurement(
    method="DiT4DiT", policy="dit4dit", suite="robocasa_gr1", date="2026-11-21", machine="NVIDIA H200", cores=16,
    device="cuda:0", dtype="bfloat16", parameters=10_641_510_419, weights="synthetic",
    note="synthetic weights of the true dimensions", described={"batch": 4, "checkpoint": None},
    versions={"python": "3.11.7", "torch": "2.13.0"}, chunk_length=16, executed_steps=12, load=2000.0,
    first_query=900.0, new_instruction=[80.0, 90.0, 85.0], ms=[40.0] * 9 + [50.0],
    stages={"vision": 20.0, "head": 15.0, "other": 5.0}, staged=20,
    throughput=[Batch(1, 20, 40.0, 25.0), Batch(2, 20, 50.0, 40.0)], limit="largest batch asked for: 2")


def test_frequency():
    """The median of the queries is 40 ms: 25 Hz; their 95th percentile lies half-way between 40 and 50 (position 8.55
    of 0 to 9): 45.5 ms, 21.98 Hz."""
    assert MEASURED.hz == pytest.approx(25) and MEASURED.hz_range == (pytest.approx(1000 / 45.5), pytest.approx(25))


def test_the_file_reads_back(tmp_path):
    """Written and read, a measurement is the same; its summary stands first."""
    printed = latency_report.write(MEASURED, tmp_path)
    stem = tmp_path / "latency-DiT4DiT-robocasa_gr1-2026-11-21-NVIDIA_H200"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{stem.name}{suffix}" for suffix in
                                                                (".json", ".md", ".svg")]
    assert read(stem.with_suffix(".json")) == MEASURED and str(stem) in printed
    assert list(json.loads(stem.with_suffix(".json").read_text()))[:4] == ["kind", "hz", "hz_range", "calls"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "latency"}', '{"kind": "bench", "hz": 1}'])
def test_other_files_are_refused(tmp_path, text):
    """A file of something else, or half a file, is named."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json is not a file of `evalkit latency`"):
        read(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"cannot read .*none"):
        read(tmp_path / "none")


def test_markdown():
    """Frequency with spread and n, machine, the label of synthetic weights, stages, throughput."""
    text = latency_report.markdown(MEASURED, "p.svg")
    assert "# DiT4DiT on robocasa_gr1, NVIDIA H200, bfloat16, 10.64 B parameters, SYNTHETIC WEIGHTS, 2026-11-21" in text
    assert "**25 Hz** (22 to 25: 5th to 95th percentile), 40 ms (median of 10 queries; 40 to 45.5)" in text
    assert "16 actions, 12 are executed: 300 executed actions a second" in text
    assert "| vision | 20 |" in text and "| 2 | 50 | 40 | 20 |" in text
    assert "a query with a new instruction 85 ms (median of 3)" in text and "The policy says: batch 4." in text


def test_plot():
    """Well-formed SVG: a bar a stage whose widths are its shares, a point a batch size."""
    root = ElementTree.fromstring(latency_report.plot(replace(MEASURED, method="A & <b>")))
    names = {"s": "http://www.w3.org/2000/svg"}
    bars = [float(bar.get("width")) for bar in root.findall("s:rect", names) if bar.find("s:title", names) is not None]
    assert [round(width / sum(bars), 3) for width in bars] == [0.5, 0.375, 0.125]
    assert len(root.findall("s:circle", names)) == 2
    texts = [item.text for item in root.findall("s:text", names)]
    assert any(text.startswith("A & <b> on robocasa_gr1") and "SYNTHETIC" in text for text in texts)


# --- the paper's table


def test_the_measured_column(tmp_path):
    """A measurement stands in its method's rows, whatever the case of its name, with n, machine, precision, the size of
    what was measured (a tiny model must not pass for the published one) and label."""
    latency_report.write(replace(MEASURED, method="dit4dit"), tmp_path)
    latency_report.write(replace(MEASURED, method="mine", weights="real", parameters=815_727), tmp_path)
    table = efficiency_table(find_latencies(sorted(tmp_path.glob("*.json"))))
    rows = {row[0].text: row[3].text for row in table.rows}
    assert rows["DiT4DiT"] == "25.0 (n=10, NVIDIA H200, bfloat16, 10.64 B parameters, synthetic weights)"
    assert rows["mine"] == "25.0 (n=10, NVIDIA H200, bfloat16, 815,727 parameters)"
    assert rows["GR00T-N1.5"] == "-" and "dit4dit" not in rows


def test_two_measurements_of_one_method(tmp_path):
    """There is one cell for each method: two files for it are refused by name."""
    for suite in ("libero_goal", "robocasa_gr1"):
        latency_report.write(replace(MEASURED, suite=suite), tmp_path)
    with pytest.raises(InputError, match=r"both measure DiT4DiT"):
        find_latencies(sorted(tmp_path.glob("*.json")))


# --- the command


class Sleeper(Policy):
    """Sleeps: 20 ms in `a`, of which 10 in `b` inside it; 5 outside."""

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("sleeper", chunk_length=1)

    def act(self, observations):
        with self.stage("a"):
            time.sleep(0.010)
            with self.stage("b"):
                time.sleep(0.010)
        time.sleep(0.005)
        return [np.zeros((1, 2))] * len(observations)

def test_settings():
    """Numbers out of range are named."""
    for wrong, words in (({"calls": 1}, "calls is 1; allowed: 3 or more"), ({"max_batch": 0}, "max_batch is 0")):
        with pytest.raises(InputError, match=words):
            Settings("random", "toy", "random", "Random", "x.json", **wrong).check()


def test_measure(tmp_path):
    """Everything together on a policy of known speed: 25 ms a query, 40 Hz, its stages, CPU by name."""
    found = measure(Settings("tests.test_latency:Sleeper", "toy", "sleeper", "Sleeper", "", calls=5, max_batch=2,
                             seconds=20))
    assert min(found.ms) >= 25 and 15 < found.hz <= 40 and len(found.ms) == 5
    assert list(found.stages) == ["a", "b", "other"] and found.staged == 3
    assert [batch.size for batch in found.throughput] == [1, 2] and found.weights == "none"
    assert "cores" in found.machine and found.versions["numpy"] == np.__version__


def test_the_command(tmp_path):
    """`evalkit latency` prints the figures and writes three files; `evalkit tables --latency` shows them."""
    done = evalkit("latency", "tests.test_latency:Sleeper", "--suite", "toy", "--calls", 3, "--max-batch", 1,
                   "--seconds", 5, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0 and "# Sleeper on toy" in done.stdout, done.stderr
    file, = (tmp_path / "out").glob("*.json")
    assert str(file.with_suffix("")) in done.stdout and len(list((tmp_path / "out").iterdir())) == 3
    shown = evalkit("tables", "--only", "efficiency", "--latency", file, "--format", "csv", cwd=tmp_path)
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1].startswith("Sleeper,"), shown.stderr


def test_privileged_policies_have_no_speed_of_their_own(tmp_path):
    """The scripted policy needs the simulator: status 2."""
    done = evalkit("latency", "scripted", "--suite", "libero_goal", "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and "reads the simulator itself" in done.stderr and not list(tmp_path.iterdir())
