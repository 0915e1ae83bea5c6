"""The feed of events: by position, waiting, and as a stream; nothing skipped, nobody's events told to another."""

import concurrent.futures
import json
import threading
import time

import psycopg2
import pytest
import requests

from parts import await_true
from test_api import A, B, Api, check, described  # noqa: F401

STREAMS = 256
HEARTBEAT = 15


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("events")
    api = Api(directory, devices=20)
    api.number = lambda: api.db.sql("SELECT number_events()", role="fleetstate_ingest")
    api.number()
    yield api
    api.close()


def happen(api, *types, tenant="acme", ueid=None, data="{}"):
    """Events, with their positions."""
    for kind in types:
        api.db.sql("INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, %s, decode(%s, 'hex'), %s FROM tenant WHERE id = %s",
                   (kind, ueid, data, tenant))
    api.number()


def here(api, token="acme"):
    """The position that a reader who knows all stands at."""
    return int(api.get("/v1/events?after=" + str(api.db.one("SELECT coalesce(max(position), 0) FROM event")), token)["next"])


class Stream:
    """Reads server-sent events as a browser does."""

    def __init__(self, api, query="", token="acme", **headers):
        if "Cookie" not in headers:
            headers["Authorization"] = "Bearer " + api.tokens.get(token, token)
        self.answer = requests.get(f"http://127.0.0.1:{api.port}/v1/events/stream{query}", headers=headers, stream=True, timeout=40)
        self.lines = self.answer.iter_lines(chunk_size=1)
        self.last = None
        if self.answer.status_code == 200:
            assert self.answer.headers["Content-Type"] == "text/event-stream"
            assert next(self.lines) == b"retry: 2000"

    def next(self):
        """The next event, whatever heartbeats come before it; "end" at the end, "broken" when it does not look whole."""
        try:
            while (told := self.look()) is None:
                pass
        except requests.exceptions.ChunkedEncodingError:
            return "broken"
        return told

    def look(self):
        """The same, but None for a heartbeat."""
        event, seen = {}, False
        for line in self.lines:
            if line == b"" and seen:
                self.last = event["id"]
                if "data" not in event:
                    return None
                told = json.loads(event["data"])
                assert (str(told["position"]), told["type"]) == (event["id"], event["event"])
                return told
            if line and not line.startswith(b":"):
                name, _, value = line.decode().partition(": ")
                assert name not in event
                event[name], seen = value, True
        return "end"

    def close(self):
        self.answer.close()


