"""Running a command, or a mount with commands in it, and what that took: time, processors' time, memory."""
import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command did not do what it should."""


class Took:
    """What something took. Seconds, MiB, and whatever a measure adds."""

    def __init__(self, wall, cpu, rss, text=""):
        self.wall, self.cpu, self.rss, self.text = wall, cpu, rss, text
        self.value, self.unit = wall, "s"

    def rate(self, value, unit):
        """What counts is not the time but this."""
        self.value, self.unit = value, unit
        return self


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def cpu_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


def is_mounted(path):
    with open("/proc/self/mountinfo") as file:
        return any(line.split()[4] == path for line in file)


def run(argv, *, env=None, cwd=None, cap=300, sink=None):
    """Runs a command to its end, which has to be a good one."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        child = subprocess.Popen(argv, env=dict(os.environ, **(env or {})), cwd=cwd, stdin=subprocess.DEVNULL,
                                 stdout=sink or out, stderr=err)
        guard = threading.Timer(cap, child.kill)
        guard.start()
        _, status, used = os.wait4(child.pid, 0)
        guard.cancel()
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        out.seek(0)
        said = err.read().decode(errors="replace")
        if child.returncode:
            last = said.strip().splitlines()[-1:] or [f"over after {wall:.0f} s"]
            raise Failed(f"{os.path.basename(argv[0])}: {last[0][:200]}")
        # A child is never smaller than the one that forked it: then nothing is known.
        least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rss = used.ru_maxrss / 1024 if used.ru_maxrss > least else 0.0
        return Took(wall, used.ru_utime + used.ru_stime, rss, out.read().decode(errors="replace") + said)


class Mounted:
    """A filesystem served by a program in the foreground, from its start to its end."""

    def __init__(self, argv, point, *, env=None, shows=None, unmount=None):
        self.argv, self.point, self.env = argv, point, dict(os.environ, **(env or {}))
        self.shows, self.unmount = shows, unmount or ["umount", point]

    def __enter__(self):
        os.makedirs(self.point, exist_ok=True)
        self.log = tempfile.TemporaryFile()
        start = time.perf_counter()
        self.server = subprocess.Popen(self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                       stderr=self.log)
        while True:
            with contextlib.suppress(OSError):
                if is_mounted(self.point):
                    self.root = self.shows(self.point) if self.shows else self.point
                    if os.listdir(self.root) or not self.shows:
                        break
            if self.server.poll() is not None or time.perf_counter() - start > 60:
                self.server.kill()
                self.log.seek(0)
                raise Failed(f"no mount: {self.log.read().decode(errors='replace').strip()[-200:]}")
            time.sleep(0.001)
        self.ready = time.perf_counter() - start
        return self

    def run(self, argv, **more):
        """A command in the mount; the server's part counts. Its memory is told at the end."""
        before = cpu_of(self.server.pid)
        took = run(argv, cwd=more.pop("cwd", self.root), **more)
        took.cpu, took.rss = took.cpu + cpu_of(self.server.pid) - before, 0.0
        return took

    def end(self):
        """Unmounts, waits for the server, and tells what it all took: its memory is the server's."""
        start, status = time.perf_counter(), None
        for _ in range(100):
            if subprocess.run(self.unmount, env=self.env, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0:
                break
            if not is_mounted(self.point):
                break
            time.sleep(0.05)
        else:
            self.server.send_signal(signal.SIGTERM)
        if self.server.returncode is None:
            _, status, used = os.wait4(self.server.pid, 0)
            self.server.returncode = os.waitstatus_to_exitcode(status)
            return Took(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
        raise Failed("the server ended by itself")

    def __exit__(self, *_):
        if self.server.returncode is None:
            self.end()
        self.log.close()
        return False


def requests(point, pid, argv):
    """Requests that a filesystem's server takes while a command runs, by number of their kind."""
    with tempfile.NamedTemporaryFile("r") as trace:
        tracer = subprocess.Popen(["strace", "-f", "-z", "-x", "-s", "8", "-e", "trace=read,readv", "-P", "/dev/fuse",
                                   "-o", trace.name, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
        tracer.stderr.readline()
        run(argv, cwd=point)
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        kinds = {}
        for line in trace:
            # The head of a request: its length and its kind, little-endian, 32 bits each.
            data = line.partition('"')[2].split("\\x")[1:9]
            if len(data) == 8:
                kind = int(data[5][:2] + data[4][:2], 16)
                kinds[kind] = kinds.get(kind, 0) + 1
        return kinds
