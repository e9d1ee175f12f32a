"""LIBERO's suites as data: tasks, protocol of the paper's release, interpreter."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from evalkit.specs import ActionSpec
from evalkit.suite import Suite, Task

FOLDER = Path(__file__).parent

#: Policy steps an episode may take, wait steps not counted (DiT4DiT's and openpi's LIBERO evaluation scripts:
#: a little over the longest demonstration of each suite).
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}

#: Steps with `WAIT_ACTION` before the first query, while objects settle; success is ignored (same scripts).
WAIT_STEPS = 10
WAIT_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)

#: Stored init states of a task (upstream's init_files); episode k starts from init state k.
EPISODES_PER_TASK = 50

#: Pixels of both views (same scripts).
RESOLUTION = 256

ACTION = ActionSpec(
    groups={"eef_delta": 6, "gripper": 1},
    meaning="robosuite OSC_POSE delta [x y z ax ay az] in [-1, 1]; gripper -1 open, +1 close",
    low=-1.0, high=1.0,
)

#: The base frame is the robot's world frame; positions in metres, axis-angle in radians without antipodal flip,
#: finger joints in metres (opposite signs). Concatenated in this order they are the paper's 8-D state.
STATE = {"eef_pos": 3, "eef_axis_angle": 3, "gripper_qpos": 2}

#: `reference`: fixture poses of the paper's sequential script (seed 7 once a task, one reset an episode), from
#: fixtures.npz. `per_episode`: drawn from the episode's own seed. `fixed`: drawn from the base seed at every reset.
SEED_POLICIES = ("reference", "per_episode", "fixed")


@cache
def make_suite(name: str) -> Suite:
    """The Suite called `name`, one of `MAX_STEPS`."""
    return Suite(
        name=name, tasks=read_tasks(name), episodes_per_task=EPISODES_PER_TASK, max_steps=MAX_STEPS[name],
        wait_steps=WAIT_STEPS, control_hz=20.0, success_rule="any_step",
        views={"agentview": (RESOLUTION, RESOLUTION, 3), "wrist": (RESOLUTION, RESOLUTION, 3)},
        state=STATE, action=ACTION, seed_policies=SEED_POLICIES, hold_action=WAIT_ACTION,
        interpreter="libero", requirements=FOLDER / "requirements.txt",
        env="suites.libero.env:LiberoEnv", assets="suites.libero.assets:resolve",
        preflight="suites.libero.preflight:check",
    )


def read_tasks(name: str) -> tuple[Task, ...]:
    """Tasks of suite `name` in upstream's order, from tasks.csv (written by `make libero-tables`)."""
    with open(FOLDER / "tasks.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["suite"] == name]
    return tuple(Task(index=int(row["index"]), name=row["name"], instruction=row["instruction"]) for row in rows)
