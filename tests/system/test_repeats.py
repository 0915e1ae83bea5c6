"""Idempotency-Key: whoever is not sure whether a POST was done sends it again, and it is done once."""

import hashlib
import signal
import threading
import time

import psycopg2
import pytest
import requests

from parts import await_true
from test_api import A, Api
from test_api_writes import LATER

SINK = {"name": "s", "kind": "webhook", "target": "https://example.com/"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("repeats")
    api = Api(directory, devices=3)
    for tenant in "acme", "globex":
        api.tokens[tenant] = api.db.cli("token", "add", "--tenant", tenant, "--role", "admin", "admin")
    yield api
    api.close()


def post(api, path, key, token="acme", **body):
    return requests.post(f"http://127.0.0.1:{api.port}{path}", json=body or None, timeout=20,
                         headers={"Authorization": f"Bearer {api.tokens.get(token, token)}", **({"Idempotency-Key": key} if key is not None else {})})


def window(api, key, title, token="acme", **more):
    return post(api, "/v1/maintenance", key, token, title=title, until=LATER, **more)


def windows(api, title, tenant="acme"):
    return api.db.one("SELECT count(*) FROM maintenance m JOIN tenant t ON t.tenant_id = m.tenant_id WHERE m.title = %s AND t.id = %s", (title, tenant))


def problem(answer, status, name):
    assert (answer.status_code, answer.json()["type"]) == (status, "urn:fleetstate:problem:" + name), answer.text


def test_the_same_again_is_the_same_answer(api):
    entries = api.db.one("SELECT count(*) FROM audit WHERE line::json ->> 'kind' = 'change'")
    first, second = window(api, "one", "one"), window(api, "one", "one")
    assert first.status_code == second.status_code == 201 and first.content == second.content and first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers and second.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert windows(api, "one") == 1 and api.db.one("SELECT count(*) FROM audit WHERE line::json ->> 'kind' = 'change'") == entries + 1
    assert window(api, None, "one").headers["Location"] != first.headers["Location"], "without a key it is another one"


def test_a_secret_that_is_told_once_is_told_again_and_kept_by_nobody(api):
    assert window(api, "beside", "beside").status_code == 201
    first, second = (post(api, "/v1/tokens", "token", role="viewer", name="twice") for _ in range(2))
    assert first.json()["token"] == second.json()["token"] and api.ask("/v1/fleet", first.json()["token"]).status_code == 200
    rows = api.db.sql("SELECT credential, key, request, answer FROM repeatable")
    secret = first.json()["token"]
    assert len(rows) >= 2 and not any(secret.encode() in bytes(cell) or b"token" in bytes(cell) for row in rows for cell in row)
    # That it was told again is in the audit log.
    api.stop()
    api.start()
    assert api.db.sql("SELECT line::json ->> 'status' FROM audit WHERE line::json ->> 'kind' = 'read' AND line::json ->> 'target' = '/v1/tokens'"
                      " AND line::json ->> 'method' = 'POST'") == [("201",)]
    # It opens under the key of who asked only.
    api.db.sql("UPDATE repeatable SET answer = (SELECT answer FROM repeatable LIMIT 1)")
    assert {window(api, "beside", "beside").status_code, post(api, "/v1/tokens", "token", role="viewer", name="twice").status_code} & {500}


def test_what_is_no_tenants_may_be_repeated_too(api):
    """An operator, of no tenant, makes one."""
    operator = api.db.cli("token", "add", "--role", "operator", "operator")
    first, second = (post(api, "/v1/tenants", "tenant", operator, id="third", name="Third") for _ in range(2))
    assert first.status_code == second.status_code == 201 and first.content == second.content and second.headers["Idempotency-Replayed"] == "true"
    problem(post(api, "/v1/tenants", "tenant", operator, id="fourth", name="Fourth"), 422, "key-reused")


def test_the_same_key_for_something_else_is_refused(api):
    assert window(api, "else", "else").status_code == 201
    problem(window(api, "else", "other"), 422, "key-reused")
    problem(window(api, "else", "else", more=1), 422, "key-reused")
    problem(post(api, "/v1/maintenance?tenant=acme", "else", title="else", until=LATER), 422, "key-reused")
    problem(post(api, "/v1/tokens", "else", role="viewer", name="else"), 422, "key-reused")
    assert windows(api, "other") == 0 and windows(api, "else") == 1


def test_each_credential_has_keys_of_its_own(api):
    other = api.db.cli("token", "add", "--tenant", "acme", "--role", "admin", "other")
    answers = [window(api, "own", "own", token) for token in ("acme", other, "globex")]
    assert [a.status_code for a in answers] == [201] * 3 and len({a.headers["Location"] for a in answers}) == 3
    assert windows(api, "own") == 2 and windows(api, "own", "globex") == 1
    number = next(t["id"] for t in api.ask("/v1/tokens", "acme").json()["items"] if t["name"] == "other")
    assert api.ask(f"/v1/tokens/{number}", "acme", "DELETE").status_code == 204
    problem(window(api, "own", "own", other), 401, "unauthorized")


def test_what_failed_may_be_mended(api):
    """A refusal before anything was done leaves the key free; what the answer was is kept once something ran."""
    problem(post(api, "/v1/maintenance", "mend", title="mend"), 400, "bad-body")
    assert window(api, "mend", "mend").status_code == 201
    problem(post(api, f"/v1/devices/{A}/challenge", "none", validity=5), 400, "bad-body")
    answers = [post(api, "/v1/sinks", "sink", **SINK) for _ in range(2)]
    assert {a.status_code for a in answers} == {409}, "there is no secret_key"
    assert api.db.one("SELECT count(*) FROM sink") == 0


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e4", "a\tb"])
def test_wrong_keys(api, key):
    answer = post(api, "/v1/maintenance", key.encode(), title="wrong", until=LATER)
    problem(answer, 400, "bad-parameter")
    assert windows(api, "wrong") == 0


def test_long_keys(api):
    assert [window(api, "x" * 254 + end, "long").status_code for end in ("y", "y", "z")] == [201] * 3 and windows(api, "long") == 2


def test_keys_are_for_post(api):
    for _ in range(2):
        answer = requests.put(f"http://127.0.0.1:{api.port}/v1/policies/p", headers={"Authorization": f"Bearer {api.tokens['acme']}", "Idempotency-Key": "put"},
                              json={"title": "t", "severity": "low", "when": "strict $.a == 1"}, timeout=20)
        assert "Idempotency-Replayed" not in answer.headers
    assert answer.status_code == 200


class Held:
    """As a request does that has begun."""

    def __init__(self, api, token, key):
        self.db = psycopg2.connect(api.db.uri("fleetstate_owner"))
        self.credential, self.key = (hashlib.sha256(text.encode()).digest() for text in (api.tokens[token], "fleetstate repeat " + key))

    def __enter__(self):
        with self.db.cursor() as c:
            c.execute("SELECT repeat_claim(%s, %s, '')", (self.credential, self.key))
            assert c.fetchone()[0].startswith("(new"), "the lock is another's"

    def __exit__(self, *_):
        self.db.rollback()
        self.db.close()


def test_the_first_is_under_way(api):
    """While somebody else does it the same is not done too, nor waited for."""
    with Held(api, "acme", "under-way"):
        problem(window(api, "under-way", "under way"), 409, "key-in-use")
        assert windows(api, "under way") == 0
        assert window(api, "another", "another").status_code == 201
    assert window(api, "under-way", "under way").status_code == 201


def test_at_once(api):
    answers, barrier = [], threading.Barrier(12)

    def ask():
        barrier.wait()
        answers.append(window(api, "at-once", "at once"))
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [a for a in answers if a.status_code == 201]
    assert windows(api, "at once") == 1 and done and len({a.content for a in done}) == 1 and sum("Idempotency-Replayed" not in a.headers for a in done) == 1
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "key-in-use")


