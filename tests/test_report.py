"""The report: numbers and structure read from the file, behaviour in a headless Chromium where there is one.

    pip install playwright; apt-get install chromium
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import InputError
from evalkit.observers import VideoRecorder
from evalkit.records import Record, Run, fingerprint_hash
from evalkit.registry import load_suite
from evalkit.report import breakable, charts, contents, write_report
from evalkit.stats import wilson

EVIL = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">&amp; "quoted"'

#: Outcome and steps of each planned episode of toy's tasks near, far, unreachable; None: not run.
OUTCOMES = {
    0: [("success", 10), ("success", 20), ("failure", 40), ("success", 6), ("error", 0)],
    1: [("failure", 40), ("failure", 40), ("error", 0), None, None],
    2: [("success", 30), ("failure", 40), ("failure", 40), ("failure", 40), ("failure", 40)],
}
OTHER = {**OUTCOMES, 0: [("failure", 40), ("success", 20), ("success", 8), ("success", 6), ("success", 9)]}


def make_run(folder, outcomes=OUTCOMES, suites=("toy",), policy="noop", command="evalkit run -s toy", **parts) -> Run:
    """A closed run folder of these outcomes."""
    fingerprint = {"hash": fingerprint_hash(parts), "parts": parts}
    records = [record_of(suite, task, index, *found, fingerprint["hash"]) for suite in suites
               for task, row in outcomes.items() for index, found in enumerate(row) if found]
    run = Run(folder)
    with closing(run):
        run.open({
            "config": {"suites": list(suites), "policy": policy, "episodes": [0, 5], "seed_policy": "per_episode",
                       "seed": 7},
            "planned": [f"{suite}/{task:02d}/{index:03d}" for suite in suites for task, row in outcomes.items()
                        for index in range(len(row))],
            "fingerprints": dict.fromkeys(suites, fingerprint), "command": command,
            "versions": {"python": "3.11.7", "ray": "2.60.0"}, "git": {"revision": "abc123", "modified": True},
        })
    run.episodes_path.write_text("".join(json.dumps(vars(record)) + "\n" for record in records))
    return run


def record_of(suite: str, task: int, index: int, outcome: str, steps: int, fingerprint: str) -> Record:
    step = steps if outcome == "success" else None
    started = 1_000.0 + 10 * index
    return Record(
        f"{suite}/{task:02d}/{index:03d}", suite, task, index, seed=1, outcome=outcome, steps=steps,
        first_success_step=step, chunk_end_step=step, fingerprint=fingerprint, scene_sha=f"{task}-{index}",
        seconds_reset=0.5, seconds_physics=float(steps) / 10, seconds_render=0.25, seconds_policy=1.0,
        started=started, ended=started + 8 - task, worker=task, node="here",
        instruction=f"go {EVIL}", traceback=f"Traceback\n  line\nValueError: {EVIL}" if outcome == "error" else None)


def change(run: Run, episode: str, **values) -> None:
    """Change fields of one record in its file."""
    records = [replace(record, **values) if record.id == episode else record for record in run.records().values()]
    run.episodes_path.write_text("".join(json.dumps(vars(record)) + "\n" for record in records))


def add_video(run: Run, episode: str) -> None:
    """A second of video for one record: a white square that moves."""
    recorder = VideoRecorder(20.0)
    for step in range(10):
        frame = np.zeros((64, 96, 3), np.uint8)
        frame[20:40, 5 + 6 * step:25 + 6 * step] = 255
        recorder.frames.append(frame)
    name = f"videos/{episode.replace('/', '-')} ü#1.mp4"
    (run.folder / "videos").mkdir(exist_ok=True)
    (run.folder / name).write_bytes(recorder.encode())
    change(run, episode, video=name)


class Page(HTMLParser):
    """The parts of a page that tests ask for: tables as rows of texts, elements by tag, the data, all text."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text()
        self.elements: list[tuple[str, dict]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.section, self.text, self.cell, self.raw = "", [], False, None
        self.scripts: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.elements.append((tag, found))
        if tag == "section":
            self.section = found.get("id", "")
        elif tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        elif tag in ("td", "th") and self.tables.get(self.section):
            self.tables[self.section][-1].append("")
            self.cell = True
        elif tag in ("script", "style"):
            self.raw = tag

    def handle_endtag(self, tag):
        if tag == self.raw:
            self.raw = None
        elif tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data):
        if self.raw == "script":
            self.scripts.append(data)
        elif self.raw is None:
            self.text.append(data)
            if self.cell:
                row = self.tables[self.section][-1]
                row[-1] = (row[-1] + data).strip()

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])

    def all(self, tag: str, **attributes) -> list[dict]:
        return [found for name, found in self.elements
                if name == tag and all(found.get(key) == value for key, value in attributes.items())]

    def row(self, section: str, name: str) -> list[str]:
        """The first row of a section that has a field `name`."""
        return next(row for row in self.tables[section] if name in row)


