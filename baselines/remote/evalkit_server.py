"""evalkit's own server (`evalkit serve`): any policy, any suite, with a seed in every request."""

from __future__ import annotations

from typing import Any

from baselines.remote.client import Contract, WebsocketClient
from evalkit import wire
from evalkit.errors import InputError


class EvalkitServer(WebsocketClient):
    """Metadata says views, state, chunk and actions; they are compared with the suite before anything starts."""

    family = wire.EVALKIT
    title = "evalkit"
    start = "evalkit serve <policy> --suite <suite>"
    seeded = True
    unused = ("checkpoint", "unnorm_key", "views", "send_state", "chunk_length")

    def make_contract(self):
        self._number = 0
        return Contract(tuple(self.suite.views), tuple(self.suite.state), None, 1)

    def understand(self, greeting: dict[str, Any]) -> dict[str, Any]:
        """The server's Metadata. Raises InputError naming every difference from the suite."""
        self._number = 0
        served = wire.Metadata.read(greeting)
        suite = self.suite
        offered = {**{f"view {name}": tuple(shape) for name, shape in suite.views.items()},
                   **{f"state group {name}": size for name, size in suite.state.items()}}
        needed = {**{f"view {name}": tuple(shape) for name, shape in served.views.items()},
                  **{f"state group {name}": size for name, size in served.state.items()}}
        wrong = [f"it reads {name} of size {size}; the suite has {offered.get(name, 'none')}"
                 for name, size in needed.items() if offered.get(name) != size]
        if list(served.groups.items()) != list(suite.action.groups.items()):
            wrong.append(f"its action groups are {dict(served.groups)}; the suite takes {dict(suite.action.groups)}")
        if served.meaning != suite.action.meaning:
            wrong.append(f"its actions are {served.meaning!r}; the suite takes {suite.action.meaning!r}")
        if wrong:
            raise InputError(f"{self} serves {served.policy!r} for suite {served.suite!r}, which does not match suite "
                             f"{suite.name!r}:\n  - " + "\n  - ".join(wrong))
        self.contract = Contract(tuple(served.views), tuple(served.state), served.chunk_length, served.executed_steps,
                                 served.stateful, at_most=True)
        return greeting

    def infer(self, observations):
        chunks = []
        for observation in observations:
            self._number += 1
            request = wire.Request(
                id=self._number, views={name: observation.views[name] for name in self.contract.views},
                state={name: observation.state[name] for name in self.contract.state},
                prompt=observation.instruction, episode=observation.episode.id, step=observation.step,
                seed=observation.query_seed)
            chunks.append(wire.read_reply(self.exchange(request.message()), self._number))
        return chunks