def test_after_a_day_it_is_another_one(api):
    window(api, "old", "old")
    api.db.sql("UPDATE repeatable SET made_at = now() - interval '23 hours 59 minutes'")
    window(api, "old", "old")
    assert windows(api, "old") == 1
    api.db.sql("UPDATE repeatable SET made_at = now() - interval '24 hours 1 minute'")
    answer = window(api, "old", "old")
    assert answer.status_code == 201 and "Idempotency-Replayed" not in answer.headers and windows(api, "old") == 2
    old = api.db.one("SELECT count(*) FROM repeatable") - 1
    assert api.db.one("SELECT expire_repeats()") == old > 0 and api.db.one("SELECT count(*) FROM repeatable") == 1, "the others go"


def test_it_survives_the_server(api):
    first = window(api, "survives", "survives")
    api.stop()
    api.start()
    assert window(api, "survives", "survives").content == first.content and windows(api, "survives") == 1


def test_no_kill_does_it_twice_or_loses_what_was_answered(api):
    """Requests under way while the server is killed: whoever repeats until there is an answer has done it once."""
    for trial in range(4):
        titles = [f"kill {trial} {i}" for i in range(8)]
        answers = {}

        def ask(title):
            try:
                answers[title] = window(api, title.replace(" ", "-"), title)
            except requests.ConnectionError:
                pass
        threads = [threading.Thread(target=ask, args=(title,)) for title in titles]
        for thread in threads:
            thread.start()
        time.sleep(trial * .006)  # another moment of their lives each time
        api.process.send_signal(signal.SIGKILL)
        api.process.wait()
        for thread in threads:
            thread.join()
        api.start()
        for title in titles:
            again = await_true(lambda: (a := window(api, title.replace(" ", "-"), title)).status_code == 201 and a, "the answer")
            assert windows(api, title) == 1
            if title in answers and answers[title].status_code == 201:
                assert again.content == answers[title].content
