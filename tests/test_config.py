"""Config: what the user asked for, checked and parsed; every refusal says what was got and what is allowed."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from evalkit.config import DECISIVE, RunConfig, load_yaml, make_config
from evalkit.errors import InputError


def config(**values) -> RunConfig:
    return make_config({"suites": "toy", "policy": "noop", **values})


def refusal(**values) -> str:
    with pytest.raises(InputError) as caught:
        config(**values)
    return str(caught.value)


def test_defaults():
    """With a suite and a policy alone: all tasks and episodes, the suite's first seed policy, nothing extra."""
    plain = config()
    assert (plain.suites, plain.tasks, plain.episodes) == (("toy",), None, (0, 20))
    assert (plain.seed_policy, plain.seed, plain.assets, plain.video) == ("per_episode", 7, "real", "none")
    assert plain.record_actions is False and plain.retries == 2
    assert config(suites="libero").seed_policy == "reference"


def test_none_means_not_given():
    """A flag that was not used changes nothing."""
    assert config(tasks=None, episodes=None, seed=None, video=None, out=None) == config()


@pytest.mark.parametrize("key, missing", [("suites", "suite"), ("policy", "policy")])
@pytest.mark.parametrize("value", [None, "", ()])
def test_required(key, missing, value):
    """Without suite or policy the message names the flag and the listing that shows the choices."""
    text = refusal(**{key: value})
    assert f"--{missing} NAME" in text and "evalkit list" in text


def test_unknown_key():
    """An unknown key is answered with the nearest one and all allowed ones."""
    text = refusal(episode=3)
    assert "'episode'" in text and "Did you mean 'episodes'?" in text
    assert all(item.name in text for item in fields(RunConfig))


@pytest.mark.parametrize("given", ["toy,libero_goal", " toy , libero_goal ", ["toy", "libero_goal"]])
def test_suites(given):
    """Suites are comma-separated text or a list."""
    assert config(suites=given).suites == ("toy", "libero_goal")


@pytest.mark.parametrize("given, expected", [
    ("0", (0,)), (2, (2,)), (0, (0,)), ("0,2", (0, 2)), ("2,0,2", (0, 2)), ("0-2", (0, 1, 2)), ("1-1", (1,)),
    (" 0 , 1-2 ", (0, 1, 2)), ([0, "1-2"], (0, 1, 2)), ((1,), (1,)),
])
def test_tasks(given, expected):
    """Task indices are single, listed or in ranges; they come out sorted, each once."""
    assert config(tasks=given).tasks == expected


@pytest.mark.parametrize("given", ["0;2", "-1", "1.0", "", "0,", "2-", 1.5])
def test_tasks_that_cannot_be_read(given):
    """Text that is no index shows the forms that are read."""
    assert "0,3 or 0-4" in refusal(tasks=given)


def test_tasks_by_name():
    """One suite's tasks may be named, in full or as the paper's table prints them; a typo is met with the nearest."""
    assert config(tasks="far,0").tasks == (0, 1)
    gr1 = {"suites": "robocasa_gr1", "tasks": "CanToDrawerClose,PosttrainPnPNovelFromTrayToTieredshelfSplitA"}
    assert make_config({**gr1, "policy": "noop"}).tasks == (1, 23)
    assert "Did you mean 'CanToDrawerClose'" in refusal(suites="robocasa_gr1", tasks="CanToDrawrClose")


@pytest.mark.parametrize("given, got", [("3", "3"), ("0,7,3", "7, 3"), ("2-4", "3, 4")])
def test_tasks_that_do_not_exist(given, got):
    """Indices outside the suite are named, with the ones that exist."""
    text = refusal(tasks=given)
    assert f"unknown task {got}:" in text and "tasks 0 to 2" in text


@pytest.mark.parametrize("given", ["2-1", []])
def test_no_tasks(given):
    """A selection without any task is refused: an empty run would look like a complete one."""
    assert repr(given) in refusal(tasks=given)


