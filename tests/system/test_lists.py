"""Lists of devices: filters, orders, members, and pages while the fleet changes. What a page should have is computed here, from the whole list."""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import random
import urllib.parse

import psycopg2
import pytest

from parts import Database, await_true
from test_api import A, Api, ueid

DEVICES = 400
POSTURES = ["untrusted", "silent", "degraded", "unknown", "operational"]
SORTS = ["enrolled", "ueid", "serial", "model", "firmware", "posture", "posture_since", "first_seen", "last_seen"]
# Every sixth has neither said what it is nor been heard; every seventh is labelled.
SEED = """
UPDATE device SET serial = CASE WHEN device_id %% 6 > 0 THEN (ARRAY['Z-', 'a-', 'Ä-', '%%', 'x_'])[1 + device_id %% 5] || device_id * 7919 %% 1201 END,
	hwmodel = CASE WHEN device_id %% 6 > 0 THEN hwmodel END, swversion = CASE WHEN device_id %% 6 > 0 THEN swversion END,
	labels = CASE WHEN device_id %% 7 = 0 THEN ARRAY['site=s' || device_id %% 3, 'owner=x'] ELSE '{}' END,
	posture_since = '2026-01-01T00:00:00Z'::timestamptz + (device_id * 104729 %% 100) * interval '1 hour',
	first_seen = CASE WHEN device_id %% 6 > 0 THEN '2025-01-01T00:00:00Z'::timestamptz + (device_id * 7919 %% 1000) * interval '1 hour' END,
	lifecycle = CASE WHEN device_id %% 50 = 1 THEN 'retired' ELSE lifecycle END, described_at = NULL;
UPDATE device_hot SET last_seen = CASE WHEN device_id %% 6 > 0 THEN '2026-02-01T00:00:00Z'::timestamptz + (device_id * 104729 %% 300) * interval '1 s' END;
INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256(device_id::text::bytea), sha256(('i' || device_id %% 3)::bytea),
	jsonb_build_object('boot', CASE WHEN device_id %% 4 = 0 THEN '{}' ELSE jsonb_build_object('secure', device_id %% 4 = 1) END, 'n', device_id) FROM device
	WHERE device_id %% 6 > 0;
WITH c AS (INSERT INTO component (tenant_id, digest, type, name, version) SELECT t.tenant_id, sha256((n || v)::bytea), 'dpkg', n, v
	FROM tenant t, (VALUES ('all', '1'), ('all', '2'), ('some', '1'), ('some', '2')) x (n, v) WHERE t.id = 'acme' RETURNING *),
i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(('i' || n)::bytea), 3 FROM tenant, generate_series(0, 2) n WHERE id = 'acme' RETURNING *)
INSERT INTO inventory_component SELECT i.inventory_id, c.component_id, i.tenant_id FROM i, c
	WHERE c.name = 'all' OR (c.version = '1' AND i.digest = sha256('i0')) OR (c.version = '2' AND i.digest = sha256('i1'));
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lists")
    api = Api(directory, DEVICES, told=False)
    api.db.sql(SEED, {})
    yield api
    api.close()


def whole(api, token="acme", query=""):
    return [json.loads(line) for line in api.ask("/v1/devices?format=ndjson&" + query, token).content.splitlines()]


@pytest.fixture(scope="module")
def listed(api):
    """As long as nothing changes."""
    return whole(api)


def key(sort):
    """The place of a device in an order, as openapi.yaml says it, but for that of enrolment, which settles equals."""
    member = {"model": "hwmodel", "firmware": "swversion"}.get(sort, sort)
    return {"enrolled": lambda d: 0, "posture": lambda d: POSTURES.index(d["posture"]), "first_seen": lambda d: d["first_seen"] or "~",
            }.get(sort, lambda d: (d[member] or "").encode())


def ordered(devices, sort):
    by = key(sort.lstrip("-"))
    return sorted(devices, key=by) if sort[0] != "-" else sorted(reversed(devices), key=by, reverse=True)


@pytest.mark.parametrize("sort", [way + name for name in SORTS for way in ("", "-")])
def test_every_order_is_whole(api, listed, sort):
    assert api.pages(f"/v1/devices?sort={sort}&limit=97") == ordered(listed, sort)


@pytest.fixture(scope="module")
def numbers(api):
    """What SEED goes by."""
    return dict(api.db.sql("SELECT encode(ueid, 'hex'), device_id FROM device"))


def contains(d, q):
    return q in "\n".join(filter(None, [d["ueid"], d["serial"], d["hwmodel"], d["swname"], d["swversion"], *d["labels"]])).lower()


FILTERS = [
    ("posture=degraded", lambda d, i: d["posture"] == "degraded"),
    ("posture=silent,untrusted", lambda d, i: d["posture"] in ("silent", "untrusted")),
    ("lifecycle=retired", lambda d, i: d["lifecycle"] == "retired"),
    ("lifecycle=pending,active", lambda d, i: d["lifecycle"] in ("pending", "active")),
    ("model=model-2", lambda d, i: d["hwmodel"] == "model-2"),
    ("model=", lambda d, i: d["hwmodel"] is None),
    ("model=model-1&firmware=1.3&posture=unknown,operational", lambda d, i: (d["hwmodel"], d["swversion"]) == ("model-1", "1.3") and d["posture"] in ("unknown", "operational")),
    ("firmware=1.0&lifecycle=active", lambda d, i: (d["swversion"], d["lifecycle"]) == ("1.0", "active")),
    ("q=Z-1", lambda d, i: contains(d, "z-1")),
    ("q=7", lambda d, i: contains(d, "7")),
    ("q=x_", lambda d, i: contains(d, "x_")),
    ("q=%25", lambda d, i: contains(d, "%")),
    ("q=S1", lambda d, i: contains(d, "s1")),
    ("q=owner%3Dx&posture=silent", lambda d, i: "owner=x" in d["labels"] and d["posture"] == "silent"),
    ("q=model-1", lambda d, i: d["hwmodel"] == "model-1"),
    ("q=abc", lambda d, i: contains(d, "abc")),
    ("q=%5C", lambda d, i: False),
    ("label=site", lambda d, i: any(v.startswith("site=") for v in d["labels"])),
    ("label=site:s2&posture=degraded", lambda d, i: "site=s2" in d["labels"] and d["posture"] == "degraded"),
    ("label=site:", lambda d, i: False),
    ("label=sit", lambda d, i: False),
    ("where=strict%20$.boot.secure%20%3D%3D%20false", lambda d, i: i % 6 > 0 and i % 4 in (2, 3)),
    ("where=strict%20$.n%20%3E%20390%20%26%26%20$.n%20%3C%20394", lambda d, i: i % 6 > 0 and 390 < i < 394),
    ("where=strict%20$.n%20%3D%3D%20-1", lambda d, i: False),
    ("where=strict%20!($.boot.secure%20%3D%3D%20true)&q=model-1&lifecycle=active", lambda d, i: i % 6 > 0 and i % 4 in (2, 3) and d["hwmodel"] == "model-1"
     and d["lifecycle"] == "active"),
    ("component=none", lambda d, i: False),
    ("component=all", lambda d, i: i % 6 > 0),
    ("component=some", lambda d, i: i % 6 > 0 and i % 3 < 2),
    ("component=some&component_version=2", lambda d, i: i % 6 > 0 and i % 3 == 1),
    ("component=all&component_version=vers:deb/%3E1", lambda d, i: i % 6 > 0),
    ("component=some&component_version=vers:deb/%3C2", lambda d, i: i % 6 > 0 and i % 3 == 0),
    ("component=all&component_version=3", lambda d, i: False),
    ("changed_since=2099-01-01T00:00:00Z", lambda d, i: False),
    ("changed_since=2020-01-01T00:00:00Z", lambda d, i: True),
    ("changed_since=2020-01-01T00:00:00%2B02:00&posture=silent", lambda d, i: d["posture"] == "silent"),
]


@pytest.mark.parametrize("query, keep", FILTERS, ids=[q for q, _ in FILTERS])
def test_filters_in_every_order(api, listed, numbers, query, keep):
    kept = [d for d in listed if keep(d, numbers[d["ueid"]])]
    for sort in "enrolled", "-enrolled", random.choice(SORTS[1:]), "-" + random.choice(SORTS):
        expected = ordered(kept, sort)
        limit = random.choice([max(1, len(kept) // 4), max(1, len(kept)), 1000])
        assert api.pages(f"/v1/devices?{query}&sort={sort}&limit={limit}") == expected, (sort, limit)
    assert whole(api, query=f"{query}&sort={sort}") == expected, sort


def test_members(api):
    [first, *_] = api.get("/v1/devices?limit=1")["items"]
    for names in (["ueid"], ["labels", "posture", "ueid"], list(first)):
        page = api.get(f"/v1/devices?limit=5&fields={','.join(names)}")["items"]
        assert all(list(d) == [n for n in first if n in names] for d in page)
        assert page == [{n: d[n] for n in d if n in names} for d in api.get("/v1/devices?limit=5")["items"]]
    text = api.ask("/v1/devices?format=csv&fields=posture,ueid&model=model-1").text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows == [{"ueid": d["ueid"], "posture": d["posture"]} for d in whole(api) if d["hwmodel"] == "model-1"] and list(rows[0]) == ["ueid", "posture"]
    assert set(json.loads(api.ask("/v1/devices?format=ndjson&fields=serial").text.splitlines()[0])) == {"serial"}


def test_pages_while_the_fleet_changes(api):
    """No device twice, and none that stayed is missed, whatever moves in the order that is read."""
    chance = random.Random(7)
    change = {"posture": "UPDATE device SET posture = %s, posture_since = date_trunc('milliseconds', clock_timestamp()) WHERE ueid = decode(%s, 'hex');",
              "serial": "UPDATE device SET serial = %s WHERE ueid = decode(%s, 'hex');", "model": "UPDATE device SET hwmodel = %s WHERE ueid = decode(%s, 'hex');"}
    for sort in "posture", "-posture", "posture_since", "serial", "-model":
        before = whole(api)
        column = sort.lstrip("-").removesuffix("_since")
        seen, cursor, moved = [], "", set()
        while cursor is not None:
            page = api.get(f"/v1/devices?sort={sort}&limit=90{cursor}")
            seen += [d["ueid"] for d in page["items"]]
            cursor = page["next"] and "&cursor=" + page["next"]
            chosen = [d["ueid"] for d in chance.sample(before, 15)]
            moved.update(chosen)
            values = [(chance.choice(POSTURES) if column == "posture" else f"moved-{chance.random()}", u) for u in chosen]
            api.db.sql(change[column] * len(chosen), sum(values, ()))
        assert len(seen) == len(set(seen)), sort
        assert set(seen) >= {d["ueid"] for d in before} - moved, sort
        # Nor does what was not moved change its order.
        stayed = [d["ueid"] for d in ordered(before, sort) if d["ueid"] not in moved]
        assert [u for u in seen if u not in moved] == stayed, sort


def hear(api, devices):
    api.db.sql("UPDATE device_hot SET last_seen = date_trunc('milliseconds', clock_timestamp()) WHERE device_id IN (SELECT device_id FROM device WHERE encode(ueid, 'hex') = ANY (%s))", (devices,))


def read_while_some_are_heard(api, sort, query="", meanwhile=lambda: None):
    """No device twice, and none that was not heard is missed, nor changes its order."""
    before, seen, cursor, heard = whole(api, query=query), [], "", set()
    while cursor is not None:
        page = api.get(f"/v1/devices?sort={sort}&limit=60{query}{cursor}")
        seen += [d["ueid"] for d in page["items"]]
        cursor = page["next"] and "&cursor=" + page["next"]
        chosen = [d["ueid"] for d in random.sample(before, 40)]
        heard.update(chosen)
        hear(api, chosen)
        meanwhile()
    assert len(seen) == len(set(seen)) and set(seen) <= {d["ueid"] for d in before}
    assert [u for u in seen if u not in heard] == [d["ueid"] for d in ordered(before, sort) if d["ueid"] not in heard]


@pytest.mark.parametrize("sort", ["last_seen", "-last_seen"])
def test_devices_that_are_heard_while_the_list_is_read(api, sort):
    read_while_some_are_heard(api, sort)


def test_what_changed_since(api):
    [(time,)] = api.db.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    a, b, c = (ueid("acme", i) for i in (3, 77, 300))
    api.db.sql("UPDATE device SET labels = '{new=1}' WHERE ueid = decode(%s, 'hex')", (a,))
    api.db.sql("UPDATE device SET kernel = '7' WHERE ueid = decode(%s, 'hex')", (b,))
    api.db.sql("INSERT INTO state_history SELECT device_id, now(), 1, 2, tenant_id, now(), sha256('n'), sha256('i'), '{}' FROM device WHERE ueid = decode(%s, 'hex')", (c,))
    api.db.sql("UPDATE device_hot SET last_seen = now()")
    assert [d["ueid"] for d in api.pages(f"/v1/devices?changed_since={time}&limit=1")] == [a, b, c]
    assert [d["ueid"] for d in api.pages(f"/v1/devices?changed_since={time}&sort=-ueid")] == sorted([a, b, c], reverse=True)


def moment(api):
    return api.db.one("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")


def test_as_of(api, numbers):
    """What the list was is what it was told to be then."""
    then, was = moment(api), whole(api)
    api.db.sql("UPDATE device SET posture = 'silent', posture_since = now(), serial = 'later-' || device_id, labels = '{then=no}' WHERE device_id %% 5 = 0", ())
    new = ueid("acme", "as of")
    api.db.sql("INSERT INTO device (tenant_id, ueid, lifecycle) SELECT tenant_id, decode(%s, 'hex'), 'pending' FROM tenant WHERE id = 'acme'", (new,))
    api.db.sql("INSERT INTO state_history SELECT device_id, now(), 1, 3, tenant_id, now(), sha256('n'), sha256('then'), '{\"then\": false}' FROM device"
               " WHERE device_id %% 9 = 0 AND ueid <> decode(%s, 'hex')", (new,))
    assert whole(api) != was
    standing = ("last_seen", "epoch", "seq", "interval_s", "state_digest", "inventory_digest")

    def plain(devices):
        return [{k: v for k, v in d.items() if k not in standing} for d in devices]

    for sort in "enrolled", "-enrolled", "-ueid":
        assert plain(api.pages(f"/v1/devices?as_of={then}&sort={sort}&limit=50")) == plain(ordered(was, sort))
    assert plain(api.pages(f"/v1/devices?as_of={then}&posture=silent")) == plain([d for d in was if d["posture"] == "silent"])
    assert plain(api.pages(f"/v1/devices?as_of={then}&q=later")) == [] and api.pages("/v1/devices?q=later") != []
    assert api.pages(f"/v1/devices?as_of={then}&label=then") == [] and api.pages(f"/v1/devices?as_of={then}&where=strict%20exists($.then)") == []
    now = api.pages(f"/v1/devices?as_of={moment(api)}&limit=1000")
    assert plain(now) == plain(whole(api)) and now[-1]["ueid"] == new and now[-1]["state_digest"] is None
    then = api.pages(f"/v1/devices?as_of={moment(api)}&where=strict%20$.then%20%3D%3D%20false&limit=1000")
    assert [d["ueid"] for d in then] == [d["ueid"] for d in now if d["ueid"] != new and numbers[d["ueid"]] % 9 == 0]
    assert len(api.ask(f"/v1/devices?as_of={moment(api)}&format=ndjson&fields=ueid").text.splitlines()) == len(now)
    api.db.sql("DELETE FROM device WHERE ueid = decode(%s, 'hex')", (new,))


def test_no_history_is_no_empty_list(api):
    api.db.sql("UPDATE device_history_usual SET at = '2026-01-01T00:00:00Z'", ())
    assert "2026-01-01T00:00:00" in api.problem(410, "gone", "/v1/devices?as_of=2025-12-31T00:00:00Z").json()["detail"]
    assert api.get("/v1/devices?as_of=2026-01-02T00:00:00Z")["items"] == []


def test_policies(api, numbers):
    slot = api.db.one("SELECT slot FROM policy WHERE id = 'silent'")
    api.db.sql("UPDATE device_verdict SET outcomes = repeat('0', %s) || (ARRAY['1', 'c', 'u', 'h', 'p', '0', '-'])[1 + device_id %% 7] || '1'", (slot - 1,))
    for sort in "enrolled", "posture":
        got = api.pages(f"/v1/devices?policy=silent&limit=150&sort={sort}")
        assert got == ordered([d for d in whole(api) if numbers[d["ueid"]] % 7 < 4], sort)
    assert api.pages("/v1/devices?policy=fork&limit=1000") == []
    assert api.get("/v1/devices?q=" + "%C3%A9" * 128)["items"] == []


@pytest.mark.parametrize("query, words", [
    ("sort=", "sort is one of these"), ("sort=color", "enrolled ueid serial"), ("sort=--ueid", "sort"), ("sort=ueid,serial", "sort"), ("sort=-", "sort"), ("sort=Ueid", "sort"),
    ("fields=", "fields, from character 1"), ("fields=ueid,,serial", "fields, from character 6"), ("fields=ueid,colour", "fields, from character 6 on: it is some of these"),
    ("fields=ueid%20serial", "fields, from character 1"), ("fields=ueid,", "fields, from character 6"), ("fields=*", "labels"),
    ("posture=", "posture, from character 1"), ("posture=fine", "posture, from character 1"), ("posture=silent,fine", "posture, from character 8"), ("posture=silent,", "posture"),
    ("lifecycle=active,gone", "lifecycle, from character 8"), ("lifecycle=Active", "lifecycle"), ("q=", "q is empty"), ("q=" + "x" * 129, "q has at most 128 characters"), ("q=" + "%C3%A9" * 129, "q has at most 128"),
    ("policy=none", "policy: there is none of that name"), ("policy=", "policy"), ("policy=Silent", "policy"), ("policy=a%20b&posture=silent", "policy"), ("policy=none&format=csv", "policy"),
    ("policy=none&sort=-serial&format=ndjson", "policy"),
    ("label=", "label, from character 1 on: it is a key, or key:value"), ("label=:x", "label, from character 1"), ("label=site=bonn", "label, from character 5 on: it is a key, or key:value, as site:bonn"),
    ("label=site:bonn=", "label, from character 10"), ("label==", "label, from character 1"), ("model=" + "x" * 1025, "model has at most"), ("component_version=1", "goes with component"),
    ("changed_since=yesterday", "changed_since is a time"), ("changed_since=", "changed_since"), ("changed_since=2026-02-30T00:00:00Z", "changed_since is a time"), ("changed_since=5", "changed_since"),
    ("as_of=2026-13-01T00:00:00Z", "as_of is a time"), ("as_of=now", "as_of is a time"), ("as_of=2026-06-01T00:00:00", "as_of"),
    ("as_of=2026-06-01T00:00:00Z&sort=posture", "sort: with as_of"), ("as_of=2026-06-01T00:00:00Z&sort=-last_seen", "sort: with as_of"), ("as_of=2026-06-01T00:00:00Z&policy=fork", "policy"),
    ("where=", "where, from character 1 on"), ("where=$.a%20%3D%3D%201", "must begin with strict"), ("where=strict%20$.a%20%3D%3D", "where, from character 14"),
    ("where=strict%20$.a", "not a condition"), ("where=strict%20$.a%20%3D%3D%20$x", "variables"), ("where=lax%20$.a%20%3D%3D%201", "strict"),
    ("where=strict%20exists($.**.**)", "more than one .**"), ("where=strict%20$.a[*]%20%3D%3D%20$.b[*]", "compares two sets"), ("where=strict%20$.a%20%3D%3D%20'x'", "where, from"),
    ("where=strict%20$.a%20like_regex%20%22" + "x" * 257 + "%22", "like_regex"), ("where=" + "x" * 2049, "where has at most 2048"),
    ("where=strict%20$.a%20%3D%3D%201;DROP%20TABLE%20device", "where, from character 21"), ("format=xml", "format is json"), ("format=csv&limit=1", "limit and cursor"),
    ("sort=serial&limit=0", "limit"), ("limit=1001", "limit")])
def test_a_bad_filter_says_where(api, query, words):
    detail = api.problem(400, "bad-parameter", "/v1/devices?" + query).json()["detail"]
    assert words in detail


def test_a_bad_filter_has_its_position(api):
    for query, position in ("where=strict%20$.a%20%3D%3D", 14), ("posture=silent,fine", 8), ("fields=ueid,,serial", 6), ("component=x&component_version=vers:deb/<1|", 13):
        assert api.problem(400, "bad-parameter", "/v1/devices?" + query).json()["position"] == position
    api.problem(400, "unknown-parameter", "/v1/devices?were=x")


@pytest.mark.parametrize("target, position", [
    *((f"/v1/devices?{query}", 1) for query in ("limit=0", "limit=1001", "limit=", "limit=99999999999999999999", "limit=-1", "limit=x", "sort=colour", "sort=-", "sort=", "format=xml",
                                                "format=", "label=", "label=:x", "label==", "q=", "changed_since=yesterday", "changed_since=", "as_of=now", "fields=colour")),
    ("/v1/devices?label=a=b", 2), ("/v1/devices?label=%C3%A4=b", 2), ("/v1/devices?label=a:b=", 4),
    ("/v1/devices?limit=10x", 3), ("/v1/devices?limit=1.5", 2), ("/v1/devices?fields=ueid,posture,colour", 14), ("/v1/devices?lifecycle=active,gone", 8),
    ("/v1/alerts?state=open,closed", 6), ("/v1/alerts?state=open,", 6), ("/v1/alerts?state=open,,resolved", 6), ("/v1/alerts?severity=high;low", 1), ("/v1/alerts?severity=high,low,none", 10),
    ("/v1/alerts?group=1x", 2), ("/v1/alerts?group=0", 1), ("/v1/alerts?ueid=1", 1), ("/v1/alerts?since=now", 1), ("/v1/alerts?format=xml", 1), ("/v1/refusals?ueid=x", 1),
    ("/v1/refusals?reason=ok", 1), ("/v1/refusals?reason=bad", 1), ("/v1/events?type=none", 1), ("/v1/events/stream?type=alert.opened,alert.open", 14),
    ("/v1/events?after=12a", 3), ("/v1/events?cursor=-1", 1), ("/v1/events?wait=61", 1), ("/v1/events?type=", 1), ("/v1/events?format=xml", 1), ("/v1/assets?changed_since=1x", 2),
    ("/v1/assets?format=xml", 1), ("/v1/assets?manifest=maybe", 1), ("/v1/components?type=deb", 1), (f"/v1/diff?a={A}&b=x", 1), (f"/v1/devices/{A}/reports?epoch=x", 1),
    (f"/v1/devices/{A}/inventory?format=xml", 1)])
def test_a_bad_value_has_its_position(api, target, position):
    """One that is judged whole is wrong from its first character on."""
    problem = api.problem(400, "bad-parameter", target).json()
    assert problem["position"] == position and (target.split("?")[1].split("=")[0] in problem["detail"] or "diff" in target)


@pytest.mark.parametrize("kind, target", [
    ("bad-target", "/v1/devices?posture=silent&posture=degraded"), ("bad-target", "/v1/devices?limit=1&limit=1"), ("bad-target", "/v1/devices?limit"),
    ("bad-parameter", "/v1/devices?format=csv&limit=1"), ("bad-parameter", "/v1/devices?component_version=1"), ("bad-parameter", "/v1/events?after=1&cursor=1"),
    ("bad-parameter", f"/v1/diff?a={A}"), ("bad-parameter", f"/v1/diff?a={A}&b={A}"), ("bad-parameter", f"/v1/devices/{A}/inventory?format=csv&limit=1")])
def test_what_has_no_place_in_a_value_has_no_position(api, kind, target):
    problem = api.problem(400, kind, target).json()
    assert "position" not in problem and problem["detail"]


@pytest.mark.parametrize("text", ["'", "\\", "%27%20OR%20true%20--", "%s", "%25s", "%25L", "$1", "@chunk@", "{a,b}", "\"", "''||(select 1)||''", "%C3%84-"])
def test_text_is_only_text(api, text):
    assert api.problem(400, "bad-parameter", f"/v1/devices?policy={text}&sort=serial").json()["detail"] == "policy: there is none of that name."
    for name in "q", "model", "firmware", "component", "label":
        page = api.get(f"/v1/devices?{name}={text}&sort=serial")
        assert page["items"] == [] or (name == "q" and text == "%C3%84-")


def test_cursors_go_with_filters_and_sort(api):
    cursor = api.get("/v1/devices?sort=serial&posture=silent&limit=1")["next"]
    assert api.ask(f"/v1/devices?sort=serial&posture=silent&cursor={cursor}").status_code == 200
    for other in "sort=-serial&posture=silent", "sort=model&posture=silent", "posture=silent", "sort=serial", "sort=serial&posture=silent&q=s", "sort=serial&posture=silent&where=strict%20$.n%3D%3D1":
        api.problem(400, "bad-cursor", f"/v1/devices?{other}&cursor={cursor}")
    api.problem(400, "bad-cursor", f"/v1/devices?sort=serial&posture=silent&cursor={cursor}", "globex")
    for wrong in cursor[:-1], cursor + "A", cursor[:40], cursor[:9] + ("B" if cursor[9] != "B" else "C") + cursor[10:], "A" * 1425, "A" * 1426, "A" * 3000:
        api.problem(400, "bad-cursor", f"/v1/devices?sort=serial&posture=silent&cursor={wrong}")


def test_an_answer_of_an_order_is_not_sent_to_who_has_it(api):
    for sort in SORTS:
        tag = api.ask(f"/v1/devices?sort={sort}").headers["ETag"]
        again = api.session.get(f"http://127.0.0.1:{api.port}/v1/devices?sort={sort}", headers={"Authorization": "Bearer " + api.tokens["acme"], "If-None-Match": tag})
        assert again.status_code == 304, sort


def test_other_tenants_are_in_no_order(api):
    mine, theirs = {d["ueid"] for d in whole(api)}, {d["ueid"] for d in whole(api, "globex")}
    assert mine and theirs and not mine & theirs
    for query in *(f"sort={s}" for s in SORTS), "q=7", "label=site", "posture=silent", "changed_since=2020-01-01T00:00:00Z", "where=strict%20$.n%20%3E%200", "as_of=2099-01-01T00:00:00Z":
        assert {d["ueid"] for d in api.pages(f"/v1/devices?{query}&limit=1000")} <= mine, query


def test_a_page_has_so_many_bytes(api):
    """Also of a list whose items are large; a single item is told however large it is."""
    api.db.sql("UPDATE device SET kernel = repeat('k', 1000) WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'globex')", ())
    api.stop()
    api.settings = ["--page-bytes=65536"]
    api.start()
    for query in "", "sort=-serial&", "posture=silent,degraded&sort=posture&":
        cursor, sizes, devices = "", [], []
        while cursor is not None:
            answer = api.ask(f"/v1/devices?{query}limit=1000{cursor}", "globex")
            sizes.append(len(answer.content))
            devices += [d["ueid"] for d in answer.json()["items"]]
            cursor = answer.json()["next"] and "&cursor=" + answer.json()["next"]
        assert max(sizes) < 65536 + 2048 and min(sizes[:-1]) > 60000 and len(sizes) > 2
        assert len(devices) == len(set(devices)) and set(devices) == {d["ueid"] for d in whole(api, "globex") if "posture" not in query or d["posture"] in ("silent", "degraded")}


def test_a_text_is_looked_up(api):
    """Not searched for in each device, unless many have it: by the index of the letters, which has the tenant and the block of devices too. Whatever lies between two
    blocks, from either end and from any place on."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        c = db.cursor()
        c.execute("SET LOCAL search_path = fleetstate")
        c.execute("INSERT INTO device (device_id, tenant_id, ueid, serial, swname, lifecycle) OVERRIDING SYSTEM VALUE SELECT 100000 + 25 * n + n / 4000 * 70000, t.tenant_id,"
                  " decode('01' || md5('i' || n), 'hex'), 'Sensor-' || md5(n::text), CASE WHEN n %% 4000 = 0 THEN '100%%_\\\u00c4B' || n WHEN n <= 800 THEN 'of eight hundred'"
                  " WHEN n %% 20 = 7 THEN 'scattered' END, 'active' FROM tenant t, generate_series(1, 8000) n WHERE t.id = 'globex'", ())
        c.execute("ANALYZE device, device_words")
        one = hashlib.md5(b"777").hexdigest()
        counts = "SELECT pg_stat_get_xact_numscans('device_words_blocks'::regclass), pg_stat_get_xact_tuples_fetched('device_words_page'::regclass)"
        for q, n, indexed in (("nowhere-at-all", 0, True), ("lla-", 0, True), ("01%_\\x", 0, True), (one, 1, True), (one[20:], 1, True), (one.upper()[3:21], 1, True), ("sensor-" + one[:6], 1, True),
                              ("00%_\\\u00c4b4", 1, True), ("%_\\\u00c4B", 2, True), ("\nsensor-" + one, 1, True), ("sensor-" + one[1:], 0, True), ("scattered", 360, True), ("red", 1160, None),
                              ("9a1", None, True), ("sensor-", 8000, None), ("%_", 2, False), ("0", None, False), ("of eight hundred", 800, None)):
            c.execute("SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant WHERE id = 'globex'")
            c.execute("SELECT array_agg(d.device_id ORDER BY d.device_id) FROM device d JOIN device_words w USING (device_id) WHERE d.tenant_id = tenant_context() AND strpos(w.words, lower(%s)) > 0", (q,))
            want = c.fetchone()[0] or []
            assert n is None and len(want) > 5 or len(want) == n, q
            places = sorted({0, *want[:1], *want[len(want) // 2:][:1], *want[-1:], 150000, 185000})
            for place, way in itertools.product(places, (1, -1)):
                c.execute(counts)
                [(scans, fetched)] = c.fetchall()
                c.execute("SELECT device_search(%s, %s, %s, 100)", (q, way < 0, place if way > 0 or place else 2 ** 63 - 1))
                [(told,)] = c.fetchall()
                c.execute(counts)
                [(now, looked)] = c.fetchall()
                if not indexed and told is None:
                    continue
                assert sorted(told, reverse=way < 0)[:101] == ([x for x in want if x > place] if way > 0 else [x for x in want[::-1] if not place or x < place])[:101], (q, place, way)
                if indexed is not None:
                    assert (now > scans) == indexed or indexed and place, (q, place, way)
                assert looked - fetched <= 8000 if not indexed else looked - fetched <= 50, (q, place, way, looked - fetched)
            if indexed:
                c.execute("SELECT array_agg(device_id) FROM device_list(%s, 'enrolled', 100, NULL, NULL, NULL) WHERE shown", (json.dumps({"q": q}),))
                assert c.fetchone()[0] == (want[:100] or None), q
                c.execute("SELECT array_agg(device_id) FROM device_list(%s, 'ueid', 1000, NULL, NULL, NULL) WHERE shown", (json.dumps({"q": q, "lifecycle": ["active"]}),))
                assert sorted(c.fetchone()[0] or []) == want, q
            c.execute("SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant WHERE id = 'acme'")
            c.execute("SELECT count(*) FROM unnest(device_search(%s, false, 0, 100)) x JOIN device d ON d.device_id = x WHERE d.tenant_id <> tenant_context()", (q,))
            assert c.fetchone() == (0,), q
        db.rollback()


SEARCHES = ["SELECT cardinality(device_search('SN-1234', false, 0, 100))", "SELECT count(*) FROM device_list('{\"q\": \"SN-1234\"}', 'enrolled', 100, NULL, NULL, NULL)",
            "SELECT count(*) FROM device_list('{\"q\": \"SN-1234\", \"lifecycle\": [\"active\"]}', '-ueid', 100, NULL, NULL, NULL)"]


@pytest.mark.parametrize("first", SEARCHES)
def test_a_plan_of_no_devices_is_good_for_many(tmp_path, first):
    """Plans are kept, and a fleet may be registered before its tables are looked at again. Whoever asks first has them made, by his own settings."""
    database = Database(tmp_path, "fsync=off", "autovacuum=off")
    try:
        database.cli("tenant", "add", "acme", "Acme")
        with contextlib.closing(psycopg2.connect(database.uri("fleetstate_owner"))) as db:
            c = db.cursor()
            c.execute("SET search_path = fleetstate; SET plan_cache_mode = force_generic_plan; SET enable_sort = off; SET enable_bitmapscan = off; SET enable_seqscan = off")
            c.execute("SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant")
            looked = ("SELECT sum(pg_stat_get_xact_tuples_fetched(r.oid)) FROM pg_class r LEFT JOIN pg_index i ON i.indexrelid = r.oid"
                      " WHERE coalesce(i.indrelid, r.oid) IN ('device'::regclass, 'device_words'::regclass)")
            for text in first, *SEARCHES:
                c.execute(text)
                assert c.fetchone() == (0,)
            c.execute("INSERT INTO device (tenant_id, ueid, serial, lifecycle) SELECT tenant_id, decode('01' || md5('i' || n), 'hex'), 'SN-' || n, 'active' FROM tenant, generate_series(1, 3000) n")
            for text in SEARCHES[:2]:
                c.execute(looked)
                [(before,)] = c.fetchall()
                c.execute(text)
                [(n,)] = c.fetchall()
                assert n == 1
                c.execute(looked)
                [(after,)] = c.fetchall()
                assert 0 < after - before <= 200, (text, after - before)
    finally:
        database.stop()


def test_what_is_deleted_is_not_searched(api):
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        c = db.cursor()
        c.execute("SET LOCAL search_path = fleetstate; SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant WHERE id = 'globex'")
        c.execute("INSERT INTO device (tenant_id, ueid, serial, lifecycle) SELECT t.tenant_id, decode('01' || md5(n::text), 'hex'), 'gone-or-not', 'active' FROM tenant t, generate_series(1, 300) n"
                  " WHERE t.id = 'globex'")
        told = []
        for change in ("lifecycle = 'deleted', deleted_at = now() WHERE device_id % 3 > 0", "lifecycle = 'active', deleted_at = NULL, hwmodel = 'again' WHERE device_id % 3 = 1", "labels = '{a=b}'"):
            c.execute(f"UPDATE device SET {change}" + (" AND" if "WHERE" in change else " WHERE") + " serial = 'gone-or-not'")
            counts = []
            for q in "gone-or-not", "again", "a=b":
                c.execute("SELECT count(*) FROM unnest(device_search(%s, false, 0, 500)) x JOIN device d ON d.device_id = x AND d.deleted_at IS NULL", (q,))
                counts += c.fetchone()
                c.execute("SELECT count(*) FROM device_words WHERE strpos(words, %s) > 0", (q,))
                assert c.fetchone()[0] == counts[-1]
            told.append(counts)
        db.rollback()
    assert told == [[100, 0, 0], [200, 100, 0], [200, 100, 200]]


@pytest.mark.parametrize("sort", ["enrolled", "-enrolled"])
def test_a_search_is_whole(api, sort):
    """Of few and of many, of short texts and long ones, which are asked for in another order."""
    listed = whole(api)
    d, e = listed[0], listed[-1]
    texts = [d["ueid"], e["ueid"], d["ueid"][2:12].upper(), e["ueid"][4:7], d["serial"], e["serial"] + "x", "odel-1", "model-1", "MODEL-1", d["swversion"], "\u00e4" * 8, "%" * 8, "_" * 9,
             "model-1" + d["swversion"], d["ueid"] + d["serial"], "nowhere-at-all", "site=s2", "site=s2x", "s2"]
    found = 0
    for q in texts:
        want = [x["ueid"] for x in ordered(listed, sort) if contains(x, q.lower())]
        assert [x["ueid"] for x in api.pages(f"/v1/devices?q={urllib.parse.quote(q)}&limit=7&sort={sort}")] == want, q
        found += len(want) > 0
    assert 8 < found < len(texts) - 5


def test_digests_stand_beside_where_a_device_stands(api):
    """Whatever changes a state changes what lists show of it."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        c = db.cursor()
        c.execute("SET LOCAL search_path = fleetstate")
        for change in (None, "UPDATE device_state SET state_digest = sha256('other') WHERE device_id % 2 = 0",
                       "INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('new'), sha256('new'), '{}' FROM device WHERE device_id % 6 = 0"
                       " ON CONFLICT (device_id) DO UPDATE SET inventory_digest = sha256('again')", "DELETE FROM device_state WHERE device_id % 5 = 0"):
            if change:
                c.execute(change)
                assert c.rowcount > 10
            c.execute("SELECT count(*), count(s.device_id) FROM device_hot h LEFT JOIN device_state s USING (device_id) WHERE (h.state_digest, h.inventory_digest)"
                      " IS DISTINCT FROM (s.state_digest, s.inventory_digest)")
            assert c.fetchone() == (0, 0), change
        db.rollback()


def test_a_search_reads_nothing_of_another_tenant(api):
    """However many of another's devices match, the index leads to none of them: how long it takes tells nothing of them."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        c = db.cursor()
        c.execute("SET LOCAL search_path = fleetstate")
        c.execute("INSERT INTO device (tenant_id, ueid, serial, lifecycle) SELECT t.tenant_id, decode('01' || md5(n::text), 'hex'), 'ZEBRA-' || n, 'active' FROM tenant t, generate_series(1, 500) n WHERE t.id = 'globex'")
        c.execute("SELECT count(DISTINCT device_id >> 14) FROM device_words")
        assert c.fetchone() == (1,)
        found = {}
        for tenant in "acme", "globex":
            c.execute("SELECT pg_stat_get_xact_tuples_returned('device_words_blocks'::regclass)")
            [(before,)] = c.fetchall()
            c.execute("SELECT cardinality(search_blocks(tenant_id, 'zebra-', '{bra,zeb}', false, 0, 100, '1 hour')) FROM tenant WHERE id = %s", (tenant,))
            [(told,)] = c.fetchall()
            c.execute("SELECT pg_stat_get_xact_tuples_returned('device_words_blocks'::regclass)")
            found[tenant] = told, c.fetchone()[0] - before
        db.rollback()
    assert found == {"acme": (0, 0), "globex": (500, 500)}


def test_deep_in_a_list_no_more_is_looked_at(api):
    """A page is found from its place on, not from the list's beginning."""
    def told():
        """By sessions that have ended: a living one tells later what it read."""
        api.db.disconnect()
        api.stop()
        await_true(lambda: api.db.one("SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleetstate_api'") == 0, "the end of its sessions")
        return api.db.one("SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE indexrelname IN ('device_page', 'device_pkey', 'device_words_page', 'device_words_pkey')")

    api.db.sql("INSERT INTO device (tenant_id, ueid, lifecycle) SELECT t.tenant_id, decode('01' || md5('deep' || n), 'hex'), 'active' FROM tenant t, generate_series(1, 9000) n"
               " WHERE t.id = 'globex'", ())
    api.stop()
    api.settings = []
    api.start()
    deep = []
    for query in "sort=enrolled", f"as_of={moment(api)}", "q=0":
        cursor = ""
        for _ in range(6):
            cursor = "&cursor=" + api.get(f"/v1/devices?{query}&limit=1000{cursor}", "globex")["next"]
        deep.append(f"/v1/devices?{query}&limit=100{cursor}")
    before = told()
    api.start()
    for path in deep:
        assert api.get(path, "globex")["items"]
    assert 100 <= told() - before < 4000
    api.start()


def test_an_item_is_what_its_device_says(api):
    """Whatever is known of it: its own answer is made of the columns, a list's of the card."""
    api.db.sql("UPDATE device SET vendor = E'v\u00e4\u00f1\U0001f600\"', hwversion = 'h' || device_id, oemid = 'o', swname = '', kernel = 'k,k', support_until = '2031-02-28', end_of_life = '2032-02-29',"
               " unknowns = 3, reasons = '{a,\"b c\"}' WHERE device_id %% 3 = 0", ())
    for item in api.pages("/v1/devices?limit=1000")[:60]:
        own = api.get(f"/v1/devices/{item['ueid']}")
        assert set(item) <= set(own) and item == {name: own[name] for name in item}


@pytest.mark.parametrize("sort", ["posture_since", "-posture_since", "first_seen", "-first_seen"])
def test_a_page_ends_at_its_microsecond(api, sort):
    """Of devices that one second, or one millisecond, has all of, also before the year 2000; and none is known of some."""
    acmes = "WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'acme')"
    api.db.sql("UPDATE device SET posture_since = '1999-12-31T23:59:59.999Z'::timestamptz + device_id * 7919 %% 200 * interval '13 us',"
               f" first_seen = CASE WHEN device_id %% 6 > 0 THEN '1999-12-31T23:59:59.999Z'::timestamptz + device_id * 7919 %% 200 * interval '13 us' END {acmes}", ())
    way, name = ("DESC", sort[1:]) if sort[0] == "-" else ("ASC", sort)
    order = [u for u, in api.db.sql(f"SELECT encode(ueid, 'hex') FROM device {acmes} AND deleted_at IS NULL ORDER BY coalesce({name}, 'infinity') {way}, device_id {way}")]
    assert [d["ueid"] for d in api.pages(f"/v1/devices?sort={sort}&limit=7")] == order
    # An answer has milliseconds, by which others know the order.
    api.db.sql("UPDATE device SET posture_since = date_trunc('milliseconds', posture_since), first_seen = date_trunc('milliseconds', first_seen) " + acmes)
