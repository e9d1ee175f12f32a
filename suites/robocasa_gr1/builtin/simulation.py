"""The built-in scenes: our own GR1 tabletop tasks on robosuite's robot model and MuJoCo, compiled once per process.

A reset selects variants of things that the model already holds and sets poses; nothing is parsed or compiled anew.
It differs from upstream's reset (tabletop.py, `_reset_internal`) in one more way than placement.py and tasks.py say:
robot and door take their first pose before the things settle, not after, and a scene in which a thing has something in
its way, or rolls off its place, is drawn again. Upstream settles things with the hands inside the region of the objects
and throws about what is in their way.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import mujoco
import numpy as np

from suites.robocasa_gr1.builtin.control import SUBSTEPS, Controller
from suites.robocasa_gr1.builtin.model import TaskModel
from suites.robocasa_gr1.builtin.placement import NoRoom, PlacementError
from suites.robocasa_gr1.builtin.predicates import Contacts, close_predicate, door_state, pick_predicate
from suites.robocasa_gr1.builtin.robot import BASE
from suites.robocasa_gr1.builtin.room import STYLES
from suites.robocasa_gr1.builtin.tasks import Cast, Layout, draw_cast, draw_layout
from suites.robocasa_gr1.pictures import Pictures, fixed
from suites.robocasa_gr1.simulation import Item, Scene, Simulation
from suites.robocasa_gr1.suite import Row, close_instruction, pick_instruction

#: A reset draws at most this many casts, and for each this many layouts, before it gives up.
CASTS, LAYOUTS = 20, 10

#: Control steps in which things settle (tabletop.py).
SETTLING = 10

#: Horizontal distance, in metres, by which a thing may move while it settles.
SLIDE = 0.03

#: MuJoCo resets a state that it finds unusable, with no more than these warnings.
_DIVERGED = tuple(getattr(mujoco.mjtWarning, f"mjWARN_BADQ{what}") for what in ("POS", "VEL", "ACC"))


class BuiltinSimulation(Simulation):
    """One task. `draws`: whether `render` will be used; without it nothing touches OpenGL."""

    def __init__(self, row: Row, draws: bool):
        self._row = row
        self._task = TaskModel(row)
        self.model = self._task.model
        self.data = mujoco.MjData(self.model)
        self.controller = Controller(self.model, self.data)
        self._contacts = Contacts(self.model)
        self._robot = self.model.body(BASE).id
        self._pictures = Pictures(self.model, visual_only()) if draws else None

    def reset(self, seed: int) -> None:
        """A new scene. Raises placement.PlacementError where none is found in CASTS x LAYOUTS draws."""
        rng = np.random.default_rng(seed)
        causes: Counter[str] = Counter()
        for attempt in range(CASTS * LAYOUTS):
            if attempt % LAYOUTS == 0:
                cast = draw_cast(self._row, self._task, rng)
                self._task.set_style(cast.style)
            try:
                layout = draw_layout(self._row, cast, self._task, rng)
                self._arrange(cast, layout)
                self._settle()
            except NoRoom as reason:
                causes[str(reason)] += 1
                continue
            self._describe(cast, layout, attempt + 1)
            return
        raise PlacementError(f"{self._row.name}, seed {seed}: no scene in {CASTS * LAYOUTS} draws because of "
                             f"{dict(causes)}; check the regions in placement.py against the sizes of these things")

    def _arrange(self, cast: Cast, layout: Layout) -> None:
        """Make model and state those of this scene, whatever they were before."""
        task, model, data = self._task, self.model, self.data
        task.set_base(layout.base)
        for name, place in layout.decorations.items():
            task.place_fixture(name, *(place or (0.0, 0.0, 0.0)), present=place is not None)
        for slot in task.slots:
            task.select(slot, cast.things[slot] if slot in layout.poses else None)
        task.finish()
        mujoco.mj_resetData(model, data)
        for slot, (x, y, z, yaw) in layout.poses.items():
            data.joint(f"{task.body(slot)}_joint").qpos = (x, y, z, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        for joint, value in layout.joints.items():
            data.joint(joint).qpos = value
        if task.fixture:
            data.joint(task.fixture.joint).qpos = layout.door * task.fixture.open_at
        mujoco.mj_forward(model, data)
        self.scene = self._make_scene(cast, layout)
        self.holds = self._make_predicate()

    def _make_scene(self, cast: Cast, layout: Layout) -> Scene:
        items = {}
        for slot in layout.poses:
            thing = cast.things[slot]
            items[slot] = Item(slot, thing.category, self._task.body(slot), thing.bottom, thing.top, thing.half,
                               thing.region)
        others = tuple(item for slot, item in items.items() if slot not in ("obj", "container"))
        return Scene(items["obj"], items.get("container"), self._task.fixture, others)

    def _make_predicate(self):
        if self.scene.fixture:
            return close_predicate(self.model, self.scene, self.interior)
        return pick_predicate(self.model, self.scene)

    def _settle(self) -> None:
        """Let the things fall the last centimetre onto their supports while the robot holds its pose.

        Raises NoRoom where one has something in its way, slides off its place or leans on the robot, or where the task
        is done already.
        """
        items = (self.scene.obj, *((self.scene.container,) if self.scene.container else ()), *self.scene.others)
        bodies = [self.model.body(item.body).id for item in items]
        touched = np.isin(bodies, self._contacts.pairs(self.data))
        start = self.data.xpos[bodies, :2]
        _require(~touched, items, "touches something before it settles")
        self.controller.hold()
        self.controller.advance(SETTLING * SUBSTEPS)
        mujoco.mj_forward(self.model, self.data)
        slid = np.linalg.norm(self.data.xpos[bodies, :2] - start, axis=1)
        _require(slid < SLIDE, items, "slides while it settles")
        leans = np.array([self._contacts.between(self.data, body, self._robot) for body in bodies])
        _require(~leans, items, "leans on the robot")
        if self.success():
            raise NoRoom("the task is done before it starts")

    def _describe(self, cast: Cast, layout: Layout, attempts: int) -> None:
        placed = np.array(layout.poses["obj"][:3])
        settled = self.data.body(self.scene.obj.body).xpos
        self.instruction = self._instruct(self.scene.obj.category)
        self.description: dict[str, Any] = {
            "layout": self._row.fixture or "pick and place", "style": STYLES[cast.style].name, "attempts": attempts,
            "objects": {slot: f"{cast.things[slot].category}/{cast.things[slot].instance}" for slot in layout.poses},
            "settled_by": round(float(np.linalg.norm(settled - placed)), 4),
        }

    def _instruct(self, category: str) -> str:
        if self._row.fixture:
            return close_instruction(category, self._row.fixture)
        return pick_instruction(category, self._row.source, self._row.target)

    def step(self, action: np.ndarray) -> bool:
        """See Simulation.step. Raises FloatingPointError where the physics diverges, for example under huge targets."""
        self.controller.set_goal(action)
        self.controller.advance()
        if any(self.data.warning[kind].number for kind in _DIVERGED):
            raise FloatingPointError(f"{self._row.name}: the physics diverged at t = {self.data.time:.2f} s under the "
                                     f"targets {np.round(action, 3).tolist()}; check the policy's actions")
        return self.success()

    def success(self) -> bool:
        return self.holds(self.data)

    def door(self) -> float:
        return door_state(self.data, self.scene)

    def interior(self) -> np.ndarray:
        low, high = self._task.interior
        box = low + np.concatenate([np.zeros((1, 3)), np.diag(np.subtract(high, low))])
        body = self.data.body(self._task.interior_body)
        return box @ body.xmat.reshape(3, 3).T + body.xpos

    def render(self, view: str) -> np.ndarray:
        if self._pictures is None:
            raise RuntimeError("this simulation was made with draws=False; make it with draws=True to render")
        if view == "ego_view":
            return self._pictures.ego(self.data)
        return self._pictures.scene(self.data, fixed(self.model.camera(view).id))

    def close(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None


def _require(fine: np.ndarray, items: tuple[Item, ...], otherwise: str) -> None:
    """Raise NoRoom for the first item that is not fine."""
    if not fine.all():
        raise NoRoom(f"{items[int(np.argmin(fine))].name} {otherwise}")


def visual_only() -> mujoco.MjvOption:
    """Show what is to be seen (geom group 1), not what collides; no sites."""
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[1] = 1
    option.sitegroup[:] = 0
    return option
