"""What other tests trust namespace.py for: what is done in there stays there."""

import pathlib
import socket

import pytest

from namespace import Namespace, unified, why_no_systemd, why_not
from parts import await_true, free_port

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def ns(tmp_path_factory):
    with Namespace(tmp_path_factory.mktemp("namespace")) as made:
        yield made


def test_files_are_this_machines_until_they_are_changed(ns):
    assert ns.path("/etc/passwd").read_text() == pathlib.Path("/etc/passwd").read_text()
    ns.run("useradd", "--create-home", "only-inside")
    assert ns.run("id", "-un", user="only-inside").stdout == "only-inside\n"
    assert "only-inside" not in pathlib.Path("/etc/passwd").read_text()
    assert not pathlib.Path("/home/only-inside").exists()


def test_the_directory_is_shared(ns):
    ns.run("sh", "-c", f"echo inside >{ns.directory}/said")
    assert (ns.directory / "said").read_text() == "inside\n"


def test_processes_see_only_their_own(ns):
    assert "postgres" not in ns.run("cat", "/proc/1/cmdline").stdout
    assert len(ns.run("sh", "-c", "ls -d /proc/[0-9]*").stdout.split()) < 10


def test_ports_are_its_own_and_can_be_carried_out(ns):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            ns.within(lambda: socket.create_connection(("127.0.0.1", port)))
        with ns.forward(port), ns.within(lambda: socket.create_connection(("127.0.0.1", port), 5)) as client:
            client.sendall(b"out")
            assert ours.accept()[0].recv(3) == b"out"


def test_all_ends_with_it(tmp_path):
    port = free_port()
    with Namespace(tmp_path) as short:
        process = short.start("sleep", "1000")
        assert short.within(lambda: socket.create_server(("127.0.0.1", port))) is not None
    assert process.poll() is not None


@pytest.mark.skipif(bool(why_no_systemd()), reason=why_no_systemd() or "-")
def test_a_systemd_in_it_sets_nothing_of_the_kernel(tmp_path):
    before = sorted(unified().iterdir())
    with Namespace(tmp_path) as booted:
        booted.write("/etc/systemd/system/default.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\n")
        booted.boot()
        await_true(lambda: booted.run("systemctl", "is-active", "default.target", check=False).stdout == "active\n", "the end of the start")
        assert booted.run("cat", "/proc/1/comm", "/proc/1/cgroup").stdout.split()[0] == "systemd"
        for name in ("/proc/sys/kernel/domainname", "/sys/kernel/mm/transparent_hugepage/enabled"):
            assert "Read-only" in booted.run("sh", "-c", f"echo x >{name}", check=False).stderr
    assert sorted(unified().iterdir()) == before
