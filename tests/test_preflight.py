"""What preflight makes of the facts that it finds in a suite's interpreter, good and bad. No simulator."""

from __future__ import annotations

import platform
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evalkit.assets import ALTERED, BUILT_IN, REAL, STAND_IN, Assets
from evalkit.doctor import preflight
from evalkit.doctor.findings import OK, PROBLEM, WARNING
from evalkit.doctor.preflight import Scene, frame_hashes, judge_backends, judge_devices, judge_scene, judge_versions
from evalkit.egl import Device
from evalkit.gl import GLBackend
from evalkit.registry import load_suite
from suites.libero.preflight import FLOOR_GREY, judge_floor, judge_settling

LLVMPIPE = "llvmpipe (LLVM 15.0.6, 256 bits)"
EGL, OSMESA = GLBackend("egl", LLVMPIPE, "4.5"), GLBackend("osmesa", LLVMPIPE, "4.5")
NVIDIA = GLBackend("egl", "NVIDIA H100 80GB HBM3/PCIe/SSE2", "4.6")


@pytest.mark.parametrize("egl, osmesa, asked, driver, level, said", [
    (EGL, OSMESA, "", False, OK, "workers draw with egl"),
    (EGL, "no library", "", False, OK, "osmesa: does not draw: no library"),
    (NVIDIA, OSMESA, "", True, OK, "NVIDIA H100"),
    (EGL, OSMESA, "", True, WARNING, "NVIDIA_DRIVER_CAPABILITIES"),
    ("no display", OSMESA, "", False, WARNING, "egl: does not draw: no display"),
    ("no display", OSMESA, "osmesa", False, OK, "workers draw with osmesa"),
    (EGL, "no library", "osmesa", False, PROBLEM, "unset MUJOCO_GL (osmesa)"),
    ("no library", "no library", "", False, PROBLEM, "apt-get install"),
    ("MUJOCO_EGL_DEVICE_ID must be 0, got 5", "no library", "", False, PROBLEM, "mend MUJOCO_EGL_DEVICE_ID"),
])
def test_backends(egl, osmesa, asked, driver, level, said):
    """What draws, against MUJOCO_GL and a driver that ought to."""
    finding = judge_backends({"egl": egl, "osmesa": osmesa}, asked, driver)
    assert finding.level == level and said in f"{finding.found} {finding.move}"


TWO = (Device(0, 1, renderer="NVIDIA H100"), Device(1, 0, renderer="NVIDIA H100"))


@pytest.mark.parametrize("devices, visible, asked, level, said", [
    (TWO, None, None, OK, "EGL 0 = CUDA 1, NVIDIA H100\nEGL 1 = CUDA 0, NVIDIA H100\nworkers draw on EGL 0, 1"),
    (TWO, "0", None, WARNING, "workers draw on EGL 1"),
    (TWO, None, "1", OK, "all workers draw on EGL 1"),
    (TWO, None, "2", PROBLEM, "MUJOCO_EGL_DEVICE_ID=2 is none"),
    ((Device(0, 0, problem="no display"), TWO[1]), None, None, WARNING, "cannot draw: no display"),
    ((), None, None, WARNING, "EGL lists none"),
])
def test_devices(devices, visible, asked, level, said):
    """The map, and where workers will draw."""
    finding = judge_devices(devices, visible, asked)
    assert finding.level == level and said in finding.found


def test_versions():
    """Installed against pinned; a package that is missing is named."""
    wanted = {"mujoco": "3.2.3", "robosuite": "1.4.0"}
    assert judge_versions(wanted, dict(wanted).get).level == OK
    finding = judge_versions(wanted, {"mujoco": "3.8.1"}.get)
    assert finding.level == PROBLEM
    assert "mujoco 3.8.1, pinned 3.2.3; robosuite missing, pinned 1.4.0" in finding.found


def test_pins_are_those_of_this_python():
    """Comments and lines for other Pythons are left out."""
    text = "# why\nmujoco==3.2.3\nnumpy==2.4.6 ; python_version >= '3.0'\nnumpy==1.0 ; python_version < '3.0'\n"
    assert preflight.pins(text) == {"mujoco": "3.2.3", "numpy": "2.4.6"}
    assert preflight.pins(load_suite("robocasa_gr1").requirements.read_text())["mujoco"] == "3.2.6"


def scene(sha: str = "a1", grey: int = 7) -> Scene:
    return Scene(sha, {"top": np.full((4, 4, 3), grey, np.uint8)}, SimpleNamespace())


def golden(machine: str = platform.machine()) -> dict:
    return {"machine": machine, "scenes": {REAL: "a1", STAND_IN: "b2"},
            "frames": {f"{kind} d1 {LLVMPIPE}": frame_hashes(scene()) for kind in (REAL, ALTERED)}}


@pytest.mark.parametrize("found, kind, digest, renderer, level, said", [
    (scene(), REAL, "d1", LLVMPIPE, OK, "1 frames of the first scene as known"),
    (scene(), ALTERED, "d1", LLVMPIPE, OK, "physics (a1)"),       # upstream's geometry, other pictures
    (scene(), REAL, "d1", "NVIDIA H100", OK, "frames not known for NVIDIA H100"),
    (scene(), REAL, "d2", LLVMPIPE, OK, "frames not known"),      # other assets, other pixels
    (scene(), REAL, "d1", "", OK, "no renderer"),
    (scene(grey=8), REAL, "d1", LLVMPIPE, PROBLEM, "first frame of top is not"),
    (scene("b2"), STAND_IN, "d3", LLVMPIPE, OK, "physics"),
    (scene("c3"), REAL, "d1", LLVMPIPE, PROBLEM, "known is a1"),
    (scene(), BUILT_IN, "d1", LLVMPIPE, WARNING, "not known for built-in assets"),
])
def test_scene(found, kind, digest, renderer, level, said):
    """Physics is compared by kind of assets, frames by digest and renderer, and what is not known is not compared."""
    finding = judge_scene(found, golden(), Assets(kind, Path("/assets"), digest), renderer)
    assert finding.level == level and said in finding.found


def test_scene_of_another_processor_is_not_compared():
    """Last bits are those of x86-64 kernels."""
    finding = judge_scene(scene("c3"), golden("riscv"), Assets(REAL, Path("/assets"), "d1"), LLVMPIPE)
    assert finding.level == WARNING and "only tried" in finding.found


@pytest.mark.parametrize("name", ["libero_object", "robocasa_gr1"])
def test_golden_scenes_are_there(name):
    """Each suite with a preflight knows the physics of the scenes that any machine can have, and some frames."""
    known = preflight.read_golden(load_suite(name))
    assert {"libero_object": STAND_IN, "robocasa_gr1": BUILT_IN}[name] in known["scenes"]
    assert known["machine"] == "x86_64" and all("llvmpipe" in key for key in known["frames"]) and known["frames"]


@pytest.mark.parametrize("kind", FLOOR_GREY)
def test_floor(kind):
    """As bright as measured; as dark as MuJoCo 3.3.3 draws it."""
    assert judge_floor(FLOOR_GREY[kind] + 2, kind).level == OK
    dark = judge_floor(FLOOR_GREY[kind] - 37, kind)
    assert dark.level == PROBLEM and "3.3.3" in dark.found


def test_settling():
    """The bowl may settle as it does with MuJoCo 3.2.3, and may neither slide nor tip off the ramekin."""
    assert judge_settling(0.015, 16.5).level == OK
    for metres, degrees in ((0.08, 5.0), (0.01, 70.0)):
        finding = judge_settling(metres, degrees)
        assert finding.level == PROBLEM and "fallen off" in finding.found
