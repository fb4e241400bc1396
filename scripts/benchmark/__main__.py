"""Measures snapfold and its peers in turn, tool after tool within each repetition, and prints tables."""
import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import corpora
import report
import tools
from work import Failed, Mounted, Took, drop_caches, requests, run

MEASURES = ["backup", "big", "tiny", "browse", "read", "restore", "stage", "requests", "distance"]
# Appends to every hundredth file.
ONE_PERCENT = "find . -type f | sort | awk 'NR % 100 == 0' | while read -r file; do echo more >>\"$file\"; done"
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Bench:
    def __init__(self, args):
        self.top, self.quick, self.only = args.dir, args.quick, args.only
        self.tools = tools.found(args.tools)
        self.snapfold = self.tools[0]
        self.repetitions = args.repetitions
        self.results, self.numbers, self.turn = {}, {}, 0

    def say(self, text):
        print(f"{time.monotonic() - self.start:5.0f} s  {text}", file=sys.stderr, flush=True)

    def record(self, measure, tool, took):
        name = tool if isinstance(tool, str) else tool.name
        self.results.setdefault(measure, {}).setdefault(name, []).append(took)
        self.say(f"{measure:28} {name:10} {took.value:9.2f} {took.unit:5} {took.cpu:6.2f} s cpu {took.rss:6.0f} MiB")

    @contextlib.contextmanager
    def trying(self, measure, tool):
        """A tool that fails is told of and left out."""
        try:
            yield
        except (Failed, OSError) as error:
            self.say(f"{measure:28} {getattr(tool, 'name', tool):10} failed: {error}")

    def turns(self, mounting=False):
        """All tools, another one first in each repetition."""
        shift = self.turn % len(self.tools)
        order = self.tools[shift:] + self.tools[:shift]
        return [tool for tool in order if tool.mounts or not mounting]

    # --- repositories ---

    def source(self, corpus):
        return f"{self.top}/{corpus}/live" if corpus != "tiny" else f"{self.top}/tiny"

    def repo(self, tool, corpus):
        return f"{self.top}/repos/{tool.name}-{corpus}"

    def number(self, tool, corpus):
        return self.numbers.get((tool.name, corpus), 0)

    def warm(self, corpus):
        """Sources are read from memory: tools are measured, and no disk."""
        subprocess.run(["tar", "cf", "/dev/zero", self.source(corpus)], stderr=subprocess.DEVNULL, check=True)

    def fresh(self):
        """ext4 makes files slowly for a minute where it remembers that others were deleted."""
        drop_caches()
        self.warm("linux")

    def init(self, tool, corpus):
        repo = self.repo(tool, corpus)
        for path in (repo, repo + ".cache", repo + ".state"):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(repo + ".key")
        os.makedirs(os.path.dirname(repo), exist_ok=True)
        for argv in tool.init(repo):
            run(argv, env=tool.env(repo))
        self.numbers[tool.name, corpus] = 0

    def backup(self, measure, tool, corpus, first=False, growth=None):
        with self.trying(measure, tool):
            if first:
                self.init(tool, corpus)
            repo = self.repo(tool, corpus)
            number = self.numbers[tool.name, corpus] = self.number(tool, corpus) + 1
            before = size(repo)
            took = run(tool.backup(repo, self.source(corpus), number), env=tool.env(repo))
            if not first and not tool.incremental():
                return
            self.record(measure, tool, took)
            if growth:
                self.record(growth, tool, Took(0, 0, 0).rate((size(repo) - before) / corpora.MiB, "MiB"))

    def mounted(self, tool, corpus):
        repo, point = self.repo(tool, corpus), f"{self.top}/mnt-{tool.name}"
        source = self.source(corpus)
        drop_caches()
        return Mounted(tool.mount(repo, point, self.number(tool, corpus)), point, env=tool.env(repo),
                       shows=lambda point: tool.shows(point, source))

    def set_version(self, corpus, version):
        """Has a corpus be one of its versions, at a place that stays."""
        live, wanted = self.source(corpus), f"{self.top}/{corpus}/{version}"
        os.makedirs(live, exist_ok=True)
        # As a patch would have it: files that are equal in both keep their times, and their inodes.
        run(["rsync", "-rlpgoDc" if corpus == "linux" else "-aS", "--inplace", "--no-whole-file", "--delete",
             f"{wanted}/", f"{live}/"])
        self.warm(corpus)

    # --- measures ---

    def m_backup(self):
        self.set_version("linux", "old")
        for tool in self.turns():
            self.backup("first backup", tool, "linux", first=True, growth="first backup, size")
        for tool in self.turns():
            self.backup("nothing changed", tool, "linux")
        self.set_version("linux", "new")
        for tool in self.turns():
            self.backup("next version", tool, "linux", growth="next version, growth")

    def m_big(self):
        self.set_version("big", "old")
        for tool in self.turns():
            self.backup("big file, first", tool, "big", first=True, growth="big file, size")
        self.set_version("big", "new")
        for tool in self.turns():
            self.backup("big file, 10 MiB rewritten", tool, "big", growth="big file, growth")

    def m_tiny(self):
        self.warm("tiny")
        for tool in self.turns():
            self.backup("tiny files, first", tool, "tiny", first=True, growth="tiny files, size")

    def m_browse(self):
        find = ["find", ".", "-printf", "%s\\n"]
        for tool in self.turns(mounting=True):
            with self.trying("mount", tool), self.mounted(tool, "linux") as mount:
                self.record("mount to first ls", tool, Took(mount.ready, 0, 0))
                self.record("find, cold", tool, mount.run(find))
                self.record("find, warm", tool, mount.run(find))
                took = mount.end()
                self.record("mount, memory after find", tool, Took(0, 0, took.rss).rate(took.rss, "MiB"))
            with self.trying("tar", tool), self.mounted(tool, "linux") as mount:
                took = mount.run(["sh", "-c", "tar cf - . | wc -c"])
                self.record("tar, cold", tool, took.rate(int(took.text) / 1e6 / took.wall, "MB/s"))
            with self.trying("cp -a", tool), self.mounted(tool, "linux") as mount, self.scratch() as target:
                self.record("cp -a, cold", tool, mount.run(["cp", "-a", ".", target]))

    def m_read(self):
        for tool in self.turns(mounting=True):
            with self.trying("dd", tool), self.mounted(tool, "big") as mount:
                file = mount.root + "/disk.img"
                for name in ("dd, cold", "dd, again"):
                    took = mount.run(["dd", f"if={file}", "of=/dev/null", "bs=1M"], cap=60)
                    self.record(name, tool, took.rate(os.stat(file).st_size / 1e6 / took.wall, "MB/s"))
                for block in ("4k", "128k"):
                    for jobs in (1, 4) if self.quick else (1, 2, 4, 8):
                        drop_caches()
                        self.record(f"random {block}, {jobs} jobs", tool, self.random(mount, file, block, jobs))

    def random(self, mount, file, block, jobs):
        took = mount.run(["fio", "--name=r", f"--filename={file}", "--readonly", "--rw=randread", f"--bs={block}",
                          "--ioengine=psync", f"--numjobs={jobs}", f"--runtime={1 if self.quick else 5}",
                          "--time_based", "--group_reporting", "--output-format=json", "--randrepeat=0"], cwd=self.top)
        read = json.loads(took.text[took.text.index("{"):took.text.rindex("}") + 1])["jobs"][0]["read"]
        return took.rate(read["iops"], "/s")

    def m_restore(self):
        for tool in self.turns():
            with self.trying("restore", tool), self.scratch() as target:
                repo = self.repo(tool, "linux")
                argv = tool.restore(repo, target, self.number(tool, "linux"))
                if argv:
                    drop_caches()
                    self.record("restore", tool, run(argv, env=tool.env(repo)))

    def staged(self, repo, base, flags):
        point = f"{self.top}/stage"
        return Mounted(self.snapfold.stage(point, base, flags), point, env=self.snapfold.env(repo),
                       unmount=self.snapfold.umount(point))

    def m_stage(self):
        """Both kinds of stages, and beside each peer: rsync to a plain filesystem, and then its backup of that."""
        source, tool = self.source("linux"), self.snapfold
        dd = ["dd", "if=/dev/zero", "of=dd", "bs=1M", f"count={(1 if self.quick else 4) << 10}"]
        for name, flags in ((tool.name, []), ("overlay", ["--overlay"])):
            self.init(tool, "stage")
            self.fresh()
            repo = self.repo(tool, "stage")
            with self.trying("stage", name), self.staged(repo, False, flags) as stage:
                into = stage.run(["rsync", "-a", f"{source}/", "./"])
                self.record("rsync into a stage", name, into)
                commit = stage.end()
                self.record("its commit", name, commit)
                both = Took(into.wall + commit.wall, into.cpu + commit.cpu, commit.rss)
                self.record("rsync and commit", name, both)
            with self.trying("stage", name), self.staged(repo, True, flags) as stage:
                again = ["rsync", "-a", "--delete", f"{source}/", "./"]
                self.record("rsync, nothing changed", name, stage.run(again))
                self.record("its commit, nothing changed", name, stage.end())
            with self.trying("stage", name), self.staged(repo, True, flags) as stage:
                stage.run(["sh", "-c", ONE_PERCENT])
                self.record("its commit, 1% changed", name, stage.end())
            with self.trying("dd", name), self.staged(repo, False, flags) as stage:
                self.record("dd into a stage", name, rated(stage.run(dd)))
                os.unlink(stage.root + "/dd")
        with self.trying("stage", "user"):
            self.user_stage(source, dd)
        self.fresh()
        with self.scratch() as target:
            plain = run(["rsync", "-a", f"{source}/", f"{target}/"])
            self.record("rsync into a stage", "ext4", plain)
            for peer in (tool for tool in self.tools if tool.peer and tool.incremental()):
                for first in self.results["first backup"].get(peer.name, [])[-1:]:
                    self.record("rsync and commit", peer, Took(plain.wall + first.wall, plain.cpu + first.cpu, 0))
            self.record("rsync, nothing changed", "ext4", run(["rsync", "-a", "--delete", f"{source}/", f"{target}/"]))
        with self.scratch() as target:
            self.record("dd into a stage", "ext4", rated(run(dd, cwd=target)))

    def user_stage(self, source, dd):
        """An ordinary user's overlay, in which the command runs that writes; its commit is part of that."""
        home = f"{self.top}/user"
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(f"{home}/stage")
        # Where it was built may be closed to users.
        program = shutil.copy(self.snapfold.program, home)
        env = tools.Keyed().env(f"{home}/repo")
        run(["chown", "-R", "nobody:nogroup", home])
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", program]
        run([*user, "init", "-q", "--new-key-file", f"{home}/repo.key"], env=env)
        stage = [*user, "stage", "--overlay", f"{home}/stage", "--"]
        self.fresh()
        both = run([*stage, "rsync", "-a", f"{source}/", f"{home}/stage/"], env=env)
        self.record("rsync and commit", "user", both)
        wrote = run([*stage, "sh", "-c", 'cd "$0"; "$@"; rm dd', f"{home}/stage", *dd], env=env)
        self.record("dd into a stage", "user", rated(wrote))
        shutil.rmtree(home)

    def m_requests(self):
        """What the kernel asks while rsync makes new files."""
        tool, source, files = self.snapfold, f"{self.top}/few", 200
        os.makedirs(source, exist_ok=True)
        for number in range(files):
            with open(f"{source}/{number}", "w") as file:
                file.write("of no matter" * number)
        self.init(tool, "few")
        with self.trying("requests", tool), self.staged(self.repo(tool, "few"), False, []) as stage:
            kinds = requests(stage.root, stage.server.pid, ["rsync", "-a", f"{source}/", "./"])
            self.say(f"requests by kind: {dict(sorted(kinds.items()))}")
            self.record("requests per new file", tool, Took(0, 0, 0).rate(sum(kinds.values()) / files, ""))

    def m_distance(self):
        """The same work on a directory, on an object store beside it, and on one that is 20 ms away."""
        tool, source, point = self.snapfold, self.source("linux"), f"{self.top}/mnt-distance"
        self.warm("linux")
        work = [("find", ["find", ".", "-printf", "%s\\n"]), ("tar", ["sh", "-c", "tar cf - . | wc -c"])]
        with self.trying("distance", "bucket"), s3_server() as port, far_away(port, 0.02) as (far, passed):
            bucket = f"s3:http://127.0.0.1:{{}}/test/{self.turn}-{{}}"
            places = {"directory": self.repo(tool, "distance"), "bucket": bucket.format(port, "near"),
                      "20 ms away": bucket.format(far, "far")}
            for name, place in places.items():
                self.init(tool, "distance")
                env = dict(tool.env(self.repo(tool, "distance")), SNAPFOLD_REPOSITORY=place, AWS_ACCESS_KEY_ID="AK",
                           AWS_SECRET_ACCESS_KEY="SK")
                cache = env["SNAPFOLD_CACHE_DIR"]

                def record(measure, work):
                    before = len(passed())
                    self.record(f"store: {measure}", name, work())
                    requests = len(passed()) - before
                    if requests:
                        self.record(f"store: {measure}, requests", name, Took(0, 0, 0).rate(requests, ""))

                if name != "directory":
                    run([tool.program, "init", "-q"], env=env)
                for measure in ("first backup", "nothing changed"):
                    record(measure, lambda: run(tool.backup(place, source, 0), env=env))
                for warmth in ("cold", "warm"):
                    if warmth == "cold":
                        shutil.rmtree(cache)
                    drop_caches()
                    with Mounted(tool.mount(place, point, 0), point, env=env, shows=lambda point: point) as mount:
                        for measure, argv in work:
                            record(f"{measure}, {warmth}", lambda: mount.run(argv))
                for warmth in ("warm", "cold"):
                    if warmth == "cold":
                        shutil.rmtree(cache)
                    drop_caches()
                    with self.scratch() as target:
                        record(f"restore, {warmth}", lambda: run(tool.restore(place, target, 0), env=env))

    @contextlib.contextmanager
    def scratch(self):
        path = f"{self.top}/scratch"
        os.makedirs(path)
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def run(self):
        self.start = time.monotonic()
        self.say(f"making what is measured on; measuring {', '.join(tool.name for tool in self.tools)}")
        if set(self.only) - {"requests"}:
            corpora.make(self.top, self.quick)
        for self.turn in range(self.repetitions):
            for measure in self.only:
                getattr(self, f"m_{measure}")()


