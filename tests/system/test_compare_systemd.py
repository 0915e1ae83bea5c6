"""What the emitter says of failed services, of the clock and of the timers of updates, against `systemctl` and `timedatectl`.

Both ask a real systemd: it is process 1 of a namespace over this machine's files, started there as a machine starts it, with Debian's own units, its
journal and its bus. The emitter is asked twice: as root, who reaches systemd's own socket, and as the shipped unit starts it, through the bus.
"""

import json
import os
import signal
import subprocess
import time

import pytest

from namespace import Namespace, why_no_systemd, why_not
from parts import BIN, ROOT, await_true

WHY_NOT = why_not() or why_no_systemd()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

EMITTER = BIN / "fleetstate-emitter"
UNIT = "fleetstate-emitter.service"
SAID = "/run/said/state"
# The sanitizers want more of the kernel than the unit leaves; leaks are looked for where it is root's.
SANITIZERS = "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0"
ONCE = f"""[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart={EMITTER} --print
StandardOutput=truncate:{SAID}
Environment={SANITIZERS}
"""
UNITS = {
    "false.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    "killed.service": "[Service]\nType=simple\nExecStart=/bin/sh -c 'kill -KILL $$$$'\n",
    "no-program.service": "[Service]\nType=exec\nExecStart=/usr/bin/is-not-there\n",
    "late.service": "[Service]\nType=oneshot\nTimeoutStartSec=200ms\nExecStart=/bin/sleep 100\n",
    "of@.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    "mnt-no\\x2ddisk.mount": "[Mount]\nWhat=/dev/is-not-there\nWhere=/mnt/no-disk\nType=ext4\n",
    "taken.socket": "[Socket]\nListenStream=192.0.2.1:80\nService=good.service\n",
    "good.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "pardoned.service": "[Service]\nType=oneshot\nSuccessExitStatus=1\nExecStart=/bin/false\n",
    "again.service": "[Service]\nRestart=always\nRestartSec=1h\nExecStart=/bin/false\n",
}
STA_PLL, STA_UNSYNC = 0x0001, 0x0040
FAIL = ["false.service", "killed.service", "no-program.service", "late.service", r"of@a\x2db-\xc3\xa4.service", r"mnt-no\x2ddisk.mount", "taken.socket"]
DO_NOT_FAIL = ["good.service", "pardoned.service", "again.service"]


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    with Namespace(tmp_path_factory.mktemp("systemd")) as ns:
        ns.forget_updates()
        ns.run("rm", "-r", "/etc/systemd/system")
        ns.write("/etc/systemd/system/default.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\n")
        for name, text in UNITS.items():
            ns.write(f"/etc/systemd/system/{name}", text)
        unit = (ROOT / "deploy/systemd" / UNIT).read_text().replace("@BINDIR@", str(BIN))
        ns.write(f"/etc/systemd/system/{UNIT}", unit)
        ns.write(f"/etc/systemd/system/{UNIT}.d/once.conf", ONCE)
        ns.run("mkdir", "/run/said")
        ns.run("systemd-sysusers", ROOT / "deploy/systemd/fleetstate.sysusers")
        # chronyd here may look at the clock, and not set it.
        ns.write("/etc/default/chrony", "DAEMON_OPTS='-x'\n")
        ns.boot()
        await_true(lambda: ns.run("systemctl", "is-system-running", check=False).stdout in ("running\n", "degraded\n"), "the end of the start")
        yield ns


@pytest.fixture(autouse=True)
def nothing_failed(device):
    device.run("systemctl", "reset-failed")


def as_root(ns):
    return json.loads(ns.run(EMITTER, "--print").stdout)["state"]


def as_shipped(ns):
    ns.run("systemctl", "start", UNIT)
    return json.loads(ns.path(SAID).read_text())["state"]


WAYS = pytest.mark.parametrize("look", [as_root, as_shipped])


def failed(ns):
    return sorted(unit["unit"] for unit in json.loads(ns.run("systemctl", "--failed", "--output=json").stdout))


def active(ns, unit):
    return ns.run("systemctl", "show", "--property=ActiveState", "--value", unit).stdout.strip()


@WAYS
def test_failed_units_are_those_of_systemctl(device, look):
    """Services, a mount and a socket, each failed in a way of its own; and what systemd does not call failed."""
    device.run("systemctl", "start", "--no-block", *FAIL, *DO_NOT_FAIL)
    await_true(lambda: len(failed(device)) == len(FAIL) and not device.run("systemctl", "list-jobs", "--no-legend").stdout.strip(), "all to fail")
    assert failed(device) == sorted(FAIL)
    assert [active(device, unit) for unit in DO_NOT_FAIL] == ["active", "inactive", "activating"]
    state = look(device)
    assert sorted(state["health"]["failed_units"]) == failed(device)
    assert state["elements"]["CS.2"]["status"] == "weak", state["elements"]["CS.2"]
    device.run("systemctl", "reset-failed")
    assert look(device)["health"]["failed_units"] == failed(device) == []
    device.run("systemctl", "stop", *DO_NOT_FAIL)


def test_more_than_a_report_holds(device):
    """Not all of them are told then, and that is told too."""
    names = [f"of@{n:0240}.service" for n in range(120)]
    device.run("systemctl", "start", "--no-block", *names)
    await_true(lambda: len(failed(device)) == len(names), "all to fail")
    state = as_root(device)
    assert 0 < len(state["health"]["failed_units"]) < len(names) and set(state["health"]["failed_units"]) < set(failed(device))
    assert state["unknown"]["health.failed_units"] == "more than a report can hold"
    assert state["elements"]["CS.2"]["status"] == "weak"


