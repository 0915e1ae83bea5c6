"""One good report, each of its bits turned over in turn: every time just one refusal more, of one reason, and never a row. A payload is a sequence of reports, so
that a bit of a length can make two of one: then each of them is refused."""

import re

import pytest
import requests

from ingesting import System, await_true


MADE_TWO = 16  # there are few lengths, and most of what they can become is not canonical


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("bits"), postgres=["fsync=off"], park_seconds="1s")
    system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bits")
    yield system
    system.close()


def counted(system):
    """Refusals by their reasons, and how many reports were taken from the broker."""
    text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": f"Bearer {system.token}"}, timeout=10).text
    found = dict(re.findall(r'^fleetstate_refused_total\{reason="([a-z-]+)"\} ([0-9]+)$', text, re.M))
    assert found
    return {reason: int(n) for reason, n in found.items()}, int(re.search(r"^fleetstate_messages_received_total ([0-9]+)$", text, re.M)[1])


def rose(before, after):
    return {reason: n - before[0][reason] for reason, n in after[0].items() if n != before[0][reason]}


def all_refused(system, before, messages):
    """What is counted when all that these messages were is refused; none of them becomes more than two."""
    def done():
        now = counted(system)
        return messages <= now[1] - before[1] == sum(rose(before, now).values()) and now
    now = await_true(done, f"{messages} messages are refused", 60)
    assert now[1] - before[1] <= messages + min(messages, MADE_TWO), rose(before, now)
    return now


def test_every_bit(system):
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)
    sample = device.quiet({"receipt": True})
    before = start = counted(system)
    alone = range(0, len(sample) * 8, 37)
    # A few bits of each place one by one, so that "exactly one counter" is seen for itself ...
    for bit in alone:
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 1 << bit % 8
        device.client.publish(device.report_topic, bytes(flipped), qos=1)
        before = all_refused(system, before, 1)
    # ... and all others at once: as many refusals as there were reports.
    others = [bit for bit in range(len(sample) * 8) if bit not in alone]
    for bit in others:
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 1 << bit % 8
        device.client.publish(device.report_topic, bytes(flipped), qos=1)
    all_refused(system, before, len(others))
    assert device.publish(sample) == 0
    device.receipt_up_to(2)
    end = counted(system)
    total = rose(start, end)
    assert sum(total.values()) == end[1] - start[1] - 1
    # The good one, last, is the only other row; the ledger has the same numbers.
    assert [seq for _, seq, _ in system.stored(device)] == [1, 2]
    ledger = dict(system.database.sql("SELECT reason, n FROM refusal_count JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)))
    assert ledger == total
    assert {"bad-signature", "unknown-key", "malformed", "truncated"} <= set(total), total
