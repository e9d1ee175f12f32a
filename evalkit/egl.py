"""EGL's devices: which one is which CUDA device, and what draws on each. Asked of EGL itself, never computed.

EGL and CUDA number GPUs independently, and a container may show a GPU to one and not to the other. Run as a script
(``python -I egl.py``) this file prints the devices as JSON, in a process that ends with whatever a driver does to it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

#: EGL's own numbers: EGL 1.5, EXT_platform_device, EXT_device_query, NV_device_cuda, EXT_device_drm; GL's GL_RENDERER.
EGL_EXTENSIONS, EGL_NONE, EGL_OPENGL_API = 0x3055, 0x3038, 0x30A2
EGL_PLATFORM_DEVICE, EGL_CUDA_DEVICE, EGL_DRM_DEVICE_FILE = 0x313F, 0x323A, 0x3233
EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT = 0x3033, 0x0001, 0x3040, 0x0008
GL_RENDERER = 0x1F01

#: Seconds for all devices; a driver of eight GPUs takes a few.
SECONDS = 60.0


@dataclass(frozen=True)
class Device:
    """One of EGL's devices. index: what MUJOCO_EGL_DEVICE_ID means. cuda: its number for CUDA, None for software and
    for drivers that do not say. file: its device file, where there is one. renderer: GL_RENDERER; empty where it cannot
    draw, and then `problem` says why."""

    index: int
    cuda: int | None = None
    file: str = ""
    software: bool = False
    renderer: str = ""
    problem: str = ""

    def __str__(self) -> str:
        kind = "software" if self.software else "GPU" if self.cuda is None else f"CUDA {self.cuda}"
        return f"EGL {self.index} = {kind}, {self.renderer or f'cannot draw: {self.problem}'}"


@cache
def devices() -> tuple[Device, ...]:
    """EGL's devices in its order, asked once a process; none where EGL is missing or its driver fails."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run([sys.executable, "-I", __file__], capture_output=True, text=True, timeout=SECONDS,
                              env=environment, check=False)
    except subprocess.TimeoutExpired:
        return ()
    if done.returncode != 0:
        return ()
    return tuple(Device(**fields) for fields in json.loads(done.stdout.strip().splitlines()[-1]))


def usable(found: Sequence[Device], visible: str | None) -> list[Device]:
    """Devices on which workers may draw: GPUs where there are any, and of those the ones that `visible`
    (CUDA_VISIBLE_DEVICES) names by number, if it does.

    Only those that draw as the first one does: frames must not depend on which worker measured an episode. An empty
    `visible` is Ray's way of giving an actor no GPU for CUDA; it says nothing about drawing.
    """
    working = [device for device in found if device.renderer]
    chosen = [device for device in working if not device.software] or working
    numbers = [part.strip() for part in (visible or "").split(",")]
    if all(part.isdigit() for part in numbers):
        allowed = [device for device in chosen if device.cuda is None or str(device.cuda) in numbers]
        chosen = allowed or chosen
    return [device for device in chosen if device.renderer == chosen[0].renderer]


def choose(found: Sequence[Device], worker: int, visible: str | None) -> Device | None:
    """The device of a worker: they take turns. None where no device is known to draw."""
    candidates = usable(found, visible)
    return candidates[worker % len(candidates)] if candidates else None


# --- in a process of its own ----------------------------------------------------------------------


class _Egl:
    """libEGL's functions by name, extensions too."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
        self.library.eglGetProcAddress.restype = ctypes.c_void_p

    def call(self, name: str, result: Any, *arguments: tuple[Any, Any]) -> Any:
        """Call function `name` with (type, value) arguments. Raises OSError where the library lacks it."""
        address = self.library.eglGetProcAddress(name.encode())
        if not address:
            raise OSError(f"this EGL has no {name}")
        return ctypes.CFUNCTYPE(result, *(kind for kind, _ in arguments))(address)(*(value for _, value in arguments))


def _query() -> list[Device]:
    egl, pointer = _Egl(), ctypes.c_void_p
    count = ctypes.c_int()
    handles = (pointer * 64)()
    egl.call("eglQueryDevicesEXT", ctypes.c_uint, (ctypes.c_int, len(handles)), (pointer, ctypes.addressof(handles)),
             (pointer, ctypes.addressof(count)))
    found = []
    for index in range(count.value):
        device = _identify(egl, index, handles[index])
        try:
            found.append(replace(device, renderer=_renderer(egl, handles[index])))
        except OSError as error:
            found.append(replace(device, problem=str(error)))
    return found


def _identify(egl: _Egl, index: int, handle: int) -> Device:
    """What the device says of itself without drawing."""
    pointer = ctypes.c_void_p

    def text(name: int) -> str:
        said = egl.call("eglQueryDeviceStringEXT", ctypes.c_char_p, (pointer, handle), (ctypes.c_int, name))
        return said.decode() if said else ""

    extensions, cuda = text(EGL_EXTENSIONS), ctypes.c_ssize_t(-1)
    knows = "EGL_NV_device_cuda" in extensions.split() and egl.call(
        "eglQueryDeviceAttribEXT", ctypes.c_uint, (pointer, handle), (ctypes.c_int, EGL_CUDA_DEVICE),
        (pointer, ctypes.addressof(cuda)))
    return Device(index, cuda.value if knows else None,
                  text(EGL_DRM_DEVICE_FILE) if "EGL_EXT_device_drm" in extensions.split() else "",
                  software="EGL_MESA_device_software" in extensions.split())


def _renderer(egl: _Egl, handle: int) -> str:
    """GL_RENDERER of a context on the device. Raises OSError with the step that failed."""
    pointer, number = ctypes.c_void_p, ctypes.c_int
    display = egl.call("eglGetPlatformDisplayEXT", pointer, (number, EGL_PLATFORM_DEVICE), (pointer, handle),
                       (pointer, None))
    if not display or not egl.call("eglInitialize", ctypes.c_uint, (pointer, display), (pointer, None),
                                   (pointer, None)):
        raise OSError("no display (is its device file readable?)")
    wanted = (number * 5)(EGL_SURFACE_TYPE, EGL_PBUFFER_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_NONE)
    config, count = pointer(), number()
    egl.call("eglChooseConfig", ctypes.c_uint, (pointer, display), (pointer, ctypes.addressof(wanted)),
             (pointer, ctypes.addressof(config)), (number, 1), (pointer, ctypes.addressof(count)))
    egl.call("eglBindAPI", ctypes.c_uint, (ctypes.c_uint, EGL_OPENGL_API))
    context = egl.call("eglCreateContext", pointer, (pointer, display), (pointer, config), (pointer, None),
                       (pointer, None))
    if not context or not egl.call("eglMakeCurrent", ctypes.c_uint, (pointer, display), (pointer, None),
                                   (pointer, None), (pointer, context)):
        raise OSError("no OpenGL context")
    name = egl.call("glGetString", ctypes.c_char_p, (ctypes.c_uint, GL_RENDERER))
    egl.call("eglMakeCurrent", ctypes.c_uint, (pointer, display), (pointer, None), (pointer, None), (pointer, None))
    egl.call("eglTerminate", ctypes.c_uint, (pointer, display))
    if not name:
        raise OSError("no OpenGL library behind EGL")
    return name.decode()


if __name__ == "__main__":
    print(json.dumps([asdict(device) for device in _query()]))
