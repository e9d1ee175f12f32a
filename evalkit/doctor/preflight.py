"""Preflight: a suite's simulator tried in its own interpreter, before a run.

`evalkit doctor` runs it there: ``python -m evalkit.doctor.preflight gl``, and ``... check JSON`` with suite and assets;
it prints findings as JSON. A suite's own checks are the function that its `Suite.preflight` names:
``check(assets: Assets, options: EnvOptions, renderer: str) -> Iterator[Finding]``.

A suite's ``golden.json`` holds what its first scene must be: hashes of the physics by kind of assets, and of the frames
by asset digest and renderer, since pixels depend on both. `make golden` writes it anew:

    evalkit env run libero -m evalkit.doctor.preflight record libero_object stand-in
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import egl
from evalkit.assets import ALTERED, REAL, Assets, resolve_assets
from evalkit.doctor.findings import Finding, ok, problem, warning
from evalkit.episode import Episode
from evalkit.gl import BACKENDS, GLBackend, choose_gl, probe_gl
from evalkit.registry import load_object, load_suite
from evalkit.suite import EnvOptions, Suite

#: What the doctor installs with --fix, and what it advises.
INSTALL = "apt-get install -y libegl1 libgl1 libgl1-mesa-dri, or evalkit doctor --fix"

#: Kinds of assets whose physics is another kind's: altered assets have upstream's geometry and other pictures.
PHYSICS_OF = {ALTERED: REAL}


# --- OpenGL ---------------------------------------------------------------------------------------


def check_gl() -> Iterator[Finding]:
    """Which backends draw here, with what, and the map of EGL's devices."""
    found = {name: probe_gl(name) for name in BACKENDS}
    asked, device = os.environ.get("MUJOCO_GL", "").strip().lower(), os.environ.get("MUJOCO_EGL_DEVICE_ID")
    yield judge_backends(found, asked, nvidia=Path("/proc/driver/nvidia/version").exists())
    if asked in ("", "egl") and (device is not None or isinstance(found["egl"], GLBackend)):
        yield judge_devices(egl.devices(), os.environ.get("CUDA_VISIBLE_DEVICES"), device)


def judge_backends(found: Mapping[str, GLBackend | str], asked: str, nvidia: bool) -> Finding:
    """found: each backend, or why it does not draw. asked: MUJOCO_GL. nvidia: whether its driver is loaded."""
    lines = "\n".join(f"{name}: {item.renderer if isinstance(item, GLBackend) else f'does not draw: {item}'}"
                      for name, item in found.items())
    candidates = (asked,) if asked in BACKENDS else BACKENDS
    drawing = [name for name in candidates if isinstance(found[name], GLBackend)]
    if not drawing:
        move = f"unset MUJOCO_GL ({asked}), or install it" if asked in BACKENDS else \
            "mend MUJOCO_EGL_DEVICE_ID, see below" if "MUJOCO_EGL_DEVICE_ID" in found["egl"] else INSTALL
        return problem("OpenGL", f"{lines}\nonly policies without views will run", move)
    if nvidia and "NVIDIA" not in found[drawing[0]].renderer:
        return warning("OpenGL", f"{lines}\nan NVIDIA driver is loaded, but the CPU draws",
                       "install the driver's OpenGL part (libnvidia-gl-...); in Docker: NVIDIA_DRIVER_CAPABILITIES=all")
    if drawing[0] != "egl" and asked != drawing[0]:
        return warning("OpenGL", f"{lines}\nthe CPU draws, also where there is a GPU", INSTALL)
    return ok("OpenGL", f"{lines}\nworkers draw with {drawing[0]}")


def judge_devices(devices: tuple[egl.Device, ...], visible: str | None, asked: str | None) -> Finding:
    """visible: CUDA_VISIBLE_DEVICES. asked: MUJOCO_EGL_DEVICE_ID."""
    lines = "\n".join(map(str, devices))
    if asked is not None:
        if asked.isdigit() and int(asked) < len(devices) and devices[int(asked)].renderer:
            return ok("EGL devices", f"{lines}\nall workers draw on EGL {asked} (MUJOCO_EGL_DEVICE_ID)")
        return problem("EGL devices", f"{lines}\nMUJOCO_EGL_DEVICE_ID={asked} is none that draws", "unset it, or name "
                       "one by its EGL number, which is not CUDA's")
    chosen = egl.usable(devices, visible)
    if not chosen:
        return warning("EGL devices", lines or "EGL lists none; MuJoCo chooses", "workers cannot be spread over GPUs")
    spread = "workers draw on EGL " + ", ".join(str(device.index) for device in chosen)
    others = [device for device in devices if device not in chosen and not device.software]
    if others:
        return warning("EGL devices", f"{lines}\n{spread}", "the others cannot draw, draw with another GPU (frames "
                       "would differ) or are not in CUDA_VISIBLE_DEVICES")
    return ok("EGL devices", f"{lines}\n{spread}")


# --- versions, scene, frames ----------------------------------------------------------------------


def check_suite(suite: Suite, assets: Assets) -> Iterator[Finding]:
    """Versions against the pins, then the suite's own checks with views if anything draws."""
    yield judge_versions(pins(suite.requirements.read_text()), installed)
    options, renderer = start(suite, assets)
    yield from load_object(suite.preflight)(assets, options, renderer)


