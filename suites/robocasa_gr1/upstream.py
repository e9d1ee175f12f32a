"""Upstream's scenes: the robocasa-gr1-tabletop-tasks environment, unmodified, each episode on its own."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from suites.robocasa_gr1.builtin.control import Controller
from suites.robocasa_gr1.judge import Judge
from suites.robocasa_gr1.pictures import Pictures
from suites.robocasa_gr1.robosuite_import import quiet_robosuite
from suites.robocasa_gr1.shortcuts import quick_reset
from suites.robocasa_gr1.simulation import Fixture, Item, Scene, Simulation
from suites.robocasa_gr1.suite import INSTRUCTION_PREFIX, Row

#: Fixture -> its attribute in upstream's task, suffix of its joint, joint value at which the door state is 1
#: (fixtures/cabinets.py and microwave.py: the drawer's is 0.55 of its depth of 0.30 m).
FIXTURES = {"drawer": ("drawer", "slidejoint", -0.55 * 0.30), "microwave": ("microwave", "microjoint", -np.pi / 2),
            "cabinet": ("cabinet", "doorhinge", np.pi / 2)}

#: Scenes that upstream may try for one reset; it tries again by calling itself, 0.6 - 1 s each. Measured on stand-in
#: assets: 1.0 to 2.5 on average, 7 at most.
PLACEMENT_ATTEMPTS = 30

#: The third-person camera for videos: looks at the table from the robot's front right, above.
SCENE_CAMERA = {"lookat": (2.65, -1.75, 1.0), "distance": 1.9, "azimuth": 215.0, "elevation": -30.0}


def import_upstream(checkout: Path, draws: bool) -> None:
    """Import robosuite and upstream's package from `checkout`, without their notices."""
    quiet_robosuite(draws)
    warnings.filterwarnings("ignore", module="gymnasium")
    sys.path.insert(0, str(checkout))
    first = "robocasa" not in sys.modules
    with _quiet():
        import robocasa
        import robocasa.utils.gym_utils  # registers the ids
    if first:
        gc.freeze()  # upstream collects garbage at every reset: not among what the imports leave for good

    if Path(robocasa.__file__).resolve().parent.parent != Path(checkout).resolve():
        raise RuntimeError(f"this process already uses the robocasa package in {robocasa.__file__}")


def make_gym(row: Row, draws: bool = False) -> Any:
    """Upstream's own gym environment of a task, as its clients make it. draws: a picture at every step."""
    import gymnasium

    with _quiet():
        return gymnasium.make(f"gr1_unified/{row.name}_GR1ArmsAndWaistFourierHands_Env", enable_render=draws, seed=0,
                              disable_env_checker=True).unwrapped


