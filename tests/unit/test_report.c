#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/report.h"
#include "tests/unit/bytes.h"

#define VECTORS_HERE "tests/vectors/"
#define FILE_MAX (64 * 1024)

static uint8_t big[LIMIT_MESSAGE + 4096];

/* What independent code made from the CDDL: tests/vectors/make_known_answer.py. */
struct known {
	json_t *json;
	uint8_t quiet[FILE_MAX], full[FILE_MAX];
	size_t quiet_len, full_len;
};

static struct known known;

static size_t
read_file(const char *name, uint8_t *out)
{
	FILE *file = fopen(name, "rb");
	size_t len;

	if (!file)
		fail_msg("%s: cannot open", name);
	len = fread(out, 1, FILE_MAX, file);
	fclose(file);
	return len;
}

static int
load(void **unused)
{
	(void)unused;
	known.json = json_load_file(VECTORS_HERE "known.json", 0, NULL);
	known.quiet_len = read_file(VECTORS_HERE "known-quiet.cbor", known.quiet);
	known.full_len = read_file(VECTORS_HERE "known-full.cbor", known.full);
	return known.json ? 0 : -1;
}

static int
unload(void **unused)
{
	(void)unused;
	json_decref(known.json);
	return 0;
}

static const char *
expected(const char *name)
{
	return json_string_value(json_object_get(known.json, name));
}

static const char *
expected_of(const char *message, const char *name)
{
	return json_string_value(json_object_get(json_object_get(known.json, message), name));
}

static void
assert_bytes(const uint8_t *got, size_t len, const char *hex)
{
	static uint8_t wanted[FILE_MAX];

	assert_non_null(hex);
	assert_int_equal(len, strlen(hex) / 2);
	unhex(hex, wanted);
	assert_memory_equal(got, wanted, len);
}

static struct slice
payload_of(struct slice message)
{
	struct cose_sign1 sign1;

	assert_int_equal(cose_decode(message, &sign1), REASON_OK);
	return sign1.payload;
}

static struct slice
quiet_payload(void)
{
	return payload_of((struct slice){known.quiet, known.quiet_len});
}

static struct slice
full_payload(void)
{
	return payload_of((struct slice){known.full, known.full_len});
}

static void
assert_same_again(const struct report *report, struct slice payload)
{
	static uint8_t out[FILE_MAX];
	struct cbor_writer w;

	cbor_writer_init(&w, out, sizeof out);
	report_encode(report, &w);
	assert_false(w.overflow);
	assert_int_equal(w.len, payload.len);
	assert_memory_equal(out, payload.at, payload.len);
}

static void
assert_verifies(struct slice message, const char *name)
{
	uint8_t spki[256], tbs[DIGEST_SIZE];
	struct cose_key *key = cose_key_from_spki(unhex(expected_of(name, "spki"), spki));
	struct cose_sign1 sign1;

	assert_non_null(key);
	assert_int_equal(cose_decode(message, &sign1), REASON_OK);
	assert_int_equal(cose_verify(&sign1, key, tbs), REASON_OK);
	assert_bytes(tbs, sizeof tbs, expected_of(name, "tbs"));
	cose_key_free(key);
}

static void
known_quiet(void **unused)
{
	struct slice message = {known.quiet, known.quiet_len}, payload = quiet_payload();
	struct report report;

	(void)unused;
	assert_verifies(message, "quiet");
	assert_bytes(payload.at, payload.len, expected_of("quiet", "payload"));
	assert_int_equal(report_decode(payload, &report), REASON_OK);
	assert_int_equal(report.iat, 1790000000);
	assert_bytes(report.ueid.bytes, UEID_SIZE, expected("ueid"));
	assert_int_equal(report.bootcount, 7);
	assert_int_equal(report.seq, 41);
	assert_true(report.epoch == UINT64_C(0x8877665544332211));
	assert_true(report.has_prev);
	assert_bytes(report.prev, DIGEST_SIZE, expected("prev"));
	assert_bytes(report.facts, FACTS_SIZE, expected("facts"));
	assert_int_equal(report.interval, 300);
	assert_false(report.receipt);
	assert_null(report.nonce.at);
	assert_null(report.state.at);
	assert_null(report.inventory.at);
	assert_null(report.boot_id.at);
	assert_null(report.readings.at);
	assert_false(report.has_sections_prev);
	assert_int_equal(report.dropped_len, 0);
	assert_same_again(&report, payload);
}

