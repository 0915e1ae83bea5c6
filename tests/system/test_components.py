"""Who runs what: components by name, purl and range of versions, their devices, and in what two devices differ. On a real PostgreSQL."""

import contextlib
import subprocess

import psycopg2
import pytest

from test_api import Api, check, described, ueid  # noqa: F401

# Device i of acme has the openssl of its place; so have five more each, but for the last. All have the busybox of globex's devices too.
VERSIONS = ["3.0.9-1", "3.0.11-1~deb12u1", "3.0.11-1~deb12u2", "3.0.11-1", "1:0.1"]
DEVICES = 6 * len(VERSIONS)
SEED = """
WITH d AS (SELECT device_id, tenant_id, row_number() OVER (ORDER BY device_id) - 1 AS i FROM device WHERE tenant_id = (SELECT tenant_id FROM tenant
	WHERE id = %(tenant)s)),
i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(('set' || i)::bytea), 3 FROM d WHERE i < %(sets)s
	RETURNING inventory_id, tenant_id, digest),
c AS (INSERT INTO component (tenant_id, digest, type, name, version, architecture, purl)
	SELECT tenant_id, sha256(('openssl' || i)::bytea), 'dpkg', 'openssl', (%(versions)s::text[])[i + 1], 'amd64',
		'pkg:deb/debian/openssl@' || (%(versions)s::text[])[i + 1] FROM d WHERE i < %(sets)s
	UNION ALL SELECT tenant_id, sha256('busybox'), 'dpkg', 'busybox', '1.35.0-4', NULL, NULL FROM d WHERE i = 0
	UNION ALL SELECT tenant_id, sha256('rpm'), 'rpm', 'openssl', '3.0.9-1', NULL, NULL FROM d WHERE i = 0 RETURNING component_id, tenant_id, digest),
ic AS (INSERT INTO inventory_component SELECT i.inventory_id, c.component_id, i.tenant_id FROM i, c, d
	WHERE i.digest = sha256(('set' || d.i)::bytea) AND c.digest IN (sha256(('openssl' || d.i)::bytea), sha256('busybox')))
INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('state'), sha256(('set' || i %% %(sets)s)::bytea), '{}' FROM d
WHERE i < %(sets)s * 5
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("components")
    api = Api(directory, DEVICES, told=False)
    for tenant in "acme", "globex":
        api.db.sql(SEED, {"tenant": tenant, "sets": len(VERSIONS), "versions": VERSIONS})
    yield api
    api.close()


def check_answer(described, value, path):  # noqa: F811
    check(value, described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"], described, path)


def older(a, b):
    return subprocess.run(["dpkg", "--compare-versions", a, "lt", b]).returncode == 0


def test_components_by_name_and_purl(api, described):  # noqa: F811
    items = api.pages("/v1/components?name=openssl&limit=2")
    assert [i["version"] for i in items if i["type"] == "dpkg"] == VERSIONS and [i["type"] for i in items].count("rpm") == 1
    assert {i["devices"] for i in items if i["type"] == "dpkg"} == {5} and {i["devices"] for i in items if i["type"] == "rpm"} == {0}
    check_answer(described, {"items": items, "next": None}, "/v1/components")
    [one] = api.get("/v1/components?purl=pkg:deb/debian/openssl@3.0.11-1")["items"]
    assert one["version"] == "3.0.11-1"
    assert api.get(f"/v1/components/{one['id']}") == one
    check_answer(described, one, "/v1/components/{id}")
    assert api.get("/v1/components?name=openssl&version=3.0.11-1")["items"] == [one]
    assert api.get("/v1/components?name=openssl&type=rpm")["items"] == [i for i in items if i["type"] == "rpm"]
    assert api.get("/v1/components?name=openss")["items"] == []
    everything = api.pages("/v1/components?limit=3")
    assert len(everything) == len(VERSIONS) + 2 and all("devices" not in c for c in everything)


def test_a_purl_of_any_version(api):
    """As advisories name a package; with qualifiers, and a name that package URLs write otherwise."""
    more = [("libstdc++6", "12", "pkg:deb/debian/libstdc%2B%2B6@12?arch=amd64"), ("libstdc++6", "13", "pkg:deb/debian/libstdc%2B%2B6@13"), ("libstdc++6", "13", "pkg:deb/ubuntu/libstdc%2B%2B6@13"),
            ("libstdc++6", "14", None)]
    for i, component in enumerate(more):
        api.db.sql("INSERT INTO component (tenant_id, digest, type, name, version, purl) SELECT tenant_id, sha256(%s), 'dpkg', %s, %s, %s FROM tenant WHERE id = 'acme'",
                   (f"c{i}".encode(), *component))

    def versions(query):
        return [i["version"] for i in api.pages("/v1/components?limit=2&" + query)]

    purl = "purl=pkg:deb/debian/libstdc%252B%252B6"
    assert versions("purl=pkg:deb/debian/openssl") == VERSIONS and versions(purl) == ["12", "13"]
    assert versions("purl=pkg:deb/debian/openssl&version=vers:deb/%3C3.0.10") == ["3.0.9-1"]
    assert versions(purl + "&version=vers:deb/%3E12") == ["13"] and versions(purl + "&version=12") == ["12"] and versions(purl + "&name=other") == []
    assert versions("purl=pkg:deb/debian/libstdc%252B%252B6%4012?arch=amd64") == ["12"]
    # What it leaves open may be any; and it may be spelled otherwise.
    for same in "%4012", "?arch=amd64", "%4012?arch=%2561md64", "?ARCH=amd64":
        assert versions(purl + same) == ["12"], same
    assert versions("purl=PKG:DEB/Debian/LibStdC%252b%252B6") == versions("purl=pkg:deb/debian/libstdc%2B%2B6") == ["12", "13"]
    for none in "%4011", "%4012?arch=arm64", "?arch=amd", "?arch=amd64%26distro=x", "%4012-1", "%4013?arch=amd64":
        assert versions(purl + none) == [], none
    for none in "pkg:deb/debian/openss", "pkg:deb/openssl", "pkg:deb/debian/openssl?arch=amd64", "pkg:rpm/debian/openssl", "pkg:deb/ubuntu/openssl":
        assert versions("purl=" + none) == [], none
    for bad, place in ("", 1), ("openssl", 1), ("pkg:", 5), ("/openssl", 1), ("pkg:deb/debian/", 9), ("pkg:deb/debian/%25zz", 9), ("pkg:deb/debian/%25", 9), ("pkg:deb/debian/x%2500", 9), \
            ("pkg:deb/debian/%25ff", 9), ("pkg:deb/debian/openssl%40", 24), ("pkg:deb/debian/openssl?arch", 23), ("pkg:deb/debian/openssl%23etc", 23), ("pkg:oci/" + "x" * 1024, 1):
        problem = api.problem(400, "bad-parameter", "/v1/components?purl=" + bad).json()
        assert problem["position"] == place and problem["detail"].startswith(f"purl, from character {place} on: "), bad
    api.db.sql("DELETE FROM component WHERE name = 'libstdc++6'", ())


@pytest.mark.parametrize("bound", [*VERSIONS, "3.0.10", "0"])
def test_a_range_is_in_dpkgs_own_order(api, bound):
    for sign, fits in ("%3C", lambda v: older(v, bound)), ("%3E%3D", lambda v: not older(v, bound)):
        query = f"vers:deb/{sign}{bound.replace(':', '%253A').replace('~', '%7E')}"
        got = api.pages(f"/v1/components?name=openssl&limit=2&version={query}")
        assert [i["version"] for i in got] == [v for v in VERSIONS if fits(v)] and {i["type"] for i in got} <= {"dpkg"}
        devices = api.pages(f"/v1/devices?component=openssl&limit=4&component_version={query}")
        assert {d["ueid"] for d in devices} == {ueid("acme", i) for i in range(len(VERSIONS) * 5) if fits(VERSIONS[i % len(VERSIONS)])}
        assert len(devices) == len({d["ueid"] for d in devices})


def test_devices_of_a_component(api):
    [busybox] = api.get("/v1/components?name=busybox")["items"]
    devices = api.pages(f"/v1/components/{busybox['id']}/devices?limit=7")
    assert [d["ueid"] for d in devices] == [ueid("acme", i) for i in range(len(VERSIONS) * 5)] and busybox["devices"] == len(devices)
    other = api.get(f"/v1/devices?component=openssl&component_version=vers:deb/*&limit=3&posture={devices[0]['posture']}")["items"]
    assert other and {d["posture"] for d in other} == {devices[0]["posture"]}


def test_the_inventories_of_components(api):
    """As the lists' statements ask for them: the owner looks, so whose they are is asked for each."""
    digests = "SELECT array_agg(digest ORDER BY digest) FROM unnest(component_sets(%s::bigint[])) digest"
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db, db.cursor() as c:
        c.execute("SELECT tenant_id, array_agg(component_id ORDER BY component_id), array_agg(component_id) FILTER (WHERE name = 'openssl' AND type = 'dpkg') FROM component GROUP BY 1 ORDER BY 1")
        (acme, all_of_it, openssl), (_, others, _) = c.fetchall()
        c.execute("SELECT tenant_id, array_agg(digest ORDER BY digest) FROM inventory GROUP BY 1")
        every = dict(c.fetchall())

        def found(components):
            c.execute(digests, (components,))
            return c.fetchone()[0]

        for given in [], openssl, others:
            assert found(given) is None, given
        c.execute("SELECT set_context(%s, 'viewer', 'x')", (acme,))
        assert found(openssl) == found(openssl + others) == every[acme] and len(every[acme]) == len(VERSIONS)
        # Each once, though it has two of them.
        assert found(all_of_it) == every[acme]
        [one] = found(openssl[:1])
        assert one in every[acme]
        for given in None, [], [None], [0, 2 ** 63 - 1], others:
            assert found(given) is None, given
        # So many are looked through, and one more is too many.
        c.execute("INSERT INTO component (tenant_id, digest, type, name, version) SELECT %s, sha256('most'), 'dpkg', 'most', '1' RETURNING component_id", (acme,))
        [most] = c.fetchone()
        more = "WITH i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT %(t)s, sha256(('most' || i)::bytea), 1 FROM generate_series(%(from)s, %(to)s) i RETURNING *)" \
            " INSERT INTO inventory_component SELECT inventory_id, %(c)s, tenant_id FROM i"
        c.execute(more, {"t": acme, "from": 1, "to": 1000, "c": most})
        assert len(found([most])) == 1000
        c.execute(more, {"t": acme, "from": 1001, "to": 1001, "c": most})
        assert found([most]) is None and found(openssl[:1]) == [one]
        db.rollback()