def report(tmp_path: Path, *runs: Run, **options) -> Page:
    return Page(write_report(runs, tmp_path / "report.html", **options))


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_one_file_without_network(tmp_path):
    """Nothing is fetched: no address in the page but its own anchors, and a policy that forbids every other."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir() if path.name != "run"] == ["report.html"]
    addresses = [found[key] for _, found in page.elements for key in ("src", "href", "action", "data") if key in found]
    assert addresses and all(address.startswith("#") for address in addresses)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page.source)
    policy, = (found["content"] for found in page.all("meta", **{"http-equiv": "Content-Security-Policy"}))
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_task_rows(tmp_path):
    """k/n, rate, Wilson interval, errors, missing and steps of a task, worked out by hand."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    low, high = wilson(3, 4)
    assert page.row("tasks", "near") == [
        "near", "3/4", "75", f"[{100 * low:.0f}, {100 * high:.0f}]", "1", "0", "19", "toy/00"]
    assert page.row("tasks", "far")[1:6] == ["0/2", "0", "[0, 66]", "1", "2"]


def test_averages_with_bounds(tmp_path):
    """(3/4 + 0/2 + 1/5) / 3; bounds (3/5 + 0/5 + 1/5) / 3 and (4/5 + 3/5 + 1/5) / 3 over all planned episodes."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    row = page.row("results", "toy")
    assert row[:3] == ["toy", "4/11", "31.7"] and row[4:7] == ["3", "2", "2"] and row[-1] == "26.7 to 53.3"
    assert "INCOMPLETE: of 15 planned episodes 2 ended in errors and 2 were not run" in page.words


def test_a_complete_run_has_no_such_words(tmp_path):
    """No notice of missing episodes and no bounds where all were measured."""
    page = report(tmp_path, make_run(tmp_path / "run", {task: [("success", 8)] * 3 for task in range(3)}))
    assert "INCOMPLETE" not in page.words and page.row("results", "toy")[-1] == "-"


def test_an_average_over_some_tasks_says_so(tmp_path):
    """A run over one of three tasks says so beside its average; a task without measurement leaves none at all."""
    page = report(tmp_path, make_run(tmp_path / "some", {0: [("success", 8)]}))
    assert page.row("results", "toy")[1:5] == ["1/1", "100.0", "[20.7, 100.0]", "1 of 3"]
    assert page.row("forest", "average")[2].endswith("over 1 of 3 tasks")
    page = report(tmp_path, make_run(tmp_path / "none", {**OUTCOMES, 1: [("error", 0), None]}))
    assert page.row("results", "toy")[2:4] == ["-", "-"] and not re.search(r"\bnan\b", page.words, re.I)


@pytest.mark.parametrize("kind, warning", [
    ("real", None), ("stand-in", "stand-in assets: not comparable"), ("built-in", "built-in scenes: not comparable")])
def test_assets_are_named_wherever_numbers_are(tmp_path, kind, warning):
    """Title of the window, top of the page, both tables and the legend of published rates."""
    page = report(tmp_path, make_run(tmp_path / "run", asset_kind=kind), published={"near": 0.5})
    title = page.source.split("<title>")[1].split("</title>")[0]
    if warning:
        assert warning in title and page.words.count(warning) >= 5
    else:
        assert "not comparable" not in page.words


def test_a_reconstruction_is_named_wherever_numbers_are(tmp_path):
    """What a policy says of itself stands where the words on assets stand."""
    run = make_run(tmp_path / "run")
    info = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**info, "policy": {"note": "reconstruction of Qwen3DiT"}}))
    assert report(tmp_path, run, published={"near": 0.5}).words.count("policy: reconstruction of Qwen3DiT") >= 5


def test_what_is_left_to_its_default_is_no_fact(tmp_path):
    """Provenance is not padded with nulls."""
    run = make_run(tmp_path / "run")
    info = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**info, "settings": {"workers": None, "retries": 2}}))
    words = report(tmp_path, run).words
    assert "settings: retries" in words and "settings: workers" not in words


def test_forest_plot(tmp_path):
    """Interval, mark and the published diamond of `near` are at their percentages; the row says it in words too."""
    page = report(tmp_path, make_run(tmp_path / "run"), published={"near": 0.5, "toy": 0.25})
    low, high = wilson(3, 4)
    lines = [found for found in page.all("line") if "interval" in found["class"]]
    assert float(lines[0]["x1"][:-1]) == pytest.approx(100 * low, abs=0.01)
    assert float(lines[0]["x2"][:-1]) == pytest.approx(100 * high, abs=0.01)
    marks = [(found["class"], found["x"]) for found in page.all("svg") if found.get("class", "").startswith("mark")
             and found["x"] != "50%"]
    assert ("mark run0", "75%") in marks and ("mark published", "25%") in marks
    label = next(found["aria-label"] for found in page.all("svg", role="img") if "near" in found["aria-label"])
    assert label == "near: run 1: 3/4 75 % [30, 95]; published 50.0 % (n not stated)"
    assert page.row("forest", "average")[-1] == "25.0 % (n not stated)"


def test_no_mark_without_a_rate():
    """An undefined rate draws the scale alone."""
    drawn = charts.forest_row([charts.Estimate(0, float("nan"), float("nan"), float("nan"))], None, "x")
    assert "interval" not in drawn and "mark" not in drawn and drawn.count("gridline") == 5


def test_published_rates_of_the_paper(tmp_path):
    """Without the caller's, a suite of the paper gets the paper's rates, each with its n; toy has none."""
    ten, all_24 = ({task: [("success", 8)] for task in range(count)} for count in (10, 24))
    page = report(tmp_path, make_run(tmp_path / "gr1", all_24, ("robocasa_gr1",)))
    assert page.row("forest", "BottleToCabinetClose")[-1] == "48.0 % (n 50)"
    assert page.row("forest", "average")[-1] == "50.8 % (n 1200)" and "published: DiT4DiT" in page.words
    page = report(tmp_path, make_run(tmp_path / "libero", ten, ("libero_goal",)))
    assert page.row("forest", "average")[-1] == "98.6 % (n 500)"
    page = report(tmp_path, make_run(tmp_path / "part", {0: [("success", 8)]}, ("libero_goal",)))
    assert page.row("forest", "average")[-1] == ""
    assert "published" not in report(tmp_path, make_run(tmp_path / "toy")).words


def test_a_published_rate_in_percent_is_refused(tmp_path):
    """48 instead of 0.48 is a slip that would put the mark off the page."""
    run = make_run(tmp_path / "run")
    assert "fractions" in refusal(lambda: write_report([run], tmp_path / "x.html", published={"near": 48}))
    assert not (tmp_path / "x.html").exists()


def test_outcome_grid(tmp_path):
    """A cell an episode, in its task's row and its index's column, told by class, glyph and title."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    cells = [found for found in page.all("button") if found.get("class", "").startswith("cell")]
    assert len(cells) == 15
    assert [found["class"] for found in cells[:5]] == [
        f"cell {name}" for name in ("success", "success", "failure", "success", "error")]
    assert cells[8]["title"] == "toy/01/003: missing" and cells[8]["data-e"] == "8"
    assert page.tables["outcomes"][1] == ["00 near", "✓", "✓", "✕", "✓", "!"]
    assert page.tables["outcomes"][2] == ["01 far", "✕", "✕", "!", "·", "·"]


