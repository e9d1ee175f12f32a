"""Config files, options, names and policies of anybody's making: refused by name with exit status 2, never a traceback,
never code that runs, never a file outside the run's folder."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit import cli, compare_text, registry, tables
from evalkit import compare as comparing
from evalkit.cli_policies import options_of
from evalkit.config import RunConfig, load_yaml, make_config
from evalkit.errors import InputError
from evalkit.evaluation import check_policies, describe_run, make_job
from evalkit.parsing import MAX_VALUES, ParseError, parse_json, parse_yaml, read_text
from evalkit.plan import make_plan
from evalkit.policy import Policy
from evalkit.presets import PRESETS, with_preset
from evalkit.records import Run
from evalkit.redaction import REDACTED, redacted_command
from evalkit.report import write_report
from evalkit.specs import PolicySpec
from evalkit.texts import plain
from tests.hostile import TEXTS, spoilt, spoilt_bytes, tries, values

CONFIG = {
    "suite": "toy", "policy": "random", "policy_options": {"chunk": 4}, "tasks": [0, 2], "episodes": "0:3", "seed": 11,
    "seed_policy": "per_episode", "assets": "real", "scenes": "upstream", "full_horizon": False, "video": 2,
    "video_camera": "top", "record_actions": True, "workers": 3, "policy_replicas": 1, "policy_gpus": 0.5,
    "policy_batch": 4, "policy_wait": 0.1, "policy_timeout": 60, "max_errors": 5, "ray_address": "auto", "retries": 1,
    "timeout": 60, "out": "results/x",
}

#: Ten lines that stand for ten billion values.
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


def refusal(function, *arguments) -> str:
    """The text of the InputError, of a length that one reads."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert len(str(caught.value)) < 3000
    return str(caught.value)


def resolve(content: bytes, folder: Path) -> RunConfig:
    """What `evalkit plan --config FILE` does before it prints."""
    path = folder / "run.yaml"
    path.write_bytes(content)
    read = load_yaml(path)
    for name in PRESETS:
        with suppress(InputError):
            with_preset(name, read)
    config = make_config(read)
    make_plan(config)
    assert config.default_folder().parent == Path("results/runs") and json.dumps(config.decisive(), allow_nan=False)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config")


def test_the_config_is_a_good_one(folder):
    """Before it is spoilt."""
    assert resolve(yaml.safe_dump(CONFIG).encode(), folder).tasks == (0, 2)


