/*
 * The database's connection, arrays and results; the keyring and the anchors that are read through it. Needs a real PostgreSQL:
 * FLEETSTATE_TEST_DATABASE is the URI of a database of this schema, as its owner. What is written there is rolled back. Skipped without.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>

#include "collector/enrol.h"
#include "collector/keyring.h"
#include "tests/unit/chains.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define NOW INT64_C(1800000000)
#define MANY 3000
#define EPOCH UINT64_C(0xf122334455667788)

static const char *uri;
static struct database *db; /* in a transaction that ends with each test */

static const struct statement statements[] = {
	{"echo",
	 "SELECT * FROM unnest($1::int4[], $2::int8[], $3::bytea[], $4::text[], $5::timestamptz[], $6::bool[], "
	 "$7::jsonb[])"
	 " AS u(a, b, c, d, e, f, g)",
	 7},
	{"text", "SELECT $1::int4 + 1, $2::text, 'infinity'::timestamptz", 2},
	{"count", "SELECT count(*) FROM unnest($1::bytea[])", 1},
};

static int
open_database(void **unused)
{
	(void)unused;
	if (uri == NULL)
		return 0;
	db = database_new(uri, statements, LENGTH(statements));
	return db == NULL ? -1 : database_exec(db, "BEGIN");
}

static int
close_database(void **unused)
{
	(void)unused;
	database_free(db);
	db = NULL;
	return 0;
}

static void
need_database(void)
{
	if (uri == NULL)
		skip();
}

static void
run(const char *sql)
{
	assert_int_equal(database_exec(db, sql), 0);
}

/* The database. */

static void
test_arrays_come_back(void **unused)
{
	struct pg_array arrays[7] = {{0}};
	struct param params[7];
	static const uint8_t bytes[] = {0, 1, 0xff};
	PGresult *res;

	(void)unused;
	need_database();
	for (size_t i = 0; i < LENGTH(arrays); i++) {
		pg_array_begin(&arrays[i], (enum array_type)i);
		/* Once more: it is emptied, and its nulls are forgotten. */
		pg_array_null(&arrays[i]);
		pg_array_begin(&arrays[i], (enum array_type)i);
		pg_array_null(&arrays[i]);
	}
	for (int i = 0; i < 1000; i++) {
		pg_array_int(&arrays[0], INT32_MIN);
		pg_array_int(&arrays[1], INT64_MIN + i);
		pg_array_bytes(&arrays[2], (struct slice){bytes, sizeof bytes});
		pg_array_bytes(&arrays[3], (struct slice){(const uint8_t *)"", 0});
		pg_array_time_us(&arrays[4], NOW * 1000000 + i);
		pg_array_int(&arrays[5], i % 2);
		pg_array_bytes(&arrays[6], (struct slice){(const uint8_t *)"{\"a\": 1}", 8});
	}
	for (size_t i = 0; i < LENGTH(arrays); i++)
		params[i] = pg_array_param(&arrays[i]);
	res = database_run(db, "echo", params, 7, NULL);
	assert_non_null(res);
	assert_int_equal(PQntuples(res), 1001);
	for (int i = 0; i < 7; i++)
		assert_true(result_null(res, 0, i));
	assert_int_equal(result_int(res, 0, 0), 0);
	assert_null(result_bytes(res, 0, 2).at);
	assert_false(result_bool(res, 0, 5));
	assert_int_equal(result_time_us(res, 0, 4), 0);
	for (int i = 1; i <= 1000; i++) {
		assert_int_equal(result_int(res, i, 0), INT32_MIN);
		assert_int_equal(result_int(res, i, 1), INT64_MIN + i - 1);
		assert_int_equal(result_bytes(res, i, 2).len, sizeof bytes);
		assert_memory_equal(result_bytes(res, i, 2).at, bytes, sizeof bytes);
		assert_non_null(result_bytes(res, i, 3).at);
		assert_int_equal(result_bytes(res, i, 3).len, 0);
		assert_int_equal(result_time_us(res, i, 4), NOW * 1000000 + i - 1);
		assert_int_equal(result_bool(res, i, 5), (i - 1) % 2);
	}
	PQclear(res);
	for (size_t i = 0; i < LENGTH(arrays); i++)
		pg_array_free(&arrays[i]);
}

