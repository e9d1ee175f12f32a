"""Upstream's reset without what it computes for nobody: the same scene, bit for bit, sooner.

Within `quick_reset` some functions of robosuite and PyYAML give the same results in less time, and two things that
nobody uses are left out:

* The robot alone is not compiled: only whole-body controllers ask for that model, and these tasks have none.
* No OpenGL context is made, twice, for each scene: `pictures.Pictures` draws instead, in one context for all.
* `find_elements` copies what it has found so far at every element, and throws the copy away.
* Upstream reads the same fixture registries 18 times a reset.
* While things settle, 250 substeps, the robot holds its pose: `Controller` does it in one compiled call.

tests/robocasa_gr1/checks.py compares whole resets with and without it, of all tasks.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import mujoco

from suites.robocasa_gr1.builtin.control import SUBSTEPS, Controller
from suites.robocasa_gr1.builtin.simulation import SETTLING


@contextmanager
def quick_reset(env: Any) -> Iterator[None]:
    """Use the shortcuts in a reset of upstream's environment `env`, and in nothing else."""
    import robosuite.environments.base as base
    import yaml
    from robosuite.models.robots.robot_model import RobotModel
    from robosuite.utils.binding_utils import MjSim
    from robosuite.utils.mjcf_utils import find_elements as original

    shorter = ((MjSim, "step1", _nothing), (MjSim, "step2", _nothing), (env, "_pre_action", Settling(env)),
               (RobotModel, "set_mujoco_model", _no_model), (yaml, "safe_load", _safe_load),
               (base, "MjRenderContextOffscreen", NoPictures))
    with ExitStack() as stack:
        for owner, name, function in shorter:
            stack.enter_context(mock.patch.object(owner, name, function))
        for module in _users("find_elements", original):
            stack.enter_context(mock.patch.object(module, "find_elements", find_elements))
        yield


@cache
def _users(name: str, function: Callable) -> list[Any]:
    """Modules that have imported `function` under this name."""
    return [module for module in list(sys.modules.values()) if getattr(module, "__dict__", {}).get(name) is function]


class Settling:
    """What upstream's loop over `sim.step1`, `env._pre_action`, `sim.step2` does, at its first call; later ones do
    nothing. It loops ten control steps."""

    def __init__(self, env: Any):
        self._env, self._settled = env, None

    def __call__(self, action: Any, policy_step: bool) -> None:
        sim = self._env.sim
        if self._settled is sim:
            return
        self._settled = sim
        controller = Controller(sim.model._model, sim.data._data)
        controller.hold()
        controller.advance(SETTLING * SUBSTEPS)


def _nothing(sim) -> None:
    """Already done by `Settling`."""


def find_elements(root, tags, attribs=None, return_first=True):
    """robosuite's function of this name: the first element at or below `root` with one of the `tags` and all the
    `attribs` (None if there is none), or all of them in the document's order (None where that is empty)."""
    tags = [tags] if type(tags) is str else tags
    wanted = list((attribs or {}).items())
    found = (element for element in root.iter()
             if element.tag in tags and all(element.get(key) == value for key, value in wanted))
    return next(found, None) if return_first else list(found) or None


def _no_model(robot, mujoco_model=None) -> None:
    robot.mujoco_model = mujoco_model


def _safe_load(stream) -> Any:
    return pickle.loads(_parsed(stream if isinstance(stream, str) else stream.read()))


@cache
def _parsed(text: str) -> bytes:
    """What YAML `text` says, pickled: everybody who asks gets a copy of their own, as from PyYAML."""
    import yaml

    return pickle.dumps(yaml.load(text, yaml.SafeLoader))


class NoPictures:
    """In the place of robosuite's render context: it leaves the same state behind, and draws nothing.

    Making a context runs mj_forward once more, which moves the solver's warm start and so the last bits of what
    follows. vopt: what upstream wants to be shown.
    """

    offscreen = True

    def __init__(self, sim: Any, device_id: int, **sizes: int):
        sim.forward()
        sim.add_render_context(self)
        self.vopt = mujoco.MjvOption()
