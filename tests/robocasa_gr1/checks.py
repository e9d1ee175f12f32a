"""Checks that hold on upstream's and on the built-in scenes alike.

Upstream allows one task class in a process, so its tests run this module: ``python -m tests.robocasa_gr1.checks
CHECK SCENES FOLDER TASK ...``, which raises AssertionError.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import mujoco
import numpy as np

from evalkit.episode import Episode
from evalkit.gl import choose_gl, select_gl
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.testing import check_env, random_actions
from suites.robocasa_gr1.env import RoboCasaGR1Env
from suites.robocasa_gr1.simulation import STATE_JOINTS, Simulation
from suites.robocasa_gr1.suite import GROUPS, ROWS

SUITE = load_suite("robocasa_gr1")

#: The ego camera in the frame of the robot's head (upstream's camera_utils.py), and where it is in the room when the
#: waist is straight and the base in its nominal place (measured on upstream).
CAMERA_POS, CAMERA_QUAT, CAMERA_FOVY = (0.22982822, 0, 0.0905), (0.67667634, 0.2052051, -0.2052051, -0.67667634), 77.0


def episode(task: int, index: int = 0) -> Episode:
    return Episode("robocasa_gr1", task, index, seed=7, max_steps=SUITE.max_steps)


def make_env(scenes: str, folder: Path | None, task: int, views: tuple[str, ...] = ()) -> RoboCasaGR1Env:
    options = EnvOptions(views=views, seed_policy="reference", scenes=scenes, assets=folder)
    RoboCasaGR1Env.start_process(options)
    return RoboCasaGR1Env(SUITE, task, options)


def held(simulation: Simulation) -> np.ndarray:
    """The action that holds the present joint positions."""
    return np.concatenate([[simulation.data.joint(name).qpos[0] for name in STATE_JOINTS[group]] for group in GROUPS])


def contract(scenes: str, folder: Path | None, task: int) -> None:
    """The Env contract with the ego view: shapes, dtypes, history, looking."""
    env = make_env(scenes, folder, task, ("ego_view",))
    check_env(env, [episode(task, index) for index in range(2)], steps=12, look_every=6)
    for group, value in env.observe().state.items():
        assert value.dtype == np.float32, f"state group {group} is {value.dtype}"
    assert env.observe().instruction.startswith("unlocked_waist: ")
    env.close()


def same_without_views(scenes: str, folder: Path | None, task: int) -> None:
    """64 steps end in the same state, bit for bit, in a process that draws and after looking at every 16th step."""
    actions = 0.1 * random_actions(SUITE, 64)
    ends = []
    for looks in (True, False):
        env = make_env(scenes, folder, task, ("ego_view",))
        env.reset(episode(task))
        start = held(env.simulator)
        for step, action in enumerate(actions, start=1):
            env.step(start + action, look=looks and step % 16 == 0)
        ends.append(env.state_sha())
        env.close()
    assert ends[0] == ends[1]


def as_upstream(scenes: str, folder: Path, task: int) -> None:
    """24 steps through upstream's own gym wrapper, which draws every step, give our observations bit for bit."""
    actions = 0.2 * random_actions(SUITE, 24, seed=3)
    env = make_env("upstream", folder, task, ("ego_view",))
    env.reset(episode(task, 2))
    start, ours = held(env.simulator), [env.observe()]
    successes = []
    for step, action in enumerate(actions, start=1):
        successes.append(env.step(start + action, look=step % 12 == 0))
        ours.append(env.observe())
    env.close()

    from suites.robocasa_gr1.upstream import make_gym

    gym = make_gym(ROWS[task], draws=True)
    gym.env.rng = np.random.default_rng(9)
    theirs = [gym.reset(seed=9)[0]]
    for step, action in enumerate(actions):
        observation, _, _, _, info = gym.step({f"action.{group}": part for group, part
                                               in SUITE.action.split(start + action).items()})
        theirs.append(observation)
        assert bool(info["success"]) == successes[step]
    for step, (own, other) in enumerate(zip(ours, theirs, strict=True)):
        assert own.instruction == other["annotation.human.coarse_action"]
        for group in GROUPS:
            assert other[f"state.{group}"].dtype == own.state[group].dtype
            assert np.array_equal(own.state[group], other[f"state.{group}"]), f"{group} at step {step}"
        if step % 12 == 0:
            assert np.array_equal(own.views["ego_view"], other["video.ego_view_bg_crop_pad_res256_freq20"]), step