@contextlib.contextmanager
def s3_server():
    """The port of a real object store on this machine."""
    server = subprocess.Popen([f"{SCRIPTS}/s3-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        if not url:
            raise Failed("no object store here: scripts/setup installs one")
        yield int(url.rsplit(":", 1)[1])
    finally:
        server.stdin.close()
        server.wait()


@contextlib.contextmanager
def far_away(port, seconds):
    """The port where what is at `port` is so far away, and a function that gives the requests that passed."""
    with tempfile.NamedTemporaryFile("w+") as log:
        proxy = subprocess.Popen([sys.executable, f"{SCRIPTS}/benchmark/distance.py", str(port), str(seconds)],
                                 stdout=log)
        try:
            lines = lambda: open(log.name).read().split("\n")[:-1]
            while not lines() and proxy.poll() is None:
                time.sleep(0.01)
            yield int(lines()[0]), lambda: lines()[1:]
        finally:
            proxy.kill()
            proxy.wait()


def rated(took):
    """dd, by what it says it wrote."""
    copied = re.search(r"(\d+) bytes .* copied, ([\d.]+) s", took.text)
    return took.rate(int(copied[1]) / 1e6 / float(copied[2]), "MB/s")


def size(path):
    return sum(os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(path) for name in names)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=["quick"], help="smaller trees, once: under five minutes")
    parser.add_argument("--dir", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--only", metavar="MEASURE,...", help=f"of {', '.join(MEASURES)}; what they need is added")
    parser.add_argument("--tools", metavar="NAME,...", help="peers, if not all that are found")
    parser.add_argument("--repetitions", type=int, metavar="N", help="3, or 1 if quick; medians count")
    parser.add_argument("--json", metavar="FILE", help="write all results to a file")
    args = parser.parse_args()
    args.quick = args.mode == "quick"
    args.repetitions = args.repetitions or (1 if args.quick else 3)
    only = args.only.split(",") if args.only else MEASURES
    if unknown := set(only) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    needs = {"browse": "backup", "restore": "backup", "stage": "backup", "read": "big", "distance": "backup"}
    args.only = [name for name in MEASURES if name in only or name in {needs.get(wanted) for wanted in only}]
    args.tools = args.tools.split(",") if args.tools else tools.QUICK if args.quick else tools.ALL
    bench = Bench(args)
    bench.run()
    print(report.text(bench.results, [tool.name for tool in bench.tools] + ["overlay", "user", "ext4"] + report.PLACES))
    if args.json:
        report.write(args.json, bench.results)


if __name__ == "__main__":
    main()
