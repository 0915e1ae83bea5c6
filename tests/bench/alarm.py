"""How long it takes from the publication of a report that degrades its device to the alert's arrival at a webhook, while the collector takes in half of
what it can."""

import json
import os
import time

from ingest import start_load
from ingesting import System
from parts import await_true
from receiver import Webhook
import device as wire  # found through ingesting

TRIES, LOAD_DEVICES = 200, 2000  # a device a try
POLICY = {"title": "Secure boot is off", "severity": "high", "element": "SU.2", "when": "strict $.boot.secure == false", "remediation": "Turn it on."}


def measure(directory, per_second):
    """`per_second`: reports that are taken in at most, as `ingest` measured; half of it is the load."""
    rate = per_second // 2
    key = directory / "secret.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o600)
    loads = []

    def before(system):
        system.database.sql("SELECT policy_put('secure', %s, 'bench', true)", (json.dumps(POLICY),))
        loads.append(start_load(system, LOAD_DEVICES, 60 * rate // LOAD_DEVICES, rate))

    hook = Webhook()
    system = System(directory, postgres=["shared_buffers=512MB", "max_wal_size=4GB", "wal_level=minimal", "max_wal_senders=0"], before=before,
                    batch_window_ms=50, secret_key=key, sink_networks="127.0.0.1/32", sink_http="yes")
    try:
        system.database.cli("sink", "add", "--kind", "webhook", "--tenant", "acme", "--secret-key", key, "--types", "alert.opened,alert.resolved", "bench", hook.url)
        devices = [system.device() for _ in range(TRIES)]
        for device in devices:
            say(device, True)
        await_true(lambda: system.database.one("SELECT count(*) FROM device_state") >= TRIES, "their first states", 60)
        # A round is each device's first report, then all quiet ones at the rate.
        loads[0].stdin.write("\n")
        loads[0].stdin.flush()
        loads[0].stdout.readline()
        loads[0].stdin.write("\n")
        loads[0].stdin.flush()
        return {"rate": rate, **play(devices, hook)}
    finally:
        loads[0].kill()
        loads[0].wait()
        system.close()
        hook.close()


def play(devices, hook):
    """Each device in turn loses secure boot and has it mended: one that did so again and again would flap, and its alert stay open."""
    opened, resolved = [], []
    for device in devices:
        for secure, kind, times in ((False, "alert.opened", opened), (True, "alert.resolved", resolved)):
            hook.requests.clear()
            begun = time.time()
            say(device, secure)
            times.append((await_true(lambda: arrived(hook, device, kind), kind) - begun) * 1000)
    return {**figures("opened", opened), **figures("resolved", resolved)}


def arrived(hook, device, kind):
    """When it did."""
    for request in list(hook.requests):
        if any(event.get("subject") == device.ueid.hex() and event["type"].endswith(kind) for event in request.events):
            return request.at
    return None


def say(device, secure):
    device.state = {**wire.DEFAULT_STATE, 4: {2: secure}}
    device.publish(device.full())


def figures(name, times):
    times.sort()
    return {f"{name}_p50_ms": round(times[len(times) // 2], 1), f"{name}_p99_ms": round(times[len(times) * 99 // 100 - 1], 1)}
