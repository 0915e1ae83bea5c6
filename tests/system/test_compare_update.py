"""What waits to be updated, against apt: on this machine, and on trees that apt is pointed at, with older packages installed and releases and pins
of all kinds."""

import json
import os
import random
import re
import subprocess

import pytest

from parts import BIN

ENV = {**os.environ, "LC_ALL": "C"}
SUITES = {
    "stable": "Suite: stable\nCodename: trusty\nOrigin: Acme\nLabel: Acme\nVersion: 12.1\n",
    "stable-security": "Suite: stable-security\nCodename: trusty-security\nOrigin: Acme\nLabel: Acme-Security\nVersion: 12\n",
    "stable-backports": "Suite: stable-backports\nCodename: trusty-backports\nOrigin: Acme Backports\nLabel: Acme Backports\nNotAutomatic: yes\nButAutomaticUpgrades: yes\n",
    "experimental": "Suite: experimental\nCodename: rc-buggy\nOrigin: Acme\nLabel: Acme\nNotAutomatic: yes\n",
}
PINS = [
    "Package: *\nPin: release a=stable-backports\nPin-Priority: 600\n",
    "Package: *\nPin: release n=trusty-security\nPin-Priority: 990\n",
    "Package: p1 p2 p3\nPin: release a=experimental\nPin-Priority: 700\n",
    "Package: p4\nPin: version 1.0*\nPin-Priority: 1001\n",
    "Package: p*\nPin: release l=Acme-Security\nPin-Priority: -1\n",
    "Package: p5\nPin: origin \"one.example\"\nPin-Priority: 1002\n",
    "Package: p6 p7\nPin: release stable\nPin-Priority: 50\n",
    "Explanation: none\nPackage: *\nPin: origin two.example\nPin-Priority: 400\n",
    "Package: p8:any\nPin: version 2.*\nPin-Priority: 1000\n",
    "Package: *\nPin: release o=Acme*,v=12*\nPin-Priority: 501\n",
]


def look(root):
    report = json.loads(subprocess.run([BIN / "fleetstate-emitter", "--print", "--root", root], check=True, capture_output=True, text=True, env=ENV).stdout)
    return report["state"]


def apt_says(**env):
    out = subprocess.run(["apt", "list", "--upgradable"], capture_output=True, text=True, env={**ENV, **env}, check=True).stdout
    return {tuple(m) for m in re.findall(r"^([^/\s]+)/\S+ (\S+) \S+ \[upgradable from: (\S+)\]", out, re.M)}


def ours(state):
    return {(name, to, old) for name, old, _, to in (line.split()[:4] for line in state["update"]["pending_names"])}


def test_this_machine():
    state = look("/")
    theirs = apt_says()
    assert state["update"]["pending"] == len(theirs)
    if len(theirs) <= 500:  # a list holds 512
        assert {(name.split(":")[0], to, old) for name, to, old in ours(state)} == theirs
    assert "apt" in state["update"]["mechanisms"]


def version(rng):
    return f"{rng.randrange(1, 4)}.{rng.randrange(0, 3)}" + rng.choice(["", "~rc1", "-1", "-2", "+b1", "-1~bpo12+1"])


