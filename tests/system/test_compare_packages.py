"""The inventory against the package managers' own lists: dpkg of this machine, and a database that rpm itself wrote below a root of its own."""

import json
import os
import subprocess

import pytest

from parts import BIN

SPEC = """\
Name: gadget
Epoch: 2
Version: 1.5~rc1
Release: 3
Summary: x
License: MIT
BuildArch: noarch
%description
x
%package -n gadget-libs
Version: 7
Epoch: 0
Summary: y
%description -n gadget-libs
y
%files
%files -n gadget-libs
"""


def look(root="/"):
    env = {**os.environ, "LC_ALL": "C"}
    report = json.loads(subprocess.run([BIN / "fleetstate-emitter", "--print", "--root", root], check=True, capture_output=True, text=True, env=env).stdout)
    inventory = report["inventory"]
    return report["state"], inventory if isinstance(inventory, list) else inventory["items"]


def test_dpkg_of_this_machine():
    query = "${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", query], check=True, capture_output=True, text=True).stdout.splitlines()
    theirs = {tuple(line.split("\t")[1:]) for line in lines if line.startswith("installed\t")}
    state, items = look()
    ours = {(c["name"], c["version"], c["architecture"], c.get("source", c["name"]), c.get("source_version", c["version"])) for c in items if c["type"] == "dpkg"}
    assert ours == theirs
    assert state["packages"]["installed"] == len(theirs)


@pytest.fixture(scope="module")
def rpm_root(tmp_path_factory):
    work = tmp_path_factory.mktemp("rpm")
    (work / "gadget.spec").write_text(SPEC)
    subprocess.run(["rpmbuild", "-bb", "--define", f"_topdir {work}/top", work / "gadget.spec"], check=True, capture_output=True)
    root = work / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=fedora\nVERSION_ID=38\nIMAGE_ID=gadget-os\nIMAGE_VERSION=12\n")
    packages = sorted(str(p) for p in (work / "top/RPMS").rglob("*.rpm"))
    subprocess.run(["rpm", "--root", root, "--dbpath", "/usr/lib/sysimage/rpm", "-i", "--nodeps", *packages], check=True, capture_output=True)
    return root


def test_rpm(rpm_root):
    query = "%{name}\\t%|epoch?{%{epoch}:}|%{version}-%{release}\\t%{arch}\\n"
    lines = subprocess.run(["rpm", "--root", rpm_root, "--dbpath", "/usr/lib/sysimage/rpm", "-qa", "--qf", query], check=True, capture_output=True, text=True).stdout
    # An epoch that is 0 is told as none.
    theirs = {tuple(line.replace("\t0:", "\t").split("\t")) for line in lines.splitlines()}
    assert len(theirs) == 2
    state, items = look(rpm_root)
    assert {(c["name"], c["version"], c["architecture"]) for c in items if c["type"] == "rpm"} == theirs
    assert {c["purl"] for c in items if c["type"] == "rpm"} == {
        "pkg:rpm/fedora/gadget@1.5~rc1-3?arch=noarch&distro=fedora-38&epoch=2", "pkg:rpm/fedora/gadget-libs@7-3?arch=noarch&distro=fedora-38"}
    libs = next(c for c in items if c["name"] == "gadget-libs")
    assert (libs["source"], libs["source_version"]) == ("gadget", "1.5~rc1-3")
    assert [(c["type"], c["name"], c["version"]) for c in items if c["type"] != "rpm"] == [("image", "gadget-os", "12")]
    assert state["packages"] == {"manager": "rpm", "installed": 2, "broken": [], "listed": 2}


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\xff" * 8192, None])
def test_a_hostile_rpm_database(tmp_path, content):
    directory = tmp_path / "var/lib/rpm"
    directory.mkdir(parents=True)
    if content is None:
        os.mkfifo(directory / "rpmdb.sqlite")  # blocks whoever opens it
    else:
        (directory / "rpmdb.sqlite").write_bytes(content)
    state, items = look(tmp_path)
    assert state["packages"] == {"manager": "rpm"} and items == []
    assert state["unknown"]["packages.installed"].startswith("var/lib/rpm: ")
