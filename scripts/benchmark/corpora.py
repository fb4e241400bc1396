"""What is measured on: two versions of the kernel's sources, a file like a disk image, many tiny files. The same on
every run of one machine: all that is random has a seed."""
import os
import random
import subprocess

MiB = 1 << 20
PIECE = 64 << 10
MTIME = 1_700_000_000
# The part of the kernel's sources that quick runs take.
PART = ["drivers/net", "fs", "kernel", "mm"]

FETCH = r"""
all() { ls -v linux-source-6.1_*.deb 2>/dev/null || true; }
newest=$(all | tail -1) oldest=$(all | head -1)
if [ -z "$newest" ] || [ "$newest" = "$oldest" ]; then
    versions=$(apt-cache madison linux-source-6.1 | cut -d'|' -f2 | tr -d ' ' | sort -Vu)
    for version in $(head -1 <<<"$versions") $(tail -1 <<<"$versions"); do
        apt-get download -qq "linux-source-6.1=$version" >&2
    done
fi
all | sed -n '1p;$p' | uniq"""


def sh(script, cwd, **names):
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, check=True, text=True,
                          stdout=subprocess.PIPE, env=dict(os.environ, **names)).stdout


def linux(top, quick):
    """The oldest and the newest version that the mirrors offer, kept where the tests keep them."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.path.join(cache, "snapfold/linux")
    os.makedirs(cache, exist_ok=True)
    debs = sh(FETCH, cache).split()
    part = " ".join(f"'*/{name}/*'" for name in PART) if quick else ""
    for deb, name in zip((debs[0], debs[-1]), ("old", "new")):
        where = os.path.join(top, "linux", name)
        os.makedirs(where)
        sh(f"dpkg-deb --fsys-tarfile '{cache}/{deb}' | tar -xO ./usr/src/linux-source-6.1.tar.xz | xz -dT0 |"
           f" tar -x --strip-components=1 --wildcards {part}", where)


def image_bytes():
    """The system's own programs and libraries, for ever."""
    while True:
        for place in ("/usr/bin", "/usr/lib"):
            for path, dirs, names in os.walk(place):
                dirs.sort()
                for name in sorted(names):
                    name = os.path.join(path, name)
                    if os.path.isfile(name) and not os.path.islink(name) and os.path.getsize(name) > PIECE:
                        with open(name, "rb") as file:
                            while data := file.read(MiB):
                                yield data


def big(top, size):
    """A file like a disk image: programs, noise and holes; and again with 10 MiB rewritten in pieces of 64 KiB."""
    source, rng = image_bytes(), random.Random(1)
    for name in ("old", "new"):
        os.makedirs(os.path.join(top, "big", name))
    old, new = (os.path.join(top, "big", name, "disk.img") for name in ("old", "new"))
    with open(old, "wb") as file:
        while (at := file.tell()) < size:
            kind, left = rng.random(), min(rng.choice([1, 2, 4, 16]) * MiB, size - at)
            if kind < 0.25:
                file.seek(left, os.SEEK_CUR)
                continue
            while left > 0:
                data = (next(source) if kind < 0.75 else rng.randbytes(MiB))[:left]
                left -= file.write(data)
        file.truncate(size)
    subprocess.run(["cp", "--sparse=always", old, new], check=True)
    with open(new, "r+b") as file:
        for piece in rng.sample(range(size // PIECE), 10 * MiB // PIECE):
            file.seek(piece * PIECE)
            file.write(rng.randbytes(PIECE))
    os.utime(old, (MTIME, MTIME))
    os.utime(new, (MTIME + 1, MTIME + 1))


def tiny(top, count):
    """Many small files, 40 to a directory: text, noise, some links and extended attributes."""
    rng, words = random.Random(3), "the of and to in is that for it as was with be by on not he his but at".split()
    for number in range(count):
        where = os.path.join(top, "tiny", f"{number // 800:03}", f"{number // 40 % 20:02}")
        name = os.path.join(where, f"file {number % 40:02}")
        if number % 40 == 0:
            os.makedirs(where)
        if number % 40 == 7:
            os.symlink("file 03", name)
            continue
        if number % 40 == 9:
            os.link(os.path.join(where, "file 08"), name)
            continue
        size = rng.randrange(1024, 4096)
        text = " ".join(rng.choices(words, k=size // 3)).encode()
        with open(name, "wb") as file:
            file.write(rng.randbytes(size) if number % 3 == 0 else text[:size])
        if number % 40 == 11:
            os.setxattr(name, "user.note", rng.randbytes(24))
        os.utime(name, (MTIME, MTIME))


def make(top, quick):
    linux(top, quick)
    big(top, (1 if quick else 2) << 29)
    tiny(top, 10_000 if quick else 40_000)