def test_what_differs(api, described):  # noqa: F811
    a, b, same, silent = (ueid("acme", i) for i in (0, 1, 5, DEVICES - 1))
    diff = api.get(f"/v1/diff?a={a}&b={b}")
    check_answer(described, diff, "/v1/diff")
    assert (diff["a"]["ueid"], diff["b"]["ueid"], diff["same"]) == (a, b, 1)
    assert diff["items"] == [{"type": "dpkg", "name": "openssl", "architecture": "amd64", "a": [VERSIONS[0]], "b": [VERSIONS[1]]}]
    assert api.get(f"/v1/diff?a={b}&b={a}")["items"][0]["a"] == [VERSIONS[1]]
    assert (api.get(f"/v1/diff?a={a}&b={same}")["items"], api.get(f"/v1/diff?a={a}&b={same}")["same"]) == ([], 2)
    api.problem(404, "not-found", f"/v1/diff?a={a}&b={silent}")
    api.problem(404, "not-found", f"/v1/diff?a={a}&b={ueid('globex', 0)}")
    for query in f"a={a}&b={a}", f"a={a}", f"b={a}", "", f"a={a}&b=01", f"a={a}&b={b}0", f"a=&b={b}":
        api.problem(400, "bad-parameter", "/v1/diff?" + query)


