"""`make run` as somebody who breaks it sees it: parts that die, a supervisor that is killed, ports that are taken; nothing stays behind."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from parts import ROOT, await_true
from running import Run

PARTS = ["sim", "emitter", "collector", "mosquitto", "postgres"]


def part_pid(system, part):
    try:
        return int((system.directory / "pid" / part).read_text())
    except (FileNotFoundError, ValueError):
        return None


def processes_of(directory):
    """Whoever names the directory in its command line, or has its lock open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
            opened = {os.readlink(fd) for fd in (process / "fd").iterdir()}
        except OSError:
            continue
        if int(process.name) != os.getpid() and (os.fsencode(directory) in line or str(directory / "lock") in opened):
            found.append((int(process.name), line))
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    # A blank, and a letter outside ASCII.
    system = Run(tmp_path_factory.mktemp("sup") / "dér run", DEVICES=3)
    yield system
    system.stop()


@pytest.fixture
def system(installed):
    """It runs, whatever was done to it before."""
    if installed.process is None or installed.process.poll() is not None:
        installed.start()
    return installed


def answers(system):
    try:
        return system.ask("/readyz", token=None).status_code == 200
    except OSError:
        return False


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_dies_comes_back(system, part):
    seqs = {d["ueid"]: d["seq"] for d in system.items("/v1/devices")}
    old = part_pid(system, part)
    os.kill(old, signal.SIGKILL)
    await_true(lambda: part_pid(system, part) not in (None, old), f"{part} started again", 60)
    await_true(lambda: answers(system), "readiness", 60)
    await_true(lambda: all(d["seq"] > seqs[d["ueid"]] for d in system.items("/v1/devices")), "new reports of all", 120)
    assert f"fleetstate: {part} ended with status 137" in system.directory.with_suffix(".log").read_text()


def test_the_environment_is_complete(system):
    assert set(system.env) == {
        "FLEETSTATE_URL", "FLEETSTATE_TOKEN", "FLEETSTATE_ANALYST_TOKEN", "FLEETSTATE_ADMIN_TOKEN", "FLEETSTATE_OPERATOR_TOKEN",
        "MQTT_HOST", "MQTT_PORT", "MQTT_CA", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "SELF_UEID"}
    done = subprocess.run(["sh", "-c", '. "$1"; printf %s "$MQTT_CA"', "sh", system.directory / "env"], check=True, capture_output=True)
    assert Path(os.fsdecode(done.stdout)).is_file()
    for secret in ["env", *(f"tokens/{t}" for t in ("viewer", "analyst", "admin", "operator"))]:
        assert (system.directory / secret).stat().st_mode & 0o077 == 0
    query = ["psql", "-X", "-A", "-t", "-c", "SELECT count(*) FROM tenant"]
    assert subprocess.run(query, check=True, capture_output=True, env={**os.environ, **system.env}).stdout.strip() == b"2"


def test_the_database_has_no_other_way_in(system):
    shown = subprocess.run(["psql", "-X", "-A", "-t", "-c", "SHOW listen_addresses"], check=True, capture_output=True,
                           env={**os.environ, **system.env}).stdout.strip()
    assert shown == b""
    assert os.stat(system.env["PGHOST"]).st_mode & 0o077 == 0


def run_once(**settings):
    return subprocess.run(["make", "-s", "-C", str(ROOT), "run"], env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)


def test_a_second_run_on_the_same_directory_is_refused(system):
    done = run_once(**system.settings)
    assert done.returncode != 0 and "is in use" in done.stderr and "RUN_DIR=" in done.stderr
    assert answers(system) and (system.directory / "env").exists()


@pytest.mark.parametrize("name", ["HTTP_PORT", "MQTT_PORT", "MQTT_COLLECTOR_PORT"])
def test_a_taken_port_is_named(system, tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = Run(tmp_path / "run")
        other.settings[name] = str(taken.getsockname()[1])
        done = run_once(**other.settings)
    assert done.returncode != 0 and f"choose one with {name}=" in done.stderr
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("name, value", [("DEVICES", "many"), ("DEVICES", "-1"), ("HTTP_PORT", "0"), ("MQTT_PORT", "65536")])
def test_a_wrong_setting_is_named(tmp_path, name, value):
    done = run_once(RUN_DIR=str(tmp_path / "run"), **{name: value})
    assert done.returncode != 0 and f"{name}={value}" in done.stderr
    assert not (tmp_path / "run").exists()


def test_after_the_supervisor_is_killed_nothing_runs_and_the_next_start_goes_on(system):
    before = {d["ueid"]: d["seq"] for d in system.items("/v1/devices")}
    token = system.env["FLEETSTATE_TOKEN"]
    os.kill(part_pid(system, "run"), signal.SIGKILL)
    system.process.wait(30)
    await_true(lambda: not processes_of(system.directory), "parts that end with their supervisor", 60)
    system.start()
    assert system.env["FLEETSTATE_TOKEN"] == token
    await_true(lambda: all(d["seq"] > before[d["ueid"]] for d in system.items("/v1/devices")), "new reports of all", 120)
    for ueid in before:
        ledger = system.get(f"/v1/devices/{ueid}/ledger")
        assert sum(e["forks"] for e in ledger["epochs"]) == 0


@pytest.mark.parametrize("how", ["interrupt to the group", "interrupt to make alone", "termination of make"])
def test_nothing_stays_behind(system, how):
    if how == "interrupt to the group":
        os.killpg(system.process.pid, signal.SIGINT)
    else:
        system.process.send_signal(signal.SIGINT if "interrupt" in how else signal.SIGTERM)
    system.process.wait(60)
    await_true(lambda: not processes_of(system.directory), "nothing left of it", 10)
    assert not (system.directory / "env").exists()
    system.process = None