static void
test_empty_and_failed_arrays(void **unused)
{
	struct pg_array a = {0};
	struct param param;
	char state[6];
	PGresult *res;

	(void)unused;
	need_database();
	pg_array_begin(&a, ARRAY_BYTEA);
	param = pg_array_param(&a);
	res = database_run(db, "count", &param, 1, state);
	assert_non_null(res);
	assert_int_equal(result_int(res, 0, 0), 0);
	PQclear(res);
	/* One that could not hold all must not pass for a shorter one. */
	a.failed = true;
	pg_array_bytes(&a, (struct slice){(const uint8_t *)"x", 1});
	param = pg_array_param(&a);
	assert_null(database_run(db, "count", &param, 1, state));
	assert_string_equal(state, "08P01");
	pg_array_free(&a);
}

static void
test_text_parameters_and_errors(void **unused)
{
	struct param params[] = {{"41", 0, false}, {NULL, 0, false}};
	char state[6];
	PGresult *res;

	(void)unused;
	need_database();
	res = database_run(db, "text", params, 2, state);
	assert_non_null(res);
	assert_string_equal(state, "");
	assert_int_equal(result_int(res, 0, 0), 42);
	assert_true(result_null(res, 0, 1));
	assert_int_equal(result_time_us(res, 0, 2), INT64_MAX);
	PQclear(res);
	params[0].at = "2147483647";
	assert_null(database_run(db, "text", params, 2, state));
	assert_string_equal(state, "22003");
	assert_null(database_run(db, "text", params, 2, state));
	assert_string_equal(state, "25P02");
	run("ROLLBACK");
	assert_null(database_run(db, "no such statement", params, 2, state));
	assert_int_equal(database_exec(db, "no SQL"), -1);
}

static void
test_comes_back(void **unused)
{
	struct param params[] = {{"1", 0, false}, {NULL, 0, false}};
	char state[6];
	PGresult *res;

	(void)unused;
	need_database();
	assert_int_equal(database_exec(db, "SELECT pg_terminate_backend(pg_backend_pid())"), -1);
	/* Not before a second has passed. */
	while (database_connect(db) == NULL)
		;
	res = database_run(db, "text", params, 2, state);
	assert_non_null(res);
	PQclear(res);
}

static void
test_nowhere_to_connect(void **unused)
{
	struct database *nowhere = database_new("postgresql:///x?host=/nonexistent", statements, LENGTH(statements));
	struct keyring *k = keyring_new();
	struct ueid ueid = {{1}};

	(void)unused;
	assert_null(database_connect(nowhere));
	assert_int_equal(database_exec(nowhere, "SELECT 1"), -1);
	assert_int_equal(keyring_load(k, nowhere, &ueid, 1), -1);
	assert_null(anchors_load(nowhere));
	keyring_free(k);
	database_free(nowhere);
}

/* The keyring. */

