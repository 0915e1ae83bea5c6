"""Policies: the packs hold what they promise, bad predicates are refused where they are bad, and trying one costs little."""

import json
import re

import psycopg2
import pytest

from parts import ROOT, Database

PACKS = sorted((ROOT / "schema/policies").glob("*.json"))
ELEMENTS = [f"{capability}.{n}" for capability, count in dict(DI=2, DC=3, DP=3, LA=3, SU=6, CS=5).items() for n in range(1, count + 1)]
POLICIES = [(pack.stem, policy) for pack in PACKS for policy in json.loads(pack.read_text())["policies"]]
MATCH = "SELECT jsonb_path_match(%s, %s::jsonpath, '{}', true)"


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    database = Database(tmp_path_factory.mktemp("policies"), "fsync=off")
    for tenant in "acme", "globex":
        database.cli("tenant", "add", tenant, tenant.title())
        database.sql("INSERT INTO api_token (tenant_id, role, name, hash) SELECT tenant_id, 'admin', id, sha256(id::bytea) FROM tenant WHERE id = %s", (tenant,))
    yield database
    database.stop()


def as_tenant(db, tenant, text, parameters=()):
    with psycopg2.connect(db.uri("fleetstate_api")) as c, c.cursor() as cursor:
        cursor.execute("SELECT sign_in(sha256(%s::bytea), NULL)", (tenant,))
        cursor.execute(text, parameters)
        return cursor.fetchall()


def policy(when="strict $.a == 1", **more):
    return json.dumps({"title": "test", "severity": "high", "when": when, **more})


def put(db, document, id="test", tenant="acme"):
    return as_tenant(db, tenant, "SELECT * FROM policy_put(%s, %s, 'test')", (id, document))


@pytest.mark.parametrize("pack,one", POLICIES, ids=[p["id"] for _, p in POLICIES])
def test_each_policy_tells_three_documents_apart(db, pack, one):
    assert db.one(MATCH, (json.dumps(one["examples"]["violates"]), one["when"])) is True
    assert db.one(MATCH, (json.dumps(one["examples"]["meets"]), one["when"])) is False
    assert db.one(MATCH, (json.dumps(one["examples"]["unknown"]), one["when"])) is None
    # A missing fact is never met: not in an empty document, and not when any topic of the healthy one is taken away.
    assert db.one(MATCH, ("{}", one["when"])) is None
    assert db.sql("SELECT fault FROM predicate_fault(%s)", (one["when"],)) == [(None,)]
    assert one["remediation"] and len(one["title"]) > 8


def test_every_key_element_is_judged():
    pack = json.loads((ROOT / "schema/policies/nistir-8259.json").read_text())
    judged = {p["element"] for p in pack["policies"]} | {n["element"] for n in pack["not_judged"] if len(n["why"]) > 20}
    assert judged == set(ELEMENTS) and len(ELEMENTS) == 22


MEMBER = r'(?:\."[^"]+"|\.[A-Za-z_0-9]+(?!\w*\()|\[\*\])'


def table_of_paths():
    """Every path that the table of facts gives a document, members of lists' rows and of key elements included; and the texts that a status may be."""
    table = (ROOT / "schema/facts.def").read_text()
    topics = dict(re.findall(r'^TOPIC\((\w+), \d+, "([^"]+)"', table, re.M))
    fields = re.findall(r'^FIELD\((\w+), "([^"]+)"', table, re.M)
    paths = set()
    for topic, name, kind, record in re.findall(r'^FACT\((\w+), \w+, \d+, "([^"]+)", (\w+)(?:\((\w+)\))?', table, re.M):
        fact = (topics[topic], name)
        members = {"STATUS": [("status",), ("why",)], "LIST": [("[*]",)] + [("[*]", field) for row, field in fields if row == record], "TEXTS": [("[*]",)]}
        paths |= {fact} | {fact + member for member in members.get(kind, [])}
    return paths


