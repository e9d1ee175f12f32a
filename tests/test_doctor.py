"""Doctor: which checks run, what becomes of one that fails, and the exit status. Other interpreters are faked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalkit import cli, cluster, environments
from evalkit.assets import ALTERED, BUILT_IN, REAL, STAND_IN, Assets
from evalkit.doctor import examination
from evalkit.doctor.examination import Question, examine
from evalkit.doctor.findings import OK, PROBLEM, WARNING, Finding, ok, problem
from evalkit.doctor.machine import GIB
from evalkit.egl import Device
from evalkit.environments import Environment
from evalkit.errors import InputError
from evalkit.registry import load_suite

LIBERO = load_suite("libero_goal")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache without environments."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def built(monkeypatch):
    """Every environment is there, and what they would say is faked: built(module's last word -> findings)."""
    said = {"gl": [ok("OpenGL", "draws")], "check": [ok("scene", "as known")], "inference": [ok("policy", "loaded")]}
    monkeypatch.setattr(Environment, "ready", True)
    monkeypatch.setattr(examination, "local_assets", lambda suite, python: Assets(REAL, Path("/a"), "d1"))
    monkeypatch.setattr(examination, "check_ray", lambda *arguments: [ok("Ray", "starts")])

    def elsewhere(python, name, module, *arguments, seconds=0.0):
        key = module.rpartition(".")[2] if module.endswith("inference") else arguments[0]
        return [Finding(f"{name} {item.name}", item.level, item.found, item.move) for item in said[key]]

    monkeypatch.setattr(examination, "_elsewhere", elsewhere)
    return said


def levels(findings) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


def test_a_missing_environment_is_a_finding():
    """With the command that builds it; nothing of it is tried, and the rest of the machine still is."""
    findings = examine(Question(["libero_goal"], quick=True))
    assert levels(findings) == {"evalkit": OK, "libero environment": WARNING}
    assert "evalkit env create libero" in findings[1].move


def test_checks_of_a_healthy_machine(built):
    """One row for each environment's OpenGL, assets and scene, whatever the number of its suites."""
    findings = levels(examine(Question(["libero_goal", "libero_10", "robocasa_gr1"])))
    assert list(findings)[:9] == [
        "evalkit", "libero environment", "robocasa_gr1 environment", "libero OpenGL", "robocasa_gr1 OpenGL",
        "libero assets", "libero scene", "robocasa_gr1 assets", "robocasa_gr1 scene"]
    assert {"Ray", "cores", "memory", "open files", "disk", "folders", "shared memory"} <= set(findings)
    assert not {name for name, level in findings.items() if level == PROBLEM}


def test_quick_leaves_out_what_takes_long(built):
    """Environments and OpenGL."""
    assert list(levels(examine(Question(["libero_goal"], quick=True)))) == [
        "evalkit", "libero environment", "libero OpenGL"]


def test_a_cluster_is_asked_instead_of_this_machine(built):
    """With an address the driver's own cores and memory say nothing."""
    assert not {"cores", "memory"} & set(levels(examine(Question(["libero_goal"], address="host:6379"))))


def test_fix_installs_opengl_and_looks_again(built, monkeypatch):
    """--fix acts only where something does not draw, and what is printed is how it is afterwards."""
    installed = []

    def install() -> bool:
        installed.append(True)
        built["gl"] = [ok("OpenGL", "draws")]
        return True

    monkeypatch.setattr(examination, "install_gl", install)
    examine(Question(["libero_goal"], quick=True), fix=True)
    assert not installed
    built["gl"] = [problem("OpenGL", "nothing draws", "install")]
    assert levels(examine(Question(["libero_goal"], quick=True)))["libero OpenGL"] == PROBLEM
    assert levels(examine(Question(["libero_goal"], quick=True), fix=True))["libero OpenGL"] == OK and installed


def test_wrong_assets_are_a_finding(built, monkeypatch):
    """A variable that names an incomplete folder: the suite's own message; no scene is tried on it."""
    def refuse(suite, python):
        raise InputError("EVALKIT_LIBERO_ASSETS=/x is not a complete LIBERO asset folder")

    monkeypatch.setattr(examination, "local_assets", refuse)
    findings = {finding.name: finding for finding in examine(Question(["libero_goal"]))}
    assert findings["libero assets"].level == PROBLEM and "/x is not" in findings["libero assets"].found
    assert "libero scene" not in findings


@pytest.mark.parametrize("kind, level, said", [
    (REAL, OK, ""), (ALTERED, WARNING, "altered visuals"), (STAND_IN, WARNING, "not comparable"),
    (BUILT_IN, WARNING, "built-in scenes: not comparable")])
def test_assets_are_named(kind, level, said):
    """Kind, digest and folder; whoever runs on substitutes is told."""
    finding = examination.judge_assets("libero", LIBERO, Assets(kind, Path("/assets"), "d1"))
    assert finding.level == level and said in finding.found
    assert f"{kind}, digest d1, in /assets" in finding.found and bool(finding.move) == (level != OK)


def test_a_check_that_raises_is_a_finding(built, monkeypatch):
    """The others are still reported."""
    monkeypatch.setattr(examination, "check_ray", lambda *arguments: 1 / 0)
    findings = {finding.name: finding for finding in examine(Question(["libero_goal"]))}
    assert findings["Ray"].level == PROBLEM and "ZeroDivisionError" in findings["Ray"].found
    assert "shared memory" in findings


@pytest.mark.parametrize("outcome, said", [
    (subprocess.CompletedProcess([], 1, "", "Traceback ...\nImportError: libGL.so.1"), "ImportError: libGL.so.1"),
    (subprocess.TimeoutExpired("x", 180), "did not end within 180 s"),
])
def test_an_interpreter_that_fails(monkeypatch, outcome, said):
    """A crash or a hang in a suite's interpreter is its finding, without a traceback of the doctor's."""
    def run(*arguments, **options):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    finding, = examination._elsewhere(Path("python"), "libero", "evalkit.doctor.preflight", "gl")
    assert finding.level == PROBLEM and said in finding.found and finding.name == "libero"


def test_findings_of_an_interpreter_are_its_last_line(monkeypatch):
    """What a simulator prints before is not read."""
    line = json.dumps([{"name": "floor", "level": OK, "found": "grey", "move": ""}])
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: subprocess.CompletedProcess(
        [], 0, f"[robosuite] a notice\n{line}\n", ""))
    assert examination._elsewhere(Path("python"), "libero", "evalkit.doctor.preflight", "check") == [
        Finding("libero floor", OK, "grey")]


