"""The examples do what their first lines say."""

from __future__ import annotations

from evalkit.paths import PROJECT
from evalkit.registry import load_suite, make_policy
from evalkit.testing import check_policy
from tests.helpers import evalkit, lines

MINE = f"{PROJECT / 'examples' / 'my_policy.py'}:MyPolicy"


def test_my_policy_is_short():
    """A user's own policy fits in 20 lines, imports and blank lines aside."""
    text = (PROJECT / "examples" / "my_policy.py").read_text().split('"""', 2)[2]
    assert 8 < len([line for line in text.splitlines() if line.strip()]) <= 20


def test_my_policy_keeps_the_contract():
    """It passes the checks that `evalkit check-policy` makes."""
    check_policy(make_policy(MINE, load_suite("toy"), {}), load_suite("toy"))


def test_my_policy_runs(tmp_path):
    """By its path, from another folder, with an option: it reaches the near and the far goal, not the unreachable."""
    done = evalkit("run", "--suite", "toy", "--policy", MINE, "-o", "speed=0.9", "--episodes", 2, "--workers", 1,
                   "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outcomes = {line["id"]: line["outcome"] for line in lines(tmp_path / "run")}
    assert outcomes == {f"toy/{task:02d}/{index:03d}": "failure" if task == 2 else "success"
                        for task in range(3) for index in range(2)}
