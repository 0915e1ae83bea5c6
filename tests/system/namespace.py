"""A machine of its own over this machine's files: user, mount, network, process, IPC, cgroup and host name namespaces, with an overlay over `/`.

What is done there stays there: it begins with the files of this machine, and what it writes, installs, listens on or kills ends with it. Its root
can do to it what root can do to a machine, but nothing to this one. Needs root here, for the map of all users.

	with Namespace(tmp_path) as ns:
		ns.run("useradd", "alice")
		sshd = ns.start("/usr/sbin/sshd", "-D", "-p", "22")
		s = ns.within(lambda: socket.create_connection(("127.0.0.1", 22)))

`ns.boot()` makes a real systemd its process 1. `directory` is the same inside and outside. /run, /tmp and /dev are empty at first but for the devices that every program needs.
"""

import contextlib
import ctypes
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading

USER, MOUNT, NETWORK, PROCESS, IPC, HOST, CGROUP = 0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000
IDS = "0 0 65536\n"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PR_SET_PDEATHSIG = 1
TOLD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1}
SYSTEMD = "/lib/systemd/systemd"

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why there can be none here, or nothing."""
    if os.getuid() != 0:
        return "a namespace over this machine's files needs root"
    if "\toverlay\n" not in pathlib.Path("/proc/filesystems").read_text():
        return "this kernel has no overlay file system"
    return ""


def why_no_systemd():
    """Why none can be booted in one, or nothing."""
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    return "" if unified() else "no cgroup2 is mounted here"


def unified():
    """Where the one hierarchy of cgroups of version 2 is mounted here, or nothing."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    return None


