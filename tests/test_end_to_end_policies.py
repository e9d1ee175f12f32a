"""A learned policy on both benchmarks, native and behind `evalkit serve`: the same actions and records.

The checkpoints are tiny (parity fixtures in the layout of DiT4DiT's release); they solve nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from evalkit.paths import PROJECT
from evalkit.records import Run
from tests.helpers import command, environment
from tests.test_end_to_end import measurements

FIXTURES = PROJECT.parent / "shared" / "fixtures"

pytestmark = [pytest.mark.end_to_end,
              pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"the parity fixtures are not in {FIXTURES}")]

#: Suite -> (checkpoint, where its scenes come from, flags that choose one task); its queries in 220 or 720 steps.
RUNS = {
    "libero_spatial": ("dit4dit_libero", ("--assets", "auto", "--tasks", "0"), 28),
    "robocasa_gr1": ("dit4dit_gr1", ("--scenes", "builtin", "--tasks", "CanToDrawerClose"), 60),
}


def native(suite: str) -> list[str]:
    """Arguments that name the tiny checkpoint."""
    return ["dit4dit", "--suite", suite, "--checkpoint", str(FIXTURES / RUNS[suite][0] / "run"),
            "-o", f"base_model={FIXTURES / 'cosmos_base'}"]


def roll_out(suite: str, out: Path, *policy: str) -> Path:
    done = subprocess.run(command("run", *RUNS[suite][1], "--episodes", 1, "--workers", 1, "--record-actions", "--out",
                                  out, "--policy", *policy),
                          cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def roll_out_served(suite: str, out: Path) -> Path:
    server = subprocess.Popen(command("serve", *native(suite), "--port", 0), cwd=PROJECT, env=environment(),
                              stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().split()[-1]
        roll_out(suite, out, "remote", "--suite", suite, "-o", f"url={url}")
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, "SIGTERM ends a server with status 0"
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Both suites, native and served; two at a time."""
    folder = tmp_path_factory.mktemp("policies")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {}
        for suite in RUNS:
            jobs[suite, "native"] = pool.submit(roll_out, suite, folder / f"{suite}-native", *native(suite))
            jobs[suite, "served"] = pool.submit(roll_out_served, suite, folder / f"{suite}-served")
        return {key: job.result() for key, job in jobs.items()}


@pytest.mark.parametrize("suite", RUNS)
def test_native_and_served_policies_act_the_same(runs, suite):
    """Every executed action and the final state are equal, bit for bit."""
    found = [measurements(runs[suite, kind]) for kind in ("native", "served")]
    assert found[0] == found[1] and len(found[0]) == 1
    (record,) = Run(runs[suite, "native"]).records().values()
    assert record.outcome == "failure" and record.policy_calls == RUNS[suite][2]
    actions = [np.load(runs[suite, kind] / "actions" / f"{record.id}.npy") for kind in ("native", "served")]
    assert np.array_equal(*actions) and actions[0].std(axis=0).max() > 0.01


@pytest.mark.parametrize("suite", RUNS)
def test_a_run_says_what_was_loaded(runs, suite):
    """The checkpoint's hash is in run.json, natively and through the server's metadata."""
    info = [Run(runs[suite, kind]).info["policy"] for kind in ("native", "served")]
    hashes = {info[0]["checkpoint"]["sha256"], info[1]["server"]["checkpoint"]["sha256"]}
    assert len(hashes) == 1 and info[0]["parameters"] > 100_000
