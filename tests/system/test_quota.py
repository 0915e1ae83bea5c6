"""How much a caller may ask: requests and bytes a second and exports at once, of one token, and that who asks for too much holds up nobody else."""

import itertools
import json
import re
import socket
import threading
import time

import pytest
import requests

from parts import await_true
from test_api import Api, described, ueid  # noqa: F401
from test_tls import Server

DEVICES = 4000


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("quota")
    api = Api(directory, devices=DEVICES, told=False, quota_requests=20, quota_burst=2, quota_exports=2)
    api.session.headers["Accept-Encoding"] = "identity"  # what is sent is counted
    yield api
    api.close()


def token(api, name, tenant="acme", **quota):
    made = api.db.cli("token", "add", "--tenant", tenant, "--role", "viewer", name)
    if quota:
        [number] = [t["number"] for t in json.loads(api.db.cli("token", "list", "--json")) if t["name"] == name]
        api.db.cli("token", "quota", *(w for k, v in quota.items() for w in (f"--{k}", v)), number)
    return made


def counted(api, name):
    return int(re.search(rf"^fleetstate_{name}_total (\d+)$", api.ask("/metrics", "operator").text, re.M)[1])


def refused(api, answer):
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:fleetstate:problem:over-quota"), answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    return answer.json()["detail"]


def hurry(api, n, rate, *callers):
    """So many requests in one go, by each of those who share an account in turn: no more are answered than two seconds have at that rate, and
    the time that they take. Their statuses."""
    one = ["GET /v1/fleet HTTP/1.1\r\nHost: x\r\n" + caller + "\r\n" for caller in callers]
    all_of_them = "".join(itertools.islice(itertools.cycle(one), n - 1)) + one[0].replace("HTTP/1.1", "HTTP/1.0")
    began = time.monotonic()
    told = api.raw(all_of_them.encode()).decode()
    took = time.monotonic() - began
    statuses = [int(status) for status in re.findall(r"HTTP/1\.[01] (\d+) ", told)]
    beyond = statuses.count(429)
    assert len(statuses) == n and set(statuses) == {200, 429}
    assert n - beyond <= rate * (2 + took) + 1, (n, beyond, took)
    for said in "urn:fleetstate:problem:over-quota", "Too many requests a second.", "\r\nRetry-After: 1\r\n":
        assert told.count(said) == beyond, said
    return statuses


def bearer(token):
    return f"Authorization: Bearer {token}\r\n"


def test_requests_a_second(api):
    before, hasty = counted(api, "quota_requests_refused"), token(api, "hasty")
    statuses = hurry(api, 400, 20, bearer(hasty))
    assert statuses[:40] == 40 * [200], "a burst"
    assert counted(api, "quota_requests_refused") >= before + statuses.count(429)
    assert api.ask("/v1/fleet", token(api, "calm")).status_code == 200
    await_true(lambda: api.ask("/v1/fleet", hasty).status_code == 200, "the next second")


def test_a_token_has_its_own(api):
    own, free = token(api, "own", requests=2), token(api, "free", requests=0)
    assert hurry(api, 100, 2, bearer(own))[:4] == 4 * [200]
    assert {api.ask("/v1/fleet", free).status_code for _ in range(100)} == {200}
    # Its sessions count for it.
    session = token(api, "of a session", requests=2)
    cookies = [api.ask("/v1/session", session, method="POST").headers["Set-Cookie"].split(";")[0] for _ in range(2)]
    hurry(api, 100, 2, *(f"Cookie: {cookie}\r\n" for cookie in cookies))


def test_who_gives_quotas(api, described):  # noqa: F811
    admin = api.db.cli("token", "add", "--tenant", "acme", "--role", "admin", "admin")
    body = {"role": "viewer", "name": "given", "quota": {"requests": 3, "exports": 0}}
    api.problem(403, "forbidden", "/v1/tokens", admin, method="POST", json=body)
    for wrong in {"requests": -1}, {"requests": "1"}, {"bytes": 2 ** 40}, {"speed": 1}, {"requests": 1.5}, {"requests": None}, []:
        api.problem(400, "bad-body", "/v1/tokens?tenant=acme", "operator", method="POST", json={**body, "quota": wrong})
    made = api.ask("/v1/tokens?tenant=acme", "operator", method="POST", json=body)
    assert made.status_code == 201, made.text
    [listed] = [t for t in api.pages("/v1/tokens", admin) if t["id"] == made.json()["id"]]
    assert listed["quota"] == {"requests": 3, "bytes": None, "exports": 0} and listed["kind"] == "token"
    hurry(api, 100, 3, bearer(made.json()["token"]))
    for wrong in ("--requests", "x"), ("--bytes", "-1"), ("--exports", "1001"):
        api.db.cli("token", "quota", *wrong, made.json()["id"], status=1)


def test_bytes_a_second(api):
    heavy = token(api, "heavy", bytes=100_000, requests=0)
    before, sizes, began = counted(api, "quota_bytes_refused"), [], time.monotonic()
    while (answer := api.ask("/v1/devices?limit=1000", heavy)).status_code == 200:
        sizes.append(len(answer.content))
    # Two seconds' worth and that of the time since, and what went beyond with the last.
    assert 200_000 < sum(sizes) and sum(sizes[:-1]) <= 100_000 * (2 + time.monotonic() - began)
    assert refused(api, answer) == "Too many bytes a second."
    assert counted(api, "quota_bytes_refused") > before


