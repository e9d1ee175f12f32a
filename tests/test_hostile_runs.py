"""Run folders that were edited, damaged or made up by somebody else: a clear refusal or an honest table, and nothing
outside the folder is read, copied or linked."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit import compare as comparing
from evalkit import compare_text, frames, grid, latex, looks, paper, tables
from evalkit.episode import Episode, episode_id, parse_episode_id
from evalkit.errors import InputError
from evalkit.latency import Batch, Measurement
from evalkit.merge import merge, open_parts
from evalkit.records import Run, read_records
from evalkit.report import write_report
from evalkit.texts import plain, plain_lines
from tests.hostile import SCRIPT, TEXTS, spoilt, spoilt_bytes, tries
from tests.test_report import Page, make_run, refusal

SMALL = {0: [("success", 3), ("error", 0)], 1: [("failure", 40), None]}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Run:
    """A run that holds together."""
    return make_run(tmp_path_factory.mktemp("runs") / "good", SMALL, asset_kind="stand-in")


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> Run:
    """A folder whose files a test writes."""
    folder = tmp_path_factory.mktemp("runs") / "bad"
    folder.mkdir()
    return Run(folder)


def read_everything(run: Run, other: Run) -> None:
    """Whatever the commands that read runs do; an InputError of one does not keep the next from its turn."""
    for form in grid.FORMATS:
        with suppress(InputError):
            assert tables.render(run, form)
    with suppress(InputError):
        write_report([run, other], run.folder / "report.html")
    for form in frames.FORMS:
        with suppress(InputError):
            frames.export(run, run.folder / f"episodes.{form}", form)
    for form in compare_text.FORMATS:
        with suppress(InputError):
            compare_text.render(comparing.compare(open_parts(run.folder), other), form)
    with suppress(InputError):
        for item in paper.tables([run]).values():
            grid.render(item, "terminal")
    shutil.rmtree(run.folder.parent / "merged", ignore_errors=True)
    with suppress(InputError):
        merge([run, other], run.folder.parent / "merged")


def goes_on(run: Run, info: dict) -> None:
    """What `evalkit run --out` does with a folder that is there already."""
    with suppress(InputError), closing(run):
        run.open(json.loads(json.dumps(info)))


INFO = {
    "config": {"suites": ["toy"], "policy": "noop", "policy_options": {"chunk": 2}, "tasks": [0, 1], "episodes": [0, 2],
               "seed_policy": "per_episode", "seed": 7, "assets": "none", "scenes": "upstream"},
    "settings": {"workers": 2}, "planned": ["toy/00/000", "toy/00/001", "toy/01/000", "toy/01/001"],
    "fingerprints": {"toy": {"hash": "ab", "parts": {"asset_kind": "stand-in", "views": {"top": [32, 32, 3]}}}},
    "policy": {"note": "n", "checkpoint": {"path": "p", "sha256": "s"}, "server": {"described": {"note": "m"}}},
    "command": "evalkit run", "started": "2026", "versions": {"python": "3"}, "hardware": {"node": "n", "cores": 2},
    "git": {"revision": "r", "modified": True}, "merged": [{"name": "a", "command": "c", "kept": 1}],
}
LINE = {"id": "toy/00/000", "suite": "toy", "task": 0, "index": 0, "seed": 1, "outcome": "success", "any_step": True,
        "chunk_end": True, "final": None, "first_success_step": 3, "chunk_end_step": 3, "steps": 3, "policy_calls": 3,
        "instruction": "go", "scene_sha": "a", "final_sha": "b", "fingerprint": "ab", "seconds_reset": 0.5,
        "seconds_physics": 0.5, "seconds_render": 0.5, "seconds_policy": 0.5, "attempt": 1, "video": "videos/a.mp4",
        "traceback": None}


def write(run: Run, info: object, lines: bytes) -> None:
    (run.folder / "run.json").write_text(json.dumps(info))
    run.episodes_path.write_bytes(lines)


@given(info=spoilt(INFO))
@example(info={**INFO, "config": {**INFO["config"], "episodes": [0, 10**12]}, "planned": ["toy/00/000"]})
@example(info={**INFO, "policy": {"checkpoint": "text"}})
@example(info={**INFO, "policy": {"server": "text"}})
@example(info={**INFO, "fingerprints": {"toy": {"hash": "ab", "parts": {"asset_kind": ["real"]}}}})
@example(info={**INFO, "planned": ["toy/00/" + "9" * 400]})
@tries(20)
def test_any_run_json(good, bad, info):
    """Whatever stands in run.json: what cannot be read is refused, nothing else comes out."""
    write(bad, info, json.dumps(LINE).encode() + b"\n")
    goes_on(bad, INFO)
    write(bad, info, json.dumps(LINE).encode() + b"\n")
    read_everything(bad, good)


@given(line=spoilt(LINE))
@example(line={**LINE, "instruction": "\ud800"})
@example(line={**LINE, "video": "videos/" + "x" * 5000})
@example(line={**LINE, "video": "videos/a\0b"})
@tries(20)
def test_any_record(good, bad, line):
    """Whatever stands in a record."""
    write(bad, INFO, json.dumps(line).encode() + b"\n")
    goes_on(bad, INFO)
    read_everything(bad, good)


@given(content=spoilt_bytes(b"".join(json.dumps({**LINE, "id": name}).encode() + b"\n" for name in INFO["planned"])))
@example(content=b"[" * 100_000 + b"\n")
@example(content=b'{"id": ' + b"9" * 5000 + b"}\n")
@example(content=b"\xff\xfe\n")
@tries(150)
def test_damaged_record_files(bad, content):
    """Cut anywhere, bytes overwritten or put in: records, or the number of the line that is none."""
    write(bad, INFO, content)
    with suppress(InputError):
        read_records(bad.episodes_path)


@given(content=spoilt_bytes(json.dumps(INFO).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 50_000)
@tries(150)
def test_damaged_run_json(bad, content):
    """The same for run.json."""
    (bad.folder / "run.json").write_bytes(content)
    with suppress(InputError):
        assert isinstance(bad.info, dict)


@pytest.mark.parametrize("text", ['{"id": "toy/00/000", "outcome": "failure", "outcome": "success"}',
                                  '{"id": "toy/00/001", "id": "toy/00/000"}'])
def test_a_key_that_stands_twice_in_a_record(tmp_path, text):
    """Two values for one key: neither is taken."""
    path = tmp_path / "episodes.jsonl"
    path.write_text(text + "\n")
    assert "stands there twice" in refusal(read_records, path)


@pytest.mark.parametrize("text", ["toy/00/0000", "toy/000/000", "toy/\u0660\u0660/000", "toy/00/000\n", "../00/000",
                                  "toy/00/9999999999", "x" * 65 + "/00/000", "toy/00/../000"])
def test_another_spelling_of_an_episode_is_no_id(text):
    """One episode has one id: else it would be planned, and counted, twice."""
    with pytest.raises(ValueError, match="not an episode id"):
        parse_episode_id(text)


@given(task=st.integers(0, 10**9 - 1), index=st.integers(0, 10**9 - 1))
@tries(50)
def test_ids_come_back(task, index):
    """Every id of an episode is read as it was written."""
    assert parse_episode_id(episode_id("toy", task, index)) == ("toy", task, index)
    assert Episode("toy", task, index, 0, 1).id == episode_id("toy", task, index)


LOOKS = {
    "plan": "", "budget": 8, "looks": 2, "rule": "pocock", "a": "good", "b": "bad", "written": "2026",
    "measured": [0, 0], "subject": {"paired": True, "policies": [], "suites": ["toy"]},
    "taken": [{"episodes": 4, "evidence": 1.5, "lost": 0, "decision": "continue", "better": None, "statement": "no"}]}
LATENCY = {**asdict(Measurement(
    method="m", policy="p", suite="toy", date="d", machine="c", cores=2, device="cpu", dtype="f", parameters=1,
    weights="real", note="", described={}, versions={}, chunk_length=1, executed_steps=1, load=1.0, first_query=1.0,
    new_instruction=[1.0], ms=[1.0, 2.0], stages={}, staged=1, throughput=[Batch(1, 1, 1.0, 1.0)], limit="l")),
    "kind": "latency", "hz": 1.0, "hz_range": [1.0, 2.0], "calls": 2}


@given(plan=spoilt(LOOKS), found=spoilt(LATENCY))
@example(plan={**LOOKS, "rule": "anytime", "looks": None, "budget": 10**12}, found=LATENCY)
@tries(150)
def test_any_plan_of_looks_and_any_latency(good, plan, found):
    """The other two files that commands write and read again."""
    path = good.folder / "looks.json"
    with suppress(Exception):  # whoever edits a plan may name it anew
        plan = {**plan, "plan": looks.Looks(**{**plan, "measured": tuple(plan["measured"]), "taken": ()}).name}
    path.write_text(json.dumps(plan))
    with suppress(InputError):
        looks.render(looks.read(path), [])
    path.unlink()
    file = good.folder.parent / "latency.json"
    file.write_text(json.dumps(found))
    with suppress(InputError):
        grid.render(paper.efficiency_table(paper.find_latencies([file])), "terminal")


# --- files outside the run


def steal(folder: Path, how: str) -> tuple[str, Path]:
    """A file outside the run `folder`, and the `video` of a record that leads to it."""
    secret = folder.parent / "secret.mp4"
    secret.write_text("secret")
    (folder / "videos").mkdir(exist_ok=True)
    if how == "link":
        (folder / "videos/link.mp4").symlink_to(secret)
    elif how == "linked folder":
        (folder / "videos/elsewhere").symlink_to(folder.parent)
    elif how == "circle":
        (folder / "videos/circle").symlink_to(folder / "videos/circle")
    return {"up": "videos/../../secret.mp4", "absolute": str(secret), "link": "videos/link.mp4",
            "linked folder": "videos/elsewhere/secret.mp4", "other folder": "run.json",
            "through itself": f"../{folder.name}/videos/x.mp4", "circle": "videos/circle/x.mp4",
            "nowhere": "videos/" + "x" * 5000}[how], secret


@pytest.mark.parametrize("how", ["up", "absolute", "link", "linked folder", "other folder", "through itself", "circle",
                                 "nowhere"])
def test_videos_outside_the_run_are_not_touched(tmp_path, capsys, how):
    """By a path or by a link: the report does not name such a file, a merge does not copy it."""
    runs = [make_run(tmp_path / name, {0: [("success", 3), None]}) for name in "ab"]
    video, secret = steal(runs[0].folder, how)
    line = json.loads(runs[0].episodes_path.read_text())
    runs[0].episodes_path.write_text(json.dumps({**line, "video": video}) + "\n")
    page = Page(write_report(runs[:1], tmp_path / "page" / "report.html"))
    assert page.data["runs"][0]["episodes"][0][page.data["columns"].index("video")] is None
    assert "secret" not in page.source
    if how == "nowhere":
        merge(runs, tmp_path / "merged")
        assert "is gone" in capsys.readouterr().err
    else:
        assert "outside the run" in refusal(merge, runs, tmp_path / "merged") and not (tmp_path / "merged").exists()
    assert secret.read_text() == "secret"


def test_actions_outside_the_run_are_not_copied(tmp_path):
    """A link in place of recorded actions does not bring a file along."""
    runs = [make_run(tmp_path / name, {0: [("success", 3), None]}) for name in "ab"]
    (tmp_path / "secret").write_text("secret")
    actions = runs[0].folder / "actions/toy/00"
    actions.mkdir(parents=True)
    (actions / "000.npy").symlink_to(tmp_path / "secret")
    assert "outside the run" in refusal(merge, runs, tmp_path / "merged")


# --- texts


@pytest.mark.parametrize("form", grid.FORMATS)
def test_terminals_do_not_obey_a_run(tmp_path, form):
    """Escape sequences in a policy's name and note are printed as what they are, in every form."""
    run = make_run(tmp_path / "run", SMALL, suites=("libero_goal",),
                   policy="\x1b]0;owned\x07 \x9b2J \u202e \ud800 \n=1+1")
    info = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**info, "policy": {"note": "\x1b[2J"}}))
    texts = [tables.render(run, form), *(grid.render(item, form) for item in paper.tables([run]).values())]
    if form != "latex":
        texts.append(compare_text.render(comparing.compare(run, run), form))
    for text in texts:
        assert not set("\x1b\x07\x9b\u202e") & set(text)
    assert form == "csv" or "\\x1b[2J" in texts[0].replace("\\textbackslash{}", "\\")


