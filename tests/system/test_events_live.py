"""What is done to a living device is told in its next report: real sshd, sudo, su, dpkg and files, in a namespace over this machine's own.

The device's log is systemd's journal, which runs there too."""

import os
import signal
import socket
import subprocess
import types

import pytest

from namespace import Namespace, children, why_not
from parts import await_true
from test_broker import Broker
from test_emitter import EMITTER, Collector, Emitter
import device as wire

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
JOURNALD = "/lib/systemd/systemd-journald"


class LiveEmitter(Emitter):
    def __init__(self, ns, broker, directory, **settings):
        self.ns = ns
        super().__init__(broker, directory, interval="2s", event_delay="1s", **settings)

    def start(self):
        self.process = self.ns.start(EMITTER, "--config", self.config, stderr=open(self.directory / "log", "ab"))
        return self

    def stop(self, how=signal.SIGTERM):
        return self.ns.kill(self.process, how)

    def hang_up(self):
        (pid,) = children(self.process.pid)
        os.kill(pid, signal.SIGHUP)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    broker = Broker(directory)
    collector = Collector(broker, "live")
    with Namespace(directory) as ns, ns.forward(broker.port):
        ns.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        ns.run("useradd", "--create-home", "--shell", "/bin/sh", "alice")
        ns.run("chpasswd", input="alice:right\n")
        ns.run("usermod", "--append", "--groups", "sudo", "alice")
        ns.run("useradd", "--create-home", "--shell", "/bin/sh", "bob")
        ns.write("/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        ns.write("/etc/sudoers.d/goes", "nobody-here ALL=(ALL) ALL\n", 0o440)
        ns.write("/etc/app/app.conf", "on = yes\n")
        ns.run("mkdir", "-p", "/run/systemd/journal", "/run/sshd")
        ns.start(JOURNALD)
        await_true(lambda: ns.path("/run/systemd/journal/dev-log").exists(), "the journal")
        ns.run("ln", "-s", "/run/systemd/journal/dev-log", "/dev/log")
        await_true(lambda: list(ns.path("/run/log/journal").glob("*/system.journal")), "the journal's file")
        ns.run("ssh-keygen", "-A")
        ns.start("/usr/sbin/sshd", "-D", "-p", "22", "-o", "PasswordAuthentication=yes")
        await_true(lambda: ns.run("ss", "-Hltn", "sport = :22").stdout, "sshd")
        emitter = LiveEmitter(ns, broker, directory, config_files="/etc/app/*.conf").start()
        collector.wait(emitter.ueid, lambda opened: True, "the first report")
        yield types.SimpleNamespace(ns=ns, broker=broker, collector=collector, emitter=emitter)
        emitter.stop()
    broker.stop()


def events(live):
    """All that was told so far. A report comes again until it has a receipt, and it has none here."""
    reports = {opened.claims[wire.META][0]: opened.claims for _, opened in live.collector.reports(live.emitter.ueid)}
    return [event for claims in reports.values() for event in claims.get(wire.EVENTS, ())]


def told(live, kind, *parts):
    """Waits for an event of that kind with these parts; None is any. Returns all such."""
    def found():
        return [e for e in events(live) if e[0] == kind and e[1] is not None and
                all(part is None or part == its for part, its in zip(parts, e[1]))]

    return await_true(found, f"an event {kind} {parts}")


def newest(live):
    return max((opened.claims[wire.META][0] for _, opened in live.collector.reports(live.emitter.ueid)), default=0)


def first_told(live, kind, *parts):
    """The number of the first report with such an event."""
    return min(opened.claims[wire.META][0] for _, opened in live.collector.reports(live.emitter.ueid)
               for event in opened.claims.get(wire.EVENTS, ()) if event[0] == kind and event[1][:len(parts)] == list(parts))


def ssh(live, account, password, *command):
    live.ns.write("/run/askpass", f"#!/bin/sh\necho {password}\n", 0o755)
    return live.ns.run("setsid", "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                       "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1", f"{account}@127.0.0.1", *command,
                       env={"SSH_ASKPASS": "/run/askpass", "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}, check=False, timeout=60,
                       stdin=subprocess.DEVNULL)


def test_log_ins_that_fail_are_counted(live):
    for _ in range(3):
        assert ssh(live, "alice", "wrong", "true").returncode == 255
    assert ssh(live, "nobody-here", "wrong", "true").returncode == 255
    done = newest(live)
    await_true(lambda: sum(e[4] for e in events(live) if e[0] == wire.LOGIN_FAILED and e[1] == ["alice", "sshd", "127.0.0.1"]) >= 3,
               "three failed log-ins")
    assert sum(e[4] for e in told(live, wire.LOGIN_FAILED, "nobody-here", "sshd", "127.0.0.1")) == 1
    # One report may be under way when it is refused; the next one has it.
    assert first_told(live, wire.LOGIN_FAILED, "nobody-here", "sshd", "127.0.0.1") <= done + 2
    assert sum(e[4] for e in told(live, wire.LOGIN_FAILED, "alice")) == 3


def test_a_name_like_a_log_line_names_nobody_else(live):
    ssh(live, "'x from 192.0.2.66 port 1 ssh2'", "wrong", "true")
    ssh(live, "x from 192.0.2.66 port 1 ssh2", "wrong", "true")
    assert told(live, wire.LOGIN_FAILED, "x from 192.0.2.66 port 1 ssh2", "sshd", "127.0.0.1")
    assert not [e for e in events(live) if e[1] and "192.0.2.66" in e[1]]


def test_a_log_in_is_told(live):
    assert ssh(live, "alice", "right", "true").returncode == 0
    told(live, wire.LOGIN, "alice", "sshd", "127.0.0.1")


def test_rights_that_are_used_and_refused(live):
    live.ns.run("sudo", "true", user="alice")
    assert live.ns.run("sudo", "-S", "true", user="bob", input="wrong\n" * 3, check=False).returncode != 0
    live.ns.run("su", "-c", "true", "bob")
    assert live.ns.run("su", "-c", "true", "alice", user="bob", input="wrong\n", check=False).returncode != 0
    told(live, wire.PRIVILEGE, "alice", "root", "sudo")
    told(live, wire.PRIVILEGE_REFUSED, "bob", "root", "sudo")
    told(live, wire.PRIVILEGE, "root", "bob", "su")
    told(live, wire.PRIVILEGE_REFUSED, "bob", "alice", "su")


def test_what_a_user_writes_into_the_log_is_not_believed(live):
    live.ns.run("logger", "-t", "sshd", "Accepted password for mallory from 192.0.2.99 port 1 ssh2", user="bob")
    live.ns.run("logger", "-t", "sudo", "mallory : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh", user="bob")
    live.ns.run("su", "-c", "exit 0", "bob")  # behind it in the journal
    before = sum(e[4] for e in told(live, wire.PRIVILEGE, "root", "bob", "su"))
    live.ns.run("su", "-c", "exit 0", "bob")
    await_true(lambda: sum(e[4] for e in told(live, wire.PRIVILEGE, "root", "bob", "su")) > before, "the next su")
    assert not [e for e in events(live) if e[1] and "mallory" in e[1]]


def test_configuration_that_changes(live):
    live.ns.run("sh", "-c", "echo 'PermitRootLogin yes' >>/etc/ssh/sshd_config")
    told(live, wire.FILE, "/etc/ssh/sshd_config", "written")
    live.ns.run("sed", "-i", "s/yes/no/", "/etc/app/app.conf")
    told(live, wire.FILE, "/etc/app/app.conf", "written")
    live.ns.run("chmod", "666", "/etc/hosts")
    told(live, wire.FILE, "/etc/hosts", "rights")
    live.ns.run("rm", "/etc/sudoers.d/goes")
    told(live, wire.FILE, "/etc/sudoers.d/goes", "removed")
    assert not [e for e in events(live) if e[0] == wire.FILE and e[1] and "/etc/app/sed" in e[1][0]]


def test_files_that_are_declared_later_are_watched_from_then_on(live):
    live.ns.write("/srv/later/later.conf", "on = yes\n")
    live.ns.run("touch", "/srv/later/before.conf")
    live.emitter.configure(config_files="/etc/app/*.conf /srv/later/*.conf")
    live.emitter.hang_up()
    await_true(lambda: "settings read again" in live.emitter.log(), "the settings")
    live.ns.run("sed", "-i", "s/yes/no/", "/srv/later/later.conf")
    told(live, wire.FILE, "/srv/later/later.conf", "written")
    live.ns.run("sh", "-c", "echo off >/etc/app/app.conf")
    told(live, wire.FILE, "/etc/app/app.conf", "written")
    assert not [e for e in events(live) if e[0] == wire.FILE and e[1] and "before" in e[1][0]]


def test_a_socket_that_opens_and_closes(live):
    server = live.ns.within(lambda: socket.create_server(("127.0.0.1", 4711)))
    opened = told(live, wire.SOCKET_OPENED, "tcp", "127.0.0.1", "4711")
    server.close()
    closed = told(live, wire.SOCKET_CLOSED, "tcp", "127.0.0.1", "4711")
    assert opened[0][2] <= closed[0][2]


def package(live, name, version):
    tree = live.ns.directory / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a test\nDescription: nothing\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree], check=True, capture_output=True)
    return f"{tree}.deb"


