"""What upstream's scenes and the built-in ones have in common: one simulated GR1 task that evalkit's Env drives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

#: State group -> MuJoCo joint names in the group's order (robosuite's GR1 with Fourier hands). Of a hand's eleven
#: joints the state shows the outer one of each finger and the thumb's pitch and yaw, as upstream does.
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow_pitch", "wrist_yaw", "wrist_roll", "wrist_pitch")
_HAND = ("pinky_intermediate", "ring_intermediate", "middle_intermediate", "index_intermediate",
         "thumb_proximal_pitch", "thumb_proximal_yaw")
STATE_JOINTS = {
    "left_arm": tuple(f"robot0_l_{joint}" for joint in _ARM),
    "right_arm": tuple(f"robot0_r_{joint}" for joint in _ARM),
    "left_hand": tuple(f"gripper0_left_L_{joint}_joint" for joint in _HAND),
    "right_hand": tuple(f"gripper0_right_R_{joint}_joint" for joint in _HAND),
    "waist": tuple(f"robot0_torso_waist_{axis}" for axis in ("yaw", "pitch", "roll")),
}

#: Sites at the wrists; the pick-and-place predicate measures distances from them.
WRIST_SITES = {"left": "gripper0_left_grip_site", "right": "gripper0_right_grip_site"}


@dataclass(frozen=True)
class Item:
    """A movable thing on the table. Lengths in metres in the frame of its body.

    name: its role (obj, container, obj_container, distractor_...). body: name of its body in the model.
    bottom, top: heights of its lowest and highest point above the body's origin. half: half extents (x, y) of its
    bounding box. region: for tiered things the geom that bounds the goal on the highest tier.
    """

    name: str
    category: str
    body: str
    bottom: float
    top: float
    half: tuple[float, float]
    region: str = ""


@dataclass(frozen=True)
class Fixture:
    """What a close task shuts. kind: drawer, microwave or cabinet; joint: shut at 0, open at `open_at` (m or rad).

    open_at is the joint value that counts as fully open: door state = joint / open_at.
    """

    kind: str
    joint: str
    open_at: float


@dataclass(frozen=True)
class Scene:
    """What a reset has put on the table. A pick-and-place task has a container, a close task a fixture."""

    obj: Item
    container: Item | None
    fixture: Fixture | None
    others: tuple[Item, ...]


class Simulation(ABC):
    """One task in one process. World frame: metres, z up, the robot looks along +y, the table top is at z = 0.92.

    model and data belong to the current scene; both may be replaced by a reset. `description` says in JSON types what
    was drawn (layout, style, objects), `scene` says it for privileged policies, `instruction` for all policies.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    scene: Scene
    instruction: str
    description: dict[str, Any]

    @abstractmethod
    def reset(self, seed: int) -> None:
        """A new scene: a pure function of task and seed, in any process, after any other scene."""

    @abstractmethod
    def step(self, action: np.ndarray) -> bool:
        """One control step (0.05 s) with `action` (29,) float64 in the suite's order; the predicate after it."""

    @abstractmethod
    def success(self) -> bool:
        """The task's predicate on the present state, exactly as it is evaluated after a step."""

    @abstractmethod
    def door(self) -> float:
        """Opening of the fixture: 0 shut, 1 open (close tasks only)."""

    @abstractmethod
    def interior(self) -> np.ndarray:
        """The fixture's interior box now: (4, 3) world points, a corner and its three neighbours along the edges."""

    @abstractmethod
    def render(self, view: str) -> np.ndarray:
        """RGB uint8, upright, of the present state.

        view: ``ego_view``, the part of the ego camera's frame that `views.ego_view` takes (460, 1020, 3); ``scene``,
        from the side (480, 640, 3).
        """

    @abstractmethod
    def close(self) -> None:
        """Release renderer and memory."""
