"""During training: the policy stays in this process and on its device, simulator workers call it in batches.

    python examples/during_training.py                          # the toy suite: no simulator, half a minute
    python examples/during_training.py --suite libero_goal      # real simulators (evalkit env create libero)

Trains nothing: `gain` stands for the weights that a training step would change.
"""

from __future__ import annotations

import argparse

import numpy as np

import evalkit
from evalkit.registry import load_suite


class Learner(evalkit.Policy):
    """Goes toward the toy suite's goal with a gain that "training" changes; holds still on any other suite."""

    def __init__(self, suite: evalkit.Suite):
        self.spec = evalkit.PolicySpec("learner", state=tuple(suite.state), chunk_length=4, executed_steps=4)
        self.suite, self.gain = suite, 0.0

    def act(self, observations):
        return [np.tile(self.action(observation), (4, 1)) for observation in observations]

    def action(self, observation):
        if self.suite.name != "toy":
            return self.suite.hold(observation)
        return self.gain * (observation.state["goal"] - observation.state["pos"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", default="toy")
    parser.add_argument("--assets", default="auto", help="real, stand-in, auto or a folder")
    arguments = parser.parse_args()
    learner = Learner(load_suite(arguments.suite))
    for step in (1000, 2000):
        learner.gain += 0.5
        run = evalkit.evaluate(learner, arguments.suite, name=f"learner-{step}", tasks="0,1", episodes=2,
                               assets=arguments.assets)
        outcomes = evalkit.load(run)["outcome"]
        print(f"step {step}: {(outcomes == 'success').sum()}/{len(outcomes)} successes, records in {run.folder}")


if __name__ == "__main__":
    main()
