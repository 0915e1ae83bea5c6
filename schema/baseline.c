#include "schema/baseline.h"

#include <string.h>

#include "schema/cbor.h"

#define KIND "fleetstate-baseline"
#define VERSION 1

enum key { KEY_KIND = 1, KEY_VERSION, KEY_MADE, KEY_PATTERNS, KEY_FILES, KEYS = KEY_FILES };

static int
compare(struct slice a, struct slice b)
{
	int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static struct slice
read_path(struct cbor_reader *r, struct slice before)
{
	struct slice path = cbor_read_text(r, LIMIT_BASELINE_PATH);

	if (r->error == REASON_OK && (path.len < 2 || path.at[0] != '/'))
		cbor_fail(r, REASON_CLAIM_INVALID);
	if (r->error == REASON_OK && before.at && compare(before, path) >= 0)
		cbor_fail(r, REASON_NON_CANONICAL);
	return path;
}

static void
read_kind(struct cbor_reader *r, struct baseline *b)
{
	struct slice kind = cbor_read_text(r, sizeof KIND);

	(void)b;
	if (r->error == REASON_OK && (kind.len != sizeof KIND - 1 || memcmp(kind.at, KIND, kind.len) != 0))
		cbor_fail(r, REASON_CLAIM_INVALID);
}

static void
read_version(struct cbor_reader *r, struct baseline *b)
{
	(void)b;
	(void)cbor_read_uint_max(r, VERSION, VERSION);
}

static void
read_made(struct cbor_reader *r, struct baseline *b)
{
	b->made = cbor_read_uint_max(r, 0, LIMIT_IAT);
}

static void
read_patterns(struct cbor_reader *r, struct baseline *b)
{
	size_t n = cbor_read_array(r, LIMIT_BASELINE_PATTERNS);
	struct slice before = {NULL, 0};

	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		before = read_path(r, before);
		b->patterns[b->patterns_len++] = before;
	}
}

static void
read_files(struct cbor_reader *r, struct baseline *b)
{
	size_t n = cbor_read_array(r, LIMIT_BASELINE_FILES);
	struct slice before = {NULL, 0};

	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		struct baseline_file *file = &b->files[b->files_len++];

		if (cbor_read_array(r, 5) != 5)
			cbor_fail(r, REASON_MALFORMED);
		file->path = before = read_path(r, before);
		file->sha256 = cbor_read_bytes(r, DIGEST_SIZE);
		if (r->error == REASON_OK && file->sha256.len != DIGEST_SIZE)
			cbor_fail(r, REASON_CLAIM_INVALID);
		file->uid = (uint32_t)cbor_read_uint_max(r, 0, UINT32_MAX);
		file->gid = (uint32_t)cbor_read_uint_max(r, 0, UINT32_MAX);
		file->mode = (uint32_t)cbor_read_uint_max(r, 0, 07777);
	}
}

/* All of them must be there, and nothing else: a part that is not understood might be what matters. */
enum reason
baseline_decode(struct slice payload, struct baseline *out)
{
	static void (*const parts[KEYS + 1])(struct cbor_reader *, struct baseline *) = {
		[KEY_KIND] = read_kind,         [KEY_VERSION] = read_version, [KEY_MADE] = read_made,
		[KEY_PATTERNS] = read_patterns, [KEY_FILES] = read_files,
	};
	struct cbor_reader r;
	struct cbor_map map;
	int64_t key, want = KEY_KIND;

	memset(out, 0, sizeof *out);
	cbor_reader_init(&r, payload);
	cbor_read_map(&r, &map, KEYS);
	while (cbor_map_next(&r, &map, &key)) {
		if (key != want || key > KEYS) {
			cbor_fail(&r, REASON_MALFORMED);
			break;
		}
		parts[key](&r, out);
		want++;
	}
	if (want != KEYS + 1)
		cbor_fail(&r, REASON_MALFORMED);
	return cbor_reader_end(&r);
}

size_t
baseline_encode(const struct baseline *b, uint8_t *out, size_t size)
{
	struct cbor_writer w;

	cbor_writer_init(&w, out, size);
	cbor_write_map(&w, KEYS);
	cbor_write_uint(&w, KEY_KIND);
	cbor_write_string(&w, KIND);
	cbor_write_uint(&w, KEY_VERSION);
	cbor_write_uint(&w, VERSION);
	cbor_write_uint(&w, KEY_MADE);
	cbor_write_uint(&w, b->made);
	cbor_write_uint(&w, KEY_PATTERNS);
	cbor_write_array(&w, b->patterns_len);
	for (size_t i = 0; i < b->patterns_len; i++)
		cbor_write_text(&w, b->patterns[i]);
	cbor_write_uint(&w, KEY_FILES);
	cbor_write_array(&w, b->files_len);
	for (size_t i = 0; i < b->files_len; i++) {
		cbor_write_array(&w, 5);
		cbor_write_text(&w, b->files[i].path);
		cbor_write_bytes(&w, b->files[i].sha256);
		cbor_write_uint(&w, b->files[i].uid);
		cbor_write_uint(&w, b->files[i].gid);
		cbor_write_uint(&w, b->files[i].mode);
	}
	return w.overflow ? 0 : w.len;
}

enum reason
baseline_open(struct slice message, struct cose_key *key, struct baseline *out)
{
	uint8_t kid[KID_SIZE];
	struct cose_sign1 sign1;
	enum reason reason = message.len > LIMIT_BASELINE ? REASON_TOO_LARGE : cose_decode(message, &sign1);

	if (reason != REASON_OK)
		return reason;
	cose_key_kid(key, kid);
	if (sign1.kid.len != KID_SIZE || memcmp(sign1.kid.at, kid, KID_SIZE) != 0)
		return REASON_UNKNOWN_KEY;
	reason = cose_verify(&sign1, key, NULL);
	return reason == REASON_OK ? baseline_decode(sign1.payload, out) : reason;
}
