"""The Policy contract as checks: every kind of broken policy is caught, by the rule that it breaks."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.specs import PolicySpec
from evalkit.suite import Suite
from evalkit.testing import check_constructor, check_policy
from tests.helpers import evalkit

TOY, GR1 = load_suite("toy"), load_suite("robocasa_gr1")


class Good(Policy):
    """Pictures, state, words and noise of each observation, in chunks of four."""

    def __init__(self, suite: Suite, scale: float = 1.0):
        self.spec = PolicySpec("good", views=tuple(suite.views), state=tuple(suite.state), chunk_length=4,
                               executed_steps=2)
        self.suite, self.scale = suite, scale

    def act(self, observations):
        return [self.chunk(observation) for observation in observations]

    def chunk(self, observation):
        seen = [float(view.mean()) for view in observation.views.values()]
        seen += [float(group.sum()) for group in observation.state.values()]
        words = sum(map(ord, observation.instruction)) / 1000
        noise = observation.generator("noise").normal(size=(4, self.suite.action.size))
        return self.scale * (noise + sum(seen) + words)


class OneInstruction(Good):
    """The fault of released harnesses: everybody gets the first one's words."""

    def act(self, observations):
        from dataclasses import replace

        return [self.chunk(replace(one, instruction=observations[0].instruction)) for one in observations]


class NearlyOneInstruction(OneInstruction):
    """The same, with words that move the action less than any tolerance would see."""

    def __init__(self, suite: Suite):
        super().__init__(suite, scale=1e-6)


class OtherOrder(Good):
    """Answers in another order than asked."""

    def act(self, observations):
        return super().act(observations)[::-1]


class MixesTheBatch(Good):
    """Normalises over the batch."""

    def act(self, observations):
        chunks = super().act(observations)
        return [chunk - np.mean(chunks) for chunk in chunks]


class NextDraw(Good):
    """A random stream of its own."""

    def __init__(self, suite: Suite):
        super().__init__(suite)
        self.random = np.random.default_rng(0)

    def act(self, observations):
        return [chunk + self.random.normal() for chunk in super().act(observations)]


class GlobalDraw(Good):
    """Numpy's global stream."""

    def act(self, observations):
        return [chunk + np.random.normal() for chunk in super().act(observations)]


class EpisodeSeed(Good):
    """Draws from the episode's seed, which no request carries."""

    def chunk(self, observation):
        return observation.episode.generator(f"step {observation.step}").normal(size=(4, self.suite.action.size))


class NotANumber(Good):
    def chunk(self, observation):
        return super().chunk(observation) * np.nan


class Words(Good):
    def chunk(self, observation):
        return super().chunk(observation).astype(str)


class Flat(Good):
    def chunk(self, observation):
        return super().chunk(observation)[0]


class TooWide(Good):
    def chunk(self, observation):
        return np.hstack([super().chunk(observation)] * 2)


class TooShort(Good):
    def chunk(self, observation):
        return super().chunk(observation)[:1]


class TooLong(Good):
    def chunk(self, observation):
        return np.vstack([super().chunk(observation)] * 2)


class DropsOne(Good):
    def act(self, observations):
        return super().act(observations)[:-1] if len(observations) > 1 else super().act(observations)


class FailsLater(Good):
    """Knows first queries only."""

    def chunk(self, observation):
        assert observation.step == 0, "only step 0 is implemented"
        return super().chunk(observation)


class EditsThePicture(Good):
    """Writes into the observation."""

    def chunk(self, observation):
        chunk = super().chunk(observation)
        for view in observation.views.values():
            if view.flags.writeable:
                view[0, 0] += 1
        return chunk


class EditsTheState(Good):
    """Would write, and fails where it cannot."""

    def chunk(self, observation):
        chunk = super().chunk(observation)
        for group in observation.state.values():
            group *= 1.0
        return chunk