def named_paths(when):
    """The whole paths of a predicate; what a filter says of @ is of the path before it."""
    def cut(path):
        return tuple(word.strip('."') for word in re.findall(MEMBER, path))

    unquoted = re.sub(r'(like_regex|==|!=) "(?:[^"\\]|\\.)*"', "", when)
    named = [cut(path) for path in re.findall(rf"\$((?:{MEMBER})*)", unquoted)]
    for path, inner in re.findall(rf"\$((?:{MEMBER})+) \? \((.*)\)", unquoted):
        named += [cut(path) + cut(own) for own in re.findall(rf"@((?:{MEMBER})*)", inner)]
    return named


def test_facts_that_policies_name_are_in_the_table():
    known = table_of_paths()
    assert ("interfaces", "sockets", "[*]", "port") in known and ("elements", "DI.1", "status") in known
    for _, one in POLICIES:
        named = named_paths(one["when"])
        assert named and set(named) <= known, (one["id"], set(named) - known)


@pytest.mark.parametrize("when", [
    'strict $.elements."DI.1".status == "off" || $.elements."DI.1".judged == true', "strict $.access.no_such == 1", "strict $.access.ssh.deeper == 1",
    "strict exists($.interfaces.sockets[*] ? (@.protocol == \"tcp\" && @.ports == 23))", "strict $.no_such.size() > 0"])
def test_a_path_that_no_device_fills_is_found(when):
    assert set(named_paths(when)) - table_of_paths()


def test_the_command_line_tries_a_pack(db, tmp_path):
    for pack in PACKS:
        assert db.cli("policy", "test", pack).endswith("policies, 0 wrong")
    document = json.loads(PACKS[0].read_text())
    document["policies"][0]["examples"]["meets"] = {}
    del document["policies"][1]["examples"]["unknown"]
    document["policies"][2]["when"] = "strict $.a ==== 1"
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(document))
    said = db.cli("policy", "test", bad, status=1)
    assert 'the example "meets" leaves it unknown' in said and 'no example "unknown"' in said and "at position 14" in said
    bad.write_text('{"pack": ')
    db.cli("policy", "test", bad, status=2)


def test_a_pack_is_applied_whole_or_not_at_all(db, tmp_path):
    file = tmp_path / "pack.json"
    pack = {"pack": "mine", "policies": [dict(id=f"mine.{n}", title="one", severity="low", when=f"strict $.n == {n}") for n in range(3)]}
    file.write_text(json.dumps(pack))
    assert json.loads(db.cli("policy", "apply", "--json", file)) == [{"policy": f"mine.{n}", "change": "created"} for n in range(3)]
    assert {row["change"] for row in json.loads(db.cli("policy", "apply", "--json", file))} == {"unchanged"}
    pack["policies"][1]["severity"] = "high"
    del pack["policies"][2]
    file.write_text(json.dumps(pack))
    changes = {row["policy"]: row["change"] for row in json.loads(db.cli("policy", "apply", "--json", file))}
    assert changes == {"mine.0": "unchanged", "mine.1": "changed", "mine.2": "deleted"}
    pack["policies"][0]["severity"] = "low"
    pack["policies"].append(dict(id="mine.3", title="bad", severity="low", when="strict $.n === 3"))
    pack["policies"][0]["title"] = "other"
    file.write_text(json.dumps(pack))
    db.cli("policy", "apply", file, status=1)
    assert db.one("SELECT title FROM policy WHERE id = 'mine.0'") == "one"
    pack["policies"] = []
    file.write_text(json.dumps(pack))
    db.cli("policy", "apply", file)


