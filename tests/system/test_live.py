"""What is done to a live device is in its next report: real daemons in a namespace over this machine's files, a real emitter in it, a real collector."""

import contextlib
import json
import os
import socket
import subprocess

import pytest

from ingesting import System, await_true, provision
from namespace import Namespace, why_not
from parts import BIN

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "")

SETTINGS = "/etc/acme/settings"


class Device:
    """A machine of its own with the emitter on it, that reports every second."""

    def __init__(self, directory, system):
        self.system = system
        self.ns = Namespace(directory)
        self.ueid = provision("device", system.broker.pki)[0]
        pki = system.broker.pki
        (directory / "bin").mkdir()
        subprocess.run(["cp", "-r", *(str(BIN / name) for name in ("fleetstate-emitter",)), str(directory / "bin")], check=True)
        subprocess.run(["cp", pki / "operator-ca.crt", pki / f"devices/{self.ueid}.crt", pki / f"devices/{self.ueid}.key", directory], check=True)
        own = directory / self.ueid
        self.ns.write(SETTINGS, "safe = yes\n")
        self.ns.write("/etc/ssh/sshd_config.d/first.conf", "PermitRootLogin no\n")
        self.ns.write("/etc/fleetstate/emitter.conf", f"""
state_dir = /var/lib/device
interval = 1
test_intervals = yes
broker = ssl://localhost:{system.broker.port}
ca = {directory}/operator-ca.crt
receipt_ca = {directory}/operator-ca.crt
tls_certificate = {own}.crt
tls_key = {own}.key
sign_certificate = {own}.crt
sign_key = {own}.key
config_files = {SETTINGS}
""")
        self.forward = self.ns.forward(system.broker.port)
        self.forward.__enter__()
        self.log = open(directory / "emitter.log", "wb")
        self.emitter = self.ns.start(directory / "bin/fleetstate-emitter", stderr=self.log, env={name: value for name, value in os.environ.items() if "SAN_OPTIONS" in name})
        await_true(lambda: self.state(), "the first state", 60)

    def state(self):
        rows = self.system.database.sql("SELECT state FROM device_state JOIN device USING (device_id) WHERE ueid = %s", (bytes.fromhex(self.ueid),))
        return rows[0][0] if rows else None

    def seq(self):
        return self.system.database.one("SELECT hi FROM device_hot JOIN device USING (device_id) WHERE ueid = %s", (bytes.fromhex(self.ueid),))

    def fact(self, name):
        """Its value; None if it is not known."""
        topic, _, fact = name.partition(".")
        return self.state().get(topic, {}).get(fact)

    @contextlib.contextmanager
    def soon(self, condition, what):
        """What is done within is in the next report, or in the one after when that one was under way already."""
        assert not condition(), f"{what} already"
        yield
        begun = self.seq()
        await_true(condition, what, 60)
        assert self.seq() - begun <= 2, f"{what}: only in report {self.seq()}, and it was done before {begun}"

    def close(self):
        self.ns.kill(self.emitter)
        self.forward.__exit__(None, None, None)
        self.ns.close()
        self.log.close()


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    system = System(directory, postgres=["fsync=off"])
    try:
        inside = directory / "device"
        inside.mkdir()
        device = Device(inside, system)
        yield device
        device.close()
    finally:
        system.close()


def listens(device, port, program=None):
    return any(s["port"] == port and program in (None, s.get("program")) for s in device.fact("interfaces.sockets") or [])


def test_at_most_five_elements_are_unknown_and_each_says_why(device):
    elements = device.state()["elements"]
    assert len(elements) == 22
    unknown = {name: element for name, element in elements.items() if element["status"] == "unknown"}
    assert len(unknown) <= 5, unknown
    assert all(element["why"] for element in unknown.values())


def test_a_listening_port(device):
    port = 4711
    with device.soon(lambda: listens(device, port), "the listening port"):
        server = device.ns.within(lambda: socket.create_server(("0.0.0.0", port)))
    with device.soon(lambda: not listens(device, port), "its end"):
        server.close()


