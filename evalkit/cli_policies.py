"""The commands for policies by themselves: serve, check the contract, measure the speed. No simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from evalkit import registry
from evalkit.environments import ensure_environment, policy_environment, process_variables
from evalkit.errors import InputError
from evalkit.parsing import ParseError, parse_yaml
from evalkit.specs import check_policy_fits

Policy = Annotated[str, typer.Argument(metavar="POLICY", help="A policy's name, or path/to/file.py:Class.")]
Suite = Annotated[str, typer.Option("--suite", "-s", help="The suite it acts in; see `evalkit list suites`.")]
Checkpoint = Annotated[str, typer.Option(help="Short for --policy-option checkpoint=PATH.")]
Options = Annotated[list[str], typer.Option("--policy-option", "-o", metavar="KEY=VALUE",
                                            help="Option of the policy; may be repeated.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, command in (("serve", serve), ("check-policy", check_policy), ("latency", latency)):
        app.command(name)(command)


def serve(policy: Policy, suite: Suite, checkpoint: Checkpoint = None, policy_option: Options = None,
          host: Annotated[str, typer.Option(help="Address to bind to; 0.0.0.0 for all, which needs an API "
                                                 "key.")] = "127.0.0.1",
          port: Annotated[int, typer.Option(help="0: any free one.")] = 8000,
          api_key_file: Annotated[Path, typer.Option(help="File that holds the key which clients must send. Default: "
                                                          "EVALKIT_API_KEY, if set.")] = None,
          no_key: Annotated[bool, typer.Option("--no-key", help="Serve beyond this machine without a key.")] = False,
          max_batch: Annotated[int, typer.Option(help="Observations in a batch at most.")] = 16,
          max_wait: Annotated[float, typer.Option(help="Milliseconds that the first of a batch waits for "
                                                       "others.")] = 5.0,
          max_message: Annotated[float, typer.Option(help="Largest request, MB.")] = 64.0) -> None:
    """Serve a policy over a websocket, with batches across clients: evalkit's own protocol, openpi's for LIBERO and,
    for DiT4DiT, its own. GET /healthz says OK once it is loaded. SIGTERM stops it.

    Example:  evalkit serve dit4dit --suite robocasa_gr1 --checkpoint DIR --port 8000
    """
    from evalkit.serving import ServeConfig, check_servable

    chosen = _chosen(policy, suite, checkpoint, policy_option)
    config = {**chosen, "host": host, "port": port, "key_file": str(api_key_file) if api_key_file else None,
              "no_key": no_key, "most": max_batch, "wait": max_wait / 1000, "max_message": int(max_message * 2**20)}
    ServeConfig(**config).check()
    check_servable(policy, _light_policy(chosen), registry.load_suite(suite))
    python = _interpreter(policy)
    os.execve(python, [str(python), "-m", "evalkit.serving", json.dumps(config)], process_variables())


def check_policy(policy: Policy, suite: Suite, checkpoint: Checkpoint = None, policy_option: Options = None,
                 tolerance: Annotated[float, typer.Option(help="Largest difference of two answers to one observation "
                                                               "that counts as none; bfloat16 on a GPU: "
                                                               "1e-2.")] = 1e-4) -> None:
    """Check a policy against the contract, with random observations: instructions, seeds, shapes, NaN, batches, a light
    constructor. One line a rule; status 1 if one is broken.

    Example:  evalkit check-policy examples/my_policy.py:MyPolicy --suite toy
    """
    from evalkit import testing

    chosen = _chosen(policy, suite, checkpoint, policy_option)
    light = testing.report_rule("its module and constructor are light, its options picklable", lambda:
                                testing.check_constructor(policy, suite, chosen["options"]))
    built = _light_policy(chosen)
    check_policy_fits(built.spec, registry.load_suite(suite))
    if built.spec.privileged:
        raise InputError(f"policy {policy!r} reads the simulator itself: it can only be tried by running it "
                         f"(evalkit run -s {suite} -p {policy} --episodes 1)")
    status = _run(policy, "evalkit.testing", {**chosen, "tolerance": tolerance})
    raise typer.Exit(status or (0 if light else 1))


def latency(policy: Policy, suite: Suite, checkpoint: Checkpoint = None, policy_option: Options = None,
            calls: Annotated[int, typer.Option(help="Single queries measured.")] = 100,
            max_batch: Annotated[int, typer.Option(help="Largest batch of the throughput curve: 1, 2, 4 ...")] = 32,
            seconds: Annotated[float, typer.Option(help="Time for all measurements together, about.")] = 300.0,
            method: Annotated[str, typer.Option(help="Name in the paper's table. Default: the policy's.")] = None,
            out: Annotated[Path, typer.Option(help="Folder for the JSON, markdown and SVG files.")] =
            Path("results/benchmarks")) -> None:
    """Measure a policy as the paper's efficiency table does: one observation at a time, warm. Parameters, Hz,
    milliseconds by stage, observations a second against batch size. `evalkit tables --latency FILE.json` prints it
    beside the published figures.

    Example:  evalkit latency dit4dit --suite robocasa_gr1 --checkpoint DIR
    """
    from evalkit import latency as measuring
    from evalkit import latency_report

    chosen = _chosen(policy, suite, checkpoint, policy_option)
    check_policy_fits(_light_policy(chosen).spec, registry.load_suite(suite))
    own = getattr(registry.policy_class(policy), "__name__", policy.rpartition(":")[2])
    with tempfile.TemporaryDirectory(prefix="evalkit-latency-") as folder:
        file = Path(folder, "latency.json")
        settings = {**chosen, "name": policy, "method": method or own, "calls": calls, "max_batch": max_batch,
                    "seconds": seconds, "file": str(file)}
        measuring.Settings(**settings).check()
        latency_report.make_folder(out)
        status = _run(policy, "evalkit.latency", settings)
        if status == 0:
            print(latency_report.write(measuring.read(file), out), end="")
    raise typer.Exit(status)


def _chosen(policy: str, suite: str, checkpoint: str | None, pairs: list[str] | None) -> dict[str, Any]:
    """What all three commands hand on, as JSON types."""
    return {"policy": registry.absolute_policy(policy), "suite": registry.load_suite(suite).name,
            "options": options_of(pairs, checkpoint)}


def options_of(pairs: list[str] | None, checkpoint: str | None) -> dict[str, Any]:
    """A policy's options from ``key=value`` pairs; values are read as YAML scalars, so that numbers are numbers."""
    options = {} if checkpoint is None else {"checkpoint": checkpoint}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"--policy-option takes KEY=VALUE, got {pair!r}")
        try:
            options[key] = parse_yaml(value)
        except ParseError as error:
            raise InputError(f"--policy-option {key} has a value that cannot be read: {error}. Put text into quotes: "
                             f"-o '{key}=\"...\"'") from error
    return options


def _light_policy(chosen: dict[str, Any]):
    return registry.make_policy(chosen["policy"], registry.load_suite(chosen["suite"]), dict(chosen["options"]))


def _interpreter(policy: str) -> Path:
    """The Python that `policy` acts in; its environment is built first if need be."""
    environment = policy_environment(policy)
    return ensure_environment(environment) if environment else Path(sys.executable)


def _run(policy: str, module: str, settings: dict[str, Any]) -> int:
    """Run ``python -m module SETTINGS`` in the policy's interpreter and wait; its exit status."""
    sys.stdout.flush()
    command = [str(_interpreter(policy)), "-m", module, json.dumps(settings)]
    return subprocess.run(command, env=process_variables(), check=False).returncode
