"""One good report, each of its bits turned over in turn: every time just one refusal more, of one reason, and never a row."""

import re

import pytest
import requests

from ingesting import System, await_true


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("bits"), postgres=["fsync=off"], park_seconds="1s")
    system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bits")
    yield system
    system.close()


def refusals(system):
    text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": f"Bearer {system.token}"}, timeout=10).text
    found = dict(re.findall(r'^fleetstate_refused_total\{reason="([a-z-]+)"\} ([0-9]+)$', text, re.M))
    assert found
    return {reason: int(n) for reason, n in found.items()}


def rose(before, after):
    return {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]}


def test_every_bit(system):
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)
    sample = device.quiet({"receipt": True})
    before = start = refusals(system)
    reasons = {}
    # A few bits of each place one by one, so that "exactly one counter by one" is seen for itself ...
    for bit in range(0, len(sample) * 8, 37):
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 1 << bit % 8
        device.client.publish(device.report_topic, bytes(flipped), qos=1)
        await_true(lambda: sum(rose(before, refusals(system)).values()) >= 1, f"bit {bit} is refused")
        after = refusals(system)
        assert sum(rose(before, after).values()) == 1, (bit, rose(before, after))
        reasons[bit] = next(iter(rose(before, after)))
        before = after
    # ... and all others at once: as many refusals as there were messages.
    others = [bit for bit in range(len(sample) * 8) if bit not in reasons]
    for bit in others:
        flipped = bytearray(sample)
        flipped[bit // 8] ^= 1 << bit % 8
        device.client.publish(device.report_topic, bytes(flipped), qos=1)
    await_true(lambda: sum(rose(before, refusals(system)).values()) >= len(others), "all are refused", 60)
    assert device.publish(sample) == 0
    device.receipt_up_to(2)
    total = rose(start, refusals(system))
    assert sum(total.values()) == len(sample) * 8
    # The good one, last, is the only other row; the ledger has the same numbers.
    assert [seq for _, seq, _ in system.stored(device)] == [1, 2]
    ledger = dict(system.database.sql("SELECT reason, n FROM refusal_count JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)))
    assert ledger == total
    assert {"bad-signature", "unknown-key", "malformed", "truncated"} <= set(total), total