def test_ragged_plans_keep_their_columns(tmp_path):
    """Tasks with other numbers of episodes leave gaps, not shifted cells."""
    page = report(tmp_path, make_run(tmp_path / "run", {0: [("success", 1)], 2: [("failure", 40)] * 3}))
    assert page.tables["outcomes"][1:3] == [["00 near", "✓", "", ""], ["02 unreachable", "✕", "✕", "✕"]]


def test_time_breakdown(tmp_path):
    """Means over the 11 measured episodes: physics 34.6 s / 11; per step 53.85 s in 346 steps."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    row = page.row("time", "toy")
    assert row[2:] == ["0.50", "3.15", "0.25", "1.00", "4.90", "155.6", "11"]


def test_utilisation(tmp_path):
    """Three workers over 48 s: tasks take 8, 7 and 6 s an episode, 5, 3 and 5 of them are recorded; far's worker ends
    after 27 s, unreachable's after 46."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    idle, tail = 1 - (5 * 8 + 3 * 7 + 5 * 6) / (3 * 48), (21 + 2) / (3 * 48)
    assert (f"3 workers, 48 s: {100 * idle:.1f} % of the worker-time was idle, {100 * tail:.1f} % in the tail of 21 s, "
            "after a worker's last episode; n 13") in page.words
    assert len([found for found in page.all("rect") if found.get("class") == "tail"]) > 60
    run = make_run(tmp_path / "old")
    for name in run.records():
        change(run, name, started=None, ended=None, worker=None, node=None)
    assert "no record says when it was measured" in report(tmp_path, run).words