def make_tree(root, rng, packer=None):
    lists = root / "var/lib/apt/lists"
    for directory in (lists / "partial", root / "var/lib/dpkg", root / "etc/apt/preferences.d", root / "etc/apt/sources.list.d", root / "etc/apt/apt.conf.d",
                      root / "var/cache/apt/archives/partial", root / "var/log/apt", root / "usr/bin"):
        directory.mkdir(parents=True)
    names = [f"p{i}" for i in range(12)]
    architectures = {name: rng.choice(["amd64", "all"]) for name in names}
    status = ["Package: dpkg\nStatus: install ok installed\nVersion: 9\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: d\n"]
    for name in names:
        want = rng.choice(["install ok installed"] * 5 + ["hold ok installed", "deinstall ok config-files", "install ok unpacked"])
        status.append(f"Package: {name}\nStatus: {want}\nVersion: {version(rng)}\nArchitecture: {architectures[name]}\nMaintainer: a <a@b>\nDescription: d\n")
    (root / "var/lib/dpkg/status").write_text("\n".join(status))
    (root / "var/lib/dpkg/arch").write_text("amd64\n")
    sources = []
    for suite, release in SUITES.items():
        host = rng.choice(["one.example", "two.example"])
        if rng.random() < 0.5:
            sources.append(f"deb [arch=amd64] https://{host}/re_po {suite} main")
        else:
            (root / f"etc/apt/sources.list.d/{suite}.sources").write_text(f"Types: deb deb-src\nURIs: https://{host}/re_po/\nSuites: {suite}\nComponents: main\n")
        prefix = f"{host}_re%5fpo_dists_{suite}"
        (lists / f"{prefix}_Release").write_text(release + "Architectures: amd64\nComponents: main\nDate: Thu, 26 Nov 2026 08:00:00 UTC\n")
        packages = []
        for name in names:
            for _ in range(rng.randrange(0, 3)):
                packages.append(f"Package: {name}\nVersion: {version(rng)}\nArchitecture: {architectures[name]}\nMaintainer: a <a@b>\n"
                                f"Filename: pool/{name}.deb\nSize: 1\nSHA256: {rng.randrange(2**256):064x}\nDescription: d\n")
        path = lists / f"{prefix}_main_binary-amd64_Packages"
        path.write_text("\n".join(packages))
        if packer and packages:
            if packer[0] == "lz4":
                packer = ["lz4", "-q", "-m"]  # else it would write to its output
            subprocess.run([*packer, path], check=True, capture_output=True)
            path.unlink(missing_ok=True)
    (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n# deb https://three.example/ x main\n")
    (root / "etc/apt/preferences.d/one").write_text("\n".join(rng.sample(PINS, rng.randrange(0, 4))))
    (root / "etc/apt/preferences").write_text("\n".join(rng.sample(PINS, rng.randrange(0, 2))))
    (root / "etc/apt/preferences.d/ignored.bak").write_text(PINS[0])
    if rng.random() < 0.2:
        (root / "etc/apt/apt.conf.d/10release").write_text('APT { Default-Release "stable-backports"; };\n')
    (root / "usr/bin/apt-get").write_text("")


def compare(root):
    state = look(root)
    # On the command line `Dir` would come too late for the tree's own configuration.
    conf = root.with_name(root.name + ".conf")
    conf.write_text(f'Dir "{root}";\nDir::State::status "{root}/var/lib/dpkg/status";\nAPT::Architecture "amd64";\nAPT::Architectures {{ "amd64"; }};\n')
    theirs = apt_says(APT_CONFIG=str(conf))
    assert ours(state) == theirs, root
    assert state["update"]["pending"] == len(theirs)
    return len(theirs), state


@pytest.mark.parametrize("seed", range(24))
def test_trees_with_pins(tmp_path, seed):
    make_tree(tmp_path, random.Random(seed))
    compare(tmp_path)


@pytest.mark.parametrize("packer", [["lz4", "-q"], ["gzip"], ["xz"], ["zstd", "-q"]], ids=lambda p: p[0])
def test_packed_lists(tmp_path, packer):
    rng = random.Random(7)
    make_tree(tmp_path, rng, packer)
    n, state = compare(tmp_path)
    assert n > 0
    held = subprocess.run(["dpkg-query", "--admindir", tmp_path / "var/lib/dpkg", "-W", "-f", "${db:Status-Want} ${Package}\n"], capture_output=True, text=True, check=True).stdout
    assert set(state["update"]["held"]) == {line.split()[1] for line in held.splitlines() if line.startswith("hold ")}


def test_a_broken_list_is_no_answer(tmp_path):
    make_tree(tmp_path, random.Random(7), ["lz4", "-q"])
    for path in (tmp_path / "var/lib/apt/lists").glob("*.lz4"):
        path.write_bytes(path.read_bytes()[:-9])
    state = look(tmp_path)
    assert "pending" not in state["update"] and "not packed soundly" in state["unknown"]["update.pending"]


def test_neglected_and_hardened(tmp_path):
    make_tree(tmp_path / "n", random.Random(3))
    make_tree(tmp_path / "h", random.Random(3))
    (tmp_path / "n/etc/apt/sources.list").write_text("deb [trusted=yes] http://one.example/x stable main\n")
    os.chmod(tmp_path / "n/etc/apt/sources.list", 0o666)
    (tmp_path / "n/etc/apt/apt.conf.d/99loose").write_text('APT::Get::AllowUnauthenticated "true";\n')
    hardened = tmp_path / "h"
    (hardened / "etc/apt/apt.conf.d/20auto-upgrades").write_text('APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic { Unattended-Upgrade "1"; };\n')
    (hardened / "etc/apt/apt.conf.d/50unattended-upgrades").write_text('Unattended-Upgrade::Mail "root"; // who is told\n')
    (hardened / "usr/bin/unattended-upgrade").write_text("")
    wants = hardened / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    (wants / "apt-daily.timer").write_text("[Timer]\n")
    neglected, good = look(tmp_path / "n")["update"], look(hardened)["update"]
    assert (neglected["signatures_enforced"], good["signatures_enforced"]) == (False, True)
    assert sorted(neglected["unsigned_sources"]) == ["apt APT::Get::AllowUnauthenticated", "apt http://one.example/x stable"]
    assert neglected["unprivileged"] == ["/etc/apt/sources.list can be written by others than root"] and good["unprivileged"] == []
    assert (neglected["enabled"], neglected["download"], neglected["install"], neglected["notification"]) == (False, "manual", "manual", "none")
    assert (good["enabled"], good["download"], good["install"], good["notification"]) == (True, "automatic", "automatic", "mail")
    (hardened / "etc/systemd/system/apt-daily.timer").symlink_to("/dev/null")  # masked
    assert look(hardened)["update"]["enabled"] is False


def test_slots(tmp_path):
    rauc = tmp_path / "etc/rauc"
    rauc.mkdir(parents=True)
    (rauc / "system.conf").write_text("[system]\ncompatible=gadget\n[keyring]\npath=ca.pem\n[slot.rootfs.0]\ndevice=/dev/sda2\nbootname=A\n"
                                      "[slot.rootfs.1]\ndevice=/dev/sda3\nbootname=B\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=x", "-out", rauc / "ca.pem"],
                   check=True, capture_output=True)
    update = look(tmp_path)["update"]
    assert [slot["name"] for slot in update["slots"]] == ["rootfs.0", "rootfs.1"]
    assert (update["mechanisms"], update["rollback"], update["keys"], update["signatures_enforced"]) == (["rauc"], "slots", 1, True)


def test_keys_as_gpg_counts_them():
    state = look("/")
    paths = [p for d in ("/etc/apt/trusted.gpg.d", "/etc/apt/keyrings", "/usr/share/keyrings") if os.path.isdir(d) for p in sorted(os.path.join(d, f) for f in os.listdir(d))]
    paths += ["/etc/apt/trusted.gpg"] if os.path.exists("/etc/apt/trusted.gpg") else []
    n = 0
    for path in paths:
        out = subprocess.run(["gpg", "--homedir", "/nonexistent", "--no-default-keyring", "--with-colons", "--show-keys", path], capture_output=True, text=True, env=ENV).stdout
        n += len(re.findall(r"^pub:", out, re.M))
    others = len([f for f in (os.listdir("/etc/pki/rpm-gpg") if os.path.isdir("/etc/pki/rpm-gpg") else [])])
    if n and not others:
        assert state["update"]["keys"] == n
