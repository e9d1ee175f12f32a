"""One process of `make bench-peers` inside LIBERO's interpreter: the paper's kind of script, or evalkit's rollout.

    python -m benchmarks.peers_libero script ASSETS CHUNK TASK,TASK,...    one episode a task
    python -m benchmarks.peers_libero evalkit ASSETS CHUNK TASK,TASK,...   two episodes a task, the second one warm

Prints a JSON object when it is ready and one an episode.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers_dummy import HORIZON, Dummy, chunk, phase_seconds
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from suites.libero import upstream
from suites.libero.env import LiberoEnv
from suites.libero.suite import RESOLUTION, WAIT_ACTION, WAIT_STEPS

SUITE = load_suite("libero_spatial")
VIEWS = tuple(SUITE.views)

#: What the paper's release resizes its pictures to, and the seed of its environments.
MODEL_PIXELS, SEED = 224, 7


def start(assets: Path) -> tuple[dict[str, str], float]:
    """Prepare the process; versions and renderer, and the seconds in which evalkit looked for the renderer: other
    people's programs do not do that."""
    options, begun = EnvOptions(views=VIEWS, assets=assets), time.perf_counter()
    described = LiberoEnv.describe(options)
    probed = time.perf_counter() - begun
    LiberoEnv.start_process(options)
    return described, probed


def play_script(task: int, length: int) -> dict[str, Any]:
    """A task as the paper's release plays it, in one process: a new environment, seeded once, reset for the episode,
    both cameras rendered in every step and prepared for the model. Nothing is kept as a video."""
    from libero.libero.envs import OffScreenRenderEnv

    start = time.perf_counter()
    env = OffScreenRenderEnv(bddl_file_name=str(upstream.bddl_path(SUITE.name, SUITE.tasks[task].name)),
                             camera_heights=RESOLUTION, camera_widths=RESOLUTION)
    env.seed(SEED)
    built, busy = time.perf_counter(), time.process_time()
    env.reset()
    seen = env.set_init_state(upstream.init_states(SUITE.name, SUITE.tasks[task].name)[0])
    for _ in range(WAIT_STEPS):
        seen, _, _, _ = env.step(list(WAIT_ACTION))
    begun = time.perf_counter()
    for step in range(HORIZON):
        for name in ("agentview_image", "robot0_eye_in_hand_image"):
            prepared(seen[name])  # the dummy does not look at it
        if step % length == 0:
            actions = chunk(task, 0, step, length)
        seen, _, done, _ = env.step(actions[step % length].tolist())
        if done:
            break
    end, busy = time.perf_counter(), time.process_time() - busy
    row = {"task": task, "index": 0, "build": built - start, "reset": begun - built, "seconds": end - built,
           "cpu": busy, "steps": step + 1, "bits": bits(env), "pose": pose(seen)}
    env.close()
    return row


def prepared(picture: np.ndarray) -> np.ndarray:
    """A camera's picture, turned by 180 degrees and resized as the release does."""
    return cv2.resize(np.ascontiguousarray(picture[::-1, ::-1]), (MODEL_PIXELS, MODEL_PIXELS),
                      interpolation=cv2.INTER_AREA)


def play_evalkit(task: int, length: int, assets: Path) -> list[dict[str, Any]]:
    """The same episode twice in evalkit's rollout: with a new environment, and with one that is there."""
    start = time.perf_counter()
    env = LiberoEnv(SUITE, task, EnvOptions(VIEWS, "reference", assets=assets))
    built = time.perf_counter() - start
    policy, rows = Dummy(SUITE, length), []
    for turn in range(2):
        start, busy = time.perf_counter(), time.process_time()
        record = run_episode(env, policy, Episode(SUITE.name, task, 0, SEED, HORIZON))
        total, busy = time.perf_counter() - start, time.process_time() - busy
        rows.append({"task": task, "index": 0, "build": 0.0 if turn else built, "seconds": total, "cpu": busy,
                     "steps": record.steps, "bits": bits(env.simulator),
                     "final_sha": record.final_sha, "phases": phase_seconds(record)})
    env.close()
    return rows


def bits(env: Any) -> str:
    """A digest of where upstream's environment is: positions, velocities, fixtures."""
    state = env.get_sim_state().tobytes() + np.asarray(env.sim.model.body_pos).tobytes()
    return hashlib.sha256(state).hexdigest()[:16]


def pose(seen: dict[str, np.ndarray]) -> list[float]:
    """Gripper's position and finger joints, in metres, as float32."""
    return np.concatenate([seen["robot0_eef_pos"], seen["robot0_gripper_qpos"]]).astype(np.float32).tolist()


def main() -> None:
    """See the module's docstring."""
    what, assets, length = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    described, probed = start(assets)
    import libero.libero.envs  # noqa: F401  part of the start

    print(json.dumps({"ready": described, "probed": probed if what == "script" else 0.0}), flush=True)
    for task in map(int, sys.argv[4].split(",")):
        rows = [play_script(task, length)] if what == "script" else play_evalkit(task, length, assets)
        for row in rows:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
