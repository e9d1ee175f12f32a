"""Which OpenGL backend can draw on this machine: found by trying, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from evalkit import egl

#: Number of a rollout worker in its run; workers take turns at the EGL devices by it.
WORKER_VARIABLE = "EVALKIT_WORKER"

#: EGL draws on a GPU or with Mesa's llvmpipe; OSMesa is the way out where EGL is not installed.
BACKENDS = ("egl", "osmesa")

_PROBE = """
import json, mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
from OpenGL import GL
print(json.dumps([GL.glGetString(GL.GL_RENDERER).decode(), GL.glGetString(GL.GL_VERSION).decode()]))
"""


@dataclass(frozen=True)
class GLBackend:
    """A working backend: its MUJOCO_GL name, and what draws (GL_RENDERER, GL_VERSION)."""

    name: str
    renderer: str
    version: str


def probe_gl(backend: str) -> GLBackend | str:
    """Draw one image through `backend` with the mujoco of this interpreter; the error's last line if it fails."""
    done = subprocess.run([sys.executable, "-c", _PROBE], env=gl_environment(backend), capture_output=True,
                          text=True, timeout=120, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return lines[-1] if lines else f"the probe ended with status {done.returncode}"
    renderer, version = json.loads(done.stdout.strip().splitlines()[-1])
    return GLBackend(backend, renderer, version)


def choose_gl() -> GLBackend:
    """The first backend that draws; MUJOCO_GL, if set, is the only candidate. Raises RuntimeError if none does."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    failures = []
    for backend in (asked,) if asked in BACKENDS else BACKENDS:
        found = probe_gl(backend)
        if isinstance(found, GLBackend):
            return found
        failures.append(f"  {backend}: {found}")
    raise RuntimeError("no OpenGL backend can draw here:\n" + "\n".join(failures) +
                       "\nInstall one: apt-get install -y libegl1 libgl1 libgl1-mesa-dri  (or libosmesa6)")


def gl_environment(backend: str) -> dict[str, str]:
    """This process's environment variables with `backend` selected for mujoco, robosuite and PyOpenGL.

    MUJOCO_EGL_DEVICE_ID, unless it is set, becomes a device that draws: robosuite takes device 0, working or not.
    CUDA_VISIBLE_DEVICES goes: robosuite takes it for EGL's numbers, calls int() on the empty text that Ray gives actors
    without a GPU, and demands that the device's number stands in it.
    """
    environment = {**os.environ, "MUJOCO_GL": backend}
    if backend in BACKENDS:
        environment["PYOPENGL_PLATFORM"] = backend
    visible = environment.pop("CUDA_VISIBLE_DEVICES", None)
    if backend == "egl" and "MUJOCO_EGL_DEVICE_ID" not in environment:
        device = egl.choose(egl.devices(), int(environment.get(WORKER_VARIABLE, 0)), visible)
        if device is not None:
            environment["MUJOCO_EGL_DEVICE_ID"] = str(device.index)
    return environment


def select_gl(backend: str) -> None:
    """Select `backend` (or "disable") in this process; must come before mujoco or robosuite is imported."""
    environment = gl_environment(backend)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.update(environment)