@pytest.mark.parametrize("text", [text for text in TEXTS if text and "\0" not in text])
def test_spreadsheets_do_not_compute_an_export(tmp_path, text):
    """No cell of an exported CSV begins as a formula does, whatever an instruction or a traceback says; other texts
    come back as they were."""
    run = make_run(tmp_path / "run", SMALL)
    lines = [{**json.loads(line), "instruction": text} for line in run.episodes_path.read_text().splitlines()]
    run.episodes_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    frames.export(run, tmp_path / "episodes.csv", "csv")
    with open(tmp_path / "episodes.csv", newline="") as file:
        cell = pd.read_csv(file, keep_default_na=False)["instruction"][0]
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell == (f"'{text}" if text[0] in "=+-@\t" else plain_lines(text))
    frames.export(run, tmp_path / "episodes.parquet", "parquet")
    assert len(pd.read_parquet(tmp_path / "episodes.parquet")) == 4


def test_a_table_in_markdown_stays_a_table(tmp_path):
    """Pipes, backslashes and line ends in a run's label do not add cells or rows."""
    for number, name in enumerate(("plain", "a|b", "a\\|b", "a\nb", "a`|`b")):
        run = make_run(tmp_path / str(number), SMALL, policy=name, suites=("libero_goal",))
        rows = [line for line in grid.render(paper.tables([run])["libero"], "markdown").splitlines()
                if line.startswith("|")]
        cells = {len(line.replace("\\\\", "").replace("\\|", "").split("|")) for line in rows}
        assert len(cells) == 1, name


