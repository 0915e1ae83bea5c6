"""What storing a signed report costs in processor time: the collector, PostgreSQL and the broker, over one bare ES256 verification."""

import pathlib
import select
import subprocess
import time

from parts import BIN, await_true
from ingesting import System, processor_seconds


def family(pid):
    """A process and its children, living or waited for. One that ends meanwhile has become one waited for, or soon will."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    try:
        living = sum(processor_seconds(int(child)) for child in children)
    except (FileNotFoundError, ProcessLookupError):
        return family(pid)
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return processor_seconds(pid) + (int(fields[13]) + int(fields[14])) / 100 + living


class Load:
    """tests/bench/load: the fleet's reports, signed beforehand. Its rounds are a report of each device."""

    def __init__(self, system, devices):
        pki = system.broker.pki
        anchor = system.directory / "anchor.crt"
        self.devices = devices
        self.process = subprocess.Popen([BIN / "load", str(devices), f"ssl://127.0.0.1:{system.broker.collector_port}",
                                         pki / "operator-ca.crt", pki / "collectors/collector.crt", pki / "collectors/collector.key", anchor],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        system.database.cli("trust-anchor", "add", "--tenant", "acme", anchor)

    def prepare(self, rounds, rate=0, order="t"):
        self.say(f"{rounds} {rate} {order}")
        assert self.process.stdout.readline() == "signed\n"

    def begin(self):
        self.say("")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        """(how many were published, in how many seconds)."""
        published, seconds = self.process.stdout.readline().split()
        return int(published), float(seconds)

    def is_publishing(self):
        return not select.select([self.process.stdout], [], [], 0)[0]

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(directory, devices=2000, reports=50):
    """A dict of figures."""
    return with_load(directory, devices, lambda system, load: play(system, load, reports))


def measure_backlog(directory, devices=20, reports=1000):
    """The same of devices that each bring all they kept while they were away."""
    return with_load(directory, devices, lambda system, load: play(system, load, reports, "b"))


def with_load(directory, devices, play):
    loads = []
    system = System(directory, postgres=["shared_buffers=512MB", "max_wal_size=4GB", "wal_level=minimal", "max_wal_senders=0"],
                    before=lambda system: loads.append(Load(system, devices)), batch_window_ms=50)
    try:
        return play(system, loads[0])
    finally:
        for load in loads:
            load.close()
        system.close()


def play(system, load, reports, order="t"):
    devices = load.devices

    def count():
        return system.database.one("SELECT (SELECT count(*) FROM report_quiet) + (SELECT count(*) FROM report_full)")

    load.prepare(1)
    load.begin()
    load.end()
    await_true(lambda: count() == devices, "all devices being enrolled", 300)
    load.prepare(reports, order=order)
    postmaster = int((system.database.directory / "postmaster.pid").read_text().split()[0])
    parts = {"collector": lambda: processor_seconds(system.collector.process.pid), "postgres": lambda: family(postmaster),
             "broker": lambda: processor_seconds(system.broker.process.pid)}
    # A machine that is busy verifies more slowly too: the yardstick is held to it all the while.
    yardstick = subprocess.Popen([BIN / "verify_cost", "100", "yardstick"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert yardstick.stdout.readline() == "ready\n"
    before = {name: read() for name, read in parts.items()}
    begun = time.monotonic()
    total = devices * reports
    load.begin()
    _, published_s = load.end()
    # The hot rows say how far it is; counting reports would cost more than storing them.
    while system.database.one("SELECT sum(hi) FROM device_hot") < devices + total:
        assert time.monotonic() - begun < 900, "not all reports were stored"
        time.sleep(0.25)
    seconds = time.monotonic() - begun
    spent = {name: (read() - before[name]) * 1e6 / total for name, read in parts.items()}
    us = float(yardstick.communicate()[0].split()[0]) / 1000
    assert count() == devices + total
    return {"devices": devices, "reports": total, "published_s": published_s, "per_second": round(total / seconds),
            "bare_us": round(us, 1),
            **{f"{name}_us": round(value, 1) for name, value in spent.items()},
            "collector_ratio": round(spent["collector"] / us, 3), "all_ratio": round(sum(spent.values()) / us, 3)}

