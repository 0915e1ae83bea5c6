"""What the emitter says of the platform, against what independent tools say of the same: nft, iptables, ss, ethtool, df, lsblk, swtpm.

Whatever is done to a device is done in a namespace of its own, whose root can't touch this machine.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from namespace import Namespace, why_not
from parts import BIN, await_true

EMITTER = str(BIN / "fleetstate-emitter")
pytestmark = pytest.mark.skipif(why_not() != "", reason=why_not() or "-")
HOOK = "type filter hook input priority 0;"


@pytest.fixture
def device(tmp_path):
    with Namespace(tmp_path) as ns:
        ns.forget_updates()
        yield ns


def look(ns, *options, user=None):
    return json.loads(ns.run(EMITTER, "--print", *options, user=user).stdout)["state"]


def why(state, fact):
    return state["unknown"].get(fact, "")


@pytest.mark.parametrize("rules, expected", [
    ("", ("none", "accept")),
    (f"table inet f {{ chain i {{ {HOOK} policy drop; }} }}", ("nftables", "drop")),
    (f"table ip f {{ chain i {{ {HOOK} policy drop; }} }}", ("nftables", "accept")),
    (f"table ip f {{ chain i {{ {HOOK} policy drop; }} }} table ip6 g {{ chain i {{ {HOOK} policy drop; }} }}", ("nftables", "drop")),
    (f"table ip f {{ chain i {{ {HOOK} policy drop; }} }} table ip6 g {{ chain i {{ {HOOK} }} }}", ("nftables", "accept")),
    (f"table inet f {{ chain i {{ {HOOK} tcp dport {{ 22, 80 }} accept; counter log reject; }} }}", ("nftables", "drop")),
    (f"table inet f {{ chain i {{ {HOOK} counter drop; tcp dport 22 accept; }} }}", ("nftables", "accept")),
    (f"table inet f {{ chain i {{ {HOOK} tcp dport 22 drop; }} }}", ("nftables", "accept")),
    ("table inet f { chain o { type filter hook forward priority 0; policy drop; } }", ("none", "accept")),
])
def test_nftables(device, rules, expected):
    """The live kernel; and the same rules, as nft itself lists them, as the configuration of an image."""
    device.run("nft", "-f", "-", input=rules.replace("} }", "}\n}\n"))
    interfaces = look(device)["interfaces"]
    assert (interfaces["firewall"], interfaces["firewall_input"]) == expected
    listed = device.run("nft", "list", "ruleset").stdout
    assert all(name in listed for name in ("policy drop",) if name in rules)
    root = device.directory / "image"
    (root / "etc/systemd/system/sysinit.target.wants").mkdir(parents=True)
    (root / "etc/systemd/system/sysinit.target.wants/nftables.service").write_text("")
    (root / "etc/nftables.conf").write_text(listed)
    interfaces = look(device, "--root", str(root))["interfaces"]
    assert (interfaces["firewall"], interfaces["firewall_input"]) == expected


@pytest.mark.parametrize("tool", ["legacy", "nft"])
@pytest.mark.parametrize("four, six, expected", [
    (["-P INPUT DROP"], ["-P INPUT DROP"], "drop"),
    (["-P INPUT DROP"], [], "accept"),
    (["-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -j REJECT"], ["-A INPUT -j DROP"], "drop"),
    (["-A INPUT -p tcp -j DROP"], ["-P INPUT DROP"], "accept"),
    (["-A INPUT -j DROP", "-A INPUT -p tcp -j ACCEPT"], ["-P INPUT DROP"], "accept"),
])
def test_iptables(device, tool, four, six, expected):
    for program, rules in (("iptables", four), ("ip6tables", six)):
        for rule in rules:
            device.run(f"{program}-{tool}", *rule.split())
    interfaces = look(device)["interfaces"]
    assert interfaces["firewall"] == {"legacy": "iptables", "nft": "nftables"}[tool]
    assert interfaces["firewall_input"] == expected


def test_who_may_not_ask_says_so(device):
    state = look(device, user="daemon")
    assert "CAP_NET_ADMIN" in why(state, "interfaces.firewall_input")
    assert state["emitter"]["privileges"] == "reduced"


def test_unexpected_sockets_are_those_of_ss(device):
    """All that ss lists beyond loopback, but for the one that is expected."""
    program = "import socket, sys, time; s = [socket.create_server((a, p)) for a, p in (('0.0.0.0', 23), ('0.0.0.0', 80), ('127.0.0.1', 81))]\nprint(flush=True); sys.stdin.read()"
    server = device.start("/usr/bin/python3", "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server.stdout.readline()
    listed = {("tcp", int(line.split()[3].rpartition(":")[2])) for line in device.run("ss", "-Hltn").stdout.splitlines()
              if not line.split()[3].startswith("127.")}
    assert listed == {("tcp", 23), ("tcp", 80)}
    state = look(device, "--expected-sockets", "tcp/80/python3", "--expected-interfaces", "eth0")
    assert state["interfaces"]["unexpected_sockets"] == ["tcp 23 python3"]
    assert state["interfaces"]["unnecessary"] == []
    assert len(look(device, "--expected-sockets", "-")["interfaces"]["unexpected_sockets"]) == len(listed)
    state = look(device)
    assert state["interfaces"]["unexpected_sockets"] == ["tcp 23 python3"]  # telnet is never expected
    assert why(state, "interfaces.unnecessary") == "expected_interfaces is not set"
    server.stdin.close()


def test_permanent_addresses_are_those_of_ethtool():
    state = json.loads(subprocess.run([EMITTER, "--print"], check=True, capture_output=True, text=True).stdout)["state"]
    theirs = set()
    for interface in Path("/sys/class/net").iterdir():
        said = subprocess.run(["ethtool", "-P", interface.name], capture_output=True, text=True).stdout
        if "Permanent address: " in said and "not set" not in said and "00:00:00:00:00:00" not in said:
            address = said.split()[-1]
            if not int(address[:2], 16) & 2:  # administered locally: ethtool repeats what the kernel says, nobody burned it in
                theirs.add(f"{interface.name} {address}")
    assert set(state["device"]["permanent_macs"]) == theirs


def test_removable_media_are_those_of_lsblk():
    state = json.loads(subprocess.run([EMITTER, "--print"], check=True, capture_output=True, text=True).stdout)["state"]
    said = json.loads(subprocess.run(["lsblk", "--json", "--bytes", "--nodeps", "-o", "NAME,RM,HOTPLUG,SIZE"], check=True,
                                     capture_output=True, text=True).stdout)["blockdevices"]
    assert set(state["interfaces"]["removable_media"]) == {d["name"] for d in said if (d["rm"] or d["hotplug"]) and d["size"]}


def test_full_file_systems_are_those_of_df(device):
    for name, part in (("most", 96), ("less", 90), ("inodes", 0)):
        device.run("mkdir", "-p", f"/mnt/{name} x")
        device.run("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=20", "tmpfs", f"/mnt/{name} x")
        device.run("dd", "if=/dev/zero", f"of=/mnt/{name} x/fill", "bs=4096", f"count={256 * part // 100}")
    device.run("sh", "-c", "cd '/mnt/inodes x' && i=0; while touch $i 2>/dev/null; do i=$((i+1)); done")
    lines = device.run("df", "--output=pcent,ipcent,target", "-t", "tmpfs").stdout.splitlines()[1:]
    full = {" ".join(line.split()[2:]) for line in lines if max(int(word.rstrip("%").replace("-", "0")) for word in line.split()[:2]) > 95}
    assert {"/mnt/most x", "/mnt/inodes x"} <= full
    assert {name for name in look(device)["health"]["full"] if name.startswith("/mnt")} == {name for name in full if name.startswith("/mnt")}


@pytest.fixture
def tpm(tmp_path):
    """A software TPM, made as a manufacturer makes one. TPM 1.2 and hardware are told by trees in the unit tests."""
    (tmp_path / "localca.conf").write_text("".join(f"{key} = {tmp_path}/{name}\n" for key, name in (
        ("statedir", "ca"), ("signingkey", "ca/key.pem"), ("issuercert", "ca/cert.pem"), ("certserial", "ca/serial"))))
    (tmp_path / "options").write_text("")
    (tmp_path / "setup.conf").write_text(f"create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {tmp_path}/localca.conf\n"
                                         f"create_certs_tool_options = {tmp_path}/options\n")
    for name in ("ca", "state"):
        (tmp_path / name).mkdir()
    running = []

    def start(*setup):
        subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", tmp_path / "state", "--config", tmp_path / "setup.conf", "--overwrite", *setup],
                       check=True, stdout=subprocess.DEVNULL)
        path = tmp_path / "tpm.sock"
        running.append(subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={tmp_path}/state", "--server",
                                         f"type=unixio,path={path}", "--flags", "startup-clear"]))
        await_true(path.exists, "the software TPM")
        return path

    yield start
    for process in running:
        process.kill()
        process.wait()


def endorsement(path):
    out = subprocess.run([EMITTER, "--print", "--tpm", str(path)], check=True, capture_output=True, text=True).stdout
    state = json.loads(out)["state"]
    return state["device"].get("endorsement_key_sha256"), why(state, "device.endorsement_key_sha256")


def test_the_endorsement_key_is_that_of_the_certificate(tpm, tmp_path):
    path = tpm("--create-ek-cert", "--write-ek-cert-files", tmp_path)
    theirs = subprocess.run(["sha256sum", tmp_path / "ek-rsa2048.crt"], check=True, capture_output=True, text=True).stdout.split()[0]
    assert endorsement(path) == (theirs, "")


def test_a_tpm_without_either_says_so(tpm):
    assert endorsement(tpm()) == (None, "the TPM holds neither a certificate of its endorsement key nor the key")


def test_what_is_no_tpm_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    assert endorsement(tmp_path / "file")[0] is None
    assert endorsement(tmp_path / "none") == (None, "there is no TPM")


def test_measured_files_are_those_of_sha256sum_and_dpkg(device):
    files = ["/usr/bin/env", "/usr/bin/id"]
    state = look(device, "--measured-files", " ".join(files))["integrity"]
    theirs = {line.split()[1]: line.split()[0] for line in device.run("sha256sum", *files).stdout.splitlines()}
    assert {row["path"]: row["sha256"] for row in state["measured_files"]} == theirs
    assert state["packaged_altered"] == []
    device.write("/usr/bin/id", "altered")
    assert "usr/bin/id" in device.run("dpkg", "--verify", "coreutils", check=False).stdout
    assert look(device, "--measured-files", " ".join(files))["integrity"]["packaged_altered"] == ["/usr/bin/id"]


@pytest.mark.skipif(not shutil.which("chronyd"), reason="no chronyd")
def test_the_time_service_is_the_one_that_runs(device):
    """chronyd, without control of the clock; whether the clock is synchronised is what timedatectl reads too: the kernel's flag."""
    assert look(device)["clock"]["source"] == "none"
    device.write("/run/chrony.conf", "local stratum 8\nallow 127.0.0.1\ncmdport 0\nbindcmdaddress /\npidfile /run/chronyd.pid\n")
    device.start("/usr/sbin/chronyd", "-x", "-n", "-f", "/run/chrony.conf", "-u", "root")
    await_true(lambda: look(device)["clock"]["source"] == "chrony", "chronyd")


def test_taint_and_modules_are_those_of_proc():
    state = json.loads(subprocess.run([EMITTER, "--print"], check=True, capture_output=True, text=True).stdout)["state"]
    taint = int(Path("/proc/sys/kernel/tainted").read_text())
    assert len(state["integrity"]["taint"]) == bin(taint).count("1")
    modules = Path("/proc/modules")
    assert set(state["os"]["modules"]) == {line.split()[0] for line in (modules.read_text() if modules.exists() else "").splitlines()}