static void
known_full(void **unused)
{
	struct slice message = {known.full, known.full_len}, payload = full_payload();
	struct report report;

	(void)unused;
	assert_verifies(message, "full");
	assert_bytes(payload.at, payload.len, expected_of("full", "payload"));
	assert_int_equal(report_decode(payload, &report), REASON_OK);
	assert_int_equal(report.iat, 1790000300);
	assert_bytes(report.nonce.at, report.nonce.len, expected("nonce"));
	assert_int_equal(report.bootcount, 8);
	assert_int_equal(report.seq, 1042);
	assert_true(report.receipt);
	assert_bytes(report.state.at, report.state.len, expected("state"));
	assert_bytes(report.state_digest, DIGEST_SIZE, expected("state_digest"));
	assert_bytes(report.inventory.at, report.inventory.len, expected("inventory"));
	assert_bytes(report.inventory_digest, DIGEST_SIZE, expected("inventory_digest"));
	assert_int_equal(report.components, 4);
	assert_bytes(report.boot_id.at, report.boot_id.len, expected("boot_id"));
	assert_bytes(report.readings.at, report.readings.len, expected("readings"));
	assert_true(report.has_sections_prev);
	assert_bytes(report.sections_prev, DIGEST_SIZE, expected("sections_prev"));
	assert_int_equal(report.dropped_len, 2);
	assert_int_equal(report.dropped[0].range.first, 42);
	assert_int_equal(report.dropped[0].range.last, 105);
	assert_int_equal(report.dropped[0].cause, DROP_OVERWRITTEN);
	assert_int_equal(report.dropped[1].range.first, 106);
	assert_int_equal(report.dropped[1].cause, DROP_SKIPPED);
	assert_same_again(&report, payload);
}

/* The chain that travels ends at the CA, and its leaf holds the key of kid. */
static void
known_chain(void **unused)
{
	FILE *file = fopen(VECTORS_HERE "known-ca.pem", "r");
	X509 *ca = PEM_read_X509(file, NULL, NULL, NULL), *certs[2];
	struct cose_sign1 sign1;

	(void)unused;
	fclose(file);
	assert_int_equal(cose_decode((struct slice){known.full, known.full_len}, &sign1), REASON_OK);
	assert_int_equal(sign1.chain_len, 2);
	for (size_t i = 0; i < 2; i++) {
		const uint8_t *at = sign1.chain[i].at;

		certs[i] = d2i_X509(NULL, &at, (long)sign1.chain[i].len);
		assert_non_null(certs[i]);
	}
	assert_int_equal(X509_verify(certs[0], X509_get0_pubkey(certs[1])), 1);
	assert_int_equal(X509_verify(certs[1], X509_get0_pubkey(ca)), 1);
	X509_free(certs[0]);
	X509_free(certs[1]);
	X509_free(ca);
}

static void
assert_dump(json_t *json, const char *wanted)
{
	char *got = json ? json_dumps(json, JSON_COMPACT) : NULL;

	assert_non_null(got);
	assert_string_equal(got, wanted);
	free(got);
}

static void
json_of_a_quiet_report(void **unused)
{
	struct report report;
	json_t *json, *wanted;

	(void)unused;
	assert_int_equal(report_decode(quiet_payload(), &report), REASON_OK);
	json = report_json(&report);
	wanted =
		json_pack("{s:s, s:s, s:i, s:s, s:i, s:i, s:b, s:s, s:s}", "ueid", expected("ueid"), "epoch",
			  "8877665544332211", "seq", 41, "issued_at", "2026-09-21T14:13:20Z", "bootcount", 7,
			  "interval_s", 300, "receipt_wanted", 0, "prev", expected("prev"), "facts", expected("facts"));
	assert_true(json_equal(json, wanted));
	json_decref(json);
	json_decref(wanted);
}

static void
json_of_a_full_report(void **unused)
{
	struct report report;
	json_t *json, *inventory, *names;

	(void)unused;
	assert_int_equal(report_decode(full_payload(), &report), REASON_OK);
	json = report_json(&report);
	assert_int_equal(json_object_size(json), 16);
	assert_string_equal(json_string_value(json_object_get(json, "nonce")), expected("nonce"));
	assert_string_equal(json_string_value(json_object_get(json, "boot_id")), expected("boot_id"));
	assert_string_equal(json_string_value(json_object_get(json, "sections_prev")), expected("sections_prev"));
	assert_dump(json_object_get(json, "dropped"), "[{\"first\":42,\"last\":105,\"cause\":\"overwritten\"},"
						      "{\"first\":106,\"last\":1041,\"cause\":\"skipped\"}]");
	assert_dump(
		json_object_get(json, "state"),
		"{\"unknown\":{\"boot.secure\":\"no efivars\",\"boot.setup_mode\":\"no efivars\"},"
		"\"device\":{\"serial\":\"SN-0042\",\"vendor\":\"acme\",\"hwmodel\":\"gate-2\",\"swversion\":\"3.1.4\","
		"\"hostname\":\"gate-0042\"},\"hardware\":{\"cpu_count\":4,\"memory_bytes\":4294967296},"
		"\"boot\":{\"firmware\":\"device-tree\",\"command_line_risks\":[\"init=/bin/sh\",\"mitigations=off\"],"
		"\"module_signatures\":true},\"interfaces\":{\"network\":[{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:"
		"01\","
		"\"up\":true},{\"name\":\"lo\",\"up\":true,\"type\":\"loopback\"}],\"sockets\":[{\"protocol\":\"tcp\","
		"\"address\":\"0.0.0.0\",\"port\":22,\"program\":\"sshd\"},{\"protocol\":\"tcp\",\"address\":"
		"\"2001:db8::1\",\"port\":443}]},\"os\":{\"uptime_s\":86400},\"clock\":{\"offset_s\":-0.25,"
		"\"max_error_s\":0.10000000000000001}}");
	inventory = json_object_get(json, "inventory");
	assert_string_equal(json_string_value(json_object_get(inventory, "digest")), expected("inventory_digest"));
	names = json_object_get(known.json, "names");
	for (size_t i = 0; i < 4; i++) {
		json_t *item = json_array_get(json_object_get(inventory, "items"), i);

		assert_true(json_equal(json_object_get(item, "name"), json_array_get(names, i)));
		if (strcmp(json_string_value(json_object_get(item, "name")), "libstdc++6") == 0)
			assert_dump(
				item,
				"{\"type\":\"dpkg\",\"name\":\"libstdc++6\",\"version\":\"12.2.0-14\",\"architecture\":"
				"\"amd64\",\"source\":\"gcc-12\",\"source_version\":\"12.2.0-14+b1\"}");
		if (strcmp(json_string_value(json_object_get(item, "name")), "bootloader") == 0)
			assert_dump(item, "{\"type\":\"firmware\",\"name\":\"bootloader\",\"version\":\"\"}");
	}
	json_decref(json);
}