class UpstreamSimulation(Simulation):
    """One of upstream's gym environments. A process must build one task class only: the first one built changes the
    distractors of all others (a table that upstream shares and resolves in place)."""

    def __init__(self, row: Row, checkout: Path, draws: bool):
        import_upstream(checkout, draws)
        self._row = row
        self._gym = make_gym(row)
        self._env = self._gym.env
        self._env.has_offscreen_renderer = draws  # from the next reset on; but no picture at every step
        self._pictures: Pictures | None = None
        self._limit_attempts()

    def _limit_attempts(self) -> None:
        """Make a reset that finds no placement end: upstream calls itself until Python's stack is full."""
        load_model = self._env._load_model

        def counted(*arguments: Any, **options: Any) -> Any:
            self._attempts += 1
            if self._attempts > PLACEMENT_ATTEMPTS:
                raise RuntimeError(f"{self._row.name}: upstream found no placement in {PLACEMENT_ATTEMPTS} scenes")
            return load_model(*arguments, **options)

        self._env._load_model = counted

    def reset(self, seed: int) -> None:
        """Upstream's reset with both of its generators seeded (its own seed argument reaches only one), without its
        observation. Nothing of the scene before is kept while the next one is made."""
        self._attempts = 0
        self._forget()
        self._env.rng = np.random.default_rng(seed)
        np.random.seed(seed)
        with _quiet(), quick_reset(self._env):
            self._env.reset()
        self.model, self.data = self._env.sim.model._model, self._env.sim.data._data
        self._controller = Controller(self.model, self.data)
        self._judge = Judge(self._env, self.model, self.data, self._row)
        meta = self._env.get_ep_meta()
        self.instruction = INSTRUCTION_PREFIX + meta["lang"]
        self.scene = self._read_scene(meta)
        placed, settled = self._env.object_placements["obj"][0], self._body_position(self.scene.obj)
        self.description = {
            "layout": int(meta["layout_id"]), "style": int(meta["style_id"]), "attempts": self._attempts,
            "objects": {config["name"]: _model_name(config) for config in meta["object_cfgs"]},
            "settled_by": round(float(np.linalg.norm(settled - np.asarray(placed))), 4),
        }

    def _forget(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
        self.model = self.data = self._controller = self._judge = self._pictures = None
        vars(self._env).pop("check_contact", None)  # the judge's

    def _read_scene(self, meta: dict[str, Any]) -> Scene:
        categories = {config["name"]: config["info"]["cat"] for config in meta["object_cfgs"]}
        items = {name: self._item(name, category) for name, category in categories.items()}
        fixture = None
        if self._row.fixture:
            attribute, joint, open_at = FIXTURES[self._row.fixture]
            fixture = Fixture(self._row.fixture, f"{getattr(self._env, attribute).name}_{joint}", open_at)
        others = tuple(item for name, item in items.items() if name not in ("obj", "container"))
        return Scene(items["obj"], items.get("container"), fixture, others)

    def _item(self, name: str, category: str) -> Item:
        thing = self._env.objects[name]
        low, right, back = thing.get_bbox_points()[:3]  # a corner of the bounding box, its neighbours along x and y
        region = ""
        if thing.spawns:
            heights = {spawn.get("name"): self.data.geom(spawn.get("name")).xpos[2] for spawn in thing.spawns}
            region = max(heights, key=heights.get)
        return Item(name, category, thing.root_body, float(thing.bottom_offset[2]), float(thing.top_offset[2]),
                    (float(right[0] - low[0]) / 2, float(back[1] - low[1]) / 2), region)

    def _body_position(self, item: Item) -> np.ndarray:
        return self.data.body(item.body).xpos.copy()

    def step(self, action: np.ndarray) -> bool:
        """Upstream's step, bit for bit, without its observables (10 of 13 ms): controllers of our own, its predicate.

        Its fixtures learn their new state after the predicate, so an interior box that moves is a step late.
        """
        self._controller.set_goal(action)
        self._controller.advance()
        success = self.success()
        self._judge.follow()
        return success

    def success(self) -> bool:
        return self._judge.success()

    def door(self) -> float:
        return float(self._fixture().get_door_state(env=self._env)["door"])

    def interior(self) -> np.ndarray:
        self._env.update_state()
        return np.array(self._fixture().get_int_sites(relative=False))

    def _fixture(self) -> Any:
        return getattr(self._env, FIXTURES[self._row.fixture][0])

    def render(self, view: str) -> np.ndarray:
        if self._pictures is None:
            context = self._env.sim._render_context_offscreen
            if context is None:
                raise RuntimeError("this simulation was made with draws=False; make it with draws=True to render")
            self._pictures = Pictures(self.model, context.vopt)
        if view == "ego_view":
            return self._pictures.ego(self.data)
        camera = mujoco.MjvCamera()
        for name, value in SCENE_CAMERA.items():
            setattr(camera, name, value)
        return self._pictures.scene(self.data, camera)

    def close(self) -> None:
        self._forget()
        self._gym.close()


def _model_name(config: dict[str, Any]) -> str:
    """``registry/category/instance`` of an object's model."""
    return "/".join(Path(config["info"]["mjcf_path"]).parts[-4:-1])


@contextlib.contextmanager
def _quiet():
    """Keep upstream's notices about optional packages, removed controllers and skipped distractors off the console."""
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
