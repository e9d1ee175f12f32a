"""Resets and control steps have upstream's bits: in all that MuJoCo computes, in observables and in success."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.testing import random_actions
from suites.libero import upstream
from suites.libero.env import CAMERAS, make_upstream_env
from suites.libero.suite import WAIT_ACTION

pytestmark = pytest.mark.simulator

PAPER_TASKS = [(suite, task) for suite in ("libero_spatial", "libero_object", "libero_goal", "libero_10")
               for task in range(10)]

#: Recorded episodes (suite, task, init state): bowl on plate, bowl on stove, book into caddy, microwave.
RECORDED = [("libero_spatial", 0, 0), ("libero_goal", 2, 0), ("libero_10", 5, 0), ("libero_10", 9, 0)]

#: Fields of mjData: state, and what MuJoCo derives from it. Left out are peaks of memory use, and memory that MuJoCo
#: reserves but does not write without islands and with dense Jacobians.
FIELDS = """
    time qpos qvel act ctrl qacc qacc_warmstart qacc_smooth ncon nefc solver_niter sensordata actuator_force
    xpos xquat xmat xipos ximat xanchor xaxis geom_xpos geom_xmat site_xpos site_xmat cam_xpos cam_xmat light_xpos
    light_xdir subtree_com cinert crb cdof cdof_dot cvel cacc cfrc_int cfrc_ext qM qLD qLDiagInv qH qHDiagInv
    qfrc_bias qfrc_passive qfrc_actuator qfrc_smooth qfrc_constraint qfrc_applied xfrc_applied
    efc_type efc_id efc_J efc_pos efc_margin efc_D efc_R efc_KBIP efc_vel efc_aref efc_b efc_force efc_state
"""


def episode_of(suite: str, task: int, index: int) -> Episode:
    return Episode(suite, task, index, 7, load_suite(suite).max_steps)


def physics(simulator) -> dict[str, str]:
    """Field of mjData, or of the model where a task changes it -> digest."""
    data, model = simulator.sim.data._data, simulator.sim.model._model
    values = {name: getattr(data, name) for name in FIELDS.split()}
    values |= {f"contact.{name}": getattr(data.contact, name) for name in ("geom", "dist", "pos", "frame")}
    values |= {f"model.{name}": getattr(model, name) for name in ("body_pos", "body_quat", "site_rgba", "geom_rgba")}
    values |= {"disableflags": model.opt.disableflags}
    return {name: hashlib.sha256(np.asarray(value).tobytes()).hexdigest() for name, value in values.items()}


def seen_of(raw: dict[str, np.ndarray]) -> list[bytes]:
    return [raw[name].tobytes() for name in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")]


def our_track(env, episode, actions) -> list[tuple]:
    """[(physics, observables, success), ...] of evalkit's steps, the reset first."""
    env.reset(episode)
    track = [(physics(env.simulator), seen_of(env._raw), False)]
    for action in actions:
        success = env.step(action, False)
        track.append((physics(env.simulator), seen_of(env._raw), success))
    return track


def upstreams_track(env, episode, actions) -> list[tuple]:
    """The same of upstream's own step, the ten wait steps too."""
    env._place_at_random(episode.seed)
    begin(env.simulator, upstream.init_states(episode.suite, env.task.name)[episode.index])
    raw, *_ = [env.simulator.step(np.array(WAIT_ACTION)) for _ in range(10)][-1]
    track = [(physics(env.simulator), seen_of(raw), False)]
    for action in actions:
        raw, _, done, _ = env.simulator.step(action)
        track.append((physics(env.simulator), seen_of(raw), done))
    return track


def begin(simulator, init_state) -> None:
    """What makes an episode of upstream's environment, just reset, independent of those before."""
    gripper = simulator.robots[0].gripper
    gripper.current_action = np.zeros(gripper.dof)
    simulator.sim.data.qacc_warmstart[:] = 0
    simulator.sim.data.ctrl[:] = 0
    simulator.set_init_state(init_state)