def test_packages_come_change_and_go(live):
    live.ns.run("dpkg", "-i", package(live, "tiny", "1.0"))
    told(live, wire.PACKAGE_INSTALLED, "tiny", "1.0")
    live.ns.run("dpkg", "-i", package(live, "tiny", "2.0"))
    told(live, wire.PACKAGE_CHANGED, "tiny", "2.0", "1.0")
    live.ns.run("dpkg", "--purge", "tiny")
    told(live, wire.PACKAGE_REMOVED, "tiny", "2.0")


def test_nothing_is_lost_or_doubled_over_a_crash(live):
    """What happened while nobody looked is told once, and what was told is not told again."""
    before = sum(e[4] for e in events(live) if e[0] == wire.LOGIN_FAILED)
    assert live.emitter.stop(9) != 0
    ssh(live, "while-away", "wrong", "true")
    live.ns.run("dpkg", "-i", package(live, "away", "3.0"))
    live.emitter.start()
    told(live, wire.LOGIN_FAILED, "while-away")
    told(live, wire.PACKAGE_INSTALLED, "away", "3.0")
    ssh(live, "and-after", "wrong", "true")
    told(live, wire.LOGIN_FAILED, "and-after")
    assert sum(e[4] for e in events(live) if e[0] == wire.LOGIN_FAILED) == before + 2
    assert not [e for e in events(live) if e[0] in (wire.LOST, wire.BOOT)]
