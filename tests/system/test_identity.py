"""Who calls without a token of ours: somebody for whom an identity provider vouches (JSON Web Tokens, made here by another implementation), and the holder of a
client certificate."""

import base64
import collections
import hashlib
import hmac
import http.server
import ipaddress
import json
import ssl
import subprocess
import threading
import time

import jwt
import psycopg2
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from certificates import SERVER, Authority, write
from parts import await_true
from test_access import BODIES, ROLES, SCOPES, filled, restart, things, written
from test_api import ROUTES, A, Api, check, described, ueid  # noqa: F401
from test_quota import counted, happen
from test_tls import Server, connect

ISSUER, AUDIENCE = "https://login.example/realms/fleet", "fleetstate"
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
STALL, REDIRECT, HUGE, JUNK = "stall", "redirect", "huge", "junk"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n, size=None):
    return b64(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))


def jwk(key, kid, **more):
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": kid, "n": number(public.n), "e": number(public.e), **more}
    return {"kty": "EC", "crv": "P-256", "kid": kid, "x": number(public.x, 32), "y": number(public.y, 32), **more}


class Provider:
    """Its keys over https, and what may go wrong with that."""

    def __init__(self, directory):
        self.rsa, self.ec, self.other = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.keys = [jwk(self.rsa, "one", use="sig", alg="RS256"), jwk(self.ec, "two", key_ops=["verify"])]
        self.mode, self.asked, self.begun, self.end = None, [], collections.Counter(), threading.Event()
        ca = Authority(directory, "provider-ca")
        pair = ca.issue("provider", (SERVER,), names=[HERE])
        self.ca, outer = ca.path, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(time.monotonic())
                outer.begun[self.path] += 1
                mode = outer.mode
                if mode == STALL:
                    end = outer.end
                    self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                    end.wait(30)
                    return
                body = {HUGE: b" " * 70000 + outer.set(), JUNK: b'{"keys": 1}'}.get(mode, outer.set())
                self.send_response(302 if mode == REDIRECT and self.path != "/other" else 200)
                if mode == REDIRECT:
                    self.send_header("Location", "/other")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.crt, pair.key_file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}/keys"

    def let_go(self):
        ended, self.end = self.end, threading.Event()
        ended.set()

    def set(self):
        return json.dumps({"keys": self.keys}).encode()

    def token(self, key=None, kid="two", header=(), drop=(), **claims):
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "0815", "iat": now, "nbf": now, "exp": now + 600, "tenant": "acme", "preferred_username": "ada",
                 "realm_access": {"roles": ["fleet-viewer"]}, "scope": "openid fleetstate", **claims}
        key = key or self.ec
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode({k: v for k, v in whole.items() if k not in drop}, key, algorithm, {"kid": kid, **dict(header)})

    def signed(self, header, claims, key=None):
        """Of whatever bytes."""
        text = f"{b64(header)}.{b64(claims)}"
        der = (key or self.ec).sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


SCOPE_CLAIM = {"jwt_scope_claim": "scope", "jwt_scopes": " ".join(f"fleet:{s}={s}" for s in SCOPES)}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """With two servers: a plain one, and one with TLS, which asks for certificates and narrows what a provider vouches for."""
    directory = tmp_path_factory.mktemp("identity")
    api = Api(directory, devices=20)
    provider = api.provider = Provider(directory)
    api.ca, api.clients = Authority(directory, "server-ca"), Authority(directory, "client-ca")
    pair = api.ca.issue("here", (SERVER,), names=[HERE])
    api.crl = write(directory / "clients.crl", api.clients.revoke())
    for tenant, role in ("acme", "admin"), ("acme", "viewer"), ("globex", "admin"):
        api.tokens[f"{tenant}-{role}"] = api.db.cli("token", "add", "--tenant", tenant, "--role", role, f"{tenant}'s {role}")
    api.things = {"acme": things(api, "acme")}
    settings = {"database": api.db.uri("fleetstate_ingest"), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": provider.url, "jwt_ca": provider.ca,
                "jwt_networks": "127.0.0.0/8", "jwt_refetch": 1, "jwt_leeway": 5, "jwt_role_claim": "realm_access.roles",
                "jwt_roles": " ".join(f"fleet-{role}={role}" for role in ROLES)}
    api.configured = settings
    api.settings = [f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]
    restart(api)
    api.tls = Server(api, directory / "tls.log", http_certificate=pair.crt, http_key=pair.key_file, http_client_ca=api.clients.path, http_client_crl=api.crl,
                     **{**settings, "jwt_keys": provider.url + "/tls"}, **SCOPE_CLAIM).await_up()
    await_true(lambda: api.ask("/v1/fleet", provider.token()).status_code == 200, "the provider's keys")
    yield api
    provider.end.set()
    api.tls.stop()
    api.close()