/* RFC 3339 to the last second that may be told. */
static void
json_of_times(void **unused)
{
	struct report report;
	json_t *json;

	(void)unused;
	assert_int_equal(report_decode(quiet_payload(), &report), REASON_OK);
	report.iat = LIMIT_IAT;
	json = report_json(&report);
	assert_string_equal(json_string_value(json_object_get(json, "issued_at")), "9999-12-31T23:59:59Z");
	json_decref(json);
	report.iat = 0;
	json = report_json(&report);
	assert_string_equal(json_string_value(json_object_get(json, "issued_at")), "1970-01-01T00:00:00Z");
	json_decref(json);
}

/* A quiet report of a device that lives for long, signed with ES256: the whole MQTT payload. */
static void
a_quiet_report_is_small(void **unused)
{
	char file[] = "/tmp/fleetstate-test-XXXXXX", name[64], error[256];
	uint8_t payload[512], message[512];
	struct cbor_writer w;
	struct cose_key *key;
	struct report report;
	size_t len;

	(void)unused;
	assert_non_null(mkdtemp(file));
	snprintf(name, sizeof name, "%s/key.pem", file);
	assert_int_equal(cose_key_generate(-7, name), 0);
	key = cose_key_open(name, error);
	assert_non_null(key);

	assert_int_equal(report_decode(quiet_payload(), &report), REASON_OK);
	report.iat = UINT64_C(4000000000);
	report.bootcount = 60000;
	report.seq = 16777216;
	report.interval = 3600;
	cbor_writer_init(&w, payload, sizeof payload);
	report_encode(&report, &w);
	len = cose_sign(key, NULL, 0, (struct slice){payload, w.len}, message, sizeof message);
	print_message("a quiet report has %zu bytes\n", len);
	assert_in_range(len, 1, 220);

	cose_key_free(key);
	remove(name);
	remove(file);
}

/*
 * Refusals. Each row takes a known report, puts another value in the place of one claim, or takes it away, or adds one.
 */
#define EPOCH "488877665544332211"
#define DIGEST_32 "58201111111111111111111111111111111111111111111111111111111111111111"
#define DIGEST_31 "581f11111111111111111111111111111111111111111111111111111111111111"
#define DIGEST_16 "5011111111111111111111111111111111"
#define REST DIGEST_16 "19012cf4"
#define UEID_17                                                                                                        \
	"51010001020304050607080"                                                                                      \
	"90a0b0c0d0e0f"
#define AWAY ""

struct edit {
	bool full;
	int64_t key;
	const char *value;
	enum reason reason;
};

static bool
before(int64_t a, int64_t b)
{
	if ((a < 0) != (b < 0))
		return a >= 0;
	return a < 0 ? a > b : a < b;
}

/* The claims of `payload` with `value` as that of `key`. */
static struct slice
edited(struct slice payload, int64_t key, struct slice value, uint8_t *out, size_t size)
{
	struct {
		int64_t key;
		struct slice value;
	} claims[32];
	size_t n = 0;
	struct cbor_reader r;
	struct cbor_map map;
	struct cbor_writer w;
	bool placed = value.len == 0;

	cbor_reader_init(&r, payload);
	cbor_read_map(&r, &map, 31);
	for (int64_t at; cbor_map_next(&r, &map, &at);) {
		struct slice old = cbor_read_item(&r, LIMIT_DEPTH);

		if (!placed && !before(at, key)) {
			claims[n].key = key;
			claims[n++].value = value;
			placed = true;
		}
		if (at == key)
			continue;
		claims[n].key = at;
		claims[n++].value = old;
	}
	assert_int_equal(cbor_reader_end(&r), REASON_OK);
	if (!placed) {
		claims[n].key = key;
		claims[n++].value = value;
	}
	cbor_writer_init(&w, out, size);
	cbor_write_map(&w, n);
	for (size_t i = 0; i < n; i++) {
		cbor_write_int(&w, claims[i].key);
		cbor_write_encoded(&w, claims[i].value);
	}
	assert_false(w.overflow);
	return (struct slice){out, w.len};
}

