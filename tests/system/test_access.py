"""Who may see and do what: every route with every kind of caller, against the table of routes; tokens, sessions, and what the database's own role can't do."""

import collections
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import time

import psycopg2
import pytest
import requests

from parts import PATIENCE, ROOT, await_true
from test_api import B, EPOCH, ROUTES, A, Api, check, described, ueid  # noqa: F401

ROLES = ["viewer", "analyst", "admin", "operator"]
SCOPES = re.findall(r'^SCOPE\(\w+, "(\w+)"', (ROOT / "collector/scopes.def").read_text(), re.M)
LATER = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 30 * 86400))
POLICY = {"title": "x", "severity": "low", "when": "strict $.a == 1"}
SINK = {"name": "siem", "kind": "syslog", "target": "siem.example:6514"}
CA = (ROOT / "tests/vectors/known-ca.pem").read_text()
OF_NONE = ("/v1/tenants", "/v1/tenants/{id}", "/v1/trust-anchors", "/v1/trust-anchors/{id}", "/v1/tokens/{id}")  # an operator names no tenant there, and may
BODIES = {
    ("POST", "/v1/policies/preview"): {"when": "strict $.a == 1"}, ("PUT", "/v1/policies/{id}"): POLICY,
    ("POST", "/v1/alerts/acknowledge"): {"ids": [1]}, ("POST", "/v1/alerts/silence"): {"ids": [1], "until": LATER},
    ("POST", "/v1/alerts/{id}/silence"): {"until": LATER}, ("POST", "/v1/alerts/{id}/comment"): {"comment": "x"},
    ("POST", "/v1/maintenance"): {"title": "x", "until": LATER}, ("POST", "/v1/sinks"): SINK, ("POST", "/v1/tokens"): {"role": "viewer", "name": "x"},
    ("PATCH", "/v1/devices/{ueid}"): {"labels": {"site": "x"}}, ("PATCH", "/v1/tenants/{id}"): {"legal_hold": None}, ("POST", "/v1/devices"): {"ueid": "01" + "f" * 32},
    ("POST", "/v1/tenants"): {"id": "acme", "name": "x"}, ("POST", "/v1/trust-anchors"): {"name": "x", "certificate": CA},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("access")
    api = Api(directory, devices=20, http_proxies=1, guess_free=1000, guess_delay=2)
    for tenant in "acme", "globex":
        for role in ROLES[:3]:
            api.tokens[f"{tenant}-{role}"] = api.db.cli("token", "add", "--tenant", tenant, "--role", role, f"{tenant}'s {role}")
    for name in "expired", "revoked":
        api.tokens[name] = api.db.cli("token", "add", "--tenant", "acme", "--role", "admin", name)
    api.db.sql("UPDATE api_token SET expires_at = now() WHERE name = 'expired'; UPDATE api_token SET revoked_at = now() WHERE name = 'revoked'")
    for scope in SCOPES:
        api.tokens["scope-" + scope] = api.db.cli("token", "add", "--tenant", "acme", "--role", "admin", "--scopes", scope, scope)
    api.things = {tenant: things(api, tenant) for tenant in ("acme", "globex")}
    yield api
    api.close()


def made(api, tenant, path, body, method="POST"):
    answer = api.ask(path, f"{tenant}-admin", method=method, json=body)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json().get("id"))


def things(api, tenant):
    """What this tenant has that a path can name."""
    device = {"acme": A, "globex": B}[tenant]
    # A second device that runs what the first does, to compare.
    api.db.sql("INSERT INTO device_state SELECT d.device_id, s.tenant_id, s.epoch, s.seq, s.received_at, s.issued_at, s.state_digest, s.inventory_digest,"
               " s.state FROM device_state s, device d WHERE s.device_id = (SELECT device_id FROM device WHERE ueid = decode(%s, 'hex'))"
               " AND d.ueid = decode(%s, 'hex')", (device, ueid(tenant, 1)))
    component = str(api.get("/v1/components?name=openssl", f"{tenant}-viewer")["items"][0]["id"])
    [(alert,)] = api.db.sql("INSERT INTO alert (device_id, tenant_id, policy_id) SELECT device_id, tenant_id, 1 FROM device WHERE ueid = decode(%s, 'hex')"
                            " RETURNING alert_id", (device,))
    made(api, tenant, f"/v1/policies/of-{tenant}", POLICY, "PUT")
    return {"ueid": device, "epoch": EPOCH, "seq": "2", "/v1/components": component, "sha256": hashlib.sha256(f"{device}2".encode()).hexdigest(), "/v1/policies": f"of-{tenant}",
            "/v1/alerts": str(alert), "/v1/maintenance": made(api, tenant, "/v1/maintenance", {"title": tenant, "until": LATER}),
            "/v1/tenants": tenant, "/v1/trust-anchors": api.db.cli("trust-anchor", "add", "--tenant", tenant, ROOT / "tests/vectors/known-ca.pem"),
            "/v1/sinks": made(api, tenant, "/v1/sinks", SINK), "/v1/tokens": made(api, tenant, "/v1/tokens", {"role": "viewer", "name": f"made by {tenant}"})}


def filled(path, named):
    return re.sub(r"\{(\w+)\}", lambda m: "app.js" if m[1] == "file" else named[path[:path.index("/{")] if m[1] == "id" else m[1]], path)


