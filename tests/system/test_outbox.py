"""The outbox: every change is an event, every event gets its position once its transaction has committed, and positions have no holes."""

import contextlib
import random
import select
import signal
import socket
import struct
import threading
import time

import psycopg2
import pytest

from ingesting import Collector, System, await_true
from test_ingest import events, metric, refused, resealed


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("outbox"), postgres=["fsync=off"], silence_min="1s", event_retention="30d")
    yield system
    system.close()


@pytest.fixture
def device(system):
    device = system.device()
    yield device
    device.close()


INSERT = "INSERT INTO event (tenant_id, type, data) SELECT tenant_id, %s, '{}' FROM tenant LIMIT 1 RETURNING event_id"


def read(system, after):
    """As a reader of the feed does: (position, type) behind a cursor."""
    return system.database.sql("SELECT position, type FROM event WHERE position > %s ORDER BY position", (after,))


def top(system):
    return system.database.one("SELECT top FROM event_bounds()")


def all_numbered(system):
    return system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0


def bounds_fit(system):
    """No holes, and the head tells what is there."""
    oldest, last = system.database.sql("SELECT * FROM event_bounds()")[0]
    positions = [p for p, in system.database.sql("SELECT position FROM event WHERE position IS NOT NULL ORDER BY 1")]
    return positions == list(range(oldest, last + 1))


def test_a_late_commit_is_not_skipped(system):
    await_true(lambda: all_numbered(system), "quiet")
    cursor = top(system)
    early, late = psycopg2.connect(system.database.uri("fleetstate_owner")), psycopg2.connect(system.database.uri("fleetstate_owner"))
    with early, early.cursor() as one:
        one.execute(INSERT, ("early id, late commit",))
        first = one.fetchone()[0]
        with late, late.cursor() as two:
            two.execute(INSERT, ("late id, early commit",))
            assert two.fetchone()[0] > first
        seen = await_true(lambda: read(system, cursor), "the committed one")
        assert seen == [(cursor + 1, "late id, early commit")]
    seen += await_true(lambda: read(system, seen[-1][0]), "the one that committed later")
    assert seen == [(cursor + 1, "late id, early commit"), (cursor + 2, "early id, late commit")]
    early.close(), late.close()


def test_many_writers_that_commit_in_any_order_leave_no_hole(system):
    await_true(lambda: all_numbered(system), "quiet")
    cursor, seen, over = top(system), [], threading.Event()

    def write(seed):
        chance = random.Random(seed)
        db = psycopg2.connect(system.database.uri("fleetstate_owner"))
        for i in range(40):
            with db.cursor() as c:
                for n in range(chance.randrange(1, 4)):
                    c.execute(INSERT, (f"{seed}.{i}.{n}",))
                time.sleep(chance.random() * 0.01)
                db.rollback() if chance.random() < 0.2 else db.commit()
        db.close()

    def follow():
        while True:
            last = over.is_set()
            new = read(system, seen[-1][0] if seen else cursor)
            seen.extend(new)
            if last and not new:
                return
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    reader = threading.Thread(target=follow)
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    await_true(lambda: all_numbered(system), "all numbered")
    over.set()
    reader.join()
    assert len(seen) > 200
    assert [p for p, _ in seen] == list(range(cursor + 1, cursor + 1 + len(seen)))
    assert sorted(seen) == read(system, cursor), "what the reader saw is what there is"


def notified(db):
    """The last position that was told of. A notice may have come with an answer: then there is nothing to wait for."""
    if not db.notifies:
        assert select.select([db], [], [], 10)[0]
        db.poll()
    return int(db.notifies.pop(0).payload) if db.notifies else 0


