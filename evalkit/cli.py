"""The command line. Exit status: 0 all planned episodes measured, 1 some missing or in error, 2 wrong input,
130 interrupted (resumable)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evalkit import cli_policies, cli_results, environments, presets, registry
from evalkit import config as configs
from evalkit.errors import InputError, Stopped, unknown
from evalkit.records import Run
from evalkit.texts import plain, plain_lines

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
                  help="Tell the truth, fast, about how good a robot policy is in simulation.\n\n"
                       "Start with:  evalkit run --suite libero --policy scripted --episodes 2 --assets auto")
env_app = typer.Typer(no_args_is_help=True, help="The suites' Python environments: list, create, remove.")
app.add_typer(env_app, name="env")

Suite = Annotated[str, typer.Option("--suite", "-s", help="Suites or groups, comma-separated: libero_goal, libero.")]
PolicyName = Annotated[str, typer.Option("--policy", "-p", help="A policy's name, or your own: path/to/file.py:Class, "
                                                                "package.module:Class (or a function).")]
Options = Annotated[list[str], typer.Option("--policy-option", "-o", metavar="KEY=VALUE",
                                            help="Option of the policy; may be repeated.")]
Tasks = Annotated[str, typer.Option(help="Task indices: 0,3 or 0-4; or names. Default: all.")]
Episodes = Annotated[str, typer.Option(help="First N episodes of each task, or A:B. Default: all of the protocol.")]
SeedPolicy = Annotated[str, typer.Option(help="What a scene follows from: reference (the default of LIBERO and "
                                              "RoboCasa-GR1), per_episode or fixed.")]
Seed = Annotated[int, typer.Option(help="Base seed. Default: 7.")]
AssetsChoice = Annotated[str, typer.Option("--assets", help="real, stand-in, auto (real if they can be had), or a "
                                                            "folder. Default: real.")]
Scenes = Annotated[str, typer.Option(help="RoboCasa-GR1: upstream, builtin (runs anywhere, not comparable with "
                                          "published results) or auto (upstream if it can be had). Default: upstream.")]
FullHorizon = Annotated[bool, typer.Option("--full-horizon", help="Never end an episode at its success: measures "
                                                                  "`final` too.")]
VideoCamera = Annotated[str, typer.Option(help="Views in a video, comma-separated, e.g. scene (RoboCasa-GR1: seen "
                                               "from the side). Default: the views that policies get.")]
Video = Annotated[str, typer.Option(help="none, failures, all, or a number of episodes a task. Default: none.")]
Workers = Annotated[int, typer.Option(help="Simulator processes. Default: one a core, and more while cores wait for "
                                           "the policy.")]
Checkpoint = Annotated[str, typer.Option(help="Checkpoint of the policy, a folder or file: short for "
                                              "-o checkpoint=PATH.")]
Preset = Annotated[str, typer.Option(help="A paper's protocol, e.g. dit4dit-paper/libero; other flags win, with a "
                                          "notice. See `evalkit list presets`.")]
Out = Annotated[str, typer.Option(help="Run folder. Default: results/runs/<suite>-<policy>-<digest of the config>.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file with these flags as keys; flags win.")]


@app.command()
def run(suite: Suite = None, policy: PolicyName = None, checkpoint: Checkpoint = None, preset: Preset = None,
        policy_option: Options = None, tasks: Tasks = None,
        episodes: Episodes = None, seed_policy: SeedPolicy = None, seed: Seed = None, assets: AssetsChoice = None,
        scenes: Scenes = None, full_horizon: FullHorizon = None, video: Video = None,
        video_camera: VideoCamera = None,
        record_actions: Annotated[bool, typer.Option("--record-actions", help="Keep executed actions, for the "
                                                                              "replay policy.")] = None,
        workers: Workers = None,
        policy_replicas: Annotated[int, typer.Option(help="Processes of a native policy. Default: one a GPU, else "
                                                          "one.")] = None,
        policy_gpus: Annotated[float, typer.Option(help="GPUs of each replica, e.g. 0.5. Default: 1 if there are "
                                                        "any.")] = None,
        policy_batch: Annotated[int, typer.Option(help="Observations in a batch at most. Default: measured.")] = None,
        policy_wait: Annotated[float, typer.Option(help="Seconds that a batch waits to fill. Default: "
                                                        "measured.")] = None,
        policy_timeout: Annotated[float, typer.Option(help="Seconds after which a replica that keeps a batch is "
                                                           "replaced. Default: 600.")] = None,
        ray_address: Annotated[str, typer.Option(help="Ray cluster to use instead of this machine.")] = None,
        retries: Annotated[int, typer.Option(help="Further attempts after a crash. Default: 2.")] = None,
        timeout: Annotated[float, typer.Option(help="Seconds for one episode. Default: 1800.")] = None,
        stall: Annotated[float, typer.Option(help="Seconds without a step, reset or query after which a worker counts "
                                                  "as stuck and is replaced. Default: 300.")] = None,
        worker_episodes: Annotated[int, typer.Option(help="Replace a worker after so many episodes (0: never). "
                                                          "Default: as the suite needs.")] = None,
        worker_memory: Annotated[float, typer.Option(help="Replace a worker that holds so many GiB. Default: 1.5 times "
                                                          "what the suite says.")] = None,
        max_errors: Annotated[int, typer.Option(help="Stop after so many episodes in a row that end in errors (0: "
                                                     "never). Default: 10.")] = None,
        out: Out = None, config: ConfigFile = None) -> None:
    """Evaluate a policy: roll out, record, print the table. The same command again continues the run.

    Examples:  evalkit run -s libero_goal -p scripted --episodes 5 --video failures

    evalkit run --preset dit4dit-paper/libero --checkpoint DIR
    """
    from evalkit.evaluation import measure

    resolved = _resolve(config, preset, suites=suite, policy=policy, tasks=tasks,
                        policy_options=cli_policies.options_of(policy_option, checkpoint) or None, episodes=episodes,
                        seed_policy=seed_policy, seed=seed, assets=assets, scenes=scenes, full_horizon=full_horizon,
                        video=video, video_camera=video_camera, record_actions=record_actions, workers=workers,
                        policy_replicas=policy_replicas, policy_gpus=policy_gpus, policy_batch=policy_batch,
                        policy_wait=policy_wait, policy_timeout=policy_timeout, ray_address=ray_address,
                        retries=retries, timeout=timeout, stall=stall, worker_episodes=worker_episodes,
                        worker_memory=worker_memory, max_errors=max_errors, out=out)
    try:
        finished = measure(resolved)
    except KeyboardInterrupt:
        print("\ninterrupted: every finished episode is recorded. Repeat the same command to continue.",
              file=sys.stderr)
        raise typer.Exit(130) from None
    from evalkit import tables  # late: pandas and scipy take seconds, wrong input should not wait for them

    print(tables.render(finished, "terminal"))
    if preset:
        print(_beside_published(finished, preset))
    print(f"run folder: {finished.folder}")
    raise typer.Exit(cli_results.status(finished))


@app.command()
def plan(suite: Suite = None, policy: PolicyName = None, checkpoint: Checkpoint = None, preset: Preset = None,
         policy_option: Options = None, tasks: Tasks = None,
         episodes: Episodes = None, seed_policy: SeedPolicy = None, seed: Seed = None, assets: AssetsChoice = None,
         scenes: Scenes = None, full_horizon: FullHorizon = None, video: Video = None,
         video_camera: VideoCamera = None, workers: Workers = None, out: Out = None, config: ConfigFile = None) -> None:
    """Print what `run` with the same flags would do. Writes nothing, starts nothing."""
    from rich.console import Console
    from rich.table import Table

    from evalkit.evaluation import check_policies, planned_rows
    from evalkit.plan import make_plan, planned_steps

    resolved = _resolve(config, preset, suites=suite, policy=policy, tasks=tasks,
                        policy_options=cli_policies.options_of(policy_option, checkpoint) or None, episodes=episodes,
                        seed_policy=seed_policy, seed=seed, assets=assets, scenes=scenes, full_horizon=full_horizon,
                        video=video, video_camera=video_camera, workers=workers, out=out)
    planned = make_plan(resolved)
    check_policies(resolved, planned)
    grid = Table("suite", "task", "instruction", "episodes", "steps at most",
                 title=f"policy {resolved.policy}, seed policy {resolved.seed_policy}, "
                       f"{resolved.workers or f'{os.cpu_count()} or more'} workers")
    for row in planned_rows(planned):
        grid.add_row(*map(str, row))
    Console().print(grid)
    print(f"{len(planned)} episodes, at most {planned_steps(planned)} control steps; first {planned[0].id}, "
          f"last {planned[-1].id}")


cli_policies.add_to(app)
cli_results.add_to(app)


@app.command("list")
def list_(what: Annotated[str, typer.Argument(help="suites, policies, tasks or presets.")],
          suite: Annotated[str, typer.Option("--suite", "-s", help="For tasks: of which suites.")] = "libero") -> None:
    """List suites, policies, presets, or the tasks of a suite."""
    listings = {"suites": _list_suites, "policies": _list_policies, "tasks": lambda: _list_tasks(suite),
                "presets": _list_presets}
    if what not in listings:
        raise unknown("listing", what, listings)
    listings[what]()


def _list_suites() -> None:
    for name in registry.suite_names():
        suite = registry.load_suite(name)
        print(f"{name:16} {len(suite.tasks):3} tasks x {suite.episodes_per_task} episodes, {suite.max_steps} steps, "
              f"views {', '.join(suite.all_views)}; scenes {', '.join(suite.scenes)}; "
              f"seed policies {', '.join(suite.seed_policies)}")
    for name, members in registry.suite_groups().items():
        print(f"{name:16} group: {', '.join(members)}")


def _list_policies() -> None:
    for name in registry.policy_names():
        print(f"{name:12} {registry.policy_summary(name)}")


def _list_presets() -> None:
    for preset in presets.PRESETS.values():
        print(f"{preset.name:28} {preset.summary}")


def _list_tasks(names: str) -> None:
    for name in registry.expand_suites(names.split(",")):
        for task in registry.load_suite(name).tasks:
            print(f"{name}/{task.index:02d}  {task.short + '  ' if task.short else ''}{task.instruction}")


@env_app.command("list")
def env_list() -> None:
    """Environments that the suites need, and whether they are built."""
    for name in environments.environment_names():
        environment = environments.find_environment(name)
        print(f"{name:12} {'ready    ' if environment.ready else 'not built'} {environment.folder}")


@env_app.command("create")
def env_create(name: Annotated[str, typer.Argument(help="See `evalkit env list`.")]) -> None:
    """Build an environment if it is not built yet, and print its interpreter."""
    print(environments.ensure_environment(environments.find_environment(name)))


@env_app.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def env_run(name: Annotated[str, typer.Argument(help="See `evalkit env list`.")],
            arguments: Annotated[list[str], typer.Argument(help="Arguments of its Python: script.py, -m module.")],
            ) -> None:
    """Run an environment's Python (built first if need be) with the variables that rollout workers have."""
    python = environments.ensure_environment(environments.find_environment(name))
    os.execve(python, [str(python), *arguments], {**os.environ, **environments.PROCESS_VARIABLES})


