"""Challenges: a device proves that it holds its key now, or is told of. The devices are the independent ones of tests/device.py, and one emitter."""

import concurrent.futures
import os
import re
import signal
import time

import pytest
import requests

from ingesting import Collector, System, await_true
from test_emitter import Emitter

TIMEOUT = 2


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("challenge"), postgres=["fsync=off"], challenge_timeout=f"{TIMEOUT}s", checkpoint_interval="30d")
    system.database.cli("tenant", "add", "globex", "Globex")
    system.tokens = {role: system.database.cli("token", "add", "--tenant", tenant, "--role", role.partition("-")[0], role)
                     for tenant, role in (("acme", "viewer"), ("acme", "analyst"), ("globex", "analyst-other"))}
    yield system
    system.close()


def call(system, method, path, role="analyst", collector=None, **more):
    headers = {"Authorization": "Bearer " + system.tokens[role]}
    return requests.request(method, f"http://127.0.0.1:{(collector or system.collector).http}{path}", headers=headers, timeout=20, **more)


def ask(system, device, status=201, **more):
    answer = call(system, "POST", f"/v1/devices/{device.ueid.hex()}/challenge", **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def told(system, device):
    return call(system, "GET", f"/v1/devices/{device.ueid.hex()}", "viewer").json()["challenge"]


def strays(system, device):
    return call(system, "GET", f"/v1/devices/{device.ueid.hex()}/challenges", "viewer").json()["stray_nonces"]


def alerts(system, device, **parameters):
    answer = call(system, "GET", f"/v1/devices/{device.ueid.hex()}/alerts", "viewer", params=parameters).json()
    return [item["state"] for item in answer["items"] if item["policy"] == "challenge"]


def events(system, device):
    items = call(system, "GET", "/v1/events", "viewer", params={"ueid": device.ueid.hex(), "limit": 1000}).json()["items"]
    return [item["type"] for item in items if item["type"].startswith("challenge.")]


def publish(system, device, message):
    n = len(system.stored(device))
    device.publish(message)
    await_true(lambda: len(system.stored(device)) > n, "the report being stored")


@pytest.fixture
def device(system):
    device = system.device()
    publish(system, device, device.full())
    device.receipt_up_to(1)
    return device


def test_a_device_proves_itself_and_all_is_told(system, device):
    asked = ask(system, device)
    assert asked["state"] == "waiting" and len(asked["nonce"]) == 32 and asked["asked_by"] == "analyst" and asked["round_trip_ms"] is None
    receipt = device.challenge()
    assert receipt.nonce.hex() == asked["nonce"] and receipt.up_to == 1 and receipt.epoch == device.epoch
    message = device.answer(receipt)
    device.publish(message)
    answered = await_true(lambda: told(system, device)["answered_at"] and told(system, device), "the answer")
    assert answered["state"] == "answered" and 0 <= answered["round_trip_ms"] < 10000 and answered["id"] == asked["id"]
    assert (answered["epoch"], answered["seq"]) == (device.epoch.hex(), 2)
    kept = call(system, "GET", "/v1/reports/" + answered["report_sha256"])
    assert kept.content == message  # the proof itself, for whoever wants to verify it
    await_true(lambda: events(system, device) == ["challenge.asked", "challenge.answered"], "the events")
    assert alerts(system, device) == [] and strays(system, device) == 0
    assert device.receipt_up_to(2).nonce is None


def test_who_may_ask_and_whom(system, device):
    path = f"/v1/devices/{device.ueid.hex()}/challenge"
    assert call(system, "POST", path, "viewer").status_code == 403
    assert call(system, "POST", path, "analyst-other").status_code == 404
    assert call(system, "GET", path + "s", "analyst-other").status_code == 404
    assert call(system, "POST", "/v1/devices/01" + 32 * "0" + "/challenge").status_code == 404
    assert call(system, "POST", path, json={"expires_s": 0}).status_code == 400
    assert call(system, "POST", path, json={"nonce": "00" * 16}).status_code == 400
    assert system.database.one("SELECT count(*) FROM challenge JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)) == 0
    system.database.cli("device", "retire", device.ueid.hex())
    assert call(system, "POST", path).status_code == 409


def test_one_question_at_a_time(system, device):
    first = ask(system, device)
    assert ask(system, device, 200) == {**first, "sent_at": told(system, device)["sent_at"], "sends": told(system, device)["sends"]}
    receipt = device.challenge()
    publish(system, device, device.answer(receipt))
    await_true(lambda: told(system, device)["state"] == "answered", "the answer")
    second = ask(system, device)
    assert second["nonce"] != first["nonce"] and second["id"] > first["id"]
    page = call(system, "GET", f"/v1/devices/{device.ueid.hex()}/challenges?limit=1").json()
    assert [c["id"] for c in page["items"]] == [second["id"]]
    page = call(system, "GET", f"/v1/devices/{device.ueid.hex()}/challenges?limit=1&cursor={page['next']}").json()
    assert [c["id"] for c in page["items"]] == [first["id"]] and page["next"] is None


def test_many_who_ask_at_once_ask_the_same(system, device):
    path = f"/v1/devices/{device.ueid.hex()}/challenge"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(system, "POST", path), range(16)))
    assert sorted(a.status_code for a in answers) == 15 * [200] + [201]
    assert len({a.json()["nonce"] for a in answers}) == 1


