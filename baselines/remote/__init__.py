"""Remote: a policy behind a server: DiT4DiT, starVLA, openpi, GR00T N1.5 and N1.6, vla-eval, evalkit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from baselines.remote.client import Client, Options
from baselines.remote.describe import describe
from baselines.remote.detect import FAMILIES, detect, schemes
from baselines.remote.transports import Address, RemoteError
from evalkit.episode import Episode
from evalkit.errors import InputError, unknown
from evalkit.policy import Policy
from evalkit.specs import PolicySpec, check_policy_fits
from evalkit.suite import Observation, Suite
from evalkit.testing import fake_observation
from evalkit.wire import WireError

AUTO = "auto"

#: Environment variable that holds the server's key; `evalkit serve` reads the same.
KEY_VARIABLE = "EVALKIT_API_KEY"


class Remote(Policy):
    """One connection a rollout worker to a server that holds the model.

    url: ``ws://host:port``, ``tcp://host:port`` (ZMQ) or ``http://host:port``.
    protocol: the server's family; ``auto`` asks the server.
    executed_steps: actions executed of each reply; 0: as the family's own evaluation does.
    chunk_length: actions in a reply, where the server does not say; 0: not checked beyond executed_steps.
    checkpoint: run folder with config.yaml and dataset_statistics.json (DiT4DiT; old starVLA servers).
    unnorm_key, views, send_state: starVLA only: the statistics to use, the views to send, whether to send the state.
    api_key_variable: name of the environment variable that holds the server's key, if it wants one. The key itself is
    no option, because options are recorded.
    connect_timeout: seconds until the server accepts a connection and greets. timeout: for a reply. first_timeout: for
    the first reply of a connection (compilation, warm-up).
    patience: seconds that a run waits for a server that went away; its episodes begin anew when it is back. One that
    does not come back ends the run, which can be continued.

    What else goes wrong in a run raises and so becomes an `error` outcome; the next attempt has a new connection.
    """

    def __init__(self, suite: Suite, url: str = "", protocol: str = AUTO, executed_steps: int = 0,
                 chunk_length: int = 0, checkpoint: str = "", unnorm_key: str | None = None, views: str = "",
                 send_state: bool | None = None, api_key_variable: str = KEY_VARIABLE,
                 connect_timeout: float = 60.0, timeout: float = 120.0, first_timeout: float = 600.0,
                 patience: float = 600.0):
        if protocol not in (AUTO, *FAMILIES):
            raise unknown("protocol of policy 'remote'", protocol, (AUTO, *FAMILIES))
        _check_numbers(executed_steps=executed_steps, chunk_length=chunk_length)
        _check_seconds(connect_timeout=connect_timeout, timeout=timeout, first_timeout=first_timeout,
                       patience=patience)
        if send_state not in (None, True, False):
            raise InputError(f"option send_state of policy 'remote' is {send_state!r}; allowed: true, false")
        _check_texts(checkpoint=checkpoint, unnorm_key=unnorm_key or "", views=views, api_key_variable=api_key_variable)
        _check_url(url, protocol)
        key = os.environ.get(api_key_variable, "").strip() or None
        if key is not None and not (key.isprintable() and key.isascii()):
            raise InputError(f"the environment variable {api_key_variable} must hold one line of ASCII, the server's "
                             "key")
        if key is None and api_key_variable != KEY_VARIABLE:
            raise InputError("the environment variable that option api_key_variable of policy 'remote' names is not "
                             "set; it is the name of a variable that holds the key, never the key")
        self._suite = suite
        self._options = Options(
            Address(url, key, float(connect_timeout)), executed_steps or None, chunk_length or None,
            checkpoint, unnorm_key, tuple(name.strip() for name in views.split(",") if name.strip()),
            send_state, float(timeout), float(first_timeout), float(patience))
        self.patience = self._options.patient.address.connect_timeout + 2 * first_timeout  # some ask twice a query
        self._client = FAMILIES[protocol](suite, self._options) if protocol != AUTO else None
        self.spec = self._make_spec()
        self._holders: dict[str, Client] = {}

    def _make_spec(self) -> PolicySpec:
        """From the client's contract; before an unknown server is asked, whatever the suite has."""
        name, suite = "remote", self._suite
        if self._client is None:
            steps = self._options.executed_steps or 1
            return PolicySpec(name, tuple(suite.views), tuple(suite.state), suite.action.meaning,
                              max(steps, self._options.chunk_length or 1), steps)
        contract = self._client.contract
        length = contract.chunk_length or contract.executed_steps
        return PolicySpec(name, contract.views, contract.state, suite.action.meaning, length, contract.executed_steps,
                          stateful=contract.stateful)

    def load(self) -> None:
        """Connect, which settles what `spec` leaves open. From now on a server that is away is waited for."""
        self._options = self._options.patient
        if self._client is not None:
            self._client.options = self._options
        self._connect()

    def _connect(self) -> None:
        if self._client is None:
            self._client = FAMILIES[detect(self._options)](self._suite, self._options)
        self._client.open()
        self.spec = self._make_spec()

    def check_plan(self, episodes: Sequence[Episode]) -> None:
        """Connect, compare what the server says with the suite, and try one inference. Raises InputError."""
        if not episodes:
            return
        try:
            self._connect()
            check_policy_fits(self.spec, self._suite)
            self._client.check_trial(self.act([self._trial(episodes[0])])[0])
        except (RemoteError, WireError) as error:
            raise InputError(f"policy 'remote' cannot use {self._options.address}: {error}\n{self._next_move()}"
                             ) from error
        finally:
            if self._client is not None:
                self._client.close()

    def _trial(self, episode: Episode) -> Observation:
        """A random observation whose views already have the size the server gets: resizing is the workers' business,
        and the driver may lack OpenCV."""
        observation = fake_observation(self._suite, episode)
        size = self._client.view_size
        if size is None:
            return observation
        generator = episode.generator("views for a trial inference")
        views = {name: generator.integers(0, 256, (*size, 3), dtype=np.uint8) for name in observation.views}
        return replace(observation, views=views)

    def _next_move(self) -> str:
        started = f"{self._client.title} servers start with: {self._client.start}" if self._client else \
            "See baselines/remote/README.md for how each kind of server is started."
        return (f"{started}\nCheck options url and protocol; connect_timeout, first_timeout and timeout say how long "
                "to wait for it.")

    def reset(self, episode: Episode) -> None:
        """Nothing is kept here; a stateful server is told at step 0."""
        return None

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        if self._client.one_episode:
            chunks = [self._holder(observation, observations).ask([observation])[0] for observation in observations]
        else:
            chunks = self._client.ask(observations)
        self.spec = self._make_spec()  # the length of the first reply may have been news
        return chunks

    def _holder(self, observation: Observation, batch: Sequence[Observation]) -> Client:
        """The client whose connection holds the observation's episode; a new episode gets the connection of one that
        is not in the batch, so that episodes one after the other share a connection."""
        name = observation.episode.id
        if name not in self._holders:
            others = {item.episode.id for item in batch}
            over = next((held for held in self._holders if held not in others), None)
            if over is not None:
                client = self._holders.pop(over)
            else:
                client = type(self._client)(self._suite, self._options) if self._holders else self._client
            self._holders[name] = client
        return self._holders[name]

    def describe(self) -> dict[str, Any]:
        return describe(self._client, self.spec, self._options)