def why(state):
    assert "failed_units" not in state["health"]
    return state["unknown"]["health.failed_units"]


def test_without_a_bus_only_root_knows(device):
    device.run("systemctl", "start", "false.service", check=False)
    device.run("systemctl", "stop", "dbus.socket", "dbus.service")
    try:
        assert as_root(device)["health"]["failed_units"] == failed(device) == ["false.service"]
        assert why(as_shipped(device)) == "systemd can't be reached"
    finally:
        device.run("systemctl", "start", "dbus.socket")


def test_a_systemd_that_hangs_is_not_waited_for(device):
    """systemctl would wait for a minute and a half."""
    os.kill(device.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert why(as_root(device)) in ("systemd can't be reached", "systemd does not answer")
        assert time.monotonic() - begun < 60
    finally:
        os.kill(device.pid, signal.SIGCONT)


def test_updates_are_looked_for_when_systemd_starts_their_timer(device):
    """By itself, that is: one that is started by hand is not there any more after the next start."""
    timer = "apt-daily.timer"
    device.write("/etc/apt/apt.conf.d/99-lists", 'APT::Periodic::Enable "1";\nAPT::Periodic::Update-Package-Lists "1";\n')
    device.run("rm", "-f", "/etc/cron.daily/apt-compat")
    for words, expected in ((("enable",), True), (("mask", "--runtime"), False), (("unmask", "--runtime"), True), (("disable",), False),
                            (("enable", "--runtime"), True), (("mask",), False)):
        device.run("systemctl", *words, timer)
        wanted = timer in device.run("systemctl", "show", "--property=Wants", "--value", "timers.target").stdout.split()
        masked = device.run("systemctl", "show", "--property=LoadState", "--value", timer).stdout == "masked\n"
        assert as_root(device)["update"]["enabled"] == (wanted and not masked) == expected, words


def timedatectl(ns):
    return dict(line.split("=", 1) for line in ns.run("timedatectl", "show").stdout.splitlines())


def test_the_time_service_is_that_of_timedatectl(device):
    """timedatectl tells only whether one runs, and knows of units alone: one that was started without is seen by the emitter only."""
    told = timedatectl(device)
    assert (told["CanNTP"], told["NTP"]) == ("yes", "no")
    device.run("timedatectl", "set-ntp", "true")
    await_true(lambda: timedatectl(device)["NTP"] == "yes", "chronyd")
    assert as_shipped(device)["clock"]["source"] == "chrony"
    device.run("timedatectl", "set-ntp", "false")
    await_true(lambda: active(device, "chrony.service") == "inactive", "its end")
    assert as_root(device)["clock"]["source"] == "none"
    chronyd = device.start("/usr/sbin/chronyd", "-d", "-x", "-U", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_true(lambda: as_root(device)["clock"]["source"] == "chrony", "chronyd")
    assert timedatectl(device)["NTP"] == "no"
    device.kill(chronyd)


def test_the_clock_is_synchronised_as_timedatectl_says(device):
    """The kernel's own answer, which is this machine's: no namespace has another clock."""
    assert as_shipped(device)["clock"]["synchronised"] == (timedatectl(device)["NTPSynchronized"] == "yes")


@pytest.fixture(scope="module")
def played(device):
    """adjtimex's answer, read from a file by both."""
    device.write("/run/said/adjtimex.c", """
#include <stdio.h>
#include <string.h>
#include <sys/timex.h>
int adjtimex(struct timex *now) {
	FILE *f = fopen("/run/said/clock", "re");
	memset(now, 0, sizeof *now);
	if (!f || fscanf(f, "%i %ld", &now->status, &now->maxerror) != 2) return -1;
	fclose(f);
	return now->status & (STA_UNSYNC | STA_CLOCKERR) ? TIME_ERROR : TIME_OK;
}
""")
    library = "/run/said/adjtimex.so"
    device.run("cc", "-shared", "-fPIC", "-o", library, "/run/said/adjtimex.c")
    device.write("/run/systemd/system/systemd-timedated.service.d/played.conf", f"[Service]\nEnvironment=LD_PRELOAD={library}\n")
    device.run("systemctl", "daemon-reload")
    device.run("systemctl", "stop", "systemd-timedated.service")
    return lambda: json.loads(device.run("env", f"LD_PRELOAD={library}", SANITIZERS, EMITTER, "--print").stdout)["state"]


@pytest.mark.parametrize("status, max_error_us, expected", [
    (STA_PLL, 5_000, True),
    (STA_PLL | STA_UNSYNC, 15_999_999, True),  # chronyd without rtcsync: the flag only keeps the kernel from setting the hardware's clock
    (STA_PLL, 16_000_000, False),
    (STA_UNSYNC, 16_000_000, False),  # since the start
])
def test_any_clock_is_synchronised_as_timedatectl_says(device, played, status, max_error_us, expected):
    """What kernels answer whose clock is set: this one's can't be set from here, so its answer is played to both."""
    device.write("/run/said/clock", f"{status} {max_error_us}\n")
    assert (timedatectl(device)["NTPSynchronized"] == "yes") == expected
    clock = played()["clock"]
    assert clock["synchronised"] == expected
