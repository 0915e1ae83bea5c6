"""Searches for a text in a fleet whose devices lie in many blocks, few in some and many in others. What should be found is computed here, from all devices."""

import collections
import contextlib
import itertools
import random

import psycopg2
import pytest

from test_api import Api

BLOCK, FIELD = 1 << 10, 1 << 18
NEAR, FEW = 64, 5000  # as search_blocks has them
FIELDS = 2  # in which these devices are
# The text is rare in the first eight blocks and in the last nine, and common between, where two hundred blocks are empty too; the last has it in none. Each begins with
# devices that have it not, for whoever looks at a few. Another tenant's lie among them, and some are deleted.
SEED = f"""
WITH b AS (SELECT b, (100 + b + CASE WHEN b >= 20 THEN 200 ELSE 0 END) * {BLOCK} AS start FROM generate_series(0, 40) b)
INSERT INTO device (device_id, tenant_id, ueid, serial, lifecycle) OVERRIDING SYSTEM VALUE
SELECT b.start + CASE WHEN i < 5 THEN i ELSE 3 * i END, t.tenant_id, decode('01' || md5(b || ':' || i), 'hex'), CASE WHEN i < 5 THEN 'plain' ELSE 'Walked-' || i END, 'active'
	FROM tenant t, b, generate_series(0, CASE WHEN b = 40 THEN 4 WHEN b BETWEEN 8 AND 31 THEN 310 ELSE 7 END) i WHERE t.id = 'sparse'
UNION ALL SELECT b.start + 6, t.tenant_id, decode('01' || md5('x' || b), 'hex'), 'Walked-' || b, 'active' FROM tenant t, b WHERE t.id = 'globex';
UPDATE device SET lifecycle = 'deleted', deleted_at = now() WHERE device_id %% 50 = 3 AND serial <> 'plain';
ANALYZE device, device_words;
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    api = Api(tmp_path_factory.mktemp("search"), devices=1, told=False)
    api.db.cli("tenant", "add", "sparse", "Sparse")
    api.tokens["sparse"] = api.db.cli("token", "add", "--tenant", "sparse", "--role", "viewer", "test")
    api.db.sql(SEED, ())
    yield api
    api.close()


@pytest.fixture(scope="module")
def devices(api):
    """(id, ueid, serial), in the order of enrolment."""
    return api.db.sql("SELECT device_id, encode(ueid, 'hex'), lower(serial) FROM device JOIN tenant t USING (tenant_id) WHERE t.id = 'sparse' AND deleted_at IS NULL ORDER BY 1")


@pytest.fixture
def cursor(api):
    """Of a transaction in which that tenant is signed in, and of which nothing stays."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db:
        c = db.cursor()
        c.execute("SET LOCAL search_path = fleetstate; SET LOCAL plan_cache_mode = force_generic_plan; SELECT set_context(tenant_id, 'viewer', 'x') FROM tenant WHERE id = 'sparse'")
        yield c
        db.rollback()


def with_patience(definition, patience):
    assert definition.count("'50 ms'") == 1
    return definition.replace("'50 ms'", f"'{patience}'")


def ahead(devices, q, falling, place):
    """What has the text behind the place."""
    found = [x for x, _, serial in devices if q in serial and (x < place if falling else x > place)]
    return found[::-1] if falling else found


def page(cursor, q, falling, place, most):
    """Of what is told in no order the first most + 1. None: it is not told so cheaply."""
    cursor.execute("SELECT device_search(%s, %s, %s, %s)", (q, falling, place, most))
    [(told,)] = cursor.fetchall()
    return told and sorted(told, reverse=falling)[:most + 1]