@env_app.command("remove")
def env_remove(name: Annotated[str, typer.Argument(help="See `evalkit env list`.")]) -> None:
    """Delete an environment; it is built again when it is needed."""
    environment = environments.find_environment(name)
    removed = environments.remove_environment(environment)
    print(f"removed {environment.folder}" if removed else f"{name} was not built")


@app.command()
def assets(suite: Annotated[str, typer.Argument(help="Suites or groups, comma-separated.")],
           choice: Annotated[str, typer.Option("--assets", help="real, stand-in, auto or a folder.")] = "real",
           scenes: Annotated[str, typer.Option(help="RoboCasa-GR1: upstream, builtin or auto.")] = "upstream") -> None:
    """Find, download or generate a suite's assets; print their kind, folder and digest.

    Example:  evalkit assets robocasa_gr1 --assets stand-in
    """
    from evalkit.assets import resolve_assets

    for name in registry.expand_suites(suite.split(",")):
        loaded = registry.load_suite(name)
        python = environments.ensure_environment(environments.find_environment(loaded.interpreter)) \
            if loaded.interpreter else None
        found = resolve_assets(loaded, choice, [], python, scenes)
        print(f"{name}: {found.kind} assets in {found.folder} (digest {found.digest})" if found
              else f"{name}: needs no assets")


