"""Every operation of openapi.yaml, asked for with everything that it does not expect. No 5xx, no sanitizer's report, nothing of another tenant's, and every
refusal a problem of the documented set. About half of it is good but for one thing or nothing, since what is refused at the door tells nothing of what is behind it.

FLEETSTATE_FUZZ_SECONDS: how long; FLEETSTATE_FUZZ_SEED: begin with this one, as a failure names it."""

import base64
import copy
import hashlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
import zlib

import pytest

from described import openapi
from parts import BIN, ROOT, await_true, free_port
from test_api import DESCRIPTION, EPOCH, Api, ueid
from test_api_writes import LATER

SECONDS = float(os.environ.get("FLEETSTATE_FUZZ_SECONDS", 8))
SEED = int(os.environ.get("FLEETSTATE_FUZZ_SEED", 1))
THREADS = 3
MARK = "gx-marker"  # in every text of the other tenant
PROBLEMS = {name: int(status) for name, status in re.findall(r'^PROBLEM\(\w+, "([^"]+)", (\d+)', (ROOT / "collector/problems.def").read_text(), re.M)}
MEMBERS = {"type", "title", "status", "detail", "position", "oldest", "errors", "due_in_s"}

TEXTS = ["", " ", "\0", "a\0b", "\n", "a\r\nX-Evil: 1", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\u202e", "\ufeff", "\ufffd", "\u00e4", "\u4f60\u597d", "\U0001f98a" * 60,
         "e\u0301" * 40, "A" * 255, "A" * 256, "A" * 1024, "A" * 3000, "%", "%00", "%zz", "%25", "%c0%af", "..", ".", "../../../etc/passwd", "..%2f..%2fetc%2fpasswd",
         "/", "//", "\\", "C:\\", "'", "''", "\"", "';DROP TABLE device;--", "' OR '1'='1", "1;SELECT pg_sleep(9)", "$$", "$1", "%s%s%n", "{}", "[]", "{{7*7}}",
         "${jndi:ldap://x}", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "null", "true", "NaN", "Infinity", "-0", "0", "1", "-1", "00", "01", "+1", "1.5",
         "1e3", "1e309", "0x10", "2147483647", "2147483648", "4294967296", "9007199254740991", "9007199254740992", "9223372036854775807", "9223372036854775808",
         "-9223372036854775808", "9" * 40, "*", "**", "_", "%_", ",", ",,", "a,b", "a=b", "a:b", "&", "#", "?", ";", "|", "strict $.a == 1", "$.**.a", "[0-9", "(", "(" * 200,
         "2026-11-26T08:00:00Z", "2026-02-30T00:00:00Z", "2026-11-26T23:59:60Z", "2026-11-26t08:00:00.123456789123z", "2026-11-26T08:00:00+15:59",
         "2026-11-26T08:00:00+99:99", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "infinity", "now", "epoch",
         "json", "csv", "ndjson", "ocsf", "ecs", "cef", "operational", "active", "open", "high", "acme", "globex", "operator", "01" + "0" * 32, "f" * 64, EPOCH,
         ">=1", ">=1 <2", ">=1,<2", "<", "1.0 - 2.0", "pkg:deb/debian/openssl", "pkg:deb/%00", "site=north", "site", "=", "model-1", "os", "1.1"]