/* d1 has all there is, d2 is registered and nothing more, d3 is another tenant's. */
static const char fleet[] =
	"INSERT INTO tenant (id, name) VALUES ('test-keyring-a', 'a'), ('test-keyring-b', 'b');"
	"INSERT INTO device (tenant_id, ueid, lifecycle)"
	" SELECT (SELECT tenant_id FROM tenant WHERE id = t), decode(u, 'hex'), l FROM (VALUES"
	" ('test-keyring-a', '01a0000000000000000000000000000001', 'active'),"
	" ('test-keyring-a', '01a0000000000000000000000000000002', 'pending'),"
	" ('test-keyring-b', '01a0000000000000000000000000000003', 'revoked')) v(t, u, l);"
	"CREATE TEMP VIEW d1 AS SELECT * FROM device WHERE ueid = '\\x01a0000000000000000000000000000001';"
	"CREATE TEMP VIEW d3 AS SELECT * FROM device WHERE ueid = '\\x01a0000000000000000000000000000003';"
	"INSERT INTO device_key (device_id, kid, tenant_id, spki, chain, not_before, not_after, status)"
	" SELECT device_id, decode(k, 'hex'), tenant_id, decode(s, 'hex'), '{}', to_timestamp(1000), "
	"to_timestamp(2000), t FROM d1, (VALUES"
	" ('1111111111111111', 'aabb', 'active'), ('2222222222222222', 'ccddee', 'revoked')) v(k, s, t);"
	"INSERT INTO device_hot (device_id, tenant_id, rev, epoch, hi, head, sections_head, facts, last_seen, "
	"last_iat, interval_s, gaps)"
	" SELECT device_id, tenant_id, 9, -1071237392777185400, 100, sha256('head'), sha256('sections'),"
	"  substr(sha256(sha256('state') || sha256('inventory')), 1, 16), to_timestamp(1800000000.5), "
	"to_timestamp(1800000001), 300, true FROM d1;"
	"INSERT INTO report_gap (device_id, epoch, missing, tenant_id)"
	" SELECT device_id, e, r::int8range, tenant_id FROM d1, (VALUES"
	" (-1071237392777185400, '[50,60]'), (-1071237392777185400, '[3,3]'), (-1071237392777185400, '[99,99]'),"
	" (7, '[1,80]')) v(e, r);"
	"INSERT INTO device_hot (device_id, tenant_id, epoch, hi, facts) SELECT device_id, tenant_id, 5, 8, "
	"sha256('x') FROM d3;"
	"INSERT INTO report_gap (device_id, epoch, missing, tenant_id) SELECT device_id, 5, '[2,3]', tenant_id FROM d3;"
	"INSERT INTO device_state (device_id, tenant_id, epoch, seq, received_at, issued_at, state_digest, "
	"inventory_digest, state)"
	" SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('state'), sha256('inventory'), '{}'"
	" FROM (SELECT * FROM d1 UNION ALL SELECT * FROM d3) d;"
	"INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256('inventory'), 0 FROM d1";

static struct ueid
ueid_of(uint8_t last)
{
	struct ueid ueid = {{1, 0xa0}};

	ueid.bytes[UEID_SIZE - 1] = last;
	return ueid;
}

static struct keyring *
load_fleet(struct device *devices[3])
{
	const struct ueid ueids[] = {ueid_of(1), ueid_of(2), ueid_of(3), ueid_of(4), ueid_of(1)};
	struct keyring *k = keyring_new();

	run(fleet);
	assert_int_equal(keyring_load(k, db, ueids, LENGTH(ueids)), 0);
	assert_int_equal(keyring_count(k), 3);
	for (size_t i = 0; i < 3; i++) {
		devices[i] = keyring_find(k, &ueids[i]);
		assert_non_null(devices[i]);
	}
	assert_null(keyring_find(k, &ueids[3]));
	return k;
}

static void
assert_digest_of(const uint8_t *digest, const char *text, size_t len)
{
	uint8_t wanted[DIGEST_SIZE];

	sha256((struct slice){(const uint8_t *)text, strlen(text)}, wanted);
	assert_memory_equal(digest, wanted, len);
}