def test_policy_of_a_missing_environment():
    """It is not built by the doctor."""
    finding, = examination.check_policy(Question(["libero_goal"], "dit4dit"), "libero_goal")
    assert finding.level == WARNING and finding.move == "evalkit env create native"


@pytest.mark.parametrize("policy, suite, interpreter", [
    ("random", "libero_goal", "libero"), ("dit4dit", "libero_goal", "native"), ("random", "toy", "driver"),
    ("tests.acting_policies:Elsewhere", "libero_goal", "driver")])
def test_a_policy_is_tried_where_it_would_act(monkeypatch, policy, suite, interpreter):
    """In its own environment; light ones in the suite's, where rollout workers have them; else in this Python."""
    asked = []
    monkeypatch.setattr(Environment, "ready", True)
    monkeypatch.setattr(examination, "_elsewhere", lambda python, *arguments, seconds: asked.append(python) or [])
    list(examination.check_policy(Question([suite], policy), suite))
    expected = Path(examination.sys.executable) if interpreter == "driver" else \
        environments.find_environment(interpreter).python
    assert asked == [expected]


def test_a_gpu_for_drawing_and_computing(monkeypatch):
    """One GPU for both is a warning; two, software, or a backend of the user's choice are not."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    gpu, other = (Device(index, index, renderer="NVIDIA H100") for index in range(2))
    finding, = examination.judge_sharing("dit4dit on libero_goal", [gpu])
    assert finding.level == WARNING and "EGL 0 = CUDA 0" in finding.found and "osmesa" in finding.move
    assert not list(examination.judge_sharing("", [gpu, other]))
    assert not list(examination.judge_sharing("", [Device(0, software=True, renderer="llvmpipe")]))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert not list(examination.judge_sharing("", [gpu]))


NODES = [{"CPU": 8, "GPU": 1, "memory": 20 * GIB}, {"CPU": 4, "memory": 64 * GIB}]


@pytest.mark.parametrize("workers, memory, level, said", [
    (12, 2.5, OK, "12 workers fit"), (None, 2.0, OK, "node 0: 8 CPUs, 1 GPUs, 20 GiB"),
    (12, 5.0, WARNING, "do not fit"), (13, 1.0, PROBLEM, "13 workers asked for")])
def test_nodes_of_a_cluster(workers, memory, level, said):
    """Workers against the CPUs of all nodes, and the memory of each: 8 of 5 GiB do not fit into 20."""
    finding = examination.judge_nodes(NODES, workers, memory)
    assert finding.level == level and said in finding.found
    assert finding.move == {OK: "", WARNING: "--workers 8", PROBLEM: "--workers 12 or fewer"}[level]


def test_versions_of_actors():
    """Ray and Python must be the driver's."""
    own = environments.python_version(), environments.ray_version()
    assert examination.judge_actor("libero", own).level == OK
    finding = examination.judge_actor("libero", (own[0], "2.9.0"))
    assert finding.level == PROBLEM and "Ray 2.9.0" in finding.found and "evalkit env remove libero" in finding.move