def call(function, *arguments):
    if function(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self.started = []
        self.cgroup = None
        words = [sys.executable, __file__, str(self.directory)]
        self.init = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.expect("unshared")
            for name in ("uid_map", "gid_map"):
                pathlib.Path(f"/proc/{self.init.pid}/{name}").write_text(IDS)
            self.init.stdin.write("mapped\n")
            self.init.stdin.flush()
            self.pid = int(self.expect("ready"))
        except BaseException:
            self.close()
            raise

    def expect(self, word):
        line = self.init.stdout.readline().split()
        assert line[:1] == [word], f"the namespace ended before it was {word}"
        return line[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """All processes in it end with its first."""
        with contextlib.suppress(BrokenPipeError):
            self.init.stdin.close()
        self.init.wait()
        self.init.stdout.close()
        for process in self.started:
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        if self.cgroup:
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(directory)

    def boot(self):
        """Makes systemd its process 1, in a cgroup of its own. It starts what default.target wants."""
        self.cgroup = unified() / f"namespace-{self.pid}"
        self.cgroup.mkdir()
        (self.cgroup / "cgroup.procs").write_text(str(self.pid))
        os.kill(self.pid, signal.SIGUSR1)

    def words(self, words, user):
        enter = ["nsenter", f"--target={self.pid}", "--user", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd"]
        return [*enter, *(("setpriv", "--init-groups", f"--reuid={user}", f"--regid={user}") if user else ()), *map(str, words)]

    def run(self, *words, user=None, check=True, env=None, **more):
        """Runs a program in it to its end. Its output is kept, as text."""
        done = subprocess.run(self.words(words, user), text=True, env={"PATH": PATH, "HOME": "/root", **(env or {})},
                              **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})
        assert not check or done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *words, user=None, env=None, **more):
        """Starts a program in it: a Popen of nsenter, whose end is the program's. Signals go through `kill`."""
        process = subprocess.Popen(self.words(words, user), env={"PATH": PATH, "HOME": "/root", **(env or {})}, **more)
        self.started.append(process)
        return process

    def kill(self, process, number=signal.SIGTERM):
        """Sends the started program a signal, and waits for its end. nsenter forks when it enters the process namespace."""
        for child in children(process.pid) or [process.pid]:
            os.kill(child, number)
        return process.wait()

    def forget_updates(self):
        """Of all that the emitter looks at, apt's lists of what could be installed take longest to read."""
        self.run("rm", "-rf", "/var/lib/apt/lists")

    def path(self, name):
        """Where a file of it lies for us."""
        return pathlib.Path(f"/proc/{self.pid}/root") / str(name).lstrip("/")

    def write(self, name, text, mode=None):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if mode is not None:
            path.chmod(mode)

    def within(self, function):
        """The function's result, called with the namespace's network: sockets that it makes stay there."""
        result = {}

        def work():
            with open(f"/proc/{self.pid}/ns/net") as network:
                call(libc.setns, network.fileno(), NETWORK)
            try:
                result["value"] = function()
            except Exception as error:  # goes on in the caller's thread
                result["error"] = error

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if "error" in result:
            raise result["error"]
        return result["value"]

    @contextlib.contextmanager
    def forward(self, port):
        """Lets its 127.0.0.1:port reach ours."""
        server = self.within(lambda: socket.create_server(("127.0.0.1", port)))
        threading.Thread(target=accept, args=(server, port), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def children(parent):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def accept(server, port):
    while True:
        try:
            client = server.accept()[0]
        except OSError:
            return
        threading.Thread(target=carry, args=(client, port), daemon=True).start()


def carry(client, port):
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as ours:
        other = {client: ours, ours: client}
        while True:
            for ready in select.select([client, ours], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                other[ready].sendall(data)


# The first process in the namespace.

def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def make_root(shared):
    """Goes into an overlay over this machine's files whose upper layer is memory."""
    base = pathlib.Path("/mnt")
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", base)
    for name in ("upper", "work", "root"):
        (base / name).mkdir()
    root = base / "root"
    inside = root / str(shared).lstrip("/")
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={base}/upper,workdir={base}/work", root)
    for name in ("run", "tmp", "dev"):
        mount("-t", "tmpfs", "-o", f"mode={1777 if name == 'tmp' else 755}", "tmpfs", root / name)
    for name in ("proc", "sys"):
        mount("--bind", f"/{name}", root / name)
    make_devices(root / "dev")
    inside.mkdir(parents=True, exist_ok=True)
    mount("--bind", shared, inside)
    (root / "run/lock").mkdir()
    (root / "old").mkdir()
    subprocess.run(["pivot_root", root, root / "old"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/old"], check=True)
    os.rmdir("/old")


def make_devices(dev):
    for name in DEVICES:
        (dev / name).touch()
        mount("--bind", f"/dev/{name}", dev / name)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", dev / "pts")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", dev / "shm")
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)


def live():
    """Process 1: sets up the rest, and reaps what ends until its parent goes."""
    outside = os.readlink("/proc/self")
    for name, kind in (("proc", "proc"), ("sys", "sysfs"), ("sys/fs/cgroup", "cgroup2")):
        mount("-t", kind, kind, f"/{name}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    socket.sethostname("device")
    print("ready", outside, flush=True)
    while (told := signal.sigwait(TOLD)) == signal.SIGCHLD:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    if told == signal.SIGUSR1:
        become_systemd()


def become_systemd():
    """The kernel's settings are this machine's, and a namespace's root may write them where root's own files say so: they are made read-only."""
    call(libc.unshare, CGROUP)
    mount("-o", "remount,bind,ro", "/sys")
    subprocess.run(["umount", "/sys/fs/cgroup"], check=True)
    mount("-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    for name in ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"):
        if os.path.exists(name):
            mount("--bind", name, name)
            mount("-o", "remount,bind,ro", name)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
    os.execve(SYSTEMD, [SYSTEMD, "--system", "--log-target=null"], {"PATH": PATH, "container": "namespace"})


def main(shared):
    """Stays outside the process namespace, and ends it when its own parent lets go of the pipe."""
    call(libc.unshare, MOUNT)
    make_root(shared)
    call(libc.unshare, USER | MOUNT | NETWORK | PROCESS | IPC | HOST | CGROUP)
    print("unshared", flush=True)
    assert os.read(0, 16) == b"mapped\n"
    os.setgid(0)
    os.setuid(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    first = os.fork()
    if first == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        live()
        os._exit(0)
    select.select([0, os.pidfd_open(first)], [], [])
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