def hard_reset(simulator, episode, init_state) -> None:
    """Upstream's own reset: XML, compilation, contacts and all."""
    simulator.env.hard_reset = True
    simulator.env.object_property_initializers.clear()  # grows with every hard reset, and each entry draws
    np.random.seed(episode.seed)
    simulator.env.reset()
    begin(simulator, init_state)


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    return [name for name in theirs if ours[name] != theirs[name]]


def check_tracks(ours: list[tuple], theirs: list[tuple]) -> None:
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert differing(mine[0], other[0]) == [], f"step {step}"
        assert mine[1] == other[1], f"observables of step {step}"
        assert mine[2] == other[2], f"success of step {step}"


@pytest.mark.parametrize(("suite", "task"), PAPER_TASKS)
def test_resets_and_steps_have_upstreams_bits(suite, task, make_env):
    """Our reset and 12 random steps against upstream's own; then against a reset that recompiles the XML."""
    actions = random_actions(load_suite(suite), 12, seed=task)
    actions[::3, 3:6] = 0  # upstream keeps the old goal orientation then
    actions[::4, 6] = 0
    env, episode = make_env(suite, task, seed_policy="fixed"), episode_of(suite, task, 3)
    ours = our_track(env, episode, actions)
    check_tracks(ours, upstreams_track(env, episode, actions))

    hard_reset(env.simulator, episode, upstream.init_states(suite, env.task.name)[3])
    for _ in range(10):
        env.simulator.step(np.array(WAIT_ACTION))
    assert differing(ours[0][0], physics(env.simulator)) == []
    env.close()


@pytest.mark.parametrize(("suite", "task", "index"), RECORDED)
def test_scripted_steps_have_upstreams_bits(suite, task, index, make_env, pack, replay_fixture):
    """The same over a whole recorded episode of the scripted policy: grasps, contacts, goals reached."""
    with np.load(replay_fixture / "actions.npz") as recorded:
        actions = recorded[f"{suite}/{task}/{index}"].astype(np.float64)
    env, episode = make_env(suite, task, seed_policy="fixed"), episode_of(suite, task, index)
    check_tracks(our_track(env, episode, actions), upstreams_track(env, episode, actions))
    env.close()


def test_upstreams_step_can_take_over(make_env):
    """Steps of ours and of upstream's in turn give the same episode as upstream's alone: nothing that it keeps is
    lost. A look at upstream's observations in between moves its clock, and ours with it."""
    suite, task = "libero_goal", 3
    actions = random_actions(load_suite(suite), 24)
    episode = episode_of(suite, task, 2)

    def track(turns):
        env = make_env(suite, task)
        env.reset(episode)
        found = []
        for step, action in enumerate(actions):
            if step == 10:
                env.simulator._update_observables(force=True)
            if turns and step % 3 < 2:
                env.step(action, False)
                raw = env._raw
            else:
                raw, *_ = env.simulator.step(action)
            found.append((physics(env.simulator), seen_of(raw), False))
        env.close()
        return found

    check_tracks(track(turns=True), track(turns=False))


def test_mujocos_own_solver_can_take_over(make_env, monkeypatch):
    """A model that evalkit's solver does not support is stepped with MuJoCo's: the same episode."""
    from suites.libero import solver

    suite, task = "libero_object", 2
    actions, episode = random_actions(load_suite(suite), 6), episode_of(suite, task, 1)
    tracks = []
    for supported in (True, False):
        monkeypatch.setattr(solver, "supports", lambda model, supported=supported: supported)
        env = make_env(suite, task)
        tracks.append(our_track(env, episode, actions))
        env.close()
    check_tracks(*tracks)


