"""Several reports in one message: each is judged by itself, and each is accounted for as if it had come alone."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ingesting import System, await_true
from test_ingest import metric, refused
import device as wire  # found through ingesting


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("sequence"), postgres=["fsync=off"], park_seconds="1s")
    yield system
    system.close()


@pytest.fixture
def device(system):
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)
    yield device
    device.close()


def seqs(system, device):
    return [seq for _, seq, _ in system.stored(device)]


def test_a_backlog_comes_in_few_messages_and_each_report_is_stored_once(system, device):
    kept = [device.quiet({"receipt": seq == 300}) for seq in range(2, 301)]
    messages, before = wire.joined(kept), metric(system, "sequences_received")
    assert len(messages) < 6
    for message in messages:
        device.publish(message)
    assert device.receipt_up_to(300).missing == []
    assert seqs(system, device) == list(range(1, 301))
    assert metric(system, "sequences_received") == before + len(messages)
    sums = [row[0] for row in system.database.sql("SELECT encode(r.sha256, 'hex') FROM report r JOIN device d USING (device_id) WHERE ueid = %s AND seq > 1"
                                                  " ORDER BY seq", (device.ueid,))]
    assert sums == [wire.sha256(one).hex() for one in kept]
    # Cut otherwise, and in another order: all of it is here.
    for message in reversed(wire.joined(kept[:150] + [device.quiet(keep=True)] + kept[150:])):
        device.publish(message)
    await_true(lambda: system.epoch(device)[0] == 299, "the duplicates")
    assert system.epoch(device) == (299, 0, 0, 0) and seqs(system, device) == list(range(1, 302))


def test_sections_and_quiet_ones_go_together(system):
    device = system.device()
    kept = [device.full(), device.quiet(), device.eventful(), device.full(inventory_set=False), device.quiet({"receipt": True})]
    for message in wire.joined(kept):
        device.publish(message)
    device.receipt_up_to(5)
    assert seqs(system, device) == [1, 2, 3, 4, 5] and system.epoch(device) == (0, 0, 0, 0)


def test_reports_without_a_chain_wait_for_the_one_that_brings_it(system):
    device = system.device()
    first = device.full()
    device.send_chain = False
    device.publish(b"".join([*(device.quiet() for _ in range(10)), first]))
    assert system.await_stored(device, 11) and refused(system, device) == {}
    assert system.epoch(device)[2:] == (0, 0)


def bad_one(device, **wrong):
    return device.quiet(keep=True, **wrong)


# What harms itself alone: its end can be told.
BAD = {
    "bad-signature": lambda d: bad_one(d, signature=bytes(31) + b"\1" + bytes(31) + b"\1"),
    "foreign-topic": lambda d: bad_one(d, change={wire.UEID: b"\x01" + bytes(16)}),
    "claim-missing": lambda d: bad_one(d, change={wire.BOOTCOUNT: wire.GONE}),
    "trailing-bytes": lambda d: bad_one(d, payload=lambda payload: payload + b"\0"),
    "algorithm-mismatch": lambda d: bad_one(d, alg=-8),
    "unknown-key": lambda d: bad_one(d, signer=ec.generate_private_key(ec.SECP256R1()), chain=()),
    "digest-mismatch": lambda d: d.full(meta={"facts": bytes(16)}, keep=True),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_report_that_is_refused_harms_none_that_it_came_with(system, device, reason):
    bad = BAD[reason](device)
    device.publish(device.quiet() + bad + device.quiet() + device.quiet({"receipt": True}))
    assert device.receipt_up_to(4).missing == []
    await_true(lambda: refused(system, device) == {reason: 1}, "the refusal")
    assert seqs(system, device) == [1, 2, 3, 4]


# What ends nowhere: before what it stands is lost with it, for this time.
ENDLESS = {
    "noise": ("malformed", lambda d: b"\xff" * 40),
    "another item": ("malformed", lambda d: wire.encode("a text")),
    "untagged": ("non-canonical", lambda d: bad_one(d, tags=())),
    "one tag more": ("non-canonical", lambda d: bad_one(d, tags=(61, 61, 18))),
    "filled unprotected map": ("non-canonical", lambda d: bad_one(d, unprotected={4: b"x"})),
    "a head that is not the shortest": ("non-canonical", lambda d: b"\xd8\x3d\xd2\x98\x04" + bad_one(d)[4:]),
    "a length that is not the shortest": ("non-canonical", lambda d: b"\xd8\x3d\xd2\x84\x59\x00" + bad_one(d)[5:]),
    "a length beyond all": ("truncated", lambda d: b"\xd8\x3d\xd2\x84\x5b" + b"\xff" * 8),
    "five parts": ("malformed", lambda d: b"\xd8\x3d\xd2\x85" + bad_one(d)[4:]),
    "larger than a header": ("limit-exceeded", lambda d: bad_one(d, protected=bytes(10000))),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_ends_nowhere_is_refused_with_what_follows_and_the_rest_comes_again(system, device, case):
    reason, make = ENDLESS[case]
    before, bad, after = [device.quiet(), device.quiet()], make(device), [device.quiet(), device.quiet({"receipt": True})]
    device.publish(b"".join([*before, bad, *after]))
    await_true(lambda: refused(system, device) == {reason: 1}, "the refusal")
    assert seqs(system, device) == [1, 2, 3]
    device.publish(b"".join(after))
    assert device.receipt_up_to(5).missing == []
    assert seqs(system, device) == [1, 2, 3, 4, 5] and refused(system, device) == {reason: 1}


def test_a_sequence_that_is_cut_off(system, device):
    kept = [device.quiet(), device.quiet(), device.quiet({"receipt": True})]
    device.publish(b"".join(kept)[:-1])
    await_true(lambda: refused(system, device) == {"truncated": 1}, "the refusal")
    assert seqs(system, device) == [1, 2, 3]
    device.publish(kept[-1])
    assert device.receipt_up_to(4).missing == []


def test_too_many_in_one_message(system, device):
    """At most 128 are told apart, and none that is smaller than a signature, so the smallest things cost no more than that."""
    device.publish(device.quiet() + bytes.fromhex("d83dd28440a04040") * 1900 + device.quiet(keep=True))
    await_true(lambda: refused(system, device) == {"trailing-bytes": 1}, "the refusal of little ones")
    least = bytes.fromhex("d83dd28440a0405847") + bytes(71)
    device.publish(device.quiet() + least * 190 + device.quiet(keep=True))
    await_true(lambda: sum(refused(system, device).values()) == 128, "the refusals")
    assert refused(system, device) == {"truncated": 126, "trailing-bytes": 2} and seqs(system, device) == [1, 2, 3]


def test_too_much_in_one_message(system, device):
    kept = [device.quiet() for _ in range(wire.SEQUENCE // 200)]
    assert len(b"".join(kept)) > wire.SEQUENCE
    device.publish(b"".join(kept))
    await_true(lambda: refused(system, device) == {"trailing-bytes": 1}, "the refusal")
    assert seqs(system, device) == [1]
    for message in wire.joined([*kept, device.quiet({"receipt": True})]):
        device.publish(message)
    assert device.receipt_up_to(len(kept) + 2).missing == []


def test_anothers_reports_in_ones_own_message(system, device):
    other = system.device()
    other.publish(other.full())
    other.receipt_up_to(1)
    quiet, chained = other.quiet(keep=True), other.full(chain=other.chain)
    device.publish(device.quiet() + quiet + chained + device.quiet({"receipt": True}))
    device.receipt_up_to(3)
    await_true(lambda: refused(system, device) == {"unknown-key": 1, "certificate-name": 1}, "the refusals")
    assert seqs(system, device) == [1, 2, 3] and seqs(system, other) == [1] and refused(system, other) == {}


def test_noise_by_the_message(system, device):
    """Random cuts of good sequences, and random bytes in them: what is stored was signed, and nothing stops."""
    reports = [device.quiet() for _ in range(200)]
    for i in range(0, 200, 20):
        message = bytearray(b"".join(reports[i:i + 20]))
        for at in os.urandom(3):
            message[at * len(message) // 256] ^= 0x40
        device.publish(bytes(message[:len(message) - os.urandom(1)[0]]))
    for message in wire.joined([*reports, device.quiet({"receipt": True})]):
        device.publish(message)
    assert device.receipt_up_to(202, timeout=30).missing == []
    stored = {bytes(row[0]) for row in system.database.sql("SELECT r.sha256 FROM report r JOIN device d USING (device_id) WHERE ueid = %s AND seq BETWEEN 2"
                                                           " AND 201", (device.ueid,))}
    assert stored == {wire.sha256(one) for one in reports} and system.epoch(device)[2:] == (0, 0)
