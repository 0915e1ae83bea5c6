#include "emitter/compose.h"

#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)
#define HOUR_MS INT64_C(3600000)
#define UNHEARD_MAX 64 /* reports without a receipt: a connection that is lost has all of them sent again */
#define ANSWER_MS 10000 /* an answer is on its way for so long */

/* Runs an encoder twice: to measure, and to write. */
static uint8_t *
encode_section(const struct facts *facts, bool (*encode)(const struct facts *, struct cbor_writer *), struct slice *out)
{
	struct cbor_writer w;
	cbor_writer_init(&w, NULL, 0);
	*out = (struct slice){NULL, 0};
	if (!encode(facts, &w))
		return NULL;
	size_t len = w.len;
	uint8_t *bytes = malloc(len);
	if (bytes == NULL)
		return NULL;
	cbor_writer_init(&w, bytes, len);
	(void)encode(facts, &w);
	*out = (struct slice){bytes, len};
	return bytes;
}

static bool
encode_state(const struct facts *facts, struct cbor_writer *w)
{
	facts_encode_state(facts, w);
	return true;
}

static bool
state_is_news(const struct composer *c, const uint8_t digest[DIGEST_SIZE], int64_t now)
{
	return !c->told || memcmp(digest, c->state_digest, DIGEST_SIZE) != 0 || now - c->told_at >= DAY_MS ||
	       (c->wants & (WANT_STATE | WANT_INVENTORY)) != 0;
}

static void
add_sections(const struct composer *c, const struct facts *facts, const struct inventory *inventory,
	     struct composed *out)
{
	struct slice readings;
	out->readings = encode_section(facts, facts_encode_readings, &readings);
	out->report.readings = readings;
	memcpy(out->report.inventory_digest, inventory->digest, DIGEST_SIZE);
	if (c->wants & WANT_INVENTORY) {
		out->report.inventory = (struct slice){inventory->encoded, inventory->len};
		out->report.components = inventory->components;
	}
}

int
compose(const struct composer *c, const struct facts *facts, const struct inventory *inventory, uint32_t interval,
	int64_t now, uint64_t wall, struct composed *out)
{
	memset(out, 0, sizeof *out);
	struct slice state;
	out->state = encode_section(facts, encode_state, &state);
	if (out->state == NULL)
		return -1;
	sha256(state, out->state_digest);
	struct report *r = &out->report;
	report_facts_digest(out->state_digest, inventory->digest, r->facts);
	r->iat = wall;
	r->interval = interval;
	if (c->nonce_len > 0)
		r->nonce = (struct slice){c->nonce, c->nonce_len};
	bool news = state_is_news(c, out->state_digest, now);
	if (news) {
		r->state = state;
		add_sections(c, facts, inventory, out);
	}
	/* Quiet reports cost the collector a receipt only about hourly. Nobody who is away is asked each time. */
	r->receipt = news || r->nonce.at != NULL || !c->heard || now - c->heard_at >= HOUR_MS ||
		     c->unheard % UNHEARD_MAX == UNHEARD_MAX - 1;
	return 0;
}

void
composed_free(struct composed *composed)
{
	free(composed->state);
	free(composed->readings);
	composed->state = composed->readings = NULL;
}

void
composer_told(struct composer *c, const struct composed *composed, bool with_chain, int64_t now)
{
	const struct report *r = &composed->report;
	unsigned answers = with_chain ? WANT_CHAIN : 0;
	c->unheard++;
	if (r->state.at != NULL) {
		c->told = true;
		c->told_at = now;
		memcpy(c->state_digest, composed->state_digest, DIGEST_SIZE);
		answers |= WANT_STATE;
	}
	if (r->inventory.at != NULL)
		answers |= WANT_INVENTORY;
	if (c->wants & answers) {
		c->answered = answers;
		c->answered_seq = r->seq;
		c->answered_at = now;
	}
	c->wants &= ~answers;
	if (r->nonce.at != NULL) {
		memcpy(c->nonce_told, c->nonce, c->nonce_len);
		c->nonce_told_len = c->nonce_len;
		c->nonce_len = 0;
	}
}

/* One at a time: a later one takes the place of one that waits. */
static void
hear_nonce(struct composer *c, struct slice nonce)
{
	if (nonce.at == NULL || nonce.len > sizeof c->nonce ||
	    (nonce.len == c->nonce_told_len && memcmp(nonce.at, c->nonce_told, nonce.len) == 0))
		return;
	memcpy(c->nonce, nonce.at, nonce.len);
	c->nonce_len = nonce.len;
}

bool
composer_heard(struct composer *c, const struct receipt *receipt, int64_t now)
{
	unsigned wants = receipt->wants;
	if (receipt->up_to < c->answered_seq && now - c->answered_at < ANSWER_MS)
		wants &= ~c->answered;
	c->heard = true;
	c->heard_at = now;
	c->unheard = 0;
	c->wants |= wants;
	hear_nonce(c, receipt->nonce);
	return c->wants != 0 || c->nonce_len != 0;
}