static void
expect(const struct edit *edit)
{
	static uint8_t value[FILE_MAX], out[2 * FILE_MAX];
	struct slice payload = edit->full ? full_payload() : quiet_payload();
	struct report report;
	enum reason got;

	payload = edited(payload, edit->key, unhex(edit->value, value), out, sizeof out);
	got = report_decode(payload, &report);
	if (got != edit->reason)
		fail_msg("%lld => %s: %s, not %s", (long long)edit->key, edit->value, reason_name(got),
			 reason_name(edit->reason));
}

static void
claims_are_checked(void **unused)
{
	static const struct edit edits[] = {
		/* sections */
		{false, -65544, "8185058261616162010101", REASON_OK},
		{false, -65544, "80", REASON_CLAIM_INVALID},
		{true, -65544, AWAY, REASON_OK},
		{true, -65544, "8185058261616162010101", REASON_OK},
		/* iat */
		{false, 6, AWAY, REASON_CLAIM_MISSING},
		{false, 6, "00", REASON_OK},
		{false, 6, "1b0000003afff4417f", REASON_OK},
		{false, 6, "1b0000003afff44180", REASON_CLAIM_INVALID}, /* the year 10000 */
		{false, 6, "20", REASON_MALFORMED},
		{false, 6, "f97bff", REASON_MALFORMED}, /* RFC 9711 4.3.1: never a float */
		{false, 6, "c11a6ab13b80", REASON_MALFORMED}, /* nor tagged */
		{false, 6, "1801", REASON_NON_CANONICAL},
		/* nonce */
		{false, 10, "481111111111111111", REASON_OK},
		{false, 10, "4711111111111111", REASON_CLAIM_INVALID},
		{false, 10, "40", REASON_CLAIM_INVALID},
		{false, 10,
		 "5840"
		 "1111111111111111111111111111111111111111111111111111111111111111"
		 "1111111111111111111111111111111111111111111111111111111111111111",
		 REASON_OK},
		{false, 10,
		 "5841"
		 "1111111111111111111111111111111111111111111111111111111111111111"
		 "111111111111111111111111111111111111111111111111111111111111111111",
		 REASON_CLAIM_INVALID},
		{false, 10, "683131313131313131", REASON_MALFORMED},
		{false, 10, "81481111111111111111", REASON_MALFORMED}, /* one, though RFC 9711 knows several */
		/* ueid */
		{false, 256, AWAY, REASON_CLAIM_MISSING},
		{false, 256, UEID_17, REASON_OK},
		{false, 256, "5102000102030405060708090a0b0c0d0e0f", REASON_CLAIM_INVALID}, /* not RAND */
		{false, 256,
		 "50010001020304050607080"
		 "90a0b0c0d0e",
		 REASON_CLAIM_INVALID},
		{false, 256,
		 "52010001020304050607080"
		 "90a0b0c0d0e0f10",
		 REASON_CLAIM_INVALID},
		{false, 256, "6101", REASON_MALFORMED},
		/* profile */
		{false, 265, AWAY, REASON_CLAIM_MISSING},
		{false, 265, "5369fe8cc694cda0f2b09f9db5d6e3f7d2fa8458", REASON_PROFILE_UNKNOWN},
		{false, 265, "5269fe8cc694cda0f2b09f9db5d6e3f7d2fa84", REASON_PROFILE_UNKNOWN},
		{false, 265, "636f6964", REASON_PROFILE_UNKNOWN},
		{false, 265, "01", REASON_PROFILE_UNKNOWN},
		/* bootcount */
		{false, 267, AWAY, REASON_CLAIM_MISSING},
		{false, 267, "00", REASON_OK},
		{false, 267, "1b7fffffffffffffff", REASON_OK},
		{false, 267, "1b8000000000000000", REASON_CLAIM_INVALID},
		{false, 267, "20", REASON_MALFORMED},
		/* meta */
		{false, -65538, AWAY, REASON_CLAIM_MISSING},
		{false, -65538, "8602" EPOCH DIGEST_32 REST, REASON_OK},
		{false, -65538, "8601" EPOCH "f6" REST, REASON_OK},
		{false, -65538, "8602" EPOCH "f6" REST, REASON_OK}, /* 1 may have been skipped */
		{false, -65538, "8601" EPOCH DIGEST_32 REST, REASON_CLAIM_INVALID}, /* before the first? */
		{false, -65538, "8600" EPOCH "f6" REST, REASON_CLAIM_INVALID},
		{false, -65538, "861b001fffffffffffff" EPOCH "f6" REST, REASON_OK},
		{false, -65538, "861b0020000000000000" EPOCH "f6" REST, REASON_CLAIM_INVALID},
		{false, -65538, "8620" EPOCH "f6" REST, REASON_MALFORMED},
		{false, -65538,
		 "8602"
		 "4788776655443322"
		 "f6" REST,
		 REASON_CLAIM_INVALID},
		{false, -65538,
		 "8602"
		 "49887766554433221100"
		 "f6" REST,
		 REASON_CLAIM_INVALID},
		{false, -65538, "860202f6" REST, REASON_MALFORMED},
		{false, -65538, "8602" EPOCH DIGEST_31 REST, REASON_CLAIM_INVALID},
		{false, -65538, "8602" EPOCH "f4" REST, REASON_MALFORMED},
		{false, -65538,
		 "8602" EPOCH "f6"
		 "4f111111111111111111111111111111"
		 "19012cf4",
		 REASON_CLAIM_INVALID},
		{false, -65538,
		 "8602" EPOCH "f6"
		 "f6"
		 "19012cf4",
		 REASON_MALFORMED},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "00f4", REASON_CLAIM_INVALID},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "01f4", REASON_OK},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "1a00015180f4", REASON_OK},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "1a00015181f4", REASON_CLAIM_INVALID},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "19012c01", REASON_MALFORMED},
		{false, -65538, "8602" EPOCH "f6" DIGEST_16 "19012cf6", REASON_MALFORMED},
		{false, -65538, "8502" EPOCH "f6" DIGEST_16 "19012c", REASON_CLAIM_INVALID},
		{false, -65538, "8702" EPOCH "f6" REST "f4", REASON_CLAIM_INVALID},
		{false, -65538, "a0", REASON_MALFORMED},
		{false, -65538, "9f02" EPOCH "f6" REST "ff", REASON_NON_CANONICAL},
		/* sections stand together */
		{true, -65537, AWAY, REASON_CLAIM_MISSING},
		{true, -65539, AWAY, REASON_CLAIM_MISSING},
		{false, -65537, "a0", REASON_CLAIM_MISSING},
		{false, -65539, "80", REASON_CLAIM_MISSING},
		{false, -65539, DIGEST_32, REASON_CLAIM_MISSING},
		{false, -65541, "a203a1091a0001518007a103f9b400", REASON_CLAIM_MISSING},
		{false, -65542, DIGEST_32, REASON_CLAIM_MISSING},
		{true, -65541, AWAY, REASON_OK},
		{true, -65542, AWAY, REASON_OK}, /* the first with sections */
		{true, -65537, "a0", REASON_DIGEST_MISMATCH},
		{true, -65537, "a104a102f5", REASON_DIGEST_MISMATCH},
		{true, -65537, "a104a10201", REASON_MALFORMED}, /* test_facts has the rest */
		{true, -65537, "f6", REASON_MALFORMED},
		{true, -65539, DIGEST_32, REASON_DIGEST_MISMATCH},
		{true, -65539, "80", REASON_DIGEST_MISMATCH},
		/* inventory */
		{true, -65539, DIGEST_31, REASON_CLAIM_INVALID},
		{true, -65539, "f6", REASON_MALFORMED},
		{true, -65539,
		 "8187006161613"
		 "1f6f6f6f6",
		 REASON_DIGEST_MISMATCH}, /* right as such */
		{true, -65539,
		 "8187086161613"
		 "1f6f6f6f6",
		 REASON_CLAIM_INVALID}, /* no such type */
		{true, -65539,
		 "8187206161613"
		 "1f6f6f6f6",
		 REASON_MALFORMED},
		{true, -65539, "818700606131f6f6f6f6", REASON_CLAIM_INVALID}, /* no name */
		{true, -65539, "818700f66131f6f6f6f6", REASON_MALFORMED},
		{true, -65539, "8187006161f6f6f6f6f6", REASON_MALFORMED}, /* a version is text, if empty */
		{true, -65539, "8187006161613101f6f6f6", REASON_MALFORMED},
		{true, -65539, "81870061616131f601f6f6", REASON_MALFORMED},
		{true, -65539, "81870061616131f6f601f6", REASON_MALFORMED},
		{true, -65539, "81870061616131f6f6f601", REASON_MALFORMED},
		{true, -65539,
		 "818700"
		 "6100"
		 "6131f6f6f6f6",
		 REASON_TEXT_INVALID},
		{true, -65539,
		 "818700"
		 "61ff"
		 "6131f6f6f6f6",
		 REASON_TEXT_INVALID},
		{true, -65539, "81860061616131f6f6f6", REASON_CLAIM_INVALID},
		{true, -65539, "81880061616131f6f6f6f6f6", REASON_CLAIM_INVALID},
		{true, -65539, "8101", REASON_MALFORMED},
		{true, -65539, "82870061616131f6f6f6f6870061626131f6f6f6f6", REASON_DIGEST_MISMATCH},
		{true, -65539, "82870061626131f6f6f6f6870061616131f6f6f6f6", REASON_NON_CANONICAL},
		{true, -65539, "82870061616131f6f6f6f6870061616131f6f6f6f6", REASON_DUPLICATE_KEY},
		/* boot id */
		{false, -65540, DIGEST_16, REASON_OK},
		{false, -65540, "4f111111111111111111111111111111", REASON_CLAIM_INVALID},
		{false, -65540, DIGEST_32, REASON_CLAIM_INVALID},
		{false, -65540, "f6", REASON_MALFORMED},
		/* readings */
		{true, -65541, "a0", REASON_CLAIM_INVALID},
		{true, -65541, "a104a102f5", REASON_CLAIM_INVALID},
		/* sections_prev */
		{true, -65542, DIGEST_31, REASON_CLAIM_INVALID},
		{true, -65542, "f6", REASON_MALFORMED},
		/* dropped */
		{false, -65543, "8183010101", REASON_OK},
		{false, -65543,
		 "818318281"
		 "82802",
		 REASON_OK},
		{false, -65543, "818301182901", REASON_CLAIM_INVALID}, /* this report is 41 */
		{false, -65543, "818301182801", REASON_OK},
		{false, -65543, "8183000101", REASON_CLAIM_INVALID},
		{false, -65543, "8183020101", REASON_CLAIM_INVALID}, /* backwards */
		{false, -65543, "8183010100", REASON_CLAIM_INVALID},
		{false, -65543, "8183010103", REASON_CLAIM_INVALID},
		{false, -65543, "81820101", REASON_CLAIM_INVALID},
		{false, -65543, "818401010101", REASON_CLAIM_INVALID},
		{false, -65543, "80", REASON_CLAIM_INVALID},
		{false, -65543, "8101", REASON_MALFORMED},
		{false, -65543, "f6", REASON_MALFORMED},
		/* claims that nobody knows */
		{false, 0, "f6", REASON_OK},
		{false, 4711, "a20182f5f46161a0", REASON_OK},
		{false, -70000, "6178", REASON_OK},
		{false, INT64_MAX, "00", REASON_OK},
		{false, INT64_MIN, "00", REASON_OK},
		{false, 4711,
		 "81818181818181"
		 "00",
		 REASON_OK},
		{false, 4711,
		 "8181818181818181"
		 "00",
		 REASON_LIMIT_EXCEEDED},
		{false, 4711, "61ff", REASON_TEXT_INVALID},
		{false, 4711, "1800", REASON_NON_CANONICAL},
		{false, 4711, "a200000000", REASON_DUPLICATE_KEY},
		{false, 4711, "f97c00", REASON_CLAIM_INVALID},
		{false, 4711, "f7", REASON_MALFORMED},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++)
		expect(&edits[i]);
}

