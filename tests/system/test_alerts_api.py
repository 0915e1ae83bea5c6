"""Alerts over HTTP: what is listed and how, what people may do to them and who sees it; maintenance windows."""

import concurrent.futures
import csv
import io

import psycopg2
import pytest

from parts import await_true
from test_api import B, A, Api, check, described, ueid  # noqa: F401
from test_api_writes import LATER

N = 12  # alerts of acme's devices, one each


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("alerts")
    api = Api(directory, devices=20)
    for tenant in "acme", "globex":
        for role in "analyst", "admin":
            api.tokens[f"{tenant}-{role}"] = api.db.cli("token", "add", "--tenant", tenant, "--role", role, f"{tenant}'s {role}")
    api.opened = [opened(api, "acme", i, ["silent", "fork", "certificate-ending"][i % 3]) for i in range(N)]
    api.foreign = opened(api, "globex", 0, "fork")
    [(api.group,)] = api.db.sql("INSERT INTO alert (tenant_id, policy_id, devices, devices_most) SELECT t.tenant_id, p.policy_id, 2, 5"
                                " FROM tenant t, policy p WHERE t.id = 'acme' AND p.id = 'verification' RETURNING alert_id")
    api.members = [opened(api, "acme", i, "verification", api.group) for i in (14, 15)]
    api.system, api.operators = [api.db.one("INSERT INTO alert (tenant_id, policy_id, reasons) SELECT 0, policy_id, '{\"a secret\"}' FROM policy"
                                            " WHERE id = %s RETURNING alert_id", (policy,)) for policy in ("broker", "disk")]
    api.db.sql("CREATE TABLE public.alert_before AS TABLE alert")
    yield api
    api.close()


@pytest.fixture
def put_back(api):
    """What the test does to alerts, and those that it opens, are no other's."""
    yield
    api.db.sql("DELETE FROM alert_note; DELETE FROM alert; INSERT INTO alert OVERRIDING SYSTEM VALUE TABLE public.alert_before")


def opened(api, tenant, i, policy, group=None):
    return api.db.one("INSERT INTO alert (device_id, tenant_id, policy_id, group_id, reasons) SELECT d.device_id, d.tenant_id, p.policy_id, %s, '{because}'"
                      " FROM device d, policy p WHERE d.ueid = decode(%s, 'hex') AND p.id = %s RETURNING alert_id", (group, ueid(tenant, i), policy))


def ids(api, query="", token="acme"):
    return [a["id"] for a in api.get("/v1/alerts" + query, token)["items"]]


def do(api, path, body, token="acme-analyst"):
    return api.ask("/v1/alerts/" + path, token, method="POST", json=body)


def test_answers_are_as_described(api, described):
    for path, at in (("/v1/alerts", "/v1/alerts"), ("/v1/devices/{ueid}/alerts", f"/v1/devices/{A}/alerts"), ("/v1/alerts/{id}", f"/v1/alerts/{api.group}"),
                     ("/v1/maintenance", "/v1/maintenance"), ("/v1/fleet", "/v1/fleet")):
        answer = api.get(at)
        schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(answer) <= check(answer, schema, described)
    for alert in api.get("/v1/alerts")["items"]:
        assert set(alert) <= check(alert, described["components"]["schemas"]["Alert"], described)


def test_newest_first_each_once(api):
    top = [api.system, api.group, *reversed(api.opened)]
    assert ids(api) == top
    assert [a["id"] for a in api.pages("/v1/alerts?limit=3")] == top
    assert ids(api, token="globex") == [api.system, api.foreign]
    group = api.get(f"/v1/alerts/{api.group}")
    assert "ueid" not in group and (group["scope"], group["devices"], group["devices_most"]) == ("group", 2, 5)
    assert "ueid" not in api.get(f"/v1/alerts/{api.system}") and api.get(f"/v1/alerts/{api.opened[0]}")["ueid"] == ueid("acme", 0)