@app.command()
def doctor(suite: Annotated[str, typer.Option("--suite", "-s", help="Suites or groups to check. Default: all that have "
                                                                    "an environment of their own.")] = None,
           policy: Annotated[str, typer.Option("--policy", "-p", help="Load this policy where a run would, or connect "
                                               "to its server, and ask it about a suite of each kind.")] = None,
           checkpoint: Checkpoint = None, policy_option: Options = None,
           workers: Annotated[int, typer.Option(min=1, help="Whether so many fit. Default: one a core.")] = None,
           ray_address: Annotated[str, typer.Option(help="Ray cluster to check instead of this machine's own.")] = None,
           out: Annotated[Path, typer.Option(help="Where results go, for disk space.")] = Path("results/runs"),
           fix: Annotated[bool, typer.Option("--fix", help="Install the OpenGL library if it is missing and we "
                                                           "may.")] = False,
           quick: Annotated[bool, typer.Option("--quick", help="Environments and OpenGL only: seconds.")] = False
           ) -> None:
    """Check this machine before a run, in half a minute: OpenGL and which GPU draws, pinned versions, a first scene and
    frame whose hashes are known, the settling that newer MuJoCo breaks, assets, Ray, memory, disk.

    Each line says what was found and, where something is to be done, the next move. Nothing is downloaded or built.
    Status 0: no problem; 1: at least one.

    Examples:  evalkit doctor --suite libero --workers 16

    evalkit doctor -s libero_goal -p remote -o url=ws://HOST:8000     (connects, sends one observation, checks shapes)

    evalkit doctor -s robocasa_gr1 -p dit4dit --checkpoint DIR -o base_model=COSMOS_DIR
    """
    from evalkit.doctor import examination
    from evalkit.doctor.findings import PROBLEM, print_table

    names = registry.expand_suites(suite.split(",")) if suite else [
        name for name in registry.suite_names() if registry.load_suite(name).interpreter]
    if policy and not suite:
        raise InputError("which suite is the policy for? Pass --suite NAME (see `evalkit list suites`)")
    question = examination.Question(names, policy, cli_policies.options_of(policy_option, checkpoint), workers,
                                  ray_address, out, quick)
    findings = examination.examine(question, fix)
    print_table(findings)
    raise typer.Exit(1 if any(finding.level == PROBLEM for finding in findings) else 0)


def _resolve(config_file: Path | None, preset: str | None, **flags: Any) -> configs.RunConfig:
    values = configs.load_yaml(config_file) if config_file else {}
    values |= {key: value for key, value in flags.items() if value is not None}
    if preset:
        values = presets.with_preset(preset, values)
    return configs.make_config(values)


def _beside_published(finished: Run, preset: str) -> str:
    """The paper's table with the run in it, held against the preset's published result."""
    from evalkit import grid, paper

    found = presets.find_preset(preset)
    tables = paper.tables([finished], references=paper.find_references([found.reference]))
    return grid.render(tables[found.benchmark], "terminal")


def _interrupt(*_: object) -> None:
    """What Ctrl-C does; also where SIGINT is ignored, as in a job that a shell has put into the background."""
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: wrong input ends with its message alone and status 2, a run that cannot go on with status 1."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.path.insert(0, os.getcwd())  # the user's own policies; `python -m` does it, the installed script does not
    try:
        app()
    except InputError as error:
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        sys.exit(2)
    except Stopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(1)
    except PermissionError as error:
        print(f"error: no permission for {plain(str(error.filename))}; pass another --out, or change the folder's "
              "permissions", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