def call(api, method, route, token, named=None, query="", **more):
    """Status and text; of a stream only its beginning."""
    body = BODIES.get((method, route))
    named = named or api.things["acme"]
    if route == "/v1/diff":
        query += f"{'&' if query else '?'}a={named['ueid']}&b={ueid('acme', 1)}"
    with api.ask(filled(route, named) + query, token, method=method, json=body, stream=True, **more) as answer:
        return answer.status_code, "" if answer.headers.get("Content-Type", "").startswith("text/event-stream") else answer.text


PARAMS = pytest.mark.parametrize("method, route, least, scope, how", [(m, p, r.lower(), s.lower(), h) for m, p, r, s, _, h in ROUTES])


@PARAMS
def test_the_tables_answers(api, method, route, least, scope, how):
    for nobody in None, "expired", "revoked", "fst_" + "A" * 43:
        assert (call(api, method, route, nobody)[0] == 401) == (least != "none"), nobody
    if least == "none":
        return
    for role in ROLES[:ROLES.index(least)]:
        assert call(api, method, route, f"acme-{role}")[0] == 403, role
    # What would go with it is left alone: an absent one is asked for.
    named = {**api.things["acme"], **({"/v1/" + w: "999999999" for w in ("policies", "alerts", "maintenance", "sinks", "tokens", "trust-anchors")} if how == "WRITES" else {})}
    if (method, route) == ("DELETE", "/v1/devices/{ueid}"):
        named["ueid"] = ueid("nobody", 1)
    if route != "/v1/session":
        for role in ROLES[ROLES.index(least):]:
            status, text = call(api, method, route, "operator" if role == "operator" else f"acme-{role}", named, "?tenant=acme" if role == "operator" else "")
            expected = (200, 201, 204, 404, 409) if how == "WRITES" and route != "/v1/tenants" else (403,) if how == "WRITES" else (200, 404) if route.endswith(("/proof", "/manifests/{sha256}")) else (200,)
            assert status in expected, (role, status, text)
            # The operator's metrics are of all tenants, and so is, in the audit log, what belongs to none of them.
            assert B not in text and "globex" not in text.lower() or role == "operator" and route in ("/metrics", "/v1/audit")
    assert call(api, method, route, "operator", named)[0] in ((200,) if route == "/metrics" else (200, 403, 404, 409) if route in OF_NONE or (method, route) == ("GET", "/v1/tokens") else (400,))
    assert call(api, method, route, "operator", query="?tenant=nobody")[0] == 404
    for role in ROLES[ROLES.index(least):3]:
        assert call(api, method, route, f"globex-{role}", query="?tenant=acme")[0] == 404
        if "{" in route and least != "operator" and method != "PUT":  # a policy's name is each tenant's own
            assert call(api, method, route, f"globex-{role}")[0] == 404, "another tenant's"
    for narrow in SCOPES:
        allowed = scope == "any" or (scope == narrow and how == "READS" and least != "operator")  # they are admins'
        if scope != "any":
            assert (call(api, method, route, "scope-" + narrow, named)[0] in (403,)) == (not allowed), narrow


def test_how_long_a_tenants_are_kept_is_the_operators_alone(api):
    """Though the operation is an administrator's; and nobody else's is changed, nor seen."""
    def ask(token, tenant="acme", query="", **retention):
        return api.ask(f"/v1/tenants/{tenant}{query}", token, method="PATCH", json={"retention": retention or None}).status_code

    usual = {"quiet_s": None, "sections_s": None, "history_s": None}
    for token, expected in [(None, 401), ("expired", 401), ("revoked", 401), *((f"acme-{role}", 403) for role in ROLES[:3]),
                            *((f"globex-{role}", 404) for role in ROLES[:3]), *(("scope-" + scope, 403) for scope in SCOPES)]:
        assert ask(token, quiet_s=86400) == ask(token) == expected, token
    assert ask("acme-admin", query="?tenant=globex", quiet_s=86400) == 404
    assert [api.get("/v1/tenants/" + tenant, "operator")["retention"] for tenant in ("acme", "globex")] == [usual, usual]
    assert ask("operator", quiet_s=86400) == 200
    assert [api.get("/v1/tenants/" + tenant, tenant + "-admin")["retention"] for tenant in ("acme", "globex")] == [{**usual, "quiet_s": 86400}, usual]
    assert api.ask("/v1/tenants/acme", "globex-admin").status_code == 404 and api.ask("/v1/tenants/acme", "acme-viewer").status_code == 403
    assert ask("operator") == 200 and api.get("/v1/tenants/acme", "operator")["retention"] == usual


def test_nothing_of_another_tenants_was_touched(api):
    for tenant in "acme", "globex":
        token, named = f"{tenant}-admin", api.things[tenant]
        assert api.get("/v1/policies/" + named["/v1/policies"], token)["title"] == "x"
        assert api.get("/v1/alerts/" + named["/v1/alerts"], token)["state"] in ("open", "acknowledged", "silenced") or tenant == "acme"
        for path in "/v1/maintenance", "/v1/sinks":
            assert named[path] in [str(i["id"]) for i in api.pages(path, token)]
        assert [t["revoked_at"] for t in api.pages("/v1/tokens", token) if str(t["id"]) == named["/v1/tokens"]] == [None]


