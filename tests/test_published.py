"""Published numbers: every average recomputed from its cells, the paper's claims, and the filters."""

from __future__ import annotations

import csv
import io
import re

import pandas as pd
import pytest

from evalkit import published
from evalkit.errors import InputError
from evalkit.published import AVERAGE, FILES, FOLDER, RATE, RECOMPUTED, averages, listing, load, summary
from evalkit.registry import load_suite

PAPER_GR1 = "arXiv:2603.10448v2 Table 2"
COLUMNS = ["benchmark", "method", "suite_or_task", "metric", "value", "n", "protocol", "source", "date", "note"]


def gr1(method: str, source: str = PAPER_GR1) -> pd.Series:
    """Rates of the 24 tasks in the paper's order."""
    rows = load(benchmark="robocasa_gr1", method=method, source=source)
    return rows[rows["suite_or_task"] != AVERAGE].drop_duplicates("suite_or_task").set_index("suite_or_task")["value"]


def named(agreement: str) -> set[tuple[str, str, str]]:
    """(method, first words of the source, printed average) of the averages that are so."""
    found = averages()[averages()["agreement"] == agreement]
    return {(row.method, row.source[:25], row.printed) for row in found.itertuples()}


@pytest.mark.parametrize("name, count", [("libero", 210), ("robocasa_gr1", 473), ("efficiency", 41), ("other", 32)])
def test_files(name, count):
    """The columns that the README names, and its number of rows."""
    with open(FOLDER / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS and len(rows) == count
    assert f"| `{name}.csv` | {count} |" in (FOLDER / "README.md").read_text()


def test_every_row_says_what_and_where():
    """No row without benchmark, method, metric, protocol and source; a row occurs once; rates lie in [0, 100]."""
    rows = load()
    assert not (rows[["benchmark", "method", "suite_or_task", "metric", "protocol", "source"]] == "").any().any()
    assert not rows.duplicated(["benchmark", "method", "suite_or_task", "metric", "protocol", "source"]).any()
    assert rows.loc[rows["metric"].isin([RATE, RECOMPUTED]), "value"].between(0, 100).all()
    assert (rows["n"].dropna() > 0).all()


def test_readme_explains_every_protocol():
    """Each protocol key in the data stands in the README's table, and no other."""
    keys = set(re.findall(r"`([a-z0-9.-]+)`", "".join(
        line.split("|")[1] for line in (FOLDER / "README.md").read_text().split("## Protocols")[1]
        .split("## Provenance")[0].splitlines() if line.startswith("| `"))))
    assert keys == set(load()["protocol"])


def test_printed_averages_that_differ():
    """Exactly two printed averages are not their cells' mean, however rounded."""
    assert named("differs") == {("GR00T-N1.5", "arXiv:2603.10448v2 Table ", "41.8"),
                                ("pi0", "github:FluxVLA/FluxVLA RE", "51.00")}
    wrong = averages().set_index("agreement").loc["differs", "recomputed"].tolist()
    assert wrong == pytest.approx([1006 / 24, 100 * 608 / 1200])  # 41.92, 50.67


def test_printed_averages_that_are_exact_halves():
    """Means that lie between two printable values: all but three were rounded up."""
    paper, page, star = "arXiv:2603.10448v2 Table ", "https://dit4dit.github.io", "github:starVLA/starVLA@0e"
    assert named("half up") == {
        ("Dita", paper, "92.3"), ("pi0", paper, "94.2"), ("pi0.5", paper, "96.9"), ("CogVLA", paper, "97.4"),
        ("GR00T-N1.5", paper, "94.1"), ("DiT4DiT", paper, "98.6"), ("Qwen3DiT", page, "96.6"),
        ("StarVLA-OFT (Qwen2.5-VL)", star, "96.1"), ("StarVLA-pi (Qwen2.5-VL)", star, "95.4"),
        ("StarVLA-GR00T (Qwen2.5-VL)", star, "95.4"), ("StarVLA-pi (Qwen3-VL)", star, "95.7"),
        ("OpenVLA-OFT", "https://github.com/moojin", "95.8"),
        ("DiT4DiT", paper, "50.8"), ("StarVLA-OFT (Qwen3-VL)", star, "48.8"),
        ("GR00T-N1.5 (24x30 demos)", "github:FluxVLA/FluxVLA@05", "44.3"),
    }
    assert named("half down") == {
        ("pi0", star, "94.1"), ("OpenVLA-OFT (joint checkpoint)", "github:allenai/vla-evalua", "96.7"),
        ("OpenVLA", "github:allenai/vla-evalua", "76.2"),
    }


def test_every_other_average_is_right():
    """57 averages have their cells published; three are not printed, the other 34 are rounded correctly."""
    assert averages()["agreement"].value_counts().to_dict() == {
        "equal": 34, "half up": 15, "half down": 3, "not printed": 3, "differs": 2}


def test_recomputed_rows_are_the_means_of_their_cells():
    """Averages that are marked as recomputed are so to their four decimals."""
    rows = load(metric=RECOMPUTED)
    rows = rows[rows["suite_or_task"] == AVERAGE]
    exact = averages().set_index(published.KEYS)["recomputed"]
    for row in rows.itertuples():
        assert row.value == pytest.approx(exact[row.benchmark, row.method, row.protocol, row.source], abs=6e-5)
    assert len(rows) > 40


def test_five_runs_and_their_pool():
    """The pooled rows of the release's five runs are the means of the five: 3412 of 6000 in all."""
    runs = [gr1("DiT4DiT", f"run {number} of 5") for number in range(1, 6)]
    pooled = gr1("DiT4DiT", "runs 1-5 pooled")
    assert pooled.tolist() == pytest.approx((sum(runs) / 5).tolist()) and len(pooled) == 24
    assert sum(int(run.sum() / 2) for run in runs) == 3412


def test_rates_of_fifty_episodes_are_even():
    """A GR1 task of 50 episodes has a rate that is a multiple of 2 %."""
    rows = load(benchmark="robocasa_gr1")
    rows = rows[(rows["n"] == 50) & (rows["suite_or_task"] != AVERAGE)]
    assert len(rows) == 24 * 14 + 2 and (rows["value"] % 2 == 0).all()


def test_rates_that_are_no_counts_of_their_episodes():
    """Every printed rate is k/n to its precision, except those that the README names."""
    rows = load(metric=RATE)
    rows = rows[rows["n"].notna() & (rows["suite_or_task"] != AVERAGE)]
    k = rows["value"] * rows["n"].astype(float) / 100
    ulp = rows["printed"].str.partition(".")[2].str.len().clip(lower=1).rpow(10.0).rdiv(1)
    impossible = rows[(100 * (k.round() / rows["n"].astype(float)) - rows["value"]).abs() > ulp / 2 + 1e-9]
    assert {(row.method, row.printed) for row in impossible.itertuples()} == {
        ("StarVLA-FAST (Qwen2.5-VL)", "97.3"), ("StarVLA-FAST (Qwen2.5-VL)", "96.1"),
        ("StarVLA-FAST (Qwen3-VL)", "97.3"), ("StarVLA-FAST (Qwen3-VL)", "96.3"),
        ("GR00T-N1.6", "97.65"), ("GR00T-N1.6", "98.45"), ("GR00T-N1.6", "94.35"),
    }


def test_gr1_tasks_are_the_suite_s():
    """The paper's rows are the suite's tasks, in the suite's order, for each of its four methods."""
    order = [task.label for task in load_suite("robocasa_gr1").tasks]
    for method in ("GR00T-N1.5", "GR00T-N1.6", "Qwen3DiT", "DiT4DiT"):
        assert gr1(method).index.tolist() == order


def test_claim_best_in_16_of_24_tasks():
    """Best or tied in 16, of which one is a tie."""
    ours = gr1("DiT4DiT")
    others = pd.concat([gr1(method) for method in ("GR00T-N1.5", "GR00T-N1.6", "Qwen3DiT")], axis=1).max(axis=1)
    assert int((ours >= others).sum()) == 16 and int((ours > others).sum()) == 15
    assert ours.index[ours == others].tolist() == ["FromTrayToTieredshelf"]
    assert (ours - others)["FromPlateToPan"] == 12


@pytest.mark.parametrize("method, claimed, from_cells", [
    ("GR00T-N1.5", 9.0, 8.83), ("GR00T-N1.6", 10.0, 9.92), ("Qwen3DiT", 14.6, 14.58)])
def test_claimed_margins(method, claimed, from_cells):
    """+9.0, +10.0 and +14.6 points are differences of printed averages."""
    printed = {name: load(method=name, suite_or_task=AVERAGE, metric=RATE, source=PAPER_GR1)["value"].item()
               for name in ("DiT4DiT", method)}
    assert printed["DiT4DiT"] - printed[method] == pytest.approx(claimed)
    assert (gr1("DiT4DiT") - gr1(method)).mean() == pytest.approx(from_cells, abs=0.005)


@pytest.mark.parametrize("method, source, means", [
    ("DiT4DiT", "runs 1-5 pooled", [61.4, 62.6, 48.6, 56.6]), ("DiT4DiT", PAPER_GR1, [45.0, 63.0, 43.0, 50.9]),
    ("Qwen3DiT", PAPER_GR1, [39.0, 45.0, 28.0, 35.8]), ("GR00T-N1.5", PAPER_GR1, [42.0, 53.0, 37.0, 41.2]),
    ("GR00T-N1.6", PAPER_GR1, [27.0, 20.0, 24.0, 46.6]),
    ("GR00T-N1.6", "Isaac-GR00T@7b16d58", [34.0, 10.8, 27.8, 55.4]),
    ("GR00T-N1.5 (post-trained 60k)", "Isaac-GR00T", [46.0, 44.0, 46.0, 49.1]),
])
def test_family_means(method, source, means):
    """Means over the Cabinet, Drawer, Microwave and Novel tasks."""
    group = {task.label: task.group for task in load_suite("robocasa_gr1").tasks}
    found = gr1(method, source).groupby(group).mean()[["Cabinet", "Drawer", "Microwave", "Novel"]]
    assert found.tolist() == pytest.approx(means, abs=0.0501)


def test_deployment():
    """The paper's Table 3: parameters in billions and Hz."""
    rows = load(benchmark="deployment", protocol="d4d-efficiency")
    rows = rows.pivot(index="method", columns="metric", values="value")
    assert rows.loc[["GR00T-N1.5", "Qwen3DiT", "DiT4DiT"], "frequency_hz"].tolist() == [13, 9, 6]
    assert rows.loc[["GR00T-N1.5", "Qwen3DiT", "DiT4DiT"], "trainable_parameters_billion"].tolist() == [2.7, 2.3, 2.2]


def test_filters():
    """Filters are combined; the source by any part of its text; what is stated as unknown stays unknown."""
    rows = load(benchmark="libero", method="DiT4DiT", protocol="d4d-libero", source="README")
    assert rows[rows["metric"] == RATE]["printed"].tolist() == ["98.6", "100.0", "99.2", "96.6", "98.6"]
    assert rows["n"].tolist() == [500, 500, 500, 500, 2000, 2000]
    assert load(method="Dita", source="Table 1")["n"].isna().all() and len(load()) == 210 + 473 + 41 + 32


@pytest.mark.parametrize("filters, message", [
    ({"method": "DiT4DIT"}, "unknown published method 'DiT4DIT'. Did you mean 'DiT4DiT'?"),
    ({"benchmark": "robocasa"}, "Did you mean 'robocasa_gr1'?"),
    ({"method": "Dita", "protocol": "d4d-libero"}, "Allowed: unstated, transcription"),
    ({"source": "no such"}, "unknown published source"),
    ({"method": "DiT4DiT ["}, "unknown published method"),
])
def test_unknown_filters(filters, message):
    """What matches nothing is an error that names what there is among the rows left."""
    with pytest.raises(InputError, match=re.escape(message)):
        load(**filters)


def test_load_gives_a_copy():
    """Changing what was loaded changes nothing for the next."""
    rows = load()
    rows["value"] = 0.0
    assert load()["value"].max() > 0


def test_outside_a_checkout(tmp_path, monkeypatch):
    """Without the files: a message, not a traceback."""
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    published._read.cache_clear()
    with pytest.raises(InputError, match=r"has no libero, robocasa_gr1, efficiency, other\.csv"):
        load()
    published._read.cache_clear()


def test_csv_listing_is_the_files():
    """All rows as CSV are the four files, one after another, value for value."""
    listed = list(csv.reader(io.StringIO(listing(load(), "csv"))))
    files = [list(csv.reader((FOLDER / f"{name}.csv").open(newline=""))) for name in FILES]
    assert listed == files[0][:1] + [row for file in files for row in file[1:]]


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_listing(form):
    """Values as printed, n or a dash, the source; a line for each row; what all rows share stands above, once."""
    text = listing(load(benchmark="libero", method="pi0", metric=RATE), form)
    assert sum("libero_10" in line for line in text.splitlines()) == 2
    line = next(line for line in text.splitlines() if "libero_10" in line)
    assert line.replace("|", " ").split()[:3] == ["libero_10", "85.2", "-"]
    assert f"benchmark libero, method pi0, metric {RATE}" in text
    one = listing(load(benchmark="libero", method="X-VLA"), form)  # a single row keeps its columns
    assert any(line.replace("|", " ").split()[:3] == ["libero", "X-VLA", "average"] for line in one.splitlines())
    with pytest.raises(InputError, match="unknown table format 'html'"):
        listing(load(), "html")


def test_summary():
    """One row a method, protocol and source, with its printed average and that average's n."""
    rows = summary(load(benchmark="robocasa_gr1", method="DiT4DiT"))
    assert len(rows) == 10 and rows.iloc[0][["rows", "average", "n"]].tolist() == [26, "50.8", 1200]
    pooled = rows[rows["source"].str.contains("pooled")].iloc[0]
    assert pooled["average"] == "" and pd.isna(pooled["n"])
    assert "50.8" in listing(rows, "terminal")