LONG = "x" * 257
REFUSED = {
    "$.a == 1": 1, "lax $.a == 1": 1, "": 1, "strict": 1, "strict ": 8, "strict $.a": 1, "strict $.a + 1": 1, "strict true": 1, "strict $.a.size()": 1,
    "strict $.a ==== 1": 14, "strict $.a ==": 14, "strict ($.a == 1": 17, "strict $.a == 1)": 16, 'strict $.a == "x': 17,
    "strict $.a == 1; DROP TABLE device": 16, "strict $.a[*] == $.b[*]": 1, "strict ($.a[*]) < ($.b[*])": 1, "strict $.a[*].x == $.b.*": 1,
    "strict exists($.a[*] ? (@.x == $.b[*].x))": 1, "strict exists($.**.a) && exists($.**.b)": 34, "strict $x == 1": 1,
    f'strict $.a like_regex "{LONG}"': 12, 'strict $.a like_regex "("': 25, f'strict $.a == "{"y" * 2048}"': 2049,
}


@pytest.mark.parametrize("when", REFUSED, ids=[w[:40] or "nothing" for w in REFUSED])
def test_a_bad_predicate_is_refused_with_the_place(db, when):
    with pytest.raises(psycopg2.Error) as refusal:
        put(db, policy(when))
    assert refusal.value.pgcode == "FS400" and str(refusal.value).startswith("when: ")
    if when:
        assert refusal.value.diag.message_detail == str(REFUSED[when]), str(refusal.value)
    assert db.one("SELECT count(*) FROM policy WHERE id = 'test'") == 0


@pytest.mark.parametrize("when", ["strict $.a == 1", "strict !($.a == 1 || $.b == 2)", "strict ($.a == 1) is unknown", 'strict $.a starts with "[*] == [*]"',
                                  'strict exists($.a[*] ? (@.x == 1 && @.y == ".** .**"))', "strict $.a[*] == 1 && $.b[*] == 2",
                                  'strict $.a like_regex "%s"' % ("x" * 256), "strict exists($.**.a)", "strict exists($.a[*] ? (@.x == $.limit))",
                                  "strict\t$.a.size() > 0 /* a comment [*] == [*] */"])
def test_a_good_predicate_is_taken(db, when):
    assert db.sql("SELECT fault FROM predicate_fault(%s)", (when,)) == [(None,)]


@pytest.mark.parametrize("document", [
    {"severity": "urgent"}, {"severity": None}, {"title": ""}, {"title": "x" * 256}, {"title": 7}, {"for": 3}, {"for": {"reports": -1}},
    {"for": {"reports": 1.5}}, {"for": {"days": 1}}, {"clear_after": {"seconds": 2592001}}, {"clear_after": {"seconds": "1"}}, {"scope": []},
    {"scope": {"modle": "x"}}, {"scope": {"model": []}}, {"scope": {"model": [1]}}, {"enabled": "yes"}, {"remediation": "x" * 4097}, {"other": 1}, {"when": 1}])
def test_a_bad_document_is_refused(db, document):
    with pytest.raises(psycopg2.Error) as refusal:
        put(db, policy(**{"when": "strict $.a == 1", **document}))
    assert refusal.value.pgcode == "FS400"