/* In an epoch's first message there is nothing with sections before it. */
static void
first_has_no_sections_before(void **unused)
{
	uint8_t meta_bytes[256], out[8192];
	char meta[256];
	struct report report;

	(void)unused;
	snprintf(meta, sizeof meta, "86190412" EPOCH "f650%s19012cf5", expected("facts"));
	assert_int_equal(
		report_decode(edited(full_payload(), -65538, unhex(meta, meta_bytes), out, sizeof out), &report),
		REASON_CLAIM_INVALID);
}

static void
the_map_itself(void **unused)
{
	static const struct {
		const char *hex;
		enum reason reason;
	} rows[] = {
		{"", REASON_TRUNCATED},
		{"a0", REASON_CLAIM_MISSING},
		{"80", REASON_MALFORMED},
		{"a0a0", REASON_TRAILING_BYTES},
		{"bf0600ff", REASON_NON_CANONICAL},
		{"b9000106"
		 "00",
		 REASON_NON_CANONICAL},
		{"a161610"
		 "0",
		 REASON_MALFORMED},
		{"a1f500", REASON_MALFORMED},
		{"a206000600", REASON_DUPLICATE_KEY},
		{"a20600050"
		 "0",
		 REASON_NON_CANONICAL},
		{"a12020", REASON_CLAIM_MISSING},
		{"a1", REASON_TRUNCATED},
		{"bb7fffffffffffffff0600", REASON_TRUNCATED},
		{"a11bffffffffffffffff00", REASON_CLAIM_INVALID},
	};
	uint8_t bytes[64];
	struct report report;

	(void)unused;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		enum reason got = report_decode(unhex(rows[i].hex, bytes), &report);

		if (got != rows[i].reason)
			fail_msg("%s: %s, not %s", rows[i].hex, reason_name(got), reason_name(rows[i].reason));
	}
}