def absent(named):
    """What nobody has, by the same names."""
    return {**named, "ueid": ueid("nobody", 1), "epoch": "ee" * 8, "sha256": "ee" * 32, "/v1/components": "999999999", "/v1/policies": "of-nobody"} | {
        "/v1/" + kind: "999999999" for kind in ("alerts", "maintenance", "sinks", "tokens", "trust-anchors")}


# Whatever names something of a tenant's. A tenant's policies have names of its own, so that a PUT makes one.
OF_SOMEBODY = [(m, p) for m, p, least, _, _, _ in ROUTES if "{" in p and least not in ("NONE", "OPERATOR") and m != "PUT"] + [("GET", "/v1/diff")]
ROUNDS = int(os.environ.get("FLEETSTATE_TIMED", 5))  # of each path; of one alone 100


class Asking:
    """One path, with the id of another tenant's thing and with nobody's."""

    def __init__(self, api, connection, method, route):
        self.connection, self.method = connection, method
        self.body = json.dumps(BODIES[method, route]).encode() if (method, route) in BODIES else None
        self.headers = {"Authorization": "Bearer " + api.tokens["acme-admin"], **({"Content-Type": "application/json"} if self.body else {})}
        query = "?a={}&b=" + ueid("acme", 1) if route == "/v1/diff" else ""
        self.targets = {who: filled(route, named) + query.format(named["ueid"]) for who, named in (("foreign", api.things["globex"]), ("absent", absent(api.things["globex"])))}

    def ask(self, who, times):
        for _ in range(times):
            self.connection.request(self.method, self.targets[who], self.body, self.headers)
            answer = self.connection.getresponse()
            assert (answer.status, b"not-found" in answer.read()) == (404, True), (self.method, self.targets[who])


def called(api):
    """How often each function of the database was called by the server, which has stopped. What is audited is written in batches, by the clock."""
    with contextlib.closing(psycopg2.connect(api.db.uri("postgres", "fleetstate"))) as db:
        db.autocommit = True
        cursor = db.cursor()

        def rows(text):
            cursor.execute(text)
            return cursor.fetchall()

        await_true(lambda: not rows("SELECT FROM pg_stat_activity WHERE usename = 'fleetstate_api'"), "the server's sessions being over")
        return collections.Counter(dict(rows("SELECT funcname, calls FROM pg_stat_user_functions WHERE funcname NOT LIKE 'audit%'")))


def test_a_foreign_id_is_looked_up_by_the_same_functions_as_an_absent_one(api):
    """Whatever function is called only where a row was found is called with every request for another tenant's."""
    api.db.sql("ALTER DATABASE fleetstate SET track_functions = 'all'", role="postgres")
    calls, times = {}, 20
    for who in "foreign", "absent":
        api.stop()
        before = called(api)
        api.start()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", api.port)) as connection:
            for method, route in OF_SOMEBODY:
                Asking(api, connection, method, route).ask(who, times)
        api.stop()
        calls[who] = called(api)
        calls[who].subtract(before)
        api.start()
    api.db.sql("ALTER DATABASE fleetstate RESET track_functions", role="postgres")
    assert calls["absent"]["tenant_context"] >= times * len(OF_SOMEBODY)
    # A function more a request is `times` more; fewer are a plan made anew, or the clock's.
    unlike = {name: (n, calls["absent"][name]) for name, n in calls["foreign"].items() if abs(n - calls["absent"][name]) >= times}
    assert not unlike, f"foreign and absent: {unlike}"


