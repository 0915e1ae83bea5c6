#!/usr/bin/python3
"""What storing a signed report costs in processor time: the collector, PostgreSQL and the broker, over one bare ES256 verification. Prints one
JSON object. Usage: ingest.py [DEVICES] [REPORTS] [RATE]; needs the build's `load` and `verify_cost`."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from ingesting import BUILD, System, await_true, processor_seconds  # noqa: E402


def family(pid):
    """A process and its children, living or waited for."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return processor_seconds(pid) + (int(fields[13]) + int(fields[14])) / 100 + sum(processor_seconds(int(child)) for child in children)


def bare_verification_us():
    out = subprocess.run([BUILD / "verify_cost"], check=True, capture_output=True, text=True).stdout
    return float(re.search(r"bare\D*([0-9.]+)", out).group(1)) / 1000


def main(devices=2000, reports=20, rate=0):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        system = System(directory, postgres=["shared_buffers=512MB", "max_wal_size=4GB", "wal_level=minimal", "max_wal_senders=0"],
                        batch_window_ms=50, **dict(word.split("=") for word in os.environ.get("COLLECTOR", "").split()))
        try:
            print(json.dumps(measure(system, directory, int(devices), int(reports), float(rate))))
        finally:
            system.close()


def measure(system, directory, devices, reports, rate):
    broker = system.broker
    with open(broker.state / "collectors.acl", "a") as acl:
        acl.write("\npattern write fleetstate/1/+/+/report\n")
    broker.process.send_signal(1)
    pki = broker.pki
    load = subprocess.Popen([BUILD / "load", str(devices), str(reports), str(rate), f"ssl://127.0.0.1:{broker.collector_port}",
                             pki / "operator-ca.crt", pki / "collectors/collector.crt", pki / "collectors/collector.key",
                             directory / "anchor.crt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert load.stdout.readline() == "ready\n"
    system.database.cli("trust-anchor", "add", "--tenant", "acme", directory / "anchor.crt")
    time.sleep(3)  # until the collector has read the anchor: it looks every two seconds

    def count():
        return system.database.one("SELECT (SELECT count(*) FROM report_quiet) + (SELECT count(*) FROM report_full)")

    def play():
        load.stdin.write("\n")
        load.stdin.flush()
        return load.stdout.readline()

    play()
    await_true(lambda: count() == devices, "all devices being enrolled", 300)
    postmaster = int((system.database.directory / "postmaster.pid").read_text().split()[0])
    parts = {"collector": lambda: processor_seconds(system.collector.process.pid), "postgres": lambda: family(postmaster),
             "broker": lambda: processor_seconds(broker.process.pid)}
    bare = [bare_verification_us()]
    before = {name: read() for name, read in parts.items()}
    begun = time.monotonic()
    total = devices * reports
    # A machine that is busy verifies more slowly too: the yardstick is held to it in the middle as well.
    yardstick = threading.Thread(target=lambda: bare.append(bare_verification_us()))
    yardstick.start()
    published = play()
    # The hot rows say how far it is; counting reports would cost more than storing them.
    while system.database.one("SELECT sum(hi) FROM device_hot") < devices + total:
        assert time.monotonic() - begun < 900, "not all reports were stored"
        time.sleep(0.25)
    seconds = time.monotonic() - begun
    spent = {name: (read() - before[name]) * 1e6 / total for name, read in parts.items()}
    yardstick.join()
    bare.append(bare_verification_us())
    us = statistics.median(bare)
    assert count() == devices + total
    load.wait(60)
    return {"devices": devices, "reports": total, "published_s": float(published.split()[1]), "per_second": round(total / seconds), "bare_us": [round(one, 1) for one in bare],
            **{f"{name}_us": round(value, 1) for name, value in spent.items()},
            "collector_ratio": round(spent["collector"] / us, 3), "all_ratio": round(sum(spent.values()) / us, 3)}


if __name__ == "__main__":
    main(*sys.argv[1:])
