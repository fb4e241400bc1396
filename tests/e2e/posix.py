"""System calls that shells do not make, in the current directory. Prints what a filesystem answered, so that two can be
compared, and fails where an answer is wrong on any. Expects the tree that the tests of a stage begin with."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, NOREPLACE, EXCHANGE = -100, 0x400, 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def renameat2(old, new, flags):
    if libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def answer(what, call, *arguments, **more):
    try:
        result = call(*arguments, **more)
        print(what, "->", "ok" if result is None else result)
        return result
    except OSError as error:
        print(what, "->", errno.errorcode[error.errno])


def put(name, data):
    with open(name, "wb") as file:
        file.write(data)


def get(name):
    with open(name, "rb") as file:
        return file.read()


# Unlinked while open: still there for who holds it, also after it was changed.
for name in ("a/one", "fresh"):
    if name == "fresh":
        put(name, b"fresh\n")
    fd = os.open(name, os.O_RDWR)
    os.unlink(name)
    assert not os.path.exists(name)
    os.pwrite(fd, b"still here", 0)
    assert os.pread(fd, 100, 0) == b"still here"
    assert os.fstat(fd).st_nlink == 0
    put(name, b"another")
    assert os.pread(fd, 100, 0) == b"still here" and get(name) == b"another"
    os.close(fd)

# Memory maps: written pages arrive, also after the descriptor is closed.
fd = os.open("mapped", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(fd, 1 << 20)
with mmap.mmap(fd, 1 << 20) as view:
    os.close(fd)
    view[5000:5005] = b"hello"
    view[(1 << 20) - 1:] = b"!"
    view.flush()
assert get("mapped")[5000:5005] == b"hello" and get("mapped")[-1:] == b"!"
fd = os.open("big", os.O_RDWR)
with mmap.mmap(fd, 0) as view:
    view[1234567:1234572] = b"hello"
os.close(fd)
assert get("big")[1234567:1234572] == b"hello"

# Two writers append: nothing is lost.
first, second = (os.open("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for _ in range(2))
for number in range(100):
    os.write(first if number % 2 else second, b"%03d\n" % number)
os.close(first), os.close(second)
assert get("appended") == b"".join(b"%03d\n" % number for number in range(100))

# Rename and its flags.
put("left", b"left")
put("right", b"right")
answer("rename over, not allowed", renameat2, "left", "right", NOREPLACE)
answer("exchange", renameat2, "left", "right", EXCHANGE)
assert (get("left"), get("right")) == (b"right", b"left")
answer("exchange file and directory", renameat2, "left", "d", EXCHANGE)
assert os.path.isdir("left") and get("d") == b"right"
answer("and back", renameat2, "left", "d", EXCHANGE)
answer("exchange with nothing", renameat2, "left", "nothing", EXCHANGE)
answer("rename to itself", os.rename, "left", "left")
answer("rename into itself", os.rename, "a", "a/b/inside")
answer("directory over file", os.rename, "a", "left")
answer("file over directory", os.rename, "left", "a")
answer("directory over a full one", os.rename, "d", "a")
os.mkdir("hollow")
answer("directory over an empty one", os.rename, "d", "hollow")
os.rename("hollow", "d")

# Errors that programs rely on.
answer("mkdir over", os.mkdir, "a")
answer("rmdir full", os.rmdir, "a")
answer("rmdir file", os.rmdir, "left")
answer("unlink directory", os.unlink, "a")
answer("open below a file", os.open, "left/x", os.O_RDONLY)
answer("create, exclusively, what is there", os.open, "left", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
answer("open a directory to write", os.open, "a", os.O_WRONLY)
answer("name too long", os.mkdir, "n" * 256)
answer("link to a directory", os.link, "a", "b")
answer("follow a symlink where it is forbidden", os.open, "sym", os.O_RDONLY | os.O_NOFOLLOW)
answer("no such attribute", os.getxattr, "left", "user.none")
answer("attribute in no namespace", os.setxattr, "left", "none", b"")
answer("create attribute that is there", os.setxattr, "d", "user.x", b"1")
answer("create it again", os.setxattr, "d", "user.x", b"1", os.XATTR_CREATE)
answer("replace what is not there", os.setxattr, "d", "user.y", b"1", os.XATTR_REPLACE)
answer("negative truncate", os.truncate, "left", -1)
answer("a file too large", os.truncate, "left", 1 << 62)

# Holes.
fd = os.open("holes", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(fd, b"x" * 65536, 0)
os.pwrite(fd, b"y" * 65536, 1 << 20)
assert os.lseek(fd, 0, os.SEEK_HOLE) == 65536
assert os.lseek(fd, 65536, os.SEEK_DATA) == 1 << 20
assert os.lseek(fd, 1 << 20, os.SEEK_HOLE) == (1 << 20) + 65536
fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 65536)
assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
assert os.pread(fd, 10, 100) == bytes(10)
fallocate(fd, ZERO_RANGE, (1 << 20) + 100, 100)
assert os.pread(fd, 300, 1 << 20) == b"y" * 100 + bytes(100) + b"y" * 100
fallocate(fd, 0, 0, 2 << 20)
assert os.fstat(fd).st_size == 2 << 20
answer("beyond the end", os.lseek, fd, 3 << 20, os.SEEK_DATA)
os.close(fd)

# Locks: two descriptors of one file exclude each other.
one, two = (os.open("left", os.O_RDWR) for _ in range(2))
fcntl.flock(one, fcntl.LOCK_EX)
answer("locked already", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.flock(one, fcntl.LOCK_UN)
answer("free again", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.close(one), os.close(two)

# Times to the nanosecond, one of them left as it is, before 1970.
os.utime("left", ns=(1, 1_234_567_890_123_456_789))
assert os.stat("left").st_mtime_ns == 1_234_567_890_123_456_789
os.utime("left", ns=(5, -1_500_000_001))
assert os.stat("left").st_mtime_ns == -1_500_000_001
before = os.stat("right")
os.chmod("right", 0o4640)
after = os.stat("right")
assert after.st_mtime_ns == before.st_mtime_ns and after.st_ctime_ns >= before.st_ctime_ns
assert stat.S_IMODE(after.st_mode) == 0o4640

# A directory is read whole while it changes.
os.mkdir("busy")
for number in range(2000):
    put(f"busy/{number}", b"")
seen = set()
with os.scandir("busy") as entries:
    for entry in entries:
        seen.add(entry.name)
        os.unlink(f"busy/{entry.name}")
assert len(seen) == 2000 and os.listdir("busy") == []
os.rmdir("busy")

# Sockets and fifos work through it.
server = socket.socket(socket.AF_UNIX)
server.bind("sock")
server.listen()
client = socket.socket(socket.AF_UNIX)
client.connect("sock")
client.close(), server.close()
os.mkfifo("pipe")

# What was synced is synced: no error is all that shows here.
for name in ("left", "a", "."):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)

# An anonymous file may be refused; a half-made one may not.
try:
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"anonymous")
    if libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"named", AT_SYMLINK_FOLLOW) != 0:
        raise OSError(ctypes.get_errno(), "linkat")
    assert get("named") == b"anonymous"
    os.unlink("named")
    os.close(fd)
except OSError as error:
    assert error.errno == errno.EOPNOTSUPP, error

# Many names for one file, and a count that is right.
for number in range(50):
    os.link("right", f"name {number}")
assert os.stat("right").st_nlink == 51
for number in range(25):
    os.unlink(f"name {number}")
assert os.stat("name 49").st_nlink == 26

# More than a request can carry, in one call.
large = os.urandom(5 << 20)
fd = os.open("large", os.O_RDWR | os.O_CREAT, 0o600)
assert os.write(fd, large) == len(large)
assert os.pread(fd, len(large) + 1, 0) == large
assert os.pread(fd, 10, len(large) - 3) == large[-3:]
os.close(fd)
os.unlink("large")