def test_success_steps(tmp_path):
    """Steps 6, 10, 20 and 30 of the four successes; bins are closed on the right."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    assert "4 successes; half of them between steps 9 and 22, median 15" in page.words
    assert charts.bin_counts([1, 10, 11, 20, 40], 40, 4)[0] == [2, 2, 0, 1]
    assert charts.bin_counts([], 40, 4) == ([0, 0, 0, 0], [0, 10, 20, 30, 40])


def test_the_rule_decides_which_step_counts(tmp_path):
    """A chunk-end suite shows the step of the chunk end, not the first success within a chunk."""
    run = make_run(tmp_path / "run", {0: [("success", 24)]}, ("robocasa_gr1",))
    change(run, "robocasa_gr1/00/000", first_success_step=17)
    assert "median 24" in report(tmp_path, run).words


def test_provenance(tmp_path):
    """Command, revision, versions, config and the fingerprint with its parts are there to read."""
    run = make_run(tmp_path / "run", simulator="1.5.1", max_steps=40)
    words = report(tmp_path, run).words
    for part in ("evalkit run -s toy", "abc123 (with uncommitted changes)", "versions: ray 2.60.0",
                 "config: seed_policy per_episode", fingerprint_hash({"simulator": "1.5.1", "max_steps": 40}),
                 "simulator 1.5.1"):
        assert part in words, part


def test_runs_without_provenance_are_shown(tmp_path):
    """A run.json with the needed keys alone is shown with what is unknown said."""
    run = make_run(tmp_path / "run")
    info = {key: run.info[key] for key in ("config", "planned", "fingerprints")}
    (run.folder / "run.json").write_text(json.dumps(info))
    assert "git revision unknown" in report(tmp_path, run).words


def test_comparison_of_two_runs(tmp_path):
    """Discordant episodes, by hand: only A 0/0; only B 0/2. 0/4 is an error of A and counts for neither."""
    page = report(tmp_path, make_run(tmp_path / "a"), make_run(tmp_path / "b", OTHER, policy="other"))
    pair, = page.data["pairs"]
    assert (pair["a"], pair["b"], pair["only_a"], pair["only_b"]) == (0, 1, [[0, 0]], [[2, 2]])
    assert page.row("compare", "near")[:5] == ["near", "3/4", "3/4", "1", "1"] and "B - A +0.0 points" in page.words
    assert "paired: same episode ids and fingerprint" in page.words


def test_discordant_rows_follow_each_run(tmp_path):
    """The second run planned fewer episodes: rows are numbered in each run's own plan."""
    fewer = {0: [("success", 5)], 2: [("failure", 40)] * 5}
    page = report(tmp_path, make_run(tmp_path / "a"), make_run(tmp_path / "b", fewer))
    pair, = page.data["pairs"]
    (first, second), = pair["only_a"]
    assert [page.data["runs"][run]["episodes"][row][0] for run, row in enumerate((first, second))] == ["toy/02/000"] * 2
    assert (first, second) == (10, 1)


