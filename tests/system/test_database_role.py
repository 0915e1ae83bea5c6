"""What the database's role of the HTTP interface can do in psql, whatever SQL it were made to run: without a signed-in tenant, nothing of any tenant."""

import contextlib
import copy
import hashlib
import re
import subprocess

import psycopg2
import pytest

from parts import ROOT
from test_api import B, JUDGED, ROUTES, A, Api

MARKS = [A, B, "acme", "globex", "Acme", "S-1", "model-1", "openssl", "roll-out", "bad-signature", "test"]  # of one of the tenants or both
PREPARED = {"ORDER": "by", "NARROW": "of", "NEAR": "near"}  # what lists of devices are called


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("role")
    api = Api(directory, devices=20)
    for (tenant,) in api.db.sql("SELECT tenant_id::text FROM tenant"):
        api.db.sql(JUDGED, {"tenant": tenant})
    api.log = directory / "pg.log"
    yield api
    api.close()


def psql(api, script):
    """As the role: what it printed, and what it was told instead."""
    done = subprocess.run(["psql", "-X", "-A", "-t", "-q", api.db.uri("fleetstate_api")], input=script, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


def each(api, scripts):
    """The same for many, one after the other in one session; each begins outside any transaction."""
    whole = "".join(f"\\echo @@{i}\n\\warn @@{i}\n{script}\nROLLBACK;\n" for i, script in enumerate(scripts))
    out, err = psql(api, "SET client_min_messages = error;\n" + whole)
    return [(o.split("\n", 1)[1], e.split("\n", 1)[1]) for o, e in zip(out.split("@@")[1:], err.split("@@")[1:], strict=True)]


def hash_of(token):
    return "'\\x" + hashlib.sha256(token.encode()).hexdigest() + "'"


def relations(api):
    return [name for (name,) in api.db.sql("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'fleetstate'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')"
                                           " ORDER BY 1")]


def nothing_in(api, names, before=""):
    """Each relation gives no row, or may not be read at all. Returns those that may."""
    readable = []
    told = each(api, [f"{before}\nSELECT 'rows', count(*) FROM {name};\nCOPY (SELECT * FROM {name}) TO STDOUT;\nCOPY {name} TO STDOUT;" for name in names])
    for name, (out, err) in zip(names, told, strict=True):
        assert out in ("", "rows|0\n"), (name, out)
        if out == "":
            assert re.search("permission denied|would be affected by row-level security", err), (name, err)
        else:
            readable.append(name)
    return readable


def test_no_context(api):
    names = relations(api)
    assert len(names) > 40 and any(re.fullmatch(r"report_quiet_\d{8}", n) for n in names)
    seen = nothing_in(api, names)
    assert {"device", "device_item", "report", "report_full", "policy", "alert_item", "audit", "event"} <= set(seen)
    assert not [n for n in seen if re.search(r"\d{8}$|token|session|secret|anchor|audit_head|sink", n)]
    # Nor is there anything in what the planner gathered, or in what others run.
    assert psql(api, "SELECT * FROM pg_stats WHERE schemaname = 'fleetstate'; SELECT * FROM pg_stats_ext; SELECT * FROM pg_statistic;")[0] == ""
    assert not re.search("acme|globex", psql(api, "SELECT query FROM pg_stat_activity")[0])


@pytest.mark.parametrize("before", [
    *(f"SET fleetstate.{name} = '{value}';" for name, value in {"tenant": "", "role": "operator", "who": "acme", "seal": "0" * 64}.items()),
    *(f"SET fleetstate.context = E'{text}';" for text in ("", "\\n", "\\n\\n\\n", "0" * 32, "0" * 32 + "\\n1\\noperator\\nx", "\\n1\\noperator\\nx", "\\n999999\\n\\n")),
    "SET row_security = off; SET fleetstate.context = E'\\n1\\noperator\\nx';"])
def test_a_context_that_is_nobodys(api, before):
    readable = nothing_in(api, ["device", "report", "event", "device_state", "tenant", "audit"], before)
    assert (readable == []) == ("row_security" in before)


WHO = "SELECT tenant_context(), role_context(), who_context(), (SELECT count(*) FROM device);\n"
KEPT = "SELECT current_setting('fleetstate.context') AS kept, left(current_setting('fleetstate.context'), 32) AS seal, tenant_context() AS mine, role_context() AS role," \
    " who_context() AS who, 3 - tenant_context() AS other \\gset\n"  # the tenants are 1 and 2
NEW = " SELECT set_config('fleetstate.context', {}, true) \\g /dev/null\n"


def test_a_context_that_nobody_signed_in(api):
    """Anybody may write the setting; what stands in it counts as sign_in has written it, in that transaction."""
    mine = f"BEGIN; SELECT tenant FROM sign_in({hash_of(api.tokens['acme'])}, NULL) \\g /dev/null\n{KEPT}"
    sealed = "E'\\n' || :'mine' || E'\\n' || :'role' || E'\\n' || :'who'"
    made = "SET fleetstate.context = E'" + "0" * 32 + "\\n1\\noperator\\ntest';" + "".join(
        f"SET fleetstate.{name} = '{value}';" for name, value in {"tenant": "1", "role": "operator", "who": "test"}.items())
    nothing_in(api, relations(api), made)
    gifts = [f"SELECT device_change('\\x{ueid}', '{{\"tenant\": \"{to}\"}}', 'me', NULL);" for ueid, to in ((A, "globex"), (B, "acme"))]
    asked = ["SELECT item FROM tenant_list();", "SELECT item FROM tenant_tokens();", "SELECT item FROM trust_anchor_list();", "SELECT who_context();", "SELECT role_context();",
             *gifts]
    for statement, (out, _) in zip(asked, each(api, [made + text for text in asked]), strict=True):
        assert out.strip() in ("", "f"), (statement, out)
    changed = [
        # Each of what is sealed, under the seal of what it was.
        ":'seal' || E'\\n' || :'other' || E'\\n' || :'role' || E'\\n' || :'who'", ":'seal' || E'\\n\\n' || :'role' || E'\\n' || :'who'",
        ":'seal' || E'\\n' || :'mine' || E'\\noperator\\n' || :'who'", ":'seal' || E'\\n' || :'mine' || E'\\n\\n' || :'who'",
        ":'seal' || E'\\n' || :'mine' || E'\\n' || :'role' || E'\\nx'", ":'seal' || E'\\n' || :'mine' || E'\\n' || :'role' || E'\\n'",
        # Longer, shorter, and with the lines elsewhere.
        ":'kept' || 'x'", ":'kept' || E'\\n'", "'0' || :'kept'", "' ' || :'kept'", "left(:'kept', -1)", "substr(:'kept', 2)", "replace(:'kept', E'\\n', '')",
        ":'seal' || E'\\n' || :'role' || E'\\n' || :'mine' || E'\\n' || :'who'", f":'seal' || :'seal' || {sealed}", f":'seal' || {sealed} || {sealed}",
        # Another seal, or not all of it.
        "''", ":'seal'", sealed, f"left(:'seal', 31) || {sealed}", f"left(:'seal', 31) || 'g' || {sealed}", f"repeat('0', 32) || {sealed}", f"upper(:'seal') || {sealed}",
        f"reverse(:'seal') || {sealed}", f"left(encode(sha256(convert_to({sealed}, 'UTF8')), 'hex'), 32) || {sealed}",
        f"left(encode(sha256(timestamptz_send(now()) || convert_to({sealed}, 'UTF8')), 'hex'), 32) || {sealed}"]
    old = "SET LOCAL fleetstate.tenant = :'other'; SET LOCAL fleetstate.role = 'operator'; SET LOCAL fleetstate.who = 'x';"
    told = each(api, [*(mine + NEW.format(text) + WHO for text in changed), f"{mine} COMMIT; SET fleetstate.context = :'kept'; {WHO} BEGIN; {WHO} COMMIT;",
                      f"{mine} COMMIT; BEGIN; {NEW.format(':' + repr('kept'))} {WHO}", f"{mine} COMMIT; {old} BEGIN; {old} {WHO}"])
    assert [out.split() for out, _ in told] == [["|||0"]] * len(changed) + [["|||0", "|||0"], ["|||0"], ["|||0"]], told
    # As it was, and with what counts no more beside it.
    tenant = api.db.one("SELECT tenant_id FROM tenant WHERE id = 'acme'")
    told = each(api, [mine + WHO, mine + NEW.format(":'kept'") + WHO, mine + NEW.format("''") + NEW.format(f":'seal' || {sealed}") + WHO, mine + old + WHO])
    assert [out.strip() for out, _ in told] == [f"{tenant}|viewer|test|20"] * 4, told
    assert api.db.one("SELECT count(*) FROM device WHERE lifecycle = 'transferred'") == 0


@pytest.mark.parametrize("name", ["x\n2\noperator\nx", "\n\n\n", "\n", "x\n", "2", "\N{SNOWMAN}\n\N{GRINNING FACE}", "\\n2\\noperator"])
def test_a_name_that_holds_anything(api, name):
    """It is all the rest: no line of it is taken for the tenant or the role."""
    api.db.sql("INSERT INTO api_token (tenant_id, role, name, hash) SELECT tenant_id, 'viewer', %s, sha256(convert_to(%s, 'UTF8')) FROM tenant WHERE id = 'acme'", (name, name))
    with psycopg2.connect(api.db.uri("fleetstate_api")) as db, db.cursor() as c:
        c.execute("SELECT tenant FROM sign_in(sha256(convert_to(%s, 'UTF8')), NULL)", (name,))
        c.execute("SELECT t.id, role_context(), who_context() FROM tenant t")
        assert c.fetchall() == [("acme", "viewer", name)]


@pytest.mark.parametrize("call", ["SELECT tenant FROM sign_in({hash}, NULL);", "SELECT tenant_context();", "SELECT role_context();", "SELECT who_context();",
                                  "SELECT count(*) FROM device;"])
def test_the_secret_is_in_no_printed_plan(api, call):
    """Whoever runs SQL may have its plans printed for him, also those of the functions that it calls."""
    secret = bytes(api.db.one("SELECT secret FROM context_secret"))
    shown = "".join(str(b - 256 if b > 127 else b) for b in secret)
    seen = ""
    for before in "", "SET fleetstate.tenant = '1';", f"SET fleetstate.context = '{'0' * 32}';", f"BEGIN; SELECT tenant FROM sign_in({hash_of(api.tokens['acme'])}, NULL); DISCARD PLANS;":
        out, err = psql(api, f"{before} SET client_min_messages = log; SET debug_print_plan = on; {call.format(hash=hash_of(api.tokens['acme']))}")
        seen += out + err
    assert ":planTree" in seen and shown not in "".join(seen.split())  # lines end amid a number


@pytest.mark.parametrize("end", ["COMMIT;", "ROLLBACK;", "SELECT 1 / 0; COMMIT;", "ROLLBACK TO SAVEPOINT s; COMMIT;", "SAVEPOINT t; RELEASE t; COMMIT;"])
def test_a_stale_one(api, end):
    out, _ = psql(api, f"BEGIN; SAVEPOINT s; SELECT tenant FROM sign_in({hash_of(api.tokens['acme'])}, NULL); SELECT count(*) FROM device; {end} SELECT count(*) FROM device;")
    assert out.split()[:2] == ["acme", "20"] and out.split()[-1] == "0"


def test_no_other_s_credential(api):
    api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "gone")
    api.db.sql("UPDATE api_token SET revoked_at = now(), hash = sha256('gone') WHERE name = 'gone'")
    for given in hash_of("fst_"), hash_of("gone"), "NULL", "''", "(SELECT hash FROM api_token LIMIT 1)":
        out, err = psql(api, f"BEGIN; SELECT * FROM sign_in({given}, 'acme'); SELECT count(*) FROM device; COMMIT;")
        assert out == "" and re.search("no such token|permission denied", err)
    out, err = psql(api, f"BEGIN; SELECT * FROM sign_in({hash_of(api.tokens['acme'])}, 'globex'); COMMIT;")
    assert out == "" and "no such tenant" in err


