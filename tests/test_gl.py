"""OpenGL: which EGL device each worker draws on, and the variables of a simulator's process. The devices are faked."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from evalkit import egl, gl
from evalkit.egl import Device, choose, usable

H100 = "NVIDIA H100 80GB HBM3/PCIe/SSE2"
SOFTWARE = Device(8, software=True, renderer="llvmpipe (LLVM 15.0.6, 256 bits)")

#: Eight GPUs as a server may list them: EGL counts in another order than CUDA, and software comes last.
SERVER = (*(Device(index, cuda=(3, 2, 1, 0, 7, 6, 5, 4)[index], renderer=H100) for index in range(8)), SOFTWARE)


def indices(devices) -> list[int]:
    return [device.index for device in devices]


@pytest.mark.parametrize("devices, visible, expected", [
    (SERVER, None, list(range(8))),          # GPUs before software
    (SERVER, "", list(range(8))),            # Ray's blank says nothing about drawing
    (SERVER, "0,1", [2, 3]),                 # CUDA's numbers, looked up in the map
    (SERVER, "GPU-5c1f", list(range(8))),    # no number: cannot be looked up
    (SERVER, "9", list(range(8))),           # names none that is here
    ((SOFTWARE,), "0", [8]),                 # nothing but software
    ((Device(0, 0, problem="no display"), Device(1, 1, renderer=H100)), None, [1]),   # robosuite would take 0
    ((Device(0, 0, renderer=H100), Device(1, 1, renderer="NVIDIA A100")), None, [0]),  # frames would differ
    ((Device(0, None, renderer="AMD Radeon"), SOFTWARE), "0", [0]),   # a GPU that CUDA does not know
    ((Device(0, 0, problem="no display"),), None, []), ((), None, []),
])
def test_usable_devices(devices, visible, expected):
    """Those that draw, GPUs first, as CUDA_VISIBLE_DEVICES allows, all with one renderer."""
    assert indices(usable(devices, visible)) == expected


def test_workers_take_turns():
    """Ten workers on eight GPUs, on two of them, and where nothing draws."""
    assert [choose(SERVER, worker, None).index for worker in range(10)] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    assert [choose(SERVER, worker, "5,6").index for worker in range(3)] == [5, 6, 5]
    assert choose((), 3, None) is None


@pytest.fixture
def variables(monkeypatch):
    """variables(backend, **set): what gl_environment makes of these on the server with eight GPUs."""
    for name in ("CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID", "MUJOCO_GL", "PYOPENGL_PLATFORM", gl.WORKER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(egl, "devices", lambda: SERVER)

    def make(backend: str, **given: str) -> dict[str, str | None]:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        made = gl.gl_environment(backend)
        return {name: made.get(name) for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID",
                                                  "CUDA_VISIBLE_DEVICES")}

    return make


def test_egl_gets_a_device_by_its_own_number(variables):
    """Worker 5 that may see CUDA 4 and 7 draws on the second of them, and robosuite never sees CUDA's numbers."""
    assert variables("egl", EVALKIT_WORKER="5", CUDA_VISIBLE_DEVICES="4,7") == {
        "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "MUJOCO_EGL_DEVICE_ID": "7", "CUDA_VISIBLE_DEVICES": None}


def test_blanked_cuda_variable_goes(variables):
    """robosuite calls int() on the empty text that Ray gives actors without a GPU."""
    assert variables("egl", CUDA_VISIBLE_DEVICES="")["CUDA_VISIBLE_DEVICES"] is None


def test_device_of_the_user_is_kept(variables):
    """MUJOCO_EGL_DEVICE_ID, where it is set, decides."""
    assert variables("egl", MUJOCO_EGL_DEVICE_ID="3", EVALKIT_WORKER="1")["MUJOCO_EGL_DEVICE_ID"] == "3"


@pytest.mark.parametrize("backend, platform", [("osmesa", "osmesa"), ("disable", None)])
def test_other_backends_need_no_device(variables, backend, platform):
    """Nothing is asked of EGL, and CUDA's variable goes all the same."""
    assert variables(backend, CUDA_VISIBLE_DEVICES="1") == {
        "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": platform, "MUJOCO_EGL_DEVICE_ID": None, "CUDA_VISIBLE_DEVICES": None}


def test_selection_stays_in_a_process(variables, monkeypatch):
    """What is selected once is what a later question gives, also when CUDA's variable has gone."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ |= {"CUDA_VISIBLE_DEVICES": "2", "EVALKIT_WORKER": "1"}
    gl.select_gl("egl")
    assert (os.environ["MUJOCO_EGL_DEVICE_ID"], "CUDA_VISIBLE_DEVICES" in os.environ) == ("1", False)
    assert gl.gl_environment("egl")["MUJOCO_EGL_DEVICE_ID"] == "1"


@pytest.mark.parametrize("outcome", [subprocess.CompletedProcess([], -11, "", ""), subprocess.TimeoutExpired("egl", 1)])
def test_a_driver_that_crashes_or_hangs_lists_none(monkeypatch, outcome):
    """Then MuJoCo's own choice stands."""
    def run(*arguments, **options):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    assert egl.devices.__wrapped__() == ()


def test_devices_are_read_from_the_script(monkeypatch):
    """The script's last line, in a process that does not see CUDA_VISIBLE_DEVICES."""
    seen = {}

    def run(command, env, **options):
        seen.update(env)
        line = json.dumps([{"index": 0, "cuda": 1, "renderer": "X"}])
        return subprocess.CompletedProcess(command, 0, f"noise of a driver\n{line}\n")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(subprocess, "run", run)
    assert egl.devices.__wrapped__() == (Device(0, 1, renderer="X"),)
    assert "CUDA_VISIBLE_DEVICES" not in seen and "PATH" in seen


def test_devices_in_words():
    """What the doctor prints of each."""
    assert str(SERVER[0]) == f"EGL 0 = CUDA 3, {H100}"
    assert str(SOFTWARE) == "EGL 8 = software, llvmpipe (LLVM 15.0.6, 256 bits)"
    assert str(Device(2, problem="no display")) == "EGL 2 = GPU, cannot draw: no display"
