"""What the emitter says of this very machine, against what the machine's own tools say.

`fleetstate-emitter --print` writes one report as JSON and sends nothing.
"""

import ipaddress
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from parts import BIN, ROOT

EMITTER = [BIN / "fleetstate-emitter", "--print"]


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout


def look():
    """The state document and the components."""
    report = json.loads(output(*EMITTER))
    inventory = report["inventory"]
    return report["state"], inventory if isinstance(inventory, list) else inventory["items"]


@pytest.fixture(scope="module")
def seen():
    return look()


def agree(observe, ask):
    """Both look at a machine that lives, so they may see it at different times: what we saw must be what the tool said just before or after."""
    tries = []
    for _ in range(5):
        before, ours, after = ask(), observe(), ask()
        if ours in (before, after):
            return ours
        tries.append((before, ours, after))
    before, ours, after = tries[-1]
    pytest.fail(f"only ours: {list(ours - after)[:10]}, only theirs: {list(after - ours)[:10]}")


def endpoint(text):
    """(address, port) of ss's spelling: "*:80", "[::1]:80", "127.0.0.53%lo:53"."""
    address, port = text.rsplit(":", 1)
    address = address.strip("[]").split("%")[0].strip("[]")
    return str(ipaddress.ip_address("::" if address == "*" else address)), int(port)


def sockets_of_ss():
    rows = [line.split() for line in output("ss", "-H", "-l", "-n", "-t", "-u").splitlines()]
    return {(row[0], *endpoint(row[4])) for row in rows}


def sockets_of_ours():
    rows = look()[0]["interfaces"]["sockets"]
    return {(row["protocol"], str(ipaddress.ip_address(row["address"])), row["port"]) for row in rows}


@pytest.fixture
def open_sockets():
    """Every kind that could be missed, and every kind that must be."""
    made = []

    def make(family, kind, address, listen=True):
        s = socket.socket(family, kind)
        made.append(s)
        s.bind((address, 0))
        if kind == socket.SOCK_STREAM and listen:
            s.listen()
        return s

    listening = [make(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"), make(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1")]
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        listening += [make(socket.AF_INET6, socket.SOCK_STREAM, "::1"), make(socket.AF_INET6, socket.SOCK_DGRAM, "::1")]
    bound_only = make(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", listen=False)
    with_peer = make(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1")
    with_peer.connect(listening[1].getsockname())
    client = socket.create_connection(listening[0].getsockname())
    made.append(client)
    yield listening, [bound_only, with_peer, client]
    for s in made:
        s.close()


def protocol_of(s):
    return "tcp" if s.type == socket.SOCK_STREAM else "udp"


def name_of(s):
    return (protocol_of(s), *s.getsockname()[:2])


def test_sockets_are_those_of_ss(open_sockets):
    ours = agree(sockets_of_ours, sockets_of_ss)
    listening, others = open_sockets
    assert {name_of(s) for s in listening} <= ours
    assert not {name_of(s) for s in others} & ours


def test_sockets_name_their_program(open_sockets):
    comm = Path("/proc/self/comm").read_text().strip()
    rows = look()[0]["interfaces"]["sockets"]
    for s in open_sockets[0]:
        assert [row.get("program") for row in rows if (row["protocol"], row["address"], row["port"]) == name_of(s)] == [comm]


def test_packages_are_those_of_dpkg():
    form = "${Package} ${Version} ${Architecture} ${source:Package} ${source:Version} ${db:Status-Status}\n"

    def theirs():
        lines = output("dpkg-query", "-W", "-f", form).splitlines()
        return {line.removesuffix(" installed") for line in lines if line.endswith(" installed")}

    def ours():
        state, items = look()
        assert state["packages"]["manager"] == "dpkg"
        assert state["packages"]["installed"] == state["packages"]["listed"] == len(items)
        return {" ".join((c["name"], c["version"], c["architecture"], c.get("source", c["name"]), c.get("source_version", c["version"])))
                for c in items}

    assert len(agree(ours, theirs)) > 50


def test_broken_packages_are_those_of_dpkg():
    def theirs():
        lines = output("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").splitlines()
        return {line.split()[0] for line in lines if line.split()[1] not in ("installed", "config-files", "not-installed")}

    agree(lambda: set(look()[0]["packages"]["broken"]), theirs)


def test_components_have_package_urls(seen):
    codename = shell_value("VERSION_CODENAME")
    for c in seen[1]:
        assert c["purl"].startswith(f"pkg:deb/{shell_value('ID')}/")
        assert c["purl"].endswith(f"?arch={c['architecture']}&distro={codename}")
        assert "+" not in c["purl"]
    # So has README's example of one, whatever its version is today.
    shown = re.search(r'"version":"([^"]+)","purl":"(pkg:[^"]+)"', (ROOT / "README.md").read_text())
    assert shown[2].replace(f"@{shown[1]}?", "?") in {c["purl"].replace(f"@{c['version']}?", "?") for c in seen[1]}


def shell_value(name):
    return output("sh", "-c", f'. /etc/os-release; printf %s "${name}"')


@pytest.mark.parametrize("fact, name", [("id", "ID"), ("name", "PRETTY_NAME"), ("version", "VERSION_ID"), ("build", "BUILD_ID"),
                                        ("variant", "VARIANT_ID"), ("support_end", "SUPPORT_END")])
def test_os_release_is_what_the_shell_reads(seen, fact, name):
    value = shell_value(name)
    assert seen[0]["os"].get(fact, "") == value
    assert (f"os.{fact}" in seen[0]["unknown"]) == (not value)


@pytest.mark.parametrize("topic, fact, option", [("os", "kernel", "-r"), ("os", "kernel_build", "-v"), ("hardware", "architecture", "-m"),
                                                 ("device", "hostname", "-n")])
def test_the_kernel_is_what_uname_says(seen, topic, fact, option):
    assert seen[0][topic][fact] == output("uname", option).strip()


def test_interfaces_are_those_of_ip():
    def theirs():
        rows = json.loads(output("ip", "-j", "link"))
        return {(r["ifname"], r.get("address"), "UP" in r["flags"], r["link_type"]) for r in rows}

    def ours():
        return {(r["name"], r.get("mac"), r["up"], r["type"]) for r in look()[0]["interfaces"]["network"]}

    agree(ours, theirs)


def test_the_hardware_is_what_the_tools_say(seen):
    hardware = seen[0]["hardware"]
    assert hardware["cpu_count"] == int(output("getconf", "_NPROCESSORS_ONLN"))
    assert hardware["memory_bytes"] == int(output("sh", "-c", "sed -n 's/MemTotal: *//p' /proc/meminfo").split()[0]) * 1024


def test_the_command_line_has_its_digest(seen):
    assert seen[0]["boot"]["command_line_sha256"] == output("sha256sum", "/proc/cmdline").split()[0]


def test_uptime_goes_with_the_kernel():
    def uptime():
        return int(float(Path("/proc/uptime").read_text().split()[0]))

    before, ours, after = uptime(), look()[0]["os"]["uptime_s"], uptime()
    assert before <= ours <= after


def test_no_fact_is_both_known_and_unknown(seen):
    state = seen[0]
    for name in state["unknown"]:
        topic, fact = name.split(".")
        assert fact not in state.get(topic, {})
