"""The doctor on this machine's own LIBERO, and a simulator in the kind of process that Ray makes without a GPU."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from evalkit import cluster
from evalkit.assets import local_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.episode import Episode
from evalkit.paths import PROJECT
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.workers import Job, Worker
from tests.helpers import command, environment, evalkit

pytestmark = pytest.mark.end_to_end


def test_doctor_with_a_server(tmp_path):
    """Every check of LIBERO passes here, a served policy is asked once with its shapes, and the status says so."""
    server = subprocess.Popen(command("serve", "random", "-s", "libero_object", "--port", 0), cwd=PROJECT,
                              env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = next(word.strip(" ,.") for line in server.stdout for word in line.split() if word.startswith("ws://"))
        done = evalkit("doctor", "-s", "libero_object", "-p", "remote", "-o", f"url={url}", "--workers", 1,
                       "--out", tmp_path, cwd=PROJECT, COLUMNS="200")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if line.count("│") == 4}
    for name in ("libero OpenGL", "libero EGL devices", "libero versions", "libero scene", "libero floor",
                 "libero settling", "libero actor", "Ray", "disk", "remote on libero_object policy",
                 "remote on libero_object dry inference"):
        assert name in rows, done.stdout
    assert "physics (" in rows["libero scene"] and "chunk 8x7 float32" in done.stdout
    assert "state eef_pos 3, eef_axis_angle 3, gripper_qpos 2" in done.stdout and "Traceback" not in done.stderr


def test_simulator_in_an_actor_without_gpu(monkeypatch):
    """Ray blanks CUDA_VISIBLE_DEVICES for an actor without GPUs; LIBERO starts, draws and is measured all the same."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # Ray's default, which `connect` turns off
    suite = load_suite("libero_object")
    python = ensure_environment(find_environment(suite.interpreter))
    options = EnvOptions(tuple(suite.views), "reference", assets=local_assets(suite, python).folder)
    cluster.connect(None, 1)
    try:
        worker = cluster.actor(Blanked, Job("tests.test_end_to_end_doctor:looks", {}, options), python=python, gpus=0)
        assert cluster.get(worker.variable.remote()) == ""
        assert cluster.get(worker.start.remote([suite.name]))[suite.name]["renderer"]
        result = cluster.get(worker.run.remote(Episode(suite.name, 0, 0, 7, 2)))
    finally:
        cluster.disconnect()
    assert result.traceback is None and result.record.steps == 2, result.traceback


class Blanked(Worker):
    """A rollout worker that says what it was given."""

    def variable(self) -> str | None:
        """CUDA_VISIBLE_DEVICES, before anything is selected."""
        return os.environ.get("CUDA_VISIBLE_DEVICES")


def looks(observation):
    """A policy that needs pictures: it fails on a black one."""
    for name, image in observation.views.items():
        assert image.std() > 1, f"{name} is blank"
    return [0.0] * 6 + [-1.0]