def test_sshd_and_its_settings(device):
    """The real daemon, on a port of its own; what it is told is what the report says."""
    device.ns.run("ssh-keygen", "-A")
    device.ns.run("mkdir", "-p", "/run/sshd")
    with device.soon(lambda: listens(device, 22, "sshd"), "sshd listening"):
        sshd = device.ns.start("/usr/sbin/sshd", "-D")
    assert device.fact("access.ssh_root") == "no"
    with device.soon(lambda: device.fact("access.ssh_root") == "yes", "PermitRootLogin"):
        device.ns.write("/etc/ssh/sshd_config.d/first.conf", "PermitRootLogin yes\n")
    told = device.ns.run("/usr/sbin/sshd", "-T").stdout
    assert "permitrootlogin yes\n" in told
    device.ns.kill(sshd)


def test_an_account_with_an_empty_password(device):
    with device.soon(lambda: "guest" in (device.fact("access.empty_password") or []), "the empty password"):
        device.ns.run("useradd", "-m", "-s", "/bin/bash", "guest")
        device.ns.run("passwd", "-d", "guest")
    with device.soon(lambda: device.fact("access.empty_password") == [], "its end"):
        device.ns.run("usermod", "-p", "!", "guest")


def test_a_package(device):
    before = device.fact("packages.installed")
    part = device.ns.directory / "part"
    (part / "DEBIAN").mkdir(parents=True)
    (part / "DEBIAN/control").write_text("Package: acme-part\nVersion: 1.0-1\nArchitecture: all\nMaintainer: Acme <devices@example.net>\nDescription: part\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", part, f"{part}.deb"], check=True, capture_output=True)
    with device.soon(lambda: device.fact("packages.installed") == before + 1, "the package"):
        device.ns.run("dpkg", "-i", f"{part}.deb")
    await_true(lambda: device.system.database.sql(
        "SELECT 1 FROM device_state s JOIN inventory i ON i.digest = s.inventory_digest JOIN inventory_component USING (inventory_id) JOIN component c"
        " USING (component_id) JOIN device d ON d.device_id = s.device_id WHERE d.ueid = %s AND c.name = 'acme-part' AND c.version = '1.0-1'",
        (bytes.fromhex(device.ueid),)), "the component in the inventory")
    with device.soon(lambda: device.fact("packages.installed") == before, "its end"):
        device.ns.run("dpkg", "-r", "acme-part")


def test_a_declared_file(device):
    def digest():
        return next((f["sha256"] for f in device.fact("configuration.files") or [] if f["path"] == SETTINGS), None)

    before = await_true(digest, "the declared file")
    with device.soon(lambda: digest() != before, "the edited file"):
        device.ns.write(SETTINGS, "safe = no\n")


def test_the_clock_s_synchronisation(device):
    """chronyd can't set this machine's clock from within; that it is there, and no longer is, is seen."""
    with device.soon(lambda: device.fact("clock.source") == "chrony", "chronyd"):
        chronyd = device.ns.start("/usr/sbin/chronyd", "-d", "-x", "-U", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with device.soon(lambda: device.fact("clock.source") == "none", "its end"):
        device.ns.kill(chronyd)


SHARED = ("clock.synchronised", "os.kernel", "integrity.taint", "boot.command_line_sha256")


def test_what_no_namespace_gives_a_device_of_its_own(device, capsys):
    """The kernel and its clock are this machine's: they can't be changed here, and must be told as this machine's emitter tells them."""
    done = subprocess.run([BIN / "fleetstate-emitter", "--config", "/dev/null", "--print"], capture_output=True, text=True, check=True)
    here = json.loads(done.stdout)["state"]
    for name in SHARED:
        topic, _, fact = name.partition(".")
        assert device.fact(name) == here.get(topic, {}).get(fact), name
    with capsys.disabled():
        print(f"\nskipped: {len(SHARED)} facts are this machine's kernel's and were not changed: {' '.join(SHARED)}")