@given(text=st.text(max_size=30) | st.sampled_from(TEXTS))
@tries(150)
def test_tex_does_not_obey_a_run(text):
    """Every character that TeX reads as a command is written as one that prints it."""
    escaped = latex.escape(plain(text))
    rest = re.sub(r"\\text(backslash|asciitilde|asciicircum|less|greater|bar)\{\}|\\[&%$#_{}]|\$-\$", "", escaped)
    assert not set("&%$#_{}\\~^<>|\"\n") & set(rest)


def test_records_of_other_episodes_are_refused(tmp_path):
    """An id that does not say what suite, task and index say."""
    run = make_run(tmp_path / "run", SMALL)
    line = json.loads(run.episodes_path.read_text().splitlines()[0])
    for change in ({"suite": "libero_goal"}, {"task": 1}, {"index": 1}):
        run.episodes_path.write_text(json.dumps({**line, **change}) + "\n")
        assert "another episode" in refusal(frames.load, run)


def test_a_run_folder_with_a_hostile_name(tmp_path):
    """Names of folders are shown, not obeyed; the report is written beside them."""
    folder = tmp_path / f"{SCRIPT.replace('/', '')}\x1b[2J\n"
    run = make_run(folder, SMALL)
    page = Page(write_report([run], folder / "report.html"))
    assert "img" not in {tag for tag, _ in page.elements} and len(page.scripts) == 2
    text = compare_text.render(comparing.compare(run, make_run(tmp_path / "other", SMALL)), "terminal")
    assert "\x1b" not in text and os.path.isfile(folder / "report.html")