class Unspeakable(Good):
    """Describes itself by something that no JSON file holds."""

    def describe(self):
        return {"weights": np.zeros(3)}


FAULTS = {
    OneInstruction: r"variant 1' was answered as if it were 'go to the near goal'",
    NearlyOneInstruction: r"variant 1' was answered as if it were 'go to the near goal'",
    OtherOrder: r"in a batch", MixesTheBatch: r"alone and in a batch",
    NextDraw: "the same observations twice", GlobalDraw: "the same observations twice",
    EpisodeSeed: "equal query seeds in episodes of different seeds", NotANumber: "NaN or infinity",
    Words: "expected real numbers", Flat: r"shape \(2,\), expected \(T, 2\)", TooWide: r"shape \(4, 4\)",
    TooShort: "a chunk has 1 actions, the spec declares 2 executed of 4", TooLong: "a chunk has 8 actions",
    DropsOne: "3 observations gave 2 chunks", FailsLater: "only step 0 is implemented",
    EditsThePicture: "changed an observation's arrays", EditsTheState: "read-only",
    Unspeakable: "not JSON serializable",
}


@pytest.mark.parametrize("suite", [TOY, load_suite("libero_goal"), GR1], ids=lambda suite: suite.name)
def test_a_good_policy_passes(suite):
    """On every kind of suite."""
    check_policy(Good(suite), suite)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_caught(fault):
    """Each broken policy fails, with a message that says what is wrong."""
    with pytest.raises((AssertionError, TypeError), match=FAULTS[fault]):
        check_policy(fault(TOY), TOY)


def test_a_stream_that_is_reset_between_batches():
    """A policy that seeds itself anew at each call repeats itself, but not whatever the batch."""
    class Reseeds(Good):
        def act(self, observations):
            self.random = np.random.default_rng(0)
            return [chunk + self.random.normal() for chunk in super().act(observations)]
    with pytest.raises(AssertionError, match="of a batch and of the reversed batch"):
        check_policy(Reseeds(TOY), TOY)


def test_global_randomness_in_each_episode():
    """Randomness that only a global seed moves is found by seeding it between two calls."""
    class Global(Good):
        def chunk(self, observation):
            return super().chunk(observation) + np.random.get_state()[1][0] % 7
    np.random.seed(0)
    with pytest.raises(AssertionError, match=r"observations twice; draw from observation\.generator"):
        check_policy(Global(TOY), TOY)


def test_rounding_of_batched_kernels_is_allowed():
    """Differences below the tolerance, as kernels make them that depend on the size of a batch; larger ones are not."""
    class Rounds(Good):
        def act(self, observations):
            return [chunk + 1e-3 * len(observations) for chunk in super().act(observations)]
    check_policy(Rounds(TOY), TOY, tolerance=1e-2)
    with pytest.raises(AssertionError, match=r"differ by up to 0\.002, allowed 0\.0001"):
        check_policy(Rounds(TOY), TOY)


def test_a_policy_for_another_suite():
    """Its spec is compared first."""
    with pytest.raises(InputError, match="does not match suite 'robocasa_gr1'"):
        check_policy(Good(TOY), GR1)


# --- the constructor


HEAVY = '''
import importlib, sys
from evalkit import Policy, PolicySpec
{module}
class Mine(Policy):
    def __init__(self, suite, size=1):
        {constructor}
        self.spec = PolicySpec("mine", chunk_length=size)
    def load(self):
        import torch
    def act(self, observations):
        import torch
'''


def written(folder, module: str = "", constructor: str = "pass") -> str:
    """A file with a policy, as --policy takes it."""
    (folder / "mine.py").write_text(HEAVY.format(module=module, constructor=constructor))
    return f"{folder / 'mine.py'}:Mine"


def test_a_light_constructor_passes(tmp_path):
    """torch may be imported in `load` and `act`."""
    check_constructor(written(tmp_path), "toy", {"size": 3})


