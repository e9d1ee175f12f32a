"""Fixture poses under the `reference` seed policy: what the paper's sequential script gives each episode.

Upstream draws the poses of cabinets, stoves, racks and microwaves from numpy's global generator at every reset; they
live in the model, so an init state does not restore them. The paper's script seeds once a task (7) and resets once an
episode, hence episode k has the poses of the (k+1)-th reset after seeding. `fixtures.npz` holds them for all tasks;
it is written by running that very loop on upstream's own environment:

    make libero-tables        # python -m suites.libero.fixtures --assets FOLDER, in the suite's interpreter
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np

from evalkit.episode import Episode
from suites.libero.suite import EPISODES_PER_TASK, MAX_STEPS

TABLE = Path(__file__).with_name("fixtures.npz")

#: The paper's script: `env.seed(7)` once a task.
REFERENCE_SEED = 7


@cache
def load_table() -> dict[str, np.ndarray]:
    """``suite/task`` -> (50, F, 7) float64 poses [x y z, quaternion wxyz] in the world frame, metres."""
    with np.load(TABLE) as table:
        return dict(table)


def apply(inner, episode: Episode) -> None:
    """Put the fixtures of upstream's environment `inner` where the reference script has them in `episode`."""
    poses = load_table()[f"{episode.suite}/{episode.task:02d}"][episode.index]
    names = list(inner.fixtures_dict)
    if len(poses) != len(names):
        raise RuntimeError(f"{episode.id}: fixtures.npz holds {len(poses)} fixtures, the task has {names}")
    for name, pose in zip(names, poses):
        body = inner.obj_body_id[name]
        inner.sim.model.body_pos[body], inner.sim.model.body_quat[body] = pose[:3], pose[3:]


def read(inner) -> np.ndarray:
    """(F, 7) poses of the fixtures of upstream's environment `inner`, in its own order."""
    model, bodies = inner.sim.model, [inner.obj_body_id[name] for name in inner.fixtures_dict]
    return np.concatenate([np.reshape(model.body_pos[bodies], (-1, 3)), np.reshape(model.body_quat[bodies], (-1, 4))],
                          axis=1)


def sequential_poses(suite: str, task: str, episodes: int = EPISODES_PER_TASK) -> np.ndarray:
    """(episodes, F, 7): the paper's loop over upstream's own environment, with upstream's own reset."""
    from suites.libero.env import make_upstream_env

    environment = make_upstream_env(suite, task, views=())
    if not environment.env.fixtures_dict:
        return np.zeros((episodes, 0, 7))
    environment.seed(REFERENCE_SEED)
    poses = []
    for _ in range(episodes):
        environment.reset()
        poses.append(read(environment.env))
    environment.close()
    return np.array(poses)


def _compute_task(suite: str, index: int, name: str, assets: Path) -> tuple[str, np.ndarray]:
    from evalkit.gl import select_gl
    from suites.libero import upstream

    select_gl("disable")
    upstream.import_upstream(assets, draws=False)
    return f"{suite}/{index:02d}", sequential_poses(suite, name)


def main() -> None:
    """Recompute tasks.csv and fixtures.npz (130 tasks x 50 hard resets: about 25 minutes on one core)."""
    import csv
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from tqdm import tqdm

    from suites.libero import upstream

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--assets", type=Path, required=True, help="LIBERO's real asset folder")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    rows = [(suite, index, name) for suite in MAX_STEPS for index, name in enumerate(upstream.task_names(suite))]
    with open(TABLE.with_name("tasks.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["suite", "index", "name", "instruction"])
        writer.writerows((*row, upstream.instruction(row[2])) for row in rows)

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        futures = [pool.submit(_compute_task, *row, arguments.assets) for row in rows]
        table: dict[str, np.ndarray] = {}
        for future in tqdm(as_completed(futures), total=len(rows), unit="task"):
            key, poses = future.result()
            table[key] = poses
            np.savez_compressed(TABLE, **dict(sorted(table.items())))


if __name__ == "__main__":
    main()
