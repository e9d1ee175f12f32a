"""Embodiments of the released checkpoints: which views and state go in, what the numbers that come out mean.

numpy only: the driver reads layouts and statistics to check a checkpoint before anything is loaded.
Sources: the released configurations and DiT4DiT's evaluation clients for GR1 and LIBERO (Mondo-Robotics/DiT4DiT
0362b34); starVLA's use the same layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import InputError
from evalkit.parsing import parse_json, read_text
from evalkit.suite import Suite

#: No statistic of a robot's action is as large; float32 holds it.
MOST = 1e30

#: Pixels (height and width) that every view is resized to (DiT4DiT's clients; `image_size` of the released configs).
SIDE = 224


@dataclass(frozen=True)
class Layout:
    """One embodiment.

    tag: its name in dataset_statistics.json. views, state: in the order in which they enter; state groups with sizes.
    interleaved: whether sine and cosine of each number stand side by side (LIBERO); else all sines, then all cosines of
    a group (GR1). action_size: D, the valid columns of a chunk. gripper: the column that is thresholded and mapped to
    -1 / +1, if any.
    executed_steps: actions executed per query in the release's protocol.
    """

    name: str
    tag: str
    suites: tuple[str, ...]
    views: tuple[str, ...]
    state: Mapping[str, int]
    interleaved: bool
    action_size: int
    gripper: int | None
    executed_steps: int

    @property
    def state_size(self) -> int:
        """Numbers of an encoded state before padding: sine and cosine of each."""
        return 2 * sum(self.state.values())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of `image`: views side by side."""
        return SIDE, SIDE * len(self.views), 3

    def images(self, views: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The views (H, W, 3) uint8, each resized to 224 x 224 by OpenCV's INTER_AREA as upstream's clients do."""
        return [resize(views[name]) for name in self.views]

    def image(self, views: Mapping[str, np.ndarray]) -> np.ndarray:
        """All views side by side in one image `image_shape` uint8, as DiT4DiT takes them."""
        return np.concatenate(self.images(views), axis=1)

    def encode_state(self, state: Mapping[str, np.ndarray], width: int) -> np.ndarray:
        """Sine and cosine of the raw state groups, padded with zeros: (width,) float32."""
        groups = [np.asarray(state[name], dtype=np.float64).reshape(-1) for name in self.state]
        if self.interleaved:
            groups = [number for group in groups for number in group.reshape(-1, 1)]
        encoded = np.concatenate([part for group in groups for part in (np.sin(group), np.cos(group))])
        return np.pad(encoded, (0, width - self.state_size)).astype(np.float32)

    def unnormalize(self, normalized: np.ndarray, statistics: Statistics, clip: bool = True) -> np.ndarray:
        """Actions (T, D) float64 in the data set's units from the model's chunk (T, A >= D).

        Padding columns are dropped; with `clip` values are cut to [-1, 1] first (DiT4DiT's clients; starVLA's server
        does not); LIBERO's gripper is thresholded at 0.5 to {0, 1}, 1 = open; columns whose mask is false stay.
        """
        chunk = np.array(normalized[..., :self.action_size], dtype=np.float64)
        if clip:
            chunk = np.clip(chunk, -1.0, 1.0)
        if self.gripper is not None:
            chunk[..., self.gripper] = chunk[..., self.gripper] >= 0.5
        scaled = (chunk + 1.0) / 2.0 * (statistics.high - statistics.low) + statistics.low
        return np.where(statistics.mask, scaled, chunk)

    def to_suite(self, actions: np.ndarray) -> np.ndarray:
        """`unnormalize`d actions (T, D) as the suite takes them, float32: LIBERO's gripper -1 open, +1 close."""
        actions = np.array(actions, dtype=np.float64)
        if self.gripper is not None:
            actions[..., self.gripper] = 1.0 - 2.0 * (actions[..., self.gripper] > 0.5)
        return actions.astype(np.float32)


GR1 = Layout(
    name="gr1", tag="gr1", suites=("robocasa_gr1",), views=("ego_view",),
    state={"left_arm": 7, "right_arm": 7, "left_hand": 6, "right_hand": 6, "waist": 3}, interleaved=False,
    action_size=29, gripper=None, executed_steps=12,
)

LIBERO = Layout(
    name="libero", tag="franka",
    suites=("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"), views=("agentview", "wrist"),
    state={"eef_pos": 3, "eef_axis_angle": 3, "gripper_qpos": 2}, interleaved=True,
    action_size=7, gripper=6, executed_steps=8,
)

LAYOUTS = (GR1, LIBERO)


def layout_for(suite: Suite, policy: str) -> Layout:
    """The layout of `suite`. Raises InputError, in the name of `policy`, when there is none."""
    for layout in LAYOUTS:
        if suite.name in layout.suites:
            return layout
    allowed = ", ".join(name for layout in LAYOUTS for name in layout.suites)
    raise InputError(f"policy {policy!r} has no layout for suite {suite.name!r}; allowed: {allowed}")


def resize(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (224, 224, 3) uint8 by OpenCV's INTER_AREA; unchanged where it has that size."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    import cv2

    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Statistics:
    """What un-normalises actions: low, high (D,) float64, and mask (D,) bool: which columns were normalised at all."""

    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray


def read_statistics(path: Path) -> dict[str, Any]:
    """The parsed dataset_statistics.json of a checkpoint. Raises InputError when it is missing or malformed."""
    if not path.is_file():
        raise InputError(f"statistics file {path} is missing: without it actions cannot be un-normalised.\n"
                         "It lies beside config.yaml in the checkpoint's folder; copy it from where the checkpoint "
                         "came from.")
    try:
        parsed = parse_json(read_text(path))
    except (ValueError, OSError) as error:
        raise InputError(f"statistics file {path} cannot be read as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InputError(f"statistics file {path} holds a {type(parsed).__name__}, expected a map from tag to numbers")
    return parsed


def action_statistics(parsed: Mapping[str, Any], layout: Layout, source: Path | str) -> Statistics:
    """The min-max statistics of `layout`'s actions. Raises InputError for another embodiment or wrong lengths."""
    if layout.tag not in parsed:
        others = [f"{other.name} ({', '.join(other.suites)})" for other in LAYOUTS if other.tag in parsed]
        made_for = f"\nThe checkpoint is made for {', '.join(others)}." if others else ""
        raise InputError(f"{source} has statistics for {', '.join(map(repr, parsed)) or 'nothing'}; the suite's "
                         f"embodiment is {layout.tag!r}.{made_for}\nGive the checkpoint trained for this suite.")
    of_tag = parsed[layout.tag]
    action = of_tag.get("action", {}) if isinstance(of_tag, Mapping) else None
    if not isinstance(action, Mapping):
        raise InputError(f"{source}: {layout.tag}/action is no map; needed: min, max, mask")
    missing = [key for key in ("min", "max") if key not in action]
    if missing:
        raise InputError(f"{source}: {layout.tag}/action lacks {', '.join(missing)}; needed: min, max, mask")
    columns = {key: _numbers(action.get(key, [True] * layout.action_size)) for key in ("min", "max", "mask")}
    for key, values in columns.items():
        if values.shape != (layout.action_size,) or not np.isfinite(values).all():
            raise InputError(f"{source}: {layout.tag}/action/{key} has shape {values.shape}, expected "
                             f"({layout.action_size},) finite numbers, the suite's action")
    if (columns["min"] > columns["max"]).any():
        raise InputError(f"{source}: {layout.tag}/action/min is above max in column "
                         f"{int(np.argmax(columns['min'] > columns['max']))}: the file is damaged")
    return Statistics(columns["min"], columns["max"], columns["mask"] > 0.5)


def _numbers(value: Any) -> np.ndarray:
    """A list of numbers as float64; an empty array for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, (int, float)) and abs(item) < MOST for item in value):
        return np.zeros(0)
    return np.array(value, np.float64)