@pytest.mark.parametrize(("suite", "task"), [("libero_spatial", 0), ("libero_10", 0)])
def test_first_frame_is_the_one_of_upstreams_hard_reset(suite, task, make_env):
    """The first look of an episode shows what upstream's camera shows after its reset and the wait steps."""
    views, episode = ("agentview", "wrist"), episode_of(suite, task, 1)
    env = make_env(suite, task, views=views, seed_policy="fixed")
    env.reset(episode_of(suite, task, 0))
    env.reset(episode)
    ours = env.observe().views
    env.close()

    script = make_upstream_env(suite, env.task.name, views)
    hard_reset(script, episode, upstream.init_states(suite, env.task.name)[1])
    for _ in range(10):
        raw, *_ = script.step(np.array(WAIT_ACTION))
    script.close()
    for view in views:
        assert np.array_equal(ours[view], raw[f"{CAMERAS[view]}_image"][::-1, ::-1])
        assert ours[view].std() > 10, "the frame shows something"


def test_steps_beyond_upstreams_horizon_are_refused(make_env):
    """As upstream does after 1000 steps; a reset begins anew."""
    env = make_env("libero_object", 1)
    episode, action = episode_of("libero_object", 1, 0), np.array(WAIT_ACTION)
    env.reset(episode)
    assert env.simulator.env.timestep == 10
    env.simulator.env.timestep = 998
    env.step(action, False)
    env.step(action, False)
    with pytest.raises(ValueError, match="1000 steps"):
        env.step(action, False)
    env.reset(episode)
    env.step(action, False)
    env.close()


def test_disabled_parts_come_back(make_env):
    """Also after an exception."""
    import mujoco

    from suites.common.physics import disabled

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with pytest.raises(KeyError), disabled(model, mujoco.mjtDisableBit.mjDSBL_SENSOR):
        assert model.opt.disableflags == mujoco.mjtDisableBit.mjDSBL_SENSOR
        raise KeyError
    assert model.opt.disableflags == 0


@pytest.mark.parametrize(("suite", "task"), [("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 0),
                                             ("libero_goal", 1), ("libero_goal", 3), ("libero_goal", 6),
                                             ("libero_10", 3), ("libero_10", 6), ("libero_10", 9)])
def test_success_is_upstreams_wherever_things_are(suite, task, make_env, monkeypatch):
    """Upstream is not asked where a thing is far from its goal. 400 states: things of the goal around, in and on their
    targets, drawers and doors anywhere between shut and open."""
    import mujoco

    env, generator = make_env(suite, task), np.random.default_rng(4)
    env.reset(episode_of(suite, task, 0))
    inner, goal = env.simulator.env, env._control_step._goal
    model, data, asked = env.simulator.sim.model._model, env.simulator.sim.data._data, []
    ask = inner._eval_predicate
    monkeypatch.setattr(inner, "_eval_predicate", lambda part: asked.append(part) or ask(part))
    parts, answers, ours = inner.parsed_problem["goal_state"], [], 0
    start = data.qpos.copy()
    hinges = [joint for joint in range(model.njnt) if model.jnt_limited[joint]
              and not model.joint(joint).name.startswith(("robot", "gripper"))]
    for _ in range(400):
        data.qpos[:] = start
        for joint in hinges:
            data.qpos[model.jnt_qposadr[joint]] = generator.choice([*model.jnt_range[joint],
                                                                    generator.uniform(*model.jnt_range[joint])])
        mujoco.mj_forward(model, data)
        for _, thing, *target in parts:
            if target:
                state = inner.object_states_dict[target[0]]
                near = generator.normal((0, 0, 0.03), generator.choice([0.01, 0.1, 0.3]))
                joint = model.body_jntadr[inner.obj_body_id[thing]]
                place = model.jnt_qposadr[joint]
                data.qpos[place:place + 3] = state.get_geom_state()["pos"] + near
        mujoco.mj_forward(model, data)
        asked.clear()
        answers.append(goal())
        ours += len(asked)
        assert answers[-1] == inner._check_success()
    env.close()
    assert 0 < sum(answers) < len(answers)
    assert (ours < len(parts) * len(answers)) == any(len(part) == 3 for part in parts)
