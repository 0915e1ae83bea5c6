"""Ingest on real parts: what a device sends is stored once, accounted for in a signed receipt, or refused with its reason."""

import contextlib
import os
import pathlib
import queue
import random
import re
import signal
import subprocess
import time

import pytest
import requests

from ingesting import Collector, System, await_true, free_port, provision
from wall_clock import wall_clock
import device as wire  # found through ingesting

LATE, FORK, CLOCK, GRACE, BREAK, PENDING, SECOND = 1, 2, 4, 8, 16, 32, 64


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("ingest"), postgres=["fsync=off"], silence_min="1s")
    yield system
    system.close()


@pytest.fixture
def device(system):
    device = system.device()
    yield device
    device.close()


def refused(system, device):
    """Counts by reason; of a device that is not enrolled, the samples'."""
    counts = dict(system.database.sql("SELECT reason, n FROM refusal_count JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)))
    samples = dict(system.database.sql("SELECT reason, count(*) FROM refusal WHERE ueid = %s GROUP BY 1", (device.ueid,)))
    return counts or samples


def events(system, device):
    return [row[0] for row in system.database.sql("SELECT type FROM event WHERE ueid = %s ORDER BY event_id", (device.ueid,))]


def test_the_first_report_enrols_the_device_and_is_receipted(system, device):
    message = device.full()
    assert device.publish(message) == 0
    receipt = device.receipt_up_to(1)
    assert receipt.digest == wire.sha256(message)
    assert (receipt.missing, receipt.refused, receipt.wants) == ([], [], set())
    assert system.stored(device) == [(device.epoch.hex(), 1, 0)]
    assert system.database.sql("SELECT lifecycle, serial, vendor, hwmodel, swversion, kernel, reasons FROM device WHERE ueid = %s",
                               (device.ueid,)) == [("active", "SN-0001", "acme", "gate-2", "3.1.4", "6.1.0-18-amd64", ["no-policies"])]
    assert system.database.one("SELECT state->'boot' IS NULL AND state->'os'->>'id' = 'debian' FROM device_state JOIN device USING (device_id)"
                               " WHERE ueid = %s", (device.ueid,))
    assert system.database.one("SELECT count(*) FROM device_state s JOIN inventory i ON i.digest = s.inventory_digest JOIN inventory_component"
                               " USING (inventory_id) JOIN device d ON d.device_id = s.device_id WHERE ueid = %s", (device.ueid,)) == 2
    assert events(system, device) == ["device.enrolled", "device.state", "device.inventory", "device.epoch"]


def test_what_happened_on_a_device_is_evidence_and_goes_on_as_events(system, device):
    late = (device.full(), device.eventful())[1]
    newer = device.eventful([[wire.FILE, None, 1790000000, 1790000001, 300], [4000, ["of a later version"], 1790000000, 1790000000, 1]])
    for message in (newer, late, late):  # the oldest is still to come
        assert device.publish(message) == 0
    system.await_stored(device, 2)
    assert device.receipt_up_to(0).wants
    rows = system.database.sql("SELECT type, data FROM event WHERE ueid = %s AND type LIKE 'device.event.%%' ORDER BY event_id", (device.ueid,))
    assert [row[0] for row in rows] == [f"device.event.{kind}" for kind in ("file", "4000", "login-failed", "file", "boot")]
    assert rows[0][1] == {"kind": "file", "others": True, "first": "2026-09-21T14:13:20Z", "last": "2026-09-21T14:13:21Z", "count": 300,
                          "epoch": device.epoch.hex(), "seq": 3, "sha256": wire.sha256(newer).hex()}
    assert rows[1][1]["subject"] == ["of a later version"]
    assert {name: rows[2][1][name] for name in ("account", "service", "address", "count", "seq")} == \
        {"account": "root", "service": "sshd", "address": "192.0.2.7", "count": 17, "seq": 2}
    token, url = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "events"), f"http://127.0.0.1:{system.collector.http}"
    ask = lambda query: requests.get(f"{url}/v1/devices/{device.ueid.hex()}/events{query}", headers={"Authorization": f"Bearer {token}"})  # noqa: E731
    await_true(lambda: len(ask("").json()["items"]) == 5, "numbered events")
    items = ask("").json()["items"]
    assert [item["position"] for item in items] == sorted((item["position"] for item in items), reverse=True)
    assert items[-1]["others"] and items[-1]["sha256"] == wire.sha256(newer).hex()
    first = ask("?limit=2").json()
    assert first["items"] + ask(f"?limit=1000&cursor={first['next']}").json()["items"] == items
    assert ask("?limit=0").status_code == 400 and ask("?cursor=x").status_code == 400
    assert system.database.sql("SELECT seq, sections FROM report_full JOIN device USING (device_id) WHERE ueid = %s ORDER BY 1",
                               (device.ueid,)) == [(2, 4), (3, 4)]
    assert system.database.one("SELECT sections_head FROM device_hot JOIN device USING (device_id) WHERE ueid = %s",
                               (device.ueid,)).tobytes() == wire.sha256(newer)


def test_the_stored_bytes_are_what_was_sent(system, device):
    sent = [device.full(), device.quiet(), device.quiet()]
    for message in sent:
        device.publish(message)
    system.await_stored(device, 3)
    rows = system.database.sql("SELECT message FROM report JOIN device USING (device_id) WHERE ueid = %s ORDER BY seq", (device.ueid,))
    assert [bytes(row[0]) for row in rows] == sent


def test_a_duplicate_is_answered_and_not_stored(system, device):
    message = device.full()
    for _ in range(3):
        device.publish(message)
    device.receipt_up_to(1)
    await_true(lambda: system.epoch(device)[0] == 2, "two duplicates")
    assert len(system.stored(device)) == 1


def test_the_same_signed_again_is_no_fork(system, device):
    first = device.full()
    claims = wire.decode(wire.decode(first).value.value[2])
    device.publish(first)
    device.receipt_up_to(1)
    again = wire.sign1(device.signer, wire.encode(claims), device.chain)
    assert again != first
    device.publish(again)
    device.receipt_up_to(1)
    assert (system.epoch(device), len(system.stored(device))) == ((1, 0, 0, 0), 1)


def test_a_late_report_fills_its_gap(system, device):
    device.publish(device.full())
    held, after = device.quiet(), device.quiet({"receipt": True})
    device.publish(after)
    receipt = device.receipt_up_to(3)
    assert receipt.missing == [(2, 2)]
    device.publish(held)
    rows = system.await_stored(device, 3)
    assert [(seq, flags) for _, seq, flags in rows] == [(1, 0), (3, 0), (2, LATE)]
    assert system.epoch(device) == (0, 1, 0, 0)
    assert system.database.one("SELECT count(*) FROM report_gap JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)) == 0


def test_a_gap_is_told_of_unasked(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    device.quiet()
    device.publish(device.quiet())
    system.await_stored(device, 2)
    begun = time.monotonic()
    with pytest.raises(queue.Empty):
        device.receipt(1)
    receipt = device.receipt(10)
    assert (receipt.up_to, receipt.missing) == (3, [(2, 2)])
    assert time.monotonic() - begun >= 1.5


def test_declared_drops_are_not_missing(system, device):
    device.publish(device.full())
    device.seq = 9
    device.publish(device.report(device.quiet_claims(receipt=True), change={wire.DROPPED: [[2, 9, 1]]}))
    receipt = device.receipt_up_to(10)
    assert receipt.missing == []
    assert system.epoch(device) == (0, 0, 0, 0)
    assert system.database.sql("SELECT dropped::text, cause, declared_by FROM report_drop JOIN device USING (device_id) WHERE ueid = %s",
                               (device.ueid,)) == [("[2,10)", "skipped", 10)]


def test_a_broken_chain_is_flagged(system, device):
    device.publish(device.full())
    device.publish(device.quiet({"prev": os.urandom(32)}))
    assert [flags for *_, flags in system.await_stored(device, 2)] == [0, BREAK]
    assert system.epoch(device) == (0, 0, 0, 1)


@pytest.mark.parametrize("together", [True, False])
def test_a_fork_is_kept_as_evidence(system, device, together):
    device.publish(device.full())
    device.receipt_up_to(1)
    one = device.quiet(keep=True)
    two = device.quiet({"interval": 299})
    device.publish(one)
    if not together:
        system.await_stored(device, 2)
    device.publish(two)
    rows = system.await_stored(device, 3)
    assert [(seq, flags) for _, seq, flags in rows] == [(1, 0), (2, 0), (2, FORK)]
    assert system.posture(device) == ("untrusted", ["fork"])
    assert events(system, device)[-2:] == ["device.posture", "device.fork"]
    device.publish(two)
    await_true(lambda: system.epoch(device) == (1, 0, 1, 0), "the repetition being a duplicate")


def test_a_second_epoch_under_one_key_is_untrusted(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    first = device.epoch
    device.renew()
    device.publish(device.quiet({"receipt": True}))
    receipt = device.receipt_up_to(1)
    assert receipt.epoch == device.epoch
    assert system.stored(device) == [(first.hex(), 1, 0), (device.epoch.hex(), 1, SECOND)]
    assert system.posture(device) == ("untrusted", ["second-epoch"])


def test_the_operator_vouches_for_an_epoch(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    system.database.cli("device", "reprovision", device.ueid.hex())
    device.renew()
    device.publish(device.full())
    device.receipt_up_to(1)
    assert [flags for *_, flags in system.stored(device)] == [0, 0]
    assert system.posture(device)[0] == "unknown"
    former, device.seq = device.epoch, 0
    device.renew()
    device.publish(device.quiet({"receipt": True}))
    device.receipt_up_to(1)
    assert system.stored(device)[-1][2] == SECOND, "the word is good for one epoch"
    assert former != device.epoch


def test_a_state_that_is_not_known_is_asked_for(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    device.state = {**device.state, 4: {2: False}}
    device.publish(device.quiet())
    assert device.receipt().wants == {"state"}
    device.inventory = wire.in_order([[0, f"package-{os.getpid()}", "1", None, None, None, None]])
    device.publish(device.full(inventory_set=False))
    assert device.receipt_up_to(3).wants == {"inventory"}
    device.publish(device.full())
    assert device.receipt_up_to(4).wants == set()
    assert [kind for kind in events(system, device) if kind not in ("device.enrolled", "device.epoch")] == [
        "device.state", "device.inventory", "device.state", "device.inventory"]
    assert system.database.one("SELECT count(*) FROM state_history JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)) == 2


def test_a_report_without_chain_waits_for_its_device(system, device):
    device.send_chain = False
    first = device.full()
    device.publish(first)
    receipt = device.receipt()
    assert (receipt.wants, receipt.up_to) == ({"chain"}, 0)
    device.send_chain = True
    device.publish(device.quiet())
    rows = system.await_stored(device, 2)
    assert sorted(seq for _, seq, _ in rows) == [1, 2]
    assert refused(system, device) == {}


def test_a_report_whose_key_stays_unknown_is_refused(system, device):
    device.send_chain = False
    device.publish(device.full())
    await_true(lambda: refused(system, device) == {"unknown-key": 1}, "the refusal")
    device.send_chain = True
    device.publish(device.full())
    system.await_stored(device, 1)


def resealed(device, payload=None, **wrong):
    return device.report(device.quiet_claims(), payload=payload, keep=True, **wrong)


def other_key():
    from cryptography.hazmat.primitives.asymmetric import ec
    return ec.generate_private_key(ec.SECP256R1())


REFUSALS = {
    "truncated": lambda d: resealed(d)[:-1],
    "trailing-bytes": lambda d: resealed(d, trailing=bytes(wire.SEQUENCE)),
    "malformed": lambda d: b"\xff" * 40,
    "non-canonical": lambda d: resealed(d, high_s=True),
    "algorithm-unknown": lambda d: resealed(d, alg=-257),
    "algorithm-mismatch": lambda d: resealed(d, alg=-8),
    "bad-signature": lambda d: resealed(d, signer=other_key(), kid=wire.kid_of(d.signer.public_key())),
    "profile-unknown": lambda d: resealed(d, change={wire.EAT_PROFILE: b"\x69" * 19}),
    "claim-missing": lambda d: resealed(d, change={wire.BOOTCOUNT: wire.GONE}),
    "claim-invalid": lambda d: d.report(d.quiet_claims(interval=0), keep=True),
    "foreign-topic": lambda d: resealed(d, change={wire.UEID: b"\x01" + bytes(16)}),
    "digest-mismatch": lambda d: d.full(meta={"facts": bytes(16)}, keep=True),
    "too-large": lambda d: bytes(2 * 1024 * 1024 + 1),
}


NOT_FOR_GOOD = {"algorithm-unknown", "profile-unknown"}  # a newer collector takes them, so the device keeps them


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_is_counted_once_and_harms_no_neighbour(system, device, reason):
    device.publish(device.full())
    device.receipt_up_to(1)
    before, bad, after = device.quiet(), REFUSALS[reason](device), device.quiet({"receipt": True})
    for message in (before, bad, after):
        device.client.publish(device.report_topic, message, qos=1)
    receipts = [device.receipt()]
    told = [] if reason in NOT_FOR_GOOD else [(wire.sha256(bad), reason)]
    while receipts[-1].up_to < 3 or (told and not any(r.refused for r in receipts)):
        receipts.append(device.receipt())
    assert [one for r in receipts for one in r.refused] == told
    assert refused(system, device) == {reason: 1}
    assert [seq for _, seq, _ in system.stored(device)] == [1, 2, 3]


def test_a_message_on_the_wrong_shard_is_refused(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    topic = device.report_topic.split("/")
    topic[2] = f"{(int(topic[2], 16) + 1) % 16:x}"
    device.publish(device.quiet(keep=True), "/".join(topic))
    await_true(lambda: refused(system, device) == {"wrong-shard": 1}, "the refusal")


def test_a_stranger_is_refused(system, tmp_path):
    known = system.device()
    provision("ca", tmp_path)
    provision("device", tmp_path, "--ueid", known.ueid.hex())
    stranger = wire.Device(known.ueid, tmp_path / f"devices/{known.ueid.hex()}.crt", tmp_path / f"devices/{known.ueid.hex()}.key", known.ca)
    known.publish(stranger.full())
    await_true(lambda: refused(system, known) == {"certificate-untrusted": 1}, "the refusal")
    known.publish(known.full())
    assert known.receipt_up_to(1).refused == []  # an anchor may yet be added: nobody is told to give a report up
    assert len(system.stored(known)) == 1


def test_a_retired_device_is_refused(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    system.database.cli("device", "retire", device.ueid.hex())

    def is_refused():
        device.publish(device.quiet())
        return refused(system, device)
    await_true(is_refused, "device-retired")
    assert set(refused(system, device)) == {"device-retired"}


def test_a_database_that_was_away_fails_no_request_and_no_report(system, device):
    """Connections that it ended while nobody used them are not used again."""
    device.publish(device.full())
    device.receipt_up_to(1)
    for _ in range(8):
        metric(system, "keyring_reloads")
    before = len(system.collector.log())
    system.database.stop()
    system.database.start()
    for _ in range(8):
        metric(system, "keyring_reloads")
    await_true(system.collector.is_ready, "readiness")
    device.publish(device.quiet({"receipt": True}))
    device.receipt_up_to(2)
    ended = re.findall(r"database: (.*): server closed the connection", system.collector.log()[before:])
    assert not {"BEGIN", "ready", "quota", "sign_in", "keyring_devices"} & set(ended), ended


def test_what_waited_at_the_broker_is_receipted_before_our_subscription_is_answered(system, device):
    """The broker answers it behind all that it has for us."""
    device.publish(device.full())
    device.receipt_up_to(1)
    system.collector.stop()
    device.publish(device.quiet({"receipt": True}))
    for _ in range(900):
        device.client.publish(device.report_topic, bytes(30000), qos=1).wait_for_publish(10)
    system.collector.start()
    assert device.receipt_up_to(2).up_to == 2
    assert metric(system, "receipts_dropped") == 0


def drain(devices, seconds):
    """Sends again, as the emitter's spool does, until all is accounted for."""
    deadline = time.monotonic() + seconds
    for d, messages in devices:
        while True:
            for message in wire.joined(message for _, message in sorted(messages.items())):
                d.client.publish(d.report_topic, message, qos=1)
            try:
                while True:
                    receipt = d.receipt(3)
                    covered = [s for s in messages if s <= receipt.up_to and not any(a <= s <= b for a, b in receipt.missing)]
                    for s in covered:
                        del messages[s]
                    if not messages:
                        break
            except queue.Empty:
                pass
            if not messages:
                break
            assert time.monotonic() < deadline, messages.keys()


def test_a_database_that_goes_away_loses_nothing(system):
    """What was taken in before the shards were lost is stored, but its receipt has no way out: then its device asks again."""
    devices = [(system.device(), {}) for _ in range(3)]
    for d, _ in devices:
        d.publish(d.full())
        d.receipt_up_to(1)
    system.database.stop()
    for _ in range(20):
        for d, messages in devices:
            message = d.quiet({"receipt": True})
            messages[d.seq] = message
            d.publish(message)
    system.database.start()
    drain(devices, 60)
    for d, _ in devices:
        assert [seq for _, seq, _ in system.stored(d)] == list(range(1, 22))
    await_true(system.collector.is_ready, "readiness")


def test_a_broker_that_restarts_is_subscribed_to_again(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    system.broker.stop()
    system.broker.start()
    # Sent again until it is receipted: the device may be back before its own subscription, or before the collector.
    drain([(device, {2: device.quiet({"receipt": True})})], 60)
    assert [seq for _, seq, _ in system.stored(device)] == [1, 2]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_collector_that_dies_under_load_loses_nothing(system, how):
    devices = [(system.device(), {}) for _ in range(5)]
    for d, messages in devices:
        messages[1] = d.full()
        d.publish(messages[1])
        d.receipt_up_to(1)
    for i in range(300):
        if i == 150:
            system.collector.stop(how)
        for d, messages in devices:
            message = d.quiet({"receipt": True})
            messages[d.seq] = message
            d.client.publish(d.report_topic, message, qos=1)
    system.collector.start()
    drain(devices, 120)
    for d, _ in devices:
        assert sorted(seq for _, seq, _ in system.stored(d)) == list(range(1, 302))
        assert system.epoch(d)[2:] == (0, 0)


def test_the_row_at_fault_is_refused_and_its_neighbours_are_stored(system):
    devices = [system.device() for _ in range(4)]
    for d in devices:
        d.publish(d.full())
        d.receipt_up_to(1)
    bad = devices[2]
    system.database.sql("ALTER TABLE report_quiet ADD CONSTRAINT fault CHECK (NOT (seq = 3 AND device_id ="
                        f" {system.database.one('SELECT device_id FROM device WHERE ueid = %s', (bad.ueid,))}))")
    try:
        for seq in range(2, 6):
            for d in devices:
                d.client.publish(d.report_topic, d.quiet({"receipt": seq == 5}), qos=1)
        for d in devices:
            d.receipt_up_to(5)
            assert [seq for _, seq, _ in system.stored(d)] == ([1, 2, 4, 5] if d is bad else [1, 2, 3, 4, 5])
        assert refused(system, bad) == {"unstorable": 1}
    finally:
        system.database.sql("ALTER TABLE report_quiet DROP CONSTRAINT fault")


def test_a_held_device_waits_for_approval(system):
    provision("maker", system.broker.pki, "globex")
    system.trust("--tenant", "acme", "--enrol", "hold", system.broker.pki / "globex-ca.crt")
    system.broker.stop()
    system.broker.start()  # it reads makers' authorities at its start
    await_true(system.collector.is_ready, "readiness", 60)
    held = system.device(ueid=provision("device", system.broker.pki, "--maker", "globex")[0])
    drain([(held, {1: held.full()})], 60)
    assert system.stored(held) == [(held.epoch.hex(), 1, PENDING)]
    assert system.database.one("SELECT lifecycle FROM device WHERE ueid = %s", (held.ueid,)) == "pending"
    system.database.cli("device", "approve", held.ueid.hex())

    def is_admitted():
        held.publish(held.quiet())
        system.await_stored(held, held.seq)
        return system.stored(held)[-1][2] == 0
    await_true(is_admitted, "a report that is not pending")


def test_a_silent_device_is_noticed_and_welcomed_back(system):
    device = system.device(interval=1)
    device.publish(device.full())
    device.receipt_up_to(1)
    await_true(lambda: system.posture(device) == ("silent", ["silent"]), "silence", 30)
    device.publish(device.quiet({"receipt": True}))
    device.receipt_up_to(2)
    assert system.posture(device) == ("unknown", ["no-policies"])
    assert events(system, device)[-4:] == ["alert.opened", "device.posture", "alert.resolved", "device.posture"]


def test_three_collectors_share_the_shards_and_store_each_report_once(system, tmp_path):
    """While reports come twice and out of order one dies, one leaves, and both come back."""
    held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND classid = 8260 GROUP BY l.pid ORDER BY 1"
    devices = [system.device() for _ in range(12)]
    for d in devices:
        d.publish(d.full())
        d.receipt_up_to(1)
    others = []
    for name in ("two", "three"):
        (tmp_path / name).mkdir()
        others.append(Collector(tmp_path / name, system.database, system.broker, name=name).start(wait=False))
    two, three = others
    order = random.Random(8259)
    unsent = [(d, {seq: d.quiet({"receipt": True}) for seq in range(2, 14)}) for d in devices]

    def is_shared():
        counts = [n for n, in system.database.sql(held)]
        return len(counts) == 3 and sum(counts) == 16 and max(counts) == 6

    def send(least, most):
        """Each twice, in any order; nobody waits for what the broker says."""
        all_of_them = [(d, messages[seq]) for d, messages in unsent for seq in range(least, most)] * 2
        order.shuffle(all_of_them)
        for d, message in all_of_them:
            d.client.publish(d.report_topic, message, qos=1)
    try:
        await_true(lambda: is_shared(), "all shards shared by three", 60)
        await_true(lambda: all(c.is_ready() for c in (system.collector, two, three)), "readiness", 60)
        send(2, 6)
        two.process.kill()
        two.process.wait()
        send(6, 9)
        assert three.stop() == 0
        send(9, 11)
        two.start(wait=False)
        three.start(wait=False)
        send(11, 14)
        await_true(lambda: is_shared(), "all shards shared again", 60)
        drain(unsent, 60)
        for d in devices:
            assert sorted(seq for _, seq, _ in system.stored(d)) == list(range(1, 14))
            assert system.epoch(d)[2:] == (0, 0), "neither forks nor broken chains"
            assert " 0 findings" in system.database.cli("audit", "--device", d.ueid.hex())
    finally:
        for one in others:
            if one.process.poll() is None:
                one.stop()
    await_true(lambda: system.database.sql(held) == [(16,)] and system.collector.is_ready(), "all shards at the first again", 60)


def test_a_collector_that_does_not_reach_the_broker_leaves_the_shards_to_one_that_does(system, tmp_path):
    held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND classid = 8260 GROUP BY l.pid"
    deaf = Collector(tmp_path, system.database, system.broker, name="deaf")
    deaf.settings["broker"] = f"ssl://127.0.0.1:{free_port()}"
    deaf.start(wait=False)
    try:
        await_true(lambda: system.database.sql(held) == [(8,), (8,)], "eight shards each", 60)
        await_true(lambda: system.database.sql(held) == [(16,)], "all shards at the first again", 60)
        assert deaf.process.poll() is None and "others get our shards until it is" in deaf.log()
        await_true(system.collector.is_ready, "readiness", 60)
    finally:
        assert deaf.stop() == 0


# What changes elsewhere.

def metric(system, name):
    if not hasattr(system, "token"):
        system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "ingest")
    text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": f"Bearer {system.token}"}, timeout=10).text
    return int(re.search(rf"^fleetstate_{name}_total (\d+)$", text, re.M).group(1))


def backends(system, condition):
    return [pid for pid, in system.database.sql("SELECT DISTINCT a.pid FROM pg_stat_activity a LEFT JOIN pg_locks l USING (pid) WHERE a.usename ="
                                                f" 'fleetstate_ingest' AND ({condition})", role="postgres")]


def terminate(system, condition):
    pids = backends(system, condition)
    assert pids
    for pid in pids:
        system.database.sql("SELECT pg_terminate_backend(%s)", (pid,), role="postgres")


def test_the_first_report_after_a_retirement_is_refused(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    before = metric(system, "keyring_reloads")
    system.database.cli("device", "retire", device.ueid.hex())
    await_true(lambda: metric(system, "keyring_reloads") > before, "the change being read, without any report")
    device.publish(device.quiet())
    await_true(lambda: refused(system, device) == {"device-retired": 1}, "the refusal")
    assert len(system.stored(device)) == 1


def send_until_refused(system, device):
    def is_refused():
        device.publish(device.quiet())
        return refused(system, device)
    await_true(is_refused, "device-retired")
    assert set(refused(system, device)) == {"device-retired"}


def test_a_change_that_nobody_heard_of_is_read_when_we_listen_again(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    system.database.sql("UPDATE device SET lifecycle = 'retired' WHERE ueid = %s", (device.ueid,))
    terminate(system, "query ~ 'LISTEN|number_events|trust_anchor|silent|refusal_id|make_partitions|waited since|no partition|not heard since|report_trouble|certificate-ending|told_at'")
    send_until_refused(system, device)


def test_more_changes_at_once_than_are_remembered(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    system.database.sql("UPDATE device SET lifecycle = 'retired' WHERE ueid = %s; SELECT pg_notify('fleetstate_device', '01' || md5(i::text))"
                        " FROM generate_series(1, 3000) i; SELECT pg_notify('fleetstate_device', %s)", (device.ueid, device.ueid.hex()))
    send_until_refused(system, device)


# Clones.

def test_a_leap_is_refused(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    mine = device.seq, device.prev, device.sections_prev
    device.seq = 2**53 - 3
    device.publish(device.full())
    await_true(lambda: refused(system, device) == {"seq-leap": 1}, "the refusal")
    device.seq, device.prev, device.sections_prev = mine
    device.publish(device.quiet({"receipt": True}))
    receipt = device.receipt_up_to(2)
    assert (receipt.up_to, receipt.refused) == (2, [])
    assert [(seq, flags) for _, seq, flags in system.stored(device)] == [(1, 0), (2, 0)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("cause, flag", [(1, FORK), (2, LATE)], ids=["skipped", "overwritten"])
def test_a_number_declared_dropped_that_comes_after_all(system, device, cause, flag, together):
    device.publish(device.full())
    device.receipt_up_to(1)
    found = device.quiet(keep=True)
    device.seq = 2
    device.publish(device.report(device.quiet_claims(), change={wire.DROPPED: [[2, 2, cause]]}))
    if not together:
        system.await_stored(device, 2)
    device.publish(found)
    rows = system.await_stored(device, 3)
    assert [(seq, flags) for _, seq, flags in rows] == [(1, 0), (3, 0), (2, flag)]
    assert system.epoch(device) == (0, int(flag == LATE), int(flag == FORK), 0)
    assert system.posture(device)[0] == ("untrusted" if flag == FORK else "unknown")
    device.publish(found)
    await_true(lambda: system.epoch(device)[0] == 1, "the repetition being a duplicate")
    assert len(system.stored(device)) == 3


def test_epochs_that_nobody_vouches_for_are_few(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    for _ in range(17):
        device.renew()
        device.publish(device.quiet())
    await_true(lambda: refused(system, device) == {"epoch-full": 1}, "the refusal")
    assert [flags for *_, flags in system.await_stored(device, 17)] == [0] + 16 * [SECOND]


# Receipts.

def test_a_certificate_that_soon_ends_is_asked_after_once(system):
    ueid = provision("device", system.broker.pki, "--days", "29")[0]
    device = system.device(ueid=ueid)
    device.publish(device.full())
    assert device.receipt_up_to(1).wants == {"chain"}
    device.publish(device.quiet({"receipt": True}))
    assert device.receipt_up_to(2).wants == set()


def test_a_refusal_is_told_to_the_epoch_it_is_of(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    first = device.epoch
    device.renew()
    bad = resealed(device, signer=other_key(), kid=wire.kid_of(device.signer.public_key()))
    device.publish(bad)
    receipt = device.receipt()
    assert (receipt.epoch, receipt.up_to, receipt.refused) == (device.epoch, 0, [(wire.sha256(bad), "bad-signature")])
    assert first != device.epoch


def test_a_gap_is_forgotten_with_its_shard(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    device.quiet()
    device.publish(device.quiet())
    system.await_stored(device, 2)
    lost = metric(system, "leases_lost")
    terminate(system, "locktype = 'advisory' AND classid = 8260")
    await_true(lambda: metric(system, "leases_lost") > lost and system.collector.is_ready(), "the shards being held again", 60)
    with pytest.raises(queue.Empty):
        device.receipt(14)


def broker_threads(system):
    """The library's, by name and number."""
    names = {task.name: (task / "comm").read_text() for task in pathlib.Path(f"/proc/{system.collector.process.pid}/task").iterdir()}
    return {(name, tid) for tid, name in names.items() if name.startswith("MQTTAsync")}


def test_the_broker_library_does_not_begin_anew_when_all_shards_are_lost(system):
    lost, threads = metric(system, "leases_lost"), broker_threads(system)
    terminate(system, "locktype = 'advisory' AND classid = 8260")
    await_true(lambda: metric(system, "leases_lost") >= lost + 16 and system.collector.is_ready(), "the shards being held again", 60)
    assert len(threads) == 2 and broker_threads(system) == threads


def test_one_device_can_not_make_all_wait(system, device):
    device.send_chain = False
    for _ in range(17):
        device.publish(device.quiet())
    await_true(lambda: refused(system, device) == {"unknown-key": 1}, "the one too many", 1.5)
    device.send_chain = True
    device.publish(device.full())
    assert sorted(seq for _, seq, _ in system.await_stored(device, 17)) == [*range(1, 17), 18]


# Clocks, and what is away.

@contextlib.contextmanager
def shifted_clock(system, tmp_path):
    """Gives a function that sets the collector's clock that many seconds ahead."""
    with wall_clock(tmp_path) as shift:
        system.collector.stop()
        system.collector.start()
        yield shift
    system.collector.stop()
    system.collector.start()


def test_a_wrong_clock_takes_nothing_in_and_refuses_nobody(system, device, tmp_path):
    def noticed():
        return system.collector.log().count("seconds ahead of the database's: no report is taken in")
    before = noticed()
    with shifted_clock(system, tmp_path) as shift:
        device.publish(device.full())
        device.receipt_up_to(1)
        messages = {}
        for seconds in (14 * 365 * 86400, -3600):
            shift(seconds)
            message = device.quiet({"receipt": True})
            messages[device.seq] = message
            device.publish(message)
            await_true(lambda: not system.collector.is_ready(), "the clock being noticed")
            checks = requests.get(f"http://127.0.0.1:{system.collector.http}/readyz", timeout=5).text
            [off] = re.findall(r"(-?[0-9]+) seconds", checks)
            assert "clock" in checks and abs(int(off) - seconds) < 60, checks
            shift(0)
            await_true(system.collector.is_ready, "readiness", 60)
        drain([(device, messages)], 60)
        assert refused(system, device) == {}
        assert [(seq, flags & ~LATE) for _, seq, flags in sorted(system.stored(device), key=lambda row: row[1])] == [(1, 0), (2, 0), (3, 0)]
        assert system.database.one("SELECT bool_and(received_at BETWEEN now() - interval '5 min' AND now() + interval '5 s') FROM report"
                                   " JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,))
    assert noticed() == before + 2


def device_in(system, shard):
    ueid = next(ueid for ueid in iter(lambda: "01" + os.urandom(16).hex(), None) if wire.shard(bytes.fromhex(ueid)) == f"{shard:x}")
    provision("device", system.broker.pki, "--ueid", ueid)
    return system.device(ueid=ueid)


def test_every_shard_is_heard_again_after_many_hang_ups(system, tmp_path):
    """Each connection brings at once what waits at the broker, which makes a collector without the right time hang up before it has subscribed."""
    def hang_ups():
        return system.collector.log().count("no right time")
    with shifted_clock(system, tmp_path) as shift:
        devices = [device_in(system, shard) for shard in range(16)]
        kept = [{} for _ in devices]
        for device in devices:
            device.publish(device.full())
            device.receipt_up_to(1)
        for _ in range(4):
            begun = time.monotonic()
            before = hang_ups()
            shift(20 * 3600)
            # After a while it leaves the shards to others, and hangs up no more.
            while hang_ups() < before + 48 and time.monotonic() < begun + 5:
                for device, messages in zip(devices, kept):
                    message = messages[device.seq] = device.quiet({"receipt": True})
                    device.publish(message)
                time.sleep(0.5)
            assert hang_ups() > before
            shift(0)
            drain(list(zip(devices, kept)), 60)
        for device in devices:
            device.close()


def test_a_clock_set_back_a_little_is_followed(system, device, tmp_path):
    with shifted_clock(system, tmp_path) as shift:
        shift(50)
        device.publish(device.full())
        device.receipt_up_to(1)
        shift(0)
        device.publish(device.quiet({"receipt": True}))
        device.receipt_up_to(2)
    ahead = dict(system.database.sql("SELECT seq, extract(epoch FROM received_at - now())::int FROM report JOIN device USING (device_id)"
                                     " WHERE ueid = %s", (device.ueid,)))
    assert ahead[2] <= 1 < ahead[1]


def test_the_samples_of_refusals_and_the_events_have_their_order(system, device):
    device.publish(device.full())
    device.receipt_up_to(1)
    positions = await_true(lambda: (system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0) and
                           system.database.sql("SELECT position FROM event ORDER BY 1"), "all events numbered")
    assert [p for p, in positions] == list(range(1, len(positions) + 1))


def test_the_database_looks_whether_a_collector_is_still_there(system):
    """A machine that is gone says no goodbye: without this the server would keep its session, and with it the leases, for hours."""
    def is_looked_at():
        ours = {port for port, in system.database.sql("SELECT client_port FROM pg_stat_activity WHERE usename IN ('fleetstate_ingest',"
                                                      " 'fleetstate_api')", role="postgres")}
        told = subprocess.run(["ss", "-Htno", "state", "established", f"sport = :{system.database.port}"], capture_output=True, text=True).stdout
        # ss writes seconds as 4.160ms, and what is further away in minutes.
        looks = re.findall(r":(\d+) +timer:\(keepalive,(?:[0-5]\.\d+|\d+)(?:ms|sec),", told)
        return len(ours) >= 4 and ours <= {int(port) for port in looks}
    await_true(is_looked_at, "keep-alives on all connections")
