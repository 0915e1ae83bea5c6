"""An older copy of the database is put back while devices go on: they are asked for what it lacks, and nothing is there twice."""

import shutil
import subprocess

import pytest

from ingesting import BIN, System, await_true, provision
from test_emitter import Emitter
import device as wire  # found through ingesting

DEVICES = 4  # beside the emitter, and one that has overwritten what it is asked for


class Sim:
    def __init__(self, system, directory, n, **settings):
        directory.mkdir()
        self.journal = directory / "journal"
        self.ueids = provision("devices", system.broker.pki, n, "--list", directory / "ueids")
        words = {"pki": system.broker.pki, "state": directory / "state", "broker": f"ssl://localhost:{system.broker.port}", "interval": "1s",
                 "ueids": directory / "ueids", "journal": self.journal, "backoff_max": "1s", "awake": "yes", **settings}
        self.process = subprocess.Popen([BIN / "fleetstate-sim", *(f"--{name.replace('_', '-')}={value}" for name, value in words.items())])

    def stop(self):
        self.process.terminate()
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("restore")
    system = System(directory, postgres=["fsync=off"])
    parts = []
    try:
        (directory / "emitter").mkdir()
        parts.append(Emitter(system.broker, directory / "emitter").start())
        parts.append(Sim(system, directory / "sim", DEVICES, life=300))
        system.parts = parts
        yield system
    finally:
        for part in parts:
            part.stop()
        system.close()


def signed(part):
    """(ueid, epoch, seq, sha256)"""
    if not part.journal.exists():
        return set()
    return {(ueid, epoch, int(seq), sha) for ueid, epoch, seq, sha in (line.split() for line in part.journal.read_text().splitlines())}


def stored(system):
    return system.database.sql("SELECT encode(ueid, 'hex'), epoch_hex(epoch), seq, encode(sha256, 'hex') FROM report JOIN device USING (device_id)")


def dropped(system):
    return {(ueid, epoch, seq) for ueid, epoch, seq in system.database.sql(
        "SELECT encode(ueid, 'hex'), epoch_hex(epoch), generate_series(lower(dropped), upper(dropped) - 1) FROM report_drop JOIN device USING (device_id)"
        " WHERE cause = 'overwritten'")}


def by_device(reports):
    return min(sum(ueid == one for ueid, *_ in reports) for one in {ueid for ueid, *_ in reports})


def test_an_older_database(system):
    pg, small = system.database.directory, system.device()
    mine = [small.full()]
    small.publish(mine[0])
    await_true(lambda: len({ueid for ueid, *_ in stored(system)}) == 2 + DEVICES and len(stored(system)) >= 12, "reports of all")
    system.database.stop()
    shutil.copytree(pg, pg.with_name("pg.old"))
    system.database.start()
    old = set(stored(system))
    mine += [small.quiet() for _ in range(5)]
    for message in mine[1:]:
        small.publish(message)
    await_true(lambda: (new := set(stored(system)) - old) and len({ueid for ueid, *_ in new}) == 2 + DEVICES and by_device(new) >= 4, "what the copy lacks")
    lost = set(stored(system)) - old
    # The collector goes on with what it remembers of the newer one.
    system.database.stop()
    shutil.rmtree(pg)
    pg.with_name("pg.old").rename(pg)
    system.database.start()
    assert set(stored(system)).isdisjoint(lost)
    # One device has room for three of its own, and says so of the others when it is told of them.
    mine.append(small.quiet({"receipt": True}))
    small.publish(mine[-1])
    missing = await_true(lambda: small.receipt().missing, "being told what is missing")
    assert missing == [(2, 6)]
    for message in mine[3:6]:
        small.publish(message)
    mine.append(small.report(small.quiet_claims(), change={-65543: [[2, 3, 2]]}))
    small.publish(mine[-1])

    def unaccounted():
        there, gone = set(stored(system)), dropped(system)
        return [report for report in lost if report not in there and report[:3] not in gone]
    await_true(lambda: not unaccounted(), "all that the copy lacked", 60)
    assert dropped(system) == {(small.ueid.hex(), small.epoch.hex(), seq) for seq in (2, 3)}
    await_true(lambda: system.database.one("SELECT count(*) FROM report_gap") == 0, "nothing missing", 30)
    mine_signed = {(small.ueid.hex(), small.epoch.hex(), n + 1, wire.sha256(message).hex()) for n, message in enumerate(mine)}
    until_now = mine_signed.union(*(signed(part) for part in system.parts))

    def not_there():
        gone = dropped(system)
        return [report for report in until_now - set(stored(system)) if report[:3] not in gone]
    await_true(lambda: not not_there(), "all that was signed until now")
    for part in system.parts:
        part.stop()
    rows = stored(system)
    assert len(rows) == len(set(rows)) and set(rows) <= mine_signed.union(*(signed(part) for part in system.parts))
    assert system.database.one("SELECT sum(forks + chain_breaks) FROM device_epoch") == 0
    assert " 0 findings" in system.database.cli("audit")