def test_other_fingerprints_and_other_suites(tmp_path):
    """A field that differs is named and nothing is called a pair; runs of different suites are refused in words."""
    page = report(tmp_path, make_run(tmp_path / "a", simulator="1"), make_run(tmp_path / "b", OTHER, simulator="2"),
                  make_run(tmp_path / "c", {0: [("success", 8)]}, ("libero_goal",)))
    assert "simulator is '1' in A, '2' in B" in page.words and page.data["pairs"][0]["only_a"] == []
    assert "runs of different suites cannot be compared" in page.words
    assert [(pair["a"], pair["b"]) for pair in page.data["pairs"]] == [(0, 1), (0, 2), (1, 2)]


def test_one_run_has_no_comparison(tmp_path):
    """No empty section and no letters of runs."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    assert "compare" not in page.tables and page.data["pairs"] == [] and not page.all("select", id="compare-pair")


def test_untrusted_text_is_text(tmp_path):
    """Instruction, traceback, folder, policy, command and fingerprint hold markup: none of it becomes an element."""
    run = make_run(tmp_path / "<script>a<b>", policy=EVIL, command=EVIL, simulator=EVIL)
    page = report(tmp_path, run)
    assert len(page.all("script")) == 2 and not page.all("img") and not page.all("b")
    assert page.source.count("<script") == 2 and page.source.count("</script") == 2
    assert EVIL in page.words and any(text.endswith(f"ValueError: {EVIL}") for text in page.data["texts"])
    assert str(breakable("<b>_cToD")) == "&lt;b&gt;_<wbr>c<wbr>To<wbr>D"


def test_same_records_same_bytes(tmp_path):
    """The order of lines in the file, and when the report is made, change nothing; reading changes no file."""
    run = make_run(tmp_path / "run")
    before = sorted((path.name, path.read_bytes()) for path in run.folder.iterdir())
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert sorted((path.name, path.read_bytes()) for path in run.folder.iterdir()) == before
    run.episodes_path.write_text("\n".join(reversed(run.episodes_path.read_text().splitlines())) + "\n")
    assert write_report([run], tmp_path / "b.html").read_bytes() == first


def test_videos_are_named_relative_to_the_page(tmp_path):
    """The address leads from the page's folder to the run's, quoted; a file that is gone or outside is not named."""
    run = make_run(tmp_path / "runs" / "a b")
    add_video(run, "toy/00/000")
    change(run, "toy/00/001", video="videos/gone.mp4")
    (tmp_path / "secret.mp4").write_text("x")
    change(run, "toy/00/002", video="../../secret.mp4")
    page = report(tmp_path, run)
    column = page.data["columns"].index("video")
    assert [row[column] for row in page.data["runs"][0]["episodes"][:4]] == [
        "runs/a%20b/videos/toy-00-000%20%C3%BC%231.mp4", None, None, None]
    inside = Page(write_report([run], run.folder / "report.html"))
    assert inside.data["runs"][0]["episodes"][0][column].startswith("videos/toy-00-000")


def test_long_tracebacks_keep_the_page_small(tmp_path):
    """Hundreds of errors with tracebacks of their own: the reasons are kept, the page stays under 5 MB."""
    run = make_run(tmp_path / "run", {0: [("error", 0)] * 400})
    records = [replace(record, traceback="".join(f"{record.id} frame {line}\n" for line in range(250))
                       + f"ValueError: reason {record.index}") for record in run.records().values()]
    run.episodes_path.write_text("".join(json.dumps(vars(record)) + "\n" for record in records))
    page = report(tmp_path, run)
    column = page.data["columns"].index("traceback")
    shown = [page.data["texts"][row[column]] for row in page.data["runs"][0]["episodes"]]
    assert all(text.endswith(f"ValueError: reason {index}") for index, text in enumerate(shown))
    assert len(page.source) < 3_000_000 and "rest is in episodes.jsonl" in shown[-1] and "frame 249" in shown[0]


def test_a_whole_benchmark_is_small(tmp_path):
    """LIBERO's 40 tasks x 50 episodes, twice, compared: well below 5 MB."""
    suites = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    outcomes = {task: [("success" if (task + index) % 7 else "failure", 100 + index) for index in range(50)]
                for task in range(10)}
    path = write_report([make_run(tmp_path / name, outcomes, suites) for name in "ab"], tmp_path / "report.html")
    assert path.stat().st_size < 2_500_000
    assert len([found for found in Page(path).all("button") if found.get("class", "").startswith("cell")]) == 4000


