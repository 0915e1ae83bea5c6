"""Sinks on real parts: every event arrives at least once and in order, whoever fails; and nothing is reached that must not be."""

import collections
import json
import os
import random
import signal
import subprocess
import threading
import time

import psycopg2
import pytest
import requests
import yaml

from ingesting import Collector, System, await_true
from parts import BIN, PATIENCE, ROOT, free_port
from receiver import HALF, STALL, KillableWebhook, Rsyslog, Webhook, structured_data

SETTINGS = dict(sink_networks="127.0.0.1/32", sink_http="yes", sink_timeout="2s", silence_min="1s")
UEIDS = ["01" + f"{i:032x}" for i in range(1, 6)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sinks")
    key = directory / "secret.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o640)
    system = System(directory, postgres=["fsync=off"], secret_key=key, **SETTINGS)
    system.key = key
    system.database.cli("tenant", "add", "globex", "Globex")
    yield system
    system.close()


@pytest.fixture
def receiver():
    receivers = []

    def make(*args, **more):
        receivers.append(Webhook(*args, **more))
        return receivers[-1]
    yield make
    for each in receivers:
        each.close()


names = (f"sink-{i}" for i in range(1000))


@pytest.fixture
def sink(system):
    """Adds a sink, and takes it away in the end: (number, secret)."""
    added = []

    def add(target, *words, kind="webhook", tenant="acme", **more):
        scope = ("--all-tenants",) if tenant is None else ("--tenant", tenant)
        out = system.database.cli("sink", "add", "--kind", kind, *scope, "--secret-key", system.key, *words, next(names), target, **more).split()
        added.append(out[0])
        return out[0], out[1] if len(out) > 1 else None
    yield add
    for number in added:
        system.database.cli("sink", "remove", number)


def tell(system, n=1, tenant="acme", kind="device.state", ueid=None, **data):
    """New events, of several devices in turn, each with a number of its own; returns the numbers."""
    tell.last = getattr(tell, "last", 0)
    numbers = list(range(tell.last + 1, tell.last + n + 1))
    tell.last += n
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
        c.executemany("INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, %s, decode(%s, 'hex'), %s FROM tenant WHERE id = %s",
                      [(kind, ueid or UEIDS[i % len(UEIDS)], json.dumps({"n": i, **data}), tenant) for i in numbers])
    db.close()
    return numbers


def numbers(events):
    """Of our own events: the collector has some to tell, too."""
    return [event["data"]["n"] for event in events if "n" in event["data"]]


def all_there(receiver, expected):
    return set(expected) <= set(numbers(receiver.accepted()))


def in_order(events):
    """Of each device, what arrives for the first time is later than all before it."""
    seen = collections.defaultdict(set)
    for event in events:
        if "n" not in event["data"]:
            continue
        of, n = event["subject"], event["data"]["n"]
        if n not in seen[of]:
            if any(n < other for other in seen[of]):
                return False
            seen[of].add(n)
    return True


def status(system, number):
    return next(s for s in json.loads(system.database.cli("sink", "status", "--json")) if s["number"] == int(number))


def await_failure(system, number, words):
    return await_true(lambda: words in (status(system, number)["failure"] or "") and status(system, number), f"the failure {words!r}")


# Delivery.

def test_events_arrive_signed_and_in_order(system, sink, receiver):
    hook = receiver()
    number, secret = sink(hook.url)
    told = tell(system, 250, posture="degraded", kind="device.posture")
    await_true(lambda: all_there(hook, told), "the events")
    assert numbers(hook.accepted()) == told, "each once, in order"
    rows = {str(r[0]): r for r in system.database.sql(
        "SELECT event_id, position, type, encode(ueid, 'hex'), data, time FROM event WHERE type = 'device.posture'")}
    for request in hook.requests:
        assert request.signed_with(secret) and not request.signed_with(secret + "x")
        assert request.headers["Content-Type"].startswith("application/cloudevents-batch+json") and len(request.events) <= 100
    for event in (e for e in hook.accepted() if "n" in e["data"]):
        row = rows[event["id"]]
        assert set(event) == {"specversion", "id", "source", "type", "subject", "time", "tenant", "severity", "sequence", "datacontenttype", "data"}
        assert (event["specversion"], event["source"], event["severity"]) == ("1.0", "urn:fleetstate:acme", "high")
        assert (int(event["sequence"]), event["type"], event["subject"], event["data"]) == row[1:5]
        assert event["time"] == row[5].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    told = await_true(lambda: (s := status(system, number)) and s["delivered"] >= 250 and s["behind"] == 0 and s, "the cursor")
    assert (told["behind"], told["dead"], told["missed"], told["failure"], told["leader"]) == (0, 0, 0, None, "one")


def test_one_event_a_message(system, sink, receiver):
    hook = receiver()
    _, secret = sink(hook.url, "--batch", 1)
    told = tell(system, 3)
    await_true(lambda: all_there(hook, told), "the events")
    assert [type(json.loads(r.body)) for r in hook.requests] == [dict] * 3
    assert all(r.headers["Content-Type"].startswith("application/cloudevents+json") and r.signed_with(secret) for r in hook.requests)


def test_filters(system, sink, receiver):
    hooks = [receiver() for _ in range(4)]
    sink(hooks[0].url, "--types", "device.fork,alert.*")
    sink(hooks[1].url, "--severity", "high")
    sink(hooks[2].url, tenant="globex")
    sink(hooks[3].url, tenant=None)
    state, fork = tell(system, 3), tell(system, kind="device.fork")
    alert = tell(system, kind="alert.opened", severity="low")
    silent = tell(system, kind="device.posture", posture="silent")
    foreign = tell(system, kind="device.fork", tenant="globex")
    end = tell(system, kind="device.fork") + tell(system, kind="device.fork", tenant="globex")
    await_true(lambda: all_there(hooks[0], end[:1]) and all_there(hooks[1], end[:1]) and all_there(hooks[2], end[1:]) and all_there(hooks[3], end),
               "the last of each")
    assert numbers(hooks[0].accepted()) == fork + alert + end[:1]
    assert numbers(hooks[1].accepted()) == fork + end[:1]
    assert numbers(hooks[2].accepted()) == foreign + end[1:]
    assert numbers(hooks[3].accepted()) == state + fork + alert + silent + foreign + end


def test_the_backlog_is_sent_if_wanted(system, sink, receiver):
    before = tell(system, 2)
    await_true(lambda: system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "positions")
    old, new = receiver(), receiver()
    sink(old.url, "--backlog")
    sink(new.url)
    after = tell(system)
    await_true(lambda: all_there(old, after) and all_there(new, after), "the newest")
    assert all_there(old, before) and numbers(new.accepted()) == after


def test_a_receiver_that_fails_in_every_way_gets_everything(system, sink, receiver):
    chance = random.Random(8259)
    ways = [500, 502, 408, HALF, HALF, STALL, (429, {"Retry-After": "1"}), (503, {"Retry-After": "1"}), 200, 200, 200, 200, 200, 200]

    def answer(request):
        return chance.choice(ways) if len(hook.requests) < 30 else 200
    hook = receiver(answer=answer)
    number, secret = sink(hook.url, "--batch", "5")
    told = []
    for _ in range(8):
        told += tell(system, 10)
        time.sleep(0.1)
    await_true(lambda: all_there(hook, told), "all events", 90)
    assert in_order(event for request in hook.requests for event in request.events), "what was said no to counts too"
    assert all(request.signed_with(secret, 120) for request in hook.requests)
    assert {500, 429}.intersection(r.status for r in hook.requests) and any(r.status is None for r in hook.requests)
    await_true(lambda: status(system, number)["behind"] == 0, "the cursor")
    assert status(system, number)["retried"] > 0 and status(system, number)["failure"] is None


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_honoured(system, sink, receiver, code):
    hook = receiver(answer=lambda request: (code, {"Retry-After": "3"}) if len(hook.requests) == 1 else 200)
    sink(hook.url)
    told = tell(system)
    await_true(lambda: all_there(hook, told), "the event")
    assert 3 <= hook.requests[1].at - hook.requests[0].at < 5


def test_tries_are_spaced(system, sink, receiver):
    hook = receiver(answer=lambda request: 500 if len(hook.requests) < 6 else 200)
    sink(hook.url)
    told = tell(system)
    await_true(lambda: all_there(hook, told), "the event", 40)
    pauses = [b.at - a.at for a, b in zip(hook.requests, hook.requests[1:])]
    for i, pause in enumerate(pauses):
        assert 0.25 * 2 ** i <= pause < 0.5 * 2 ** i + 1, pauses


def test_an_event_that_is_refused_for_good_holds_up_nobody(system, sink, receiver):
    hook = receiver(answer=lambda request: 422 if any(e["data"].get("poison") for e in request.events) else 200)
    number, _ = sink(hook.url)
    first, poison, last = tell(system, 20), tell(system, poison=True), tell(system, 20)
    await_true(lambda: all_there(hook, first + last), "the others", 60)
    assert in_order(hook.accepted())
    dead = await_true(lambda: json.loads(system.database.cli("sink", "dead", number, "--json")), "the dead letter")
    assert len(dead) == 1 and dead[0]["answer"] == "HTTP 422: ok?" and dead[0]["tries"] == 5
    assert numbers([json.loads(dead[0]["event"])]) == poison
    await_true(lambda: status(system, number)["behind"] == 0, "the cursor")
    assert status(system, number)["dead"] == 1


def test_an_answer_without_end_is_cut_off(system, sink, receiver):
    def answer(request):
        return (500, {"X-Long": "x" * 60000, "X-Longer": "x" * 60000}) if len(hook.requests) == 1 else 200
    hook = receiver(answer=answer)
    number, _ = sink(hook.url)
    told = tell(system)
    await_true(lambda: all_there(hook, told), "the event")


def test_a_stalled_sink_holds_up_no_other(system, sink, receiver):
    """It is waited for longer than the others' events are."""
    usual = system.collector.settings["sink_timeout"]
    stalls, works = receiver(answer=lambda request: STALL), receiver()

    def restarted(timeout):
        assert system.collector.stop() == 0
        system.collector.settings["sink_timeout"] = timeout
        system.collector.start()

    restarted(f"{3 * PATIENCE}s")
    try:
        sink(stalls.url)
        sink(works.url)
        told = tell(system)
        await_true(lambda: stalls.requests, "the one that stalls")
        for _ in range(5):
            told += tell(system)
            await_true(lambda: all_there(works, told), "the other")
        assert len(stalls.requests) == 1, "still waited for"
    finally:
        stalls.stop_stalling.set()
        restarted(usual)


# Whoever dies.

def test_a_killed_leader_is_followed(system, sink, receiver, tmp_path):
    hook = receiver()
    number, _ = sink(hook.url)
    told = tell(system, 5)
    await_true(lambda: all_there(hook, told), "the first")
    other = Collector(tmp_path, system.database, system.broker, name="two", secret_key=system.key, **SETTINGS).start()
    try:
        system.collector.stop(signal.SIGKILL)
        begun = time.monotonic()
        told += tell(system, 5)
        await_true(lambda: all_there(hook, told), "the other collector going on", 10)
        print(f"went on after {time.monotonic() - begun:.1f} s")
        assert in_order(hook.accepted()) and status(system, number)["leader"] == "two"
    finally:
        system.collector.start()
        assert other.stop() == 0


def test_no_kill_of_anybody_loses_an_event(system, sink, tmp_path):
    hook = KillableWebhook(tmp_path, free_port())
    hook.start()
    sink(hook.url, "--batch", "7")
    told, over = [], threading.Event()

    def write():
        while not over.wait(0.02):
            told.extend(tell(system, 3))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            time.sleep(0.7)
            hook.kill()
            time.sleep(0.5)
            hook.start()
            time.sleep(0.7)
            system.collector.stop(signal.SIGKILL)
            system.collector.start()
    finally:
        over.set()
        writer.join()
    await_true(lambda: set(told) <= set(numbers(hook.accepted())), "all events", 60)
    assert in_order(hook.accepted())
    print(f"{len(told)} events, {len(hook.accepted())} accepted, none lost after 3 kills of each")
    hook.kill()


def test_a_stop_repeats_nothing(system, sink, receiver):
    hook = receiver()
    sink(hook.url)
    told = tell(system, 300)
    assert system.collector.stop() == 0
    system.collector.start()
    await_true(lambda: all_there(hook, told), "the rest")
    assert sorted(numbers(hook.accepted())) == told


# The guard.

@pytest.fixture
def strict(system):
    """Restarts the collector with other settings."""
    def restart(**settings):
        assert system.collector.stop() == 0
        system.collector.settings.update(settings)
        system.collector.start()
    yield restart
    restart(**SETTINGS)


def test_redirects_are_not_followed(system, sink, receiver):
    inner = receiver()
    hook = receiver(answer=lambda request: (302, {"Location": inner.url}))
    number, _ = sink(hook.url)
    tell(system)
    await_failure(system, number, "HTTP 302 (redirects are not followed)")
    assert inner.requests == []


def test_private_addresses_are_not_reached(system, sink, receiver, strict):
    hook = receiver()
    targets = {hook.url: "127.0.0.1 is not allowed: loopback address",
               hook.url.replace("127.0.0.1", "localhost"): "is not allowed: loopback address",  # a name of somebody's choice
               hook.url.replace("127.0.0.1", "2130706433"): "127.0.0.1 is not allowed",
               hook.url.replace("127.0.0.1", "0x7f.1"): "127.0.0.1 is not allowed",
               hook.url.replace("127.0.0.1", "[::ffff:127.0.0.1]"): "is not allowed: loopback",
               hook.url.replace("127.0.0.1", "0.0.0.0"): "0.0.0.0 is not allowed: this host",
               "https://10.1.2.3/": "10.1.2.3 is not allowed: private",
               "https://[fe80::1]/": "fe80::1 is not allowed: link-local",
               "https://169.254.169.254/latest/meta-data/": "169.254.169.254 is not allowed: link-local"}
    strict(sink_networks="192.168.77.0/24")
    sinks = {sink(target)[0]: words for target, words in targets.items()}
    tell(system)
    for number, words in sinks.items():
        await_failure(system, number, words)
    assert hook.requests == []


def test_http_needs_permission(system, sink, receiver, strict):
    hook = receiver()
    strict(sink_http="no")
    number, _ = sink(hook.url)
    tell(system)
    await_failure(system, number, "http without TLS is not allowed")
    assert hook.requests == []


def test_the_certificate_is_verified(system, sink, receiver):
    pki = system.broker.pki
    hook = receiver(certificate=pki / "broker.crt", key=pki / "broker.key")
    trusted, _ = sink(hook.url, "--ca", pki / "operator-ca.crt")
    stranger, _ = sink(hook.url)
    wrong_ca, _ = sink(hook.url, "--ca", pki / "maker-ca.crt")
    other_name, _ = sink(hook.url.replace("127.0.0.1", "127.1.1.1"), "--ca", pki / "operator-ca.crt")
    told = tell(system)
    await_true(lambda: all_there(hook, told), "the one that trusts")
    for number in stranger, wrong_ca:
        await_failure(system, number, "SSL certificate")
    await_failure(system, other_name, "127.1.1.1 is not allowed")
    assert len(hook.requests) == 1


# The command line, and secrets.

def test_a_test_takes_the_real_way(system, sink, receiver):
    hook = receiver()
    number, secret = sink(hook.url, "--types", "device.fork")
    assert system.database.cli("sink", "test", number) == "delivered"
    assert hook.requests[0].events[0]["type"] == "test" and hook.requests[0].signed_with(secret)
    hook.answer = lambda request: 403
    assert system.database.cli("sink", "test", number, status=1) == "HTTP 403: ok?"
    assert f"sink test {number}" in system.database.one("SELECT line FROM audit ORDER BY number DESC LIMIT 1")
    told = tell(system, kind="device.fork")
    hook.answer = lambda request: 200
    await_true(lambda: all_there(hook, told), "an event after it")


def test_a_secret_is_shown_once_and_opens_nowhere_else(system, sink, receiver):
    hook, thief = receiver(), receiver()
    number, secret = sink(hook.url)
    assert len(secret) == 64
    assert secret not in system.database.cli("sink", "list", "--json") and secret not in system.database.cli("sink", "status", "--json")
    sealed = bytes(system.database.one("SELECT secret FROM sink WHERE sink_id = %s", (number,)))
    assert secret.encode() not in sealed and bytes.fromhex(secret) not in sealed
    assert secret not in system.collector.log()
    told = tell(system)
    await_true(lambda: all_there(hook, told), "an event")
    assert system.collector.stop() == 0
    system.database.sql("UPDATE sink SET target = %s WHERE sink_id = %s", (thief.url, number))
    system.collector.start()
    tell(system)
    await_failure(system, number, "its secret does not open")
    assert thief.requests == []


def test_a_given_secret_signs(system, sink, receiver, tmp_path):
    hook = receiver()
    (tmp_path / "secret").write_text("correct horse battery staple\n")
    _, made = sink(hook.url, "--secret", tmp_path / "secret")
    assert made is None
    told = tell(system)
    await_true(lambda: all_there(hook, told), "an event")
    assert hook.requests[0].signed_with("correct horse battery staple")


@pytest.mark.parametrize("words, says", [
    (("--kind", "pigeon", "--tenant", "acme", "x", "https://example.com/"), "the kind is"),
    (("--kind", "webhook", "x", "https://example.com/"), "--all-tenants"),
    (("--kind", "webhook", "--tenant", "acme", "X y", "https://example.com/"), "a sink's name"),
    (("--kind", "webhook", "--tenant", "acme", "x", "ftp://example.com/"), "not https"),
    (("--kind", "webhook", "--tenant", "acme", "x", "https://user:pass@example.com/"), "no credentials"),
    (("--kind", "webhook", "--tenant", "acme", "x", "https://example.com/\nX: y"), "visible ASCII"),
    (("--kind", "webhook", "--tenant", "acme", "--types", "a b", "x", "https://example.com/"), "types, number 1: one of these: device.enrolled "),
    (("--kind", "webhook", "--tenant", "acme", "--types", "device.fork,device.forks", "x", "https://example.com/"), "types, number 2: one of these: "),
    (("--kind", "webhook", "--tenant", "acme", "--types", "alert.*,", "x", "https://example.com/"), "types, number 2: one of these: "),
    (("--kind", "webhook", "--tenant", "acme", "--severity", "urgent", "x", "https://example.com/"), "the severity is"),
    (("--kind", "webhook", "--tenant", "acme", "--batch", "1001", "x", "https://example.com/"), "the batch is"),
    (("--kind", "syslog", "--tenant", "acme", "x", "https://example.com/"), "not host:port"),
    (("--kind", "syslog", "--tenant", "acme", "--certificate", "/dev/null", "x", "example.com:6514"), "go together"),
    (("--kind", "webhook", "--tenant", "acme", "x", "https://example.com/"), "secret_key")])
def test_wrong_calls(system, words, says):
    done = subprocess.run([BIN / "fleetstate", "--database", system.database.uri("fleetstate_owner"), "sink", "add", *words], capture_output=True,
                          text=True)
    assert done.returncode == 2 and says in done.stderr, done.stderr


# Over HTTP.

def ask(system, method, path, role="admin", tenant="acme", **body):
    token = system.database.cli("token", "add", "--tenant", tenant, "--role", role, "t")
    return requests.request(method, f"http://127.0.0.1:{system.collector.http}{path}", headers={"Authorization": f"Bearer {token}"},
                            json=body or None, timeout=20)


def test_a_tenants_admin_makes_and_removes_sinks(system, receiver):
    hook = receiver()
    made = ask(system, "POST", "/v1/sinks", name="mine", kind="webhook", target=hook.url, types=["device.fork", "alert.*"], severity="high")
    assert made.status_code == 201, made.text
    number, secret = made.json()["id"], made.json()["secret"]
    told = tell(system, kind="device.fork")
    tell(system, kind="device.fork", tenant="globex")
    await_true(lambda: all_there(hook, told), "the event")
    assert numbers(hook.accepted()) == told and hook.requests[0].signed_with(secret)
    listed = ask(system, "GET", "/v1/sinks")
    item = next(i for i in listed.json()["items"] if i["id"] == number)
    assert (item["name"], item["types"], item["severity"], item["failure"]) == ("mine", ["device.fork", "alert.*"], "high", None)
    assert secret not in listed.text
    assert ask(system, "POST", "/v1/sinks", name="mine", kind="webhook", target=hook.url).status_code == 409
    assert number not in [i["id"] for i in ask(system, "GET", "/v1/sinks", tenant="globex").json()["items"]]
    assert ask(system, "DELETE", f"/v1/sinks/{number}", tenant="globex").status_code == 404
    assert ask(system, "DELETE", f"/v1/sinks/{number}", role="analyst").status_code == 403
    assert ask(system, "GET", "/v1/sinks", role="analyst").status_code == 403
    assert ask(system, "DELETE", f"/v1/sinks/{number}").status_code == 204
    assert ask(system, "DELETE", f"/v1/sinks/{number}").status_code == 404


@pytest.mark.parametrize("wrong", [{"name": "A b"}, {"kind": "pigeon"}, {"target": "ftp://example.com/"}, {"types": ["a b"]}, {"types": [""]},
                                   {"types": ["a,b"]}, {"types": [5]}, {"severity": "urgent"}, {"batch": 0}, {"batch": 1001}, {"secret": "short"},
                                   {"key": "x"}, {"ca": "x"}, {"more": 1}, {"kind": "syslog", "secret": "0123456789abcdef", "target": "a:6514"}])
def test_wrong_sinks_are_refused(system, wrong):
    answer = ask(system, "POST", "/v1/sinks", **{"name": "x", "kind": "webhook", "target": "https://example.com/", **wrong})
    assert answer.status_code == 400 and answer.json()["type"] == "urn:fleetstate:problem:bad-body", answer.text


@pytest.mark.parametrize("types, number", [(["none"], 1), (["device.fork", "device.forks"], 2), (["device.*", "alert.*", "devices.*"], 3), (["*"], 1),
                                           (["test", "device.event.0", "device.event.7"], 2)])
def test_whoever_wants_events_that_there_are_not_is_told_which_there_are(system, types, number):
    told = ask(system, "POST", "/v1/sinks", name="x", kind="webhook", target="https://example.com/", types=types)
    assert told.status_code == 400, told.text
    begin, words = told.json()["detail"].split(": ", 1)[0], told.json()["detail"].removesuffix(".").split(": ")[2].split()
    assert begin == f"types, number {number}"
    described = yaml.safe_load((ROOT / "schema/openapi.yaml").read_text())["components"]["schemas"]["EventType"]["enum"]
    assert [word for word in words if not word.endswith(".*")] == described
    # All that it names are taken.
    for part in words[:32], words[32:]:
        made = ask(system, "POST", "/v1/sinks", name="x", kind="webhook", target="https://example.com/", types=part)
        assert made.status_code == 201, made.text
        assert ask(system, "DELETE", f"/v1/sinks/{made.json()['id']}").status_code == 204


# Syslog.

@pytest.fixture
def rsyslog(system, tmp_path):
    pki = system.broker.pki
    both = tmp_path / "ca.crt"
    both.write_text((pki / "operator-ca.crt").read_text() + (pki / "collectors-ca.crt").read_text())
    server = Rsyslog(tmp_path, free_port(), both, pki / "broker.crt", pki / "broker.key", "collector")
    server.start()
    yield server
    server.stop()


def syslog_words(system):
    pki = system.broker.pki
    return ("--ca", pki / "operator-ca.crt", "--certificate", pki / "collectors/collector.crt", "--key", pki / "collectors/collector.key")


def fields(line):
    """What a SIEM gets from a line."""
    return {key: dict(parameters) for key, parameters in structured_data(line["data"]).items()}


def told_by(server):
    told = [fields(line).get("data@32473", {}) for line in server.lines()]
    return [int(data["n"]) for data in told if "n" in data]


HOSTILE = ["one\ntwo", "a\r\n<134>1 2026-01-01T00:00:00Z forged fleetstate - device.posture - forged", 'quote " bracket ] backslash \\ end\\',
           '"] [x@1 y="z', "tab\tnul-like \u0001 escape \u001b[31m delete \u007f", "c1 \u0085\u009b separators \u2028\u2029", "right-to-left \u202e override",
           "\u00e4\u00f6\u00fc \u4f60\u597d \U0001f600", "\ufffd\ufeff", "\u00ff\u00fe\u0080", "100% 99999 <13>"]


def spelt(text):
    """As format_rfc5424.h says that control characters are spelt."""
    controls = [*range(0x20), *range(0x7f, 0xa0), 0x2028, 0x2029, *range(0x202a, 0x202f), *range(0x2066, 0x206a)]
    return "".join(f"\\u{ord(c):04x}" if ord(c) in controls else c for c in text)


def test_rsyslog_reads_what_the_events_say(system, sink, rsyslog):
    number, shown = sink(f"localhost:{rsyslog.port}", *syslog_words(system), kind="syslog")
    assert shown is None
    tell(system, 3, kind="device.posture", posture="untrusted", reasons=["fork", "second-epoch"], nested={"a": [1, 2]})
    for text in HOSTILE:
        tell(system, text=text)
    rows = await_true(lambda: len(rsyslog.lines()) >= 3 + len(HOSTILE) and system.database.sql(
        "SELECT e.event_id, e.position, e.type, encode(e.ueid, 'hex'), e.data, e.time FROM event e WHERE position >"
        " (SELECT max(position) FROM event) - %s ORDER BY position", (3 + len(HOSTILE),)), "the lines")
    lines = rsyslog.lines()
    assert len(lines) == len(rows), "no line was forged and none split"
    for line, (number_, position, kind, ueid, data, at) in zip(lines, rows):
        grave = data.get("posture") == "untrusted"
        told = fields(line)
        assert told["fleetstate@32473"] == {"id": str(number_), "position": str(position), "severity": "critical" if grave else "info",
                                            "tenant": "acme", "type": kind, "ueid": ueid}
        assert (line["pri"], line["app"], line["msgid"], line["host"]) == (str(16 * 8 + (2 if grave else 6)), "fleetstate", kind, "one")
        assert line["time"].startswith(at.strftime("%Y-%m-%dT%H:%M:%S.%f"))
        assert set(told) == {"fleetstate@32473", "data@32473"}
        parameters = structured_data(line["data"])["data@32473"]
        assert ("n", str(data["n"])) in parameters
        if grave:
            assert [v for k, v in parameters if k == "reasons"] == data["reasons"] and ("nested", '{"a":[1,2]}') in parameters
        else:
            assert [v for k, v in parameters if k == "text"] == [spelt(data["text"])]
        assert line["message"].lstrip(" \ufeff").startswith(f"{kind} {ueid} {{")
        assert not any(ord(c) < 32 for c in line["data"] + line["message"])
    await_true(lambda: status(system, number)["behind"] == 0, "the cursor, once it is settled", 30)
    assert status(system, number)["delivered"] == len(rows)


def test_a_killed_syslog_receiver_loses_nothing(system, sink, rsyslog):
    number, _ = sink(f"localhost:{rsyslog.port}", *syslog_words(system), "--batch", "5", kind="syslog")
    told, over = [], threading.Event()

    def write():
        while not over.wait(0.02):
            told.extend(tell(system, 2))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            time.sleep(1.5)
            rsyslog.stop(signal.SIGKILL)
            time.sleep(0.5)
            rsyslog.start()
    finally:
        over.set()
        writer.join()
    await_true(lambda: set(told) <= set(told_by(rsyslog)), "all events", 60)
    system.collector.stop(signal.SIGKILL)
    told += tell(system, 10)
    system.collector.start()
    await_true(lambda: set(told) <= set(told_by(rsyslog)), "all events after the collector's end too", 60)
    print(f"{len(told)} events, {len(told_by(rsyslog))} lines, none lost after 3 kills of the receiver and one of the collector")


def test_a_stop_repeats_nothing_to_syslog(system, sink, rsyslog):
    sink(f"localhost:{rsyslog.port}", *syslog_words(system), kind="syslog")
    told = tell(system, 50)
    await_true(lambda: set(told) <= set(told_by(rsyslog)), "the events")
    assert system.collector.stop() == 0
    system.collector.start()
    told += tell(system)
    await_true(lambda: set(told) <= set(told_by(rsyslog)), "the next")
    assert told_by(rsyslog) == told


def test_syslog_peers_are_verified(system, sink, rsyslog):
    pki = system.broker.pki
    target = f"localhost:{rsyslog.port}"
    no_ca, _ = sink(target, kind="syslog")
    wrong_ca, _ = sink(target, "--ca", pki / "maker-ca.crt", kind="syslog")
    no_certificate, _ = sink(target, "--ca", pki / "operator-ca.crt", kind="syslog")
    told = tell(system)
    for number in no_ca, wrong_ca:
        await_failure(system, number, "SSL certificate")
    await_true(lambda: status(system, no_certificate)["failure"], "the receiver refusing us")
    assert rsyslog.lines() == [] and status(system, no_certificate)["delivered"] == 0, told