def test_an_event_is_as_described(api, described):
    start = here(api)
    happen(api, "device.posture", ueid=A, data='{"posture": "silent"}')
    page = api.get(f"/v1/events?after={start}")
    schema = described["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(page) <= check(page, schema, described)
    [last] = page["items"]
    assert (last["type"], last["tenant"], last["ueid"], last["data"]) == ("device.posture", "acme", A, {"posture": "silent"})
    assert set(last) == {"position", "id", "type", "time", "tenant", "ueid", "data"}
    assert page["next"] == str(last["position"])


TYPES = ["device.enrolled", "device.posture", "device.event.77", "device.fork", "alert.opened", "policy.changed", "test"]


def test_positions_are_cursors(api):
    start = here(api)
    happen(api, *TYPES)
    seen, after = [], start
    for _ in range(4):
        page = api.get(f"/v1/events?after={after}&limit=2")
        seen += [e["type"] for e in page["items"]]
        after = page["next"]
    assert seen == TYPES
    assert api.get(f"/v1/events?cursor={start}&limit=2") == api.get(f"/v1/events?after={start}&limit=2")
    answer = api.ask(f"/v1/events?after={start}&limit=2&type={TYPES[0]},{TYPES[1]},{TYPES[3]}")
    assert f"cursor={answer.json()['next']}" in answer.headers["Link"] and "after=" not in answer.headers["Link"]


def test_filters(api):
    start = here(api)
    happen(api, "device.labels", "device.hold", ueid=A)
    happen(api, "device.labels", "policy.changed")
    happen(api, "device.labels", tenant="globex", ueid=B)

    def told(query, token="acme"):
        return [(e["type"], e["ueid"]) for e in api.get(f"/v1/events?after={start}&{query}", token)["items"]]

    assert told("type=device.labels") == [("device.labels", A), ("device.labels", None)]
    assert told("type=device.hold,policy.changed") == [("device.hold", A), ("policy.changed", None)]
    assert told("ueid=" + A) == [("device.labels", A), ("device.hold", A)]
    assert told("type=device.labels&ueid=" + A) == [("device.labels", A)]
    assert told("type=device.fork") == told("ueid=" + B) == told("type=device.labels&ueid=" + B) == []
    assert told("", "globex") == [("device.labels", B)]
    assert told("tenant=globex", "operator") == [("device.labels", B)]
    # What does not match is behind the reader all the same.
    assert api.get(f"/v1/events?after={start}&type=device.fork")["next"] == str(start + 5)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream"])
@pytest.mark.parametrize("query", ["after=", "after=-1", "after=x", "after=1.0", "after=+1", "after=0x1", "after=99999999999999999", "after=9007199254740992",
                                   "after=0&cursor=0", "cursor=x", "type=", "type=" + "x" * 512, "type=none", "type=%27%20or%20true", "type=device.*", "type=*", "type=device.posture,",
                                   "type=,device.posture", "type=device.posture,,alert.opened", "type=device.posture,%20alert.opened", "type=Device.posture", "type=device.event.", "type=device.event.0x",
                                   "ueid=", "ueid=01", "ueid=" + A[:-1], "ueid=" + A.upper()])
def test_bad_questions(api, path, query):
    api.problem(400, "bad-parameter", f"{path}?{query}")


@pytest.mark.parametrize("wait", ["", "-1", "61", "x", "1.5", "1e1", "00060"])
def test_bad_waits(api, wait):
    api.problem(400, "bad-parameter", "/v1/events?wait=" + wait)
    api.problem(400, "unknown-parameter", "/v1/events/stream?wait=1")


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream"])
def test_who_may_not(api, path):
    api.problem(401, "unauthorized", path, None)
    api.problem(401, "unauthorized", path, "fst_" + "A" * 43)
    api.problem(400, "tenant-required", path, "operator")
    api.problem(404, "not-found", path + "?tenant=globex")
    api.problem(400, "unknown-parameter", path + "?colour=red")
    assert api.problem(405, "method-not-allowed", path, method="POST", json={}).headers["Allow"] == "GET, HEAD"
    api.problem(400, "bad-cursor", f"{path}?after={here(api) + 1000}")
    api.problem(400, "bad-body", path, data=b"{}")


def test_no_token_in_an_address(api):
    """A token in a query would end in logs and histories."""
    api.problem(401, "unauthorized", f"/v1/events/stream?access_token={api.tokens['acme']}", None)


def test_waiting_ends_with_the_first_event(api):
    start = here(api)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        begun = time.monotonic()
        waiting = [pool.submit(requests.get, f"http://127.0.0.1:{api.port}/v1/events?after={start}&wait=30&type=device.renewed",
                               headers={"Authorization": "Bearer " + api.tokens[t]}, timeout=40) for t in ("acme", "acme", "acme", "globex")]
        # Others go on meanwhile: waiting holds no thread (there are two).
        for _ in range(20):
            api.get("/v1/fleet")
        happen(api, "other")
        happen(api, "device.renewed", tenant="globex")
        assert [e["type"] for e in waiting[3].result(10).json()["items"]] == ["device.renewed"]
        assert not any(w.done() for w in waiting[:3])
        happen(api, "device.renewed")
        for w in waiting[:3]:
            assert [e["type"] for e in w.result(10).json()["items"]] == ["device.renewed"]
        assert time.monotonic() - begun < 10


def test_waiting_ends_in_time(api):
    start = here(api)
    begun = time.monotonic()
    assert api.get(f"/v1/events?after={start}&wait=1") == {"items": [], "next": str(start)}
    assert time.monotonic() - begun > 0.9
    happen(api, "there")
    # What asks here waits twenty seconds for an answer and no longer.
    assert len(api.get(f"/v1/events?after={start}&wait=60")["items"]) == 1


def test_a_late_commit_is_not_skipped(api):
    """An older row that commits after a younger one was read."""
    start = here(api)
    late = psycopg2.connect(api.db.uri("fleetstate_owner"))
    late.cursor().execute("INSERT INTO event (tenant_id, type) SELECT tenant_id, 'late' FROM tenant WHERE id = 'acme'")
    happen(api, "early")
    page = api.get(f"/v1/events?after={start}")
    assert [e["type"] for e in page["items"]] == ["early"]
    late.commit()
    late.close()
    api.number()
    assert [e["type"] for e in api.get(f"/v1/events?after={page['next']}")["items"]] == ["late"]


def test_many_writers_and_readers(api):
    """Nothing twice, nothing missing, whatever the order of the commits."""
    start, n, writers = here(api), 40, 5
    stop = threading.Event()

    def write(k):
        for i in range(n):
            api.db.sql("INSERT INTO event (tenant_id, type) SELECT tenant_id, %s FROM tenant WHERE id = 'acme'", (f"w{k}.{i}",))

    def number():
        while not stop.is_set():
            api.number()

    def read():
        seen, after = [], start
        while len(seen) < n * writers:
            page = requests.get(f"http://127.0.0.1:{api.port}/v1/events?after={after}&wait=20&limit=7",
                                headers={"Authorization": "Bearer " + api.tokens["acme"]}, timeout=30).json()
            assert page["items"] or time.monotonic() < deadline
            seen += [e["type"] for e in page["items"]]
            after = page["next"]
        return seen

    deadline = time.monotonic() + 60
    with concurrent.futures.ThreadPoolExecutor(writers + 4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        numbering = pool.submit(number)
        for w in [pool.submit(write, k) for k in range(writers)]:
            w.result(60)
        seen = [r.result(60) for r in readers]
        stop.set()
        numbering.result()
    assert sorted(seen[0]) == sorted(f"w{k}.{i}" for k in range(writers) for i in range(n))
    assert seen[0] == seen[1] == seen[2]


def test_stream(api):
    happen(api, "before")
    stream = Stream(api)
    happen(api, "device.labels", ueid=A)
    happen(api, "foreign", tenant="globex")
    happen(api, "device.hold", data='{"text": "a\\nb\\r\\u2028"}')
    one, two = stream.next(), stream.next()
    assert [one["type"], two["type"], two["data"]["text"]] == ["device.labels", "device.hold", "a\nb\r\u2028"]
    stream.close()
    happen(api, "policy.changed")
    again = Stream(api, **{"Last-Event-ID": stream.last})
    assert again.next()["type"] == "policy.changed"
    again.close()
    filtered = Stream(api, f"?after={one['position'] - 1}&type=device.labels,policy.changed")
    assert [filtered.next()["type"], filtered.next()["type"]] == ["device.labels", "policy.changed"]
    filtered.close()


def test_a_stream_catches_up_over_many_pages(api):
    start = here(api)
    api.db.sql("INSERT INTO event (tenant_id, type) SELECT tenant_id, 'n' || i FROM tenant, generate_series(1, 1234) i WHERE id = 'acme'")
    api.number()
    stream = Stream(api, f"?after={start}")
    assert [stream.next()["type"] for _ in range(1234)] == [f"n{i}" for i in range(1, 1235)]
    happen(api, "more")
    assert stream.next()["type"] == "more"
    stream.close()


def test_a_quiet_stream_has_a_heartbeat_that_moves_its_place(api):
    stream = Stream(api, "?type=test")
    assert stream.look() is None and int(stream.last) == here(api), "where it begins"
    begun = time.monotonic()
    happen(api, "other")
    assert stream.look() is None
    assert HEARTBEAT - 2 < time.monotonic() - begun < HEARTBEAT + 10
    assert int(stream.last) == here(api)
    stream.close()


@pytest.mark.parametrize("last", ["x", "-1", "", "1,2", "99999999999999999"])
def test_bad_last_event_ids(api, last):
    answer = Stream(api, **{"Last-Event-ID": last}).answer
    assert answer.status_code == 400 and answer.json()["type"].endswith(":bad-parameter")


def test_a_revoked_token_ends_its_stream(api):
    token = api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "stream")
    stream = Stream(api, token=token)
    happen(api, "device.rekeyed")
    assert stream.next()["type"] == "device.rekeyed"
    api.db.sql("UPDATE api_token SET revoked_at = now() WHERE name = 'stream'")
    happen(api, "device.enrolled")
    assert stream.next() == "broken"


@pytest.mark.parametrize("end", ["UPDATE api_token SET revoked_at = now() WHERE token_id = %s", "UPDATE api_session SET expires_at = now() WHERE token_id = %s",
                                 "DELETE FROM api_session WHERE token_id = %s"])
def test_a_session_that_ends_ends_its_stream(api, end):
    """However it ends: nothing more is told."""
    token = api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "in a browser")
    opened = requests.post(f"http://127.0.0.1:{api.port}/v1/session", headers={"Authorization": "Bearer " + token}, timeout=20)
    stream = Stream(api, "?type=device.rekeyed,device.enrolled", Cookie=opened.headers["Set-Cookie"].split(";")[0])
    happen(api, "device.rekeyed")
    assert stream.next()["type"] == "device.rekeyed"
    api.db.sql(end, (api.db.one("SELECT max(token_id) FROM api_token"),))
    happen(api, "device.enrolled")
    assert stream.next() == "broken"


