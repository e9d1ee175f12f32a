"""Measurements inside RoboCasa-GR1's interpreter: one task on one kind of scenes in one process.

    python -m benchmarks.robocasa_gr1_env costs SCENES FOLDER TASK    seconds of reset, step, picture, episode
    python -m benchmarks.robocasa_gr1_env parts SCENES FOLDER TASK    where a step and a reset spend their time
    python -m benchmarks.robocasa_gr1_env episode SCENES FOLDER TASK  seconds of a whole episode
    python -m benchmarks.robocasa_gr1_env memory SCENES FOLDER TASK   MiB over 40 resets

Seconds are CPU seconds of the process and all its threads: what others do on the machine moves them little. Prints one
JSON object last.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from baselines.random import Random
from benchmarks.parts import Parts, least
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from evalkit.workers import resident_gb
from suites.robocasa_gr1.env import RoboCasaGR1Env
from suites.robocasa_gr1.suite import ROWS

SUITE = load_suite("robocasa_gr1")
VIEWS = ("ego_view",)

#: Actions executed for one query, as the DiT4DiT script does.
EXECUTED = 12

#: The side-by-side episode: both loops take turns of `STRETCH` steps each, with the same actions from the same scene.
STRETCH, STRETCHES = 12, 3

RESETS, STEPS, ROUNDS, MEMORY_RESETS = 2, 24, 2, 40


def episode(task: int, index: int = 1, steps: int = SUITE.max_steps) -> Episode:
    return Episode(SUITE.name, task, index, 7, steps)


class Wrapper:
    """Upstream's own gym environment, used as its clients do. draws: a picture at every step."""

    def __init__(self, env: RoboCasaGR1Env, task: int, draws: bool = True):
        from suites.robocasa_gr1.upstream import make_gym

        self.gym = make_gym(ROWS[task], draws)

    def reset(self) -> None:
        """The scene of episode(task)."""
        self.gym.env.rng = np.random.default_rng(8)
        self.gym.reset(seed=8)

    def step(self, action: np.ndarray) -> None:
        context = self.gym.env.sim._render_context_offscreen
        if context is not None:
            context.gl_ctx.make_current()  # evalkit's was, in its turn; upstream counts on being alone
        self.gym.step({f"action.{group}": part for group, part in SUITE.action.split(action).items()})


class BuiltinWrapper:
    """The same for built-in scenes, which have no such wrapper: evalkit's reset, robosuite's controllers in Python and
    the predicate, the whole frame and the wrapper's two views at every step; no observables."""

    def __init__(self, env: RoboCasaGR1Env, task: int):
        from benchmarks.robocasa_gr1_plain import WholeFrames

        self._env, self._task, self._frames = env, task, WholeFrames(env.simulator.model)

    def reset(self) -> None:
        from benchmarks.robocasa_gr1_plain import Plain

        self._env.reset(episode(self._task))
        simulator = self._env.simulator
        self._plain = Plain(simulator.model, simulator.data, simulator.controller)
        self._frames.draw(self._plain.data)

    def step(self, action: np.ndarray) -> None:
        self._plain.step(action)
        self._env.simulator.holds(self._plain.data)
        self._frames.draw(self._plain.data)


def costs(env: RoboCasaGR1Env, task: int) -> dict[str, float]:
    """CPU seconds: medians over resets, single steps and pictures, means over the turns of the side-by-side episode;
    ratios. Actions hold the pose with a random part of up to 0.2 rad."""
    wrapper = (Wrapper if env.options.scenes == "upstream" else BuiltinWrapper)(env, task)
    env.reset(episode(task))
    script = actions(env, STRETCH * STRETCHES)
    taken = side_by_side(env, wrapper, script)
    for action in script:
        measure(taken["evalkit: step"], env.step, action, False)
        measure(taken["of which 25 x mj_step"], bare_steps, env)
    for action in script[:EXECUTED]:
        measure(taken["evalkit: step with a picture"], env.step, action, True)

    found = {f"turns of {STRETCH} steps": STRETCHES}
    found |= {name: statistics.median(clocks["cpu"]) for name, clocks in taken.items()}
    found |= {name: statistics.fmean(taken[name]["cpu"]) for name in IN_TURNS}
    cpu, wall = (ratios(taken, clock) for clock in CLOCKS)
    found |= {f"{name}: times faster": ratio for name, ratio in cpu.items()}
    return found | {f"{name}: times faster, by the wall clock": ratio for name, ratio in wall.items()}