def used(pids):
    """Nanoseconds of processor time."""
    return sum(int(path.read_text().split()[0]) for pid in pids for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


@pytest.mark.parametrize("paths", [[("GET", "/v1/devices/{ueid}")], OF_SOMEBODY], ids=["one", "all"])
def test_a_foreign_id_takes_no_longer_than_an_absent_one(api, paths):
    """Not the time that passes, which is others' too, but what the server and its sessions use of a processor. A few requests for either are compared
    with those beside them, since how fast a processor is changes; the median of such ratios counts, and what seems to differ is asked for more often."""
    connection, slowest = http.client.HTTPConnection("127.0.0.1", api.port), []
    for method, route in paths:
        asking, ratios = Asking(api, connection, method, route), []
        for who in asking.targets:
            asking.ask(who, 6)  # a session plans the first five times
        for _ in range(12):
            pids = [api.process.pid, *(pid for pid, in api.db.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'fleetstate_api'", role="postgres"))]
            for i in range(100 if len(paths) == 1 else ROUNDS):
                costs = {}
                for who in sorted(asking.targets, reverse=i % 2 == 1):
                    before = used(pids)
                    asking.ask(who, 4)
                    costs[who] = used(pids) - before
                ratios.append(costs["foreign"] / costs["absent"])
            beyond = abs(statistics.median(ratios) - 1)
            if beyond < 0.1:
                break
        slowest.append((beyond, method, route))
    print(sorted(slowest)[-5:])
    assert max(slowest)[0] < 0.1, max(slowest)


def test_filters_that_tell_more_take_its_scope(api):
    both = api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "--scopes", "devices,inventory", "both")
    for query in "component=openssl", "component=openssl&component_version=1":
        assert "devices" in api.problem(403, "forbidden", "/v1/devices?" + query, "scope-devices").json()["detail"]
        assert api.ask("/v1/devices?" + query, both).status_code == 200
    for path in f"/v1/devices/{A}/state", "/v1/devices?where=strict%20$.boot.secure%20==%20false":
        api.problem(403, "forbidden", path, both)


# Tokens.

def test_a_tokens_life(api, described):
    answer = api.ask("/v1/tokens", "acme-admin", method="POST", json={"role": "analyst", "name": "soc", "scopes": ["alerts", "devices"], "expires_at": LATER})
    assert answer.status_code == 201 and re.fullmatch(r"fst_[A-Za-z0-9_-]{43}", answer.json()["token"])
    token, number = answer.json()["token"], answer.json()["id"]
    [listed] = [t for t in api.pages("/v1/tokens", "acme-admin") if t["id"] == number]
    check(listed, {"$ref": "#/components/schemas/Token"}, described)
    assert (listed["tenant"], listed["role"], listed["scopes"], listed["revoked_at"]) == ("acme", "analyst", ["alerts", "devices"], None)
    assert listed["expires_at"][:10] == LATER[:10]
    assert token not in json.dumps(api.pages("/v1/tokens", "acme-admin")) and api.db.one("SELECT count(*) FROM api_token t WHERE t::text LIKE %s", (f"%{token}%",)) == 0
    assert api.ask("/v1/alerts", token).status_code == 200
    assert api.ask(f"/v1/tokens/{number}", "acme-admin", method="DELETE").status_code == 204
    api.problem(401, "unauthorized", "/v1/alerts", token)
    assert [t["revoked_at"] is None for t in api.pages("/v1/tokens", "acme-admin") if t["id"] == number] == [False]


def test_who_may_give_which_token(api):
    def give(token, query="", **body):
        return api.ask("/v1/tokens" + query, token, method="POST", json={"name": "x", **body})

    for refused in {}, {"tenant": "acme"}:
        for query in "", "?tenant=acme":
            answer = give("acme-admin", query, role="operator", **refused)
            assert (answer.status_code, answer.json()["detail"]) == (403, "Only an operator makes an operator's token.")
    for token in "acme-viewer", "acme-analyst":
        assert give(token, role="operator").json()["detail"] == "The role is " + token[5:] + "."
    for role in "viewer", "analyst", "admin", "Operator", None, ["operator"]:
        assert give("operator", role=role).status_code == 400, role
    assert give("operator", "?tenant=nobody", role="operator").status_code == 404
    assert give("operator", role="operator", tenant="nobody").status_code == 404
    assert give("acme-admin", role="viewer", tenant="globex").status_code == 404
    assert give("operator", role="viewer").status_code == 400
    one = give("operator", role="admin", tenant="globex").json()["token"]
    assert api.get("/v1/fleet", one)["tenant"] == "globex"
    assert give("operator", "?tenant=acme", role="viewer", tenant="globex").status_code == 400
    other = give("operator", "?tenant=acme", role="operator").json()
    assert api.get("/v1/fleet?tenant=globex", other["token"])["tenant"] == "globex"
    assert other["id"] in [t["id"] for t in api.pages("/v1/tokens?tenant=acme", "operator")]
    assert other["id"] not in [t["id"] for t in api.pages("/v1/tokens", "acme-admin")]
    api.problem(404, "not-found", f"/v1/tokens/{other['id']}", "acme-admin", method="DELETE")
    assert api.ask(f"/v1/tokens/{other['id']}?tenant=acme", "operator", method="DELETE").status_code == 204


def test_an_operators_token_takes_no_tenant(api):
    made = [api.ask("/v1/tokens" + query, "operator", method="POST", json={"name": "no tenant's", "role": "operator", **body})
            for query, body in (("", {}), ("", {"tenant": "acme"}), ("?tenant=acme", {}), ("", {"scopes": ["fleet"]}))]
    assert [a.status_code for a in made] == [201] * 4
    made = {a.json()["id"]: a.json()["token"] for a in made}
    listed = {t["id"]: t for t in api.pages("/v1/tokens", "operator")}
    assert set(made) <= set(listed) and {(t["tenant"], t["role"]) for t in listed.values()} == {(None, "operator")}
    assert set(listed) < {t["id"] for t in api.pages("/v1/tokens?tenant=acme", "operator")}
    *free, narrow = made.items()
    for number, token in free:
        assert api.get("/v1/fleet?tenant=globex", token)["tenant"] == "globex"
    api.problem(403, "forbidden", "/v1/tokens", narrow[1], method="POST", json={"name": "x", "role": "operator"})
    api.problem(403, "forbidden", f"/v1/tokens/{narrow[0]}", narrow[1], method="DELETE")
    acmes = api.ask("/v1/tokens", "acme-admin", method="POST", json={"name": "x", "role": "viewer"}).json()["id"]
    api.problem(404, "not-found", f"/v1/tokens/{acmes}", "operator", method="DELETE")
    for number, token in made.items():
        api.problem(404, "not-found", f"/v1/tokens/{number}", "acme-admin", method="DELETE")
        assert api.ask(f"/v1/tokens/{number}", "operator", method="DELETE").status_code == 204
        api.problem(401, "unauthorized", "/v1/tenants", token)
    assert {t["id"] for t in api.pages("/v1/tokens", "operator") if t["revoked_at"]} >= set(made)


MAKES = pytest.mark.parametrize("path, body, whose", [
    ("/v1/tokens", {"role": "viewer", "name": "whose"}, "SELECT t.id FROM api_token JOIN tenant t USING (tenant_id) WHERE api_token.name = 'whose'"),
    ("/v1/devices", {"ueid": "01" + "d" * 32}, "SELECT t.id FROM device JOIN tenant t USING (tenant_id) WHERE ueid = decode('01' || repeat('d', 32), 'hex')"),
    ("/v1/trust-anchors", {"name": "whose", "certificate": CA}, "SELECT t.id FROM trust_anchor a JOIN tenant t USING (tenant_id) WHERE a.name = 'whose'")])


@MAKES
@pytest.mark.parametrize("query, said", [("", {"tenant": "whose"}), ("?tenant=whose", {}), ("?tenant=whose", {"tenant": "whose"})])
def test_an_operator_says_whose_it_is(api, path, body, whose, query, said):
    """In the body, by the parameter, or both."""
    api.db.sql("INSERT INTO tenant (id, name) VALUES ('whose', 'x') ON CONFLICT DO NOTHING; DELETE FROM api_token WHERE name = 'whose'; DELETE FROM trust_anchor WHERE name = 'whose';"
               " DELETE FROM device WHERE ueid = decode('01' || repeat('d', 32), 'hex')")
    assert api.ask(path + query, "operator", "POST", json={**body, **said}).status_code == 201
    assert api.db.sql(whose) == [("whose",)]


@MAKES
def test_a_body_and_its_parameter_do_not_contradict(api, path, body, whose):
    before = api.db.sql(whose)
    for query, tenant in ("?tenant=acme", "globex"), ("?tenant=globex", "acme"), ("?tenant=acme", "nobody"), ("?tenant=acme", ""), ("?tenant=acme", "Acme"):
        told = api.problem(400, "bad-body", path + query, "operator", method="POST", json={**body, "tenant": tenant}).json()
        assert told["detail"] == "tenant: not the one that the parameter names."
    api.problem(404, "not-found", path + "?tenant=nobody", "operator", method="POST", json={**body, "tenant": "acme"})
    api.problem(404, "not-found", path, "operator", method="POST", json={**body, "tenant": "nobody"})
    if path != "/v1/trust-anchors":
        api.problem(400, "tenant-required", path, "operator", method="POST", json=body)
        api.problem(400, "bad-body", path + "?tenant=acme", "acme-admin", method="POST", json={**body, "tenant": "globex"})
        api.problem(404, "not-found", path, "acme-admin", method="POST", json={**body, "tenant": "globex"})
    assert api.db.sql(whose) == before


@pytest.mark.parametrize("body", [
    {}, {"role": "viewer"}, {"role": "viewer", "name": ""}, {"role": "root", "name": "x"}, {"role": "viewer", "name": "x" * 256},
    {"role": "viewer", "name": "x", "scopes": []}, {"role": "viewer", "name": "x", "scopes": ["any"]}, {"role": "viewer", "name": "x", "scopes": ["state", 1]},
    {"role": "viewer", "name": "x", "scopes": ["state inventory"]}, {"role": "viewer", "name": "x", "expires_at": "tomorrow"},
    {"role": "viewer", "name": "x", "expires_at": "2001-01-01T00:00:00Z"}, {"role": "viewer", "name": "x", "token": "fst_"}])
def test_bad_tokens(api, body):
    api.problem(400, "bad-body", "/v1/tokens", "acme-admin", method="POST", json=body)


def test_the_command_line_narrows_too(api):
    cli = api.db.cli
    for wrong in "", "any", "state,", "state inventory", "nothing":
        cli("token", "add", "--tenant", "acme", "--role", "viewer", "--scopes", wrong, "x", status=2)
    assert {"state"} == {t["scopes"] for t in json.loads(cli("token", "list", "--json")) if t["name"] == "state"}


# Sessions.

class Browser:
    """As one keeps cookies and sends an Origin."""

    def __init__(self, api, token=None):
        self.url, self.session, self.csrf = f"http://127.0.0.1:{api.port}", requests.Session(), None
        self.cookie = ""
        if token:
            answer = self.session.post(self.url + "/v1/session", headers={"Authorization": "Bearer " + token}, timeout=10)
            assert answer.status_code == 201, answer.text
            self.told, self.csrf, self.set_cookie = answer.json(), answer.json()["csrf"], answer.headers["Set-Cookie"]
            self.cookie = self.set_cookie.split(";")[0]
            self.session.cookies.clear()

    def ask(self, path, method="GET", **headers):
        good = {"Cookie": self.cookie} if method == "GET" else {"Cookie": self.cookie, "Origin": self.url, "Fleetstate-CSRF": self.csrf}
        headers = {k: v for k, v in {**good, **{k.replace("_", "-"): v for k, v in headers.items()}}.items() if v is not None}
        return self.session.request(method, self.url + path, headers=headers, timeout=10, json={"comment": "x"} if path.endswith("comment") else None)


def test_a_session(api, described):
    browser = Browser(api, api.tokens["acme-analyst"])
    attributes = set(browser.set_cookie.split("; ")[1:])
    assert re.fullmatch(r"__Host-fleetstate=fss_[A-Za-z0-9_-]{43}", browser.cookie)
    assert attributes == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age=28800"}
    check(browser.told, {"$ref": "#/components/schemas/Session"}, described)
    assert browser.ask("/v1/session").json() == browser.told
    assert (browser.told["role"], browser.told["tenant"]) == ("analyst", "acme") and 28000 < lasts(api) <= 28800
    assert browser.ask("/v1/fleet").json()["tenant"] == "acme"
    with browser.session.get(browser.url + "/v1/events/stream", headers={"Cookie": browser.cookie}, stream=True, timeout=10) as stream:
        assert stream.status_code == 200
    assert api.db.one("SELECT count(*) FROM api_session s WHERE s::text LIKE %s", (f"%{browser.cookie.split('=')[1]}%",)) == 0
    path = f"/v1/alerts/{api.things['acme']['/v1/alerts']}/comment"
    assert browser.ask(path, "POST").status_code == 200
    closed = browser.ask("/v1/session", "DELETE")
    assert closed.status_code == 204 and "Max-Age=0" in closed.headers["Set-Cookie"]
    assert browser.ask("/v1/fleet").status_code == browser.ask("/v1/session", "DELETE").status_code == 401


def lasts(api):
    return float(api.db.one("SELECT extract(epoch FROM max(expires_at) - now()) FROM api_session"))


def test_what_another_sites_page_can_send(api):
    """The cookie goes with it in an old browser; nothing else does."""
    browser, other = (Browser(api, api.tokens["acme-analyst"]) for _ in range(2))
    path = f"/v1/alerts/{api.things['acme']['/v1/alerts']}/comment"
    origin = f"http://127.0.0.1:{api.port}"
    before = api.db.one("SELECT count(*) FROM alert_note")
    for wrong in ({"Fleetstate_CSRF": None}, {"Fleetstate_CSRF": ""}, {"Fleetstate_CSRF": other.csrf}, {"Fleetstate_CSRF": browser.csrf[:-1]}, {"Origin": None},
                  {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Origin": origin + "0"}, {"Origin": origin + ".evil.example"},
                  {"Origin": "ftp" + origin[4:]}, {"Origin": "http://evil.example://" + origin[7:]}):
        answer = browser.ask(path, "POST", **wrong)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:fleetstate:problem:forged"), wrong
        assert browser.ask("/v1/session", "DELETE", **wrong).status_code == 403
    assert api.db.one("SELECT count(*) FROM alert_note") == before
    assert browser.ask(path, "POST", Origin="https" + origin[4:]).status_code == 200, "TLS may end at a proxy"


def test_each_change_takes_more_than_the_cookie(api):
    """Of every route that is no GET, whatever the role: from another site's page, without our page's value, and with neither."""
    browser = Browser(api, api.tokens["acme-admin"])
    unsafe = [(m, p) for m, p, *_ in ROUTES if m != "GET"]
    assert len(unsafe) > 20
    for method, route in unsafe:
        for wrong in {"Fleetstate_CSRF": None}, {"Origin": "http://evil.example"}, {"Origin": None, "Fleetstate_CSRF": None}:
            answer = browser.ask(filled(route, api.things["acme"]), method, **wrong)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:fleetstate:problem:forged"), (method, route, wrong)
    assert browser.ask("/v1/session").status_code == 200


def test_what_opens_no_session(api):
    browser = Browser(api, api.tokens["acme-admin"])
    assert browser.ask("/v1/session", "POST").status_code == 401, "a session makes no session"
    for cookie in "", "x", "fss_", "fss_" + "A" * 43, api.tokens["acme-admin"], browser.cookie.split("=")[1][:-1]:
        assert browser.ask("/v1/fleet", Cookie="__Host-fleetstate=" + cookie).status_code == 401
    secret = browser.cookie.split("=")[1]
    api.problem(401, "unauthorized", "/v1/fleet", secret)
    api.problem(404, "not-found", "/v1/session", "acme-admin", method="DELETE")
    api.problem(400, "tenant-required", "/v1/session", "operator", method="POST")


def test_a_session_ends(api):
    token = api.ask("/v1/tokens", "acme-admin", method="POST", json={"role": "viewer", "name": "short"}).json()
    by_token, by_time = Browser(api, token["token"]), Browser(api, api.tokens["acme-viewer"])
    assert by_token.ask("/v1/fleet").status_code == by_time.ask("/v1/fleet").status_code == 200
    api.ask(f"/v1/tokens/{token['id']}", "acme-admin", method="DELETE")
    assert by_token.ask("/v1/fleet").status_code == 401
    api.db.sql("UPDATE api_session SET expires_at = now()")
    assert by_time.ask("/v1/fleet").status_code == 401
    for _ in range(101):
        last = Browser(api, api.tokens["acme-viewer"])
    assert last.ask("/v1/fleet").status_code == 200
    assert api.db.one("SELECT count(*) FROM api_session s JOIN api_token k USING (token_id) WHERE k.name = 'acme''s viewer'") == 100


def test_a_narrowed_token_opens_a_narrowed_session(api):
    browser = Browser(api, api.tokens["scope-state"])
    assert browser.ask(f"/v1/devices/{A}/state").status_code == 200 and browser.ask(f"/v1/devices/{A}/inventory").status_code == 403
    assert browser.ask("/v1/session", "DELETE").status_code == 204


# Guessing.

def attempt(api, source, token):
    """Status, and how long it took. `source` as the proxy in front tells it."""
    started = time.monotonic()
    status = requests.get(f"http://127.0.0.1:{api.port}/v1/fleet", headers={"Authorization": "Bearer " + token, "X-Forwarded-For": source}, timeout=30).status_code
    return status, time.monotonic() - started


@pytest.fixture
def guarded(api):
    """With few failures allowed."""
    kept, api.settings = api.settings, ["--http-proxies=1", "--guess-free=3", "--guess-delay=1", "--guess-window=600"]
    restart(api)
    yield api
    api.settings = kept
    restart(api)


def restart(api):
    api.stop()
    api.start()


def guesses(n):
    return ["fst_" + hashlib.sha256(str(i).encode()).hexdigest()[:42] + "A" for i in range(n)]


def delayed(api):
    return int(re.search(r"^fleetstate_sign_ins_delayed_total (\d+)$", api.ask("/metrics").text, re.M)[1])


def wait_of(api, source, token, expected):
    """The status; what was not to be kept back was not, and what was came no earlier than so many seconds."""
    before = delayed(api)
    status, seconds = attempt(api, source, token)
    assert delayed(api) - before == (expected > 0) and seconds >= expected, (source, seconds)
    return status


def test_guesses_are_kept_waiting(guarded):
    api = guarded
    for tokens in guesses(6), ["x" * i for i in range(1, 7)]:  # such as could be good, and others
        source = f"2001:db8:{len(tokens[1])}::1"
        assert {wait_of(api, source, token, s) for token, s in zip(tokens, (0, 0, 0, 0.25, 0.5, 1))} == {401}
    # What is good is not kept waiting, nor is anybody else; nor does the header tell what the proxy did not hear.
    wait_of(api, "2001:db8:47::1", api.tokens["acme"], 0)
    wait_of(api, "2001:db8:99::1", guesses(9)[8], 0)
    wait_of(api, "192.0.2.7, 2001:db8:47::2", guesses(10)[9], 1)  # the same network
    wait_of(api, "2001:db8:47::1, 192.0.2.7", guesses(11)[10], 0)


def test_one_token_guessed_at_from_everywhere(guarded):
    for i, (token, s) in enumerate(zip(guesses(6), (0, 0, 0, 0.25, 0.5, 1))):
        wait_of(guarded, f"203.0.113.{i}", "fst_AbCdEf" + token[10:], s)


def test_who_waits_holds_up_nobody_and_the_end(guarded):
    api = guarded
    # They wait three times as long as anything else here may take.
    api.settings.remove("--guess-delay=1")
    api.settings.append("--guess-delay=60")
    restart(api)
    sockets = []
    for token in guesses(40):
        s = socket.create_connection(("127.0.0.1", api.port), 10)
        s.sendall(f"GET /v1/fleet HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        sockets.append(s)
    await_true(lambda: delayed(api) > 30, "most of them waiting")
    assert api.ask("/v1/fleet").status_code == 200
    api.process.terminate()
    assert api.process.wait(PATIENCE) == 0, "the end waits for nobody"
    for s in sockets:
        s.close()
    api.start()


def test_no_credential_is_no_guess(guarded):
    before = delayed(guarded)
    for _ in range(8):
        guarded.problem(401, "unauthorized", "/v1/fleet", None)
    assert delayed(guarded) == before


# The audit log.

def written(api):
    """All that was noted is in the log then."""
    restart(api)
    return [json.loads(line) for (line,) in api.db.sql("SELECT line FROM audit ORDER BY number")]


def test_who_read_what_and_from_where(api, described):
    started = len(written(api))
    for _ in range(5):
        api.ask(f"/v1/devices/{A}", "acme-viewer", source="198.51.100.9")
    api.ask("/v1/devices?limit=1&cursor=" + api.get("/v1/devices?limit=1", "acme-viewer")["next"], "acme-viewer")
    api.ask(f"/v1/devices/{B}/state", "acme-viewer")
    api.ask("/v1/fleet?tenant=globex", "operator")
    api.ask("/v1/sinks", "acme-viewer")
    for token in "revoked", "fst_QrStUv" + "A" * 37, "secret words":
        api.ask("/v1/fleet", token)
    api.ask("/v1/fleet", None)
    browser = Browser(api, api.tokens["acme-analyst"])
    browser.ask("/v1/policies")
    log = [e for e in written(api)[started:]]
    number = {t["name"]: t["number"] for t in json.loads(api.db.cli("token", "list", "--json"))}

    def of(**wanted):
        return [e for e in log if all(e.get(k) == v for k, v in wanted.items())]

    [one] = of(target=f"/v1/devices/{A}")
    assert (one["who"], one["role"], one["token"], one["tenant"]) == ("acme's viewer", "viewer", number["acme's viewer"], "acme")
    assert (one["kind"], one["method"], one["status"], one["times"], one["address"]) == ("read", "GET", 200, 5, "198.51.100.9")
    assert of(target="/v1/devices?limit=1", times=2) and of(target=f"/v1/devices/{B}/state", status=404, tenant="acme")
    assert of(target="/v1/fleet?tenant=globex", tenant="globex", role="operator")
    assert of(target="/v1/sinks", kind="refused", status=403, who="acme's viewer")
    assert of(kind="refused", status=401, who="revoked", tenant="acme")
    assert [(e["tenant"], e["credential"]) for e in of(kind="refused", status=401) if "who" not in e] == [(None, "fst_QrStUv"), (None, "-")]
    assert of(target="/v1/policies", who="acme's analyst")[0]["session"] > 0
    assert len(log) == 10, log  # the session's opening is one; no credential, no entry
    assert [t["last_used_at"] is not None for t in api.pages("/v1/tokens", "acme-admin") if t["name"] in ("acme's viewer", "revoked")] == [True, False]
    text = json.dumps(log)
    assert not any(secret in text for secret in api.tokens.values()) and browser.cookie[18:30] not in text
    items = api.pages("/v1/audit", "acme-admin")
    for item in items:
        check(item, {"$ref": "#/components/schemas/AuditEntry"}, described)
    assert {i["tenant"] for i in items} == {"acme"} and [i["number"] for i in items] == sorted((i["number"] for i in items), reverse=True)
    assert {i["tenant"] for i in api.pages("/v1/audit?tenant=globex", "operator")} == {"globex", None}
    assert {i["kind"] for i in api.pages("/v1/audit?kind=refused", "acme-admin")} == {"refused"}
    assert api.get("/v1/audit?since=2099-01-01T00:00:00Z", "acme-admin")["items"] == []
    for wrong in "kind=x", "since=yesterday", "until=1":
        api.problem(400, "bad-parameter", "/v1/audit?" + wrong, "acme-admin")


def test_nobodys_tenant_stops_the_log(api):
    """What is no tenant's name is not written down: cut in the middle of a character it would be a text that PostgreSQL never takes."""
    started, tenants = len(written(api)), ["a" * 62 + "%C3%A9", "a" * 64, "%F0%9F%98%80", "A", "a%27"]
    for tenant in tenants:
        api.problem(401, "unauthorized", "/v1/fleet?tenant=" + tenant, "x")
    log = written(api)[started:]
    assert sum(e.get("times", 1) for e in log) == len(tenants) and {(e["status"], e["tenant"]) for e in log} == {(401, None)}
    api.problem(400, "bad-parameter", "/v1/audit?since=2026-01-01T00:00:00%2B99:99", "acme-admin")


def test_a_change_is_there_with_its_entry(api):
    name = "logged"
    number = api.ask("/v1/tokens", "acme-admin", method="POST", json={"role": "viewer", "name": name}).json()["id"]
    entry = api.get("/v1/audit?limit=1", "acme-admin")["items"][0]  # at once
    assert (entry["kind"], entry["method"], entry["target"], entry["who"], entry["address"]) == ("change", "POST", "/v1/tokens", "acme's admin", "127.0.0.1")
    told = api.db.sql("SELECT data FROM event WHERE type = 'audit.change' ORDER BY event_id DESC LIMIT 1")[0][0]
    assert (told["number"], told["who"], told["target"]) == (entry["number"], "acme's admin", "/v1/tokens")
    assert not {"address", "token", "session"} & set(told), "viewers read the feed"
    before = api.db.one("SELECT number FROM audit_head")
    api.db.sql("ALTER TABLE audit ADD CONSTRAINT no CHECK (number <= %s)", (before,))
    try:
        api.problem(500, "internal", f"/v1/tokens/{number}", "acme-admin", method="DELETE")
    finally:
        api.db.sql("ALTER TABLE audit DROP CONSTRAINT no")
    assert api.db.one("SELECT revoked_at IS NULL FROM api_token WHERE token_id = %s", (number,)) and api.db.one("SELECT number FROM audit_head") == before
    assert api.ask(f"/v1/tokens/{number}", "acme-admin", method="DELETE").status_code == 204


def test_the_command_lines_changes_are_there_too(api):
    def last():
        return json.loads(api.db.sql("SELECT line FROM audit ORDER BY number DESC LIMIT 1")[0][0])

    api.db.cli("token", "add", "--role", "viewer", "--tenant", "acme", "by hand\x1b[2J")
    assert (last()["kind"], last()["tenant"], last()["target"]) == ("command", "acme", "token add --role viewer --tenant acme by hand?[2J")
    assert last()["who"].endswith(" (command line)")
    entries = api.db.one("SELECT number FROM audit_head")
    api.db.cli("token", "list")
    api.db.cli("device", "approve", A, status=1)  # it does not wait
    api.db.cli("tenant", "add", "acme", "again", status=1)
    assert api.db.one("SELECT number FROM audit_head") == entries
    assert json.loads(api.db.cli("audit", "--log", "--json"))["findings"] == 0


def test_more_than_can_be_kept_is_said_so(api):
    written(api)
    connection = http.client.HTTPConnection("127.0.0.1", api.port)
    for i, token in enumerate(guesses(300)):
        connection.request("GET", "/v1/fleet", headers={"Authorization": "Bearer " + token, "X-Forwarded-For": f"203.0.113.{i % 250}"})
        connection.getresponse().read()
    log = written(api)
    assert sum(e["times"] if "times" in e else 1 for e in log if e["kind"] == "lost") >= 1
    assert "audit_entries_lost" in api.ask("/metrics").text