FORBIDDEN = [
    "SET ROLE fleetstate_owner", "SET ROLE fleetstate_ingest", "SET ROLE postgres", "SET SESSION AUTHORIZATION fleetstate_owner", "ALTER ROLE fleetstate_api BYPASSRLS",
    "GRANT fleetstate_owner TO fleetstate_api", "ALTER TABLE device DISABLE ROW LEVEL SECURITY", "DROP POLICY tenant ON device", "CREATE VIEW v AS SELECT * FROM device",
    "CREATE TABLE fleetstate.x (i int)", "CREATE TABLE public.x (i int)", "CREATE TEMP TABLE x (i int)", "CREATE SCHEMA x",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", "CREATE EXTENSION dblink", "CREATE RULE r AS ON SELECT TO device DO INSTEAD SELECT 1",
    "CREATE TRIGGER t BEFORE INSERT ON device EXECUTE FUNCTION suppress_redundant_updates_trigger()", "COPY device TO PROGRAM 'cat'", "COPY device TO '/tmp/x'",
    "COPY (SELECT 1) TO '/tmp/x'", "COPY device FROM '/etc/passwd'", "SELECT pg_read_file('/etc/passwd')", "SELECT lo_import('/etc/passwd')", "SELECT pg_ls_dir('.')",
    "ALTER SYSTEM SET row_security = off", "ALTER DATABASE fleetstate SET fleetstate.tenant = '1'", "LOAD 'plpgsql'", "SELECT set_config('session_preload_libraries', 'x', false)",
    "DELETE FROM device", "UPDATE audit SET line = ''", "DELETE FROM audit", "INSERT INTO audit VALUES (1, 1, now(), '', '')", "TRUNCATE audit", "BEGIN; LOCK audit_head",
    "SELECT audit_append(1, now(), '{}')", "SELECT * FROM audit_who('')", "SELECT * FROM credential('')", "SELECT * FROM caller('', 'x')", "SELECT * FROM api_session"]