def test_what_is_no_answer(system, device):
    """Old, foreign and made-up nonces are counted, whoever signs; a fork answers nothing either."""
    other = system.device()
    publish(system, other, other.full())
    old = ask(system, device)
    publish(system, device, device.answer(device.challenge()))
    await_true(lambda: told(system, device)["state"] == "answered", "the answer")
    foreign = ask(system, other)
    asked = ask(system, device)
    wrong = [bytes.fromhex(old["nonce"]), bytes.fromhex(foreign["nonce"]), os.urandom(16), bytes.fromhex(asked["nonce"])[:-1], bytes.fromhex(asked["nonce"]) + b"\0"]
    for i, nonce in enumerate(wrong, 1):
        publish(system, device, device.answer(None, nonce))
        assert strays(system, device) == i
    publish(system, device, device.report({**device.quiet_claims(seq=device.seq), 10: bytes.fromhex(asked["nonce"])}, keep=True))  # of a number that is taken
    assert told(system, device)["state"] in ("waiting", "unanswered") and told(system, device)["id"] == asked["id"]
    assert told(system, other)["state"] in ("waiting", "unanswered")


def test_no_answer_from_a_device_that_is_heard_is_an_alert_until_it_answers(system, device):
    asked = ask(system, device)
    receipt = device.challenge()
    assert receipt.nonce.hex() == asked["nonce"]
    publish(system, device, device.quiet())  # heard, and says nothing of it
    await_true(lambda: alerts(system, device, state="open") == ["open"], "the alert")
    state = told(system, device)
    assert state["state"] == "unanswered" and state["unanswered_at"] is not None
    assert state["unanswered_at"] >= state["asked_at"]
    assert events(system, device)[-1] == "challenge.unanswered"
    again = device.challenge()  # whenever it is heard it is asked again
    assert again.nonce == receipt.nonce
    publish(system, device, device.answer(again))
    await_true(lambda: alerts(system, device) == ["resolved"], "the alert's end")
    assert told(system, device)["state"] == "answered" and events(system, device)[-1] == "challenge.answered"


def test_an_overdue_question_makes_room_for_another(system, device):
    first = ask(system, device)
    device.challenge()
    publish(system, device, device.quiet())
    await_true(lambda: told(system, device)["state"] == "unanswered", "the time being over")
    second = ask(system, device)
    assert second["nonce"] != first["nonce"]
    receipt = await_true(lambda: (lambda r: r.nonce.hex() == second["nonce"] and r)(device.challenge()), "the new nonce")
    publish(system, device, device.answer(receipt))
    await_true(lambda: alerts(system, device) == ["resolved"], "an answer ends the alert of the question before")
    states = [c["state"] for c in call(system, "GET", f"/v1/devices/{device.ueid.hex()}/challenges").json()["items"]]
    assert states == ["answered", "replaced"]


def test_a_device_that_is_away_is_no_alert_and_answers_when_it_comes_back(system, device):
    device.close()
    asked = ask(system, device)
    await_true(lambda: told(system, device)["sends"] > 0, "the receipt being sent")
    time.sleep(TIMEOUT + 1)  # nothing is to happen
    assert told(system, device)["state"] == "waiting" and alerts(system, device) == []
    assert device.connect() == 0
    publish(system, device, device.quiet())
    receipt = device.challenge()
    assert receipt.nonce.hex() == asked["nonce"]
    publish(system, device, device.answer(receipt))
    await_true(lambda: told(system, device)["state"] == "answered", "the answer")
    assert alerts(system, device) == []


def test_a_question_is_over_some_day(system, device):
    device.close()
    asked = ask(system, device, json={"expires_s": 1})
    await_true(lambda: told(system, device)["state"] == "expired", "its end")
    assert events(system, device) == ["challenge.asked", "challenge.expired"]
    assert device.connect() == 0
    publish(system, device, device.answer(None, bytes.fromhex(asked["nonce"])))
    assert told(system, device)["state"] == "expired" and strays(system, device) == 1