/* However short it is cut, and whatever one byte becomes: an answer, and never an early end that passes. */
static void
cut_and_changed(void **unused)
{
	struct slice payload = full_payload();
	static uint8_t copy[FILE_MAX];
	struct report report;

	(void)unused;
	for (size_t len = 0; len < payload.len; len++) {
		uint8_t *exact = malloc(len ? len : 1); /* so that the sanitizer sees a byte too many */

		memcpy(exact, payload.at, len);
		assert_int_equal(report_decode((struct slice){exact, len}, &report), REASON_TRUNCATED);
		free(exact);
	}
	for (size_t i = 0; i < payload.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(copy, payload.at, payload.len);
			copy[i] ^= (uint8_t)(1u << bit);
			if (report_decode((struct slice){copy, payload.len}, &report) == REASON_OK)
				json_decref(report_json(&report));
		}
	}
	memcpy(copy, payload.at, payload.len);
	copy[payload.len] = 0;
	assert_int_equal(report_decode((struct slice){copy, payload.len + 1}, &report), REASON_TRAILING_BYTES);
}

/*
 * Limits.
 */
static struct slice
component(size_t i, size_t lens[6], uint8_t *out, size_t size)
{
	static uint8_t letters[2048];
	struct slice parts[6];
	struct component component;
	struct cbor_writer w;
	char number[24];

	memset(letters, 'x', sizeof letters);
	snprintf(number, sizeof number, "%08zu", i);
	memcpy(letters, number, 8);
	for (size_t j = 0; j < 6; j++)
		parts[j] = (struct slice){lens[j] ? letters : NULL, lens[j]};
	component = (struct component){COMPONENT_DPKG, parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]};
	if (!component.version.at)
		component.version = (struct slice){letters, 0};
	cbor_writer_init(&w, out, size);
	component_encode(&component, &w);
	return (struct slice){out, w.len};
}