BYTES = [b"%ff", b"%c0%80", b"%ed%a0%80", b"%f4%90%80%80", b"%80", b"%e4%bd", b"%", b"%4", b"%00", b"+", b"%2B", b"\xff\xfe", b"\xc3\xa4", b"a b", b"\t", b"\x01", b"%0d%0aX:1"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X", "A" * 200]
# Texts that are no JSON, or JSON that is nobody's wish.
BODIES = [b"", b" ", b"{", b"}", b"[", b"null", b"true", b"0", b"\"x\"", b"[]", b"[{}]", b"{}{}", b"{\"a\":1,}", b"{'a':1}", b"{\"a\":01}", b"{\"a\":1e999}",
          b"{\"a\":" + b"9" * 400 + b"}", b"{\"a\":-9223372036854775809}", b"{\"a\":\"\\u0000\"}", b"{\"\\u0000\":1}", b"{\"a\":\"\\ud800\"}", b"{\"a\":\"\xff\"}",
          b"\xef\xbb\xbf{}", b"{\"a\":1,\"a\":2}", b"[" * 5000, b"[" * 1000 + b"]" * 1000, b"{\"a\":" * 3000, b"{\"a\":" * 500 + b"1" + b"}" * 500, b"\0", b"{}\0",
          b"{\"a\":\"" + b"x" * 65000 + b"\"}", b"x" * 65537, b"{\"a\":\"" + b"x" * 200000 + b"\"}", b"a,b\r\n1,2\r\n", b"\"a\nb\",,,\r\n", b"ueid,serial\n=1,\"",
          b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", b"a=b&c=d", b"NaN", b"{\"a\":NaN}", b"{\"a\":\"\n\"}"]
TYPES = [None, "application/json", "application/json; charset=utf-8", "application/json; charset=latin-1", "text/plain", "text/csv", "application/xml", "",
         "application/json;" * 40, "multipart/form-data; boundary=x", "application/merge-patch+json", "\u00e4"]
HEADERS = {"If-Match": ["*", '"1"', "1", '"', 'W/"1"', '"9223372036854775808"', '"1","2"', "", "A" * 900], "If-None-Match": ["*", '"x"', 'W/"x"', '"' * 50, ","],
           "Accept": ["*/*", "application/openmetrics-text", "text/html", ";q=", ""], "Accept-Encoding": ["gzip", "zstd, gzip;q=0", "*;q=0", "identity;q=0", ";;,", "br" * 99],
           "Last-Event-ID": ["0", "-1", "x", "9" * 30, "1\u00e4"], "Range": ["bytes=0-0", "bytes=9-1"], "X-Forwarded-For": ["1.2.3.4", "x", "::1" * 30, "\u00e4"],
           "Cookie": ["fleetstate=x", "fleetstate=fss_" + "A" * 43, "a=b; " * 60, "="], "Origin": ["null", "http://evil.example", "http://127.0.0.1"],
           "Idempotency-Key": ["x", "", "A" * 300, "\u00e4", '"k"'], "Transfer-Encoding": ["identity"], "X-Http-Method-Override": ["DELETE"], "Expect": ["100-continue"]}
SECRET = "5" * 64
# What is good of a member or a parameter that any text would be for its description; a text of its own each time where there may be one of a name.
KNOWN = {"when": ["strict $.boot.secure == false", "strict $.v == \"ours\""], "where": ["strict $.v == \"ours\"", "strict exists($.v)"], "until": [LATER], "expires_at": [LATER],
         "certificate": [(ROOT / "tests/vectors/known-ca.pem").read_text()], "target": ["https://example.com/"], "tenant": ["acme"], "reason": ["x"], "purl": ["pkg:deb/debian/x"],
         "label": ["site:north", "site"], "fields": ["ueid", "ueid,posture,labels"], "component": ["opensslours", "x"], "component_version": ["1:2.0-3", "vers:deb/*", "vers:deb/>1|<=3"],
         "version": ["1:2.0-3", "vers:deb/<9"], "as_of": [LATER], "secret": ["0123456789abcdef"], "ca": [(ROOT / "tests/vectors/known-ca.pem").read_text()],
         "Idempotency-Key": None, "serial": None, "name": None, "title": None, "q": ["ours", "model", "01"], "type": ["test", "device.state,test"], "policy": ["ours", "silent"],
         "If-Match": ["*"], "If-None-Match": ["*"], "model": ["ours1", "%", "'"], "firmware": ["ours", ""], "id": None, "key": ["x"]}
# Parameters that do not go with others, or that few bodies go with.
APART = {"cursor", "format", "dry_run", "wait", "everyone", "If-None-Match", "If-Match", "Last-Event-ID", "Idempotency-Key", "as_of", "component_version", "version", "sort", "limit"}
# Of these nothing but a refusal is to be had here: what they ask for is brought about elsewhere.
NEVER = {"closeSession", "getManifest", "getProof"}
DEPTHS = [json.loads("[" * n + "]" * n) for n in (1, 5, 100)]
VALUES = [None, True, False, 0, 1, -1, 2**31, 2**53, 2**63, -2**63, 10**30, 0.5, 1e308, [], {}, [None], [[]], {"a": {}}, [1] * 2000, ["x"] * 2000, *DEPTHS]


def quoted(text):
    return "".join(c if c.isalnum() and c.isascii() or c in "-._~" else "".join(f"%{b:02X}" for b in c.encode()) for c in text).encode()


class Wire:
    """A connection that sends whatever it is told to, which clients of HTTP would not."""

    def __init__(self, port):
        self.port, self.socket = port, None

    def ask(self, method, target, headers, body=None):
        lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: 127.0.0.1"]
        lines += [name.encode() + b": " + value.encode() for name, value in headers]
        if body is not None:
            lines.append(b"Content-Length: %d" % len(body))
        data = b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")
        for last in (False, True):  # a connection that was kept may have been closed
            kept = self.socket is not None
            if not kept:
                self.socket = socket.create_connection(("127.0.0.1", self.port), 30)
            try:
                self.socket.sendall(data)
            except OSError:  # it may have answered, and closed, before it had all
                pass
            try:
                response = http.client.HTTPResponse(self.socket, method=method)
                response.begin()
                if response.getheader("Content-Type") == "text/event-stream":
                    told = response.readline()
                    response.close()
                    self.close()
                    return response, told
                told = response.read()
                if response.will_close:
                    self.close()
                return response, told
            except (OSError, http.client.HTTPException):
                self.close()
                if last or not kept:
                    raise

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class Target:
    """Two tenants. Whatever is the other's has a mark; ours is all that may be told and changed."""

    def __init__(self, directory, api):
        self.log, self.api = directory / "serve.log", api
        secret = directory / "secret.key"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        api.stop()
        api.port = free_port()
        api.process = subprocess.Popen([BIN / "serve-alone", api.db.uri("fleetstate_api"), str(api.port), f"--secret-key={secret}"], stderr=open(self.log, "wb"))
        await_true(api.is_up, "the server")
        self.sent = {ueid("globex", 0)}
        self.theirs = {ueid("globex", i) for i in range(30)} - self.sent
        for tenant in ("acme", "globex"):
            for role in ("analyst", "admin"):
                api.tokens[f"{tenant}-{role}"] = api.db.cli("token", "add", "--tenant", tenant, "--role", role, f"{MARK if tenant == 'globex' else 'our'} {role}")
            admin, text = f"{tenant}-admin", MARK if tenant == "globex" else "ours"
            api.db.sql("UPDATE device d SET serial = %s, hwmodel = %s || (device_id %% 3), swname = %s, swversion = %s, vendor = %s FROM tenant t"
                       " WHERE t.tenant_id = d.tenant_id AND t.id = %s", (text, text, text, text, text, tenant))
            api.db.sql("UPDATE component c SET name = c.name || %s FROM tenant t WHERE t.tenant_id = c.tenant_id AND t.id = %s", (text, tenant))
            api.db.sql("UPDATE device_state s SET state = jsonb_build_object('v', %s) FROM tenant t WHERE t.tenant_id = s.tenant_id AND t.id = %s", (text, tenant))
            api.db.sql("INSERT INTO event (tenant_id, type, data) SELECT tenant_id, 'test', jsonb_build_object('v', %s) FROM tenant, generate_series(1, 40)"
                       " WHERE id = %s", (text, tenant))
            for path, body in (("/v1/maintenance", {"title": text, "until": LATER}), ("/v1/tokens", {"role": "viewer", "name": text})):
                assert api.ask(path, admin, "POST", json=body).status_code in (200, 201)
            put = api.ask(f"/v1/policies/{text}", admin, "PUT", json={"title": text, "severity": "high", "when": "strict $.boot.secure == false"})
            assert put.status_code in (200, 201), put.text
            # A second device that has told, so that two can be compared; and some alerts.
            api.db.sql("INSERT INTO device_state SELECT d.device_id, d.tenant_id, 1, 1, now(), now(), sha256('state'), sha256('set'), '{\"v\": \"x\"}' FROM device d"
                       " WHERE ueid = decode(%s, 'hex')", (ueid(tenant, 1),))
            api.db.sql("INSERT INTO alert (tenant_id, device_id, policy_id, opened_at, reasons) SELECT d.tenant_id, d.device_id, p.policy_id, now(), ARRAY[%s] FROM policy p, device d"
                       " JOIN tenant t USING (tenant_id) WHERE p.id IN ('silent', 'fork', 'challenge') AND t.id = %s", (text, tenant))
        api.db.sql("SELECT number_events()")
        # An alert of each.
        api.db.sql("INSERT INTO alert (tenant_id, device_id, policy_id, opened_at, reasons) SELECT p.tenant_id, min(d.device_id), p.policy_id, now(), '{}'"
                   " FROM policy p JOIN device d ON d.tenant_id = p.tenant_id GROUP BY p.tenant_id, p.policy_id")
        # Where the other tenant's lists go on.
        self.cursors = [following for path in ("/v1/devices?limit=1", "/v1/devices?limit=1&sort=serial", "/v1/components?limit=1", "/v1/alerts?limit=1",
                                               f"/v1/devices/{ueid('globex', 0)}/reports?limit=1") if (following := api.get(path, "globex-admin")["next"])]
        assert len(self.cursors) == 5
        self.before = self.others()
        self.tokens, self.lock = {}, threading.Lock()
        self.made = time.time()

    def others(self):
        """All that is the other tenant's, but for what its own use changes."""
        return [self.api.db.sql(f"SELECT md5(string_agg(row, '' ORDER BY row)) FROM (SELECT (to_jsonb(x) - 'last_used_at')::text AS row FROM {table} x JOIN tenant t ON t.tenant_id = x.tenant_id WHERE t.id = 'globex') y")
                for table in ("device", "device_state", "policy", "alert", "alert_note", "maintenance", "sink", "challenge", "event", "component", "repeatable", "api_token")
                if self.api.db.one(f"SELECT to_regclass('fleetstate.{table}')")]

    def token(self, role, fresh=False):
        """One of ours. They get revoked: that is one of the operations."""
        with self.lock:
            if role not in self.tokens or fresh:
                words = ("--role", "operator") if role == "operator" else ("--tenant", "acme", "--role", role)
                self.tokens[role] = self.api.db.cli("token", "add", *words, f"fuzz {role}")
            return self.tokens[role]


@pytest.fixture(scope="module")
def described():
    return openapi()


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fuzz")
    api = Api(directory, devices=30)
    try:
        yield Target(directory, api)
    finally:
        api.process.kill()
        api.process.wait()
        api.db.stop()


class Fuzz:
    def __init__(self, target, described, seed):
        self.target, self.described, self.random = target, described, random.Random(seed)
        self.wire = Wire(target.api.port)
        self.operations = [(method.upper(), path, operation) for path, operations in described["paths"].items() for method, operation in operations.items()
                           if method in ("get", "put", "post", "patch", "delete")]
        self.cursors = ["", "x", base64.urlsafe_b64encode(bytes(56)).decode(), *target.cursors]
        self.plain = False  # nothing but what must be there, and that the simplest
        self.ids = {}  # of what was told of, by the path of its list
        self.answered = set()  # operations that were not refused
        self.counts = {}

    def resolve(self, node):
        while "$ref" in node:
            at = self.described
            for step in node["$ref"].lstrip("#/").split("/"):
                at = at[step]
            node = at
        return node

    # What is sent.

    def word(self):
        return self.random.choice(TEXTS)

    def raw(self):
        return self.random.choice(BYTES) if self.random.random() < .2 else quoted(self.word())

    def good_variable(self, name, path):
        r = self.random
        device = r.choice([0, 0, 1]) if path.split()[0] not in ("patch", "delete") else r.randint(2, 29)
        learned = self.ids.get(path.split()[1].split("/{id}")[0])
        tenant = "globex" if not self.plain and r.random() < .1 else "acme"
        if name == "id" and "/tenants/" in path:
            return "acme"
        if name == "id" and ("/policies/" in path and self.plain or not learned or not self.plain and r.random() < .2):
            return r.choice(["ours", "ours", str(r.randint(1, 60))]) if not self.plain else "ours"
        return {"id": lambda: r.choice(learned), "ueid": lambda: ueid(tenant, device if tenant == "acme" else 0), "epoch": lambda: EPOCH, "seq": lambda: "2" if self.plain else str(r.randint(1, 9)),
                "sha256": lambda: hashlib.sha256(f"{ueid(tenant, 0)}{r.choice([2, 6])}".encode()).hexdigest(),
                "file": lambda: r.choice(["app.js", "openapi.yaml", "healthz", "style.css"])}[name]()

    def good(self, schema, depth=0, name=None):
        """A value as it is described; or nearly so."""
        schema, r = self.resolve(schema), self.random
        for word in ("allOf", "anyOf", "oneOf"):
            if word in schema:
                if word != "allOf":
                    return self.good(schema[word][0] if self.plain else r.choice(schema[word]), depth)
                parts = [self.good(part, depth) for part in schema[word]]
                return {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}
        if "enum" in schema:
            return schema["enum"][0] if self.plain else r.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = r.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            names = [n for n in schema.get("properties", {}) if n in schema.get("required", []) or not self.plain and r.random() < .3]
            names = names or list(schema.get("properties", {}))[:schema.get("minProperties", 0)]
            if {"ids", "filter"} <= set(schema.get("properties", {})):
                names = [n for n in names if n not in ("ids", "filter")] + [r.choice(["ids", "filter"])]
            return {} if depth > 6 else {n: self.good(schema["properties"][n], depth + 1, n) for n in names}
        if kind == "array":
            return [self.good(schema.get("items", {}), depth + 1) for _ in range(r.randint(schema.get("minItems", 0), 3))]
        if kind == "integer":
            return r.choice([schema.get("minimum", 0), schema.get("maximum", 9), r.randint(0, 9)])
        if kind in ("number", "boolean", "null"):
            return {"number": 0.5, "boolean": r.random() < .5, "null": None}[kind]
        if name in KNOWN:
            return r.choice(KNOWN[name] or [f"n{r.randrange(10**9)}"])
        if name == "ueid" and depth:
            return "01" + f"{r.getrandbits(128):032x}"
        if "01[0-9a-f]" in schema.get("pattern", ""):
            return ueid("acme", r.randint(0, 1))
        if schema.get("format") == "date-time":
            return r.choice(["2027-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00"])
        return r.choice([ueid("acme", r.randint(0, 5)), "x", "ours", "strict $.boot.secure == false", *schema.get("examples", [])])

    def worse(self, value):
        """One thing about it is wrong, somewhere."""
        r = self.random
        if isinstance(value, dict) and value and r.random() < .8:
            name = r.choice(list(value))
            how = r.randint(0, 4)
            if how == 0:
                return {k: v for k, v in value.items() if k != name}
            if how == 1:
                return {**value, self.word(): r.choice(VALUES)}
            return {**value, name: self.worse(value[name])}
        if isinstance(value, list) and value and r.random() < .6:
            value = copy.copy(value)
            value[r.randrange(len(value))] = self.worse(value[0])
            return value
        return r.choice([self.word(), r.choice(VALUES)])

    def body(self, operation, wrong):
        """Its type, and what it is."""
        content = self.resolve(operation.get("requestBody", {})).get("content", {})
        r = self.random
        if wrong and r.random() < .25:
            return "application/json", r.choice(BODIES)
        kind = r.choice(list(content)) if content else "application/json"
        if kind == "text/csv":
            return kind, r.choice(BODIES if wrong else [f"ueid,serial\r\n01{r.getrandbits(128):032x},s\r\n".encode()])
        value = self.good(content[kind].get("schema", {})) if content else {}
        for _ in range(r.choice([0, 1, 1, 2]) if wrong else 0):
            value = self.worse(value)
        try:
            return kind, json.dumps(value, ensure_ascii=r.random() < .5).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return kind, b"{}"

    def good_parameter(self, name, parameter):
        value = self.good(parameter.get("schema", {}), name=name)
        return ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)

    def nearly(self, method, path, operation, wrong):
        """(method, target, headers, body) of a request that is good, or has one thing wrong, in a parameter or in the body."""
        r = self.random
        headers, query, seen = [], [], set()
        parameters = [p for p in map(self.resolve, operation.get("parameters", [])) if p["in"] != "path" and p["name"] != "tenant"]
        chosen = [p for p in parameters if p.get("required") or not self.plain and p["name"] not in APART and r.random() < 3 / (len(parameters) + 1)]
        chosen += r.sample([p for p in parameters if p["name"] in APART], 1) if wrong and any(p["name"] in APART for p in parameters) else []
        bad = r.choice([*(p["name"] for p in chosen), "body", "path"]) if wrong else None
        for parameter in chosen:
            name, where = parameter["name"], parameter["in"]
            if name in seen:
                continue
            seen.add(name)
            value = "0" if name == "wait" else r.choice(self.cursors) if name == "cursor" else self.good_parameter(name, parameter)
            if name in ("a", "b"):
                value = ueid("acme", int(name == "b"))
            value = self.raw() if name == bad and name != "wait" else quoted(value)
            if where == "header":
                headers.append((name, value.decode("latin-1").replace("%2A", "*")))
            else:
                query.append(name.encode() + b"=" + value)
        target = re.sub(r"\{(\w+)\}", lambda m: (self.raw() if bad == "path" else quoted(self.good_variable(m[1], f"{method.lower()} {path}"))).decode("latin-1"), path).encode("latin-1")
        kind, body = self.body(operation, bad == "body") if "requestBody" in operation else (None, None)
        if r.random() < .1:
            headers.append(("Accept-Encoding", r.choice(HEADERS["Accept-Encoding"])))
        return method, target + (b"?" + b"&".join(query) if query else b""), headers + ([("Content-Type", kind)] if kind else []), body

    def request(self, method, path, operation):
        """(method, target, headers, body)"""
        r = self.random
        headers, query = [], []
        target = re.sub(r"\{(\w+)\}", lambda m: (self.raw() if r.random() < .3 else quoted(self.good_variable(m[1], f"{method.lower()} {path}"))).decode("latin-1"), path).encode("latin-1")
        for parameter in operation.get("parameters", []):
            parameter = self.resolve(parameter)
            name, where = parameter["name"], parameter["in"]
            if where == "path" or r.random() > .35:
                continue
            if name == "cursor" and r.random() < .7:
                value = quoted(r.choice(self.cursors))
            elif name == "tenant":
                value = quoted(r.choice(["acme", "acme", "globex", "nobody", self.word()]))
            elif name == "wait":
                value = quoted(r.choice(["0", "x", "-1", "61", "1e1", ""]))
            elif r.random() < .5:
                value = quoted(self.good_parameter(name, parameter))
            else:
                value = self.raw()
            if where == "header":
                headers.append((name, value.decode("latin-1")))
            else:
                query += [(name.encode(), value)] * (2 if r.random() < .03 else 1)
        if r.random() < .05:
            query.append((self.raw(), self.raw()))
        r.shuffle(query)
        if query or r.random() < .02:
            target += b"?" + b"&".join(name + b"=" + value if r.random() > .01 else name for name, value in query)
        if r.random() < .02:
            target = r.choice([b"/" + target, target + b"/", target.replace(b"/v1/", b"/v1/../v1/"), target + b"#x", target[1:] or b"x", b"*", target + b"?" + b"a" * 5000])
        if r.random() < .15:
            name = r.choice(list(HEADERS))
            headers.append((name, r.choice(HEADERS[name])))
        body = self.body(operation, True)[1] if method != "GET" and r.random() < .95 or r.random() < .02 else None
        if r.random() < .04:
            method = r.choice(METHODS)
        if body is not None:
            kind = "application/json" if r.random() < .9 else r.choice(TYPES)
            if kind is not None:
                headers.append(("Content-Type", kind))
        return method, target, headers, body

    # What comes back.

    def check(self, asked, response, told, known):
        method, target, headers, body = asked
        say = f"{asked!r} -> {response.status} {told[:600]!r}"
        # Not implemented is what a method or a coding is that HTTP does not have; it is the library's answer.
        assert response.status < 500, say
        coding = response.getheader("Content-Encoding")
        if coding == "zstd":  # which Python does not read
            return
        if coding == "gzip" and told:
            told = zlib.decompress(told, 31)
        text = told.decode("utf-8", "surrogateescape" if response.getheader("Content-Type") == "application/eat+cwt" else "strict")
        assert MARK not in text and not self.target.theirs & set(re.findall(r"01[0-9a-f]{32}", text)), "another tenant's: " + say
        assert response.getheader("X-Evil") is None, say
        kind = response.getheader("Content-Type")
        if response.status >= 400 and method != "HEAD":
            assert kind == "application/problem+json", say
            problem = json.loads(text)
            name = problem["type"].removeprefix("urn:fleetstate:problem:")
            assert PROBLEMS[name] == problem["status"] == response.status and set(problem) <= MEMBERS, say
            if known:
                assert name not in ("unauthorized", "forged"), say
        elif method != "HEAD" and kind == "application/json":
            json.loads(text)
        DESCRIPTION.check(method, target.decode("latin-1"), response.status, {k.lower(): v for k, v in response.getheaders()}, None if method == "HEAD" else told)
        if response.status in (200, 201) and kind == "application/json" and text.startswith("{"):
            self.learn(target.decode("latin-1").split("?")[0], json.loads(text))
        self.counts[response.status] = self.counts.get(response.status, 0) + 1
        if response.status == 200 and kind == "application/json" and len(self.cursors) < 200:
            following = json.loads(text).get("next") if text.startswith("{") else None
            if following:
                self.cursors += [following, following[:-1] + "A", following + "=", following.swapcase()]

    def learn(self, path, value):
        """The ids of a list, or of what was made."""
        for item in value["items"] if isinstance(value.get("items"), list) else [value]:
            if isinstance(item, dict) and "id" in item and len(self.ids.setdefault(path, [])) < 50:
                self.ids[path].append(str(item["id"]))

    def one(self, method, path, operation, good=False):
        r = self.random
        self.plain = good
        asked = self.nearly(method, path, operation, not good and r.random() < .8) if good or r.random() < .5 else self.request(method, path, operation)
        how = 1 if good else r.random()
        role = "operator" if how < .1 or (good or r.random() < .7) and operation["x-role"] == "operator" else "admin" if good else r.choice(["admin", "admin", "analyst", "viewer"])
        credential = [("Authorization", "Bearer " + self.target.token(role))]
        known = how >= .04
        if not known:
            credential = r.choice([[], [("Authorization", "Bearer")], [("Authorization", "Bearer fst_" + "A" * 43)], [("Authorization", "Basic eDp4")],
                                   [("Authorization", "Bearer " + "x" * 3000)], credential * 2, [("Authorization", credential[0][1].lower())]])
        if role == "operator" and "tenant=" not in asked[1].decode("latin-1") and operation["operationId"] != "addTenant":
            # Of no tenant an operator sees its own, which no tenant's mark may be in either; of ours what we see.
            asked = (asked[0], asked[1] + (b"&" if b"?" in asked[1] else b"?") + b"tenant=acme", *asked[2:])
        if role == "operator" and re.search(rb"tenant=(?!acme(&|$))", asked[1]) or role == "operator" and (b"everyone" in asked[1] or b"/metrics" in asked[1]):
            return  # that may see and change others
        asked = (asked[0], asked[1], asked[2] + credential, asked[3])
        try:
            response, told = self.wire.ask(*asked)
        except (OSError, http.client.HTTPException) as error:
            # A request that is none ends its connection; any other is answered.
            assert any(c <= 32 for c in asked[1]) or any("\u00e4" in v for _, v in asked[2]) or asked[0] == "A" * 200 or asked[3] and len(asked[3]) > 60000, f"{asked!r} -> {error!r}"
            return
        if response.status == 401 and known:  # somebody revoked it
            self.target.token(role, fresh=True)
            known = False
            if good:
                self.one(method, path, operation, good)
        if response.status < 400:
            self.answered.add(operation["operationId"])
        self.check(asked, response, told, known)


def hunt(target, described, seed, until, failures, totals):
    fuzz = Fuzz(target, described, seed)
    n = 0
    try:
        # Each operation in turn, first with nothing wrong, then as chance has it: so none is left out, however slow the machine.
        for i, (method, path, operation) in enumerate(fuzz.operations * 4):
            fuzz.one(method, path, operation, good=i < len(fuzz.operations))
            n += 1
        while time.monotonic() < until and not failures:
            fuzz.one(*fuzz.random.choice(fuzz.operations))
            n += 1
    except Exception as error:  # pylint: disable=broad-except
        failures.append(f"seed {seed}, request {n}: {error!r}")
    finally:
        fuzz.wire.close()
        totals.append((n, fuzz.counts, fuzz.answered))


def test_every_operation(target, described):
    failures, totals, until = [], [], time.monotonic() + SECONDS
    threads = [threading.Thread(target=hunt, args=(target, described, SEED + i, until, failures, totals)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = target.log.read_text(errors="replace")
    assert not failures, "\n".join(failures)[:4000] + "\n" + log[-3000:]
    assert target.api.process.poll() is None, log[-4000:]
    counts = {}
    for _, each, _ in totals:
        for status, n in each.items():
            counts[status] = counts.get(status, 0) + n
    print(sum(n for n, _, _ in totals), "requests:", counts)
    assert {o["operationId"] for _, _, o in Fuzz(target, described, 0).operations} - set.union(*(answered for _, _, answered in totals)) <= NEVER, "each gets beyond the door"
    assert {200, 400, 401, 403, 404, 405} <= set(counts), counts
    assert counts[200] + counts.get(201, 0) + counts.get(204, 0) > sum(counts.values()) / 20, f"most of it is refused at the door: {counts}"


def test_nothing_of_the_other_tenant_changed(target):
    assert target.others() == target.before


def test_the_server_ends_well(target):
    target.api.process.terminate()
    status = target.api.process.wait(20)
    log = target.log.read_text(errors="replace")
    assert status == 0 and "Sanitizer" not in log and "runtime error" not in log, log[-6000:]