def test_the_command_line_asks_and_waits(system, device):
    out = system.database.cli("device", "challenge", device.ueid.hex(), "--wait", "1", status=1)
    assert "waiting" in out
    assert f"device challenge {device.ueid.hex()} --wait 1" in system.database.one("SELECT line FROM audit WHERE line::json ->> 'kind' = 'command' ORDER BY number DESC LIMIT 1")
    publish(system, device, device.answer(device.challenge()))
    publish_later = ask(system, device)
    receipt = await_true(lambda: (lambda r: r.nonce.hex() == publish_later["nonce"] and r)(device.challenge()), "the second nonce")
    publish(system, device, device.answer(receipt))
    system.database.cli("device", "challenge", "01" + 32 * "0", status=1)


def test_the_emitter_answers_at_once(system, tmp_path):
    emitter = Emitter(system.broker, tmp_path).start()
    try:
        path = f"/v1/devices/{emitter.ueid}"
        await_true(lambda: call(system, "GET", path).json().get("seq"), "its first report")
        out = system.database.cli("device", "challenge", emitter.ueid, "--wait", "15")
        assert "answered" in out
        state = call(system, "GET", path).json()["challenge"]
        assert state["state"] == "answered" and state["round_trip_ms"] < 8000
    finally:
        assert emitter.stop() == 0


# Counters, and what the database has of the same.
COUNTED = {"challenges_sent": "SELECT coalesce(sum(sends), 0)::int FROM challenge", "nonces_stray": "SELECT coalesce(sum(n), 0)::int FROM challenge_stray",
           **{f"challenges_{state}": f"SELECT count(*) FROM event WHERE type = 'challenge.{state}'" for state in ("answered", "unanswered")}}


def test_all_of_it_is_counted(system, device):
    def now():
        text = call(system, "GET", "/metrics").text
        return {name: (int(re.search(rf"^fleetstate_{name}_total (\d+)$", text, re.M)[1]), system.database.one(noted)) for name, noted in COUNTED.items()}

    def grown():
        return {name: (counted - before[name][0], noted - before[name][1]) for name, (counted, noted) in now().items()}

    before = now()
    ask(system, device)
    receipt = device.challenge()
    system.database.sql("UPDATE challenge SET asked_at = asked_at - %s * interval '1 s' WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (TIMEOUT, device.ueid))
    await_true(lambda: told(system, device)["state"] == "unanswered", "the time being over")
    publish(system, device, device.answer(None, os.urandom(16)))
    publish(system, device, device.answer(receipt))
    await_true(lambda: told(system, device)["state"] == "answered", "the answer")
    more = await_true(lambda: (lambda g: all(counted == noted for name, (counted, noted) in g.items() if name != "challenges_sent") and g)(grown()), "all of it counted")
    assert all(noted > 0 for _, noted in more.values()) and more["challenges_sent"][0] >= more["challenges_sent"][1]


def test_the_collector_that_took_the_question_is_killed_and_another_asks(system, device, tmp_path):
    """The question is in the table before the answer to the POST; the shard's heir sends it."""
    second = Collector(tmp_path, system.database, system.broker, name="two", challenge_timeout=f"{TIMEOUT}s", checkpoint_interval="30d").start()
    try:
        held = lambda collector: call(system, "GET", "/metrics", collector=collector).text
        await_true(lambda: "fleetstate_shards_held 8\n" in held(system.collector) and "fleetstate_shards_held 8\n" in held(second), "both sharing the shards")
        await_true(lambda: second.is_ready() and system.collector.is_ready(), "both hearing theirs", 60)
        for collector in (system.collector, second):  # whoever holds the shard, both can be asked
            asked = ask(system, device, collector=collector)
            receipt = await_true(lambda: (lambda r: r.nonce.hex() == asked["nonce"] and r)(device.challenge()), "the nonce")
            publish(system, device, device.answer(receipt))
            await_true(lambda: told(system, device)["state"] == "answered", "the answer")
        system.broker.process.send_signal(signal.SIGSTOP)  # nothing goes out before the kill
        asked = ask(system, device)
        system.collector.stop(signal.SIGKILL)
        system.broker.process.send_signal(signal.SIGCONT)
        receipt = await_true(lambda: (lambda r: r.nonce.hex() == asked["nonce"] and r)(device.challenge(30)), "the nonce")
        publish(system, device, device.answer(receipt))
        state = await_true(lambda: (lambda c: c["state"] == "answered" and c)(call(system, "GET", f"/v1/devices/{device.ueid.hex()}", collector=second).json()["challenge"]),
                           "the answer")
        assert state["nonce"] == asked["nonce"]
    finally:
        second.stop()
        system.collector.start()