# What a provider vouches for.

def test_who_is_vouched_for(api, described):  # noqa: F811
    token = api.provider.token
    for key, kid in ((api.provider.ec, "two"), (api.provider.rsa, "one")):
        assert api.get("/v1/fleet", token(key, kid))["tenant"] == "acme"
    assert api.get("/v1/fleet", token(tenant="globex"))["tenant"] == "globex"
    api.problem(404, "not-found", "/v1/fleet?tenant=acme", token(tenant="globex"))
    assert api.get("/v1/fleet", token(tenant=["globex"], aud=["x", AUDIENCE], nbf=int(time.time()) + 4, header={"typ": "at+jwt"}))["tenant"] == "globex"
    # What it brings along, or points at, is not looked at.
    stranger = jwk(api.provider.other, "two")
    more = {"jwk": stranger, "jku": "https://127.0.0.1:1/keys", "x5u": "https://127.0.0.1:1/x", "x5c": ["AAAA"]}
    asked = len(api.provider.asked)
    assert api.ask("/v1/fleet", token(header=more)).status_code == 200
    assert refusal(api, token(api.provider.other, header=more)) == "its signature is not good"
    assert len(api.provider.asked) == asked
    # The highest of several roles; an operator's has no tenant.
    several = token(realm_access={"roles": ["fleet-viewer", "x", "fleet-admin", "fleet-analyst"]}, sub="several")
    assert api.ask("/v1/tokens", several).status_code == 200
    above = token(realm_access={"roles": "fleet-operator"}, sub="above")
    assert api.get("/v1/fleet?tenant=globex", above)["tenant"] == "globex"
    api.problem(400, "tenant-required", "/v1/fleet", above)
    [listed] = [t for t in api.pages("/v1/tokens", several) if t["subject"] == "0815"]
    check(listed, {"$ref": "#/components/schemas/Token"}, described)
    assert (listed["kind"], listed["name"], listed["role"], listed["issuer"], listed["tenant"]) == ("bearer", "ada", "viewer", ISSUER, "acme")
    assert not any(json.dumps(listed).count(part) for part in several.split("."))


def refusal(api, token, path="/v1/fleet"):
    answer = api.problem(401, "unauthorized", path, token)
    return answer.json()["detail"].removeprefix("The token is not taken: ").rstrip(".")


def hmac_token(provider, secret, kid):
    """Signed with what everybody knows, by a library that is told not to mind (RFC 8725 2.1)."""
    claims = provider.token().split(".")[1]
    text = f"{b64(json.dumps({'alg': 'HS256', 'typ': 'JWT', 'kid': kid}).encode())}.{claims}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def der(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def parts(p, **header):
    """A good token's, with another header."""
    _, claims, signature = p.token().split(".")
    return f"{b64(json.dumps({'alg': 'ES256', 'kid': 'two', **header}).encode())}.{claims}.{signature}"


HEADER = b'{"alg":"ES256","kid":"two"}'
NOW = int(time.time())
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": NOW + 3600, "tenant": "acme", "realm_access": {"roles": ["fleet-viewer"]}}
FORM, ALGORITHM, SIGNATURE = "it is no signed JSON Web Token in its compact form", "it is signed neither by RS256 nor by ES256", "its signature is not good"
NOT_HEADER, TIMES = "its header is not one that is taken here", "it does not say rightly from when until when it is good"
NO_KEY, UNKNOWN = "it does not name a key", "the provider's keys have none of that name for that algorithm"