def whole_episode(env: RoboCasaGR1Env, task: int) -> float:
    """CPU seconds of evalkit's rollout of one episode of 720 steps, with its reset and 60 pictures (none after
    the last step, where nobody is asked)."""
    policy = Random(SUITE, chunk=EXECUTED, views=1)
    env.reset(episode(task, 0))
    start = time.process_time()
    run_episode(env, policy, episode(task), full_horizon=True)
    return time.process_time() - start


#: What each loop does in turns: a step of the loop that draws every step, and evalkit's with a picture every 12th.
IN_TURNS = ("drawing every step: step", "evalkit: step, a picture every 12th")


def side_by_side(env: RoboCasaGR1Env, wrapper: Any, script: list[np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Seconds of resets and of the steps of one episode, by both loops in turns."""
    taken: dict = defaultdict(lambda: {clock: [] for clock in CLOCKS})
    for _ in range(RESETS):
        measure(taken["drawing every step: reset"], wrapper.reset)
        measure(taken["evalkit: reset with its picture"], env.reset, episode(env.task.index))
    for start in range(0, len(script), STRETCH):
        for action in script[start:start + STRETCH]:
            measure(taken[IN_TURNS[0]], wrapper.step, action)
        for step, action in enumerate(script[start:start + STRETCH], start=1):
            measure(taken[IN_TURNS[1]], env.step, action, step % EXECUTED == 0)
    return taken


def ratios(taken: dict, clock: str) -> dict[str, float]:
    """How many times faster evalkit's steps are, and an episode: a reset and 720 of those steps."""
    theirs, ours = (statistics.fmean(taken[name][clock]) for name in IN_TURNS)
    reset, own_reset = (statistics.median(taken[name][clock]) for name in (
        "drawing every step: reset", "evalkit: reset with its picture"))
    horizon = SUITE.max_steps
    return {"steps": theirs / ours, f"reset and {horizon} steps": (reset + horizon * theirs) / (
        own_reset + horizon * ours)}


#: CPU seconds of this process and all its threads, and seconds on the wall.
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def measure(taken: dict[str, list[float]], function: Callable, *arguments: Any) -> None:
    """Call `function` and append the seconds that it takes to the list of each clock."""
    start = {name: clock() for name, clock in CLOCKS.items()}
    function(*arguments)
    for name, clock in CLOCKS.items():
        taken[name].append(clock() - start[name])


def actions(env: RoboCasaGR1Env, count: int) -> list[np.ndarray]:
    policy, observation = Random(SUITE, chunk=EXECUTED), env.observe()
    return [action for _ in range(0, count, EXECUTED) for action in policy.act([observation])[0]][:count]


def bare_steps(env: RoboCasaGR1Env) -> None:
    """The physics of one control step and nothing else, on the state as it is."""
    import mujoco  # late: it picks its GL backend when it is imported

    for _ in range(25):
        mujoco.mj_step(env.simulator.model, env.simulator.data)


def parts(env: RoboCasaGR1Env, task: int) -> dict[str, dict[str, dict[str, float]]]:
    """ms of a step without pictures and of a reset with its first picture, part by part."""
    found: dict[str, dict[str, Any]] = {"step": {}, "reset": {}}
    env.reset(episode(task))
    script = actions(env, STEPS)
    ours = {"step": own_step_parts(env), "reset": own_reset_parts(env)}
    if env.options.scenes == "upstream":
        for what, draws in (("step", False), ("reset", True)):
            wrapper = Wrapper(env, task, draws)
            wrapper.reset()
            functions = upstream_parts(wrapper.gym)
            found[what]["upstream"] = measured(what, wrapper.step, wrapper.reset, functions, script)
            wrapper.gym.close()
    for what in found:
        found[what]["evalkit"] = measured(what, lambda action: env.step(action, False),
                                          lambda: env.reset(episode(task)), ours[what], script)
    return found


def measured(what: str, step: Any, reset: Any, functions: list, script: list[np.ndarray]) -> dict[str, float]:
    """Each part's least disturbed time of `ROUNDS` rounds."""
    runs = []
    for _ in range(ROUNDS):
        if what == "reset":
            runs.append(Parts(time.process_time).of(reset, functions, 1))
            continue
        turns = iter(script)
        reset()
        runs.append(Parts(time.process_time).of(lambda turns=turns: step(next(turns)), functions, len(script)))
    return least(runs)


def upstream_parts(gym: Any) -> list[tuple[Any, str, str]]:
    """Functions of upstream's loop and what they do."""
    from robosuite.models.robots.robot_model import RobotModel
    from robosuite.utils.binding_utils import MjRenderContext, MjSim

    env = gym.env
    return [(MjSim, "step1", "physics"), (MjSim, "step2", "physics"), (MjSim, "forward", "physics"),
            (env, "_pre_action", "controllers"), (env, "_update_observables", "observables"),
            (env, "_get_observations", "observables"), (env, "_check_success", "success"),
            (env, "update_state", "fixtures' states"), (env, "_load_model", "XML built, things placed"),
            (RobotModel, "set_mujoco_model", "robot alone compiled"), (env, "edit_model_xml", "XML edited"),
            (MjSim, "from_xml_string", "model compiled"), (env, "_destroy_sim", "scene before freed"),
            (MjRenderContext, "__init__", "OpenGL context"), (MjRenderContext, "update_offscreen_size",
                                                              "OpenGL context, again"),
            (MjSim, "render", "pictures"), (gym, "get_groot_observation", "both views, of black if none"),
            (gym, "get_basic_observation", "both views, of black if none")]


def own_step_parts(env: RoboCasaGR1Env) -> list[tuple[Any, str, str]]:
    from suites.robocasa_gr1.builtin.control import Controller

    found = [(Controller, "advance", "physics and controllers"), (env.simulator, "success", "success")]
    if env.options.scenes == "upstream":
        from suites.robocasa_gr1.judge import Judge

        found.append((Judge, "follow", "fixtures' states"))
    return found


def own_reset_parts(env: RoboCasaGR1Env) -> list[tuple[Any, str, str]]:
    from suites.robocasa_gr1.builtin.control import Controller
    from suites.robocasa_gr1.pictures import Pictures

    found = [(Controller, "advance", "things settle"), (Pictures, "__init__", "OpenGL context"),
             (Pictures, "ego", "pictures")]
    if env.options.scenes == "upstream":
        from robosuite.utils.binding_utils import MjSim

        upstream = env.simulator._env
        found += [(upstream, "_load_model", "XML built, things placed"), (upstream, "edit_model_xml", "XML edited"),
                  (MjSim, "from_xml_string", "model compiled"), (upstream, "_destroy_sim", "scene before freed"),
                  (MjSim, "forward", "physics"), (upstream, "_get_observations", "observables")]
    return found


def memory(env: RoboCasaGR1Env, task: int) -> dict[str, float]:
    """Resident MiB after some of the resets, each with a picture."""
    found = {}
    for count in tqdm(range(1, MEMORY_RESETS + 1), unit="reset"):
        env.reset(episode(task, count % SUITE.episodes_per_task))
        if count in (1, 10, 20, MEMORY_RESETS):
            found[str(count)] = 1024 * resident_gb()
    return found


def main() -> None:
    """See the module's docstring."""
    what, scenes, folder, task = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    options = EnvOptions(VIEWS, "reference", scenes, folder)
    RoboCasaGR1Env.start_process(options)
    env = RoboCasaGR1Env(SUITE, task, options)
    found = {"costs": costs, "parts": parts, "episode": whole_episode, "memory": memory}[what](env, task)
    env.close()
    print(json.dumps({"found": found, "described": RoboCasaGR1Env.describe(options)}))


if __name__ == "__main__":
    main()