static void
test_device_with_everything(void **unused)
{
	static const struct seq_range gaps[] = {{3, 3}, {50, 60}, {99, 99}};
	struct device *d[3];
	struct keyring *k;
	const struct device_key *key;

	(void)unused;
	need_database();
	k = load_fleet(d);
	assert_int_equal(d[0]->lifecycle, LIFECYCLE_ACTIVE);
	assert_int_equal(d[0]->shard, ueid_shard(&d[0]->ueid));
	assert_int_equal(d[0]->ledger.rev, 9);
	assert_true(d[0]->ledger.started);
	assert_true(d[0]->ledger.epoch == EPOCH);
	assert_int_equal(d[0]->ledger.hi, 100);
	assert_true(d[0]->ledger.has_head && d[0]->ledger.has_sections_head);
	assert_digest_of(d[0]->ledger.head, "head", DIGEST_SIZE);
	assert_digest_of(d[0]->ledger.sections_head, "sections", DIGEST_SIZE);
	assert_true(d[0]->ledger.facts_known);
	assert_true(d[0]->ledger.inventory_known);
	assert_int_equal(d[0]->ledger.last_seen_us, NOW * 1000000 + 500000);
	assert_int_equal(d[0]->ledger.last_iat, NOW + 1);
	assert_int_equal(d[0]->ledger.interval, 300);
	assert_int_equal(d[0]->ledger.missing_len, LENGTH(gaps));
	assert_memory_equal(d[0]->ledger.missing, gaps, sizeof gaps);
	key = device_find_key(d[0], (struct slice){(const uint8_t *)"\x22\x22\x22\x22\x22\x22\x22\x22", KID_SIZE});
	assert_non_null(key);
	assert_int_equal(key->status, KEY_REVOKED);
	assert_int_equal(key->not_before, 1000);
	assert_int_equal(key->not_after, 2000);
	assert_int_equal(key->spki.len, 3);
	assert_memory_equal(key->spki.at, "\xcc\xdd\xee", 3);
	assert_int_equal(
		device_find_key(d[0], (struct slice){(const uint8_t *)"\x11\x11\x11\x11\x11\x11\x11\x11", KID_SIZE})
			->spki.len,
		2);
	assert_null(
		device_find_key(d[0], (struct slice){(const uint8_t *)"\x11\x11\x11\x11\x11\x11\x11\x12", KID_SIZE}));
	assert_null(device_find_key(d[0],
				    (struct slice){(const uint8_t *)"\x11\x11\x11\x11\x11\x11\x11\x11", KID_SIZE - 1}));
	keyring_free(k);
}

static void
test_devices_with_less(void **unused)
{
	struct device *d[3];
	struct keyring *k;

	(void)unused;
	need_database();
	k = load_fleet(d);
	assert_int_equal(d[1]->lifecycle, LIFECYCLE_PENDING);
	assert_int_equal(d[1]->ledger.rev, -1);
	assert_false(d[1]->ledger.started || d[1]->ledger.has_head || d[1]->ledger.facts_known ||
		     d[1]->ledger.inventory_known);
	assert_null(
		device_find_key(d[1], (struct slice){(const uint8_t *)"\x11\x11\x11\x11\x11\x11\x11\x11", KID_SIZE}));
	/* Another tenant's set is not this one's; a facts digest of the wrong length, gaps that the hot row does not speak of. */
	assert_int_equal(d[2]->lifecycle, LIFECYCLE_REVOKED);
	assert_int_not_equal(d[2]->tenant_id, d[0]->tenant_id);
	assert_true(d[2]->ledger.started);
	assert_false(d[2]->ledger.inventory_known);
	assert_false(d[2]->ledger.facts_known);
	assert_false(d[2]->ledger.has_head);
	assert_int_equal(d[2]->ledger.missing_len, 0);
	keyring_free(k);
}

static int
reload(struct keyring *k, struct device **devices, size_t n)
{
	struct ueid ueids[3];

	for (size_t i = 0; i < n; i++)
		ueids[i] = devices[i]->ueid;
	return keyring_reload(k, db, ueids, n);
}