def test_tasks_exist_in_every_suite():
    """With several suites an index must exist in each; the message names the suite that lacks it."""
    assert "toy has tasks 0 to 2" in refusal(suites="libero_goal,toy", tasks="5")


@pytest.mark.parametrize("given, expected", [
    ("5", (0, 5)), (5, (0, 5)), ("20", (0, 20)), ("0:3", (0, 3)), ("4:20", (4, 20)), ([1, 3], (1, 3)), (" 2 ", (0, 2)),
])
def test_episodes(given, expected):
    """N is the first N, A:B is A to B without B, as in Python."""
    assert config(episodes=given).episodes == expected


@pytest.mark.parametrize("given", ["x", "-1", "1:2:3", "3:", ":3", "1.5", "1-3", 1.5, True])
def test_episodes_that_cannot_be_read(given):
    """Text that is no number and no range is quoted, with the forms that are read."""
    text = refusal(episodes=given)
    assert repr(given) in text and ("N or a range A:B" in text or "not possible" in text)


@pytest.mark.parametrize("given", ["0", "21", "3:3", "5:2", "19:21", 0])
def test_episodes_out_of_range(given):
    """Numbers beyond the protocol are refused with the number of episodes a task has."""
    text = refusal(episodes=given)
    assert repr(given) in text and "N is 1 to 20" in text and "A < B <= 20" in text


def test_episodes_fit_every_suite():
    """With several suites the smallest protocol limits the range."""
    assert config(suites="libero_goal", episodes="50").episodes == (0, 50)
    assert "has 20 episodes" in refusal(suites="libero_goal,toy", episodes="21")


@pytest.mark.parametrize("given", ["none", "failures", "all", "1", "12"])
def test_video(given):
    """none, failures, all or a positive number of episodes a task."""
    assert config(video=given).video == given


def test_video_number_from_yaml():
    """A number that YAML has read as an integer is the same choice as its text."""
    assert config(video=3).video == "3"


@pytest.mark.parametrize("given", ["0", "-1", "some", "ALL", "1.5", True, ""])
def test_wrong_video(given):
    """Another choice is quoted, with the allowed ones."""
    text = refusal(video=given)
    assert repr(str(given)) in text and "none, failures, all, a number of episodes a task" in text


def test_seed_policy():
    """A suite's seed policies are accepted, others refused with those allowed; several suites need a common one."""
    assert config(seed_policy="fixed").seed_policy == "fixed"
    text = refusal(seed_policy="reference")
    assert "for toy" in text and "'reference'" in text and "per_episode, fixed" in text
    assert "for libero_goal, toy" in refusal(suites="libero_goal,toy", seed_policy="reference")
    assert config(suites="libero_goal,toy").seed_policy == "per_episode"
    assert config(suites="libero_goal").seed_policy == "reference"


def test_reference_is_the_papers_seed():
    """`reference` with another seed is refused, whether chosen or by default; per_episode takes any."""
    for values in ({"seed": 8}, {"seed": 8, "seed_policy": "reference"}):
        text = refusal(suites="libero_goal", **values)
        assert "seed 7" in text and "got seed 8" in text and "--seed-policy per_episode" in text
    assert config(suites="libero_goal", seed=8, seed_policy="per_episode").seed == 8
    assert config(suites="libero_goal", seed=7).seed_policy == "reference"


@pytest.mark.parametrize("values, parts", [
    ({"workers": 0}, ["workers is 0", "at least 1"]), ({"workers": -2}, ["workers is -2", "at least 1"]),
    ({"retries": -1}, ["retries is -1", "0 or more"]), ({"timeout": 0}, ["timeout is 0", "positive"]),
    ({"timeout": -1.5}, ["timeout is -1.5", "positive"]), ({"seed": -1}, ["seed is -1", "0 to 4294967295"]),
    ({"seed": 2**32}, ["seed is 4294967296", "0 to 4294967295"]),
])
def test_numbers_out_of_range(values, parts):
    """Numbers are refused with the value that was got and the range that is allowed."""
    assert all(part in refusal(**values) for part in parts)