def test_filters(api):
    of = {p: list(reversed(api.opened[i::3])) for i, p in enumerate(["silent", "fork", "certificate-ending"])}
    assert ids(api, "?policy=fork") == of["fork"]
    assert ids(api, "?severity=medium") == of["certificate-ending"]
    assert ids(api, "?severity=medium,high&state=open,resolved") == sorted(of["certificate-ending"] + of["silent"], reverse=True)
    assert ids(api, "?state=open") == ids(api) and ids(api, "?state=resolved") == ids(api, "?state=silenced") == []
    assert ids(api, "?ueid=" + ueid("acme", 4)) == [api.opened[4]]
    assert ids(api, "?ueid=" + ueid("acme", 14)) == [api.members[0]], "under a group too"
    assert ids(api, f"?group={api.group}") == api.members[::-1]
    assert ids(api, "?model=model-1&policy=verification") == [m for m, i in zip(api.members, (14, 15)) if (i + 1) % 3 == 1]
    assert ids(api, "?since=2999-01-01T00:00:00Z") == [] and ids(api, "?since=2001-01-01T00:00:00%2B01:00") == ids(api)
    assert [a["id"] for a in api.get(f"/v1/devices/{ueid('acme', 4)}/alerts")["items"]] == [api.opened[4]]
    # Another's is not there, whatever one asks for.
    assert ids(api, "?ueid=" + B) == ids(api, "?policy=nothing") == ids(api, "?model=%27") == []


@pytest.mark.parametrize("query", ["state=", "state=closed", "state=open,", "state=open,,resolved", "state=OPEN", "severity=", "severity=severe", "severity=high;low",
                                   "format=xml", "format=", "format=CSV", "since=", "since=yesterday", "since=now", "since=2026-01-01", "since=2026-01-01T00:00:00",
                                   "since=2026-13-01T00:00:00Z", "since=2026-02-30T00:00:00Z", "since=infinity", "ueid=1", "ueid=", "group=0", "group=x", "group=-1", "limit=0"])
def test_bad_filters(api, query):
    api.problem(400, "bad-parameter", "/v1/alerts?" + query)
    api.problem(400, "unknown-parameter", f"/v1/alerts/{api.group}?state=open")


def test_cursors_are_bound(api):
    cursor = api.get("/v1/alerts?limit=1&severity=high")["next"]
    for query in "", "&severity=low", "&severity=high&state=open", "&severity=high&format=csv":
        api.problem(400, "bad-cursor", f"/v1/alerts?cursor={cursor}{query}")
    api.problem(400, "bad-cursor", f"/v1/alerts?cursor={cursor}&severity=high", "globex")


@pytest.mark.parametrize("path", ["{foreign}", "999999999", "0", "-1", "x", "01", "99999999999999999999", "1.5"])
def test_what_is_not_there(api, path):
    path = path.format(foreign=api.foreign)
    nothing = api.problem(404, "not-found", "/v1/alerts/424242").content
    assert api.problem(404, "not-found", "/v1/alerts/" + path).content == nothing
    for action, body in (("acknowledge", {}), ("silence", {"until": LATER}), ("resolve", {}), ("comment", {"comment": "x"})):
        assert api.problem(404, "not-found", f"/v1/alerts/{path}/{action}", "acme-analyst", method="POST", json=body).content == nothing
    assert api.get(f"/v1/alerts/{api.foreign}", "globex")["state"] == "open" and api.get(f"/v1/alerts/{api.foreign}", "globex")["notes"] == []
    api.problem(404, "not-found", f"/v1/devices/{B}/alerts")


def test_the_systems_own_are_an_operators(api, put_back):
    """A tenant hears that the service is impaired: not why, nor who deals with it, nor of what does not touch it."""
    for action, body in (("acknowledge", {}), ("silence", {"until": LATER}), ("resolve", {}), ("comment", {"comment": "x"})):
        api.problem(403, "forbidden", f"/v1/alerts/{api.system}/{action}", "acme-admin", method="POST", json=body)
        api.problem(404, "not-found", f"/v1/alerts/{api.operators}/{action}", "acme-admin", method="POST", json=body)
    assert do(api, "acknowledge", {"ids": [api.system, api.operators]}, "acme-admin").json() == {"ids": [], "changed": 0}
    everything = api.get("/v1/alerts?tenant=globex", "operator")["items"]
    assert [(a["id"], a["reasons"]) for a in everything] == [(api.operators, ["a secret"]), (api.system, ["a secret"]), (api.foreign, ["because"])]
    critical = api.get("/v1/fleet?tenant=globex", "operator")["alerts"]["critical"]
    assert api.get("/v1/fleet", "globex")["alerts"]["critical"] == critical - 1
    told = do(api, f"{api.system}/acknowledge?tenant=acme", {"comment": "mine"}, "operator").json()
    assert (told["state"], told["acknowledged_by"], told["comment"], len(told["notes"])) == ("acknowledged", "test", "mine", 1)
    seen = api.get(f"/v1/alerts/{api.system}", "globex")
    assert (seen["state"], seen["scope"], seen["policy"], seen["title"]) == ("acknowledged", "system", "broker", told["title"])
    assert (seen["acknowledged_by"], seen["comment"], seen["reasons"], seen["notes"]) == (None, None, [], [])
    api.problem(404, "not-found", f"/v1/alerts/{api.operators}", "globex")
    assert "secret" not in api.ask("/v1/alerts?format=csv", "globex").text
    api.db.sql("SELECT number_events()", role="fleetstate_ingest")
    for tenant in "acme", "globex":
        events = [e for e in api.get("/v1/events?limit=1000", tenant)["items"] if e["data"].get("alert") in (api.system, api.operators)]
        assert [(e["type"], e["data"]["reasons"], e["data"].get("by")) for e in events] == [("alert.acknowledged", [], None)]


