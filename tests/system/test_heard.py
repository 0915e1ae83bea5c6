"""The order in which devices were last heard, where they are too many to be put in it as they are asked for: as of a fleet that is larger, though it is small."""

import contextlib
import csv
import io
import json
import random

import psycopg2
import pytest

from test_api import SEED as ENROLLED
from test_api import Api, ueid
from test_lists import FILTERS, SEED, hear, ordered, read_while_some_are_heard, whole

DEVICES, FEW = 400, 10  # as many as are put in order at once: 20,000 otherwise
WAYS = "last_seen", "-last_seen"


def make(db):
    """As if a minute were over. Returns of how many devices."""
    return db.sql("DELETE FROM heard_made; SELECT order_heard()")[0][0]


def few(db, n):
    """So many are put in order as they are asked for."""
    db.sql(f"CREATE OR REPLACE FUNCTION heard_few() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT {n}'")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(tmp_path_factory.mktemp("heard"), DEVICES, told=False)
    api.db.sql(SEED, {})
    # Half of those that were never heard were only registered.
    api.db.sql("DELETE FROM device_hot WHERE last_seen IS NULL AND device_id %% 12 = 0", ())
    api.db.cli("tenant", "add", "small", "Small")
    api.tokens["small"] = api.db.cli("token", "add", "--tenant", "small", "--role", "viewer", "test")
    api.db.sql(ENROLLED, ([ueid("small", i) for i in range(FEW)], "small"))
    yield api
    api.close()


@pytest.fixture
def made(api):
    few(api.db, FEW)
    make(api.db)
    return whole(api)


@pytest.mark.parametrize("sort", WAYS)
@pytest.mark.parametrize("limit", [1, 7, 49, 50, 51, 97, 399, 400, 1000])
def test_it_is_whole(api, made, sort, limit):
    assert api.pages(f"/v1/devices?sort={sort}&limit={limit}") == ordered(made, sort)


