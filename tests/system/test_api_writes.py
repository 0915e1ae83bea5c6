"""What may be written over HTTP, by whom and in which form; and policies, which are the first thing that is."""

import json
import socket
import time

import pytest
import requests

from test_api import B, DEVICE_ROUTES, OPEN_ROUTES, A, Api, check, described, ueid  # noqa: F401

BODY_MAX = 65536
GOOD = {"title": "Secure boot is off", "severity": "high", "when": "strict $.boot.secure == false", "element": "SU.2", "remediation": "Turn it on."}
LATER = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 30 * 86400))


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("writes")
    api = Api(directory, devices=20)
    for tenant in "acme", "globex":
        for role in "analyst", "admin":
            api.tokens[f"{tenant}-{role}"] = api.db.cli("token", "add", "--tenant", tenant, "--role", role, f"{tenant}'s {role}")
    yield api
    api.close()


# Every route that writes, with the least role that may, and a body that is well formed.
WRITES = [
    ("PUT", "/v1/policies/p", "admin", GOOD), ("DELETE", "/v1/policies/p", "admin", None),
    ("POST", "/v1/alerts/acknowledge", "analyst", {"ids": [1]}), ("POST", "/v1/alerts/silence", "analyst", {"ids": [1], "until": LATER}),
    *(("POST", f"/v1/alerts/1/{a}", "analyst", {"comment": "x", **({"until": LATER} if a == "silence" else {})})
      for a in ("acknowledge", "silence", "resolve", "comment")),
    ("POST", "/v1/maintenance", "analyst", {"title": "x", "until": LATER}), ("DELETE", "/v1/maintenance/1", "analyst", None),
]
ROLES = ["viewer", "analyst", "admin"]


def everything(api):
    """All that a write could leave behind."""
    return api.db.sql("SELECT (SELECT array_agg((id, tenant_id, revision) ORDER BY policy_id) FROM policy)::text, (SELECT count(*) FROM maintenance),"
                      " (SELECT count(*) FROM alert_note), (SELECT count(*) FROM event)")


def test_every_route_of_these_that_writes_is_here(described):
    def like(path):
        return path.replace("/1", "/{id}").replace("/v{id}", "/v1").replace("policies/p", "policies/{id}")
    there = {(m.upper(), p) for p, operations in described["paths"].items() for m in operations if m != "get"}
    assert {(m, like(p)) for m, p, _, _ in WRITES} == {(m, p) for m, p in there if p.startswith(("/v1/policies", "/v1/alerts", "/v1/maintenance"))} - {("POST", "/v1/policies/preview")}


@pytest.mark.parametrize("method, path, least, body", WRITES)
def test_roles(api, method, path, least, body):
    before = everything(api)
    for role in ROLES[:ROLES.index(least)]:
        token = "acme" if role == "viewer" else f"acme-{role}"
        assert role in api.problem(403, "forbidden", path, token, method=method, json=body).json()["detail"]
    api.problem(401, "unauthorized", path, None, method=method, json=body)
    api.problem(401, "unauthorized", path, "fst_" + "A" * 43, method=method, json=body)
    api.problem(400, "tenant-required", path, "operator", method=method, json=body)
    api.problem(404, "not-found", path + "?tenant=globex", "acme-admin", method=method, json=body)
    api.problem(404, "not-found", path + "?tenant=nobody", "operator", method=method, json=body)
    api.problem(400, "unknown-parameter", path + "?colour=red", "acme-admin", method=method, json=body)
    assert everything(api) == before, "refused, and yet something was written"