@pytest.mark.parametrize("action, body", [
    ("acknowledge", {"comment": 1}), ("acknowledge", {"comment": "x" * 4097}), ("acknowledge", {"comment": "\u00e9" * 4097}), ("acknowledge", {"until": LATER}),
    ("acknowledge", {"ids": [1]}), ("acknowledge", {"who": "me"}), ("silence", {}), ("silence", {"until": None}), ("silence", {"until": "tomorrow"}),
    ("silence", {"until": "infinity"}), ("silence", {"until": "9999-01-01T00:00:00Z"}), ("silence", {"until": 3600}), ("silence", {"until": "2026-02-30T00:00:00Z"}),
    ("silence", {"until": "2036-01-01T00:00:00Z"}), ("resolve", {"comment": {}}), ("resolve", {"state": "resolved"}), ("comment", {}), ("comment", {"comment": ""}), ("comment", {"comment": None}),
])
def test_bad_bodies(api, action, body):
    answer = do(api, f"{api.opened[0]}/{action}", body)
    assert answer.status_code == 400 and answer.json()["type"].split(":")[-1] in ("bad-body", "bad-parameter"), answer.text
    assert api.get(f"/v1/alerts/{api.opened[0]}")["notes"] == []


@pytest.mark.parametrize("body", [{}, {"ids": [1], "filter": {}}, {"ids": ["1"]}, {"ids": [0]}, {"ids": [-1]}, {"ids": [1.5]}, {"ids": [[1]]}, {"ids": 1}, {"ids": None},
                                  {"ids": list(range(1, 1002))}, {"filter": []}, {"filter": "all"}, {"filter": {"colour": "red"}}, {"filter": {"policy": 1}},
                                  {"filter": {"severity": "hgih"}}, {"filter": {"severity": "high,low"}}, {"filter": {"severity": 1}}, {"filter": {"severity": ""}}, {"filter": {"state": "closed"}},
                                  {"filter": {"policy": None}}, {"ids": [2**63]}, {"ids": [1], "colour": "red"}, {"ids": [1], "comment": 1}])
def test_bad_bulk_bodies(api, body):
    before = api.db.sql("SELECT count(*), max(acknowledged_at) FROM alert, alert_note")
    assert do(api, "acknowledge", body).status_code == 400
    assert do(api, "silence", {**body, "until": LATER}).status_code == 400
    assert do(api, "silence", {"ids": [1]}).status_code == 400, "until when?"
    assert api.db.sql("SELECT count(*), max(acknowledged_at) FROM alert, alert_note") == before