def told_and_looks(cursor, *arguments):
    """What search_blocks tells, and how many looks in blocks and in fields that takes."""
    looks = "SELECT pg_stat_get_xact_numscans('device_words_blocks'::regclass), pg_stat_get_xact_numscans('device_words_fours'::regclass)"
    cursor.execute(looks)
    [before] = cursor.fetchall()
    cursor.execute("SELECT search_blocks(tenant_context(), %s, %s, %s, %s, %s, '1 hour')", arguments)
    [(told,)] = cursor.fetchall()
    cursor.execute(looks)
    [now] = cursor.fetchall()
    return sorted(told, reverse=arguments[2]), now[0] - before[0], now[1] - before[1]


@pytest.mark.parametrize("falling", [False, True])
def test_what_few_have_near_and_many_further_on(devices, cursor, falling):
    """And the other way round: from either end and any place on, whatever a page takes, from one device to all there are."""
    ways, ids = collections.Counter(), [x for x, _, _ in devices]
    middle = ids[len(ids) // 2]
    places = [ids[-1] + 1 if falling else 0, ids[0], ids[-1], ids[30], ids[31], ids[-31], (ids[0] // BLOCK + 12) * BLOCK + 1000, (ids[-1] // BLOCK - 12) * BLOCK + 1000, (ids[0] // BLOCK + 30) * BLOCK, middle]
    for q, place in itertools.product(("walked-", "walked-6", "lked-30", "walked-311"), places):
        want = ahead(devices, q, falling, place)
        rest = len(want) - len([x for x in want if abs(x // BLOCK - want[0] // BLOCK) < NEAR])
        for most in sorted({1, 24, 100, 1000, FEW, max(rest - 1, 1), max(rest, 1), 20000}):
            cursor.execute("SELECT search_parts('', %s)", (q,))
            told, blocks, fields = told_and_looks(cursor, q, cursor.fetchone()[0], falling, place, most)
            assert told[:most + 1] == want[:most + 1] and set(told) <= set(want) and (len(told) > most or len(told) == len(want)), (q, place, most)
            assert fields <= FIELDS and (blocks > 0 or not want), (q, place, most)
            ways["near" if fields == 0 else "few" if len(want) <= max(FEW, most) else "many"] += 1
    assert min(ways["near"], ways["few"], ways["many"]) > 10, ways


FEW_BLOCKS = 4 * NEAR  # of some ten thousand


@pytest.mark.parametrize("falling", [False, True])
def test_what_few_have_in_many_fields(cursor, falling):
    """One after the other, and together what it takes by what was found so far: each once, from both ends of each and from any place on, however small the page is."""
    cursor.execute("ALTER TABLE device_words DROP CONSTRAINT device_words_device_id_fkey")
    ids = sorted(field * FIELD + i for field in (10, 11, 12, 15, 16, 17, 18, 40) for i in (0, 7, FIELD - 1))
    cursor.execute("INSERT INTO device_words SELECT i, tenant_context(), 'seldom-' || i FROM unnest(%s::int8[]) i UNION ALL SELECT i + 2, 0, 'seldom' FROM unnest(%s::int8[]) i"
                   " UNION ALL SELECT 12 * %s::int8 + 100 + i, tenant_context(), 'sel eldom' FROM generate_series(1, 20) i", (ids, ids, FIELD))
    for place, most in itertools.product((9 * FIELD, *ids, 11 * FIELD + 999, 41 * FIELD), (1, 2, 4, 8, 23, 50, 100)):
        want = [x for x in ids if (x < place if falling else x > place)]
        want.sort(reverse=falling)
        told, blocks, fields = told_and_looks(cursor, "seldom", ["ldom", "seld"], falling, place, most)
        assert told[:most + 1] == want[:most + 1] and len(told) == len(set(told)) and (len(told) > most or told == want), (place, most)
        far = len(want) <= most and abs((ids[0] if falling else ids[-1]) - place) > FIELD or len(want) > most and abs(want[most] - place) > FIELD
        assert blocks <= FEW_BLOCKS and (0 < fields <= 41 or not far), (place, most, blocks, fields)


@pytest.mark.parametrize("falling", [False, True])
def test_almost_a_page_and_then_nothing(cursor, falling):
    """What was found so far says that the next block has the rest, again and again."""
    cursor.execute("ALTER TABLE device_words DROP CONSTRAINT device_words_device_id_fkey")
    cursor.execute("INSERT INTO device_words SELECT 20 * %s::int8 + i, tenant_context(), 'batch-' || i FROM generate_series(1, 100) i UNION ALL SELECT i * %s::int8, tenant_context(), 'other'"
                   " FROM generate_series(2, 40) i", (FIELD, FIELD))
    want = [20 * FIELD + i for i in range(1, 101)]
    want.sort(reverse=falling)
    place = 20 * FIELD + 101 if falling else 20 * FIELD
    for found, most in (100, 100), (97, 100), (50, 50), (50, 60), (60, 60), (1, 1), (0, 7):
        behind = want[-found - 1] if found < 100 else place
        told, blocks, fields = told_and_looks(cursor, "batch-", ["tch-", "batc"], falling, behind, most)
        assert told == want[len(want) - found:] and blocks <= FEW_BLOCKS and 0 < fields <= 41, (found, most, blocks, fields)


@pytest.mark.parametrize("falling", [False, True])
def test_parts_that_few_of_each_field_have_but_many_together(cursor, falling):
    """Not so many fields are looked at together that all blocks have to be after that."""
    cursor.execute("ALTER TABLE device_words DROP CONSTRAINT device_words_device_id_fkey")
    cursor.execute("INSERT INTO device_words SELECT (1 + i / 200) * %s::int8 + i, tenant_context(), CASE WHEN i IN (3, 7600) THEN 'rarely' ELSE 'arely rare' END"
                   " FROM generate_series(0, 7999) i", (FIELD,))
    want = [FIELD + 3, 39 * FIELD + 7600]
    want.sort(reverse=falling)
    for most in 1, 50, 100:
        told, blocks, fields = told_and_looks(cursor, "rarely", ["rely", "rare"], falling, 42 * FIELD if falling else FIELD - 1, most)
        assert told == want and blocks <= FEW_BLOCKS and fields <= 43, (most, blocks, fields)


@pytest.mark.parametrize("falling", [False, True])
def test_from_any_place(devices, cursor, falling):
    """What the devices next to a place have decides how it is gone on, not what is found: many here and few further on, none here and all there, short texts, too."""
    draw, unknown = random.Random(8259), collections.Counter()
    for _ in range(400):
        device, ueid, serial = draw.choice(devices)
        q = draw.choice(("walked-", "plain", "alk", "w", "-3", "n", "nowhere", serial, ueid, ueid[draw.randrange(30):][:draw.randrange(1, 6)]))
        place, most = device + draw.randrange(-1, 2), draw.choice((1, 5, 100, 1000))
        want = [x for x, name, serial in devices if (q in serial or q in name) and (x < place if falling else x > place)]
        want = want[::-1][:most + 1] if falling else want[:most + 1]
        told = page(cursor, q.upper(), falling, place, most)
        unknown[told is None] += 1
        assert told in (want, None), (q, place, most)
    assert unknown[True] < 40, unknown


@pytest.mark.parametrize("falling", [False, True])
def test_more_than_a_block_has_are_enough(devices, cursor, falling):
    """Of blocks that are looked through together no more is read than it takes, and what comes first is whole all the same."""
    first, crowded = devices[-1][0] // BLOCK + 10, 900
    cursor.execute("ALTER TABLE device_words DROP CONSTRAINT device_words_device_id_fkey")
    cursor.execute(f"INSERT INTO device_words SELECT (%s + b) * {BLOCK}::int8 + i, tenant_context(), 'crowded' FROM generate_series(0, 8) b,"
                   " generate_series(1, CASE WHEN b IN (0, 8) THEN 1 ELSE %s END) i", (first, crowded))
    want = [(first + b) * BLOCK + i for b in range(9) for i in range(1, 2 if b in (0, 8) else crowded + 1)]
    want.sort(reverse=falling)
    cursor.execute("SELECT search_blocks(tenant_context(), 'crowded', '{wded,crow}', %s, %s, 100, '1 hour')", (falling, (first + 9) * BLOCK - 1 if falling else first * BLOCK))
    [(told,)] = cursor.fetchall()
    assert len(told) == 1 + 100 + BLOCK + 1 < len(want) and sorted(told, reverse=falling)[:101] == want[:101] and set(told) < set(want)


def test_patience_has_an_end(devices, cursor):
    """Then it is not known. Never is a part of it told."""
    cursor.execute("SELECT pg_get_functiondef('search_near'::regproc)")
    [(definition,)] = cursor.fetchall()
    unknown = 0
    for falling, place in (False, 0), (True, devices[-1][0] + 1), (False, devices[40][0]), (True, devices[-40][0]):
        want = ahead(devices, "walked-", falling, place)
        for patience in "-1 s", "0", "100 us", "1 ms", "4 ms", "1 hour":
            cursor.execute("SELECT search_blocks(tenant_context(), 'walked-', '{ked-,walk}', %s, %s, 7000, %s)", (falling, place, patience))
            [(told,)] = cursor.fetchall()
            assert told is None and patience != "1 hour" or patience != "-1 s" and sorted(told, reverse=falling) == want, (falling, place, patience)
        for patience, q in itertools.product(("-1 s", "1 hour"), ("walked-", "walked-6", "nowhere")):
            cursor.execute(with_patience(definition, patience))
            told = page(cursor, q, falling, place, 1000)
            unknown += told is None
            assert told == ahead(devices, q, falling, place)[:1001] or patience == "-1 s" and told is None, (q, falling, place, patience)
    assert unknown > 3  # what few have, where many are ahead


CLOCK = """
CREATE SEQUENCE ticks;
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT now() + nextval('ticks') * interval '1 ms' $$;
SET LOCAL search_path = fleetstate, pg_catalog;
"""


@pytest.mark.parametrize("falling", [False, True])
def test_patience_may_end_between_two_blocks(devices, cursor, falling):
    """Also of those that are looked through together: no more are then, and what is short is not told. Here each look at the clock takes a millisecond."""
    cursor.execute(CLOCK)
    ends = collections.Counter()
    for place, most in itertools.product((devices[-1][0] + 1 if falling else 0, devices[40][0], devices[-40][0]), (1, 30, 100, 7000)):
        want = ahead(devices, "walked-", falling, place)
        for patience in range(0, 120, 4):
            cursor.execute("SELECT pg_stat_get_xact_numscans('device_words_blocks'::regclass)")
            [(before,)] = cursor.fetchall()
            cursor.execute("SELECT search_blocks(tenant_context(), 'walked-', '{ked}', %s, %s, %s, %s)", (falling, place, most, f"{patience} ms"))
            [(told,)] = cursor.fetchall()
            cursor.execute("SELECT pg_stat_get_xact_numscans('device_words_blocks'::regclass)")
            assert cursor.fetchone()[0] - before <= patience
            if told is not None:
                told.sort(reverse=falling)
                assert told[:most + 1] == want[:most + 1] and set(told) <= set(want) and (len(told) > most or len(told) == len(want)), (place, most, patience)
            ends["unknown" if told is None else "enough" if len(told) > most else "all"] += 1
    assert len(ends) == 3 and min(ends.values()) > 10, ends


@pytest.mark.parametrize("falling", [False, True])
def test_parts_that_many_have_of_a_text_that_few_have(devices, cursor, falling):
    """No more devices are looked at together than may be told, and those that have it are found from block to block."""
    far, crowd = devices[-1][0] // BLOCK + 60, FEW + 1000
    cursor.execute("ALTER TABLE device_words DROP CONSTRAINT device_words_device_id_fkey")
    cursor.execute(f"INSERT INTO device_words SELECT (%s + CASE WHEN i = 0 THEN -30 WHEN i = 1 THEN 30 ELSE 0 END) * {BLOCK}::int8 + i, tenant_context(),"
                   " CASE WHEN i IN (0, 1, %s) THEN 'firmly' ELSE 'firm irmly' END FROM generate_series(0, %s) i", (far, crowd, crowd))
    want = [(far - 30) * BLOCK, far * BLOCK + crowd, (far + 30) * BLOCK + 1]
    want.sort(reverse=falling)
    place = (far + 31 if falling else far - 31) * BLOCK
    cursor.execute("SELECT search_blocks(tenant_context(), 'firmly', '{rmly,firm}', %s, %s, 100, '1 hour')", (falling, place))
    assert cursor.fetchall() == [(want,)]
    cursor.execute(CLOCK)
    cursor.execute("SELECT pg_stat_get_xact_tuples_fetched('device_words'::regclass)")
    [(before,)] = cursor.fetchall()
    cursor.execute("SELECT search_blocks(tenant_context(), 'firmly', '{rmly,firm}', %s, %s, 100, '20 ms')", (falling, place))
    assert cursor.fetchall() == [(None,)]
    cursor.execute("SELECT pg_stat_get_xact_tuples_fetched('device_words'::regclass)")
    assert FEW < cursor.fetchone()[0] - before <= FEW + 10


def test_what_the_first_have_in_common(devices, cursor):
    """A list in another order has those that match by index also when the first devices of all, which are looked at to choose what to ask it for, have what no other has."""
    cursor.execute("INSERT INTO device (device_id, tenant_id, ueid, serial, hwmodel, lifecycle) OVERRIDING SYSTEM VALUE"
                   " SELECT 1000 + i, tenant_context(), decode('01' || md5('p' || i), 'hex'), 'pilot-' || i, 'first of all', 'active' FROM generate_series(1, 100) i")
    for q, want in ("pilot-", range(1, 101)), ("OF ALL", range(1, 101)), ("lot-7\nfirst", [7]), ("ilo", range(1, 101)), ("pilot-101", []), ("pilot-7x", []):
        cursor.execute("SELECT ids FROM list_filters(tenant_context(), json_build_object('q', %s)::jsonb, NULL, NULL)", (q,))
        [(ids,)] = cursor.fetchall()
        cursor.execute(ids)
        assert sorted(x for x, in cursor.fetchall()) == [1000 + i for i in want], q
    cursor.execute("SELECT ids FROM list_filters(tenant_context(), '{\"q\": \"pi\"}', NULL, NULL)")
    assert cursor.fetchall() == [(None,)]  # too short for an index


@pytest.mark.parametrize("patience", ["1 hour", "-1 s"])
@pytest.mark.parametrize("sort", ["enrolled", "-enrolled"])
def test_a_list_is_whole_by_either_way(api, devices, patience, sort):
    """What a search has not told in time is told by going through the list, and from there on by a search again. So is what another filter goes with."""
    near, filters = [api.db.one("SELECT pg_get_functiondef(%s::regproc)", (name,)) for name in ("search_near", "list_filters")]
    assert filters.count("''1 s''") == 1
    for definition in with_patience(near, patience), filters.replace("''1 s''", f"''{patience}''"):
        api.db.sql(definition, None)
    try:
        for q, limit in ("walked-", 1000), ("walked-6", 100), ("lked-30", 60), ("nowhere", 100):
            want = [ueid for _, ueid, serial in devices if q in serial]
            assert [d["ueid"] for d in api.pages(f"/v1/devices?q={q}&limit={limit}&sort={sort}", "sparse")] == (want[::-1] if sort[0] == "-" else want), (q, limit)
        for more in f"lifecycle=active&sort={sort}", "sort=last_seen":
            told = [d["ueid"] for d in api.pages(f"/v1/devices?q=lked-30&limit=1000&{more}", "sparse")]
            assert sorted(told) == sorted(ueid for _, ueid, serial in devices if "lked-30" in serial), more
    finally:
        for definition in near, filters:
            api.db.sql(definition, None)