@given(config=spoilt(CONFIG))
@example(config={**CONFIG, "tasks": "0-999999999999"})
@example(config={**CONFIG, "tasks": "0-" + "9" * 5000})
@example(config={**CONFIG, "episodes": "9" * 5000})
@example(config={**CONFIG, "video": "9" * 5000})
@example(config={**CONFIG, "timeout": float("nan")})
@example(config={**CONFIG, "policy_wait": float("inf")})
@example(config={**CONFIG, "policy_options": {"x": float("nan")}})
@example(config={**CONFIG, "policy_options": {1: 2, "a": 3}})
@example(config={**CONFIG, "suite": 5})
@tries(120)
def test_any_value(folder, config):
    """One or two values of a good config replaced by whatever YAML can hold."""
    with suppress(InputError):
        resolve(yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass"), folder)


@given(content=spoilt_bytes(yaml.safe_dump(CONFIG).encode()) | st.binary(max_size=40))
@tries(150)
def test_damaged_files(folder, content):
    """A config cut anywhere, with bytes overwritten or put in; any bytes."""
    with suppress(InputError):
        resolve(content, folder)


@pytest.mark.parametrize("text, words", [
    (LAUGHS, f"more than {MAX_VALUES} values"), ("a: &a [*a]", "stands inside"),
    ("a: " + "[" * 700, "nested too deep"),
    ("seed: 1\nseed: 2", "'seed' stands there twice"), ("seed: " + "9" * 5000, "5000 digits"),
    ("seed: 0x" + "f" * 5000, "digits"), ("seed: 1" + ":1" * 200, "digits"), ("out: 2020-13-45", "month"),
    ("a: !!python/object/apply:os.system [touch CANARY]", "could not determine a constructor"),
    ("a: !!python/name:os.system", "could not determine a constructor"),
    ("a: !!python/object/new:os.system [touch CANARY]", "could not determine a constructor"),
    ("? [a, b]\n: c", "unhashable"), ("a: \x00", "special characters"), ("- a\n- *b", "undefined alias"),
    ("a: !!timestamp x", ""), ("a: !!int x", ""), ("<<: 3", ""), ("%YAML 9.9\n---\na: 1", ""),
])
def test_yaml_of_a_stranger(tmp_path, monkeypatch, text, words):
    """Bombs, code, loops, numbers and dates that are none: one line says what it is, and nothing has run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParseError) as caught:
        parse_yaml(text)
    assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert "not valid YAML" in refusal(load_yaml, path)
    refusal(options_of, [f"chunk={text}"], None)
    assert not (tmp_path / "CANARY").exists()


def test_yaml_with_a_few_aliases_is_read():
    """An alias is no bomb."""
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}}
    assert parse_yaml("") is None and parse_yaml("3") == 3


@given(text=st.text(max_size=60))
@tries(150)
def test_any_text_as_yaml_and_json(text):
    """A value or a ParseError."""
    for parse in (parse_yaml, parse_json):
        with suppress(ParseError):
            parse(text)


def test_files_without_end_are_not_read():
    """/dev/zero would fill the memory."""
    with pytest.raises(OSError, match="too large"):
        read_text(Path("/dev/zero"))
    assert "too large" in refusal(load_yaml, Path("/dev/zero"))


@pytest.mark.parametrize("key", ["policy", "out", "assets", "ray_address"])
@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x1b[2J", "\udcff", "\u202e"])
def test_texts_that_are_no_line(key, value):
    """Null characters, line ends, escape sequences, what is not UTF-8: in a text that becomes a path or is printed."""
    text = refusal(make_config, {"suites": "toy", "policy": "random", key: value})
    assert text.startswith(f"{key} is ") and text == plain(text)


def test_names_of_folders_have_an_end():
    """A name that no file system takes is refused before anything starts."""
    assert "255 bytes at most" in refusal(make_config, {"suites": "toy", "policy": "noop", "out": "x" * 300})
    assert make_config({"suites": "toy", "policy": "noop", "out": "x" * 255 + "/" + "y" * 255}).out


@pytest.mark.parametrize("policy", [
    "path/to/file.py:Class", "../../../../x.py:P", "/etc/x.py:P", "a b'\"c.py:P", "日本.py:P", "x" * 400 + ".py:P",
    "..", ".", "package.module:Class", "<script>", "\\..\\..\\x.py:P"])
def test_default_folders_stay_where_runs_are(policy):
    """Whatever the policy is called, its run is one folder below results/runs, and another policy has another."""
    folder = make_config({"suites": "toy", "policy": policy}).default_folder()
    assert folder.parent == Path("results/runs") and len(folder.name) < 200
    assert folder.name.startswith("toy-") and folder.name.replace("/", "").isascii()
    assert (Path("/base") / folder).resolve() == Path("/base") / folder
    assert folder != make_config({"suites": "toy", "policy": f"{policy}x"}).default_folder()


def test_default_folders_of_plain_names_are_as_before():
    """A run made by an earlier command is found again."""
    config = make_config({"suites": "toy", "policy": "package.module:Class"})
    assert config.default_folder().name == f"toy-package.module:Class-{config.digest()}"


# --- options


OPTIONS = ("checkpoint", "base_model", "base_vlm", "executed_steps", "chunk", "url", "actions", "batch", "device",
           "dtype", "views", "head", "timeout", "x")


@given(options=st.dictionaries(st.sampled_from(OPTIONS), values, max_size=2),
       name=st.sampled_from(registry.policy_names()))
@tries(200)
def test_any_option_of_every_policy(options, name):
    """The constructor of a registered policy takes its options or names the one that is wrong."""
    for suite in ("toy", "libero_goal", "robocasa_gr1"):
        with suppress(InputError):
            registry.make_policy(name, registry.load_suite(suite), json.loads(json.dumps(options)))


@pytest.mark.parametrize("name, options, words", [
    ("dit4dit", {"checkpoint": 3}, "option checkpoint is 3; it must be text"),
    ("dit4dit", {"checkpoint": "a\0b"}, "null character"), ("qwen3dit", {"checkpoint": "x" * 5000}, "too long"),
    ("replay", {"actions": 5}, "option actions is 5; it must be text"),
    ("replay", {"actions": ["a"]}, "it must be text"), ("remote", {"url": "ws://a:1", "timeout": None}, "timeout"),
])
def test_options_of_the_wrong_type(name, options, words):
    """Option, value and type are named."""
    assert words in refusal(registry.make_policy, name, registry.load_suite("libero_goal"), options)


def test_a_text_of_any_length_is_an_option():
    """A text is not taken for a path only because it is tried as one."""
    assert registry.absolute_options({"words": "x" * 5000, "null": "a\0b"}) == {"words": "x" * 5000, "null": "a\0b"}


# --- secrets


@pytest.mark.parametrize("argument, recorded", [
    ("api_key=SECRET words", f"api_key={REDACTED}"), ("-oapi_key=SECRET", f"-oapi_key={REDACTED}"),
    ("--policy-option=hf_token=SECRET", f"--policy-option=hf_token={REDACTED}"),
    ("auth={token: SECRET, n: 3}", f"auth={{token: {REDACTED}, n: 3}}"),
    ("url=ws://me:SECRET@host:1/x", f"url=ws://{REDACTED}@host:1/x"),
    ("url=ws://host:1/?api_key=SECRET&n=1", f"url=ws://host:1/?api_key={REDACTED}&n=1"),
    ("PASSWORD=SECRET", f"PASSWORD={REDACTED}"), ("unnorm_key=franka", "unnorm_key=franka"),
    ("api_key_variable=NAME", "api_key_variable=NAME"), ("tokens=3", "tokens=3"), ("run", "run"), ("", ""),
])
def test_secrets_in_a_command(argument, recorded):
    """Keys, tokens and passwords are left out, names of variables and of statistics are not."""
    assert redacted_command([argument]) == [recorded]


class Keyed(Policy):
    """Holds still, if it was given its key."""

    def __init__(self, suite, api_key: str = "", auth: dict | None = None):
        if (api_key, auth) != ("SECRET", {"token": "SECRET"}):
            raise InputError("wrong key")
        self.spec = PolicySpec("keyed")

    def act(self, observations):
        return []


def test_secrets_are_not_recorded(tmp_path, monkeypatch):
    """A key given as an option reaches the policy, but neither run.json nor what is made from it; without it the run is
    still the same one."""
    pairs = ["api_key=SECRET", "auth={token: SECRET}"]
    monkeypatch.setattr("sys.argv", ["evalkit", "run", "-o", pairs[0], f"-o{pairs[1]}"])
    config = make_config({"suites": "toy", "policy": "tests.test_hostile_config:Keyed", "episodes": 1,
                          "policy_options": options_of(pairs, None)})
    policies = check_policies(config, make_plan(config))
    assert make_job(config, ["toy"], {"toy": None}, policies).policy_options["api_key"] == "SECRET"
    info = describe_run(config, make_plan(config), {"toy": {"hash": "a", "parts": {}}}, {})
    run = Run(tmp_path / "made")
    for _ in range(2):
        with closing(run):
            run.open(info)
    report = write_report([run], tmp_path / "report.html").read_text()
    table = tables.render(run, "terminal") + compare_text.render(comparing.compare(run, run), "terminal")
    assert "SECRET" not in report + table + (tmp_path / "made/run.json").read_text() and REDACTED in table
    assert run.info["config"]["policy_options"] == {"api_key": REDACTED, "auth": {"token": REDACTED}}
    assert run.info["command"].count("redacted") == 2


# --- policies of the user's own


FILES = {
    "syntax": ("def f(:\n", "SyntaxError"), "nothing": ("", "unknown policy in"),
    "import": ("import no_such", "no_such"),
    "division": ("x = 1\n1 / 0\n", "ZeroDivisionError"), "exit": ("import sys\nsys.exit(0)\n", "SystemExit"),
    "name": ("undefined_name\n", "NameError"), "assertion": ("assert False, 'no'\n", "AssertionError"),
    "recursion": ("def f(): f()\nf()\n", "RecursionError"), "null": ("x = 1\0\n", "null"),
    "base": ("class Mine: pass\n", "derived from evalkit.Policy"),
    "number": ("Mine = 3\n", "derived from evalkit.Policy"),
    "other": ("class Other: pass\n", "Allowed: Other"), "typo": ("class Mine_: pass\n", "Did you mean 'Mine_'"),
    "abstract": ("from evalkit import Policy\nclass Mine(Policy): pass\n", "lacks act"),
    "no spec": ("from evalkit import Policy\nclass Mine(Policy):\n    def __init__(self, suite): pass\n"
                "    def act(self, observations): return []\n", "has no spec"),
    "no suite": ("from evalkit import Policy\nclass Mine(Policy):\n    def __init__(self): pass\n"
                 "    def act(self, observations): return []\n", "positional"),
    "needs more": ("from evalkit import Policy\nclass Mine(Policy):\n    def __init__(self, suite, weights): pass\n"
                   "    def act(self, observations): return []\n", "'weights'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_policy_file_that_is_wrong(tmp_path, case):
    """Syntax, imports, whatever the file raises, a missing class, another base: the file or the name, and the cause."""
    content, words = FILES[case]
    path = tmp_path / "mine.py"
    path.write_text(content)
    text = refusal(registry.make_policy, f"{path}:Mine", registry.load_suite("toy"), {})
    assert words in text and "evalkit_user_" not in text
    if case in ("division", "exit", "name", "assertion"):
        assert "mine.py, line" in text


@pytest.mark.parametrize("name", [
    "mine.py", "nowhere.py:Mine", ".py:Mine", "mine.py:", "folder.py:Mine", ":", "a:b:c", "mine.py:Mine:Mine",
    "..:Mine", "/:Mine", "mine.py:__builtins__", "x" * 300 + ".py:Mine"])
def test_a_policy_path_that_is_wrong(tmp_path, monkeypatch, name):
    """No such file, no name, a folder: refused by name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "folder.py").mkdir()
    refusal(registry.make_policy, name, registry.load_suite("toy"), {})


