"""What a newcomer gets from `make run`: this very machine, listed as it is, beside simulated devices."""

import hashlib
import signal
import subprocess

import pytest

from parts import await_true
from device import META, UEID, verify_message  # found through parts
from running import Run, run  # noqa: F401


def lines(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def os_release():
    pairs = (line.split("=", 1) for line in open("/etc/os-release") if "=" in line)
    return {key: value.strip().strip('"') for key, value in pairs}


@pytest.fixture(scope="module")
def state(run):
    ueid = run.env["SELF_UEID"]
    return await_true(lambda: (a := run.ask(f"/v1/devices/{ueid}/state")).status_code == 200 and a.json(), "own state", 60)["state"]


def test_this_machine_is_listed_with_its_version_and_kernel(run, state):
    me = next(d for d in run.items("/v1/devices") if d["ueid"] == run.env["SELF_UEID"])
    assert me["swversion"] == os_release()["VERSION_ID"]
    assert state["os"]["kernel"] == lines("uname", "-r")[0]
    assert run.get(f"/v1/devices/{me['ueid']}")["lifecycle"] == "active"


def test_inventory_is_what_dpkg_reports(run, state):
    installed = {tuple(line.split(" ")[:3]) for line in
                 lines("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${db:Status-Status}\n") if line.endswith(" installed")}
    path = f"/v1/devices/{run.env['SELF_UEID']}/inventory"
    await_true(lambda: run.ask(path).status_code == 200, "own inventory", 60)
    items = list(run.items(path))
    assert {(i["name"], i["version"], i["architecture"]) for i in items if i["type"] == "dpkg"} == installed
    assert len(items) == len({tuple(sorted(i.items())) for i in items})


def normal(address):
    return address.strip("[]").split("%")[0]


def test_sockets_are_those_of_ss(run, state):
    def listed():
        rows = [line.split() for line in lines("ss", "-lntuH")]
        return {(r[0], normal(r[4].rsplit(":", 1)[0]).replace("*", "::"), int(r[4].rsplit(":", 1)[1])) for r in rows}

    def told():
        sockets = run.get(f"/v1/devices/{run.env['SELF_UEID']}/state")["state"]["interfaces"]["sockets"]
        return {(s["protocol"], s["address"], s["port"]) for s in sockets}

    # A socket that comes or goes is in the next report; both must agree at some moment.
    await_true(lambda: listed() == told(), f"sockets: {listed() ^ told()}", 90)


def test_simulated_devices_differ(run):
    devices = [d for token, tenant in (("FLEETSTATE_TOKEN", None), ("FLEETSTATE_OPERATOR_TOKEN", "globex"))
               for d in run.items("/v1/devices", token, **({"tenant": tenant} if tenant else {}))]
    assert len(devices) == 26
    assert len({d["hwmodel"] for d in devices}) >= 3
    assert len({(d["swname"], d["swversion"]) for d in devices}) >= 3
    fleet = run.get("/v1/fleet")
    assert sum(fleet["posture"].values()) == fleet["total"] == sum(fleet["lifecycle"].values())
    assert fleet["posture"]["operational"] > 0 and fleet["posture"]["degraded"] > 0, "the pack judges them, and they differ"


def test_simulated_devices_judge_themselves_by_their_facts(run):
    states = [run.get(f"/v1/devices/{d['ueid']}/state")["state"] for d in run.items("/v1/devices") if d["ueid"] != run.env["SELF_UEID"] and d["last_seen"]]
    assert states
    for state in states:
        status = {name: element["status"] for name, element in state["elements"].items()}
        assert len(status) == 22 and set(status.values()) <= {"in-effect", "weak", "not-supported"}, status
        weak = {"LA.1": bool(state["interfaces"]["unexpected_sockets"]), "SU.1": state["update"]["pending_security"] > 0, "SU.2": bool(state["boot"]["command_line_risks"])}
        assert {name for name, word in status.items() if word == "weak"} == {name for name, is_weak in weak.items() if is_weak}
        assert state["verdict"]["overall"] == ("degraded" if any(weak.values()) else "as-expected")


def test_evidence_verifies_without_us(run):
    """The signed bytes, up to the maker's CA, by python3-cbor2 and python3-cryptography alone."""
    ca = (run.directory / "pki" / "maker-ca.crt").read_bytes()
    seen = 0
    for device in [run.env["SELF_UEID"]] + [d["ueid"] for d in run.items("/v1/devices")][:5]:
        certificate = (run.directory / "pki" / "devices" / f"{device}.crt").read_bytes()
        for row in run.get(f"/v1/devices/{device}/reports", limit=20)["items"]:
            answer = run.ask(f"/v1/reports/{row['sha256']}")
            assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("application/eat+cwt")
            assert hashlib.sha256(answer.content).hexdigest() == row["sha256"]
            claims = verify_message(answer.content, ca, certificate).claims
            assert (claims[UEID].hex(), claims[META][1].hex(), claims[META][0]) == (device, row["epoch"], row["seq"])
            seen += 1
    assert seen > 5


def test_other_tenants_objects_are_absent(run):
    foreign = next(run.items("/v1/devices", "FLEETSTATE_OPERATOR_TOKEN", tenant="globex"))["ueid"]
    absent = "01" + "0" * 32
    for suffix in ("", "/state", "/inventory", "/reports", "/ledger"):
        a, b = (run.ask(f"/v1/devices/{ueid}{suffix}") for ueid in (foreign, absent))
        assert a.status_code == b.status_code == 404
        assert a.json()["type"] == b.json()["type"]
    report = next(run.items(f"/v1/devices/{foreign}/reports", "FLEETSTATE_OPERATOR_TOKEN", tenant="globex"))["sha256"]
    assert run.ask(f"/v1/reports/{report}").status_code == 404
    assert run.ask(f"/v1/reports/{report}", "FLEETSTATE_OPERATOR_TOKEN", tenant="globex").status_code == 200


def test_starts_again_on_the_same_directory(tmp_path):
    system = Run(tmp_path / "again", DEVICES=3)
    system.start()
    first = {d["ueid"]: d["seq"] for d in system.items("/v1/devices")}
    token = system.env["FLEETSTATE_TOKEN"]
    assert system.stop() in (0, 130, -signal.SIGINT)
    assert list((system.directory / "pid").iterdir()) == [], "parts that were left running"
    system.start()
    try:
        assert system.env["FLEETSTATE_TOKEN"] == token
        await_true(lambda: (now := {d["ueid"]: d["seq"] for d in system.items("/v1/devices")}).keys() == first.keys()
                   and all(now[u] > first[u] for u in first), "every device reporting on", 120)
        for ueid in first:
            ledger = system.get(f"/v1/devices/{ueid}/ledger")
            assert len(ledger["epochs"]) == 1 and ledger["epochs"][0]["forks"] == 0 and ledger["epochs"][0]["missing"] == []
    finally:
        system.stop()