@pytest.mark.parametrize("why, make", [
    (ALGORITHM, lambda p: f"{b64(json.dumps({'alg': 'none', 'kid': 'two'}).encode())}.{p.token().split('.')[1]}."),
    (ALGORITHM, lambda p: parts(p, alg="None")),
    (ALGORITHM, lambda p: parts(p, alg="es256")),
    (ALGORITHM, lambda p: parts(p, alg=["ES256"])),
    (ALGORITHM, lambda p: parts(p, alg=None)),
    (ALGORITHM, lambda p: parts(p, alg="ES384")),
    (ALGORITHM, lambda p: parts(p, alg="PS256")),
    (ALGORITHM, lambda p: hmac_token(p, pem(p.rsa), "one")),
    (ALGORITHM, lambda p: hmac_token(p, der(p.rsa), "one")),
    (ALGORITHM, lambda p: hmac_token(p, b"", "two")),
    (UNKNOWN, lambda p: p.token(p.rsa, "two")),
    (UNKNOWN, lambda p: p.token(p.ec, "one")),
    (UNKNOWN, lambda p: p.token(kid="three")),
    (UNKNOWN, lambda p: p.token(kid="")),
    (UNKNOWN, lambda p: p.token(kid="../two")),
    (NO_KEY, lambda p: parts(p, kid=2)),
    (NO_KEY, lambda p: parts(p, kid=["two"])),
    (NO_KEY, lambda p: parts(p, kid=None)),
    (NOT_HEADER, lambda p: parts(p, crit=["exp"])),
    (NOT_HEADER, lambda p: parts(p, b64=False)),
    (NOT_HEADER, lambda p: p.signed(b'{"alg":"ES256","kid":"two","alg":"ES256"}', json.dumps(CLAIMS).encode())),
    (NOT_HEADER, lambda p: p.signed(b'{"alg":"ES256","kid":"two"} ' + b"x", json.dumps(CLAIMS).encode())),
    ("it is of another type than an access token", lambda p: p.token(header={"typ": "logout+jwt"})),
    ("it is of another type than an access token", lambda p: p.token(header={"typ": 1})),
    (SIGNATURE, lambda p: p.token(p.other)),
    (SIGNATURE, lambda p: p.token()[:-4] + "AAAA"),
    (SIGNATURE, lambda p: p.token() + "AA"),
    (SIGNATURE, lambda p: p.token().rsplit(".", 1)[0] + "."),
    (SIGNATURE, lambda p: p.token().rsplit(".", 1)[0] + "." + "A" * 86),
    (SIGNATURE, lambda p: p.token() + "="),
    (SIGNATURE, lambda p: ".".join([p.token().split(".")[0], p.token(sub="else").split(".")[1], p.token().split(".")[2]])),
    (FORM, lambda p: "eyJ.x"), (FORM, lambda p: p.token() + ".x"), (FORM, lambda p: "eyJhbGciOiJFUzI1NiJ9"),
    (NOT_HEADER, lambda p: "eyJ.."), (NOT_HEADER, lambda p: "eyJ" + "!" * 20 + ".e30.AA"), (NOT_HEADER, lambda p: "eyJ" + "A" * 5000 + ".e30.AA"),
    ("it is too long", lambda p: p.token(x="x" * 7000)),
    ("its claims are not a JSON object with each name once", lambda p: p.signed(HEADER, b'{"sub":"a","sub":"a"}')),
    ("its claims are not a JSON object with each name once", lambda p: p.signed(HEADER, b"[]")),
    ("its claims are not a JSON object with each name once", lambda p: p.signed(HEADER, b"[" * 3000)),
    ("its claims are not a JSON object with each name once", lambda p: p.signed(HEADER, json.dumps(CLAIMS).encode() + b"\0")),
    ("another provider issued it", lambda p: p.token(iss=ISSUER + "/")),
    ("another provider issued it", lambda p: p.token(iss=[ISSUER])),
    ("another provider issued it", lambda p: p.token(drop=["iss"])),
    ("it is for another audience", lambda p: p.token(aud="other")),
    ("it is for another audience", lambda p: p.token(aud=[[AUDIENCE], {"a": AUDIENCE}])),
    ("it is for another audience", lambda p: p.token(drop=["aud"])),
    ("its time is over", lambda p: p.token(exp=NOW - 6)),
    ("its time is over", lambda p: p.token(exp=0)),
    ("its time has not begun", lambda p: p.token(nbf=time.time() + 60)),
    ("its time has not begun", lambda p: p.token(iat=time.time() + 60)),
    (TIMES, lambda p: p.token(drop=["exp"])),
    (TIMES, lambda p: p.signed(HEADER, json.dumps({**CLAIMS, "exp": str(NOW + 600)}).encode())),
    (TIMES, lambda p: p.signed(HEADER, json.dumps({**CLAIMS, "exp": 1e300}).encode())),
    (TIMES, lambda p: p.signed(HEADER, json.dumps({**CLAIMS, "nbf": None}).encode())),
    (TIMES, lambda p: p.signed(HEADER, json.dumps({**CLAIMS, "iat": -1}).encode())),
    ("it is bound to a key, which is not looked at here", lambda p: p.token(cnf={"jkt": "x"})),
    ("it does not say for whom it is", lambda p: p.token(drop=["sub"])),
    ("it does not say for whom it is", lambda p: p.token(sub="")),
    ("it does not say for whom it is", lambda p: p.token(sub="a\nb")),
    ("it does not say for whom it is", lambda p: p.token(sub="x" * 256)),
    ("it gives no role", lambda p: p.token(drop=["realm_access"])),
    ("it gives no role", lambda p: p.token(realm_access={"roles": ["viewer", "Fleet-viewer", "fleet-viewer=", ""]})),
    ("it gives no role", lambda p: p.token(realm_access=["fleet-viewer"], roles=["fleet-viewer"])),
    ("it gives no role", lambda p: p.token(drop=["realm_access"], **{"realm_access.roles": ["fleet-viewer"]})),
    ("it gives no tenant, or several", lambda p: p.token(drop=["tenant"])),
    ("it gives no tenant, or several", lambda p: p.token(tenant=["acme", "globex"])),
    ("it gives no tenant, or several", lambda p: p.token(tenant={"acme": 1})),
    ("it gives no tenant, or several", lambda p: p.token(tenant="x" * 64)),
    ("there is no such tenant", lambda p: p.token(tenant="initech")),
    ("there is no such tenant", lambda p: p.token(tenant="acme';--")),
])
def test_tokens_that_are_not_taken(api, why, make):
    token, before = make(api.provider), bearers(api)
    if why == FORM:
        assert api.ask("/v1/fleet", token).status_code == 401
    else:
        assert refusal(api, token) == why
    assert bearers(api) == before


