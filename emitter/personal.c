#include "emitter/personal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "emitter/durable.h"
#include "schema/limits.h"
#include "schema/topics.h"

#define SECRET_FILE "personal"

/* ---- the secret ---- */

static int
make_secret(struct personal *p, int dir)
{
	if (RAND_bytes(p->secret, sizeof p->secret) != 1) {
		errno = EIO;
		return -1;
	}
	return dir < 0 ? 0 : durable_write(dir, SECRET_FILE, (struct slice){p->secret, sizeof p->secret}, true);
}

/* A secret of another length is none: another one would make every name look new, so that somebody has to decide it. */
static int
read_secret(struct personal *p, int dir)
{
	ssize_t len = durable_read(dir, SECRET_FILE, p->secret, sizeof p->secret);

	if (len < 0 && errno == ENOENT)
		return make_secret(p, dir);
	if (len >= 0 && len != PERSONAL_SECRET)
		errno = EBADMSG;
	return len == PERSONAL_SECRET ? 0 : -1;
}

int
personal_open(struct personal *p, const char *way, const char *state_dir, char *error)
{
	int dir, rc;

	memset(p, 0, sizeof *p);
	p->way = strcmp(way, "hash") == 0   ? PERSONAL_HASHED
		 : strcmp(way, "omit") == 0 ? PERSONAL_OMITTED
					    : PERSONAL_KEEP;
	if (p->way != PERSONAL_HASHED)
		return 0;
	if (!state_dir)
		return make_secret(p, -1);
	dir = durable_directory(AT_FDCWD, state_dir, error);
	if (dir < 0)
		return -1;
	rc = read_secret(p, dir);
	if (rc != 0)
		snprintf(error, ERROR_SIZE, "%.120s/" SECRET_FILE ", the secret that hides names: %s", state_dir,
			 strerror(errno));
	close(dir);
	return rc;
}

/* ---- one name ---- */

static void
hash(const struct personal *p, struct slice name, char out[PERSONAL_HASH])
{
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	unsigned len;

	(void)HMAC(EVP_sha256(), p->secret, PERSONAL_SECRET, name.at, name.len, digest, &len);
	memcpy(out, "hmac:", 5);
	hex_print(digest, (PERSONAL_HASH - 6) / 2, out + 5);
}

const char *
personal_text(const struct personal *p, const char *text, char out[PERSONAL_HASH])
{
	if (p->way == PERSONAL_KEEP)
		return text;
	if (p->way == PERSONAL_OMITTED)
		return NULL;
	hash(p, (struct slice){(const uint8_t *)text, strlen(text)}, out);
	return out;
}

/* ---- all facts ---- */

/* "alice sudo" as "hmac:0123456789abcdef sudo". */
static void
veil(const struct personal *p, struct slice text, char out[LIMIT_TEXT + PERSONAL_HASH])
{
	const uint8_t *blank = memchr(text.at, ' ', text.len);
	size_t name = blank ? (size_t)(blank - text.at) : text.len;
	char hashed[PERSONAL_HASH];

	hash(p, (struct slice){text.at, name}, hashed);
	snprintf(out, LIMIT_TEXT + PERSONAL_HASH, "%s%.*s", hashed, (int)(text.len - name),
		 (const char *)text.at + name);
}

static void
veil_texts(const struct personal *p, const struct facts *facts, enum fact fact, struct facts *told)
{
	char text[LIMIT_TEXT + PERSONAL_HASH];
	struct slice one;
	size_t at = 0;

	facts_begin_list(told, fact);
	while (facts_next_text(facts, fact, &at, &one)) {
		veil(p, one, text);
		facts_add_text(told, fact, text);
	}
}

static void
leave_out(const struct facts *facts, enum fact fact, struct facts *told)
{
	char why[64] = "personal: left out";

	if (strcmp(fact_row(fact)->type, "TEXT") != 0)
		snprintf(why, sizeof why, "personal: left out, %zu of them", facts_count(facts, fact));
	facts_unknown(told, fact, why);
}

/* Numbers and flags name nobody. A list of records can't be veiled field by field, so it is left out. */
static void
apply(const struct personal *p, const struct facts *facts, enum fact fact, struct facts *told)
{
	const char *type = fact_row(fact)->type;
	bool text = strcmp(type, "TEXT") == 0, texts = strcmp(type, "TEXTS") == 0;
	char veiled[LIMIT_TEXT + PERSONAL_HASH];

	if (!facts_has(facts, fact) || (!text && !texts && strncmp(type, "LIST", 4) != 0))
		return;
	if (p->way == PERSONAL_OMITTED || (!text && !texts)) {
		leave_out(facts, fact, told);
	} else if (texts) {
		veil_texts(p, facts, fact, told);
	} else {
		const char *own = facts_text(facts, fact);

		veil(p, (struct slice){(const uint8_t *)own, strlen(own)}, veiled);
		facts_set_text(told, fact, veiled);
	}
}

int
personal_apply(const struct personal *p, const struct facts *facts, struct facts *told)
{
	if (facts_copy(told, facts) != 0)
		return -1;
	for (unsigned fact = 0; fact < FACTS && p->way != PERSONAL_KEEP; fact++)
		if (fact_row((enum fact)fact)->personal)
			apply(p, facts, (enum fact)fact, told);
	return 0;
}