def test_an_alerts_life(api, described, put_back):
    one, other = api.opened[1], api.opened[2]
    answer = do(api, f"{one}/acknowledge", {"comment": "mine"})
    alert = answer.json()
    assert set(alert) <= check(alert, described["components"]["schemas"]["AlertWithNotes"], described)
    assert (answer.status_code, alert["state"], alert["acknowledged_by"], alert["comment"]) == (200, "acknowledged", "acme's analyst", "mine")
    soon = api.db.one("SELECT rfc3339(now() + interval '1 hour')")
    alert = do(api, f"{one}/silence", {"until": soon}).json()
    assert (alert["state"], alert["silenced_until"], alert["comment"]) == ("silenced", soon, "mine")
    assert do(api, f"{one}/silence", {"until": "2001-01-01T00:00:00Z"}).json()["state"] == "acknowledged", "the silence is over"
    alert = do(api, f"{one}/comment", {"comment": "<b>seen</b>\n=1+1"}).json()
    assert [n["action"] for n in alert["notes"]] == ["acknowledge", "silence", "silence", "comment"]
    assert alert["notes"][-1] == {"at": alert["notes"][-1]["at"], "who": "acme's analyst", "action": "comment", "comment": "<b>seen</b>\n=1+1"}
    assert api.get(f"/v1/alerts/{one}") == alert
    before = api.get("/v1/fleet")["alerts"]
    resolved = api.session.post(f"http://127.0.0.1:{api.port}/v1/alerts/{one}/resolve", timeout=20, headers={"Authorization": "Bearer " + api.tokens["acme-analyst"]})
    assert (resolved.status_code, resolved.json()["state"], resolved.json()["resolved_by"]) == (200, "resolved", "acme's analyst"), "without a body"
    assert api.get("/v1/fleet")["alerts"] == {**before, "critical": before["critical"] - 1}
    assert one not in ids(api, "?state=open,acknowledged,silenced") and ids(api, "?state=resolved") == [one]
    for action, body in (("acknowledge", {}), ("silence", {"until": soon}), ("resolve", {})):
        api.problem(409, "conflict", f"/v1/alerts/{one}/{action}", "acme-analyst", method="POST", json=body)
    assert do(api, f"{one}/comment", {"comment": "afterwards"}).status_code == 200
    api.db.sql("SELECT number_events()", role="fleetstate_ingest")
    told = [e for e in api.get("/v1/events?limit=1000")["items"] if e["data"].get("alert") == one]
    assert [e["type"] for e in told] == ["alert.acknowledged", "alert.silenced", "alert.silenced", "alert.commented", "alert.resolved", "alert.commented"]
    assert {e["ueid"] for e in told} == {ueid("acme", 1)} and not [e for e in api.get("/v1/events?limit=1000", "globex")["items"] if e["data"].get("alert") == one]
    assert api.get(f"/v1/alerts/{other}")["state"] == "open"


def test_many_at_once(api, put_back):
    some, over = api.opened[4:7], api.opened[7]
    assert do(api, f"{over}/resolve", {}).status_code == 200
    answer = do(api, "acknowledge", {"ids": [*some, over, api.foreign, 424242], "comment": "a roll-out"}).json()
    assert answer == {"ids": sorted(some), "changed": 3}, "neither the resolved one, nor another's, nor what is not there"
    assert ids(api, "?state=acknowledged&policy=fork") == [i for i in reversed(api.opened[1::3]) if i in some]
    soon = api.db.one("SELECT rfc3339(now() + interval '1 hour')")
    silent = do(api, "silence", {"filter": {"policy": "silent"}, "until": soon}).json()
    assert silent["ids"] == sorted(api.opened[0::3])
    assert api.get(f"/v1/alerts/{api.foreign}", "globex")["state"] == "open"
    assert do(api, "acknowledge", {"filter": {"policy": "nothing"}}).json() == {"ids": [], "changed": 0}
    assert do(api, "acknowledge", {"ids": []}).json() == {"ids": [], "changed": 0}
    # A group stands for its members.
    assert do(api, f"{api.group}/acknowledge", {}).json()["state"] == "acknowledged"
    assert {a["state"] for a in api.get(f"/v1/alerts?group={api.group}")["items"]} == {"acknowledged"}


FORMULAE = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "  =1", '"=1', "=HYPERLINK(\"http://x\",\"y\")", "a,b", 'a"b', "a\nb", "\u00e9\u4e2d"]


def test_csv(api, put_back):
    alert = api.opened[8]
    for text in FORMULAE:
        assert do(api, f"{alert}/comment", {"comment": text}).status_code == 200
        answer = api.ask(f"/v1/alerts?format=csv&ueid={ueid('acme', 8)}")
        assert answer.headers["Content-Type"].startswith("text/csv; charset=utf-8") and answer.content.count(b"\r\n") >= 2
        [row] = csv.DictReader(io.StringIO(answer.content.decode(), newline=""))
        bare = text.lstrip(" ")
        assert row["comment"] == ("'" + text if bare[0] in "=+-@\t\r" else text), text
        assert (row["id"], row["policy"], row["reasons"], row["resolved_at"]) == (str(alert), "certificate-ending", "because", "")
    whole, path = [], "/v1/alerts?format=csv&limit=5"
    while path:
        answer = api.ask(path)
        whole += [int(r["id"]) for r in csv.DictReader(io.StringIO(answer.content.decode(), newline=""))]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert whole == ids(api)
    assert api.ask(f"/v1/devices/{ueid('acme', 19)}/alerts?format=csv").text.count("\r\n") == 1, "the head alone"


def window(api, token="acme-analyst", **body):
    return api.ask("/v1/maintenance", token, method="POST", json=body)