def test_tenants_do_not_see_or_touch_each_others(db):
    put(db, policy(), "acme-only")
    assert as_tenant(db, "acme", "SELECT count(*) FROM policy_item WHERE id = 'acme-only'") == [(1,)]
    assert as_tenant(db, "globex", "SELECT count(*) FROM policy_item WHERE id = 'acme-only'") == [(0,)]
    assert as_tenant(db, "globex", "SELECT policy_delete('acme-only', 'test')") == [(False,)]
    for statement in ("SELECT * FROM policy_put('all', '{}', 'test', true)", "SELECT policy_delete('fork', 'test', true)"):
        with pytest.raises(psycopg2.Error) as refusal:
            as_tenant(db, "acme", statement)
        assert refusal.value.pgcode == "FS403"
    with pytest.raises(psycopg2.Error) as refusal:
        put(db, policy(), "fork")  # everyone's
    assert refusal.value.pgcode == "FS409"
    with pytest.raises(psycopg2.Error) as refusal:
        as_tenant(db, "acme", "SELECT * FROM policy_put('acme-only', %s, 'test', false, 1)", (policy(),))
    assert refusal.value.pgcode == "FS412"
    assert as_tenant(db, "acme", "SELECT policy_delete('acme-only', 'test')") == [(True,)]
    for statement in ("UPDATE policy SET enabled = false", "DELETE FROM alert", "SELECT judge_anew(1)", "SELECT apply_outcomes('{}', '{}', '{}')"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_tenant(db, "acme", statement)


FLEET = """
    INSERT INTO device (tenant_id, ueid, lifecycle) SELECT t.tenant_id, decode('01' || lpad(to_hex(i), 32, '0'), 'hex'), 'active'
        FROM generate_series(1, 5000) i, tenant t WHERE t.id = 'globex';
    INSERT INTO device_state (device_id, tenant_id, epoch, seq, received_at, issued_at, state_digest, inventory_digest, state)
        SELECT device_id, tenant_id, 1, 1, now(), now(), '\\x00', '\\x00', jsonb_build_object('n', device_id %% 4, 'hardware', jsonb_build_object('cpu_count', 4),
            'filler', repeat(md5(device_id::text), 30)) || CASE WHEN device_id %% 10 = 0 THEN '{}' ELSE jsonb_build_object('boot',
            jsonb_build_object('secure', device_id %% 2 = 0)) END FROM device;
    INSERT INTO state_history (device_id, valid_from, epoch, seq, tenant_id, issued_at, state_digest, inventory_digest, state)
        SELECT device_id, now() - interval '1 day', 1, 1, tenant_id, now(), '\\x00', '\\x00', '{"boot": {"secure": false}}' FROM device WHERE device_id %% 1000 = 0;
    ANALYZE
"""


def test_trying_a_policy_on_a_fleet(db):
    """How long it takes on 100,000 devices is measured by `make bench`."""
    for part in FLEET.split(";"):
        db.sql(part)
    total = db.one("SELECT count(*) FROM device")
    answer = as_tenant(db, "globex", "SELECT policy_preview('strict $.boot.secure == false', NULL, 10)")[0][0]
    assert answer["counts"] == {"met": total * 4 // 10, "not_met": total // 2, "unknown": total // 10} and len(answer["devices"]) == 10
    assert as_tenant(db, "acme", "SELECT policy_preview('strict $.boot.secure == false', NULL, 10)")[0][0]["counts"] == {"met": 0, "not_met": 0, "unknown": 0}
    past = as_tenant(db, "globex", "SELECT policy_preview('strict $.boot.secure == false', now() - interval '1 hour')")[0][0]
    assert past["counts"] == {"met": 0, "not_met": total // 1000, "unknown": 0}
    with pytest.raises(psycopg2.Error) as refusal:
        as_tenant(db, "globex", "SELECT policy_preview('strict $.a =')")
    assert refusal.value.pgcode == "FS400" and refusal.value.diag.message_detail == "12"
    # A changed rule reaches all of them, and its progress can be seen.
    db.sql("SELECT policy_put('fleet', %s, 'test', true)", (policy("strict $.n == 3"),))
    assert db.one("SELECT total FROM judging WHERE tenant_id = 0") >= total
    for done in range(1000, total + 1, 1000):
        assert db.sql("SELECT judge_anew(1000)", role="fleetstate_ingest") == [(1000,)]
        assert db.sql("SELECT done, ended_at FROM judging WHERE tenant_id = 0") == [(done, None)]
        assert db.one("SELECT count(*) FROM device WHERE posture = 'degraded' AND reasons = '{fleet}'") == done // 4
        assert db.sql("SELECT device_id, devices FROM alert JOIN policy USING (policy_id) WHERE id = 'fleet' AND resolved_at IS NULL AND group_id IS NULL") == [(0, done // 4)]
    assert db.sql("SELECT judge_anew(1000)", role="fleetstate_ingest") == [(0,)]
    assert db.one("SELECT done >= total AND ended_at IS NOT NULL FROM judging WHERE tenant_id = 0")
