"""A device whose clock is wrong: it can't do TLS, says so, spools with a time that is known to be over, and loses nothing when it is set right."""

import time

import pytest

from ingesting import System, await_true
from test_emitter import Emitter
from wall_clock import wall_clock
import device as wire  # found through ingesting

CLOCK_SUSPECT = 4
CLOCK = -65545  # report.cddl
YEAR = 365 * 86400


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("clock"), postgres=["fsync=off"])
    yield system
    system.close()


@pytest.fixture
def emitter(system, tmp_path):
    """With `set_clock(seconds)`: how far it is off."""
    with wall_clock(tmp_path) as shift:
        emitter = Emitter(system.broker, tmp_path, seccomp="no")
        emitter.set_clock = shift
        yield emitter
        emitter.stop()


def status(emitter):
    return emitter.status() if (emitter.state / "status.json").exists() else {"seq": 0, "connected": False, "up_to": 0, "clock_behind": 0}


def stored(system, emitter):
    """(seq, flags, issued, clock) of what is stored: both times in seconds, the second None where the report has none."""
    rows = system.database.sql("SELECT seq, flags, extract(epoch FROM issued_at)::bigint, message FROM report JOIN device USING (device_id)"
                               " WHERE ueid = %s ORDER BY seq", (bytes.fromhex(emitter.ueid),))
    return [(seq, flags, issued, wire.decode(wire.decode(bytes(message)).value.value[2]).get(CLOCK)) for seq, flags, issued, message in rows]


def await_stored_up_to(system, emitter, seq):
    """A receipt is asked for where there is news only: what is stored is the measure."""
    return await_true(lambda: len(rows := stored(system, emitter)) >= seq and rows, f"report {seq} being stored")


def made_since(emitter, seq, n):
    await_true(lambda: status(emitter)["seq"] >= seq + n, f"{n} more reports")
    return status(emitter)["seq"]


def test_a_clock_that_was_never_set(system, emitter):
    """1970: no certificate is valid yet."""
    begin = int(time.time())
    emitter.set_clock(100 - begin)
    emitter.start()
    last = made_since(emitter, 0, 3)
    await_true(lambda: "TLS" in status(emitter)["lost_why"], "why there is no connection")
    assert not status(emitter)["connected"] and status(emitter)["clock_behind"] > 50 * YEAR
    shown = emitter.call("status").stdout
    assert "the clock is before the broker's certificate" in shown and "WARNING clock" in shown, shown
    assert "certificate" in emitter.log() and stored(system, emitter) == []
    emitter.set_clock(0)
    right = await_true(lambda: status(emitter)["clock_behind"] == 0 and status(emitter)["seq"], "the clock being right")
    rows = await_stored_up_to(system, emitter, right)
    assert [seq for seq, *_ in rows[:right]] == list(range(1, right + 1))
    for seq, flags, issued, clock in rows:
        if seq <= last:
            assert flags & CLOCK_SUSPECT and 100 <= clock < 400 and begin - YEAR < issued <= time.time()
        if seq >= right:
            assert not flags & CLOCK_SUSPECT and clock is None and abs(issued - time.time()) < 60
    assert "WARNING clock" not in emitter.call("status").stdout


def test_a_clock_that_jumps(system, emitter):
    """Back, behind the last receipt; and to the next century; each time there is a connection, and it holds."""
    emitter.start()
    await_stored_up_to(system, emitter, 2)
    before = status(emitter)["seq"]
    emitter.set_clock(-3600)
    back = made_since(emitter, before, 3)
    emitter.set_clock(73 * YEAR)
    ahead = made_since(emitter, back, 3)
    emitter.set_clock(0)
    after = made_since(emitter, ahead, 3)
    rows = {seq: (flags & CLOCK_SUSPECT, issued, clock) for seq, flags, issued, clock in await_stored_up_to(system, emitter, after)}
    assert sorted(rows)[:after] == list(range(1, after + 1))
    now = int(time.time())
    assert rows[1][0] == rows[before][0] == 0
    flagged, issued, clock = rows[back]
    assert flagged and abs(issued - now) < 120 and abs(clock + 3600 - now) < 120
    flagged, issued, clock = rows[ahead]
    assert flagged and abs(issued - 73 * YEAR - now) < 120 and clock is None
    assert rows[after][0] == 0 and abs(rows[after][1] - now) < 120 and rows[after][2] is None
