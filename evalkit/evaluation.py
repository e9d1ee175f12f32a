"""One evaluation from config to records: the only place where plan, environments, assets, workers and run meet."""

from __future__ import annotations

import io
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evalkit import cluster
from evalkit.assets import Assets, resolve_assets
from evalkit.config import RunConfig, make_config
from evalkit.environments import Environment, ensure_environment, ray_version
from evalkit.episode import Episode
from evalkit.errors import InputError, Stopped
from evalkit.hosts import LARGEST_BATCH, PATIENCE, Caller, Replicas, Served
from evalkit.paths import PROJECT
from evalkit.plan import make_plan
from evalkit.policy import DRIVER, FunctionPolicy, Policy
from evalkit.records import ERROR, SUCCESS, Record, Run, fingerprint_hash, missing, write_atomically, writing
from evalkit.redaction import redacted_command
from evalkit.registry import absolute_options, absolute_policy, expand_suites, load_suite, make_policy
from evalkit.specs import check_policy_fits
from evalkit.suite import EnvOptions, Observation, ProcessNeeds
from evalkit.texts import plain
from evalkit.workers import Job, Result, WorkerPool

#: Workers a core that a run may grow to while cores idle.
WORKERS_A_CORE = 4


def evaluate(policy: Policy | Callable[[Observation], np.ndarray] | str, suite: str, name: str | None,
             settings: Mapping[str, Any]) -> Run:
    """See `evalkit.evaluate`."""
    if isinstance(policy, str):
        return measure(make_config({**settings, "suites": suite, "policy": policy}))
    if not isinstance(policy, Policy):
        executed = dict(settings.get("policy_options") or {}).get("executed_steps", 1)
        policy = FunctionPolicy(policy, load_suite(expand_suites(suite.split(","))[0]), executed)
    config = make_config({**settings, "suites": suite, "policy": name or policy.spec.name})
    if config.out is None:
        folder = config.default_folder()
        config = replace(config, out=str(folder.with_name(f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}")))
    return measure(config, policy)


def measure(config: RunConfig, policy: Policy | None = None) -> Run:
    """Measure what `config` asks for, continuing an earlier run of the same config in the same folder.

    policy: a loaded policy that acts in this process; None: the one that the config names.
    Raises InputError before any simulator starts when something does not fit, and Stopped when the run cannot go on: a
    full disk, no worker left. A KeyboardInterrupt passes through. Everything recorded until then is on the disk.
    """
    episodes = make_plan(config)
    if config.out:
        Run(Path(config.out)).refuse_other_config({**config.decisive(), **_recorded(config)})
    policies = check_policies(config, _left(episodes, config.out), policy)
    pythons = {name: _interpreter(name) for name in config.suites}
    assets = {name: resolve_assets(load_suite(name), config.assets, _tasks_of(episodes, name), pythons[name],
                                   config.scenes) for name in config.suites}
    config = replace(config, **_found(assets))
    run = Run(Path(config.out or config.default_folder()))
    run.refuse_other_config(config.decisive())

    waiting = _left(episodes, run.folder)
    if not waiting:
        print(f"notice: all {len(episodes)} planned episodes are already recorded in {run.folder}; pass another --out "
              "to measure again", file=sys.stderr)
        return run
    with closing(run):
        run.lock()
        waiting = _left(episodes, run.folder)  # what a driver that has just ended recorded meanwhile
        _measure_all(run, config, episodes, waiting, pythons, assets, policies, policy)
    return run


def _measure_all(run: Run, config: RunConfig, planned: Sequence[Episode], waiting: Sequence[Episode],
                 pythons: Mapping[str, Path | None], assets: Mapping[str, Assets | None],
                 policies: Mapping[str, Policy], policy: Policy | None) -> None:
    """Measure what is `waiting`, one interpreter after the other. Raises Stopped."""
    with _progress(run, planned, waiting) as bar, _nothing_lost():
        for python, suites in groupby(config.suites, key=pythons.get):
            names = list(suites)
            part = [episode for episode in waiting if episode.suite in names]
            if part:
                host = Caller(policy, *_caller_batching(config)) if policy else make_host(config, names, policies)
                if not _measure(run, config, planned, part, names, python, assets, policies, host, bar):
                    return


@contextmanager
def _nothing_lost() -> Iterator[None]:
    """Turn the death of a process that cannot be replaced into a Stopped."""
    try:
        yield
    except cluster.ProcessDied as error:
        raise Stopped(f"a process that the run needs has died: {error}\nWhat was recorded is kept; repeat the same "
                      "command") from error


def check_policies(config: RunConfig, episodes: Sequence[Episode], given: Policy | None = None) -> dict[str, Policy]:
    """A light policy for each suite of `config`, or the one that is given. Raises InputError unless it fits the suite
    and the plan."""
    policies = {name: given or make_policy(config.policy, load_suite(name), dict(config.policy_options))
                for name in config.suites}
    for name, policy in policies.items():
        check_policy_fits(policy.spec, load_suite(name))
        if policy.spec.privileged and (given or policy.interpreter):
            raise InputError(f"policy {policy.spec.name!r} reads the simulator itself, so it must act in the rollout "
                             "workers: pass it by name, without an interpreter of its own")
        policy.check_plan([episode for episode in episodes if episode.suite == name])
    return policies


def make_host(config: RunConfig, suites: Sequence[str], policies: Mapping[str, Policy]) -> Replicas | None:
    """Processes for a policy that does not act in the rollout workers; its environment is built first if need be."""
    policy = policies[suites[0]]
    if not policy.interpreter:
        return None
    python = None if policy.interpreter == DRIVER else ensure_environment(
        Environment(policy.interpreter, policy.requirements))
    if policy.spec.stateful and (config.policy_replicas or 1) > 1:
        raise InputError(f"policy {policy.spec.name!r} keeps something between queries, so one replica must answer "
                         f"all of an episode's: got --policy-replicas {config.policy_replicas}; pass 1")
    served = Served(absolute_policy(config.policy), absolute_options(config.policy_options), {name: policies[name].spec
                                                                            for name in suites})
    return Replicas(served, python, 1 if policy.spec.stateful else config.policy_replicas, config.policy_gpus,
                    config.policy_batch, config.policy_wait, config.policy_timeout)


def _caller_batching(config: RunConfig) -> tuple[int, float]:
    """Batch size and patience for a policy of the caller's own process."""
    wait = config.policy_wait
    return config.policy_batch or LARGEST_BATCH, PATIENCE if wait is None else wait


def _measure(run: Run, config: RunConfig, planned: Sequence[Episode], episodes: Sequence[Episode], suites: list[str],
             python: Path | None, assets: Mapping[str, Assets | None], policies: Mapping[str, Policy],
             host: Replicas | Caller | None, bar: tqdm) -> bool:
    """Roll out `episodes` of `suites`, which share an interpreter and assets, and record them; whether to go on.

    Ends early, with a notice, after `config.max_errors` episodes in a row that ended in an error, and when the policy's
    server is gone.
    """
    job = make_job(config, suites, assets, policies)
    needs = load_suite(suites[0]).scenes[job.env_options.scenes]
    pool = WorkerPool(job, suites, *pool_size(config, len(episodes)), python, _worn_after(needs, config),
                      config.ray_address, config.retries, config.timeout, host, config.stall)
    with pool:
        fingerprints = {name: make_fingerprint(config, name, assets[name], pool.described[name],
                                               sees=bool(policies[name].spec.views)) for name in suites}
        described = host.described if host else policies[suites[0]].describe()
        run.open(describe_run(config, planned, fingerprints, described))
        errors = 0
        for result in pool.run(episodes):
            save(run, result, fingerprints[result.episode.suite]["hash"])
            show(bar, result.record)
            errors = errors + 1 if result.record.outcome == ERROR else 0
            if result.gone:
                bar.write("stopped: the policy's server is gone. Start it again and repeat the same command: what was "
                          "measured is kept", file=sys.stderr)
                return False
            if 0 < config.max_errors <= errors:
                bar.write(f"stopped: {errors} episodes in a row ended in errors. Mend the cause and repeat the same "
                          "command: what was measured is kept (--max-errors changes the limit)", file=sys.stderr)
                return False
    return True


def _worn_after(needs: ProcessNeeds, config: RunConfig) -> ProcessNeeds:
    """`needs` of a worker, with what the user chose for when it is replaced."""
    return replace(needs, resets=needs.resets if config.worker_episodes is None else config.worker_episodes,
                   most_gb=config.worker_memory or needs.most_gb)


def pool_size(config: RunConfig, episodes: int) -> tuple[int, int]:
    """(workers at first, workers at most): as asked for, or one a core, and on this machine more while cores idle."""
    if config.workers:
        size = min(config.workers, episodes)
        return size, size
    cores = cluster.cores(config.ray_address)
    return min(cores, episodes), min(cores * (1 if config.ray_address else WORKERS_A_CORE), episodes)


def make_job(config: RunConfig, suites: Sequence[str], assets: Mapping[str, Assets | None],
             policies: Mapping[str, Policy]) -> Job:
    """What the workers of `suites` need; views are rendered only if the policy or a video looks at them."""
    suite, spec, found = load_suite(suites[0]), policies[suites[0]].spec, assets[suites[0]]
    filmed = (config.video_camera or tuple(suite.views)) if config.video != "none" else ()
    options = EnvOptions(views=tuple(dict.fromkeys([*spec.views, *filmed])), seed_policy=config.seed_policy,
                         scenes=found.scenes if found else "upstream", assets=found.folder if found else None)
    return Job(absolute_policy(config.policy), absolute_options(config.policy_options), options, config.video, filmed,
               config.episodes[0], config.record_actions, config.full_horizon,
               {name: policies[name].spec for name in suites})


def make_fingerprint(config: RunConfig, suite: str, assets: Assets | None, described: Mapping[str, str],
                     sees: bool) -> dict[str, Any]:
    """All that decides a result of `suite` apart from the policy, and its hash. `sees`: the policy uses views."""
    parts: dict[str, Any] = {**load_suite(suite).protocol(), **described, "seed_policy": config.seed_policy,
                             "seed": config.seed, "full_horizon": config.full_horizon}
    if not sees:
        parts.pop("renderer", None)  # a policy that sees nothing cannot depend on what draws
    if assets is not None:
        parts |= {"asset_kind": assets.kind, "asset_digest": assets.digest}
    return {"hash": fingerprint_hash(parts), "parts": parts}


def describe_run(config: RunConfig, episodes: Sequence[Episode], fingerprints: Mapping[str, Any],
                 policy: Mapping[str, Any]) -> dict[str, Any]:
    """The content of run.json. policy: what was loaded."""
    settings = {key: value for key, value in asdict(config).items() if key not in config.decisive()}
    return {
        "config": config.decisive(), "settings": settings, "planned": [episode.id for episode in episodes],
        "fingerprints": dict(fingerprints), "policy": dict(policy),
        "command": shlex.join(["evalkit", *redacted_command(sys.argv[1:])]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version(), "ray": ray_version(), "numpy": np.__version__},
        "hardware": {"node": platform.node(), "cores": os.cpu_count(), "machine": platform.platform()},
        "git": _git_revision(),
    }


def save(run: Run, result: Result, fingerprint: str) -> None:
    """Write the video and the actions, if any, then the record that names them: an episode whose video finds no room
    is measured again. Raises Stopped."""
    record = replace(result.record, fingerprint=fingerprint)
    with writing(run.folder):
        if result.video is not None:
            name = f"videos/{record.id.replace('/', '-')}-{record.outcome}.mp4"
            (run.folder / "videos").mkdir(exist_ok=True)
            write_atomically(run.folder / name, result.video)
            record = replace(record, video=name)
        if result.actions is not None:
            path, content = run.folder / "actions" / f"{record.id}.npy", io.BytesIO()
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(content, result.actions)
            write_atomically(path, content.getvalue())
    run.append(record)


def _progress(run: Run, episodes: Sequence[Episode], waiting: Sequence[Episode]) -> tqdm:
    bar = tqdm(total=len(episodes), initial=len(episodes) - len(waiting), unit="episode", dynamic_ncols=True,
               mininterval=0.5 if sys.stderr.isatty() else 10.0, smoothing=0.1, file=sys.stderr)
    outcomes = [record.outcome for record in run.records().values()]
    bar.successes, bar.measured = outcomes.count(SUCCESS), len(outcomes) - outcomes.count(ERROR)
    bar.errors = 0
    return bar


def show(bar: tqdm, record: Record) -> None:
    """One more finished episode: running success rate, errors so far, and the reason of an error."""
    if record.outcome == ERROR:
        bar.errors += 1
        reason = (record.traceback or "").strip().splitlines()[-1:] or ["unknown"]
        bar.write(f"error {record.id} after {record.attempt} attempts: {plain(reason[0])}", file=sys.stderr)
    else:
        bar.measured += 1
        bar.successes += record.outcome == SUCCESS
    rate = f"{100 * bar.successes / bar.measured:.0f}%" if bar.measured else "-"
    bar.set_postfix_str(f"success {bar.successes}/{bar.measured} = {rate}, errors {bar.errors}", refresh=False)
    bar.update()


def _interpreter(suite_name: str) -> Path | None:
    suite = load_suite(suite_name)
    return ensure_environment(Environment(suite.interpreter, suite.requirements)) if suite.interpreter else None


def _left(episodes: Sequence[Episode], folder: Path | str | None) -> list[Episode]:
    """Those of `episodes` that have no measurement in the run's folder yet."""
    todo = set(missing([episode.id for episode in episodes], Run(Path(folder)).records() if folder else {}))
    return [episode for episode in episodes if episode.id in todo]


def _tasks_of(episodes: Sequence[Episode], suite: str) -> list[int]:
    return sorted({episode.task for episode in episodes if episode.suite == suite})


def _found(assets: Mapping[str, Assets | None]) -> dict[str, str]:
    """Kinds and scenes that were found, which replace the choices in the config: `auto` is not a fact about a run."""
    found = [item for item in assets.values() if item is not None]
    return {"assets": ", ".join(dict.fromkeys(item.kind for item in found)) or "none",
            "scenes": ", ".join(dict.fromkeys(item.scenes for item in found)) or "upstream"}


def _recorded(config: RunConfig) -> dict[str, Any]:
    """Asset kind and scenes of the run in config.out, so that an early comparison is about the other keys only."""
    run = Run(Path(config.out))
    recorded = run.info.get("config", {}) if (run.folder / "run.json").exists() else config.decisive()
    return {key: recorded.get(key) for key in ("assets", "scenes")}


def _git_revision() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    return {"revision": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}


def planned_rows(episodes: Sequence[Episode]) -> Iterator[tuple[str, int, str, str, int]]:
    """(suite, task, instruction, episode range, steps at most) a task, for `evalkit plan`."""
    for (suite, task), group in groupby(episodes, key=lambda episode: (episode.suite, episode.task)):
        members = list(group)
        yield (suite, task, load_suite(suite).tasks[task].instruction,
               f"{members[0].index} to {members[-1].index}", sum(episode.max_steps for episode in members))
