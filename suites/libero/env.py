"""One LIBERO task in one process: upstream's environment behind evalkit's Env, each episode on its own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
from functools import cache

import numpy as np

from evalkit.episode import Episode
from evalkit.gl import choose_gl, select_gl
from evalkit.suite import Env, EnvOptions, Observation, Suite
from suites.common.physics import disabled
from suites.libero import fixtures, upstream
from suites.libero.suite import RESOLUTION, WAIT_ACTION

#: Our view names -> robosuite's camera names.
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}

#: Attempts at a random placement in one reset; upstream tries for ever.
PLACEMENT_ATTEMPTS = 1000


class LiberoEnv(Env):
    """A task of a LIBERO suite. Views are rotated by 180 degrees, as every published evaluation does."""

    @classmethod
    def start_process(cls, options: EnvOptions) -> None:
        if options.views:
            select_gl(_gl().name)
        else:
            select_gl("disable")
        upstream.import_upstream(options.assets, draws=bool(options.views))

    @classmethod
    def describe(cls, options: EnvOptions) -> dict[str, str]:
        packages = ("mujoco", "robosuite", "hf-libero", "bddl", "numpy")
        versions = {name: importlib.metadata.version(name) for name in packages}
        versions["blas_kernels"] = f"{platform.machine()} {os.environ.get('OPENBLAS_CORETYPE') or 'chosen by the CPU'}"
        if not options.views:
            return {**versions, "renderer": "not rendered"}
        return {**versions, "renderer": f"{_gl().renderer}, {_gl().version}"}

    def __init__(self, suite: Suite, task: int, options: EnvOptions):
        super().__init__(suite, task, options)
        from suites.libero import cameras, control  # import mujoco and robosuite, which `start_process` has prepared

        self._init_states = upstream.init_states(suite.name, self.task.name)
        with cameras.nothing_drawn():
            self._upstream = make_upstream_env(suite.name, self.task.name, options.views)
        self._inner = self._upstream.env
        self._inner.hard_reset = False  # see `reset`
        self._gate = cameras.CameraGate(self._inner)
        if options.views:
            context = self._inner.sim._render_context_offscreen
            context.render = cameras.DrawSeen(context)
        self._control_step = control.ControlStep(self._inner)
        self._site_rgba = self._inner.sim.model.site_rgba.copy()
        self._fixture_bodies = [self._inner.obj_body_id[name] for name in self._inner.fixtures_dict]
        self._episode: Episode | None = None
        self._step = 0

    @property
    def render_seconds(self) -> float:
        return self._gate.seconds

    @property
    def simulator(self):
        """Upstream's ControlEnv."""
        return self._upstream

    def reset(self, episode: Episode) -> None:
        """Start from init state `episode.index`, with the fixture poses that the seed policy gives the episode.

        A soft reset (5 ms instead of 300 to 1000) equals a fresh hard reset bit for bit once the three things that
        it forgets are put right: the gripper's integrated action, the solver's warm start and the controls.
        """
        self._episode, self._step = episode, 0
        self._gate.open = False
        self._place_at_random(episode.seed)
        if self.options.seed_policy == "reference":
            fixtures.apply(self._inner, episode)
        gripper = self._upstream.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        self._upstream.sim.data.qacc_warmstart[:] = 0
        self._upstream.sim.data.ctrl[:] = 0
        self._upstream.set_init_state(self._init_states[episode.index])
        for wait in range(self.suite.wait_steps):
            self._advance(np.array(WAIT_ACTION), look=wait == self.suite.wait_steps - 1)

    def _place_at_random(self, seed: int) -> None:
        """Upstream's reset under `seed` (the global numpy generator is the only one it reads).

        Not through ControlEnv.reset, which swallows every exception, KeyboardInterrupt too, and tries for ever.
        Without contacts: in between, all objects lie inside one another, which takes MuJoCo three quarters of the
        reset to resolve, and everything that it finds is computed anew from the init state.
        """
        import mujoco
        from robosuite.utils.errors import RandomizationError

        model = self._inner.sim.model._model
        model.site_rgba[:] = self._site_rgba  # else a burner that starts on is more opaque with every reset
        np.random.seed(seed)
        with disabled(model, mujoco.mjtDisableBit.mjDSBL_CONTACT):
            for _ in range(PLACEMENT_ATTEMPTS):
                try:
                    self._inner.reset()
                    return
                except RandomizationError:
                    continue
        raise RuntimeError(f"{self._episode.id}: no free placement in {PLACEMENT_ATTEMPTS} attempts")

    def step(self, action: np.ndarray, look: bool) -> bool:
        self._step += 1
        return self._advance(action, look)

    def _advance(self, action: np.ndarray, look: bool) -> bool:
        self._gate.open = look and bool(self.options.views)
        self._raw, success = self._control_step(np.asarray(action, dtype=np.float64), self._gate.open)
        self._looked = self._gate.open
        return success

    def observe(self) -> Observation:
        views = {}
        if self._looked:
            views = {name: np.ascontiguousarray(self._raw[f"{CAMERAS[name]}_image"][::-1, ::-1])
                     for name in self.options.views}
        state = {
            "eef_pos": np.array(self._raw["robot0_eef_pos"]),
            "eef_axis_angle": axis_angle(self._raw["robot0_eef_quat"]),
            "gripper_qpos": np.array(self._raw["robot0_gripper_qpos"]),
        }
        return Observation(views, state, self.task.instruction, self._episode, self._step)

    def state_sha(self) -> str:
        model = self._upstream.sim.model
        digest = hashlib.sha256(self._upstream.get_sim_state().tobytes())
        digest.update(np.asarray(model.body_pos[self._fixture_bodies]).tobytes())
        digest.update(np.asarray(model.body_quat[self._fixture_bodies]).tobytes())
        return digest.hexdigest()[:16]

    def close(self) -> None:
        self._upstream.close()


def make_upstream_env(suite: str, task: str, views: tuple[str, ...]):
    """Upstream's own environment of a task, with the cameras of `views` and without GL if there are none."""
    from libero.libero.envs.env_wrapper import ControlEnv

    return ControlEnv(
        bddl_file_name=str(upstream.bddl_path(suite, task)),
        has_offscreen_renderer=bool(views), use_camera_obs=bool(views),
        camera_names=[CAMERAS[view] for view in views], camera_heights=RESOLUTION, camera_widths=RESOLUTION,
    )


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) in radians of an xyzw quaternion, in robosuite's convention.

    The angle is 2 acos(w) with w clipped to [-1, 1], so it reaches 2 pi: no flip to the nearer antipode, which the
    published policies were trained without. The argument is not modified.
    """
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    sine = math.sqrt(1.0 - w * w)
    if sine == 0.0:
        return np.zeros(3)
    return np.asarray(quaternion[:3]) * 2.0 * math.acos(w) / sine


@cache
def _gl():
    """The backend that draws here; probed once a process, before anything is imported that needs one."""
    return choose_gl()