static enum reason
with_components(size_t n, size_t lens[6])
{
	struct cbor_writer w;
	static uint8_t value[LIMIT_MESSAGE];
	struct report report;

	cbor_writer_init(&w, value, sizeof value);
	cbor_write_array(&w, n);
	for (size_t i = 0; i < n; i++) {
		uint8_t one[4096];

		cbor_write_encoded(&w, component(i, lens, one, sizeof one));
	}
	assert_false(w.overflow);
	return report_decode(edited(full_payload(), -65539, (struct slice){value, w.len}, big, sizeof big), &report);
}

/* What is within a limit gets as far as the digest, which is another's. */
static void
limits_of_components(void **unused)
{
	static const size_t max[6] = {LIMIT_NAME, LIMIT_VERSION, LIMIT_NAME, LIMIT_NAME, LIMIT_VERSION, LIMIT_PURL};
	size_t lens[6], small[6] = {8, 0, 0, 0, 0, 0};

	(void)unused;
	memcpy(lens, max, sizeof lens);
	assert_int_equal(with_components(1, lens), REASON_DIGEST_MISMATCH);
	for (size_t i = 0; i < 6; i++) {
		memcpy(lens, max, sizeof lens);
		lens[i]++;
		assert_int_equal(with_components(1, lens), REASON_LIMIT_EXCEEDED);
	}
	assert_int_equal(with_components(LIMIT_COMPONENTS, small), REASON_DIGEST_MISMATCH);
	assert_int_equal(with_components(LIMIT_COMPONENTS + 1, small), REASON_LIMIT_EXCEEDED);
}

/* One topic of a later version, filled until the section has just that size. */
static struct slice
section_of(size_t size, uint8_t *out)
{
	struct cbor_writer w;
	size_t content = size - 8; /* map, topic in two bytes, map, fact, and the head of the text */

	memset(out, 'x', size);
	cbor_writer_init(&w, out, size);
	cbor_write_map(&w, 1);
	cbor_write_uint(&w, 200);
	cbor_write_map(&w, 1);
	cbor_write_uint(&w, 1);
	cbor_write_array(&w, 0); /* overwritten: a head of three bytes */
	out[w.len - 1] = 0x59;
	out[w.len] = (uint8_t)(content >> 8);
	out[w.len + 1] = (uint8_t)(content & 0xff);
	return (struct slice){out, size};
}

static void
limits_of_sections(void **unused)
{
	static uint8_t value[LIMIT_STATE + 16];
	struct report report;

	(void)unused;
	assert_int_equal(
		report_decode(edited(full_payload(), -65537, section_of(LIMIT_STATE, value), big, sizeof big), &report),
		REASON_DIGEST_MISMATCH);
	assert_int_equal(
		report_decode(edited(full_payload(), -65537, section_of(LIMIT_STATE + 1, value), big, sizeof big),
			      &report),
		REASON_LIMIT_EXCEEDED);
	assert_int_equal(
		report_decode(edited(full_payload(), -65541, section_of(LIMIT_READINGS, value), big, sizeof big),
			      &report),
		REASON_OK);
	assert_int_equal(
		report_decode(edited(full_payload(), -65541, section_of(LIMIT_READINGS + 1, value), big, sizeof big),
			      &report),
		REASON_LIMIT_EXCEEDED);
}