def test_positions_come_soon(system):
    """By notice, not at the next tick, which would be a second after the last."""
    await_true(lambda: all_numbered(system), "quiet")
    cursor = top(system)
    db = psycopg2.connect(system.database.uri("fleetstate_owner"))
    db.autocommit = True
    took = []
    with db.cursor() as c:
        c.execute("LISTEN fleetstate_position")
        for n in range(1, 51):
            begun = time.monotonic()
            c.execute(INSERT, ("soon",))
            while notified(db) < cursor + n:
                pass
            took.append(time.monotonic() - begun)
    db.close()
    took.sort()
    print(f"position after insert: fastest {took[0] * 1e3:.1f} ms, median {took[25] * 1e3:.1f} ms, slowest {took[-1] * 1e3:.1f} ms")
    assert took[25] < 0.5


def test_a_hundred_thousand_at_once(system):
    """The cost of a position does not grow with the number of events, waiting or numbered."""
    await_true(lambda: all_numbered(system), "quiet")
    cursor = top(system)
    begun = time.monotonic()
    db = psycopg2.connect(system.database.uri("fleetstate_owner"))
    with db, db.cursor() as c:
        c.execute("INSERT INTO event (tenant_id, type, ueid) SELECT t.tenant_id, 'many', decode('01' || md5(i::text), 'hex')"
                  " FROM (SELECT tenant_id FROM tenant LIMIT 1) t, generate_series(1, 100000) i")
    db.close()
    written = time.monotonic()
    await_true(lambda: top(system) == cursor + 100000, "100,000 positions", 60)
    numbered = time.monotonic()
    assert system.database.sql("SELECT count(*), min(position), max(position) FROM event WHERE type = 'many'") == [
        (100000, cursor + 1, cursor + 100000)]
    print(f"100,000 events written in {written - begun:.2f} s, numbered in {numbered - written:.2f} s")
    # One more, on top of so many.
    one = time.monotonic()
    system.database.sql(INSERT, ("one more",))
    await_true(lambda: top(system) == cursor + 100001, "its position")
    print(f"one more, on top of them: {(time.monotonic() - one) * 1e3:.0f} ms")
    assert time.monotonic() - one < 2


def test_what_is_too_old_goes_and_positions_go_on(system):
    await_true(lambda: all_numbered(system), "quiet")
    system.database.sql(INSERT, ("young",))
    await_true(lambda: all_numbered(system), "its position")
    [(oldest, last)] = system.database.sql("SELECT b.oldest, e.position FROM event_bounds() b, event e WHERE e.type = 'young'")
    trimmed = metric(system, "events_trimmed")
    system.database.sql("UPDATE event SET time = now() - interval '31 days' WHERE position < %s", (last,))
    await_true(lambda: system.database.one("SELECT oldest FROM event_bounds()") == last, "the old ones gone", 60)
    assert read(system, 0)[0] == (last, "young")
    system.database.sql("UPDATE event SET time = now() - interval '31 days'")
    await_true(lambda: system.database.one("SELECT count(*) FROM event") == 0, "all gone", 60)
    last = top(system)  # the collector may have told something meanwhile
    assert system.database.sql("SELECT * FROM event_bounds()") == [(last + 1, last)]
    system.database.sql(INSERT, ("after all",))
    assert await_true(lambda: read(system, last), "the next")[0] == (last + 1, "after all")
    assert bounds_fit(system)
    await_true(lambda: metric(system, "events_trimmed") == trimmed + last - oldest + 1, "all of them counted")


def data(system, device, kind):
    return [row[0] for row in system.database.sql("SELECT data FROM event WHERE ueid = %s AND type = %s ORDER BY event_id", (device.ueid, kind))]


def test_every_change_is_an_event(system, device):
    def told():
        return [kind for kind in events(system, device) if kind.startswith("device.")]
    device.publish(device.full())
    device.receipt_up_to(1)
    assert {"device.enrolled", "device.state", "device.inventory"} <= set(told())
    assert data(system, device, "device.enrolled")[0]["lifecycle"] == "active"
    one, two = device.quiet(keep=True), device.quiet({"interval": 299})
    device.publish(one)
    device.publish(two)
    await_true(lambda: "device.fork" in told(), "the fork")
    assert "untrusted" in [told["posture"] for told in data(system, device, "device.posture")]
    system.database.cli("device", "retire", device.ueid.hex())
    told_of = data(system, device, "device.lifecycle")
    assert [event["lifecycle"] for event in told_of] == ["retired"] and told_of[0]["by"].endswith(" (command line)")
    await_true(lambda: all_numbered(system), "positions")
    # In one look: others may follow.
    places = [place for place, in system.database.sql("SELECT position FROM event WHERE ueid = %s AND position IS NOT NULL ORDER BY event_id", (device.ueid,))]
    assert len(places) > 5 and places == sorted(places), "positions are in the order of the changes"