@pytest.mark.parametrize("query, keep", FILTERS, ids=[q for q, _ in FILTERS])
def test_filters(api, made, query, keep):
    numbers = dict(api.db.sql("SELECT encode(ueid, 'hex'), device_id FROM device"))
    for sort in WAYS:
        expected = ordered([d for d in made if keep(d, numbers[d["ueid"]])], sort)
        for limit in max(1, len(expected) // 3), 1000:
            assert api.pages(f"/v1/devices?{query}&sort={sort}&limit={limit}") == expected, (sort, limit)


@pytest.mark.parametrize("sort", WAYS)
def test_exports(api, made, sort):
    expected = ordered(made, sort)
    assert whole(api, query=f"sort={sort}") == expected
    rows = csv.DictReader(io.StringIO(api.ask(f"/v1/devices?format=csv&sort={sort}").text, newline=""))
    assert [r["ueid"] for r in rows] == [d["ueid"] for d in expected]


def test_it_says_by_when(api, made):
    """Who was heard since is where he was, and shows when."""
    last = max(d["last_seen"] for d in made if d["last_seen"])
    for sort in WAYS:
        assert api.get(f"/v1/devices?sort={sort}&limit=3")["ordered_at"] == last
        assert api.get(f"/v1/devices?sort={sort}&limit=3&model=model-1")["ordered_at"] == last
    before = api.pages("/v1/devices?sort=-last_seen&limit=100")
    chosen = before[-1]["ueid"]
    hear(api, [chosen])
    page = api.get("/v1/devices?sort=-last_seen&limit=1000")
    assert [d["ueid"] for d in page["items"]] == [d["ueid"] for d in before] and page["ordered_at"] == last
    assert page["items"][-1]["last_seen"] > last
    make(api.db)
    page = api.get("/v1/devices?sort=-last_seen&limit=1000")
    assert page["items"][0]["ueid"] == chosen and page["ordered_at"] == page["items"][0]["last_seen"] > last
    assert "ordered_at" not in api.get("/v1/devices?sort=first_seen") and "ordered_at" not in api.get("/v1/devices")


@pytest.mark.parametrize("sort", WAYS)
@pytest.mark.parametrize("query", ["", "&lifecycle=active,pending"])
def test_it_is_made_anew_while_it_is_read(api, made, sort, query):
    read_while_some_are_heard(api, sort, query, lambda: make(api.db))


@pytest.mark.parametrize("sort", WAYS)
def test_a_list_goes_on_when_the_fleet_has_become_small(api, made, sort):
    """And when it has become large."""
    expected = [d["ueid"] for d in ordered(made, sort)]
    first = api.get(f"/v1/devices?sort={sort}&limit=100")
    few(api.db, DEVICES)
    make(api.db)
    second = api.get(f"/v1/devices?sort={sort}&limit=100&cursor={first['next']}")
    few(api.db, FEW)
    make(api.db)
    rest = api.pages(f"/v1/devices?sort={sort}&limit=100", after=second["next"])
    assert [d["ueid"] for d in first["items"] + second["items"] + rest] == expected


@pytest.mark.parametrize("sort", WAYS)
def test_what_is_deleted_since_is_passed_over(api, made, sort):
    order = ordered(made, sort)
    gone = {d["ueid"] for d in order[:60] + order[200:310:2] + order[-3:]}
    change = "UPDATE device SET deleted_at = {} WHERE encode(ueid, 'hex') = ANY (%s)"
    api.db.sql("ALTER TABLE device DISABLE TRIGGER USER; " + change.format("now()"), (list(gone),))
    try:
        for limit in 50, 100, 1000:
            assert api.pages(f"/v1/devices?sort={sort}&limit={limit}") == [d for d in order if d["ueid"] not in gone]
            assert api.pages(f"/v1/devices?sort={sort}&limit={limit}&lifecycle=active,retired,pending") == [d for d in order if d["ueid"] not in gone]
    finally:
        api.db.sql(change.format("NULL") + "; ALTER TABLE device ENABLE TRIGGER USER", (list(gone),))


def test_what_is_deleted_stands_in_no_order(api, made):
    """It was never heard, as it were, and there may be more such than others: who wants the first page would wait until all are passed over."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        cursor = db.cursor()
        cursor.execute("UPDATE device SET lifecycle = (ARRAY['deleted', 'transferred'])[1 + device_id % 2], deleted_at = now()"
                       " WHERE device_id % 3 = 0 AND tenant_id IN (SELECT tenant_id FROM tenant WHERE id IN ('acme', 'globex'))")
        gone = cursor.rowcount
        assert gone > DEVICES / 2
        cursor.execute("DELETE FROM heard_made; SELECT order_heard()")
        assert cursor.fetchone() == (2 * DEVICES - gone,)
        db.rollback()


def test_who_was_registered_and_sent_nothing(api, made):
    """Stands nowhere in its reports, and in the order before who did; of a tenant of such alone it is made too, and no more often than of others."""
    api.db.cli("tenant", "add", "unheard", "Unheard")
    api.tokens["unheard"] = api.db.cli("token", "add", "--tenant", "unheard", "--role", "viewer", "test")
    new = [ueid("unheard", i) for i in range(FEW + 2)]
    api.db.sql("INSERT INTO device (tenant_id, ueid, lifecycle) SELECT t.tenant_id, decode(u, 'hex'), 'active' FROM unnest(%s) WITH ORDINALITY x (u, n), tenant t"
               " WHERE t.id = CASE WHEN n = 1 THEN 'acme' ELSE 'unheard' END", (new,))
    try:
        assert make(api.db) == 2 * DEVICES + len(new) and api.db.one("SELECT order_heard()") == 0
        for sort in WAYS:
            for tenant, limit in ("acme", 50), ("unheard", 4):
                assert api.pages(f"/v1/devices?sort={sort}&limit={limit}", tenant) == ordered(whole(api, tenant), sort)
        assert "ordered_at" not in api.get("/v1/devices?sort=last_seen", "unheard")
    finally:
        api.db.sql("DELETE FROM device WHERE encode(ueid, 'hex') = ANY (%s)", (new,))
        make(api.db)


@pytest.mark.parametrize("sort", WAYS)
def test_a_list_that_has_grown_waits_for_an_order_that_is_newer(api, made, sort):
    """Who was heard after the order was made, and before the list's first page, stands there where he was: he would come once more, or not at all."""
    chosen = random.sample([d["ueid"] for d in made if d["last_seen"]], 2 * FEW)
    models = {d["ueid"]: d["hwmodel"] for d in made}
    change = "UPDATE device SET hwmodel = %s WHERE ueid = decode(%s, 'hex');"
    try:
        for device in chosen[:FEW]:
            api.db.sql(change, ("growing", device))
        hear(api, chosen[:FEW // 2])
        path = f"/v1/devices?model=growing&sort={sort}&limit={FEW // 2 + 1}"
        first = api.get(path)
        for device in chosen[FEW:]:
            api.db.sql(change, ("growing", device))
        api.problem(503, "not-yet", f"{path}&cursor={first['next']}")
        make(api.db)
        told = [d["ueid"] for d in first["items"] + api.pages(path, after=first["next"])]
        assert len(told) == len(set(told)) and set(chosen[:FEW]) <= set(told) <= set(chosen)
    finally:
        for device in chosen:
            api.db.sql(change, (models[device], device))


def test_each_tenant_has_its_own(api, made):
    """One that has few is told as it is."""
    for tenant in "acme", "globex", "small":
        [(n, mixed)] = api.db.sql("SELECT count(*), count(*) FILTER (WHERE d.tenant_id <> o.tenant_id) FROM heard_order o, unnest(o.devices) i (id) JOIN device d ON d.device_id = i.id"
                                  " WHERE o.tenant_id = (SELECT tenant_id FROM tenant WHERE id = %s)", (tenant,))
        assert (n, mixed) == ((0, 0) if tenant == "small" else (DEVICES, 0))
    others = api.pages("/v1/devices?sort=-last_seen&limit=4", "small")
    assert len(others) == FEW and others == ordered(whole(api, "small"), "-last_seen")
    cursor = api.get("/v1/devices?sort=last_seen&limit=10")["next"]
    api.problem(400, "bad-cursor", f"/v1/devices?sort=last_seen&limit=10&cursor={cursor}", "globex")


def test_how_many_are_few(api):
    """One more, and the order is made; until then it is told as it is."""
    for most, n in (DEVICES, 0), (DEVICES - 1, 2 * DEVICES):
        few(api.db, most)
        assert make(api.db) == n
        order = ordered(whole(api), "-last_seen")
        hear(api, [order[-1]["ueid"]])
        [first] = api.get("/v1/devices?sort=-last_seen&limit=1")["items"]
        assert (first["ueid"] == order[-1]["ueid"]) == (n == 0)


@pytest.mark.parametrize("statement", ["SELECT * FROM heard_order", "SELECT * FROM heard_made", "SELECT order_heard()", "SELECT heard_until(1, NULL)", "DELETE FROM heard_order"])
def test_the_interface_reads_it_only_a_page_at_a_time(api, made, statement):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        api.db.sql(statement, role="fleetstate_api")
    assert api.db.sql("SELECT * FROM heard_page(false, NULL, NULL, NULL, 5)", role="fleetstate_api") == []  # nobody has signed in


def test_there_is_none_yet(api, made):
    """Whoever asks is told to ask again, or to narrow the list; then it is made at once."""
    api.db.sql("DELETE FROM heard_order")
    for sort in WAYS:
        answer = api.problem(503, "not-yet", f"/v1/devices?sort={sort}")
        assert int(answer.headers["Retry-After"]) > 0 and "Narrow" in answer.json()["detail"]
        api.problem(503, "not-yet", f"/v1/devices?sort={sort}&lifecycle=active,pending")
        rare = [d for d in made if d["serial"] == made[0]["serial"]]
        if len(rare) <= FEW and made[0]["serial"]:
            assert api.get(f"/v1/devices?sort={sort}&q={made[0]['serial']}")["items"]
        assert api.ask(f"/v1/devices?sort={sort}&as_of=2026-01-01T00:00:00Z").status_code == 400
    assert api.db.one("SELECT order_heard()") == 2 * DEVICES
    assert len(api.get("/v1/devices?sort=last_seen&limit=1000")["items"]) == DEVICES


def test_a_crash_of_the_database_loses_it_and_no_more(api, made):
    """It is not written to the log; what says that it is there is not either."""
    assert api.db.sql("SELECT relname, relpersistence FROM pg_class WHERE relname IN ('heard_made', 'heard_order') ORDER BY 1") == [("heard_made", "u"), ("heard_order", "u")]


def test_it_is_made_no_more_often_than_it_costs(api, made):
    def due(at, took):
        api.db.sql(f"UPDATE heard_made SET at = clock_timestamp() - interval '{at}', took = interval '{took}'")
        return api.db.one("SELECT order_heard()") > 0

    assert not due("55 s", "0 s") and due("65 s", "0 s")
    assert not due("65 s", "2 s") and not due("95 s", "2 s") and due("105 s", "2 s")
    assert due("-1 h", "0 s")  # the clock was put back
    # As long as somebody else is at it, nobody waits.
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as other:
        other.cursor().execute("SELECT pg_advisory_xact_lock(8259, 45)")
        assert not due("10 min", "0 s")
    assert due("10 min", "0 s")
    # Whoever has none has it at once, and who has become small has none any more.
    few(api.db, FEW - 1)
    assert api.db.one("SELECT order_heard()") == 2 * DEVICES + FEW
    few(api.db, FEW)
    assert make(api.db) == 2 * DEVICES


@pytest.mark.parametrize("sort", WAYS)
def test_a_page_costs_the_same_everywhere(api, made, sort):
    """Of the order's pieces no more than some are read, and of the devices no more than the page has."""
    reads = "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int FROM pg_stat_xact_user_tables WHERE relname IN ('heard_order', 'device')"
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        cursor = db.cursor()
        cursor.execute("SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant WHERE id = 'acme'")
        cursor.execute("SELECT device_id, coalesce(last_seen, '-infinity')::text FROM device_hot JOIN device USING (device_id, tenant_id) WHERE tenant_id = tenant_context()"
                       " ORDER BY coalesce(last_seen, '-infinity'), device_id OFFSET 200 LIMIT 1")
        place = cursor.fetchone()
        for device, at in (None, None), place:
            for page, order, most in ("heard_page(%s, %s, %s, NULL, 20)", sort[0] == "-", 20 + 6), ("device_list('{}', %s, 20, %s, %s, NULL) WHERE shown", sort, 2 * 21 + 12):
                cursor.execute(reads)
                [(before,)] = cursor.fetchall()
                cursor.execute("SELECT count(*) FROM " + page, (order, at, device))
                assert cursor.fetchone() == (20,)
                cursor.execute(reads)
                assert cursor.fetchone()[0] - before <= most, (page, device, at)