def start(suite: Suite, assets: Assets) -> tuple[EnvOptions, str]:
    """Prepare this process as a rollout worker; the options of its Envs, and what draws ("" where nothing does)."""
    try:
        choose_gl()
        views = tuple(suite.views)
    except RuntimeError:
        views = ()
    options = EnvOptions(views, suite.seed_policies[0], assets.scenes, assets.folder)
    env_class = load_object(suite.env)
    env_class.start_process(options)
    return options, env_class.describe(options)["renderer"] if views else ""


def pins(requirements: str) -> dict[str, str]:
    """Package -> version that a requirements text pins for this interpreter."""
    from packaging.requirements import Requirement

    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    wanted = [Requirement(line) for line in lines]
    return {item.name: next(iter(item.specifier)).version for item in wanted
            if item.marker is None or item.marker.evaluate()}


def installed(package: str) -> str | None:
    """The version of `package` in this interpreter."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def judge_versions(wanted: Mapping[str, str], version: Any) -> Finding:
    """version: package -> version that is installed, or None."""
    wrong = [f"{name} {version(name) or 'missing'}, pinned {pin}" for name, pin in wanted.items()
             if version(name) != pin]
    if wrong:
        return problem("versions", "; ".join(wrong) + "\nanother MuJoCo moves success rates by tens of points",
                       "evalkit env remove NAME, then evalkit env create NAME")
    return ok("versions", f"mujoco {wanted['mujoco']}, robosuite {wanted['robosuite']} and {len(wanted) - 2} others as "
              "pinned")


@dataclass(frozen=True)
class Scene:
    """The first observation of an episode: its `Env.state_sha`, its views, and the Env, which is still open."""

    sha: str
    views: Mapping[str, np.ndarray]
    env: Any


def first_scene(suite: Suite, task: int, options: EnvOptions) -> Scene:
    """Episode 0 of a task, wait steps included."""
    env = load_object(suite.env)(suite, task, options)
    env.reset(Episode(suite.name, task, 0, 7, suite.max_steps))
    return Scene(env.state_sha(), dict(env.observe().views), env)


def frame_hashes(scene: Scene) -> dict[str, str]:
    """View -> sixteen hex digits of its pixels."""
    return {name: hashlib.sha256(image.tobytes()).hexdigest()[:16] for name, image in scene.views.items()}


def judge_scene(scene: Scene, golden: Mapping[str, Any], assets: Assets, renderer: str) -> Finding:
    """Physics and frames against what is known of them. golden: the content of a golden.json."""
    known = golden["scenes"].get(PHYSICS_OF.get(assets.kind, assets.kind)) if \
        golden["machine"] == platform.machine() else None
    if known is None:
        return warning("scene", f"{scene.sha}: not known for {assets.kind} assets on {platform.machine()}, so only "
                       "tried", "compare it between the machines that share a run")
    if scene.sha != known:
        return problem("scene", f"the first scene is {scene.sha}, known is {known}: physics of this machine's own",
                       "check versions and assets above; records of this machine would fit no other's")
    frames = golden["frames"].get(_frames_key(assets, renderer))
    if frames is None:
        return ok("scene", f"physics of the first scene as known ({known}); frames not known for "
                  f"{renderer or 'no renderer'} on these assets, so not compared")
    differing = [name for name, hashed in frame_hashes(scene).items() if hashed != frames.get(name)]
    if differing:
        return problem("scene", f"physics as known, but the first frame of {', '.join(differing)} is not, though "
                       f"{renderer} draws it", "check the assets' digest above and LP_/MESA_ variables")
    return ok("scene", f"physics ({known}) and {len(frames)} frames of the first scene as known for this renderer")


def _frames_key(assets: Assets, renderer: str) -> str:
    return f"{assets.kind} {assets.digest} {renderer}"


def read_golden(suite: Suite) -> dict[str, Any]:
    """The golden.json of a suite's folder."""
    path = golden_path(suite)
    if not path.is_file():
        return {"machine": platform.machine(), "scenes": {}, "frames": {}}
    return json.loads(path.read_text())


def golden_path(suite: Suite) -> Path:
    """Beside the suite's requirements."""
    return suite.requirements.with_name("golden.json")


def record(suite: Suite, assets: Assets) -> Iterator[Finding]:
    """Write what the suite's first scene is here, as what it must be."""
    options, renderer = start(suite, assets)
    scene, golden = first_scene(suite, 0, options), read_golden(suite)
    golden["scenes"][PHYSICS_OF.get(assets.kind, assets.kind)] = scene.sha
    if renderer:
        golden["frames"] = {key: frames for key, frames in golden["frames"].items()
                            if not (key.startswith(f"{assets.kind} ") and key.endswith(f" {renderer}"))}
        golden["frames"][_frames_key(assets, renderer)] = frame_hashes(scene)
    scene.env.close()
    golden_path(suite).write_text(json.dumps(golden, indent=1) + "\n")
    yield ok("scene", f"{scene.sha} written to {golden_path(suite)}")


def main(action: str, *arguments: str) -> None:
    """Print the findings of ``gl``, ``check JSON`` (suite, kind, folder, digest), ``record SUITE ASSETS [SCENES]``."""
    if action == "gl":
        found = check_gl()
    elif action == "check":
        settings = json.loads(arguments[0])
        suite = load_suite(settings.pop("suite"))
        found = check_suite(suite, Assets(**{**settings, "folder": Path(settings["folder"])}))
    else:
        suite = load_suite(arguments[0])
        found = record(suite, resolve_assets(suite, arguments[1], [], Path(sys.executable), *arguments[2:]))
    print(json.dumps([asdict(finding) for finding in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