def test_what_it_may_not(api):
    words = "permission denied|must (be|have) |only (superuser|roles)|not (allowed|permitted)"
    for statement, (out, err) in zip(FORBIDDEN, each(api, [s + ";" for s in FORBIDDEN]), strict=True):
        assert out == "" and re.search(words, err), (statement, out, err)


def calls(api, arguments):
    """Every function of ours that it may call, with such arguments by type, else with NULL."""
    rows = api.db.sql("SELECT p.proname, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS x (t, i) ORDER BY i), p.prosecdef FROM pg_proc p"
                      " WHERE p.pronamespace = 'fleetstate'::regnamespace AND p.prorettype <> 'trigger'::regtype AND has_function_privilege('fleetstate_api', p.oid, 'EXECUTE')")
    assert len(rows) > 40 and len([r for r in rows if r[2]]) > 20
    for name, types, _ in rows:
        yield name, f"SELECT * FROM {name}({', '.join(arguments.get(t, 'NULL') + '::' + t for t in types)})"


@pytest.mark.parametrize("arguments", [
    {}, {"bigint": "1", "integer": "1", "text": "'own'", "bytea": f"'\\x{A}'", "bigint[]": "'{1,2}'", "integer[]": "'{1,2}'", "jsonb": "'{}'", "boolean": "true",
         "text[]": "'{acme}'", "timestamp with time zone": "now()"},
    {"bigint": "2", "integer": "2", "text": "'acme'", "bytea": f"'\\x{B}'", "bigint[]": "'{1}'", "integer[]": "'{1}'", "jsonb": '\'{"when": "strict $.a == 1"}\'',
     "boolean": "false", "text[]": "'{globex}'", "timestamp with time zone": "'2001-01-01'"}], ids=["null", "some", "others"])