def test_a_burst_of_refusals_is_two_events(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    device.publish(resealed(device)[:-1])
    first = {"reason": "truncated", "n": 1, "total": 1}
    assert await_true(lambda: data(system, device, "device.refused"), "the first being told at once") == [first]
    for _ in range(11):
        device.publish(resealed(device)[:-1])
    await_true(lambda: refused(system, device) == {"truncated": 12}, "the refusals")
    assert data(system, device, "device.refused") == [first]
    system.database.sql("UPDATE refusal_count SET told_at = told_at - interval '11 minutes'")
    rest = await_true(lambda: data(system, device, "device.refused")[1:], "the rest at the window's end")
    assert rest == [{"reason": "truncated", "n": 11, "total": 12}]
    device.publish(resealed(device)[:-1])
    await_true(lambda: refused(system, device) == {"truncated": 13}, "one more")
    assert len(data(system, device, "device.refused")) == 2, "a new window has begun with the second event"


def test_a_killed_sequencer_is_followed(system, tmp_path):
    other = Collector(tmp_path, system.database, system.broker, name="two", silence_min="1s").start()
    try:
        system.collector.stop(signal.SIGKILL)
        begun = time.monotonic()
        cursor = top(system)
        system.database.sql(INSERT, ("after the kill",))
        await_true(lambda: (cursor < top(system)) and ("after the kill" in [kind for _, kind in read(system, cursor)]), "the other numbering", 10)
        print(f"followed after {time.monotonic() - begun:.1f} s")
    finally:
        system.collector.start()
        assert other.stop() == 0
    assert bounds_fit(system)


class SameProcess:
    """Between a collector and its database: every connection is told that process 4242 serves it. A server that is started again in a container
    may do so in earnest."""

    def __init__(self, port):
        self.database, self.server = port, socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.server.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.database))
            threading.Thread(target=self.carry, args=(client, server, lambda data: data), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, self.renamed), daemon=True).start()

    @staticmethod
    def renamed(data):
        at = data.find(b"K\0\0\0\x0c")
        return data if at < 0 else data[:at + 5] + struct.pack(">I", 4242) + data[at + 9:]

    @staticmethod
    def carry(source, target, changed):
        with contextlib.suppress(OSError):
            first = True
            while data := source.recv(65536):
                target.sendall(changed(data) if first else data)
                first = first and b"Z\0\0\0\x05" not in data
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def test_a_server_that_gives_the_same_process_number_again_is_another(system, tmp_path):
    """What a connection was set up with, and the lock that makes it the one that numbers events, went with it."""
    same = SameProcess(system.database.port)
    uri = system.database.uri("fleetstate_ingest").replace(str(system.database.port), str(same.port)) + "?sslmode=disable&gssencmode=disable"
    leads = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 8259 AND objid = 9 AND granted"
    system.collector.stop()
    # Who has ended, or is told to, may have the lock a moment longer.
    await_true(lambda: not system.database.sql(leads), "nobody who numbers events")
    other = Collector(tmp_path, system.database, system.broker, name="same")
    other.settings["database"] = uri
    try:
        other.start()
        before = await_true(lambda: system.database.sql(leads), "somebody who numbers events")
        system.database.sql("SELECT pg_terminate_backend(%s)", before[0], role="postgres")
        await_true(lambda: system.database.sql(leads) not in ([], before), "somebody else who numbers events")
    finally:
        other.stop()
        same.server.close()
        system.collector.start()