static void
test_reload(void **unused)
{
	const struct slice kid = {(const uint8_t *)"\x11\x11\x11\x11\x11\x11\x11\x11", KID_SIZE};
	const struct device_key *before;
	struct device *d[3];
	struct keyring *k;

	(void)unused;
	need_database();
	k = load_fleet(d);
	before = device_find_key(d[0], kid);
	/* Nothing changed: the keys stay where they are. */
	assert_int_equal(reload(k, d, 3), 0);
	assert_ptr_equal(device_find_key(d[0], kid), before);
	run("UPDATE device_key SET status = 'retired' WHERE device_id = (SELECT device_id FROM d1);"
	    "UPDATE device SET lifecycle = 'retired' WHERE device_id = (SELECT device_id FROM d1);"
	    "UPDATE device_hot SET rev = 10, hi = 101, facts = sha256('facts') WHERE device_id = (SELECT device_id "
	    "FROM d1);"
	    "DELETE FROM report_gap WHERE device_id = (SELECT device_id FROM d1) AND missing = '[3,3]'");
	/* Memory says what it said. */
	assert_int_equal(keyring_load(k, db, &d[0]->ueid, 1), 0);
	assert_int_equal(d[0]->ledger.rev, 9);
	assert_int_equal(reload(k, d, 1), 0);
	assert_ptr_equal(keyring_find(k, &d[0]->ueid), d[0]);
	assert_int_equal(d[0]->lifecycle, LIFECYCLE_RETIRED);
	assert_int_equal(d[0]->ledger.rev, 10);
	assert_int_equal(d[0]->ledger.hi, 101);
	assert_false(d[0]->ledger.facts_known);
	assert_int_equal(d[0]->ledger.missing_len, 2);
	assert_int_equal(device_find_key(d[0], kid)->status, KEY_RETIRED);
	/* A reader may still be in the old ones. */
	assert_int_equal(before->status, KEY_ACTIVE);
	run("DELETE FROM device_key");
	assert_int_equal(reload(k, d, 1), 0);
	assert_null(device_find_key(d[0], kid));
	assert_int_equal(before->status, KEY_ACTIVE);
	keyring_free(k);
}

/* Ranges that overlap, touch or reach beyond hi: what is missing is their union, below hi. */
static void
test_untidy_gaps(void **unused)
{
	static const struct seq_range gaps[] = {{3, 20}, {50, 60}, {90, 99}};
	struct device *d[3];
	struct keyring *k;

	(void)unused;
	need_database();
	k = load_fleet(d);
	run("INSERT INTO report_gap (device_id, epoch, missing, tenant_id)"
	    " SELECT device_id, -1071237392777185400, r::int8range, tenant_id FROM d1,"
	    " (VALUES ('[4,10]'), ('[8,20]'), ('[9,9]'), ('[90,120]'), ('[100,200]'), ('[300,400]')) v(r)");
	assert_int_equal(reload(k, d, 1), 0);
	assert_int_equal(d[0]->ledger.missing_len, LENGTH(gaps));
	assert_memory_equal(d[0]->ledger.missing, gaps, sizeof gaps);
	keyring_free(k);
}

static void
test_forget_shard(void **unused)
{
	struct device *d[3];
	struct keyring *k;
	struct ueid gone;
	unsigned shard;
	size_t left = 0;

	(void)unused;
	need_database();
	k = load_fleet(d);
	gone = d[0]->ueid;
	shard = d[0]->shard;
	for (size_t i = 0; i < 3; i++)
		left += d[i]->shard != shard;
	keyring_forget_shard(k, shard);
	assert_int_equal(keyring_count(k), left);
	assert_null(keyring_find(k, &gone));
	assert_int_equal(keyring_load(k, db, &gone, 1), 0);
	assert_non_null(keyring_find(k, &gone));
	keyring_free(k);
}

static struct ueid many[MANY];

static atomic_bool enough;

static void *
find_all_the_time(void *keyring)
{
	size_t found = 0;

	while (!enough)
		for (size_t i = 0; i < MANY; i += 7) {
			const struct device *d = keyring_find(keyring, &many[i]);

			if (d != NULL && d->lifecycle == LIFECYCLE_ACTIVE &&
			    device_find_key(d, (struct slice){many[i].bytes, KID_SIZE}) != NULL)
				found++;
		}
	return found > 0 ? keyring : NULL;
}

/* In how many parts. */
static int
reload_all(struct keyring *k)
{
	size_t place = 0;
	int parts = 1, more;

	while ((more = keyring_reload_some(k, db, &place)) == 1)
		parts++;
	assert_int_equal(more, 0);
	assert_int_equal(place, 0);
	return parts;
}

static void *
forget_all(void *keyring)
{
	for (unsigned shard = 0; shard < SHARDS; shard++) {
		nanosleep(&(struct timespec){0, 3000000}, NULL);
		keyring_forget_shard(keyring, shard);
	}
	return NULL;
}

