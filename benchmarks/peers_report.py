"""The table of `make bench-peers` from its figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.libero_profile import row

Row = dict[str, Any]

#: CPU seconds a second of wall-clock below which a program with one busy thread was disturbed.
QUIET = 0.85


def report(found: Mapping[str, Any]) -> str:
    """The figures as markdown."""
    described = found["described"]
    lines = [f"LIBERO side by side, {found['date']}, {found['machine']}, {found['cores']} cores, "
             f"{described['renderer']}, mujoco {described['mujoco']}, {found['assets']} assets; one GL thread a "
             "process", "",
             f"Everybody plays {found['suite']} with the same actions over {found['horizon']} steps, both cameras at "
             f"256x256. {found['equal']} times an episode's end was compared with another program's, and equal: "
             "script and evalkit bit for bit, vla-eval in the gripper's pose that it records.", "",
             "script: sequential, in the style of the paper's release (a new environment a task, seeded once; reset, "
             "10 waits and every step rendered; pictures turned and resized; no video, policy in the same process). "
             "vla-eval: 0.8.0, without Docker, its own benchmark class, recording and server. evalkit: its rollout in "
             "one process; and through Ray, driver and results included. An episode goes from reset to last step with "
             "an environment that is there; start-up is what a process takes until it is ready, and an environment. "
             "CPU seconds (vla-eval's with its server's, evalkit's through Ray with the driver's) hardly change when "
             "something else runs on the machine, as the others do.",
             *(line for reason in found["left_out"] for line in ("", f"Left out: {reason}"))]
    variants = found["variants"]
    share = statistics.fmean(episode["cpu"] / episode["seconds"] for variant in variants.values()
                             for episode in steady(variant))
    if share < QUIET:
        lines += ["", f"**Something else was running: these programs had {100 * share:.0f} % of a core. Trust the CPU "
                      "seconds alone, and repeat it on a quiet machine.**"]
    for chunk in sorted({variant["chunk"] for variant in variants.values()}, reverse=True):
        lines += ["", f"Chunk {chunk}:", "",
                  row("", ["processes", "s an episode (n, least to most)", "CPU s an episode", "control steps/s/core",
                           "episodes/hour", "start-up, s", "wall-clock of the run, s"]), "|---|" + "---:|" * 7]
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
                      f"{statistics.fmean(episode['cpu'] for episode in steady(variant)):.2f}",
                      f"{steps / mean:.1f}", f"{3600 * count / mean:.0f}",
                      f"{variant['start']:.1f} + {build(variant):.2f} a task",
                      f"{variant['wall']:.1f} ({len(variant['episodes'])} episodes)"])


def steady(variant: Row, tasks: Sequence[int] | None = None) -> list[Row]:
    """Its episodes (of `tasks`) with an environment that is there: upstream's reset makes all anew, so that a peer's
    first is like any other; evalkit's without a build."""
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


def ratio(peer: Row, ours: Row, key: str) -> float:
    """A peer's mean `key` ("seconds" or "cpu") of an episode over evalkit's, over the tasks that both played."""
    both = shared(peer, ours)
    theirs, mine = (statistics.fmean(episode[key] for episode in steady(variant, both)) for variant in (peer, ours))
    return theirs / mine


def ratio_from_start(peer: Row, ours: Row, tasks: int) -> float:
    """The same of the seconds for one episode of each of `tasks` tasks with all that comes before: the process, and
    an environment for each."""
    both = shared(peer, ours)

    def seconds(variant: Row) -> float:
        first = statistics.fmean(episode["build"] + episode["seconds"] for episode in fresh(variant, both))
        return variant["start"] + first * tasks / variant["processes"]

    return seconds(peer) / seconds(ours)


def shared(*variants: Row) -> set[int]:
    """Tasks that all of them played."""
    return set.intersection(*({episode["task"] for episode in steady(variant)} for variant in variants))


def ratios(found: Mapping[str, Any]) -> list[str]:
    """The table of ratios."""
    variants, cores, tasks = found["variants"], found["cores"], found["tasks"]
    chunks = sorted({variant["chunk"] for variant in variants.values()}, reverse=True)
    lines = ["How many times faster than a peer a core is with evalkit, over the tasks that both played: in episodes / "
             f"in their CPU seconds / with start-up, {tasks} tasks with one episode each:", "",
             row("", [f"chunk {chunk}" for chunk in chunks]), "|---|" + "---:|" * len(chunks)]
    pairs = [(f"{ours}, over {peer}", peer + ", chunk {}", ours + ", chunk {}")
             for peer in ("script", "vla-eval") for ours in ("evalkit", worker_name(1))]
    if cores > 1:
        pairs.append((f"{worker_name(cores)}, over script in {cores} processes", f"script, {cores} processes",
                      worker_name(cores) + ", chunk {}"))
    for title, peer, ours in pairs:
        cells = []
        for chunk in chunks:
            theirs, mine = variants.get(peer.format(chunk)), variants.get(ours.format(chunk))
            cells.append(f"{ratio(theirs, mine, 'seconds'):.1f}x / {ratio(theirs, mine, 'cpu'):.1f}x / "
                         f"{ratio_from_start(theirs, mine, tasks):.1f}x" if theirs and mine else "-")
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