MANY = """
WITH i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(%(set)s::bytea), cardinality(%(names)s::text[]) FROM tenant WHERE id = 'acme' RETURNING *),
c AS (INSERT INTO component (tenant_id, digest, type, name, version, architecture) SELECT tenant_id, sha256(convert_to(concat_ws(' ', n, %(version)s, a), 'UTF8')), 'dpkg', n, %(version)s, a
	FROM i, unnest(%(names)s::text[], %(architectures)s::text[]) x (n, a) ON CONFLICT (tenant_id, digest) DO UPDATE SET type = EXCLUDED.type RETURNING component_id, tenant_id),
s AS (INSERT INTO inventory_component SELECT inventory_id, component_id, c.tenant_id FROM i, c)
INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('s'), sha256(%(set)s::bytea), '{}' FROM device WHERE ueid = decode(%(ueid)s, 'hex')
	ON CONFLICT (device_id) DO UPDATE SET inventory_digest = EXCLUDED.inventory_digest
"""


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    api = Api(tmp_path_factory.mktemp("apart"), 10, told=False, page_bytes=65536)
    yield api
    api.close()


@pytest.fixture
def two(apart):
    """They have nothing in common but names, and one name in several architectures, of which one is none."""
    names = [f"x-{i:04}" for i in range(300)] + ["x-again"] * 4 + ["\u00e4" * 100, "\x01" * 100]
    architectures = [None] * 300 + [None, "", "amd64", "i386"] + [None] * 2
    for device, version in (ueid("acme", 2), "1"), (ueid("acme", 3), "2"):
        apart.db.sql(MANY, {"set": "many" + version, "names": names, "architectures": architectures, "version": version, "ueid": device})
    return f"/v1/diff?a={ueid('acme', 2)}&b={ueid('acme', 3)}"