def reset_as_upstream(scenes: str, folder: Path, task: int) -> None:
    """Resets with our shortcuts and upstream's own end in the same model and the same state, bit for bit."""
    from suites.robocasa_gr1 import upstream

    select_gl(choose_gl().name)
    simulation = upstream.UpstreamSimulation(ROWS[task], folder, draws=True)
    found = []
    for shortcuts in (upstream.quick_reset, lambda env: contextlib.nullcontext()):
        with mock.patch.object(upstream, "quick_reset", shortcuts):
            simulation.reset(9 + task)
        found.append((whole(simulation.model), left(simulation.data), simulation.description, simulation.instruction,
                      simulation.scene))
    simulation.close()
    assert found[0] == found[1]


def scripted_actions(env: RoboCasaGR1Env, policy: Policy, steps: int) -> Iterator[np.ndarray]:
    """What `policy` does from the scene of `env` on, action by action, while the caller executes it."""
    policy.load()
    policy.reset(env.observe().episode)
    for step in range(steps):
        if step % policy.spec.executed_steps == 0:
            chunk = policy.act([replace(env.observe(), simulator=env.simulator)])[0]
        yield chunk[step % policy.spec.executed_steps]


def whole(model: mujoco.MjModel) -> str:
    """Hash of all of the model."""
    compiled = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, compiled)
    return hashlib.sha256(compiled.tobytes()).hexdigest()


def left(data: mujoco.MjData) -> dict[str, str]:
    """Hashes of what a step or a reset leaves in `data`."""
    return {name: hashlib.sha256(np.ravel(getattr(data, name)).tobytes()).hexdigest() for name in LEFT}


#: Arrays of mjData: the state, the solver's warm start, poses, forces, sensors. Not ctrl: upstream clips it to the
#: actuators' ranges, and what we leave there MuJoCo clamps.
LEFT = ("time", "qpos", "qvel", "qacc", "qacc_warmstart", "xpos", "xquat", "site_xpos", "geom_xpos", "qM",
        "qfrc_bias", "qfrc_constraint", "sensordata", "cacc", "cfrc_int", "cfrc_ext", "actuator_force")


def steps_as_upstream(scenes: str, folder: Path, task: int) -> None:
    """Our steps and those of upstream's gym environment from equal resets: equal bits in all that the physics left and
    the same success, after each of 24 random actions and, from a new reset, of the scripted policy's (200 at most)."""
    from baselines.random import Random
    from baselines.scripted import Scripted
    from suites.robocasa_gr1.upstream import make_gym

    env, gym = make_env(scenes, folder, task), make_gym(ROWS[task])
    for policy, steps in ((Random(SUITE, chunk=8), 24), (Scripted(SUITE), 200)):
        env.reset(episode(task, 2))
        gym.env.rng = np.random.default_rng(9)
        gym.reset(seed=9)
        model, data = gym.env.sim.model._model, gym.env.sim.data._data
        assert (whole(env.simulator.model), left(env.simulator.data)) == (whole(model), left(data))
        for step, action in enumerate(scripted_actions(env, policy, steps)):
            success = env.step(action, look=False)
            *_, info = gym.step({f"action.{group}": part for group, part in SUITE.action.split(action).items()})
            assert left(env.simulator.data) == left(data), f"step {step} of {type(policy).__name__}"
            assert success == bool(info["success"])
    env.close()
    gym.close()


def scenes_of(scenes: str, folder: Path | None, task: int, order: str) -> None:
    """Print the scenes of some episodes, met in `order` (0,2,1): the caller compares processes."""
    env = make_env(scenes, folder, task)
    found = {}
    for index in map(int, order.split(",")):
        env.reset(episode(task, index))
        found.setdefault(index, set()).add((env.state_sha(), env.observe().instruction))
    assert all(len(scene) == 1 for scene in found.values()), "an episode's scene depends on what ran before"
    print(sorted(found.items()))


def camera(scenes: str, folder: Path | None, task: int) -> None:
    """The ego camera sits in the head and sees the room from where upstream's does."""
    simulation = make_env(scenes, folder, task).simulator
    simulation.reset(7)
    model, data = simulation.model, simulation.data
    view = model.camera("egoview")
    np.testing.assert_allclose(view.pos, CAMERA_POS, atol=1e-7)
    np.testing.assert_allclose(view.quat, CAMERA_QUAT, atol=1e-6)
    assert view.fovy[0] == CAMERA_FOVY and model.body(view.bodyid[0]).name == "robot0_head_pitch"
    for name in STATE_JOINTS["waist"]:
        data.joint(name).qpos[0] = 0
    mujoco.mj_forward(model, data)
    base = data.body("robot0_base").xpos
    np.testing.assert_allclose(data.camera("egoview").xpos - base, (0, 0.22, 0.572), atol=0.02)