def bearers(api):
    return api.db.one("SELECT count(*) FROM api_token WHERE kind = 'bearer'")


def await_fetch(api, n=1):
    """The provider has been asked again, since a token named a key that is not here."""
    before = len(api.provider.asked)
    await_true(lambda: api.ask("/v1/fleet", api.provider.token(kid="nobody")).status_code == 401 and len(api.provider.asked) >= before + n, "another look")


@pytest.mark.parametrize("mode, said", [(STALL, None), (REDIRECT, "HTTP 302"), (HUGE, "too large"), (JUNK, "no set of keys")])
def test_a_provider_that_misbehaves_holds_up_nobody(api, mode, said):
    good = api.provider.token()
    api.provider.mode = mode
    try:
        outlived = 0
        for _ in range(5):
            # One who asks is enough: a second would wait for the call as well, if anybody did.
            begun = api.provider.begun["/keys"]
            assert api.ask("/v1/fleet", api.provider.token(kid="nobody")).status_code == 401
            await_true(lambda: api.provider.begun["/keys"] > begun, "this server's call")
            failed = counted(api, "jwk_sets_failed")
            assert api.ask("/v1/fleet", good).status_code == 200 and api.ask("/v1/fleet").status_code == 200
            outlived += counted(api, "jwk_sets_failed") == failed
            api.provider.let_go()
        # The call had begun, and has not ended when both are answered: nobody waited for it.
        assert outlived or mode != STALL, "its keys are kept, and nobody waits"
        if said:
            await_true(lambda: said in api.tls.told() or tls_ask(api, token=api.provider.token(kid="nobody"))[0] != 401, "what is said of it")
    finally:
        api.provider.mode = None
        api.provider.let_go()


def test_a_key_is_exchanged(api):
    """A new one is looked for when a token names it, and no more often than may be; one that is gone is not taken any more."""
    fresh, former = ec.generate_private_key(ec.SECP256R1()), api.provider.keys
    before = api.provider.token()
    api.provider.keys = [*former, jwk(fresh, "three")]
    after = api.provider.token(fresh, "three")
    await_true(lambda: api.ask("/v1/fleet", after).status_code == 200, "the new key")
    assert api.ask("/v1/fleet", before).status_code == 200
    asked, started = len(api.provider.asked), time.monotonic()
    for i in range(100):
        assert refusal(api, api.provider.token(kid=f"made up {i}")) == UNKNOWN
    # By two servers.
    assert len(api.provider.asked) - asked <= 2 * (time.monotonic() - started + 2)
    stream = api.ask("/v1/events/stream", before, stream=True)
    assert stream.status_code == 200
    api.provider.keys = [jwk(fresh, "three")]
    await_true(lambda: api.ask("/v1/fleet", api.provider.token(kid="nobody")).status_code == api.ask("/v1/fleet", before).status_code == 401, "the former key gone")
    # What one that is gone had begun ends, though another one vouches for the same subject.
    happen(api)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        for line in stream.iter_lines():
            assert line != b"event: test"
    assert api.ask("/v1/fleet", after).status_code == 200
    api.provider.keys = former
    await_true(lambda: api.ask("/v1/fleet", before).status_code == 200, "as it was")


