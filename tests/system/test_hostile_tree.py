"""An emitter on a root directory that somebody prepared: bounded time and memory, no crash, and a name for what could not be read."""

import json
import os
import subprocess
import threading
import time

import pytest

from parts import BIN

SECONDS, KILOBYTES = 20, 160 * 1024  # sanitizers included; a plain build takes a tenth
SANITIZED = b"__asan" in (BIN / "fleetstate-emitter").read_bytes()
GROWTH = 64 * 1024  # KiB that files of 1 GiB may add, sanitizers included: none of them was read whole


def measure(root, *options):
    """The state, and the most memory that it took, in KiB."""
    begin = time.monotonic()
    emitter = subprocess.Popen([BIN / "fleetstate-emitter", "--config", "/dev/null", "--root", root, *options, "--print"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    killer = threading.Timer(60, emitter.kill)
    killer.start()
    output, errors = emitter.stdout.read(), emitter.stderr.read()
    _, status, usage = os.wait4(emitter.pid, 0)
    emitter.returncode = os.waitstatus_to_exitcode(status)
    killer.cancel()
    assert emitter.returncode == 0, (emitter.returncode, errors.decode(errors="replace")[-2000:])
    assert time.monotonic() - begin < SECONDS
    assert usage.ru_maxrss < KILOBYTES * (8 if SANITIZED else 1), usage.ru_maxrss
    return json.loads(output)["state"], usage.ru_maxrss


def observe(root, *options):
    return measure(root, *options)[0]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for directory in ("etc", "proc/sys/kernel", "proc/self/net", "var/lib/dpkg", "sys/class/net"):
        (root / directory).mkdir(parents=True)
    return root


def why(state, fact):
    return state["unknown"][fact]


def every_path(root):
    """The paths that the emitter opens below an empty root, as strace sees them."""
    done = subprocess.run(["strace", "-f", "-e", "trace=openat2,openat", "-o", root.parent / "trace", BIN / "fleetstate-emitter", "--config", "/dev/null", "--root", root, "--print"],
                          capture_output=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    paths = set()
    for line in (root.parent / "trace").read_text(errors="replace").splitlines():
        if "openat2(" in line and '"' in line:
            paths.add(line.split('"')[1])
    return sorted((path for path in paths if path and not path.startswith("/") and "\\" not in path), key=lambda path: (-path.count("/"), path))


def put(root, path, make):
    at = root / path
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        make(at)
    except OSError:
        pass  # a path that stands in another one's way


@pytest.mark.parametrize("name,make", [
    ("fifo", os.mkfifo),
    ("loop", lambda at: at.symlink_to(at.name)),
    ("outside", lambda at: at.symlink_to("/../../../../../../etc/shadow")),
    ("device", lambda at: at.symlink_to("/dev/zero")),
    ("directory", lambda at: at.mkdir()),
    ("noise", lambda at: at.write_bytes(bytes(i * 167 % 256 for i in range(70000)))),
    ("empty", lambda at: at.write_bytes(b"")),
    ("unending line", lambda at: at.write_bytes(b"a" * 900000)),
    ("many lines", lambda at: at.write_bytes(b"a:b:0:0:c=d \n" * 60000)),
    ("huge", lambda at: (at.write_bytes(b"x"), os.truncate(at, 1 << 30))),
])
def test_every_file_may_be_anything(root, name, make):
    _, empty = measure(root)
    for _ in range(2):  # what is there leads further
        paths = every_path(root)
        assert len(paths) > 30
        for path in paths:
            put(root, path, make)
    state, kilobytes = measure(root)
    assert name != "huge" or kilobytes - empty < GROWTH, (empty, kilobytes)
    assert "boot.secure" in state["unknown"]
    assert state["verdict"]["overall"] != "as-expected"


def test_a_gigabyte_of_os_release(root):
    (root / "etc/os-release").write_text("ID=acme\n")
    _, small = measure(root)
    os.truncate(root / "etc/os-release", 1 << 30)
    state, large = measure(root)
    assert large - small < GROWTH, (small, large)
    assert why(state, "os.id") == "etc/os-release is larger than 1 MiB"
    assert "id" not in state.get("os", {})


def test_binary_in_dpkg_status(root):
    (root / "var/lib/dpkg/status").write_bytes(b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n" + bytes(range(256)) * 4096 + b"\n\nPackage: b\n"
                                               b"Status: install ok installed\nVersion: 2\nArchitecture: all\n")
    packages = observe(root)["packages"]
    assert packages["manager"] == "dpkg" and packages["installed"] >= 1


def test_a_million_packages(root):
    with open(root / "var/lib/dpkg/status", "w") as status:
        for i in range(1_000_000):
            status.write(f"Package: p{i}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n")
    state = observe(root)
    assert state["packages"]["installed"] == 1_000_000
    assert "20000" in why(state, "packages.listed").replace(",", "")


def test_a_million_names_in_a_directory(root):
    """A directory too full to be read to its end is said to be that."""
    crowd = root / "sys/class/net"
    for i in range(5000):
        (crowd / f"if{i}").mkdir()
    assert "more than 4096 names" in why(observe(root), "interfaces.network")


def test_what_changes_while_it_is_read(root):
    """Processes and files that come and go: whatever was caught is well formed, and nothing fails."""
    stop = threading.Event()

    def stir():
        n = 0
        while not stop.is_set():
            n += 1
            process = root / f"proc/{n % 300 + 1}"
            try:
                (process / "fd").mkdir(parents=True, exist_ok=True)
                (process / "comm").write_text("come-and-go\n")
                os.symlink(f"socket:[{n}]", process / "fd" / "1")
                (root / "etc/os-release").write_text("ID=" + "x" * (n % 5000) + "\n")
                for path in (process / "fd/1", process / "comm", process / "fd", process):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError:
                pass

    (root / "proc/self/net/tcp").write_text("  sl  heading\n   0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n")
    (root / "proc/self/net/udp").write_text("  sl  heading\n")
    stirrer = threading.Thread(target=stir)
    stirrer.start()
    try:
        for _ in range(10):
            sockets = observe(root)["interfaces"]["sockets"]
            assert [s["port"] for s in sockets] == [22]
    finally:
        stop.set()
        stirrer.join()


def test_processes_of_this_machine_that_vanish():
    """The real /proc, while processes are born and die."""
    stop = threading.Event()

    def stir():
        while not stop.is_set():
            subprocess.run(["/bin/true"])

    stirrers = [threading.Thread(target=stir) for _ in range(2)]
    for stirrer in stirrers:
        stirrer.start()
    try:
        for _ in range(5):
            assert "sockets" in observe("/")["interfaces"]
    finally:
        stop.set()
        for stirrer in stirrers:
            stirrer.join()
