"""Tables of what was measured, and how far the goals are reached."""
import json
from statistics import median

LESS = {"s", "MiB", ""}
# Stores of the same work, nearest first.
PLACES = ["directory", "bucket", "20 ms away"]


def middle(results, measure, tool, field="value"):
    runs = results.get(measure, {}).get(tool)
    return median(getattr(run, field) for run in runs) if runs else None


def shown(value):
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def table(results, names, field, title):
    """One line for each measure. Behind each peer's figure: how many times better snapfold is."""
    lines = [f"{title:30}" + "".join(f"{name:>18}" for name in names)]
    for measure, runs in results.items():
        values = [middle(results, measure, name, field) for name in names]
        if not any(values):
            continue
        unit = next(iter(runs.values()))[0].unit if field == "value" else ""
        line = f"{measure + (', ' + unit if unit else ''):30}"
        for value in values:
            ratio = ""
            if value and values[0] and value is not values[0]:
                less = field != "value" or unit in LESS
                ratio = f"({value / values[0] if less else values[0] / value:.2f})"
            line += f"{shown(value):>10}{ratio:>8}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def best(results, measure, names, field="value"):
    values = [middle(results, measure, name, field) for name in names]
    return min((value for value in values if value), default=None)


def goals(results, names):
    """Each goal: what it compares, the ratio, and the most it may be. bupstash has key files alone, and is compared with
    snapfold with one."""
    others = ("snapfold", "key file", "squashfuse", "overlay", "user", "ext4", *PLACES)
    peers = [name for name in names if name not in others]

    def times(measure, other, field="value", ours="snapfold"):
        ours = middle(results, measure, ours, field)
        theirs = best(results, measure, [other] if isinstance(other, str) else other, field)
        if not ours or not theirs:
            return None
        unit = next(iter(results[measure].values()))[0].unit
        return ours / theirs if field != "value" or unit in LESS else theirs / ours

    def within(measure, other):
        ours, theirs = (middle(results, name, "snapfold") for name in (measure, other))
        return ours / theirs if ours and theirs else None

    wanted = [(f"{measure}, to squashfuse", times(measure, "squashfuse"), bound) for measure, bound in (
        ("find, cold", 1), ("find, warm", 1), ("tar, cold", 0.5), ("cp -a, cold", 0.5), ("dd, cold", 1),
        ("dd, again", 1),
        ("random 4k, 1 jobs", 1), ("random 4k, 4 jobs", 1), ("random 128k, 1 jobs", 1), ("random 128k, 4 jobs", 1))]
    wanted += [
        ("random 4k, 1 job to 4", within("random 4k, 1 jobs", "random 4k, 4 jobs"), 1),
        ("cp -a from the mount, to restore", within("cp -a, cold", "restore"), 1.3),
        ("restore, to bupstash", times("restore", "bupstash", ours="key file"), 1),
        ("first backup, to bupstash", times("first backup", "bupstash", ours="key file"), 0.5),
        ("first backup, processors, to bupstash", times("first backup", "bupstash", "cpu", "key file"), 1),
        ("first backup, size, to squashfs", times("first backup, size", "squashfuse"), 1),
        ("nothing changed, to bupstash", times("nothing changed", "bupstash", ours="key file"), 0.5),
        ("next version, growth, to the best peer", times("next version, growth", peers), 0.8),
        ("rewritten big file, growth, to the best peer", times("big file, growth", peers), 0.5),
        ("rsync and commit, to the best peer", times("rsync and commit", peers), 1.5),
        ("the same with an overlay", times("rsync and commit", peers, ours="overlay"), 1),
        ("the same with a user's overlay", times("rsync and commit", peers, ours="user"), 1.5),
        ("rsync, nothing changed, to ext4", times("rsync, nothing changed", "ext4"), 2),
        ("the same with an overlay", times("rsync, nothing changed", "ext4", ours="overlay"), 2),
        ("commit, nothing changed, seconds", middle(results, "its commit, nothing changed", "snapfold"), 1),
        ("dd into a stage, to ext4", times("dd into a stage", "ext4"), 1.5),
        ("the same with an overlay", times("dd into a stage", "ext4", ours="overlay"), 1.1),
        ("the same with a user's overlay", times("dd into a stage", "ext4", ours="user"), 1.5),
        ("requests per new file", middle(results, "requests per new file", "snapfold"), 9),
        ("memory at most, MiB", max((run.rss for runs in results.values() for run in runs.get("snapfold", [])),
                                    default=None), 256),
    ]
    for measure in ("nothing changed", "find, warm", "tar, warm", "restore, warm"):
        near, far = (middle(results, f"store: {measure}", place) for place in (PLACES[0], PLACES[-1]))
        wanted.append((f"{measure}, 20 ms away, to a directory", far / near if near and far else None, 1.5))
    lines = [f"{'goal':50}{'reached':>10}{'at most':>10}"]
    for name, value, bound in wanted:
        if value is not None:
            lines.append(f"{name:50}{value:10.2f}{bound:10.2f}{'' if value <= bound else '  missed'}")
    return "\n".join(lines)


def text(results, names):
    names = [name for name in names if any(name in runs for runs in results.values())]
    return "\n\n".join([
        table(results, names, "value", "median (times snapfold)"),
        table(results, names, "cpu", "processors' seconds"),
        table(results, names, "rss", "memory at most, MiB"),
        goals(results, names),
    ])


def write(path, results):
    with open(path, "w") as file:
        json.dump({measure: {tool: [{"value": run.value, "unit": run.unit, "wall": run.wall, "cpu": run.cpu,
                                     "rss": run.rss} for run in runs] for tool, runs in tools.items()}
                   for measure, tools in results.items()}, file, indent=1)