def test_a_subject_that_is_revoked(api):
    token = api.provider.token
    gone = token(sub="gone")
    assert api.ask("/v1/fleet", gone).status_code == 200
    [listed] = [t for t in api.pages("/v1/tokens", "acme-admin") if t["subject"] == "gone"]
    api.problem(404, "not-found", f"/v1/tokens/{listed['id']}", "globex-admin", method="DELETE")
    assert api.ask(f"/v1/tokens/{listed['id']}", "acme-admin", method="DELETE").status_code == 204
    for again in gone, token(sub="gone", exp=time.time() + 900), token(sub="gone", realm_access={"roles": ["fleet-admin"]}):
        api.problem(401, "unauthorized", "/v1/fleet", again)
    assert api.ask("/v1/fleet", token(sub="gone", tenant="globex")).status_code == 200, "another tenant's business"


# Client certificates.

def tls_ask(api, client=None, path="/v1/fleet", method="GET", body=None, token=None, **headers):
    """Status and text; of a stream only its beginning."""
    connection = connect(api, client)
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        headers["Authorization"] = "Bearer " + token
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = "" if (answer.getheader("Content-Type") or "").startswith("text/event-stream") else answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text


def fingerprint(pair):
    return "fingerprint:" + pair.certificate.fingerprint(hashes.SHA256()).hex()


def mapped(api, mark, name, tenant="acme", role="viewer", **more):
    return api.db.cli("token", "add", *(("--tenant", tenant) if tenant else ()), "--role", role, "--certificate", mark, name,
                      *(w for k, v in more.items() for w in ("--" + k, v)))


def forget(api):
    """What was mapped is looked up again within a minute: not by a server that has just begun."""
    api.tls.stop()
    api.tls.process = subprocess.Popen(api.tls.process.args, stderr=open(api.tls.log, "ab"))
    api.tls.await_up()


def test_a_certificate_stands_for_a_token(api, described):  # noqa: F811
    names = [x509.DNSName("SIEM.acme.example"), x509.UniformResourceIdentifier("spiffe://acme/siem"), x509.RFC822Name("soc@acme.example")]
    marks = {"fingerprint:": "globex", "uri:spiffe://acme/siem": "acme", "dns:siem.acme.example": "globex", "email:soc@acme.example": "acme", "subject:CN=siem": "globex"}
    siem = api.clients.issue("siem", names=names)
    status, text = tls_ask(api, siem)
    assert status == 401 and "Nobody has mapped the certificate" in text
    # The most telling counts, whatever else is mapped.
    for mark, tenant in reversed(marks.items()):
        mark = fingerprint(siem) if mark == "fingerprint:" else mark
        numbers = {mark: mapped(api, mark, mark[:20], tenant)}
        forget(api)
        status, text = tls_ask(api, siem)
        assert (status, json.loads(text).get("tenant")) == (200, tenant), mark
        assert tls_ask(api, siem, "/v1/fleet?tenant=" + {"acme": "globex", "globex": "acme"}[tenant])[0] == 404
    assert api.db.cli("token", "add", "--role", "viewer", "--tenant", "acme", "--certificate", mark, "again", status=1) == ""
    [listed] = [t for t in api.pages("/v1/tokens", "globex-admin") if t["certificate"] == mark]
    check(listed, {"$ref": "#/components/schemas/Token"}, described)
    assert (listed["kind"], str(listed["id"])) == ("certificate", numbers[mark])
    # Of a token or a session that is shown besides, that one counts.
    assert json.loads(tls_ask(api, siem, token=api.tokens["acme"])[1])["tenant"] == "acme" and tls_ask(api, siem, token="fst_x")[0] == 401
    # Revoked: at once, and it does not fall back on what is less telling.
    assert api.ask(f"/v1/tokens/{numbers[mark]}", "globex-admin", method="DELETE").status_code == 204
    assert tls_ask(api, siem)[0] == 401
    assert mapped(api, mark, "anew", "acme") != numbers[mark]
    forget(api)
    assert json.loads(tls_ask(api, siem)[1])["tenant"] == "acme"
    for wrong in "x", "fingerprint:" + "A" * 64, "fingerprint:00", "dns:", "dns:Siem", "cn:siem", "subject:a\nb":
        api.db.cli("token", "add", "--role", "viewer", "--tenant", "acme", "--certificate", wrong, "x", status=2)