/* Many devices, with a reader beside; and what one costs. */
static void
test_many(void **unused)
{
	struct keyring *k;
	struct device *devices[MANY];
	struct mallinfo2 before, after;
	pthread_t reader, forgetter;
	void *found;
	PGresult *res;

	(void)unused;
	need_database();
	k = keyring_new();
	run("INSERT INTO tenant (id, name) VALUES ('test-keyring-many', 'many');"
	    "INSERT INTO device (tenant_id, ueid, lifecycle) SELECT tenant_id, '\\x01'::bytea || "
	    "substr(sha256(i::text::bytea), 1, 16), 'active'"
	    " FROM tenant, generate_series(1, 3000) i WHERE id = 'test-keyring-many';"
	    "INSERT INTO device_key (device_id, kid, tenant_id, spki, chain, not_before, not_after)"
	    " SELECT device_id, substr(ueid, 1, 8), device.tenant_id, decode(repeat('ab', 91), 'hex'), '{}', now(), "
	    "now() FROM device JOIN tenant USING (tenant_id) WHERE id = 'test-keyring-many';"
	    "INSERT INTO device_hot (device_id, tenant_id, hi) SELECT device_id, device.tenant_id, 1 FROM device JOIN "
	    "tenant USING (tenant_id) WHERE id = 'test-keyring-many'");
	res = PQexecParams(database_connect(db),
			   "SELECT ueid FROM device JOIN tenant USING (tenant_id) WHERE id = 'test-keyring-many'", 0,
			   NULL, NULL, NULL, NULL, 1);
	assert_int_equal(PQntuples(res), MANY);
	for (int i = 0; i < MANY; i++)
		memcpy(many[i].bytes, result_bytes(res, i, 0).at, UEID_SIZE);
	PQclear(res);
	assert_int_equal(pthread_create(&reader, NULL, find_all_the_time, k), 0);
	before = mallinfo2();
	for (size_t i = 0; i < MANY; i += 300)
		assert_int_equal(keyring_load(k, db, &many[i], 300), 0);
	after = mallinfo2();
	assert_int_equal(keyring_count(k), MANY);
	for (size_t i = 0; i < MANY; i++)
		assert_non_null(devices[i] = keyring_find(k, &many[i]));
	run("UPDATE device_key SET status = 'retired'");
	assert_int_equal(keyring_reload(k, db, many, MANY), 0);
	run("UPDATE device_key SET status = 'revoked'");
	assert_true(reload_all(k) >= 3);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(device_find_key(devices[i], (struct slice){many[i].bytes, KID_SIZE})->status,
				 KEY_REVOKED);
	enough = true;
	assert_int_equal(pthread_join(reader, &found), 0);
	assert_non_null(found);
	printf("# bytes a device: %zu\n", (after.uordblks - before.uordblks) / MANY);
	/* Under a sanitizer mallinfo says nothing. */
	assert_true((after.uordblks - before.uordblks) / MANY < 500);
	/* A shard may be forgotten while its devices are read anew. */
	assert_int_equal(pthread_create(&forgetter, NULL, forget_all, k), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(keyring_reload(k, db, many, MANY), 0);
	assert_int_equal(pthread_join(forgetter, NULL), 0);
	assert_int_equal(keyring_count(k), 0);
	keyring_free(k);
}

/* Anchors. */

static void
insert_anchor(X509 *x, const char *tenant, const char *enrol)
{
	struct slice der = certificate_der(x);
	const char *values[] = {(const char *)der.at, tenant, enrol};
	const int lengths[] = {(int)der.len, 0, 0}, formats[] = {1, 0, 0};
	PGresult *res = PQexecParams(database_connect(db),
				     "INSERT INTO trust_anchor (tenant_id, name, certificate, enrol)"
				     " SELECT tenant_id, 'acme', $1::bytea, $3 FROM tenant WHERE id = $2",
				     3, NULL, values, lengths, formats, 0);

	assert_int_equal(PQresultStatus(res), PGRES_COMMAND_OK);
	PQclear(res);
	OPENSSL_free((void *)(uintptr_t)der.at);
}

static X509 *
issue(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	const struct certificate_order order = {
		.name = name,
		.basic = issuer == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE",
		.usage = issuer == NULL ? "critical,keyCertSign" : "critical,digitalSignature",
		.from = NOW - 1000,
		.to = NOW + 1000,
		.digest = "SHA256",
		.issuer = issuer,
		.issuer_key = issuer_key,
	};

	return make_certificate(key, &order);
}

static void
assert_enrols(const struct anchors *anchors, X509 *leaf, EVP_PKEY *key, enum reason reason, int32_t tenant, bool hold)
{
	const struct ueid ueid = ueid_of(1);
	struct slice der = certificate_der(leaf);
	struct enrolment *e = NULL;
	unsigned char *spki = NULL;
	size_t len = (size_t)i2d_PUBKEY(key, &spki);
	uint8_t digest[DIGEST_SIZE];

	sha256((struct slice){spki, len}, digest);
	assert_int_equal(enrol_chain(anchors, &der, 1, &ueid, (struct slice){digest, KID_SIZE}, NOW, 0, &e), reason);
	if (reason == REASON_OK) {
		assert_int_equal(e->tenant_id, tenant);
		assert_int_equal(e->hold, hold);
	}
	enrolment_free(e);
	OPENSSL_free(spki);
	OPENSSL_free((void *)(uintptr_t)der.at);
}

/* Two tenants' anchors have the same name; a third is no certificate. */
static void
test_anchors(void **unused)
{
	static const char hex[] = "01a0000000000000000000000000000001";
	EVP_PKEY *ca[3], *key;
	X509 *root[3], *leaf[3];
	struct anchors *anchors;
	struct device *d[3];
	struct keyring *k;

	(void)unused;
	need_database();
	k = load_fleet(d);
	key = make_key("P-256");
	for (size_t i = 0; i < 3; i++) {
		ca[i] = make_key("P-256");
		root[i] = issue("acme", ca[i], NULL, NULL);
		leaf[i] = issue(hex, key, root[i], ca[i]);
	}
	insert_anchor(root[0], "test-keyring-a", "admit");
	insert_anchor(root[1], "test-keyring-b", "hold");
	insert_anchor(leaf[2], "test-keyring-b", "admit");
	run("INSERT INTO trust_anchor (tenant_id, name, certificate) SELECT tenant_id, 'garbage', 'garbage' FROM d1");
	anchors = anchors_load(db);
	assert_non_null(anchors);
	assert_enrols(anchors, leaf[0], key, REASON_OK, d[0]->tenant_id, false);
	assert_enrols(anchors, leaf[1], key, REASON_OK, d[2]->tenant_id, true);
	assert_enrols(anchors, leaf[2], key, REASON_CERTIFICATE_UNTRUSTED, 0, false);
	anchors_free(anchors);
	keyring_free(k);
	EVP_PKEY_free(key);
	for (size_t i = 0; i < 3; i++) {
		EVP_PKEY_free(ca[i]);
		X509_free(root[i]);
		X509_free(leaf[i]);
	}
}

#define IN_TRANSACTION(test) cmocka_unit_test_setup_teardown(test, open_database, close_database)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_TRANSACTION(test_arrays_come_back),
		IN_TRANSACTION(test_empty_and_failed_arrays),
		IN_TRANSACTION(test_text_parameters_and_errors),
		IN_TRANSACTION(test_comes_back),
		cmocka_unit_test(test_nowhere_to_connect),
		IN_TRANSACTION(test_device_with_everything),
		IN_TRANSACTION(test_devices_with_less),
		IN_TRANSACTION(test_reload),
		IN_TRANSACTION(test_untidy_gaps),
		IN_TRANSACTION(test_forget_shard),
		IN_TRANSACTION(test_many),
		IN_TRANSACTION(test_anchors),
	};

	uri = getenv("FLEETSTATE_TEST_DATABASE");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
