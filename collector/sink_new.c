#include "collector/sink_new.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/event_kind.h"
#include "collector/words.h"
#include "schema/topics.h"

static bool
is_name(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= 63 && name[0] != '-' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool
is_pem(const char *text, const char *what)
{
	return text == NULL || (strlen(text) <= VAULT_SECRET_MAX && strstr(text, what) != NULL);
}

/* Which one, counted from 1, there are no events of; 0: there are of all. */
static size_t
find_no_type(const char *types)
{
	struct slice word;

	if (types[0] == '\0')
		return 0;
	for (size_t n = 1; words_next(&types, &word); n++)
		if (!event_word_is(word))
			return n;
	return 0;
}

bool
sink_wish_ok(const struct sink_wish *w, char *why)
{
	const struct sink_kind *kind = sink_kind(w->kind);
	enum severity severity;
	size_t no_type = find_no_type(w->types);

#define WRONG(...) (snprintf(why, SINK_WHY_SIZE, __VA_ARGS__), false)
	if (!is_name(w->name))
		return WRONG("a sink's name is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit");
	if (kind == NULL)
		return WRONG("the kind is webhook or syslog");
	if (!kind->target_ok(w->target, why))
		return false;
	if (w->format != NULL && event_format(w->format) == NULL)
		return WRONG("the format is " EVENT_FORMATS);
	if (no_type > 0)
		return WRONG("types, number %zu: one of these:%s", no_type, event_words);
	if (!severity_parse((struct slice){(const uint8_t *)w->severity, strlen(w->severity)}, &severity))
		return WRONG("the severity is info, low, medium, high or critical");
	if (w->batch < 1 || w->batch > SINK_BATCH_MAX)
		return WRONG("the batch is a number from 1 to %d", SINK_BATCH_MAX);
	if ((w->certificate == NULL) != (w->key == NULL))
		return WRONG("certificate and key go together");
	if (kind->makes_secret ? w->certificate != NULL : w->secret != NULL)
		return WRONG("a %s has no %s", kind->name, kind->makes_secret ? "certificate" : "secret");
	if (!is_pem(w->ca, "BEGIN CERTIFICATE") || !is_pem(w->certificate, "BEGIN CERTIFICATE") ||
	    !is_pem(w->key, "PRIVATE KEY-----"))
		return WRONG("ca, certificate and key are in PEM");
	if (w->secret != NULL && (strlen(w->secret) < 16 || strlen(w->secret) > VAULT_SECRET_MAX))
		return WRONG("a secret has at least 16 characters");
	return true;
#undef WRONG
}

/* 256 random bits in hex. */
static bool
make_secret(char made[65])
{
	uint8_t bytes[32];

	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return false;
	hex_print(bytes, sizeof bytes, made);
	OPENSSL_cleanse(bytes, sizeof bytes);
	return true;
}

static bool
seal(const struct sink_wish *w, const struct vault_key *key, const char *text, struct sink_secret *secret)
{
	char binding[4096];
	size_t n = vault_binding(binding, sizeof binding, w->tenant, w->name, w->kind, w->target), len = strlen(text);

	secret->sealed = malloc(len + VAULT_OVERHEAD);
	if (n > 0 && secret->sealed != NULL)
		secret->len = vault_close(key, (struct slice){(uint8_t *)binding, n},
					  (struct slice){(const uint8_t *)text, len}, secret->sealed);
	return secret->len > 0;
}

bool
sink_wish_seal(const struct sink_wish *w, const struct vault_key *key, struct sink_secret *secret, char *why)
{
	const char *text = w->secret != NULL ? w->secret : w->key;

	*secret = (struct sink_secret){.len = 0};
	if (text == NULL && !sink_kind(w->kind)->makes_secret)
		return true;
	if (key == NULL) {
		snprintf(why, SINK_WHY_SIZE, "its secret can't be sealed: there is no secret_key");
		return false;
	}
	if (text == NULL && make_secret(secret->made))
		text = secret->made;
	if (text != NULL && seal(w, key, text, secret))
		return true;
	sink_secret_free(secret);
	snprintf(why, SINK_WHY_SIZE, "its secret can't be sealed");
	return false;
}

void
sink_secret_free(struct sink_secret *secret)
{
	OPENSSL_cleanse(secret->made, sizeof secret->made);
	free(secret->sealed);
	*secret = (struct sink_secret){.len = 0};
}