def test_who_maps_certificates_over_http(api):
    bob = api.clients.issue("bob")
    body = {"role": "analyst", "name": "bob", "certificate": fingerprint(bob), "scopes": ["fleet"]}
    api.problem(403, "forbidden", "/v1/tokens", "acme-admin", method="POST", json=body)
    api.problem(400, "bad-body", "/v1/tokens?tenant=acme", "operator", method="POST", json={**body, "certificate": "bob"})
    made = api.ask("/v1/tokens?tenant=acme", "operator", method="POST", json=body)
    assert made.status_code == 201 and set(made.json()) == {"id"}, "there is no secret"
    api.problem(409, "conflict", "/v1/tokens?tenant=globex", "operator", method="POST", json=body)
    assert tls_ask(api, bob)[0] == 200 and tls_ask(api, bob, "/v1/devices")[0] == 403


def test_certificates_that_stand_for_nobody(api):
    """Mapped, but not good: what the handshake's end says, of each kind."""
    stranger = Authority(api.crl.parent, "stranger")
    wrong = {"expired": api.clients.issue("expired", days=(-9, -1)), "early": api.clients.issue("early", days=(1, 9)),
             "server": api.clients.issue("server", (SERVER,)), "any": api.clients.issue("any", ()), "stranger": stranger.issue("strange"),
             "revoked": api.clients.issue("revoked")}
    for name, pair in wrong.items():
        mapped(api, fingerprint(pair), name, role="admin")
    assert tls_ask(api, wrong["revoked"])[0] == 200
    write(api.crl, api.clients.revoke(wrong["revoked"].certificate))
    await_true(lambda: tls_ask(api, wrong["revoked"])[0] != 200, "the list to be in force")
    for name, pair in wrong.items():
        status, text = tls_ask(api, pair)
        assert status == 403 and "bad-certificate" in text, (name, text)
    plain = {"X-Client-Cert": api.clients.issue("x").crt.read_text().replace("\n", "")}
    assert requests.get(f"http://127.0.0.1:{api.port}/v1/fleet", headers=plain, timeout=10).status_code == 401, "a header shows nothing"


def test_another_sites_page_can_not_use_a_certificate(api):
    carol = api.clients.issue("carol")
    mapped(api, fingerprint(carol), "carol", role="analyst")
    alert = api.db.one("INSERT INTO alert (device_id, tenant_id, policy_id) SELECT device_id, tenant_id, 1 FROM device WHERE ueid = decode(%s, 'hex') RETURNING alert_id",
                       (ueid("acme", 2),))
    path, origin = f"/v1/alerts/{alert}/comment", f"https://127.0.0.1:{api.tls.port}"
    for wrong in "https://evil.example", "null", origin + "0":
        status, text = tls_ask(api, carol, path, "POST", {"comment": "x"}, Origin=wrong)
        assert status == 403 and "forged" in text
    for headers in {}, {"Origin": origin}:
        assert tls_ask(api, carol, path, "POST", {"comment": "x"}, **headers)[0] == 200


# Each kind against the table of routes.