def test_a_large_difference_comes_in_pages(apart, two, described):  # noqa: F811
    api = apart
    whole = api.get(two)
    check_answer(described, whole, "/v1/diff")
    assert whole["next"] is None and len(whole["items"]) == 306 and whole["same"] == 0 and all((i["a"], i["b"]) == (["1"], ["2"]) for i in whole["items"])
    assert [i["name"] for i in whole["items"]] == sorted(i["name"] for i in whole["items"])
    assert [i.get("architecture") for i in whole["items"] if i["name"] == "x-again"] == [None, "", "amd64", "i386"]
    for limit in 1, 7, 306, 1000:
        told, cursor = [], ""
        while cursor is not None:
            answer = api.ask(f"{two}&limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
            page = answer.json()
            check_answer(described, page, "/v1/diff")
            assert len(page["items"]) == min(limit, 306 - len(told)) and {k: page[k] for k in "ab"} == {k: whole[k] for k in "ab"} and page["same"] == 0
            told, cursor = told + page["items"], page["next"]
            assert ("Link" in answer.headers) == (cursor is not None)
        assert told == whole["items"], limit
    cursor = api.get(two + "&limit=5")["next"]
    assert api.get(f"{two}&cursor={cursor}")["items"] == whole["items"][5:], "all that is left"
    a, b = ueid("acme", 2), ueid("acme", 3)
    for wrong in f"/v1/diff?a={b}&b={a}&cursor={cursor}", f"/v1/diff?a={a}&b={ueid('acme', 4)}&cursor={cursor}",\
            f"{two}&cursor={cursor[:-1]}", f"{two}&cursor=1", f"/v1/components?cursor={cursor}":
        api.problem(400, "bad-cursor", wrong)
    api.problem(400, "bad-cursor", f"{two}&cursor=")
    for limit in "0", "1001", "x", "-1", "":
        assert api.problem(400, "bad-parameter", f"{two}&limit={limit}").json()["position"] == 1


def test_a_difference_has_no_more_bytes_than_a_page(apart):
    """Names that are six times as long in JSON, as a device may have 20,000 of them: 1.3 kB an item here; and two items that each are more than a page."""
    names = [f"{i:03}" + "\x01" * 210 for i in range(200)] + ["y" * 255]
    for device, version in (ueid("acme", 0), "1"), (ueid("acme", 1), "2"):
        apart.db.sql(MANY, {"set": version, "names": names, "architectures": [None] * 201, "version": version, "ueid": device})
    apart.db.sql("UPDATE component SET version = version || repeat(E'\\x01', 30000) WHERE name IN (%s, %s)", (names[0], names[100]))
    told, sizes, cursor = [], [], ""
    while cursor is not None:
        answer = apart.ask(f"/v1/diff?a={ueid('acme', 0)}&b={ueid('acme', 1)}" + (f"&cursor={cursor}" if cursor else ""), headers={"Accept-Encoding": "identity"})
        told, cursor = told + [i["name"] for i in answer.json()["items"]], answer.json()["next"]
        sizes.append((len(answer.content), len(answer.json()["items"])))
    assert told == sorted(names) and len(sizes) > 5
    assert all(size < 65536 + 1500 or n == 1 for size, n in sizes) and [n for size, n in sizes if size > 300000] == [1, 1]


def test_what_is_no_question_is_refused(api):
    for query in "version=1", "version=vers:deb/*", "type=deb", "type=", "name=openssl&version=vers:deb/", "name=x&version=vers:pip/1", \
            "name=x&version=vers:deb/%3C1|%3C2", "limit=0":
        api.problem(400, "bad-parameter", "/v1/components?" + query)
    assert "character 12" in api.problem(400, "bad-parameter", "/v1/devices?component=x&component_version=vers:deb/1||2").json()["detail"]
    api.problem(400, "bad-parameter", "/v1/devices?component_version=vers:deb/*")
    for sign in "%3C", "%3E", "%3D", "!", "*":
        assert api.problem(400, "bad-parameter", f"/v1/devices?component=openssl&component_version={sign}3").json()["position"] == 1
        assert "vers:deb/" in api.problem(400, "bad-parameter", f"/v1/components?name=openssl&version={sign}3").json()["detail"]
    api.problem(400, "unknown-parameter", "/v1/components?nam=openssl")
    for path in "0", "-1", "1x", "01", "99999999999999999999", "9" * 18:
        api.problem(404, "not-found", f"/v1/components/{path}")
        api.problem(404, "not-found", f"/v1/components/{path}/devices")


def test_another_tenants_components_are_not_there(api):
    theirs = api.pages("/v1/components", "globex")
    mine = {c["id"] for c in api.pages("/v1/components")}
    assert theirs and not mine & {c["id"] for c in theirs}
    for c in theirs:
        api.problem(404, "not-found", f"/v1/components/{c['id']}")
        api.problem(404, "not-found", f"/v1/components/{c['id']}/devices")
    # A cursor of another list, of the same list with another filter, and of another tenant.
    cursor = api.get("/v1/components?name=openssl&limit=1")["next"]
    api.problem(400, "bad-cursor", f"/v1/components?name=busybox&limit=1&cursor={cursor}")
    api.problem(400, "bad-cursor", f"/v1/components?name=openssl&limit=1&cursor={cursor}", "globex")