static void
limit_of_dropped(void **unused)
{
	struct report report;
	uint8_t value[1024];

	(void)unused;
	for (size_t n = LIMIT_DROPPED; n <= LIMIT_DROPPED + 1; n++) {
		struct cbor_writer w;

		cbor_writer_init(&w, value, sizeof value);
		cbor_write_array(&w, n);
		for (size_t i = 0; i < n; i++) {
			cbor_write_array(&w, 3);
			cbor_write_uint(&w, i + 1);
			cbor_write_uint(&w, i + 1);
			cbor_write_uint(&w, 1);
		}
		assert_int_equal(
			report_decode(edited(full_payload(), -65543, (struct slice){value, w.len}, big, sizeof big),
				      &report),
			n > LIMIT_DROPPED ? REASON_LIMIT_EXCEEDED : REASON_OK);
	}
}

static void
limit_of_the_whole(void **unused)
{
	struct report report;

	(void)unused;
	assert_int_equal(report_decode((struct slice){big, LIMIT_MESSAGE + 1}, &report), REASON_TOO_LARGE);
}

/* Only the digest of an inventory may come, and it is the set's. */
static void
inventory_by_digest(void **unused)
{
	uint8_t value[64], out[8192];
	char hex[80];
	struct report report;
	struct slice payload;
	json_t *json;

	(void)unused;
	snprintf(hex, sizeof hex, "5820%s", expected("inventory_digest"));
	payload = edited(full_payload(), -65539, unhex(hex, value), out, sizeof out);
	assert_int_equal(report_decode(payload, &report), REASON_OK);
	assert_null(report.inventory.at);
	assert_int_equal(report.components, 0);
	assert_bytes(report.inventory_digest, DIGEST_SIZE, expected("inventory_digest"));
	assert_same_again(&report, payload);
	json = report_json(&report);
	assert_int_equal(json_object_size(json_object_get(json, "inventory")), 1);
	json_decref(json);
}

/* Another profile's report, from outside: its header isn't ours, and nor is its payload. */
static void
another_profile_is_refused(void **unused)
{
	const char *folder = getenv("VECTORS") ? getenv("VECTORS") : "../shared/vectors";
	static uint8_t bytes[4096];
	char name[512];
	struct cose_sign1 sign1;
	struct report report;
	json_t *json;

	(void)unused;
	snprintf(name, sizeof name, "%s/fleetstate-example/report1.json", folder);
	json = json_load_file(name, 0, NULL);
	if (!json) {
		print_message("%s is not there\n", name);
		skip();
	}
	assert_int_equal(cose_decode(unhex(json_string_value(json_object_get(json, "token_hex")), bytes), &sign1),
			 REASON_MALFORMED);
	assert_int_equal(report_decode(unhex(json_string_value(json_object_get(json, "payload_hex")), bytes), &report),
			 REASON_PROFILE_UNKNOWN);
	json_decref(json);
}

static enum reason
judge(struct slice message, struct cose_key *key)
{
	struct cose_sign1 sign1;
	struct report report;
	enum reason reason = cose_decode(message, &sign1);

	if (reason == REASON_OK)
		reason = cose_verify(&sign1, key, NULL);
	return reason == REASON_OK ? report_decode(sign1.payload, &report) : reason;
}

/* What the second implementation made, right and wrong: tests/vectors/make_defects.py. */
static void
defects(void **unused)
{
	json_t *file = json_load_file(VECTORS_HERE "defects.json", 0, NULL), *cases = json_object_get(file, "cases"),
	       *one;
	uint8_t spki[256], message[8192];
	size_t i, wrong = 0;

	(void)unused;
	assert_in_range(json_array_size(cases), 40, 1000);
	json_array_foreach(cases, i, one)
	{
		const char *key_name = json_string_value(json_object_get(one, "key"));
		const char *reason = json_string_value(json_object_get(one, "reason"));
		const char *hex = json_string_value(json_object_get(json_object_get(file, "keys"), key_name));
		struct cose_key *key = cose_key_from_spki(unhex(hex, spki));
		const char *got =
			reason_name(judge(unhex(json_string_value(json_object_get(one, "message")), message), key));

		if (strcmp(got, reason) != 0) {
			print_message("%s: %s, not %s\n", json_string_value(json_object_get(one, "name")), got, reason);
			wrong++;
		}
		cose_key_free(key);
	}
	json_decref(file);
	assert_int_equal(wrong, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_quiet),
		cmocka_unit_test(known_full),
		cmocka_unit_test(known_chain),
		cmocka_unit_test(json_of_a_quiet_report),
		cmocka_unit_test(json_of_a_full_report),
		cmocka_unit_test(json_of_times),
		cmocka_unit_test(a_quiet_report_is_small),
		cmocka_unit_test(claims_are_checked),
		cmocka_unit_test(first_has_no_sections_before),
		cmocka_unit_test(the_map_itself),
		cmocka_unit_test(cut_and_changed),
		cmocka_unit_test(limits_of_components),
		cmocka_unit_test(limits_of_sections),
		cmocka_unit_test(limit_of_dropped),
		cmocka_unit_test(limit_of_the_whole),
		cmocka_unit_test(inventory_by_digest),
		cmocka_unit_test(another_profile_is_refused),
		cmocka_unit_test(defects),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