def open_streams(api):
    return int(next(line for line in api.ask("/metrics").text.splitlines() if line.startswith("fleetstate_event_streams ")).split()[1])


def await_closed(api):
    """Until the server noticed that they are closed: it does when it writes to them, and waits with a word of its own for longer than we want to."""
    def closed():
        for tenant in "acme", "globex":
            happen(api, "goodbye", "test", tenant=tenant)
        time.sleep(0.2)
        return open_streams(api) == 0

    await_true(closed, "the closed streams to be noticed", 2 * HEARTBEAT + 10)


def test_streams_are_bounded_and_hold_no_thread(api):
    await_closed(api)
    kept = []
    # An address has at most 256 connections, and this test's own questions are some of them.
    for i in range(STREAMS - 6):
        kept.append(Stream(api))
        assert kept[-1].answer.status_code == 200
    assert open_streams(api) == len(kept)
    happen(api, "for all")
    assert all(s.next()["type"] == "for all" for s in kept)
    for s in kept:
        s.close()
    # A closed one is noticed when it is next written to.
    await_closed(api)


def test_past_the_retention(api):
    happen(api, "old", "old", "kept")
    oldest = here(api)
    api.db.sql("UPDATE event SET time = now() - interval '1 year' WHERE position < %s", (oldest,))
    while api.db.sql("SELECT trim_events('1 day', 1000)", role="fleetstate_ingest")[0][0]:
        pass
    for path in "/v1/events", "/v1/events/stream":
        for after in 0, oldest - 2:
            gone = api.problem(410, "gone", f"{path}?after={after}").json()
            assert gone["oldest"] == oldest
    assert Stream(api, **{"Last-Event-ID": "1"}).answer.status_code == 410
    # Exactly behind what is gone nothing is missing; and who does not say begins with the oldest.
    assert [e["type"] for e in api.get(f"/v1/events?after={oldest - 1}")["items"]] == ["kept"]
    assert api.get("/v1/events")["items"][0]["position"] == oldest


