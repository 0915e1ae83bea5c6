#include "emitter/personal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
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

/* Words that name nobody, by fact: all others are hashed, those of a fact that is not here without exception. */
static const struct {
	enum fact fact;
	const char *words[16];
} public_words[] = {
	{FACT_CONFIGURATION_ADMINISTRATORS,
	 {"sudo", "doas", "polkit", "group", "for", "some", "commands", "without", "password"}},
	{FACT_ACCESS_SSH_MATCH,
	 {"user", "group", "host", "address", "localaddress", "localport", "rdomain", "tagged", "canonical", "final"}},
};

static bool
names_nobody(enum fact fact, struct slice word)
{
	for (size_t i = 0; i < sizeof public_words / sizeof public_words[0]; i++)
		for (size_t k = 0; public_words[i].fact == fact && k < 16 && public_words[i].words[k]; k++)
			if (strlen(public_words[i].words[k]) == word.len &&
			    strncasecmp(public_words[i].words[k], (const char *)word.at, word.len) == 0)
				return true;
	return false;
}

/* Whom a text is about ends with ": " where something is said of him: "user bob: maxauthtries 9". */
static size_t
about(struct slice text)
{
	for (size_t i = text.len; i > 1; i--)
		if (text.at[i - 2] == ':' && text.at[i - 1] == ' ')
			return i - 2;
	return text.len;
}

/* "alice sudo" as "hmac:0123456789abcdef sudo". What has no room is left out, a word as a whole. */
static void
veil(const struct personal *p, enum fact fact, struct slice text, char out[LIMIT_SENT_TEXT + 1])
{
	size_t end = fact == FACT_ACCESS_SSH_MATCH ? about(text) : text.len, len = 0, word;
	const size_t room = LIMIT_SENT_TEXT - (text.len - end);
	char hashed[PERSONAL_HASH];

	for (size_t at = 0; at < end; at += word + 1) {
		const uint8_t *blank = memchr(text.at + at, ' ', end - at);
		struct slice one = {text.at + at, blank ? (size_t)(blank - text.at) - at : end - at};

		word = one.len;
		if (word > 0 && !names_nobody(fact, one)) {
			hash(p, one, hashed);
			one = (struct slice){(const uint8_t *)hashed, strlen(hashed)};
		}
		if (len + (at > 0) + one.len > room)
			break;
		if (at > 0)
			out[len++] = ' ';
		memcpy(out + len, one.at, one.len);
		len += one.len;
	}
	memcpy(out + len, text.at + end, text.len - end);
	out[len + text.len - end] = '\0';
}

static void
veil_texts(const struct personal *p, const struct facts *facts, enum fact fact, struct facts *told)
{
	char text[LIMIT_SENT_TEXT + 1];
	struct slice one;
	size_t at = 0;

	facts_begin_list(told, fact);
	while (facts_next_text(facts, fact, &at, &one)) {
		veil(p, fact, one, text);
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
	char veiled[LIMIT_SENT_TEXT + 1];

	if (!facts_has(facts, fact) || (!text && !texts && strncmp(type, "LIST", 4) != 0))
		return;
	if (p->way == PERSONAL_OMITTED || (!text && !texts)) {
		leave_out(facts, fact, told);
	} else if (texts) {
		veil_texts(p, facts, fact, told);
	} else {
		const char *own = facts_text(facts, fact);

		veil(p, fact, (struct slice){(const uint8_t *)own, strlen(own)}, veiled);
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