def test_a_cluster_that_is_not_there():
    """The address is named, as a run would."""
    finding, = examination._findings("Ray", lambda: examination.check_ray("127.0.0.1:9", None, 1.0, []))
    assert finding.level == PROBLEM and "cannot reach a Ray cluster at '127.0.0.1:9'" in finding.found


def test_ray_starts_and_leaves(monkeypatch):
    """Nodes are asked only of a cluster elsewhere; it is left in any case, also when an actor does not start."""
    left = []
    monkeypatch.setattr(cluster, "connect", lambda address, cpus: None)
    monkeypatch.setattr(cluster, "disconnect", lambda: left.append(True))
    assert [finding.name for finding in examination.check_ray(None, None, 1.0, [])] == ["Ray"]
    monkeypatch.setattr(cluster, "nodes", lambda: 1 / 0)
    finding, = examination._findings("Ray", lambda: examination.check_ray("host:1", None, 1.0, []))
    assert finding.level == PROBLEM and left == [True, True]


@pytest.mark.parametrize("level, status", [(OK, 0), (WARNING, 0), (PROBLEM, 1)])
def test_exit_status(monkeypatch, level, status):
    """1 where something is a problem; the table has what was found and the next move."""
    monkeypatch.setattr(examination, "examine", lambda question, fix: [Finding("Ray", level, "[was] found", "do this")])
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == status
    assert "[was] found" in done.stdout and "-> do this" in done.stdout and level in done.stdout


def test_flags_make_the_question(monkeypatch):
    """Groups are expanded; without --suite every suite with an environment is asked about."""
    asked = []
    monkeypatch.setattr(examination, "examine", lambda question, fix: asked.append((question, fix)) or [])
    CliRunner().invoke(cli.app, ["doctor", "-s", "libero", "-p", "remote", "-o", "url=ws://h:1", "--workers", "3"])
    CliRunner().invoke(cli.app, ["doctor", "--fix", "--quick"])
    (first, _), (second, fix) = asked
    assert first.suites == ["libero_spatial", "libero_object", "libero_goal", "libero_10"]
    assert (first.policy, first.options, first.workers) == ("remote", {"url": "ws://h:1"}, 3)
    assert "toy" not in second.suites and "robocasa_gr1" in second.suites and fix and second.quick


def test_a_policy_needs_its_suite():
    """Wrong input, not a finding."""
    assert isinstance(CliRunner().invoke(cli.app, ["doctor", "-p", "random"]).exception, InputError)