def test_an_export_is_paced_and_whole(api):
    """Not refused when it goes beyond: what was sent would have to be sent again."""
    whole = api.ask("/v1/assets?format=csv", token(api, "unpaced"))
    rate = len(whole.content) // 4
    before, started = counted(api, "quota_pieces_paced"), time.monotonic()
    paced = api.ask("/v1/assets?format=csv", token(api, "paced", bytes=rate))
    took = time.monotonic() - started
    assert sorted(paced.text.splitlines()) == sorted(whole.text.splitlines()) and len(paced.text.splitlines()) > DEVICES * 0.9
    # A quarter a second, of which two seconds' worth came at once.
    assert took > 1 and counted(api, "quota_pieces_paced") > before


def test_an_export_ends_with_its_token(api):
    size = len(api.ask("/v1/assets?format=csv", token(api, "whole")).content)
    with api.ask("/v1/assets?format=csv", token(api, "ended", bytes=size // 40), stream=True) as answer:
        pieces = answer.iter_content(1024)
        assert answer.status_code == 200 and next(pieces)
        api.db.sql("UPDATE api_token SET revoked_at = now() WHERE name = 'ended'")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            assert sum(map(len, pieces)) < size


def happen(api):
    """An event of the tenant's, by which the server finds out who has gone."""
    api.db.sql("WITH e AS (INSERT INTO event (tenant_id, type, position) SELECT tenant_id, 'test', (SELECT top + 1 FROM event_head) FROM tenant WHERE id = 'acme'"
               " RETURNING position) UPDATE event_head SET top = e.position FROM e")


def test_exports_at_once(api):
    several = token(api, "several")
    before = counted(api, "quota_exports_refused")
    opened = [api.ask("/v1/events/stream", several, stream=True) for _ in range(2)]
    assert [a.status_code for a in opened] == [200, 200]
    inventory = f"/v1/devices/{ueid('acme', 0)}/inventory"
    for path in "/v1/assets?format=csv", f"{inventory}?format=csv", f"{inventory}?format=cyclonedx", f"{inventory}?format=ocsf":
        assert refused(api, api.ask(path, several)) == "Too many exports or streams are open."
    assert counted(api, "quota_exports_refused") == before + 4
    assert api.ask("/v1/fleet", several).status_code == api.ask("/v1/assets?format=csv").status_code == 200
    for page in inventory, f"{inventory}?format=json":
        assert api.ask(page, several).status_code == 404, "which no device has told"
    for answer in opened:
        answer.close()
    await_true(lambda: happen(api) or api.ask("/v1/assets?format=csv", several).status_code == 200, "room again")


@pytest.fixture
def server(api, tmp_path):
    """One whose log says in which order it answers: how long somebody waits is how many others are answered first, however fast the machine is."""
    server = Server(api, tmp_path / "log", quota_exports=2).await_up()
    yield server
    server.stop()


def answered_meanwhile(server, asks, ready, token, n=40):
    """What is answered to others, `(path, status)`, between the first and the last of so many requests, each of which comes when the one before is answered,
    while each of `asks` goes on in a thread of its own."""
    stop = threading.Event()
    one = "GET /v1/fleet HTTP/1.1\r\nHost: x\r\n" + bearer(token) + "\r\n"

    def run(ask):
        with requests.Session() as session:
            while not stop.is_set():
                ask(session)

    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    try:
        await_true(ready, "who asks for much")
        with socket.create_connection(("127.0.0.1", server.port), 60) as s:
            s.sendall((one * (n - 1) + one.replace("HTTP/1.1", "HTTP/1.0")).encode())
            told = b"".join(iter(lambda: s.recv(65536), b""))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert told.count(b" 200 OK\r\n") == n
    answers = re.findall(r"path=(\S+) status=(\d+)", server.told())
    mine = [i for i, (path, _) in enumerate(answers) if path == "/v1/fleet"]
    assert len(mine) == n
    return [answer for answer in answers[mine[0]:mine[-1]] if answer[0] != "/v1/fleet"]


def test_who_asks_with_many_tokens_is_one_caller(api, server):
    """A tenant's administrator gives itself as many as it may: another tenant's request waits for one of theirs, and not for all."""
    many, other = [token(api, f"one of many {i}", requests=0) for i in range(20)], token(api, "patient too", tenant="globex", requests=0)
    statuses, n = [], 40

    def ask(one):
        return lambda session: statuses.append(session.get(f"http://127.0.0.1:{server.port}/v1/devices?limit=1000", timeout=60,
                                                           headers={"Authorization": "Bearer " + one}).status_code)

    meanwhile = answered_meanwhile(server, map(ask, many), lambda: len(statuses) > 2 * len(many), other, n)
    assert set(statuses) == {200} and 0 < len(meanwhile) < n * len(many) / 4, "two each, of the two threads; in the order of their coming it were twenty"


def test_who_hammers_exports_holds_up_nobody(api, server):
    """One tenant's SIEM asks for whole exports with eight threads as fast as it can; another's asks for something small."""
    hammer, other = token(api, "hammer", requests=0), token(api, "patient", tenant="globex", requests=0)
    statuses, n = [], 40

    def ask(session):
        statuses.append(session.get(f"http://127.0.0.1:{server.port}/v1/assets?format=csv", headers={"Authorization": "Bearer " + hammer}, timeout=60).status_code)

    meanwhile = answered_meanwhile(server, [ask] * 8, lambda: {200, 429} <= set(statuses), other, n)
    assert set(statuses) == {200, 429} and ("/v1/assets", "429") in meanwhile
    # It waits for one piece of an export, of which each has four, and not for a whole one.
    assert 0 < meanwhile.count(("/v1/assets", "200")) < n / 2