@pytest.mark.parametrize("place", [{"module": "try:\n    import torch\nexcept ImportError:\n    pass"},
                                   {"constructor": "import torch"}, {"module": "import transformers.utils"}])
def test_a_heavy_constructor_is_caught(tmp_path, place):
    """Whether torch is installed here or not, an import of it when the policy is imported or built is named."""
    with pytest.raises(AssertionError, match=r"imports (torch|transformers): move that into load\(\) or act\(\)"):
        check_constructor(written(tmp_path, **place), "toy", {})
    assert "torch" not in sys.modules


def test_options_must_be_picklable(tmp_path):
    """Workers get them from the driver."""
    with pytest.raises(AssertionError, match="options must be picklable"):
        check_constructor(written(tmp_path), "toy", {"size": lambda: 3})


def test_the_same_options_give_the_same_spec(tmp_path):
    """A spec that depends on anything else is caught."""
    name = written(tmp_path, "counter = []", "counter.append(1); size = len(counter)")
    with pytest.raises(AssertionError, match="the same options give different specs"):
        check_constructor(name, "toy", {})


def test_a_policy_that_cannot_be_built(tmp_path):
    """Wrong options are the user's mistake, not a broken rule; other exceptions are shown."""
    with pytest.raises(InputError, match="unknown option of policy"):
        check_constructor(written(tmp_path), "toy", {"sizes": 3})
    with pytest.raises(AssertionError, match=r"fails in a fresh process(.|\n)*ZeroDivisionError"):
        check_constructor(written(tmp_path, constructor="1 / 0"), "toy", {})


# --- the command


def check(*arguments: object, cwd):
    return evalkit("check-policy", *arguments, cwd=cwd)


def test_the_command(tmp_path):
    """One line a rule, status 0; a broken rule says FAIL and why, the others are still tried, status 1; without chunks
    there is nothing to try them on."""
    good = check("tests.test_check_policy:Good", "--suite", "robocasa_gr1", "-o", "scale=0.5", cwd=tmp_path)
    assert good.returncode == 0 and good.stdout.count("ok ") == 9 and "FAIL" not in good.stdout, good.stderr
    bad = check("tests.test_check_policy:OneInstruction", "--suite", "toy", cwd=tmp_path)
    assert bad.returncode == 1 and bad.stdout.count("FAIL") == 2 and bad.stdout.count("ok ") == 7
    assert "FAIL  each observation of a batch is answered with its own instruction" in bad.stdout
    none = check("tests.test_check_policy:NotANumber", "--suite", "toy", cwd=tmp_path)
    assert none.returncode == 1 and none.stdout.count("FAIL") == 1 and "mend this first" in none.stdout


def test_a_file_of_the_user(tmp_path):
    """By path, with an option; a heavy constructor makes the status 1 although it would act well."""
    name = written(tmp_path, "try:\n    import torch\nexcept ImportError:\n    pass")
    text = (tmp_path / "mine.py").read_text().replace("import torch\n    def act", "pass\n    def act")
    act = "return [[[0.0, 0.0]] for _ in observations]\n"
    (tmp_path / "mine.py").write_text(text.rsplit("import torch", 1)[0] + act)
    done = check(name, "--suite", "toy", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count("FAIL") == 1, done.stdout + done.stderr
    assert "FAIL  its module and constructor are light" in done.stdout and "imports torch" in done.stdout


@pytest.mark.parametrize("arguments, words", [
    (("scripted", "--suite", "libero_goal"), "it can only be tried by running it"),
    (("tests.test_check_policy:Good", "--suite", "toy", "-o", "scales=2"), "unknown option"),
    (("tests.test_check_policy:Good", "--suite", "toy", "-o", "scale"), "takes KEY=VALUE, got 'scale'"),
    (("goood", "--suite", "toy"), "unknown policy 'goood'")])
def test_wrong_input(tmp_path, arguments, words):
    """Status 2 and the reason."""
    done = check(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