@pytest.mark.parametrize("method, path, least, body", [*WRITES, ("POST", "/v1/policies/preview", "viewer", {"when": "strict $.a == 1"})])
def test_bodies(api, method, path, least, body):
    before = everything(api)
    token = "acme-admin"
    body = json.dumps(body if body is not None else {})

    def refused(status, name, data, kind="application/json"):
        return api.session.request(method, f"http://127.0.0.1:{api.port}{path}", data=data, timeout=20,
                                   headers={"Authorization": "Bearer " + api.tokens[token], **({"Content-Type": kind} if kind else {})}), status, name

    for answer, status, name in [
        *(refused(415, "unsupported-type", body, kind) for kind in (None, "text/plain", "application/jsonx", "application/x-www-form-urlencoded",
                                                                    "multipart/form-data; boundary=x", "application/json; charset=latin1",
                                                                    "application/json, text/plain", "application/json; x=y")),
        *(refused(400, "bad-body", data) for data in ("{", "{}x", "[", '{"a":1,"a":2}', "\x00", '{"a":"\\u0000"}', '{"a":"\\ud800"}', b'{"a":"\xff"}', "nul",
                                                      "{'a':1}", '{"a":1,}', '{"a":1e999}', "[" * 5000, '{"a":' * 3000, "//x\n{}", "\ufeff{}".encode())),
        *(refused(400, "bad-body", data) for data in ("[]", "1", '"x"', "null", "true", '{"no such member":1}')),
        refused(413, "content-too-large", b" " * BODY_MAX + body.encode()),
        refused(413, "content-too-large", iter([body.encode(), b" " * BODY_MAX])),
    ]:
        told = answer.json()
        assert (answer.status_code, told["type"]) == (status, "urn:fleetstate:problem:" + name), (answer.request.body, told)
    assert everything(api) == before


def test_where_malformed_json_is(api):
    answer = api.session.post(f"http://127.0.0.1:{api.port}/v1/policies/preview", data='{\n  "when": oops}', timeout=20,
                              headers={"Authorization": "Bearer " + api.tokens["acme"], "Content-Type": "application/json"})
    told = answer.json()
    assert answer.status_code == 400
    assert told["detail"].startswith("Line 2, column ") and told["position"] > 2