@pytest.mark.parametrize("outcomes", [{}, {0: [None]}, {0: [("success", 3)]}, {0: [("error", 0)]}])
def test_small_runs(tmp_path, outcomes):
    """No episode planned, none run, a single one, a single error: an honest page."""
    page = report(tmp_path, make_run(tmp_path / "run", outcomes))
    assert ("EMPTY" in page.words) == (outcomes == {}) and not re.search(r"\bnan\b", page.words, re.I)
    assert len(page.data["runs"][0]["episodes"]) == len(outcomes)
    two = report(tmp_path, make_run(tmp_path / "run"), make_run(tmp_path / "other"))
    assert len(two.data["pairs"]) == 1


def test_edited_runs_are_refused(tmp_path):
    """A record that no evaluation writes is named; the report that was there stays."""
    run = make_run(tmp_path / "run")
    path = write_report([run], tmp_path / "report.html")
    before = path.read_bytes()
    change(run, "toy/00/000", outcome="sucess")
    assert "outcome 'sucess'" in refusal(write_report, [run], path) and path.read_bytes() == before
    assert "at least one run" in refusal(write_report, [], path)
    assert "is not a run" in refusal(write_report, [Run(tmp_path / "nothing")], path)


def test_columns_of_the_data(tmp_path):
    """Every episode has a value a column, and the script asks for no other."""
    page = report(tmp_path, make_run(tmp_path / "run"))
    assert all(len(row) == len(contents.COLUMNS) for row in page.data["runs"][0]["episodes"])
    asked = set(re.findall(r"\bepisode\.(\w+)", page.scripts[1]))
    assert asked <= set(contents.COLUMNS) and {"video", "traceback", "outcome"} <= asked


# In a browser.

CHROMIUM = os.environ.get("EVALKIT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, or a reason to skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in EVALKIT_CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A report about two runs over toy, with videos of one discordant episode."""
    folder = tmp_path_factory.mktemp("browser")
    runs = [make_run(folder / "runs" / "first <b>", asset_kind="stand-in"),
            make_run(folder / "runs" / f"second{'-long' * 12}", OTHER, policy="other", asset_kind="stand-in")]
    for run in runs:
        add_video(run, "toy/00/000")
    return write_report(runs, folder / "report.html", published={"near": 0.5})


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda item: f"{item}")
def look(request):
    """Width of the window and colour scheme."""
    return request.param


