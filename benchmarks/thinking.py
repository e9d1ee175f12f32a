"""A policy that takes its time, as one on a GPU does: for measuring whether simulators go on meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from evalkit.policy import DRIVER, Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite


class Thinking(Policy):
    """Answers any batch after `seconds`, holding still; acts in a replica. Sizes of its batches go to `log`."""

    interpreter = DRIVER

    def __init__(self, suite: Suite, seconds: float, log: str, chunk: int = 8):
        self.spec = PolicySpec("thinking", views=tuple(suite.views), state=tuple(suite.state), chunk_length=chunk,
                               executed_steps=chunk)
        self.suite, self.seconds, self.log = suite, seconds, Path(log)

    def act(self, observations):
        with open(self.log, "a") as file:
            print(len(observations), file=file)
        time.sleep(self.seconds)
        return [np.tile(self.suite.hold(item), (self.spec.chunk_length, 1)) for item in observations]