def test_everything_gone_and_the_positions_go_on(api):
    last = here(api)
    api.db.sql("UPDATE event SET time = now() - interval '1 year'")
    while api.db.sql("SELECT trim_events('1 day', 1000)", role="fleetstate_ingest")[0][0]:
        pass
    assert api.get("/v1/events") == {"items": [], "next": str(last)}
    assert api.problem(410, "gone", f"/v1/events?after={last - 1}").json()["oldest"] == last + 1
    happen(api, "next")
    assert [e["position"] for e in api.get(f"/v1/events?after={last}")["items"]] == [last + 1]


def test_the_server_stops_with_waiters_and_streams(api):
    await_closed(api)
    stream = Stream(api)
    start = here(api)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.get, f"http://127.0.0.1:{api.port}/v1/events?after={start}&wait=60",
                              headers={"Authorization": "Bearer " + api.tokens["acme"]}, timeout=70)
        await_true(lambda: open_streams(api) == 1, "the stream")
        api.stop()
        assert stream.next() in ("end", "broken")  # "broken" where its connection ended before the last word was on its way
        try:
            assert waiting.result(10).json()["items"] == []
        except requests.ConnectionError:
            pass  # as above
    api.start()


def test_a_page_of_events_has_so_many_bytes(api):
    """In every format, as a list and as a stream; a single event is told however large it is."""
    long = json.dumps({"reasons": ["x" * 20000]})
    after = here(api)
    happen(api, *["device.event.lost"] * 12, data=long)
    happen(api, "device.state", data=json.dumps({"reasons": ["x" * 100000]}))
    api.stop()
    api.settings = ["--page-bytes=65536"]
    api.start()
    for form in "native", "ocsf", "ecs", "cef", "cloudevents":
        place, told, sizes = after, 0, []
        while told < 13:
            answer = api.ask(f"/v1/events?after={place}&type=device.event.lost,device.state&format={form}&limit=1000")
            assert answer.status_code == 200 and answer.json()["items"]
            place, sizes = answer.json()["next"], [*sizes, len(answer.content)]
            told += len(answer.json()["items"])
        assert told == 13 and (form == "cef" or max(sizes[:-1]) < 65536 + 1024 and len(sizes) > 4), (form, sizes)
    stream = Stream(api, f"?after={after}&type=device.event.lost,device.state")
    assert [stream.next()["type"] for _ in range(13)] == ["device.event.lost"] * 12 + ["device.state"]
    stream.close()
    api.stop()
    api.settings = []
    api.start()