def predicate(scenes: str, folder: Path | None, task: int) -> None:
    """The predicate is false at reset, true with the object put into its goal, false again with each part undone."""
    simulation = make_env(scenes, folder, task).simulator
    for seed in range(7, 13):
        simulation.reset(seed)
        assert not simulation.success(), f"seed {seed} starts solved"
        lower_arms(simulation)
        put_into_goal(simulation)
        hanging = np.zeros(sum(GROUPS.values()))
        if [simulation.step(hanging) for _ in range(15)][-1]:
            break
    else:
        raise AssertionError(f"{ROWS[task].name}: never true with the object in its goal, 6 seeds")
    for undo in UNDONE[bool(simulation.scene.container)]:
        before = simulation.data.qpos.copy()
        undo(simulation)
        refresh(simulation)
        assert not simulation.success(), f"{ROWS[task].name}: still true after {undo.__name__}"
        simulation.data.qpos[:] = before
        refresh(simulation)
        assert simulation.success(), f"{ROWS[task].name}: not true again after {undo.__name__} was taken back"


def lower_arms(simulation: Simulation) -> None:
    """Let both arms hang, far from everything."""
    for joint in range(simulation.model.njnt):
        if simulation.model.joint(joint).name.startswith(("robot0_", "gripper0_")):
            simulation.data.qpos[simulation.model.jnt_qposadr[joint]] = 0
    simulation.data.qvel[:] = 0
    refresh(simulation)


def put_into_goal(simulation: Simulation) -> None:
    """Put the object into the container, or into the fixture and shut it."""
    scene, data = simulation.scene, simulation.data
    thing = scene.obj
    if scene.container is not None:
        turned = data.body(scene.container.body).xquat.copy()
        if scene.container.region:
            region = data.geom(scene.container.region)
            floor = region.xpos - [0, 0, simulation.model.geom(scene.container.region).size[2] - 0.003]
        else:
            floor = data.body(scene.container.body).xpos + np.array([0, 0, scene.container.bottom + 0.015])
        place(simulation, thing.body, floor - [0, 0, thing.bottom], turned)
        return
    data.joint(scene.fixture.joint).qpos[0] = 0
    refresh(simulation)
    corner, right, back, up = simulation.interior()
    centre = corner + (right - corner) / 2 + (back - corner) / 2
    if thing.top - thing.bottom < up[2] - corner[2]:
        place(simulation, thing.body, centre - [0, 0, thing.bottom - 0.01], (1, 0, 0, 0))
    else:  # too tall to stand: lying on its side
        centre[2] += max(thing.half) + 0.01
        place(simulation, thing.body, centre, (np.sqrt(0.5), np.sqrt(0.5), 0, 0))


def place(simulation: Simulation, body: str, position: np.ndarray, quaternion: np.ndarray) -> None:
    """Put a free body somewhere, at rest."""
    joint = simulation.model.body(body).jntadr[0]
    address, speed = simulation.model.jnt_qposadr[joint], simulation.model.jnt_dofadr[joint]
    simulation.data.qpos[address:address + 7] = [*position, *quaternion]
    simulation.data.qvel[speed:speed + 6] = 0
    refresh(simulation)


def refresh(simulation: Simulation) -> None:
    """Bring everything that the predicate reads up to date with qpos."""
    mujoco.mj_forward(simulation.model, simulation.data)
    if simulation.scene.fixture:
        simulation.interior()


def lift_object(simulation: Simulation) -> None:
    place(simulation, simulation.scene.obj.body, np.array([2.7, -1.95, 1.6]), (1, 0, 0, 0))


def open_door(simulation: Simulation) -> None:
    """1 cm, or 1.1 degrees."""
    fixture = simulation.scene.fixture
    ajar = 0.01 if fixture.kind == "drawer" else 0.02
    simulation.data.joint(fixture.joint).qpos[0] = np.sign(fixture.open_at) * ajar


def tip_container(simulation: Simulation) -> None:
    """By 45 degrees."""
    body = simulation.scene.container.body
    place(simulation, body, simulation.data.body(body).xpos.copy(), (np.cos(np.pi / 8), np.sin(np.pi / 8), 0, 0))


UNDONE = {True: (lift_object, tip_container), False: (lift_object, open_door)}

CHECKS = {"contract": contract, "as_upstream": as_upstream, "reset_as_upstream": reset_as_upstream,
          "steps_as_upstream": steps_as_upstream, "same_without_views": same_without_views, "scenes": scenes_of,
          "camera": camera, "predicate": predicate}

if __name__ == "__main__":
    name, kind, assets, number, *more = sys.argv[1:]
    CHECKS[name](kind, Path(assets), int(number), *more)