def test_functions(api, arguments):
    counted = "SELECT (SELECT count(*) FROM policy), (SELECT count(*) FROM maintenance), (SELECT count(*) FROM api_token), (SELECT count(*) FROM sink), (SELECT sum(revision) FROM policy)"
    before = api.db.sql(counted)
    given = "".join(arguments.values())
    all_of_them = list(calls(api, arguments))
    for (name, _), (out, err) in zip(all_of_them, each(api, [f"BEGIN; {call};" for _, call in all_of_them]), strict=True):
        assert not [m for m in MARKS if m in out and m not in given], (name, out)
    assert api.db.sql(counted) == before


@pytest.fixture
def logged(api):
    """It on a copy of the database, of which the server's log has all that the role runs: whoever asks every route changes and removes much."""
    api.stop()
    other = copy.copy(api)
    other.db = api.db.copy()
    with contextlib.closing(psycopg2.connect(other.db.uri("postgres"))) as db:
        db.autocommit = True
        for statement in f"ALTER ROLE fleetstate_api IN DATABASE {other.db.name} SET log_statement = 'all'", "ALTER SYSTEM SET log_line_prefix = 'by=%u '", "SELECT pg_reload_conf()":
            db.cursor().execute(statement)
    other.start()
    yield other
    if other.process.poll() is None:
        other.stop()
    api.start()