@pytest.fixture
def opened(chromium, file):
    """Opens the report; what the browser complained of, and every address it asked for, must be empty or a file."""
    contexts, complaints, requests = [], [], []

    def open_page(width=1280, scheme="light"):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == [] and all(address.startswith("file:") for address in requests)


def wait_until(page, condition: str, seconds: float = 20.0) -> None:
    """Wait for a condition in the page; playwright's own wait would evaluate text, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        page.wait_for_timeout(50)


def names(page, section: str) -> list[str]:
    """Names of the rows of a section's table that are shown."""
    return page.eval_on_selector_all(f"#{section} tbody tr:not([hidden]) th", "all => all.map(e => e.textContent)")


def test_renders_at_each_width_and_scheme(opened, look):
    """No complaint, no sideways scrolling of the page, and the colours of the scheme."""
    page = opened(*look)
    assert page.evaluate("document.documentElement.scrollWidth") == look[0]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if look[1] == "light" else "rgb(20, 22, 26)")
    assert page.is_visible("#results") and page.locator("#outcomes button.cell").count() == 30
    assert page.evaluate("document.querySelector('svg.plot').getBoundingClientRect().width") > 100


def test_nothing_overflows_with_the_panel_open(opened, look):
    """An opened episode fits the window, and its cell can still be seen beside it."""
    page = opened(*look)
    page.locator("#outcomes button.cell.success").first.click()
    panel = page.locator("#panel").bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") == look[0]
    assert panel["x"] >= 0 and panel["x"] + panel["width"] <= look[0]
    cell = page.locator("[aria-current]").bounding_box()
    assert cell["x"] + cell["width"] <= panel["x"] or cell["y"] + cell["height"] <= panel["y"]


def test_sorting(opened):
    """A click sorts upwards, the next downwards, and the header says so; text sorts as text."""
    page = opened()
    rate = page.locator("#tasks th", has_text="rate %")
    rates = "#tasks tbody td:nth-child(4)"
    for direction in ("ascending", "descending"):
        rate.locator("button").click()
        found = [float(text) for text in page.locator(rates).all_text_contents()]
        assert found == sorted(found, reverse=direction == "descending") and len(set(found)) > 2
        assert rate.get_attribute("aria-sort") == direction
    page.locator("#tasks th", has_text="task").locator("button").click()
    assert names(page, "tasks") == ["far", "far", "near", "near", "unreachable", "unreachable"]
    assert rate.get_attribute("aria-sort") == "none"


def test_averages_stay_below_their_tasks(opened):
    """Sorting the forest plot moves tasks only."""
    page = opened()
    button = page.locator("#forest th", has_text="k/n").locator("button")
    button.click()
    assert names(page, "forest") == ["far", "unreachable", "near", "average"]
    button.click()
    assert names(page, "forest") == ["near", "unreachable", "far", "average"]
    for _ in range(2):  # only near has a published rate: rows without one come after it either way
        page.locator("#forest th", has_text="published").locator("button").click()
        assert names(page, "forest")[0] == "near" and names(page, "forest")[-1] == "average"


def test_filtering(opened):
    """Text filters tasks in tables, plot and grid; outcome dims the other cells; reset shows all again."""
    page = opened()
    page.fill("#filter-text", "toy FAR")
    assert names(page, "tasks") == ["far", "far"] and names(page, "forest") == ["far", "average"]
    assert page.text_content("#filter-count") == "1 of 3 tasks"
    page.fill("#filter-text", "")
    page.select_option("#filter-outcome", "error")
    assert names(page, "outcomes") == ["00 near", "01 far", "01 far"]
    assert page.locator("button.cell:not(.dim)").count() == 3
    page.select_option("#filter-suite", "toy")
    page.fill("#filter-text", "nothing like it")
    assert names(page, "tasks") == [] and page.text_content("#filter-count") == "0 of 3 tasks"
    page.click("button[type=reset]")
    wait_until(page, "document.getElementById('filter-count').textContent === '3 of 3 tasks'")
    assert len(names(page, "outcomes")) == 6 and page.locator("button.cell.dim").count() == 0


