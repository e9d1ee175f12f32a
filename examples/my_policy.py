"""A policy of your own: evalkit run --suite toy --policy examples/my_policy.py:MyPolicy --episodes 5

First `evalkit check-policy examples/my_policy.py:MyPolicy --suite toy`. Options are the constructor's arguments:
`-o speed=0.5`. Weights belong into `load`; pictures are in `observation.views`, words in `observation.instruction`.
"""

import numpy as np

from evalkit import Policy, PolicySpec


class MyPolicy(Policy):
    """Goes straight to the goal."""

    def __init__(self, suite, speed: float = 1.0):
        self.speed = speed
        self.spec = PolicySpec("mine", state=("pos", "goal"), action_meaning=suite.action.meaning,
                               chunk_length=4, executed_steps=4)

    def act(self, observations):
        return [self.chunk(observation.state) for observation in observations]

    def chunk(self, state):
        way = state["goal"] - state["pos"]
        return np.tile(self.speed * way / max(np.linalg.norm(way), 1e-6), (4, 1)).astype(np.float32)