def test_only_the_listed_statements_are_run(logged):
    """As the server's own log has it, with every route asked: what the collector runs is prepared under a name of the one table."""
    listed = set(re.findall(r'\[QUERY_\w+\] =\s*\{"(\w+)"', (ROOT / "collector/query_sql.c").read_text()))
    assert len(listed) == (ROOT / "collector/query_sql.h").read_text().count("\tQUERY_") and "sign_in" in listed
    for kind, name in re.findall(r'\t(ORDER|NARROW|NEAR)\(\w+, "(\w+)"', (ROOT / "collector/device_order.h").read_text()):
        listed |= {f"devices_{PREPARED[kind]}_{name}{way}" for way in ("", "_down")}
    where = logged.log.stat().st_size
    admin = logged.db.cli("token", "add", "--tenant", "acme", "--role", "admin", "all")
    named = {"ueid": A, "epoch": "0" * 16, "seq": "1", "sha256": "0" * 64, "file": "x"}
    for method, path, *_ in ROUTES:
        target = re.sub(r"\{(\w+)\}", lambda m: named.get(m[1], "1"), path)
        with logged.ask(target, admin, method=method, stream=True, **({} if method == "GET" else {"json": {}})):
            pass
    hostile = "'; SELECT set_config('fleetstate.tenant', '2', false) --"
    for path in "/v1/devices", "/v1/alerts", "/v1/audit", "/v1/events":
        logged.session.get(f"http://127.0.0.1:{logged.port}{path}", params={"q": hostile, "tenant": hostile, "cursor": hostile}, headers={"Authorization": "Bearer " + admin}, timeout=10)
    logged.stop()
    with open(logged.log) as log:
        log.seek(where)
        lines = [line for line in log if line.startswith("by=fleetstate_api ")]
    prepared = set(re.findall(r"LOG:  execute ([^:]+): ", "".join(lines)))
    plain = {re.search(r"LOG:  statement: (.*)", line)[1] for line in lines if "LOG:  statement: " in line}
    assert len(prepared) > 30 and prepared <= listed, prepared - listed
    assert all(re.match(r"SET \w+ = [^;]*(; SET \w+ = [^;]*)*$|RESET \w+$|SELECT rolsuper OR rolbypassrls|BEGIN READ WRITE|COMMIT$", text) for text in plain), plain
