"""One RoboCasa-GR1 task in one process: upstream's or the built-in scenes behind evalkit's Env."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from functools import cache

import numpy as np

from evalkit.episode import Episode
from evalkit.gl import choose_gl, select_gl
from evalkit.suite import Env, EnvOptions, Observation, Suite
from suites.robocasa_gr1.suite import ROWS


class RoboCasaGR1Env(Env):
    """A task of the suite. Actions are absolute joint targets and are neither scaled nor clipped."""

    @classmethod
    def start_process(cls, options: EnvOptions) -> None:
        select_gl(_gl().name if options.views else "disable")

    @classmethod
    def describe(cls, options: EnvOptions) -> dict[str, str]:
        packages = ("mujoco", "robosuite", "numpy", "opencv-python-headless")
        versions = {name: importlib.metadata.version(name) for name in packages}
        versions["blas_kernels"] = f"{platform.machine()} {os.environ.get('OPENBLAS_CORETYPE') or 'chosen by the CPU'}"
        versions["scenes"] = options.scenes
        versions["renderer"] = f"{_gl().renderer}, {_gl().version}" if options.views else "not rendered"
        return versions

    def __init__(self, suite: Suite, task: int, options: EnvOptions):
        super().__init__(suite, task, options)
        self._simulation = make_simulation(task, options)
        self._seconds = 0.0
        self._views: dict[str, np.ndarray] = {}

    @property
    def render_seconds(self) -> float:
        return self._seconds

    @property
    def simulator(self):
        """The suite's `simulation.Simulation`."""
        return self._simulation

    def reset(self, episode: Episode) -> None:
        """The scene of `episode`: seed 7 + k under `reference`, the episode's own under `per_episode`."""
        self._episode, self._step = episode, 0
        own = self.options.seed_policy == "per_episode"
        self._simulation.reset(episode.seed if own else episode.seed + episode.index)
        self._joints = self._state_addresses()
        self._look(True)

    def _state_addresses(self) -> dict[str, np.ndarray]:
        from suites.robocasa_gr1.simulation import STATE_JOINTS

        model = self._simulation.model
        return {group: np.array([model.joint(name).qposadr[0] for name in names])
                for group, names in STATE_JOINTS.items()}

    def step(self, action: np.ndarray, look: bool) -> bool:
        action = np.asarray(action, dtype=np.float64)
        self.suite.action.check(action[None])
        self._step += 1
        success = self._simulation.step(action)
        self._look(look)
        return success

    def _look(self, look: bool) -> None:
        """Draw the views of the present state, or none. Upstream's camera too sees the end of the control step."""
        start = time.perf_counter()
        self._views = {name: self._draw(name) for name in self.options.views} if look else {}
        self._seconds += time.perf_counter() - start

    def _draw(self, view: str) -> np.ndarray:
        from suites.robocasa_gr1.views import ego_view

        picture = self._simulation.render(view)
        return ego_view(picture) if view == "ego_view" else np.ascontiguousarray(picture)

    def observe(self) -> Observation:
        qpos = self._simulation.data.qpos
        state = {group: qpos[addresses].astype(np.float32) for group, addresses in self._joints.items()}
        return Observation(dict(self._views), state, self._simulation.instruction, self._episode, self._step)

    def state_sha(self) -> str:
        """Of positions, velocities and what was drawn for the scene (objects, style, layout)."""
        data = self._simulation.data
        digest = hashlib.sha256(np.concatenate([data.qpos, data.qvel]).tobytes())
        digest.update(json.dumps(self._simulation.description, sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def close(self) -> None:
        self._simulation.close()


def make_simulation(task: int, options: EnvOptions):
    """The Simulation of a task on the scenes that `options` names."""
    if options.scenes == "builtin":
        from suites.robocasa_gr1.builtin.simulation import BuiltinSimulation

        return BuiltinSimulation(ROWS[task], draws=bool(options.views))
    from suites.robocasa_gr1.upstream import UpstreamSimulation

    return UpstreamSimulation(ROWS[task], options.assets, draws=bool(options.views))


@cache
def _gl():
    """The backend that draws here; probed once a process, before anything is imported that needs one."""
    return choose_gl()
