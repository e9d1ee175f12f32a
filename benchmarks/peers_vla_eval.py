"""vla-eval as its users run it, without Docker, on the assets and with the dummy policy of `make bench-peers`.

    python -m benchmarks.peers_vla_eval run ASSETS ARGUMENTS...    vla-eval's own command line
    python -m benchmarks.peers_vla_eval serve ARGUMENTS...         a server built on vla-eval's own

Runs inside vla-eval's environment. `run` also prints a JSON object for every environment that LIBERO builds.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any


def run(assets: Path, arguments: list[str]) -> None:
    """vla-eval's command line with `arguments`, on LIBERO as evalkit's workers prepare it."""
    from evalkit.suite import EnvOptions
    from suites.libero.env import LiberoEnv

    options, begun = EnvOptions(views=("agentview", "wrist"), assets=assets), time.perf_counter()
    LiberoEnv.describe(options)
    probed = time.perf_counter() - begun  # evalkit's search for a renderer, which is not vla-eval's
    LiberoEnv.start_process(options)
    from libero.libero.envs.env_wrapper import ControlEnv
    from vla_eval.cli.main import main as command_line

    build = ControlEnv.__init__

    @functools.wraps(build)
    def timed(self, *given, **named) -> None:
        start, busy = time.perf_counter(), time.process_time()
        build(self, *given, **named)
        say({"build": time.perf_counter() - start, "busy before": busy, "busy after": time.process_time()})

    ControlEnv.__init__ = timed
    say({"ready": True, "probed": probed})
    sys.argv = ["vla-eval", *arguments]
    try:
        command_line()
    finally:
        say({"busy at the end": time.process_time()})


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def serve(arguments: list[str]) -> None:
    """A server that answers with the dummy's chunks; vla-eval's own classes hand them out step by step."""
    from vla_eval.model_servers.predict import PredictModelServer
    from vla_eval.model_servers.serve import run_server

    from benchmarks.peers_dummy import chunk

    class DummyServer(PredictModelServer):
        """Looks at nothing."""

        def __init__(self, chunk_size: int = 16):
            super().__init__(chunk_size=chunk_size)
            self._tasks = {}

        async def on_episode_start(self, config, ctx) -> None:
            self._tasks[ctx.session_id] = config["task"]
            await super().on_episode_start(config, ctx)

        def predict(self, obs, ctx):
            task = self._tasks[ctx.session_id]
            return {"actions": chunk(task["task_id"], task["episode_idx"], ctx.step, self.chunk_size)}

        def get_action_spec(self):
            return {}

        def get_observation_spec(self):
            return {}

    sys.argv = ["serve", *arguments]
    run_server(DummyServer)


def main() -> None:
    """See the module's docstring."""
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]), sys.argv[3:])
    else:
        serve(sys.argv[2:])


if __name__ == "__main__":
    main()
