"""The emitter's resident memory over a bare paho client's, both connected over TLS and after as many messages."""

import pathlib
import re
import subprocess

from parts import BIN, await_true
from ingesting import System, provision

REPORTS = 20


def resident_kib(pid):
    return int(re.search(r"^VmRSS:\s+([0-9]+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1))


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
        await_true(lambda: (system.database.sql("SELECT hi FROM device_hot JOIN device USING (device_id) WHERE ueid = %s",
                                                (bytes.fromhex(ueid),)) or [(0,)])[0][0] >= REPORTS, f"{REPORTS} reports", 120)
        emitter, bare = (resident_kib(one.pid) for one in started)
        return {"emitter_kib": emitter, "bare_kib": bare, "ratio": round(emitter / bare, 3)}
    finally:
        for one in started:
            one.terminate()
            one.wait(30)
        system.close()
