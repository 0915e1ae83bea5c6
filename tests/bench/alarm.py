"""How long it takes, in milliseconds, from the publication of a report that degrades its device to the alert's arrival at a webhook, while the collector takes in half of
what this machine can take, the load's own making included; and where that time goes."""

import json
import os
import time

from ingest import Load
from ingesting import System
from parts import ROOT, Session, await_true, provision
from receiver import Webhook
import device as wire  # found through ingesting

TRIES, LOAD_DEVICES, FULL_ROUNDS = 200, 2000, 20  # a device a try
LOAD_S = 90  # the load's length: more than the tries take
MENDED = 2  # reports that it takes to resolve the alert
POLICY = {"title": "Secure boot is off", "severity": "high", "element": "SU.2", "when": "strict $.boot.secure == false", "remediation": "Turn it on.",
          "clear_after": {"reports": MENDED}}

# Where a try's time goes: from a stage's end to the next one's.
STAGES = ("received", "begun", "committed", "numbered", "arrived")
TIMES = """
SELECT extract(epoch FROM r.received_at)::float8, extract(epoch FROM e.time)::float8, extract(epoch FROM pg_xact_commit_timestamp(r.xmin))::float8,
	extract(epoch FROM pg_xact_commit_timestamp(e.xmin))::float8
FROM device d JOIN report_full r ON r.device_id = d.device_id AND r.seq = %s JOIN event e ON e.ueid = d.ueid AND e.type = %s WHERE d.ueid = %s"""


def measure(directory):
    key = directory / "secret.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o600)
    loads = []

    def before(system):
        put = "SELECT policy_put(%s, %s, 'bench', true)"
        # Both packs are judged too. As low ones, since of most of it these devices tell nothing.
        for pack in sorted((ROOT / "schema/policies").glob("*.json")):
            for policy in json.loads(pack.read_text())["policies"]:
                policy = {name: value for name, value in policy.items() if name != "examples"} | {"severity": "low"}
                if policy["when"] != POLICY["when"]:
                    system.database.sql(put, (policy.pop("id"), json.dumps(policy)))
        system.database.sql(put, ("secure", json.dumps(POLICY)))
        loads.append(Load(system, LOAD_DEVICES))

    hook = Webhook()
    # When a row's transaction was committed is what the server keeps only if it is asked to.
    system = System(directory, postgres=["shared_buffers=512MB", "max_wal_size=4GB", "wal_level=minimal", "max_wal_senders=0", "track_commit_timestamp=on"],
                    before=before, batch_window_ms=50, secret_key=key, sink_networks="127.0.0.1/32", sink_http="yes")
    try:
        system.database.cli("sink", "add", "--kind", "webhook", "--tenant", "acme", "--secret-key", key, "--types", "alert.opened,alert.resolved", "bench", hook.url)
        devices = [system.device(ueid=ueid) for ueid in provision("devices", system.broker.pki, TRIES)]
        for device in devices:
            say(device, True)
        await_true(lambda: system.database.one("SELECT count(*) FROM device_state") >= TRIES, "their first states", 60)
        rate = full_load(system, loads[0]) // 2
        loads[0].prepare(LOAD_S * rate // LOAD_DEVICES, rate)
        loads[0].begin()
        tries = play(devices, hook, Api(system))
        assert loads[0].is_publishing(), "the load ended before the tries did"
        postures = "SELECT count(*) FROM event WHERE type = 'device.posture' AND data ->> 'posture' = %s AND data ->> 'previous' = %s"
        assert [system.database.one(postures, p) for p in (("degraded", "operational"), ("operational", "degraded"))] == [TRIES, TRIES]
        return {"rate": rate, **breakdown(system, tries)}
    finally:
        for load in loads:
            load.close()
        system.close()
        hook.close()


def full_load(system, load):
    """Reports a second, as many as are taken."""
    def await_rounds(n):
        await_true(lambda: system.database.one("SELECT sum(hi) FROM device_hot") >= n * LOAD_DEVICES + TRIES, "the load being stored", 300)

    load.prepare(1)
    load.begin()
    load.end()
    await_rounds(1)
    load.prepare(FULL_ROUNDS)
    begun = time.monotonic()
    load.begin()
    await_rounds(1 + FULL_ROUNDS)
    load.end()
    return round(FULL_ROUNDS * LOAD_DEVICES / (time.monotonic() - begun))


class Api:
    """What an analyst sees meanwhile."""

    def __init__(self, system):
        token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bench")
        self.url, self.session = f"http://127.0.0.1:{system.collector.http}", Session()
        self.session.headers["Authorization"] = "Bearer " + token

    def get(self, path):
        answer = self.session.get(self.url + path, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def check(self, device, posture, state):
        """The device's posture, and the state of its one alert."""
        ueid = device.ueid.hex()
        assert self.get(f"/v1/devices/{ueid}")["posture"] == posture
        assert [a["state"] for a in self.get(f"/v1/devices/{ueid}/alerts?policy=secure")["items"]] == [state]


def play(devices, hook, api):
    """Each device in turn loses secure boot and has it mended: one that did so again and again would flap, and its alert stay open. Yields
    (device, seq, kind, published, arrived)."""
    tries = []
    for device in devices:
        for secure, kind, reports, seen in ((False, "alert.opened", 1, ("degraded", "open")), (True, "alert.resolved", MENDED, ("operational", "resolved"))):
            hook.requests.clear()
            for _ in range(reports - 1):  # what comes in one batch is judged once
                say(device, secure)
                await_true(lambda: api.get(f"/v1/devices/{device.ueid.hex()}")["seq"] == device.seq, "a report being stored")
            begun = time.time()
            say(device, secure)
            at = await_true(lambda: arrived(hook, device, kind), kind)
            assert at > begun, "resolved by the first report of a mended device"
            api.check(device, *seen)
            tries.append((device, device.seq, kind, begun, at))
    return tries


def arrived(hook, device, kind):
    """When it did."""
    for request in list(hook.requests):
        if any(event.get("subject") == device.ueid.hex() and event["type"].endswith(kind) for event in request.events):
            return request.at
    return None


def say(device, secure):
    device.state = {**wire.DEFAULT_STATE, 4: {2: secure}}
    device.publish(device.full())


def breakdown(system, tries):
    figures = {}
    for kind in ("alert.opened", "alert.resolved"):
        took = {stage: [] for stage in ("all", *STAGES)}
        for device, seq, _, begun, end in (t for t in tries if t[2] == kind):
            at = [begun, *system.database.sql(TIMES, (seq, kind, device.ueid))[0], end]
            took["all"].append(end - begun)
            for i, stage in enumerate(STAGES):
                took[stage].append(at[i + 1] - at[i])
        for stage, times in took.items():
            times = sorted(1000 * t for t in times)
            name = kind[6:] + ("" if stage == "all" else "_" + stage)
            figures |= {f"{name}_p{p}": round(times[max(len(times) * p // 100 - 1, 0)], 1) for p in (50, 90, 99)}
    return figures
