"""The emitter on this machine: its resident memory over a bare paho client's, both connected over TLS and after as many messages; and the processor time
of a report, from the sweep to the receipt."""

import subprocess

from parts import BIN, await_true
from ingesting import System, processor_seconds, provision, resident

WARM, REPORTS = 6, 20
INTERVAL = 60  # seconds: what a fleet reports at


def measure(directory):
    system = System(directory, postgres=["fsync=off"])
    pki, url = system.broker.pki, f"ssl://localhost:{system.broker.port}"
    ueid, other = provision("device", pki)[0], provision("device", pki)[0]
    own = pki / "devices" / ueid
    ca = pki / "operator-ca.crt"
    started = []
    try:
        started.append(subprocess.Popen(
            [BIN / "fleetstate-emitter", "--config", "/dev/null", "--state-dir", directory / "emitter", "--interval", "1", "--test-intervals",
             "--broker", url, "--ca", ca, "--receipt-ca", ca, "--tls-certificate", f"{own}.crt", "--tls-key", f"{own}.key",
             "--sign-certificate", f"{own}.crt", "--sign-key", f"{own}.key"], stderr=subprocess.DEVNULL))
        started.append(subprocess.Popen(
            [BIN / "bare_paho", url, ca, f"{pki}/devices/{other}.crt", f"{pki}/devices/{other}.key", other, "1000", "1000"],
            stderr=subprocess.DEVNULL))

        def stored():
            return (system.database.sql("SELECT hi FROM device_hot JOIN device USING (device_id) WHERE ueid = %s", (bytes.fromhex(ueid),)) or [(0,)])[0][0]

        # The first reports carry everything and are told from later ones.
        await_true(lambda: stored() >= WARM, f"{WARM} reports", 120)
        before, first = processor_seconds(started[0].pid), stored()
        await_true(lambda: stored() >= first + REPORTS, f"{REPORTS} more reports", 120)
        spent = (processor_seconds(started[0].pid) - before) / (stored() - first)
        emitter, bare = (resident(one.pid) // 1024 for one in started)
        return {"emitter_kib": emitter, "bare_kib": bare, "ratio": round(emitter / bare, 3), "report_ms": round(spent * 1000, 2),
                "core_percent": round(100 * spent / INTERVAL, 4)}
    finally:
        for one in started:
            one.terminate()
            one.wait(30)
        system.close()
