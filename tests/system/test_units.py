"""The systemd units as systemd itself judges them, and whether they leave the programs what these need."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ["fleetstate-emitter.service", "fleetstate-collector.service"]
EXPOSURE = 3.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`make install`'s units, their programs replaced: only that something can be started there is looked at."""
    directory = tmp_path_factory.mktemp("units")
    for unit in UNITS:
        text = (ROOT / "deploy/systemd" / unit).read_text()
        assert "@BINDIR@/" + unit.removesuffix(".service") + " " in text
        (directory / unit).write_text(re.sub(r"@BINDIR@/\S+", "/bin/true", text))
    return directory


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_low(installed, unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--root=/", "--no-pager", installed / unit],
                          capture_output=True, text=True, env={"SYSTEMD_EMOJI": "0", "PATH": "/usr/bin:/bin", "COLUMNS": "200"})
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) < EXPOSURE


@pytest.mark.parametrize("unit", UNITS)
def test_every_setting_is_known_to_systemd(installed, unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--root=/", installed / unit], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


def allowed_calls(unit):
    """The system calls that are left: the filter's lines in their order, sets taken apart by systemd."""
    def members(name):
        if not name.startswith("@"):
            return {name}
        lines = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True).stdout.split("\n")
        return set().union(*(members(line.strip()) for line in lines[1:] if line.strip() and not line.strip().startswith("#")))

    calls = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", (ROOT / "deploy/systemd" / unit).read_text(), re.M):
        names = set().union(*(members(word) for word in line.lstrip("~").split()))
        calls = calls - names if line.startswith("~") else calls | names
    return calls


def test_the_emitter_may_look_but_not_touch():
    calls = allowed_calls("fleetstate-emitter.service")
    assert {"adjtimex", "openat2", "clone", "socket", "fdatasync", "seccomp"} <= calls
    assert not {"ptrace", "process_vm_readv", "process_vm_writev", "mount", "clock_settime", "reboot", "bpf"} & calls
    text = (ROOT / "deploy/systemd/fleetstate-emitter.service").read_text()
    assert not re.search("^ProtectClock=yes", text, re.M), "it would refuse adjtimex"
    for setting in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert re.findall(rf"^{setting}=(.*)$", text, re.M) == ["CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_NET_ADMIN"]


def test_the_collector_has_no_capability():
    text = (ROOT / "deploy/systemd/fleetstate-collector.service").read_text()
    assert re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.M) == [""]
    assert "AmbientCapabilities" not in text


@pytest.mark.parametrize("tool, file", [("systemd-sysusers", "fleetstate.sysusers"), ("systemd-tmpfiles", "fleetstate.tmpfiles")])
def test_users_and_directories(tmp_path, tool, file):
    (tmp_path / "etc").mkdir()
    snippets = [("systemd-sysusers", "fleetstate.sysusers"), (tool, file)]
    for command, snippet in snippets:
        arguments = ["--create"] if command == "systemd-tmpfiles" else []
        done = subprocess.run([command, *arguments, f"--root={tmp_path}", ROOT / "deploy/systemd" / snippet], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "fleetstate-emitter" in (tmp_path / "etc/passwd").read_text()
    if tool == "systemd-tmpfiles":
        assert (tmp_path / "etc/fleetstate/emitter").stat().st_mode & 0o777 == 0o750