def test_a_body_that_fits_is_taken_in_pieces(api):
    """Chunked, without a length, up to the very bound."""
    body = json.dumps({"when": "strict $.a == 1"}).encode()
    pieces = [body[:5], body[5:], *[b" " * 4096] * 15]
    pieces.append(b" " * (BODY_MAX - sum(map(len, pieces))))
    headers = {"Authorization": "Bearer " + api.tokens["acme"], "Content-Type": "Application/JSON ; charset=UTF-8"}
    answer = requests.post(f"http://127.0.0.1:{api.port}/v1/policies/preview", data=iter(pieces), headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text


def on_wire(api, head, body=b"", token="acme-admin"):
    return api.raw(b"\r\n".join([head + b" HTTP/1.1", b"Host: x", b"Connection: close", b"Authorization: Bearer " + api.tokens[token].encode(), body]))


def test_on_the_wire(api):
    head = b"POST /v1/policies/preview"
    kind = b"Content-Type: application/json\r\n"
    assert b" 413 " in on_wire(api, head, kind + b"Content-Length: 9999999999\r\n\r\n")
    assert b" 400 " in on_wire(api, head, kind + b"Content-Length: -1\r\n\r\n{}")
    assert b" 413 " in on_wire(api, head, kind + b"Content-Length: 99999999999999999999999\r\n\r\n{}")
    assert b" 400 " in on_wire(api, head, kind + b"Content-Length: 0\r\n\r\n"), "an empty body lacks the predicate"
    # Without a body, and with one whose length is a lie.
    assert b" 400 " in on_wire(api, head, b"\r\n")
    assert on_wire(api, b"GET /v1/fleet", b"Content-Length: 2\r\n\r\n{}").split()[1] == b"400"
    # Refused by its headers, before a byte of it is read.
    assert b" 403 " in on_wire(api, b"POST /v1/maintenance", kind + b"Content-Length: 2\r\n\r\n{}", "acme")
    assert b" 401 " in api.raw(b"PUT /v1/policies/p HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n" + kind + b"\r\n")
    # More than a body may ever be, in chunks, and not a byte of memory for it: the connection ends.
    with socket.create_connection(("127.0.0.1", api.port), 20) as s:
        s.sendall(head + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + kind + b"Authorization: Bearer " + api.tokens["acme"].encode() + b"\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(2000):
                s.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
                time.sleep(0.0005)
    api.get("/v1/fleet")


def test_methods(api):
    def allowed(path, method):
        return api.problem(405, "method-not-allowed", path, "acme-admin", method=method, json={}).headers["Allow"]

    assert allowed("/v1/policies/p", "POST") == allowed("/v1/policies/p", "PATCH") == "GET, HEAD, PUT, DELETE"
    assert allowed("/v1/policies/preview", "GET") == allowed("/v1/policies/preview", "PUT") == "POST"
    assert allowed("/v1/policies", "DELETE") == allowed("/v1/alerts", "POST") == "GET, HEAD"
    assert allowed("/v1/maintenance", "PUT") == "GET, HEAD, POST"
    assert allowed("/v1/maintenance/1", "GET") == "DELETE"
    assert allowed(f"/v1/devices/{A}", "PUT") == "GET, HEAD, PATCH, DELETE"
    for path in [*OPEN_ROUTES, "/v1/fleet", *(f"/v1/devices/{A}{r}" for r in DEVICE_ROUTES if r)]:
        for method in "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW":
            assert api.problem(405, "method-not-allowed", path, method=method).headers["Allow"] == "GET, HEAD"
    api.problem(404, "not-found", "/v1/policies/p/q", "acme-admin", method="PUT", json=GOOD)


def put(api, name, document, token="acme-admin", query="", **headers):
    return api.session.put(f"http://127.0.0.1:{api.port}/v1/policies/{name}{query}", json=document, timeout=20,
                           headers={"Authorization": "Bearer " + api.tokens[token], **headers})


def test_a_policys_life(api, described):
    schema = described["components"]["schemas"]["Policy"]
    made = put(api, "boot", GOOD)
    assert made.status_code == 201 and set(made.json()) <= check(made.json(), schema, described)
    assert {k: made.json()[k] for k in GOOD} == GOOD
    assert (made.json()["source"], made.json()["changed_by"], made.json()["enabled"]) == ("tenant", "acme's admin", True)
    got = api.ask("/v1/policies/boot")
    assert got.json() == made.json() and got.headers["ETag"] == made.headers["ETag"] == f'"{made.json()["revision"]}"'
    changed = put(api, "boot", {**GOOD, "severity": "low", "for": {"reports": 3}, "scope": {"model": "model-1"}})
    assert changed.status_code == 200 and changed.json()["for"] == {"reports": 3} and changed.json()["scope"] == {"model": ["model-1"]}
    assert changed.headers["ETag"] != made.headers["ETag"]
    listed = api.pages("/v1/policies?limit=5")
    assert len({p["id"] for p in listed}) == len(listed) and changed.json() in listed
    assert {p["source"] for p in listed} == {"builtin", "tenant"}
    for policy in listed:
        assert set(policy) <= check(policy, schema, described)
    gone = api.ask("/v1/policies/boot", "acme-admin", method="DELETE")
    assert (gone.status_code, gone.content) == (204, b"") and "Content-Type" not in gone.headers
    api.problem(404, "not-found", "/v1/policies/boot")
    api.problem(404, "not-found", "/v1/policies/boot", "acme-admin", method="DELETE")
    told = [e["data"]["change"] for e in number(api) if e["type"] == "policy.changed" and e["data"]["policy"] == "boot"]
    assert told == ["created", "changed", "deleted"]


def number(api):
    api.db.sql("SELECT number_events()", role="fleetstate_ingest")
    return api.get("/v1/events?limit=1000")["items"]


def label(api, labels, token="acme-admin", device=A, query=""):
    return api.ask(f"/v1/devices/{device}{query}", token, method="PATCH", json={"labels": labels})


def test_labels(api, described):
    answer = label(api, {"site": "berlin", "rack": "7"})
    schema = described["paths"]["/v1/devices/{ueid}"]["patch"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer.status_code == 200 and set(answer.json()) >= check(answer.json(), schema, described)
    assert answer.json()["labels"] == ["rack=7", "site=berlin"] == api.get(f"/v1/devices/{A}")["labels"]
    assert label(api, {"rack": None, "nothing": None, "door": "A"}).json()["labels"] == ["door=A", "site=berlin"]
    assert label(api, {}).json()["labels"] == ["door=A", "site=berlin"]
    assert label(api, {"b": "c"}, "operator", B, "?tenant=globex").json()["labels"] == ["b=c"]
    for query, found in (("site:berlin", [A]), ("site", [A]), ("site:bonn", []), ("sit", []), ("b", []), ("%27", [])):
        assert [d["ueid"] for d in api.get("/v1/devices?label=" + query)["items"]] == found, query
    for query in "site%3Dberlin", ":", "", ":berlin":
        api.problem(400, "bad-parameter", "/v1/devices?label=" + query)
    assert [d["ueid"] for d in api.get("/v1/devices?label=site:berlin&component=openssl")["items"]] == [A]
    assert api.get("/v1/devices?label=site:berlin&posture=" + next(p for p in ("silent", "untrusted") if p != answer.json()["posture"]))["items"] == []
    assert [e["data"] for e in number(api) if e["type"] == "device.labels"][-1] == {"labels": ["door=A", "site=berlin"], "by": "acme's admin"}
    many = label(api, {f"k{i}": "v" for i in range(17)})
    assert many.status_code == 400 and many.json()["detail"] == "labels: at most 16"
    for labels in ([], None, "site", {"Site": "x"}, {"": "x"}, {"site": ""}, {"site": 1}, {"site": ["x"]}, {"site": "a b"}, {"site": "-x"}, {"site": "x="},
                   {"a" * 64: "x"}, {"site": "x" * 64}, {"site": "\u00e4"}, {"site": "x\n"}, {"site\n": "x"}):
        assert label(api, labels).status_code == 400, labels
    for body in ({}, {"labels": {}, "colour": "red"}, []):
        assert api.ask(f"/v1/devices/{A}", "acme-admin", method="PATCH", json=body).status_code == 400
    assert api.get(f"/v1/devices/{A}")["labels"] == ["door=A", "site=berlin"]
    for device, token, status in ((B, "acme-admin", 404), ("01" + "f" * 32, "acme-admin", 404), ("x", "acme-admin", 404), (A, "acme", 403), (A, None, 401)):
        assert label(api, {"a": "b"}, token, device).status_code == status
    assert api.get(f"/v1/devices/{B}", "globex")["labels"] == ["b=c"]


def test_only_if_it_is_as_expected(api):
    def refused(status, **headers):
        answer = put(api, "tagged", GOOD, **{k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status_code == status, (headers, answer.text)
        return answer.json()

    for headers in ({"If_Match": "*"}, {"If_Match": '"0"'}, {"If_Match": '"1", "2"'}, {"If_Match": "*", "If_None_Match": "*"}):
        refused(412, **headers)  # there is none
    first = put(api, "tagged", GOOD, **{"If-None-Match": "*"})
    assert first.status_code == 201
    refused(412, If_None_Match="*")
    second = put(api, "tagged", {**GOOD, "title": "Other"}, **{"If-Match": first.headers["ETag"]})
    assert second.status_code == 200 and second.headers["ETag"] != first.headers["ETag"]
    was, now = first.headers["ETag"], second.headers["ETag"]
    for tags in was, f"W/{now}", f'W/{now}, {was}, "x"', '"x"', '""', '"-"', '"0"', now[:-1] + '0"', f'"0{now[1:]}', '"9223372036854775808"':
        problem = refused(412, If_Match=tags)
        assert problem["type"] == "urn:fleetstate:problem:precondition-failed" and problem["detail"] == "It is at another revision."
    for tags in "*", now, f"W/{now}", f'{was}, W/{now}', f'"x",{now}':
        refused(412, If_None_Match=tags)
        refused(412, If_Match=now, If_None_Match=tags)
    for tags in "", "1", '"1', "W/1", f"{was} {now}", f"{now}, *", f"{now}, x", "w/" + now:
        for name in "If_Match", "If_None_Match":
            problem = refused(400, **{name: tags})
            assert problem["type"] == "urn:fleetstate:problem:bad-parameter" and problem["detail"].startswith(name.replace("_", "-") + " is *, or entity tags")
    assert api.ask("/v1/policies/tagged", "acme-admin").headers["ETag"] == now, "none of them did anything"
    for headers in {"If-Match": f'{was}, "x", {now}'}, {"If-Match": "*"}, {"If-None-Match": f'{was}, W/"x"'}, {"If-Match": "*", "If-None-Match": was}:
        changed = put(api, "tagged", GOOD, **headers)
        assert changed.status_code == 200 and changed.headers["ETag"] != now, headers
    now = changed.headers["ETag"]
    headers = {"Authorization": "Bearer " + api.tokens["acme-admin"], "If-Match": f"{was}, W/{now}"}
    url = f"http://127.0.0.1:{api.port}/v1/policies/tagged"
    assert requests.delete(url, headers=headers, timeout=20).status_code == 412
    assert requests.delete(url, headers={**headers, "If-Match": f"{was}, {now}"}, timeout=20).status_code == 204
    assert requests.delete(url, headers={**headers, "If-Match": "*"}, timeout=20).status_code == 404, "what is not there is not there, whatever is wanted of it"


def test_a_policy_that_is_made_again_is_a_new_one(api):
    def times():
        p = api.get("/v1/policies/again", "acme-admin")
        return p["created_at"], p["changed_at"]

    def at(answer):
        assert answer.status_code in (200, 201, 204), answer.text
        return answer

    at(put(api, "again", GOOD))
    first = times()
    at(put(api, "again", {**GOOD, "title": "Other"}))
    assert times()[0] == first[0] < times()[1], "one that changes does not begin anew"
    before = times()
    put(api, "again", {**GOOD, "title": ""})
    put(api, "again", GOOD, **{"If-Match": '"0"'})
    put(api, "again", {**GOOD, "title": "Other"})
    assert times() == before
    at(api.ask("/v1/policies/again", "acme-admin", "DELETE"))
    put(api, "again", {**GOOD, "title": ""})
    api.problem(404, "not-found", "/v1/policies/again", "acme-admin")
    assert at(put(api, "again", GOOD)).status_code == 201
    second = times()
    assert second[0] == second[1] > before[1]
    at(put(api, "again", {**GOOD, "title": "Other"}))
    assert times()[0] == second[0]


def test_everyones_policy_has_a_revision_of_its_own(api):
    """Of the tenant's and the operator's under one name the one that is meant counts."""
    path = "/v1/policies/both"
    own = api.ask(path, "acme-admin", "PUT", json=GOOD)
    everyones = api.ask(path + "?everyone=true&tenant=acme", "operator", "PUT", json=GOOD, headers={"If-None-Match": "*"})
    assert (own.status_code, everyones.status_code) == (201, 201)
    revision = api.db.one("SELECT revision FROM policy WHERE id = 'both' AND tenant_id IS NULL")
    assert api.ask(path + "?everyone=true", "acme-admin", "PUT", json=GOOD, headers={"If-Match": '"x"'}).status_code == 403
    assert api.ask(path + "?everyone=true&tenant=acme", "operator", "PUT", json=GOOD, headers={"If-Match": own.headers["ETag"]}).status_code == 412
    assert api.ask(path + "?everyone=true&tenant=acme", "operator", "DELETE", headers={"If-Match": f'"{revision}"'}).status_code == 204
    assert api.ask(path, "acme-admin", "DELETE", headers={"If-Match": own.headers["ETag"]}).status_code == 204


@pytest.mark.parametrize("change, word", [
    ({"title": None}, "title"), ({"title": ""}, "title"), ({"title": "x" * 256}, "title"), ({"title": 1}, "title"), ({"severity": "severe"}, "severity"),
    ({"severity": None}, "severity"), ({"when": None}, "when"), ({"when": 7}, "when"), ({"element": "x" * 33}, "element"), ({"enabled": "yes"}, "enabled"),
    ({"for": 3}, "for"), ({"for": {"days": 1}}, "for"), ({"for": {"reports": -1}}, "for"), ({"for": {"reports": 1.5}}, "for"), ({"for": {"seconds": 1e9}}, "for"),
    ({"scope": {"colour": "red"}}, "scope"), ({"scope": {"model": []}}, "model"), ({"scope": {"model": [1]}}, "model"), ({"scope": []}, "scope"),
    ({"colour": "red"}, "colour"), ({"remediation": "x" * 4097}, "remediation"),
])
def test_bad_policies(api, change, word):
    answer = put(api, "bad", {**GOOD, **change})
    assert answer.status_code == 400 and answer.json()["type"].endswith(":bad-body") and word in answer.json()["detail"]
    api.problem(404, "not-found", "/v1/policies/bad")


@pytest.mark.parametrize("name", ["A", "a%20b", "-a", "a" * 129, "%C3%A9", "a%2Fb"])
def test_bad_names(api, name):
    assert put(api, name, GOOD).status_code == 400


# A predicate, and where it is wrong (counted from 1; None: anywhere).
PREDICATES = [("$.a == 1", 1), ("lax $.a == 1", 1), ("", 1), ("strict $.a", 1), ("strict $.a === 1", 14), ("strict $.a == 1 &&", None), ("strict $.a == 'x'", None),
              ("strict $.a[*] == $.b[*]", None), ("strict $.**.a == $.**.b", None), ("strict $.a like_regex \"" + "x" * 257 + '"', None),
              ("strict $.a == 1" + " " * 2034, 2049), ("strict exists($.a)) or true", None), ("strict $x == 1", None), ("strict 1; DROP TABLE policy", None)]


@pytest.mark.parametrize("predicate, place", PREDICATES, ids=lambda v: str(v)[:24])
def test_bad_predicates(api, predicate, place):
    told = api.problem(400, "bad-body", "/v1/policies/preview", method="POST", json={"when": predicate}).json()
    assert told["detail"].startswith("when: ") or not predicate
    assert place is None or not predicate or told["position"] == place, told
    if predicate:
        assert put(api, "bad", {**GOOD, "when": predicate}).json()["detail"] == told["detail"]


def test_preview(api, described):
    def preview(token="acme", **body):
        answer = api.ask("/v1/policies/preview", token, method="POST", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    # One device of each tenant has told its state.
    told = preview(when="strict $.boot.secure == false")
    check(told, described["components"]["schemas"]["Preview"], described)
    assert told == {"counts": {"met": 0, "not_met": 1, "unknown": 0}, "devices": [A]}
    assert preview("globex", when="strict $.boot.secure == false")["devices"] == [B]
    assert preview(when="strict $.boot.secure == true") == {"counts": {"met": 1, "not_met": 0, "unknown": 0}, "devices": []}
    assert preview(when="strict $.boot.secure == true", outcome="met")["devices"] == [A]
    assert preview(when="strict $.not.there == 1", outcome="unknown") == {"counts": {"met": 0, "not_met": 0, "unknown": 1}, "devices": [A]}
    assert preview(when="strict $.boot.secure == false", limit=0)["devices"] == []
    assert preview(when="strict $.boot.secure == false", as_of="2001-01-01T00:00:00Z")["counts"] == {"met": 0, "not_met": 0, "unknown": 0}
    assert "boot" not in [p["id"] for p in api.pages("/v1/policies")], "it changes nothing"


@pytest.mark.parametrize("body", [{}, {"when": None}, {"when": 1}, {"when": ["strict $.a == 1"]}, {"when": "strict $.a == 1", "outcome": "bad"},
                                  {"when": "strict $.a == 1", "limit": 1001}, {"when": "strict $.a == 1", "limit": -1}, {"when": "strict $.a == 1", "limit": "1"},
                                  {"when": "strict $.a == 1", "limit": 1.5}, {"when": "strict $.a == 1", "as_of": "yesterday"},
                                  {"when": "strict $.a == 1", "as_of": "now"}, {"when": "strict $.a == 1", "as_of": "2026-13-01T00:00:00Z"},
                                  {"when": "strict $.a == 1", "as_of": 7}, {"when": "strict $.a == 1", "tenant": "globex"}])
def test_bad_previews(api, body):
    answer = api.ask("/v1/policies/preview", method="POST", json=body)
    assert answer.status_code == 400 and answer.json()["type"].split(":")[-1] in ("bad-body", "bad-parameter")


def test_another_tenants_policy_is_not_there(api):
    assert put(api, "own", GOOD).status_code == 201
    there = api.problem(404, "not-found", "/v1/policies/own", "globex").content
    assert there == api.problem(404, "not-found", "/v1/policies/nothing", "globex").content
    api.problem(404, "not-found", "/v1/policies/own", "globex-admin", method="DELETE")
    assert "own" not in [p["id"] for p in api.pages("/v1/policies", "globex")]
    # The same name is another policy there.
    assert put(api, "own", {**GOOD, "title": "theirs"}, "globex-admin").status_code == 201
    assert api.get("/v1/policies/own")["title"] == GOOD["title"]


def test_everyones_policies_are_the_operators(api):
    assert put(api, "shared", GOOD, query="?everyone=true").status_code == 403
    assert put(api, "shared", GOOD, query="?everyone=maybe").status_code == 400
    made = put(api, "shared", GOOD, "operator", "?tenant=acme&everyone=true")
    assert made.status_code == 201 and made.json()["source"] == "operator"
    assert api.get("/v1/policies/shared", "globex")["title"] == GOOD["title"]
    assert put(api, "shared", GOOD).status_code == 409
    api.problem(403, "forbidden", "/v1/policies/shared", "acme-admin", method="DELETE")
    api.problem(403, "forbidden", "/v1/policies/shared?everyone=true", "acme-admin", method="DELETE")
    api.problem(409, "conflict", "/v1/policies/silent?tenant=acme&everyone=true", "operator", method="DELETE")
    assert api.ask("/v1/policies/shared?tenant=acme&everyone=true", "operator", method="DELETE").status_code == 204
    api.problem(404, "not-found", "/v1/policies/shared", "globex")


def test_devices_by_policy(api):
    assert api.get("/v1/devices?policy=silent")["items"] == []
    api.db.sql("UPDATE device_verdict v SET outcomes = overlay(repeat('0', 20) placing '1' FROM p.slot FOR 1) FROM policy p, device d"
               " WHERE p.id = 'silent' AND d.device_id = v.device_id AND d.ueid = ANY (%s::bytea[])",
               (["\\x" + ueid("acme", 3), "\\x" + ueid("acme", 7), "\\x" + ueid("globex", 1)],))
    assert [d["ueid"] for d in api.pages("/v1/devices?policy=silent&limit=1")] == [ueid("acme", 3), ueid("acme", 7)]
    assert [d["ueid"] for d in api.get("/v1/devices?policy=silent&posture=unknown")["items"]] == [ueid("acme", 7)]
    assert [d["ueid"] for d in api.get("/v1/devices?policy=silent", "globex")["items"]] == [ueid("globex", 1)]
    assert api.get("/v1/devices?policy=fork")["items"] == []