def test_a_cell_plays_its_video(opened):
    """The mp4 that evalkit writes is found beside the page, decoded and played."""
    page = opened()
    page.locator("#outcomes button.cell").first.click()
    wait_until(page, "document.querySelector('#panel video').currentTime > 0")
    assert page.evaluate("[video = document.querySelector('video'), video.videoWidth, video.videoHeight].slice(1)"
                         ) == [96, 64]
    assert page.text_content("#panel h2") == "toy/00/000"
    page.keyboard.press("Escape")
    assert page.is_hidden("#panel") and page.evaluate("document.activeElement.dataset.e") == "0"


def test_a_cell_shows_its_traceback_as_text(opened):
    """Markup in a traceback and an instruction is shown, not obeyed; episodes without a video say so."""
    page = opened()
    page.locator("#outcomes button.cell.error").first.click()
    assert page.text_content("#panel pre").endswith(f"ValueError: {EVIL}")
    assert f"go {EVIL}" in page.locator("#panel dd").all_text_contents()
    page.locator("#outcomes button.cell.failure").first.click()
    assert "No video of this episode" in page.text_content("#panel")
    page.locator("#outcomes button.cell.missing").first.click()
    assert "was not run" in page.text_content("#panel")
    assert page.evaluate("window.pwned") is None and page.locator("img").count() == 0


def test_the_grid_by_keyboard(opened):
    """One stop of Tab a grid; arrows move within it, and Enter opens."""
    page = opened()
    assert page.locator("button.cell[tabindex='0']").count() == 2
    page.locator("button.cell[tabindex='0']").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert page.text_content("#panel h2") == "toy/02/000"
    page.keyboard.press("ArrowUp")
    assert page.text_content("#panel h2") == "toy/01/000"
    assert page.locator("button.cell[tabindex='0']").count() == 2


def test_discordant_videos_side_by_side(opened):
    """The episode at which only A succeeded opens with both runs' videos next to each other, and both play."""
    page = opened()
    buttons = page.locator(".discordant button")
    assert buttons.all_text_contents() == ["toy/00/000", "toy/00/002"]
    buttons.first.click()
    wait_until(page, "[...document.querySelectorAll('#panel video')].filter(v => v.readyState >= 2).length === 2")
    left, right = (page.locator("#panel video").nth(side).bounding_box() for side in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    page.click("text=Play both")
    wait_until(page, "[...document.querySelectorAll('#panel video')].every(v => v.currentTime > 0)")


def test_another_pair(chromium, tmp_path):
    """With three runs another pair is picked: its table and its discordant episodes are shown instead."""
    runs = [make_run(tmp_path / name, outcomes) for name, outcomes in (("a", OUTCOMES), ("b", OTHER), ("c", OUTCOMES))]
    page = chromium.new_page()
    page.goto(write_report(runs, tmp_path / "report.html").as_uri())
    assert page.locator("#compare-pair option").count() == 3 and page.locator(".discordant button").count() == 2
    page.select_option("#compare-pair", "1")
    assert page.locator(".discordant button").count() == 0
    assert page.locator("article.pair:visible").count() == 1 and "3: c" in page.text_content("article.pair:visible")
    page.close()


def test_print(opened):
    """On paper: light colours whatever the screen has, no controls, nothing cut off at the side."""
    page = opened(1280, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.is_hidden(".filter") and page.is_hidden("nav") and page.is_visible("#provenance")
    assert page.evaluate("document.documentElement.scrollWidth") == 700


def test_suites_of_the_report_exist():
    """The suites named in these tests are registered, so that their rules are the real ones."""
    assert load_suite("robocasa_gr1").success_rule == "chunk_end" and load_suite("toy").success_rule == "any_step"