@given(name=st.text(max_size=12) | st.sampled_from(TEXTS) | st.builds("{}:{}".format, *2 * [st.text(max_size=8)]))
@tries(100)
def test_any_policy_name(name):
    """Whatever is typed after -p."""
    with suppress(InputError):
        check_policies(make_config({"suites": "toy", "policy": name, "tasks": "0", "episodes": 1}), [])


@pytest.mark.parametrize("arguments, words", [
    (["-p", "mine.py:Mine"], "ZeroDivisionError"), (["-p", "noop", "--tasks", "0-999999999999"], "tasks are indices"),
    (["-p", "random", "-o", "chunk=[unclosed"], "--policy-option chunk"), (["--config", "run.yaml"], "more than"),
    (["-p", "noop", "--out", "x" * 300], "255 bytes"), (["--config", "."], "cannot read"),
    (["-p", "no\x1b[2Jop"], "\\x1b[2J"),
])
def test_the_command_line_ends_with_status_2(tmp_path, monkeypatch, capsys, arguments, words):
    """One message, no traceback, and nothing a terminal would obey."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evalkit", "plan", "-s", "toy", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    Path("mine.py").write_text("1 / 0\n")
    Path("run.yaml").write_text(LAUGHS)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: ") and words in said and "\x1b" not in said
