"""Noop: holds still. Must score 0; anything else is a fault of the harness."""

from __future__ import annotations

from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite


class Noop(Policy):
    """Sends the suite's hold action."""

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("noop", state=tuple(suite.state))
        self._suite = suite

    def act(self, observations):
        return [self._suite.hold(observation)[None] for observation in observations]