@pytest.mark.parametrize("key, value", [
    ("workers", "two"), ("workers", 2.5), ("workers", True), ("seed", "x"), ("seed", 1.5), ("retries", "many"),
    ("timeout", "soon"), ("timeout", [3]), ("policy", 3), ("policy_options", 3), ("policy_options", ["chunk"]),
    ("assets", 4), ("record_actions", "yes please"), ("record_actions", 5), ("out", 7), ("ray_address", 6379),
])
def test_values_of_the_wrong_type(key, value):
    """A YAML value of another type than the key's is the user's mistake, not a crash: key and value are named."""
    text = refusal(**{key: value})
    assert key in text and repr(value) in text


def test_yaml_file(tmp_path):
    """A file's keys are the flags; `suite` stands for `suites`."""
    path = tmp_path / "run.yaml"
    path.write_text("suite: toy\npolicy: random\npolicy_options: {chunk: 4}\ntasks: [0, 2]\nepisodes: 0:3\nseed: 11\n"
                    "video: 2\nworkers: 3\ntimeout: 60\n")
    read = make_config(load_yaml(path))
    assert (read.suites, read.policy, read.policy_options) == (("toy",), "random", {"chunk": 4})
    assert (read.tasks, read.episodes, read.seed, read.video) == ((0, 2), (0, 3), 11, "2")
    assert (read.workers, read.timeout) == (3, 60)


def test_yaml_with_unknown_key(tmp_path):
    """An unknown key in a file is refused like an unknown flag."""
    path = tmp_path / "run.yaml"
    path.write_text("suite: toy\npolicy: noop\nworker: 3\n")
    with pytest.raises(InputError, match=r"unknown configuration key 'worker'\. Did you mean 'workers'"):
        make_config(load_yaml(path))


@pytest.mark.parametrize("content, problem", [
    (b"- toy\n- noop\n", "got list"), (b"", "got NoneType"), (b"suite: [toy\n", "not valid YAML"), (b"toy", "got str"),
    (b"suite: \xff\xfe\n", "not valid YAML"),
])
def test_yaml_that_cannot_be_used(tmp_path, content, problem):
    """A file that is no mapping or no YAML is refused by name, with what is wrong."""
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value) and problem in str(caught.value)


def test_yaml_that_does_not_exist(tmp_path):
    """A missing file is refused by name."""
    with pytest.raises(InputError, match=r"absent\.yaml: No such file"):
        load_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize("other", [
    {"suites": "libero_goal"}, {"policy": "random"}, {"policy_options": {"chunk": 2}}, {"tasks": "0"},
    {"episodes": "3"}, {"seed_policy": "fixed"}, {"seed": 8}, {"assets": "stand-in"},
])
def test_digest_differs_when_the_measurement_differs(other):
    """Every decisive key changes the digest, and with it the default folder."""
    assert config(**other).digest() != config().digest()
    assert config(**other).default_folder() != config().default_folder()


def test_digest_ignores_how_it_is_measured():
    """Workers, video, retries, timeout and folder may change when a run is continued."""
    other = config(workers=5, video="all", retries=0, timeout=9.0, out="elsewhere", record_actions=True,
                   ray_address="auto")
    assert other.digest() == config().digest()


def test_decisive_part_survives_json():
    """What run.json holds compares equal with a fresh config: JSON types only, every decisive key."""
    decisive = config(tasks="0,2", policy_options={"chunk": 4}, policy="random").decisive()
    assert tuple(decisive) == DECISIVE and json.loads(json.dumps(decisive)) == decisive


def test_default_folder_is_stable():
    """The same command finds its run again; the name says suites and policy."""
    assert config().default_folder() == config().default_folder()
    assert config().default_folder().name.startswith("toy-noop-")
    assert config(suites="libero").default_folder().name.startswith("liberox4-noop-")