def _check_url(url: str, protocol: str) -> None:
    """Raise InputError unless a server of the family can be reached by such a URL."""
    families = FAMILIES.values() if protocol == AUTO else (FAMILIES[protocol],)
    allowed = sorted({scheme for family in families for scheme in schemes(family)})
    scheme, separator, rest = str(url).partition("://")
    if not separator or not rest or scheme not in allowed:
        raise InputError(f"option url of policy 'remote' is {url!r}; protocol {protocol!r} takes "
                         f"{' or '.join(f'{scheme}://host:port' for scheme in allowed)}:\n"
                         "  --policy remote --policy-option url=ws://localhost:8000")
    if "@" in rest.partition("/")[0]:
        raise InputError("option url of policy 'remote' holds a user name or password, and options are recorded; put "
                         f"the server's key into the environment variable {KEY_VARIABLE}")


def _check_texts(**options: Any) -> None:
    for name, value in options.items():
        if not isinstance(value, str):
            raise InputError(f"option {name} of policy 'remote' is {value!r}; allowed: a text")


def _check_numbers(**options: Any) -> None:
    for name, value in options.items():
        if type(value) is not int or value < 0:
            raise InputError(f"option {name} of policy 'remote' is {value!r}; allowed: a whole number, 0: the default")


def _check_seconds(**options: Any) -> None:
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise InputError(f"option {name} of policy 'remote' is {value!r}; allowed: seconds, more than 0")
