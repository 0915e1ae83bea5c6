"""The command line as a client: `fleetstate --url` says what the interface says, of every operation, as a table, JSON and CSV."""

import contextlib
import csv
import hashlib
import http.server
import io
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from parts import BIN, ROOT, await_true, free_port, watched
from test_api import A, B, DESCRIPTION, EPOCH, Api, ueid
from test_api_writes import GOOD, LATER
from test_inventory import HAS, SET, array

DEVICES = 2300  # three pages
HOSTILE = "=1+1\x1b[31m\u202e\"quoted\"\r\nnext,\u00e4"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("client")
    api = Api(directory, devices=DEVICES)
    for role in "analyst", "admin":
        api.tokens[role] = api.db.cli("token", "add", "--tenant", "acme", "--role", role, role)
    api.db.sql("UPDATE device SET serial = %s WHERE ueid = decode(%s, 'hex')", (HOSTILE, ueid("acme", 3)))
    api.db.sql("INSERT INTO event (tenant_id, type, data) SELECT tenant_id, 'test', json_build_object('n', n) FROM tenant, generate_series(1, 1200) n WHERE id = 'acme'")
    api.db.sql("SELECT number_events()")
    yield api
    api.close()


def call(api, *words, token="acme", status=0, env=(), stdin=None, text=True, out=b"", note=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FLEETSTATE_", "PG"))}
    clean["FLEETSTATE_TOKEN"] = api.tokens.get(token, token)
    done = subprocess.run([BIN / "fleetstate", "--url", f"http://127.0.0.1:{api.port}", *words], capture_output=True, input=stdin, timeout=60, env={**clean, **dict(env)})
    assert done.returncode == status, (words, done.returncode, done.stderr)
    if note is None:
        note = rb"(Fleetstate-Position: \d+\n)?" if "export" in words and status == 0 else b""
    assert (re.fullmatch(note, done.stderr) is not None) == (status == 0), done.stderr
    if status:
        assert done.stdout == out
        assert done.stderr.count(b"\n") == 1 or status == 2, "an error is one line"
        return done.stderr.decode()
    return done.stdout.decode() if text else done.stdout


OPERATIONS = re.findall(r'^OPERATION\("([a-z-]+)", (?:"([a-z-]+)"|NULL), "([A-Z]+)", "([^"]+)"', (ROOT / "collector/cli/operations.def").read_text(), re.M)
REPORT = hashlib.sha256(f"{A}2".encode()).hexdigest()
# Operands and options of each, and what the interface is asked the same with; what writes has tests of its own.
SAME = {("device", "list"): (["--model", "model-1", "--limit", "5"], "?model=model-1&limit=5"), ("device", "inventory"): ([A], ""), ("event", "list"): (["--limit", "3"], "?limit=3"),
        ("component", "show"): (["1"], ""), ("component", "devices"): (["1"], ""), ("diff", ""): (["--a", A, "--b", A], f"?a={A}&b={A}"),
        ("report", "show"): ([REPORT], ""), ("report", "proof"): ([REPORT], ""), ("device", "report"): ([A, EPOCH, "2"], ""), ("policy", "show"): (["client"], ""),
        ("alert", "show"): (["1"], ""), ("asset", "export"): (["--csv"], "?format=csv")}
# What is no JSON is written as it comes, and can't be shown otherwise.
AS_IT_COMES = [o for o in OPERATIONS if o[2] == "GET" and "application/json" not in DESCRIPTION.resolve(DESCRIPTION.operations[o[2], o[3]]["responses"]["200"])["content"]]


@pytest.mark.parametrize("noun, verb, method, path", [o for o in OPERATIONS if o[2] == "GET" and o[1] != "stream"])
def test_every_question_is_the_interfaces(api, noun, verb, method, path):
    if (noun, verb) == ("policy", "show"):
        assert api.ask("/v1/policies/client", "admin", "PUT", json=GOOD).status_code in (200, 201)
    usual = {"ueid": A, "sha256": "f" * 64}
    words, query = SAME.get((noun, verb), ([usual.get(name, "1") for name in re.findall(r"\{(\w+)\}", path)], ""))
    target = path
    for word in words:
        target = re.sub(r"\{\w+\}", word, target, 1)
    role = "admin" if noun in ("sink", "token", "audit") else "acme"
    answer = api.ask(target + query, role)
    if answer.status_code >= 400:
        problem = answer.json()
        said = call(api, noun, *[verb] * bool(verb), *words, token=role, status=1)
        expected = f"fleetstate: {answer.status_code} {problem['type'].rsplit(':', 1)[1]}: {problem.get('detail', problem['title'])}\n"
        # A later checkpoint may have been made between the two.
        assert re.sub(r"\S+Z\b", "then", said) == re.sub(r"\S+Z\b", "then", expected)
        return
    as_it_comes = (noun, verb, method, path) in AS_IT_COMES or noun == "asset"
    told = call(api, noun, *[verb] * bool(verb), *words, *["--json"] * (not as_it_comes), token=role, text=False)
    if answer.headers["Content-Type"] != "application/json":
        assert noun == "metrics" or told == answer.content
        return
    mine, theirs = json.loads(told), answer.json()
    if isinstance(mine, list):
        assert [i.get("id", i.get("ueid")) for i in mine][:len(theirs["items"])] == [i.get("id", i.get("ueid")) for i in theirs["items"]]
    else:
        assert set(mine) == set(theirs)


def test_pages_are_followed(api):
    everything = api.pages("/v1/devices?limit=1000")
    assert len(everything) == DEVICES
    assert json.loads(call(api, "device", "list", "--json")) == everything
    assert json.loads(call(api, "device", "list", "--json", "--limit", "1500")) == everything[:1500]
    assert len(json.loads(call(api, "event", "list", "--json", "--type", "test"))) == api.db.one("SELECT count(*) FROM event JOIN tenant USING (tenant_id) WHERE id = 'acme'"
                                                                                                 " AND type = 'test'") > 1000
    rows = list(csv.DictReader(io.StringIO(call(api, "device", "list", "--csv"), newline="")))
    assert [r["ueid"] for r in rows] == [d["ueid"] for d in everything] and list(rows[0]) == list(everything[0])
    table = call(api, "device", "list", "--fields", "ueid,posture,serial").splitlines()
    assert table[0].split() == ["ueid", "posture", "serial"] and len(table) == DEVICES + 1
    assert [line.split()[:2] for line in table[1:]] == [[d["ueid"], d["posture"]] for d in everything]
    assert json.loads(call(api, "device", "list", "--json", "--fields", "ueid", "--limit", "2")) == [{"ueid": d["ueid"]} for d in everything[:2]]


# Of lists what matches nothing; of the others either nothing is there at all, or always something.
NOTHING = {("device", "list"): ["--model", "none"], ("device", "reports"): ["--epoch", "0" * 16], ("component", "list"): ["--name", "none"],
           ("refusal", "list"): ["--reason", "malformed"], ("alert", "list"): ["--policy", "none"], ("event", "list"): ["--type", "tenant.hold"],
           ("audit", "list"): ["--until", "2020-01-01T00:00:00Z"]}
LISTS = [o for o in OPERATIONS if {"$ref": "#/components/parameters/limit"} in DESCRIPTION.operations[o[2], o[3]].get("parameters", [])]


@pytest.mark.parametrize("noun, verb, method, path", LISTS)
def test_rows_have_a_head_whatever_matches(api, noun, verb, method, path):
    """The same one: whoever reads them finds the columns, also when there is nothing in them or when what they are of comes later."""
    words = [noun, *[verb] * bool(verb), *[A if n == "ueid" else "1" for n in re.findall(r"\{(\w+)\}", path)]]
    token = "operator" if noun in ("tenant", "trust-anchor") else "admin"

    def rows(*options):
        return list(csv.reader(io.StringIO(call(api, *words, *options, "--csv", token=token), newline="")))

    items = json.loads(call(api, *words, "--json", token=token))
    head, *told = rows()
    # Who reads the audit log may come into it.
    assert len(items) <= len(told) <= len(items) + (noun == "audit") and set().union(*items) <= set(head) and len(set(head)) == len(head)
    if (noun, verb) in NOTHING:
        assert rows(*NOTHING[noun, verb]) == [head]
        assert rows(*NOTHING[noun, verb], "--fields", f"{head[1]},{head[0]}") == [[head[1], head[0]]]
        assert call(api, *words, *NOTHING[noun, verb], token=token) == "", "a table for people has none"


COLUMNS = {(noun, verb): columns.split(",") for noun, verb, columns in re.findall(r'^OPERATION\("([a-z-]+)", "([a-z-]+)", .*, "([a-z0-9_,]+)"\)$',
                                                                                 (ROOT / "collector/cli/operations.def").read_text(), re.M)}


def on_terminal(api, width, *words, token="acme"):
    """What is on a terminal of so many columns, and what is told beside it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    env = {"FLEETSTATE_TOKEN": api.tokens[token], "PATH": os.environ["PATH"]}
    process = subprocess.Popen([BIN / "fleetstate", "--url", f"http://127.0.0.1:{api.port}", *words], stdout=theirs, stderr=subprocess.PIPE, env=env, text=True)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            told += piece
    os.close(ours)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 0, error
    return told.decode().splitlines(), error


@pytest.mark.parametrize("noun, verb", COLUMNS)
def test_a_table_has_what_is_telling(api, noun, verb):
    """The columns of its row, as far as they fit a terminal; a pipe takes all of them, and what is asked for by name comes whatever its width."""
    [(method, path)] = [o[2:] for o in OPERATIONS if o[:2] == (noun, verb)]
    assert (noun, verb, method, path) in LISTS
    columns, words = COLUMNS[noun, verb], [noun, verb, *[A if n == "ueid" else "1" for n in re.findall(r"\{(\w+)\}", path)], "--limit", "3"]
    items = json.loads(call(api, *words, "--json", token="admin"))
    assert set(columns) <= set(next(csv.reader(io.StringIO(call(api, *words, "--csv", token="admin"), newline=""))))
    table = call(api, *words, token="admin").splitlines()
    assert len(table) == (len(items) + 1 if items else 0) and (not items or table[0].split() == columns)
    for width in 24, 60, 80, 300:
        lines, error = on_terminal(api, width, *words, token="admin")
        assert len(lines) == len(table) and all(len(line) <= width for line in lines)
        if items:
            left_out = error.removeprefix("fleetstate: left out, as the terminal is narrow: ").split()
            assert lines[0].split() == [c for c in columns if c not in left_out] and set(left_out) <= set(columns)
            assert width > 24 or left_out, "so little has no room for all"
            assert width < 300 or not left_out
    last = columns[-1]
    lines, error = on_terminal(api, 5, *words, "--fields", f"{last},{columns[0]}", token="admin")
    assert error == "" and (not items or lines[0].split() == [last, columns[0]])


def test_what_is_cut_says_so(api):
    long = "\u00e4" * 200
    api.db.sql("INSERT INTO event (tenant_id, type, data) SELECT tenant_id, 'device.reprovision', json_build_object('text', %s::text) FROM tenant WHERE id = 'acme'", (long,))
    api.db.sql("SELECT number_events()")
    [_, row], error = on_terminal(api, 100, "event", "list", "--type", "device.reprovision")
    assert len(row) == 100 and row.endswith("\u00e4\u2026") and long not in row and error == ""
    assert long in call(api, "event", "list", "--type", "device.reprovision") and on_terminal(api, 20, "event", "list", "--type", "device.reprovision", "--json") == (call(
        api, "event", "list", "--type", "device.reprovision", "--json").splitlines(), "")


def test_hostile_text(api):
    line = call(api, "device", "list", "--fields", "ueid,serial", "--limit", "4").split("\n")[4]
    assert line.split(None, 1)[1] == "=1+1?[31m?\"quoted\"??next,\u00e4"
    row = list(csv.DictReader(io.StringIO(call(api, "device", "list", "--csv", "--limit", "4"), newline="")))[3]
    assert row["serial"] == "'" + HOSTILE
    assert json.loads(call(api, "device", "show", ueid("acme", 3), "--json"))["serial"] == HOSTILE
    assert "\x1b" not in call(api, "device", "show", ueid("acme", 3))


def test_cells_stand_apart(api):
    """However long what is in one of them is: a digest does not run into the next."""
    head, row = call(api, "device", "list", "--limit", "1", "--fields", "state_digest,inventory_digest,ueid").splitlines()
    first = api.get("/v1/devices?limit=1")["items"][0]
    assert row.split() == [first["state_digest"], first["inventory_digest"], A] and head.index("ueid") == row.index(A)
    long = "x" * 300
    api.db.sql("UPDATE device SET vendor = %s WHERE ueid = decode(%s, 'hex')", (long, A))
    assert call(api, "device", "list", "--limit", "1", "--fields", "vendor,ueid").splitlines()[1] == f"{long}  {A}"
    api.db.sql("UPDATE device SET vendor = NULL WHERE ueid = decode(%s, 'hex')", (A,))


def test_nested_values_are_json_in_cells(api):
    row = next(csv.DictReader(io.StringIO(call(api, "device", "show", A, "--csv"), newline="")))
    item = api.get(f"/v1/devices/{A}")
    assert json.loads(row["reasons"]) == item["reasons"] and row["ueid"] == A
    lines = dict(line.split(None, 1) if len(line.split(None, 1)) == 2 else (line.strip(), "") for line in call(api, "device", "show", A).splitlines())
    assert {name.split(".")[0] for name in lines} == set(item) and lines["posture"].strip() == item["posture"]
    # In a table what is in an object has lines of its own.
    assert {k.removeprefix("ledger."): int(v) for k, v in lines.items() if k.startswith("ledger.")} == item["ledger"]
    assert re.search(r"^state.boot.secure +false$", call(api, "device", "state", A), re.M)


def test_a_difference_is_a_table_too(api):
    """Lines of what is said of both, then the items; as CSV the items alone."""
    other = ueid("acme", 1)
    api.db.sql(SET, {"set": "other", "names": [array(("dpkg", "nano", "7", "amd64", None, None, None)), array(("dpkg", "openssl", "9", None, None, None, None))]})
    api.db.sql(HAS, ("other", other))
    words, told = ("diff", "--a", A, "--b", other), api.get(f"/v1/diff?a={A}&b={other}")
    assert len(told["items"]) >= 3 and json.loads(call(api, *words, "--json")) == told
    head, table = call(api, *words).split("\n\n")
    assert [line.split() for line in head.splitlines()][0] == ["a.ueid", A] and "same" in head
    assert table.splitlines()[0].split()[:2] == ["type", "name"] and len(table.splitlines()) == len(told["items"]) + 1
    rows = list(csv.DictReader(io.StringIO(call(api, *words, "--csv"), newline="")))
    assert [r["name"] for r in rows] == [i["name"] for i in told["items"]] and json.loads(next(r["b"] for r in rows if r["name"] == "nano")) == ["7"]
    assert "next" not in head and json.loads(call(api, *words, "--json", "--limit", "2")) == api.get(f"/v1/diff?a={A}&b={other}&limit=2")
    cursor = api.get(f"/v1/diff?a={A}&b={other}&limit=2")["next"]
    assert cursor in call(api, *words, "--limit", "2") and json.loads(call(api, *words, "--json", "--cursor", cursor))["items"] == told["items"][2:]
    assert "bad-cursor" in call(api, *words, "--cursor", "x", status=1)
    api.db.sql(HAS, ("other", ueid("acme", 2)))
    assert call(api, "diff", "--a", other, "--b", ueid("acme", 2), "--csv") == ",".join(f'"{name}"' for name in rows[0]) + "\r\n"


def test_a_large_difference_is_put_together(api):
    """Pages as the collector makes them, one after the other."""
    names = [array(("dpkg", f"{i:05}" + "n" * 250, "v" * 100, None, None, None, None)) for i in range(6000)]
    for device, mine in (ueid("acme", 4), names[:3000]), (ueid("acme", 5), names[3000:]):
        api.db.sql(SET, {"set": device, "names": mine})
        api.db.sql(HAS, (device, device))
    words = "diff", "--a", ueid("acme", 4), "--b", ueid("acme", 5)
    assert api.get(f"/v1/diff?a={ueid('acme', 4)}&b={ueid('acme', 5)}")["next"]
    told = json.loads(call(api, *words, "--json"))
    assert [i["name"][:5] for i in told["items"]] == [f"{i:05}" for i in range(6000)] and told["next"] is None
    assert len(list(csv.DictReader(io.StringIO(call(api, *words, "--csv"), newline="")))) == 6000


def test_writing(api):
    made = json.loads(call(api, "maintenance", "add", "title=Roll-out", f"until={LATER}", 'scope:={"model": ["model-1"]}', "--json", token="analyst"))
    assert made["title"] == "Roll-out" and made["scope"] == {"model": ["model-1"]}
    assert made["id"] in [m["id"] for m in json.loads(call(api, "maintenance", "list", "--json"))]
    assert call(api, "maintenance", "delete", str(made["id"]), token="analyst") == ""
    assert call(api, "maintenance", "delete", str(made["id"]), token="analyst", status=1).startswith("fleetstate: 404 not-found: ")
    body = json.dumps(GOOD).encode()
    assert json.loads(call(api, "policy", "put", "by-body", "--body", "-", "--json", token="admin", stdin=body))["title"] == GOOD["title"]
    assert "412 precondition-failed" in call(api, "policy", "put", "by-body", "--body", "-", "--if-match", '"999"', token="admin", stdin=body, status=1)
    assert call(api, "policy", "delete", "by-body", token="admin") == ""
    secret = json.loads(call(api, "token", "add", "role=viewer", "name=mine", "--json", token="admin"))
    assert call(api, "fleet", "show", token=secret["token"])
    assert "devices" in json.loads(call(api, "policy", "preview", "when=strict $.boot.secure == false", "--json"))
    assert "403 forbidden" in call(api, "maintenance", "add", "title=x", f"until={LATER}", status=1)
    assert "400 bad-body" in call(api, "maintenance", "add", "title=x", "until=never", token="analyst", status=1)


def test_an_operator_makes_a_tenant_and_registers_a_list_for_it(api, tmp_path):
    """Neither is like other calls: the one is no tenant's, and with the other no key goes."""
    assert json.loads(call(api, "tenant", "add", "id=third", "name=Third", "--json", token="operator"))["id"] == "third"
    file = tmp_path / "devices.csv"
    file.write_text(f"ueid,serial\n{ueid('third', 1)},x\n{ueid('third', 2)},y\n")
    words = ("device", "add", "--tenant", "third", "--body", file, "--json")
    for dry in True, False:
        assert json.loads(call(api, *words, *["--dry-run", "true"] * dry, token="operator")) == {"devices": 2, "dry_run": dry}
    assert len(json.loads(call(api, "device", "list", "--tenant", "third", "--json", token="operator"))) == 2


def test_the_same_key_is_the_same(api):
    words = ("maintenance", "add", "title=once", f"until={LATER}", "--idempotency-key", "client-1", "--json")
    assert call(api, *words, token="analyst") == call(api, *words, token="analyst")


@pytest.mark.parametrize("words, says", [
    (("nothing",), "no such command"), (("device", "fly"), "no such command"), (("device", "show"), "usage:"), (("device", "show", A, B), "usage:"),
    (("device", "list", "--colour", "red"), "usage:"), (("device", "list", "--limit", "x"), "--limit"),
    (("device", "list", "--limit", "0"), "--limit"), (("maintenance", "add", "title"), "usage:"), (("maintenance", "add", "=x"), "usage:"),
    (("maintenance", "add", "a:={"), "not JSON"), (("policy", "put", "x", "--body", "/proc/nonexistent"), "No such file"), (("migrate",), "nothing to ask"),
    (("policy", "put", "x", "--body", "-", "a=b"), "usage:"),
    (("policy", "delete", "x", "--if-match", "a\nb"), "line's end"), (("device", "list", "--output", "/proc/nonexistent/x"), "No such file")])
def test_wrong_calls(api, words, says):
    assert says in call(api, *words, status=2)


@pytest.mark.parametrize("words", [("--url", "ftp://example.com"), ("--url", "http://a b"), ("--url", "example.com"), ("--url", "http://user@example.com"), ("--token", "a b"),
                                   ("--token-file", "/proc/nonexistent")])
def test_wrong_servers(api, words):
    call(api, *words, "fleet", "show", status=2)


def test_a_collector_that_is_not_there(api):
    assert "127.0.0.1" in call(api, "--url", f"http://127.0.0.1:{free_port()}", "policy", "delete", "x", status=3)


def test_where_the_token_comes_from(api, tmp_path):
    file = tmp_path / "token"
    file.write_text(api.tokens["admin"] + "\nmore\n")
    assert call(api, "--token-file", file, "token", "list", token="none")
    assert call(api, "--token", api.tokens["admin"], "token", "list", token="none")
    for wrong in "none", "", "fst_" + "A" * 43:
        said = call(api, "fleet", "show", token=wrong, status=1)
        assert said.startswith("fleetstate: 401 unauthorized: ") and said.endswith(" The token is that of --token-file, --token or FLEETSTATE_TOKEN.\n")
    env = {"FLEETSTATE_URL": f"http://127.0.0.1:{api.port}/", "FLEETSTATE_TOKEN": api.tokens["acme"], "PATH": os.environ["PATH"]}
    told = subprocess.run([BIN / "fleetstate", "device", "list", "--limit", "1", "--json"], env=env, capture_output=True, timeout=60, check=True).stdout
    assert len(json.loads(told)) == 1


def test_who_is_asked(api):
    """An option counts more than the environment, and there a collector more than a database; the error says which it was."""
    nowhere, away = {"PGHOST": "/proc/nonexistent"}, {"FLEETSTATE_URL": f"http://127.0.0.1:{free_port()}"}
    here, other = {"FLEETSTATE_URL": f"http://127.0.0.1:{api.port}", "FLEETSTATE_TOKEN": api.tokens["acme"]}, {"FLEETSTATE_DATABASE": "host=/proc/other"}

    def told(*words, status=0, **env):
        done = subprocess.run([BIN / "fleetstate", *words], env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, (words, done.stderr)
        return done.stdout if status == 0 else done.stderr

    for env in nowhere, other, {**nowhere, **other}:
        assert A in told("device", "show", A, **here, **env)
        assert "device list" not in told("fleet", "show", **here, **env)
    assert A in told("--url", here["FLEETSTATE_URL"], "device", "show", A, FLEETSTATE_TOKEN=api.tokens["acme"], **away, **nowhere)
    assert "database of --database" in told("--database", "host=/proc/nonexistent", "device", "list", status=1, **here, **other)
    assert "database of PGHOST" in told("device", "list", status=1, **nowhere)
    assert "database of FLEETSTATE_DATABASE" in told("device", "list", status=1, **nowhere, **other)
    assert away["FLEETSTATE_URL"] in told("device", "list", status=3, **away, **nowhere)
    # What only the one or the other can do.
    assert "database of PGHOST" in told("key", "list", A, status=1, **here, **nowhere)
    assert "--url or FLEETSTATE_URL" in told("fleet", "show", status=2, **nowhere)
    assert "--database asks the database" in told("token", "add", "--role", "viewer", "siem", status=2, **here, **other)
    assert "GET /v1/fleet" in told("fleet", "show", "--help") and "usage:" in told("device", "list", "--help")
    assert "one of them" in told("--url", here["FLEETSTATE_URL"], "--database", "host=/proc/nonexistent", "device", "list", status=2)


COMMANDS = [(noun, verb) for noun, verb in re.findall(r'^\t\{"([a-z-]+)", (?:"([a-z-]+)"|NULL),', (ROOT / "collector/cli/main.c").read_text(), re.M)]
LOCAL = [("verify", ""), ("baseline", "make"), ("baseline", "show"), ("policy", "test"), ("completion", "")]


@pytest.mark.parametrize("noun, verb", [c for c in COMMANDS if c not in {o[:2] for o in OPERATIONS} | set(LOCAL)])
def test_what_only_the_database_does_names_the_same_over_http(api, noun, verb):
    """What it names there is: the command, its options, and the members of what is sent."""
    said = call(api, noun, *[verb] * bool(verb), status=2)
    name = " ".join(filter(None, (noun, verb)))
    if said == f"fleetstate: {name} works on the database and is nothing to ask a collector for\n":
        return
    words = shlex.split(re.fullmatch(f"fleetstate: {name} works on the database; over HTTP it is: fleetstate (.*)\n", said)[1])
    method, path = {o[:2]: o[2:] for o in OPERATIONS}[tuple(words[:2])]
    told = call(api, *words[:2], "--help")
    members = set(" ".join(re.findall("  (?:needed|other) NAMEs: (.*)", told)).split())
    assert {word for word in words if word.startswith("--")} <= set(re.findall("^  (--[a-z-]+)", told, re.M))
    assert {re.split(":?=", word)[0] for word in words if "=" in word} <= members
    assert len([word for word in words[2:] if word.isupper()]) >= path.count("{")


def test_what_only_the_database_does_says_so_when_there_is_none():
    nowhere, away = {"PGHOST": "/proc/nonexistent"}, {"FLEETSTATE_URL": "http://127.0.0.1:1"}
    says = "works on the database"

    def told(*words, **env):
        done = subprocess.run([BIN / "fleetstate", *words], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "database of " in done.stderr.splitlines()[0], done.stderr
        return done.stderr.splitlines()[-1]

    assert told("device", "label", A, "a=b", **nowhere, **away) == (
        f"fleetstate: device label {says}; over HTTP it is: fleetstate device change UEID labels:='{{\"KEY\": \"VALUE\"}}'")
    assert told("key", "list", A, **nowhere, **away) == f"fleetstate: key list {says} and is nothing to ask a collector for"
    # Who did not speak of a collector does not hear of one.
    for words in ("device", "label", A, "a=b"), ("key", "list", A), ("device", "list"):
        assert says not in told(*words, **nowhere)
        assert says not in told(*words, **nowhere, FLEETSTATE_URL="")
        assert says not in told("--database", "host=/proc/nonexistent", *words, **away)


def test_signed_bytes_and_files(api, tmp_path):
    assert call(api, "report", "show", REPORT, text=False) == f"{A}2".encode()
    assert call(api, "report", "show", REPORT, "--output", tmp_path / "report") == "" and (tmp_path / "report").read_bytes() == f"{A}2".encode()
    call(api, "asset", "export", "--format", "ocsf", "--output", tmp_path / "assets")
    assert len({json.loads(line)["device"]["uid"] for line in (tmp_path / "assets").read_text().splitlines()}) == DEVICES
    assert call(api, "openapi", text=False) == (ROOT / "schema/openapi.yaml").read_bytes()


def test_an_export_has_formats_of_its_own(api):
    def told(*options):
        return call(api, "asset", "export", *options, text=False)

    lines, rows = api.ask("/v1/assets?format=ndjson").content, api.ask("/v1/assets?format=csv").content
    assert lines.count(b"\n") == DEVICES and told("--json") == told("--json", "--format", "ndjson") == told() == lines
    assert told("--csv") == told("--csv", "--format", "csv") == told("--format", "csv") == rows
    assert "JSON lines, as --format ndjson" in told("--help").decode() and "as --format csv" in told("--help").decode()


@pytest.mark.parametrize("words", [("device", "list", "--limit", "3"), ("device", "inventory", A), ("device", "alerts", A), ("alert", "list")], ids=" ".join)
def test_the_usual_format_is_json(api, words):
    assert call(api, *words, "--format", "json") == call(api, *words, "--format", "json", "--json") == call(api, *words, "--json")
    assert call(api, *words) != call(api, *words, "--json")


FORMATS = {o[:2]: DESCRIPTION.resolve(p["schema"])["enum"] for o in OPERATIONS for p in map(DESCRIPTION.resolve, DESCRIPTION.operations[o[2], o[3]].get("parameters", []))
           if p["name"] == "format" and o[0] != "event"}
CONTRADICTIONS = [(*command, own, format) for command, formats in FORMATS.items() for own in ("json", "csv") for format in formats
                  if format != own and not (own == "json" and format == "ndjson" and command == ("asset", "export"))]


@pytest.mark.parametrize("noun, verb, own, format", CONTRADICTIONS)
def test_a_contradiction_is_an_error(api, tmp_path, noun, verb, own, format):
    words = (noun, verb, *[A] * (verb in ("inventory", "alerts")), "--output", tmp_path / "out")
    for options in (("--format", format, f"--{own}"), (f"--{own}", "--format", format)):
        assert call(api, *words, *options, status=2) == f"fleetstate: --{own} and --format {format}: one of them\n"
    assert not (tmp_path / "out").exists()


def test_more_contradictions(api):
    assert call(api, "device", "list", "--csv", "--json", status=2) == "fleetstate: --json and --csv: one of them\n"
    for words in ("alert", "list"), ("device", "alerts", A), ("device", "inventory", A):
        assert call(api, *words, "--format", "csv", "--fields", "id", status=2) == "fleetstate: --fields and --format csv: one of them\n"
    for option in ("--csv",), ("--fields", "id"):
        assert "lines of text" in call(api, "event", "list", "--format", "cef", "--limit", "1", *option, status=2)


@pytest.mark.parametrize("noun, verb, method, path", [o for o in AS_IT_COMES if o[0] != "asset" or o[1] != "export"])
def test_what_comes_as_it_is_is_not_shown_otherwise(api, noun, verb, method, path):
    words = [noun, *[verb] * bool(verb), *re.findall(r"\{(\w+)\}", path)]
    for option in ("--json",), ("--csv",), ("--fields", "x"):
        said = call(api, *words, *option, status=2)
        assert f"unrecognized option '{option[0]}'" in said and f"{option[0]} " not in said.split("usage: ")[1]


def test_a_fork_is_no_report(api, tmp_path):
    """What is written to a file of signed bytes is those of one report."""
    both = [r["sha256"] for r in api.get(f"/v1/devices/{A}/reports")["items"] if r["seq"] == 3]
    said = call(api, "device", "report", A, EPOCH, "3", "--output", tmp_path / "report", status=1)
    assert said.startswith("fleetstate: 300: ") and said.split()[-2:] == both and os.listdir(tmp_path) == []
    assert [hashlib.sha256(call(api, "report", "show", one, text=False)).hexdigest() for one in both] == both


def test_what_happens_is_followed(api):
    top = json.loads(call(api, "event", "list", "--json"))[-1]["position"]
    env = {"FLEETSTATE_TOKEN": api.tokens["acme"]}
    process = subprocess.Popen([BIN / "fleetstate", "--url", f"http://127.0.0.1:{api.port}", "event", "list", "--follow", "--after", str(top), "--json"], env=env,
                               stdout=subprocess.PIPE, text=True)
    try:
        for n in range(3):
            api.db.sql("INSERT INTO event (tenant_id, type, data) SELECT tenant_id, 'test', json_build_object('followed', %s) FROM tenant WHERE id = 'acme'", (n,))
            api.db.sql("SELECT number_events()")
            event = json.loads(process.stdout.readline())
            while "followed" not in event["data"]:  # the audit's own
                event = json.loads(process.stdout.readline())
            assert event["data"] == {"followed": n}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_formats_of_events(api):
    lines = call(api, "event", "list", "--format", "cef", "--type", "test", "--limit", "1100").splitlines()
    assert len(lines) == 1100 and all(line.startswith("CEF:0|") for line in lines)
    assert all("raw_data" in event for event in json.loads(call(api, "event", "list", "--format", "ocsf", "--type", "test", "--limit", "3", "--json")))


class Flaky(http.server.BaseHTTPRequestHandler):
    """Breaks its first connections, then is busy, then answers; notes the keys that it was shown."""
    seen, answers = [], []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(self.headers.get("Idempotency-Key"))
        how = self.answers.pop(0)
        how, position = how if isinstance(how, tuple) else (how, None)
        if how == "page":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"items": [{"ueid": "x"}], "next": "2"}')
            self.close_connection = True
            return
        if how in ("break", "half"):
            self.close_connection = True
            if how == "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nFleetstate-Position: 5\r\nContent-Length: 100\r\n\r\n{}\n")
            return
        self.send_response(how)
        if position is not None:
            self.send_header("Fleetstate-Position", position)
        if how in (429, 503):
            self.send_header("Retry-After", "1")
        body = b'{"id": 1}' if how == 201 else b'{"type": "about:blank", "title": "Busy"}' if how != 302 else b""
        self.send_header("Content-Type", "application/json")
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def flaky(api):
    server = http.server.HTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    Flaky.seen.clear()

    def ask(*words, answers, status=0, **how):
        Flaky.answers[:] = answers
        return call(api, "--url", f"http://127.0.0.1:{server.server_address[1]}", *words, status=status, **how)
    yield ask
    server.shutdown()
    server.server_close()


def test_a_broken_connection_is_asked_again_with_the_same_key(flaky):
    assert flaky("maintenance", "add", "title=x", "--json", answers=["break", 503, 201]) == '{"id":1}\n'
    assert len(Flaky.seen) == 3 and len(set(Flaky.seen)) == 1 and re.fullmatch("[0-9a-f]{32}", Flaky.seen[0])


def test_what_may_not_be_repeated_is_not(flaky):
    flaky("maintenance", "delete", "1", answers=["break"], status=3)
    assert len(Flaky.seen) == 1


@pytest.mark.parametrize("words", [(), ("--json",), ("--format", "ndjson")])
def test_half_an_export_is_not_followed_by_a_whole_one(flaky, tmp_path, words):
    """Nothing of it has come yet: it is asked for again. Something has: that is told, and the file stays what it was."""
    out = tmp_path / "assets"
    assert flaky("asset", "export", *words, "--output", out, answers=["break", 503, 201]) == "" and len(Flaky.seen) == 3
    Flaky.seen.clear()
    whole = out.read_bytes()
    flaky("asset", "export", *words, "--output", out, answers=["half", 201], status=3)
    assert len(Flaky.seen) == 1 and out.read_bytes() == whole and os.listdir(tmp_path) == ["assets"]
    assert "Position" not in flaky("asset", "export", *words, answers=["half", 201], status=3, out=b"{}\n")


def test_an_export_says_where_the_next_goes_on(api, tmp_path):
    def position():
        return int(api.ask("/v1/assets?changed_since=0").headers["Fleetstate-Position"])

    before = position()
    for words in (), ("--csv",), ("--format", "cyclonedx"), ("--output", tmp_path / "assets"), ("--changed-since", str(before)):
        done = subprocess.run([BIN / "fleetstate", "--url", f"http://127.0.0.1:{api.port}", "asset", "export", *words], capture_output=True, timeout=60,
                              env={"FLEETSTATE_TOKEN": api.tokens["acme"]}, check=True)
        assert before <= int(re.fullmatch(rb"Fleetstate-Position: (\d+)\n", done.stderr)[1]) <= position()
    assert done.stdout == b""
    for words in ("--changed-since", "x"), ("--format", "xml"), ("--changed-since", str(2**52)), ("--output", "/dev/full"):
        assert "Position:" not in call(api, "asset", "export", *words, status=1)


@pytest.mark.parametrize("position", ["", "x", "-1", "1.5", "1 2", "0x5", "9007199254740992", "9" * 40, "\x1b[31m5"])
def test_what_is_no_position_is_not_said(flaky, position):
    flaky("asset", "export", answers=[(201, "5")], note=rb"Fleetstate-Position: 5\n")
    flaky("asset", "export", answers=[(201, position)], note=b"")


@pytest.mark.parametrize("words, needed, others", [
    (("token", "add"), "role name", "tenant scopes expires_at certificate quota"), (("alert", "acknowledge"), None, "comment"), (("device", "add"), "ueid", "serial model labels lifecycle tenant"),
    (("maintenance", "add"), "title until", "id from scope"), (("fleet", "show"), None, None), (("device", "delete"), None, None), (("session", "close"), None, None)])
def test_help_names_what_a_body_has(words, needed, others):
    told = subprocess.run([BIN / "fleetstate", "--url", "http://127.0.0.1", *words, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.findall("  needed NAMEs: (.*)", told) == [needed] * bool(needed) and re.findall("  other NAMEs: (.*)", told) == [others] * bool(others)


@pytest.mark.parametrize("words", [("device", "list", "--csv", "--limit", "1500"), ("asset", "export"), ("fleet", "show"), ("report", "show", REPORT), ("device", "list", "--model", "none")])
def test_a_file_stays_until_there_is_something_in_its_place(api, tmp_path, words):
    """Also a long one, of which nothing may stay behind a shorter one."""
    out, before = tmp_path / "out", b"yesterday\n" * 200_000
    out.write_bytes(before)
    call(api, *words, "--output", out, token="fst_" + "A" * 43, status=1)
    call(api, "--url", f"http://127.0.0.1:{free_port()}", *words, "--output", out, status=3)
    assert out.read_bytes() == before and os.listdir(tmp_path) == ["out"]
    call(api, "device", "list", "--sort", "colour", "--output", out, status=1)
    call(api, "device", "list", "--sort", "colour", "--output", tmp_path / "other", status=1)
    assert out.read_bytes() == before and os.listdir(tmp_path) == ["out"]
    assert call(api, *words, "--output", out) == ""
    new = tmp_path / "new"
    assert call(api, *words, "--output", new) == "" and out.read_bytes() == new.read_bytes()
    assert b"yesterday" not in new.read_bytes() and (new.stat().st_size == 0) == ("none" in words)


def test_a_page_that_fails_leaves_the_file(flaky, tmp_path):
    out = tmp_path / "out"
    out.write_text("yesterday")
    flaky("device", "list", "--output", out, answers=["page", 400], status=1)
    assert len(Flaky.seen) == 2 and out.read_text() == "yesterday" and os.listdir(tmp_path) == ["out"]
    flaky("asset", "export", "--output", out, answers=["half", 201], status=3)
    assert out.read_text() == "yesterday" and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_call_that_is_ended_leaves_the_file(tmp_path, number):
    out = tmp_path / "out"
    out.write_text("yesterday")
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen([BIN / "fleetstate", "--url", f"http://127.0.0.1:{server.getsockname()[1]}", "asset", "export", "--output", out],
                                   env={"FLEETSTATE_TOKEN": "x"}, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
        connection, _ = server.accept()
        with connection:
            assert sorted(name[:9] for name in os.listdir(tmp_path)) == ["out", "out.part-"]
            process.send_signal(number)
            assert process.wait(20) == -number
    assert out.read_text() == "yesterday" and os.listdir(tmp_path) == ["out"]


def test_a_file_has_the_permissions_that_it_had(api, tmp_path):
    out, link = tmp_path / "out", tmp_path / "link"
    before = os.umask(0o027)
    try:
        call(api, "fleet", "show", "--output", out)
        assert out.stat().st_mode & 0o7777 == 0o640
        out.chmod(0o604)
        link.symlink_to("out")
        call(api, "report", "show", REPORT, "--output", link)
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o7777 == 0o604 and link.is_symlink() and out.read_bytes() == f"{A}2".encode()
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]


def test_a_file_that_cannot_be_made(api, tmp_path):
    for name, says in (("x" * 250, "no new file can be made beside it: File name too long"), ("none/x", "no new file can be made beside it: No such file or directory"),
                       ("", "Is a directory"), ("file/x", "Not a directory"), ("loop", "Too many levels")):
        (tmp_path / "file").write_text("")
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to("loop")
        assert call(api, "fleet", "show", "--output", f"{tmp_path}/{name}", status=2).startswith(f"fleetstate: {tmp_path}/{name}: {says}")
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


def test_what_is_no_file_is_written_as_it_comes(api, tmp_path):
    """Also what the program has open: others have it open too."""
    told, log, pipe = call(api, "fleet", "show", "--json"), tmp_path / "log", tmp_path / "pipe"
    assert call(api, "fleet", "show", "--json", "--output", "/dev/stdout") == told
    log.write_text("before\n")
    subprocess.run(f"'{BIN}/fleetstate' fleet show --json --output /dev/stdout >>'{log}' && echo behind >>'{log}'", shell=True, check=True, timeout=60,
                   env={**os.environ, "FLEETSTATE_URL": f"http://127.0.0.1:{api.port}", "FLEETSTATE_TOKEN": api.tokens["acme"]})
    assert log.read_text() == f"before\n{told}behind\n"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    call(api, "fleet", "show", "--json", "--output", pipe)
    assert reader.communicate(timeout=20)[0] == told and sorted(os.listdir(tmp_path)) == ["log", "pipe"]
    call(api, "fleet", "show", "--output", "/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("words", [("list", "--follow", "--json", "--type", "test"), ("stream", "--after", "0", "--type", "test")])
def test_what_has_no_end_is_in_its_file_at_once(api, tmp_path, words):
    out = tmp_path / "out"
    out.write_text("yesterday")
    call(api, "event", *words, "--output", out, token="fst_" + "A" * 43, status=1)
    assert out.read_text() == "yesterday" and os.listdir(tmp_path) == ["out"]
    process = subprocess.Popen([BIN / "fleetstate", "--url", f"http://127.0.0.1:{api.port}", "event", *words, "--output", out],
                               env={**os.environ, "FLEETSTATE_TOKEN": api.tokens["acme"]})
    try:
        await_true(lambda: '"n":1200}' in out.read_text().replace(" ", ""), "all events are in the file")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert "yesterday" not in out.read_text() and os.listdir(tmp_path) == ["out"]


def test_an_output_that_is_full(api):
    for words in ("device", "list"), ("asset", "export"), ("openapi",), ("device", "list", "--json"):
        assert call(api, *words, "--output", "/dev/full", status=1) == "fleetstate: the output takes no more\n"


def test_redirects_are_not_followed(flaky):
    assert "302" in flaky("fleet", "show", answers=[302], status=1)


def test_answers_that_are_none(flaky):
    assert "503" in flaky("fleet", "show", answers=[503] * 4, status=3)
    assert "429" in flaky("fleet", "show", answers=[429] * 4, status=3)


@pytest.mark.parametrize("words, says", [(("device", "list", "--json"), r"\r[1-9] items, 0\.\d MiB "), (("asset", "export"), r"\r0\.\d MiB ")])
def test_progress_is_for_terminals(words, says):
    """On a terminal a long export says how far it is; the output stays what it is."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    status, out, told = watched("--url", f"http://127.0.0.1:{server.server_address[1]}", *words, env={"FLEETSTATE_TOKEN": "x"})
    server.shutdown()
    server.server_close()
    assert status == 0 and (len(json.loads(out)) if "--json" in words else len(out.splitlines())) == 4
    assert re.search(says, told) and told.endswith("\r\x1b[K")
    assert ("items" in told) == ("--json" in words), "of a stream nobody counts"


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        page = int((re.search(r"cursor=(\d)", self.path) or [0, 0])[1])
        stream = self.path.startswith("/v1/assets")
        time.sleep(.7 if not stream else 0)  # a slow collector is what is tested
        body = json.dumps({"items": [{"ueid": page}], "next": str(page + 1) if page < 3 else None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if stream else "application/json")
        self.send_header("Content-Length", str(4 * len(b"{}\n") if stream else len(body)))
        self.end_headers()
        for _ in range(4 if stream else 0):
            time.sleep(.7)
            self.wfile.write(b"{}\n")
            self.wfile.flush()
        if not stream:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


NOUNS = sorted({o[0] for o in OPERATIONS} | {"key", "baseline", "migrate"})


@pytest.mark.parametrize("noun", NOUNS)
def test_a_nouns_help_is_of_it_alone(noun):
    def told(*words, status=0):
        done = subprocess.run([BIN / "fleetstate", *words], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    def commands(text):
        return [line.split() for line in text.splitlines() if re.match("  [a-z]", line)]

    everything = commands(told("--help"))
    if any(o[0] == noun and o[1] for o in OPERATIONS) and noun != "audit" or noun in ("key", "baseline"):
        assert commands(told(noun, "--help")) == [words for words in everything if words[0] == noun] != []
        said = told(noun, "fly", status=2)
        assert said == f"fleetstate: no such command: {noun} fly (see fleetstate {noun} --help)\n"
    else:
        assert told(noun, "--help").startswith(f"usage: fleetstate {'--url URL ' * (noun not in ('migrate', 'audit'))}{noun}")


def test_a_command_of_both_says_where_its_other_options_are():
    for command, of_both in (("device", "list"), True), (("policy", "list"), True), (("key", "list"), False):
        told = subprocess.run([BIN / "fleetstate", *command, "--help"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=True).stdout
        assert (f"--url URL {' '.join(command)} --help" in told) == of_both


def test_a_wrong_call_is_told_of_by_the_programs_name(api):
    assert call(api, "device", "list", "--colour", "red", status=2).startswith("fleetstate: unrecognized option '--colour'\nusage: ")
    assert call(api, "device", "report", A, status=2).startswith("fleetstate: 2 more operands are wanted\nusage: ")
    assert call(api, "policy", "delete", status=2).startswith("fleetstate: 1 more operand is wanted\nusage: ")


@pytest.fixture
def completed(tmp_path):
    """What an interactive bash makes of a line when all that can stand there is to be put in."""
    prompt = "ready> "
    empty = tmp_path / "empty"  # else names of files could stand there
    empty.mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(empty)
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {"PATH": f"{BIN}:/usr/bin:/bin", "PS1": prompt, "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""})

    def until(text):
        told = ""
        while text not in told:
            told += os.read(terminal, 65536).decode()
        return told

    def complete(line):
        os.write(terminal, line.encode() + b"\x1b*\n")
        return re.search(r"^\[(.*)\]\r?$", until("]\r\n" + prompt), re.M)[1].split("][")

    until(prompt)
    os.write(terminal, b"bind 'set bell-style none'; source <(fleetstate completion bash); fleetstate() { printf '\\n['; printf '%s][' \"$@\"; printf ']\\n'; }; echo sour''ced\n")
    until("sourced\r\n" + prompt)
    yield complete
    os.close(terminal)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_shells_complete_both_tables(completed):
    def offered(line):
        """In place of the line's last word."""
        before = line.split(" ")[1:-1]
        told = completed(line)
        assert told[:len(before)] == before and told[-1] == ""
        words = told[len(before):-1]
        assert len(set(words)) == len(words), "each is offered once"
        return set(words)

    nouns = offered("fleetstate ")
    assert {"device", "fleet", "migrate", "verify", "--url", "--token-file"} <= nouns and {o[0] for o in OPERATIONS} <= nouns
    assert offered("fleetstate dev") == {"device"}
    # bash's own words end at these signs too.
    for where in "--url http://x", "--url http://127.0.0.1:8080/", "--url=https://[::1]:8080", "--database postgresql://u:p@h/d?a=b", "--token-file x --url http://x:1":
        assert offered(f"fleetstate {where} device ") >= {"list", "show", "state", "approve", "challenge"}
        assert offered(f"fleetstate {where} device st") == {"state"}
    assert offered("fleetstate device st") == {"state"}
    assert {"--posture", "--component-version", "--json", "--csv", "--tenant", "--lifecycle"} <= offered("fleetstate device list --")
    assert offered("fleetstate device list --label site:a --pos") == {"--posture"} and offered("fleetstate device li") == {"list"}
    for noun, verb, _, _ in OPERATIONS:
        assert not verb or verb in offered(f"fleetstate {noun} ")
        assert offered(" ".join(["fleetstate", noun, *[verb] * bool(verb), "--"])) > {"--help", "--output"}
    assert offered("fleetstate event list --fo") == {"--follow", "--format"}
    assert "--operator-ca" in offered("fleetstate verify --")
    # What can stand behind an option: one of some, or several with commas.
    postures = {"untrusted", "silent", "degraded", "unknown", "operational"}
    assert offered("fleetstate device list --posture ") == postures and offered("fleetstate device list --json --posture un") == {"untrusted", "unknown"}
    assert offered("fleetstate device list --posture silent,deg") == {"silent,degraded"}
    assert offered("fleetstate --url http://x:1 device list --posture silent,degraded,") == {f"silent,degraded,{posture}" for posture in postures}
    assert offered("fleetstate device list --lifecycle act") == {"active"} and offered("fleetstate alert list --severity high,cr") == {"high,critical"}
    assert offered("fleetstate device list --sort -last") == {"-last_seen"} and offered("fleetstate device list --sort last") == {"last_seen"}
    assert offered("fleetstate device list --format ") == {"json", "csv", "ndjson"} and offered("fleetstate event list --format ") >= {"cef", "ocsf"}
    assert offered("fleetstate device list --fields ueid,hw") == {"ueid,hwmodel", "ueid,hwversion"} and offered("fleetstate token list --fields last") == {"last_used_at"}
    assert offered("fleetstate device add --dry-run t") == {"true"} and offered("fleetstate sink add --kind ") == {"webhook", "syslog"}
    assert offered("fleetstate audit list --kind ref") == {"refused"} and offered("fleetstate audit --kind x") == {"x"}
    # Behind a sign of equality bash puts in the part that follows.
    for line, whole in (("--posture=deg", "--posture=degraded"), ("--sort=-last", "--sort=-last_seen"), ("--posture=silent,deg", "--posture=silent,degraded")):
        assert completed(f"fleetstate device list {line}") == ["device", "list", whole, ""]
    assert offered("fleetstate device list --model un") == {"un"} and offered("fleetstate device list --posture nothing") == {"nothing"}
    assert offered("fleetstate nothing x") == {"x"}


def test_shells():
    assert subprocess.run([BIN / "fleetstate", "completion", "zsh"], capture_output=True, text=True, check=True).stdout.startswith("#compdef fleetstate\n")
    assert subprocess.run([BIN / "fleetstate", "completion", "fish"], capture_output=True).returncode == 2
