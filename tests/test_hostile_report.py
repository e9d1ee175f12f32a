"""The report about runs whose every text is an attack, in a browser: no script runs, no element comes in."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from evalkit.records import Run
from evalkit.report import breakable, charts, write_report
from evalkit.texts import plain
from tests.hostile import SCRIPT, TEXTS, tries
from tests.test_report import Page, chromium  # noqa: F401 - a fixture

#: Breaks out of an attribute, of a comment, of the page's JSON and of its script, each in its own way.
ATTACK = ("\"'><!--</script></style></title></template></textarea>" + SCRIPT
          + "<svg onload=window.pwned=1><iframe srcdoc='<script>parent.pwned=1</script>'></iframe>"
          "<a href=javascript:window.pwned=1>\u2028\u2029{{ 7 * 7 }}${7*7}\\u003cscript\\u003e")

RECORD = {"suite": "toy", "task": 0, "seed": 1, "instruction": ATTACK, "scene_sha": ATTACK, "final_sha": ATTACK,
          "fingerprint": ATTACK, "steps": 3, "first_success_step": 3, "attempt": 1}


def hostile_name(attack: str = ATTACK) -> str:
    """`attack` as the name of a file."""
    return plain(attack).replace("/", "").encode()[:200].decode(errors="ignore")


def attack_run(folder: Path, attack: str = ATTACK) -> Run:
    """A run with an attack in each text that is not an id or a known word, also in keys."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    video = f"videos/{hostile_name(attack)[:60]}.mp4"
    (folder / video).write_bytes(b"")
    info = {
        "config": {"suites": ["toy"], "policy": attack, "policy_options": {attack: attack}, "episodes": [0, 3],
                   "seed_policy": attack, "seed": attack, attack: attack},
        "planned": [f"toy/00/{index:03d}" for index in range(3)], "command": attack, "started": attack,
        "fingerprints": {"toy": {"hash": attack, "parts": {attack: attack, "asset_kind": attack}}},
        "policy": {"note": attack, attack: {attack: attack}, "checkpoint": {"path": attack}},
        "versions": {attack: attack}, "hardware": {attack: [attack]}, "git": {"revision": attack},
        "settings": {attack: attack}, "merged": [{"name": attack, "command": attack, "kept": attack}],
    }
    records = [{**RECORD, "id": f"toy/00/{index:03d}", "index": index, "outcome": outcome, "instruction": attack,
                "fingerprint": attack, "video": video,
                "traceback": f"Traceback\n{attack}" if outcome == "error" else None}
               for index, outcome in enumerate(["success", "failure", "error"])]
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "episodes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return Run(folder)


#: What a page of two runs over toy without attacks holds; nothing else may come in.
HARMLESS = set("""html head meta title style body header h1 h2 h3 p strong ul li nav a noscript main section div table
    thead tbody tr th td button form label input select option output svg line path rect text caption figure figcaption
    article dl dt dd details summary code span aside pre script wbr""".split())  # noqa: SIM905


def test_no_script_runs_and_no_element_comes_in(chromium, tmp_path):  # noqa: F811
    """Opened, sorted, filtered, every cell and every discordant episode looked at, in headless Chromium."""
    runs = [attack_run(tmp_path / side / hostile_name()) for side in "ab"]
    (runs[1].folder / "episodes.jsonl").write_text((runs[1].folder / "episodes.jsonl").read_text().replace(
        '"outcome": "success"', '"outcome": "failure"'))
    path = write_report(runs, tmp_path / "report.html")
    asked, complaints = [], []
    with closing(chromium.new_page()) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        for button in page.locator("button.sort").all()[:12]:
            button.click()
        page.fill("#filter-text", ATTACK)
        page.click("button[type=reset]")
        page.wait_for_timeout(50)
        for cell in page.locator("#outcomes button.cell").all():
            cell.click()
        assert page.locator("#panel pre").text_content().endswith(ATTACK)
        page.locator(".discordant button").first.click()
        tags = set(page.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
        handlers = page.evaluate("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes])"
                                 ".filter(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value))"
                                 ".map(a => a.name)")
        scripts = page.evaluate("document.scripts.length")
        assert page.evaluate("window.pwned") is None
    assert tags - {"video"} <= HARMLESS and handlers == [] and scripts == 2
    assert complaints == [] and all(address.startswith("file:") for address in asked)


@given(attack=st.text(max_size=30) | st.sampled_from(TEXTS) | st.text("<>&\"'/!-=\\`{}%", max_size=12))
@tries(12)
def test_any_text(tmp_path_factory, attack):
    """Whatever the texts are, the page's elements are those of a page without them, and its data can be read."""
    folder = tmp_path_factory.mktemp("any")
    page = Page(write_report([attack_run(folder / "run", attack)], folder / "report.html"))
    assert {tag for tag, _ in page.elements} <= HARMLESS and len(page.scripts) == 2
    assert not attack or attack.encode("utf-8", "backslashreplace").decode() in page.data["texts"]


@given(text=st.text(max_size=20) | st.sampled_from(TEXTS))
@tries(50)
def test_pieces_of_the_page_escape_their_texts(text):
    """Charts and broken names are markup made of text."""
    for made in (breakable(text), charts.forest_row([], None, text), charts.histogram([1.0], 2.0, 2, text),
                 charts.stacked_bar({"reset": 1.0}, 1.0, text)):
        rest = str(made).replace("<wbr>", "")
        assert "<script" not in rest and "<img" not in rest and "onerror=\"" not in rest
