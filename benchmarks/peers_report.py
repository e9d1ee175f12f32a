"""The table of `make bench-peers` from its figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.libero_profile import row

Row = dict[str, Any]


def report(found: Mapping[str, Any]) -> str:
    """The figures as markdown."""
    described = found["described"]
    lines = [f"LIBERO side by side, {found['date']}, {found['machine']}, {found['cores']} cores, "
             f"{described['renderer']}, mujoco {described['mujoco']}, {found['assets']} assets; one GL thread a "
             "process", "",
             f"Everybody plays {found['suite']} with the same actions over {found['horizon']} steps, both cameras at "
             f"256x256. {found['equal']} episodes were compared with the script's where they end and are equal: "
             "evalkit's bit for bit, vla-eval's in the gripper's pose that it records.", "",
             "script: sequential, in the style of the paper's release (a new environment a task, seeded once; reset, "
             "10 waits and every step rendered; pictures turned and resized; no video, policy in the same process). "
             "vla-eval: 0.8.0, without Docker, its own benchmark class, recording and server. evalkit: its rollout in "
             "one process; and through Ray, driver and results included. An episode goes from reset to last step with "
             "an environment that is there; start-up is what a process takes until it is ready, and an environment.",
             *(["", f"Left out: {found['left_out']}"] if "left_out" in found else [])]
    variants = found["variants"]
    for chunk in sorted({variant["chunk"] for variant in variants.values()}, reverse=True):
        lines += ["", f"Chunk {chunk}:", "",
                  row("", ["processes", "s an episode (n, least to most)", "control steps/s/core", "episodes/hour",
                           "start-up, s", "wall-clock of the run, s"]), "|---|" + "---:|" * 6]
        lines += [variant_row(name, variant) for name, variant in variants.items() if variant["chunk"] == chunk]
    lines += ["", *ratios(found), "", *where_time_goes(variants), "",
              f"The whole benchmark took {found['took'] / 60:.1f} minutes.", ""]
    return "\n".join(lines)


def variant_row(name: str, variant: Row) -> str:
    """One line of the table."""
    seconds = [episode["seconds"] for episode in steady(variant)]
    mean, count = statistics.fmean(seconds), variant["processes"]
    steps = statistics.fmean(episode["steps"] for episode in steady(variant))
    return row(name, [str(count), f"{mean:.2f} ({len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f})",
                      f"{steps / mean:.1f}", f"{3600 * count / mean:.0f}",
                      f"{variant['start']:.1f} + {build(variant):.2f} a task",
                      f"{variant['wall']:.1f} ({len(variant['episodes'])} episodes)"])


def steady(variant: Row, tasks: Sequence[int] | None = None) -> list[Row]:
    """Its episodes (of `tasks`) with an environment that is there: upstream's reset makes all anew, so that a peer's
    first is like any other; evalkit's second ones."""
    episodes = variant["episodes"]
    warm = [episode for episode in episodes if episode["build"] == 0] or episodes
    return [episode for episode in warm if tasks is None or episode["task"] in tasks]


def fresh(variant: Row, tasks: Sequence[int] | None = None) -> list[Row]:
    """Its episodes (of `tasks`) for which an environment was built."""
    return [episode for episode in variant["episodes"] if episode["build"] > 0
            and (tasks is None or episode["task"] in tasks)]


def build(variant: Row) -> float:
    """Mean seconds of building an environment."""
    return statistics.fmean(episode["build"] for episode in fresh(variant))


def ratio(peer: Row, ours: Row, tasks: int = 0) -> float:
    """How many times faster a core is with us, over the tasks that both played. tasks: with start-up, for one
    episode of each of so many tasks."""
    both = {episode["task"] for episode in steady(peer)} & {episode["task"] for episode in steady(ours)}

    def seconds(variant: Row) -> float:
        if not tasks:
            return statistics.fmean(episode["seconds"] for episode in steady(variant, both))
        first = statistics.fmean(episode["build"] + episode["seconds"] for episode in fresh(variant, both))
        return variant["start"] + first * tasks / variant["processes"]

    return seconds(peer) / seconds(ours)


def ratios(found: Mapping[str, Any]) -> list[str]:
    """The table of ratios."""
    variants, cores, tasks = found["variants"], found["cores"], found["tasks"]
    chunks = sorted({variant["chunk"] for variant in variants.values()}, reverse=True)
    lines = ["How many times faster than a peer a core is with evalkit, over the tasks that both played "
             f"(in brackets: with start-up, {tasks} tasks with one episode each):", "",
             row("", [f"chunk {chunk}" for chunk in chunks]), "|---|" + "---:|" * len(chunks)]
    pairs = [(f"{ours}, over {peer}", "{}, chunk {}".format(peer, "{}"), "{}, chunk {}".format(ours, "{}"))
             for peer in ("script", "vla-eval") for ours in ("evalkit", worker_name(1))]
    if cores > 1:
        pairs.append((f"{worker_name(cores)}, over script in {cores} processes", f"script, {cores} processes",
                      worker_name(cores) + ", chunk {}"))
    for title, peer, ours in pairs:
        cells = []
        for chunk in chunks:
            theirs, mine = variants.get(peer.format(chunk)), variants.get(ours.format(chunk))
            cells.append(f"{ratio(theirs, mine):.1f}x ({ratio(theirs, mine, tasks):.1f}x)" if theirs and mine else "-")
        lines.append(row(title, cells))
    return lines


def worker_name(count: int) -> str:
    """What evalkit through Ray is called with so many workers."""
    return f"evalkit, Ray, {count} worker{'s' if count > 1 else ''}"


def where_time_goes(variants: Mapping[str, Row]) -> list[str]:
    """Seconds of evalkit's episodes by phase."""
    ours = {name: variant for name, variant in variants.items() if name.startswith("evalkit")}
    lines = ["Where the time of evalkit's episodes goes, ms (means of the episodes above; shares):", "",
             row("", list(ours)), "|---|" + "---:|" * len(ours)]
    columns = [parts(variant) for variant in ours.values()]
    for name in columns[0]:
        lines.append(row(name, [f"{1000 * column[name]:.0f} ({100 * column[name] / sum(column.values()):.0f} %)"
                                for column in columns]))
    lines.append(row("total", [f"{1000 * sum(column.values()):.0f}" for column in columns]))
    return lines


def parts(variant: Row) -> dict[str, float]:
    """Mean seconds of each phase of an episode, and what is in none."""
    episodes = steady(variant)
    found = {name: statistics.fmean(episode["phases"][name] for episode in episodes)
             for name in episodes[0]["phases"]}
    return found | {"all else (loop, Ray, driver)":
                    statistics.fmean(episode["seconds"] for episode in episodes) - sum(found.values())}