@pytest.fixture(scope="module")
def callers(api):
    """By kind: what asks with it, as a role of acme's or narrowed to a scope."""
    certificates = {}
    for who in [*ROLES, *SCOPES]:
        certificates[who] = api.clients.issue("of-" + who)
        mapped(api, fingerprint(certificates[who]), "holder " + who, None if who == "operator" else "acme", who if who in ROLES else "admin",
               **({} if who in ROLES else {"scopes": who}))

    def ask(connections, client, who, method, path, body, token=None):
        connection = connections.get(who) or connections.setdefault(who, connect(api, client))
        headers = {**({"Content-Type": "application/json"} if body is not None else {}), **({"Authorization": "Bearer " + token} if token else {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        if (answer.getheader("Content-Type") or "").startswith("text/event-stream"):
            connections.pop(who).close()
        else:
            answer.read()
        return answer.status

    def by_certificate(who, *request, kept={}):
        return ask(kept, certificates[who], who, *request)

    def by_bearer(who, method, path, body, kept={}):
        claims = {"sub": "bearer " + who, "preferred_username": "bearer " + who, "realm_access": {"roles": ["fleet-" + (who if who in ROLES else "admin")]}}
        token = tokens.get(who) or tokens.setdefault(who, api.provider.token(**claims, scope="openid fleet:" + who))
        if who in SCOPES:
            return ask(kept, None, who, method, path, body, token)
        with api.ask(path, token, method=method, json=body, stream=True) as answer:
            return answer.status_code

    tokens = {}
    return {"certificate": by_certificate, "bearer": by_bearer}


@pytest.mark.parametrize("kind", ["certificate", "bearer"])
def test_the_table_answers_each_kind(api, callers, kind):
    ask, wrong = callers[kind], []

    def judge(who, may, method, route, path):
        status = ask(who, method, path, BODIES.get((method, route)))
        if status in (401, 429) or status >= 500 or (status == 403) == may:
            wrong.append((method, route, who, status))

    for method, route, least, scope, _, how in ROUTES:
        least, scope = least.lower(), scope.lower()
        # A tenant is made by an operator who names none, unlike here.
        if least == "none" or route == "/v1/session" or (method, route) == ("POST", "/v1/tenants"):
            continue
        absent = {"/v1/" + w: "999999999" for w in ("policies", "alerts", "maintenance", "sinks", "tokens", "trust-anchors")} if how == "WRITES" else {}
        path = filled(route, {"sha256": "0" * 64, **api.things["acme"], **absent}) + (f"?a={A}&b={ueid('acme', 1)}" if route == "/v1/diff" else "")
        # The last one that may not, the first that may, and the one above tenants.
        for role in {ROLES[max(ROLES.index(least) - 1, 0)], least, "operator"}:
            tenant = ("&" if "?" in path else "?") + "tenant=acme" if role == "operator" else ""
            judge(role, ROLES.index(role) >= ROLES.index(least), method, route, path + tenant)
        for narrow in {scope, "metrics" if scope != "metrics" else "fleet"} - {"any"}:
            judge(narrow, narrow == scope and how == "READS" and least != "operator", method, route, path)
    assert wrong == []


def test_the_log_names_each_kind(api):
    certificates = api.clients.issue("logged"), api.clients.issue("unknown"), api.clients.issue("over", days=(-9, -1))
    mapped(api, fingerprint(certificates[0]), "a logged one")
    started = api.db.one("SELECT number FROM audit_head")
    assert [tls_ask(api, pair)[0] for pair in certificates] == [200, 401, 403]
    token = api.provider.token(sub="4711", preferred_username="grace", exp=int(time.time()) + 601)
    bad = api.provider.token(api.provider.other)
    assert api.ask("/v1/policies", token).status_code == 200 and api.ask("/v1/policies", bad).status_code == 401
    forget(api)
    log = [e for e in written(api) if e["number"] > started]
    [holder] = [e for e in log if e.get("who") == "a logged one"]
    assert (holder["certificate"], holder["tenant"], holder["role"]) == (fingerprint(certificates[0]), "acme", "viewer")
    [bearer] = [e for e in log if e.get("who") == "grace"]
    assert (bearer["issuer"], bearer["subject"], bearer["target"], bearer["status"]) == (ISSUER, "4711", "/v1/policies", 200)
    refused = {(e.get("credential"), e["status"]) for e in log if e["kind"] == "refused"}
    assert refused >= {("jwt_" + b64(hashlib.sha256(bad.encode()).digest())[:6], 401),
                       *(("crt_" + b64(pair.certificate.fingerprint(hashes.SHA256()))[:6], status) for pair, status in zip(certificates[1:], (401, 403)))}
    text = json.dumps(log)
    assert not any(part in text for part in token.split(".") + bad.split("."))
    used = [t["last_used_at"] for t in api.pages("/v1/tokens", "acme-admin") if t["name"] in ("a logged one", "grace")]
    assert len(used) == 2 and None not in used


def test_guesses_of_each_kind_are_kept_waiting(api, tmp_path):
    server = Server(api, tmp_path / "log", guess_free=2, guess_delay=1, **api.configured).await_up()
    url, asked = f"http://127.0.0.1:{server.port}/v1/fleet", []
    await_true(lambda: requests.get(url, headers={"Authorization": "Bearer " + api.provider.token()}, timeout=10).status_code == 200, "the provider's keys")
    for i in range(5):
        started = time.monotonic()
        bad = api.provider.token(api.provider.other, sub=str(i))
        assert requests.get(url, headers={"Authorization": "Bearer " + bad}, timeout=10).status_code == 401
        asked.append(time.monotonic() - started)
    assert asked[3] >= 0.5 and asked[4] >= 1
    server.stop()


def test_the_apis_role_alone_stands_for_none_of_them(api):
    """Nobody can make up what the database knows them by, and the role can't ask for it."""
    for call_ in "find_certificate('{subject:CN=of-admin}')", "admit_bearer('x', 'y', 'z', 'acme', 'admin', '', now() + interval '1 hour')", "token_handle()":
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            api.db.sql("SELECT " + call_, role="fleetstate_api")
    assert api.db.one("SELECT count(DISTINCT hash) = count(*) AND bool_and(length(hash) = 32) FROM api_token WHERE kind <> 'token'")
    for shown in "subject:CN=of-admin", "certificate subject:CN=of-admin":
        assert api.db.sql("SELECT * FROM caller_quota(sha256(%s))", (shown.encode(),), role="fleetstate_api") == []


def test_a_bearers_quota(api):
    token = api.provider.token(sub="hasty")
    assert api.ask("/v1/fleet", token).status_code == 200
    [number] = [t["number"] for t in json.loads(api.db.cli("token", "list", "--json")) if (t["stands_for"] or "").startswith("hasty at")]
    api.db.cli("token", "quota", "--requests", "1", number)
    restart(api)
    await_true(lambda: api.ask("/v1/fleet", token).status_code == 200, "the provider's keys")
    later = api.provider.token(sub="hasty", exp=int(time.time()) + 700)
    assert 429 in [api.ask("/v1/fleet", t).status_code for t in 10 * [token, later]], "whichever of his tokens"


def test_a_session_of_a_bearer_ends_with_it(api):
    answer = api.ask("/v1/session", api.provider.token(sub="surfer", exp=int(time.time()) + 600), method="POST")
    assert answer.status_code == 201 and answer.json()["name"] == "ada"
    cookie = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}
    url = f"http://127.0.0.1:{api.port}/v1/fleet"
    assert requests.get(url, headers=cookie, timeout=10).status_code == 200
    api.db.sql("UPDATE api_token SET expires_at = now() WHERE subject = 'surfer'")
    assert requests.get(url, headers=cookie, timeout=10).status_code == 401


@pytest.mark.parametrize("settings, said", [
    ({"jwt_audience": ""}, "jwt_issuer needs jwt_audience"), ({"jwt_roles": ""}, "jwt_issuer needs"), ({"jwt_roles": "a=root"}, "jwt_roles"),
    ({"jwt_scopes": "a=state"}, "jwt_scopes needs"), ({"jwt_scope_claim": "s", "jwt_scopes": "a"}, "jwt_scopes"), ({"jwt_keys": "http://127.0.0.1/x"}, "by https"),
    ({"jwt_keys": "/nowhere"}, "No such file"), ({"jwt_networks": "here"}, "not a network"), ({"jwt_ca": "/nowhere"}, "No such file"),
])
def test_settings_that_do_not_fit(api, tmp_path, settings, said):
    server = Server(api, tmp_path / "log", **{"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_keys": api.provider.url, "jwt_roles": "a=viewer", **settings})
    assert server.process.wait(20) == 1 and said in server.told()


def test_keys_from_a_file_and_no_private_address_unless_told(api, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_bytes(api.provider.set())
    common = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_roles": "fleet-viewer=viewer", "jwt_role_claim": "realm_access.roles",
              "database": api.db.uri("fleetstate_ingest"), "jwt_tenants": "a/c=acme g=globex", "jwt_refetch": 1}
    server = Server(api, tmp_path / "log", jwt_keys=keys, **common).await_up()
    url = f"http://127.0.0.1:{server.port}/v1/fleet"

    def ask(**claims):
        return requests.get(url, headers={"Authorization": "Bearer " + api.provider.token(**claims)}, timeout=10)

    assert ask(tenant="a/c").json()["tenant"] == "acme" and ask(tenant="acme").status_code == 401
    fresh = ec.generate_private_key(ec.SECP256R1())
    keys.write_text(json.dumps({"keys": [jwk(fresh, "new")]}))
    await_true(lambda: ask(key=fresh, kid="new", tenant="g").status_code == 200, "the file read again")
    server.stop()
    guarded = Server(api, tmp_path / "log2", jwt_keys=api.provider.url, jwt_ca=api.provider.ca, **common).await_up()
    await_true(lambda: "127.0.0.1 is not allowed: loopback address" in guarded.told(), "the address refused")
    answer = requests.get(f"http://127.0.0.1:{guarded.port}/v1/fleet", headers={"Authorization": "Bearer " + api.provider.token()}, timeout=10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), "no key yet"
    guarded.stop()
    strange = Server(api, tmp_path / "log3", jwt_keys=api.provider.url, jwt_ca=api.ca.path, jwt_networks="127.0.0.1", **common).await_up()
    await_true(lambda: "certificate" in strange.told(), "another authority's certificate refused")
    strange.stop()
