"""The tools that are compared: how each makes a repository, backs up, mounts, restores."""
import os
import shutil

ALL = ["snapfold", "squashfuse", "restic", "rustic", "borg", "bupstash"]
# borg takes as long as all others together.
QUICK = [name for name in ALL if name != "borg"]
PASSWORD = "correct horse battery staple"


class Tool:
    name = ""
    mounts = True
    # Whether snapfold is compared with it.
    peer = True

    def __init__(self):
        # Whoever knows better says so: BENCH_RESTIC=/opt/restic.
        self.program = os.environ.get(f"BENCH_{self.name.upper()}") or shutil.which(self.name)

    def env(self, repo):
        return {}

    def init(self, repo):
        return []

    def incremental(self):
        """Whether it can add to what it has."""
        return True


class Snapfold(Tool):
    name = "snapfold"
    peer = False

    def env(self, repo):
        return {"SNAPFOLD_REPOSITORY": repo, "SNAPFOLD_PASSWORD": PASSWORD, "SNAPFOLD_CACHE_DIR": repo + ".cache",
                "SNAPFOLD_STATE_DIR": repo + ".state"}

    def init(self, repo):
        return [[self.program, "init", "-q"]]

    def backup(self, repo, source, number):
        return [self.program, "backup", "-q", source]

    def mount(self, repo, point, number):
        return [self.program, "mount", "--foreground", "latest", point]

    def shows(self, point, source):
        return point

    def restore(self, repo, target, number):
        return [self.program, "restore", "-q", "latest", "--target", target]

    def stage(self, point, base, flags):
        return [self.program, "stage", "--foreground", *flags, *(["--from", "latest"] if base else []), point]

    def umount(self, point):
        return [self.program, "umount", "-q", point]


class Keyed(Snapfold):
    """With a key file, as bupstash has one: no key is derived from a password."""

    name = "key file"
    mounts = False

    def __init__(self):
        self.program = os.environ.get("BENCH_SNAPFOLD") or shutil.which("snapfold")

    def env(self, repo):
        env = dict(super().env(repo), SNAPFOLD_PASSWORD_FILE=repo + ".key")
        del env["SNAPFOLD_PASSWORD"]
        return env

    def init(self, repo):
        return [[self.program, "init", "-q", "--new-key-file", repo + ".key"]]


class Restic(Tool):
    name = "restic"

    def env(self, repo):
        return {"RESTIC_REPOSITORY": repo, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": repo + ".cache"}

    def init(self, repo):
        return [[self.program, "init", "-q"]]

    def backup(self, repo, source, number):
        return [self.program, "backup", "-q", source]

    def mount(self, repo, point, number):
        return [self.program, "mount", "-q", point]

    def shows(self, point, source):
        return point + "/snapshots/latest" + source

    def restore(self, repo, target, number):
        return [self.program, "restore", "-q", "latest", "--target", target]


class Rustic(Tool):
    name = "rustic"

    def env(self, repo):
        return {"RUSTIC_REPOSITORY": repo, "RUSTIC_PASSWORD": PASSWORD, "RUSTIC_CACHE_DIR": repo + ".cache",
                "RUSTIC_NO_PROGRESS": "true", "RUSTIC_LOG_LEVEL": "warn"}

    def init(self, repo):
        return [[self.program, "init"]]

    def backup(self, repo, source, number):
        return [self.program, "backup", source]

    def mount(self, repo, point, number):
        return [self.program, "mount", point, "latest"]

    def shows(self, point, source):
        return point + source

    def restore(self, repo, target, number):
        return [self.program, "restore", "latest", target]


class Borg(Tool):
    """At snapfold's level of compression; by itself it takes lz4."""

    name = "borg"

    def env(self, repo):
        return {"BORG_REPO": repo, "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": repo + ".cache",
                "BORG_FUSE_IMPL": "pyfuse3,llfuse"}

    def init(self, repo):
        return [[self.program, "init", "-e", "repokey-blake2"]]

    def backup(self, repo, source, number):
        return [self.program, "create", "-C", "zstd,3", f"::s{number}", source]

    def mount(self, repo, point, number):
        return [self.program, "mount", "-f", f"::s{number}", point]

    def shows(self, point, source):
        return point + source

    def restore(self, repo, target, number):
        return ["sh", "-c", f"cd '{target}' && exec '{self.program}' extract ::s{number}"]


class Bupstash(Tool):
    name = "bupstash"
    mounts = False

    def env(self, repo):
        return {"BUPSTASH_REPOSITORY": repo, "BUPSTASH_KEY": repo + ".key", "BUPSTASH_SEND_LOG": repo + ".cache/send",
                "BUPSTASH_QUERY_CACHE": repo + ".cache/query"}

    def init(self, repo):
        return [["mkdir", "-p", repo + ".cache"], [self.program, "init"],
                [self.program, "new-key", "-o", repo + ".key"]]

    def backup(self, repo, source, number):
        return [self.program, "put", "-q", f"serial={number}", source]

    def restore(self, repo, target, number):
        return [self.program, "restore", "-q", "--into", target, f"serial={number}"]


class Squashfuse(Tool):
    """An anchor: it neither encrypts nor deduplicates, and has one version."""

    name = "squashfuse"

    def __init__(self):
        super().__init__()
        self.program = os.environ.get("BENCH_SQUASHFUSE") or shutil.which("squashfuse_ll") or self.program
        if not shutil.which("mksquashfs"):
            self.program = None

    def incremental(self):
        return False

    def init(self, repo):
        return [["mkdir", "-p", repo]]

    def backup(self, repo, source, number):
        return ["mksquashfs", source, repo + "/image", "-noappend", "-no-progress", "-quiet", "-comp", "zstd",
                "-Xcompression-level", "3"]

    def mount(self, repo, point, number):
        return [self.program, "-f", repo + "/image", point]

    def shows(self, point, source):
        return point

    def restore(self, repo, target, number):
        return None


def found(wanted):
    """Those of the tools that are here, snapfold first."""
    tools = [kind() for kind in (Snapfold, Keyed, Squashfuse, Restic, Rustic, Borg, Bupstash)]
    return [tool for tool in tools if tool.program and (tool.name in wanted or not tool.peer)]