def test_maintenance(api, described):
    until = api.db.one("SELECT rfc3339(now() + interval '1 day')")
    made = window(api, title="roll-out 1.4", until=until, scope={"model": ["model-1"], "ueid": [A]})
    assert made.status_code == 201, made.text
    got = made.json()
    assert set(got) <= check(got, described["components"]["schemas"]["Maintenance"], described)
    assert (got["made_by"], got["until"], got["scope"]) == ("acme's analyst", until, {"model": ["model-1"], "ueid": [A]})
    assert made.headers["Location"] == f"/v1/maintenance/{got['id']}"
    assert api.get("/v1/maintenance")["items"] == [got] and api.get("/v1/maintenance", "globex")["items"] == []
    api.problem(404, "not-found", made.headers["Location"], "globex-admin", method="DELETE")
    for number in "0", "x", "424242", "-1":
        api.problem(404, "not-found", "/v1/maintenance/" + number, "acme-analyst", method="DELETE")
    assert api.ask(made.headers["Location"], "acme-analyst", method="DELETE").status_code == 204
    api.problem(404, "not-found", made.headers["Location"], "acme-analyst", method="DELETE")
    assert api.get("/v1/maintenance")["items"] == []


@pytest.mark.parametrize("body", [{}, {"title": "x"}, {"title": "", "until": LATER}, {"title": "x", "until": "never"}, {"title": "x", "until": "2001-01-01T00:00:00Z"},
                                  {"title": "x", "until": "2036-01-01T00:00:00Z"}, {"title": "x", "from": LATER, "until": LATER}, {"title": "x", "until": 7},
                                  {"title": "x", "until": "tomorrow", "scope": []}, {"title": "x", "until": LATER, "scope": {"colour": ["x"]}},
                                  {"title": "x", "until": LATER, "scope": {"ueid": ["x"]}}, {"title": "x", "colour": "red", "until": LATER}])
def test_bad_windows(api, body):
    assert window(api, **body).status_code == 400
    assert api.get("/v1/maintenance")["items"] == []


def test_who_collides_with_another_is_told_to_ask_again(api, put_back):
    """Whoever the database ends for a deadlock: nothing was done."""
    alert = opened(api, "acme", 16, "fork")
    before = api.get(f"/v1/alerts/{alert}")
    uri = api.db.uri("postgres")

    def await_blocked(pid):
        await_true(lambda: api.db.one("SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (pid,)) == 1, "a wait")

    # The one who waits last finds the circle and is ended.
    with psycopg2.connect(uri) as gate, psycopg2.connect(uri) as c, c.cursor() as cursor, concurrent.futures.ThreadPoolExecutor(2) as pool:
        gate.cursor().execute("SELECT fleetstate.lock_alerts()")
        cursor.execute("SET deadlock_timeout = '60s'; SELECT FROM fleetstate.alert WHERE alert_id = %s FOR UPDATE", (alert,))
        answer = pool.submit(do, api, f"{alert}/resolve", {})
        await_blocked(gate.info.backend_pid)
        [(asked,)] = api.db.sql("SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (gate.info.backend_pid,))
        waiting = pool.submit(cursor.execute, "SELECT FROM fleetstate.device_verdict FOR UPDATE")
        await_blocked(asked)
        gate.rollback()
        problem = answer.result()
        waiting.result()
    assert (problem.status_code, problem.headers["Retry-After"], problem.json()["type"]) == (503, "1", "urn:fleetstate:problem:unavailable"), problem.text
    assert "Ask again" in problem.json()["detail"] and api.get(f"/v1/alerts/{alert}") == before
    assert do(api, f"{alert}/resolve", {}).status_code == 200


def test_alerts_outlive_their_policy(api, put_back):
    """So that its name is none to refuse here, where a list of devices does."""
    policy = {"title": "Gone soon", "severity": "low", "when": "strict $.n == 1", "remediation": "None."}
    assert api.ask("/v1/policies/gone-soon", "acme-admin", method="PUT", json=policy).status_code == 201
    alert = opened(api, "acme", 17, "gone-soon")
    assert api.ask("/v1/policies/gone-soon", "acme-admin", method="DELETE").status_code == 204
    assert ids(api, "?policy=gone-soon") == [alert] and ids(api, "?policy=gone-soon", "globex") == ids(api, "?policy=Gone%20Soon") == []
    assert [a["id"] for a in api.get(f"/v1/devices/{ueid('acme', 17)}/alerts?policy=gone-soon")["items"]] == [alert]
    api.problem(400, "bad-parameter", "/v1/devices?policy=gone-soon")
