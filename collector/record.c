#include "collector/record.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/claims.h"
#include "schema/facts.h"

#define SAMPLES_PER_SECOND 10 /* of one reason: enough to see what it is, too few to fill a disk */
#define SAMPLE_SIZE 4096

static bool
has_state(const struct message *m)
{
	return m->reason == REASON_OK && m->device != NULL && m->report.state.at != NULL;
}

static void
add_report(struct transaction *t, const struct message *m)
{
	bool full = report_has_sections(&m->report);
	struct rows *r = transaction_row(t, full ? ADD_FULL : ADD_QUIET);

	row_int(r, m->device->device_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_time(r, m->received_us);
	row_int(r, m->device->tenant_id);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->sha256, DIGEST_SIZE);
	row_int(r, (int64_t)m->flags);
	row_slice(r, m->bytes);
	if (full)
		row_int(r, (m->report.state.at != NULL ? 1 : 0) | (m->report.inventory.at != NULL ? 2 : 0) |
				   (m->report.events.at != NULL ? 4 : 0));
}

static void
add_drops(struct transaction *t, const struct docket *d, const struct account *a)
{
	for (size_t i = 0; i < a->drops.len; i++) {
		const struct ledger_drop *drop = &a->drops.at[i];
		struct rows *r = transaction_row(t, ADD_DROP);

		row_int(r, d->device->device_id);
		row_int(r, (int64_t)a->ledger.epoch);
		row_int(r, (int64_t)drop->range.first);
		row_int(r, (int64_t)drop->range.last);
		row_int(r, d->device->tenant_id);
		row_text(r, drop->cause == DROP_SKIPPED ? "skipped" : "overwritten");
		row_int(r, (int64_t)drop->declared_by);
	}
}

static void
add_hot(struct transaction *t, const struct docket *d)
{
	const struct ledger *l = &d->current->ledger;
	struct rows *r = transaction_row(t, MOVE_HOT);

	row_int(r, d->device->device_id);
	row_int(r, d->device->ledger.rev);
	row_int(r, (int64_t)l->epoch);
	row_int(r, (int64_t)l->hi);
	row_bytes(r, l->has_head ? l->head : NULL, DIGEST_SIZE);
	row_bytes(r, l->has_sections_head ? l->sections_head : NULL, DIGEST_SIZE);
	row_bytes(r, l->facts, FACTS_SIZE);
	row_time(r, l->last_seen_us);
	row_time(r, l->last_iat * 1000000);
	row_int(r, (int64_t)l->interval);
	row_int(r, l->missing_len > 0);
}

static void
add_epoch(struct transaction *t, const struct docket *d, const struct account *a)
{
	bool counted = a->duplicates + a->late + a->forks + a->chain_breaks > 0;
	struct rows *r;

	if (!a->fresh && !a->left && !counted && a->certified == 0 && (a == d->current || !a->changed))
		return;
	r = transaction_row(t, ADD_EPOCH);
	row_int(r, d->device->device_id);
	row_int(r, (int64_t)a->ledger.epoch);
	row_int(r, d->device->tenant_id);
	row_int(r, (int64_t)a->ledger.hi);
	row_time(r, a->fresh ? a->first_seen_us : d->messages[0]->received_us);
	if (a->certified != 0)
		row_time(r, a->certified * 1000000);
	else
		row_null(r);
	row_int(r, a->vouched);
	row_int(r, a->duplicates);
	row_int(r, a->late);
	row_int(r, a->forks);
	row_int(r, a->chain_breaks);
	if (a->fresh && a->vouched && a != d->accounts)
		row_int(transaction_row(t, SPEND_WORD), d->device->device_id);
}

static void
add_gap(struct transaction *t, enum write w, const struct docket *d, uint64_t epoch, struct seq_range range)
{
	struct rows *r = transaction_row(t, w);

	row_int(r, d->device->device_id);
	row_int(r, (int64_t)epoch);
	row_int(r, (int64_t)range.first);
	row_int(r, (int64_t)range.last);
	if (w == ADD_GAP)
		row_int(r, d->device->tenant_id);
}

static int
compare_ranges(const struct ledger *a, size_t i, const struct ledger *b, size_t k)
{
	if (i == a->missing_len || k == b->missing_len)
		return i == a->missing_len ? 1 : -1;
	if (a->missing[i].first != b->missing[k].first)
		return a->missing[i].first < b->missing[k].first ? -1 : 1;
	return a->missing[i].last < b->missing[k].last ? -1 : a->missing[i].last > b->missing[k].last;
}

/* Only the ranges that differ are written. Both lists ascend. */
static void
add_gaps(struct transaction *t, const struct docket *d, const struct account *a)
{
	const struct ledger *old = a->before, *now = &a->ledger;
	size_t i = 0, k = 0;

	while (i < old->missing_len || k < now->missing_len) {
		int order = compare_ranges(old, i, now, k);

		if (order < 0)
			add_gap(t, DELETE_GAP, d, now->epoch, old->missing[i++]);
		else if (order > 0)
			add_gap(t, ADD_GAP, d, now->epoch, now->missing[k++]);
		else
			i++, k++;
	}
}

static void
add_component(struct transaction *t, const struct message *m, const struct component *c, struct slice encoding)
{
	const struct slice parts[] = {c->name, c->version, c->architecture, c->source, c->source_version, c->purl};
	uint8_t digest[DIGEST_SIZE];
	struct rows *r = transaction_row(t, ADD_COMPONENT);

	sha256(encoding, digest);
	row_int(r, m->device->tenant_id);
	row_bytes(r, digest, DIGEST_SIZE);
	row_text(r, component_type_name(c->type));
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		row_slice(r, parts[i]);
	r = transaction_row(t, ADD_MEMBER);
	row_int(r, m->device->tenant_id);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_bytes(r, digest, DIGEST_SIZE);
}

static void
add_inventory(struct transaction *t, const struct message *m)
{
	struct rows *r = transaction_row(t, ADD_INVENTORY);
	struct cbor_reader reader;
	size_t n;

	row_int(r, m->device->tenant_id);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_int(r, (int64_t)m->report.components);
	cbor_reader_init(&reader, m->report.inventory);
	n = cbor_read_array(&reader, LIMIT_COMPONENTS);
	for (size_t i = 0; i < n && reader.error == REASON_OK; i++) {
		const uint8_t *at = reader.at;
		struct component c;

		component_decode(&reader, &c);
		if (reader.error == REASON_OK)
			add_component(t, m, &c, (struct slice){at, (size_t)(reader.at - at)});
	}
}

/* The set that another message of this batch brings is not written twice. */
static void
add_inventories(struct transaction *t, struct message **messages, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct message *m = messages[i];
		bool before = false;

		if (!has_state(m) || m->report.inventory.at == NULL || m->inventory_found || !message_is_stored(m))
			continue;
		for (size_t k = 0; k < i && !before; k++)
			before = has_state(messages[k]) && messages[k]->report.inventory.at != NULL &&
				 message_is_stored(messages[k]) &&
				 messages[k]->device->tenant_id == m->device->tenant_id &&
				 memcmp(messages[k]->report.inventory_digest, m->report.inventory_digest,
					DIGEST_SIZE) == 0;
		if (!before)
			add_inventory(t, m);
	}
}

static void
add_history(struct transaction *t, const struct message *m, const char *state)
{
	struct rows *r = transaction_row(t, ADD_HISTORY);

	row_int(r, m->device->device_id);
	row_time(r, m->received_us);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_int(r, m->device->tenant_id);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->report.state_digest, DIGEST_SIZE);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_text(r, state);
}

static void
add_state(struct transaction *t, const struct message *m, const char *state)
{
	struct rows *r = transaction_row(t, MOVE_STATE);

	row_int(r, m->device->device_id);
	row_int(r, m->device->tenant_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_time(r, m->received_us);
	row_time(r, (int64_t)m->report.iat * 1000000);
	row_bytes(r, m->report.state_digest, DIGEST_SIZE);
	row_bytes(r, m->report.inventory_digest, DIGEST_SIZE);
	row_text(r, state);
}

/* In the order of set_device's columns. */
static const enum fact device_facts[] = {FACT_DEVICE_SERIAL,    FACT_DEVICE_VENDOR, FACT_DEVICE_HWMODEL,
					 FACT_DEVICE_HWVERSION, FACT_DEVICE_OEMID,  FACT_DEVICE_SWNAME,
					 FACT_DEVICE_SWVERSION, FACT_OS_KERNEL};

static struct rows *
add_state_of(struct transaction *t, enum write w, const struct message *m)
{
	struct rows *r = transaction_row(t, w);

	row_int(r, m->device->device_id);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	return r;
}

static void
add_device(struct transaction *t, const struct message *m)
{
	struct rows *r = add_state_of(t, SET_DEVICE, m);

	for (size_t i = 0; i < sizeof device_facts / sizeof device_facts[0]; i++)
		row_slice(r, facts_find_text(m->report.state, device_facts[i]));
}

static char *
state_text(const struct message *m)
{
	json_t *json = facts_json(m->report.state, m->report.readings);
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);

	json_decref(json);
	return text;
}

/* The states of one device in its current epoch: the database makes history of those that changed. The newest is the device's state. -1 when memory
   ran out. */
static int
add_states(struct transaction *t, const struct docket *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct message *m = d->messages[i];
		char *text;

		if (d->current == NULL || !has_state(m) || !message_is_stored(m) || m->verdict > LEDGER_DUPLICATE ||
		    m->report.epoch != d->current->ledger.epoch)
			continue;
		text = state_text(m);
		if (text == NULL)
			return -1;
		row_int(transaction_row(t, LOCK_PERSONAL), m->device->tenant_id);
		add_history(t, m, text);
		if (m == d->current->state) {
			add_state(t, m, text);
			add_device(t, m);
			add_state_of(t, JUDGE_STATE, m);
			row_int(transaction_row(t, LOCK_VERDICT), m->device->device_id);
		}
		free(text);
	}
	return 0;
}

/* Takes the data over: what is added to it is where the signed words are. -1 when memory ran out. */
static int
add_event(struct transaction *t, const struct message *m, const char *type, json_t *data)
{
	struct rows *r;
	char *text = NULL;

	if (json_object_set_new(data, "epoch", claim_json_epoch(m->report.epoch)) == 0 &&
	    json_object_set_new(data, "seq", json_integer((json_int_t)m->report.seq)) == 0 &&
	    json_object_set_new(data, "sha256", claim_json_hex(m->sha256, DIGEST_SIZE)) == 0)
		text = json_dumps(data, JSON_COMPACT);
	json_decref(data);
	if (text == NULL)
		return -1;
	r = transaction_row(t, ADD_EVENT);
	row_int(r, m->device->tenant_id);
	row_text(r, type);
	row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_text(r, text);
	free(text);
	return 0;
}

/* Where a device stands in its reports is told with each of them; that it began an epoch, or is to be heard at another interval, is news. To a tenant that
   never heard it, all that it tells is. */
static int
add_beginning(struct transaction *t, const struct docket *d)
{
	const struct ledger *before = &d->device->ledger, *now = &d->current->ledger;
	bool first = before->last_seen_us == 0 || before->epoch != now->epoch;
	const struct message *m = NULL;

	if (!first && before->interval == now->interval)
		return 0;
	for (size_t i = 0; i < d->n; i++)
		if (message_is_stored(d->messages[i]) && (m == NULL || (d->messages[i]->verdict == LEDGER_NEW &&
									d->messages[i]->report.epoch == now->epoch)))
			m = d->messages[i];
	return m == NULL ? 0
			 : add_event(t, m, first ? "device.epoch" : "device.interval",
				     json_pack("{s:I}", "interval_s", (json_int_t)now->interval));
}

/* What the device says happened on it. A kind that we do not know goes by its number. */
static int
add_device_event(struct transaction *t, const struct message *m, const struct event *event)
{
	json_t *data = event_json(event);
	char type[64];

	if (data == NULL)
		return -1;
	snprintf(type, sizeof type, "device.event.%s", json_string_value(json_object_get(data, "kind")));
	return add_event(t, m, type, data);
}

static int
add_device_events(struct transaction *t, const struct message *m)
{
	struct cbor_reader reader;
	size_t n;

	if (m->report.events.at == NULL || m->verdict > LEDGER_LATE || (m->flags & REPORT_PENDING) != 0)
		return 0;
	row_int(transaction_row(t, LOCK_PERSONAL), m->device->tenant_id);
	cbor_reader_init(&reader, m->report.events);
	n = cbor_read_array(&reader, LIMIT_EVENTS);
	for (size_t i = 0; i < n; i++) {
		struct event event;

		event_decode(&reader, &event);
		if (add_device_event(t, m, &event) < 0)
			return -1;
	}
	return 0;
}

/* A built-in policy: whether the device violates it. */
static void
add_mark(struct transaction *t, const struct device *device, const char *policy, bool violated)
{
	struct rows *r = transaction_row(t, MARK_DEVICE);

	row_int(transaction_row(t, LOCK_VERDICT), device->device_id);
	row_int(r, device->device_id);
	row_text(r, policy);
	row_text(r, violated ? "1" : "0");
}

/* Only a report that stands in the device's own ledger can prove anything. */
static void
add_answer(struct transaction *t, const struct message *m)
{
	struct rows *r;

	if (m->report.nonce.at == NULL || m->verdict > LEDGER_LATE)
		return;
	row_int(transaction_row(t, LOCK_VERDICT), m->device->device_id);
	r = transaction_row(t, ANSWER_CHALLENGE);
	row_int(r, m->device->device_id);
	row_int(r, m->device->tenant_id);
	row_slice(r, m->report.nonce);
	row_int(r, (int64_t)m->report.epoch);
	row_int(r, (int64_t)m->report.seq);
	row_bytes(r, m->sha256, DIGEST_SIZE);
}

/* One event a batch is enough to say that a key is in two places. */
static int
add_distrust(struct transaction *t, const struct docket *d)
{
	if (!d->fork && !d->second_epoch)
		return 0;
	add_mark(t, d->device, d->fork ? "fork" : "second-epoch", true);
	for (size_t i = 0; i < d->n; i++)
		if (d->messages[i]->reason == REASON_OK && d->messages[i]->verdict > LEDGER_DUPLICATE)
			return add_event(t, d->messages[i], d->fork ? "device.fork" : "device.second-epoch",
					 json_object());
	return 0;
}

static int
add_docket(struct transaction *t, const struct docket *d)
{
	for (const struct account *a = d->accounts; a != NULL; a = a->next) {
		add_epoch(t, d, a);
		add_gaps(t, d, a);
		add_drops(t, d, a);
	}
	if (d->stored == 0)
		return 0;
	/* A device whose only reports are of an epoch nobody vouched for has no ledger to move. */
	if (d->current != NULL) {
		add_hot(t, d);
		if (add_beginning(t, d) < 0)
			return -1;
	}
	for (size_t i = 0; i < d->n; i++)
		if (message_is_stored(d->messages[i])) {
			add_report(t, d->messages[i]);
			add_answer(t, d->messages[i]);
			if (add_device_events(t, d->messages[i]) < 0)
				return -1;
		}
	if (d->was_away)
		add_mark(t, d->device, "silent", false);
	return add_distrust(t, d) < 0 ? -1 : add_states(t, d);
}

/* Samples are few, counts are exact. */
static bool
may_sample(struct sampler *s, enum reason reason)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (s->of[reason].second != now.tv_sec) {
		s->of[reason].second = now.tv_sec;
		s->of[reason].n = 0;
	}
	return s->of[reason].n++ < SAMPLES_PER_SECOND;
}

/* Of a name that somebody registered, and that no key has shown to be a device of theirs, what comes may be another tenant's to read. */
static bool
is_tenants(const struct message *m)
{
	return m->device != NULL && m->device->keys->len > 0 && m->reason != REASON_UEID_OWNED_ELSEWHERE;
}

static void
add_sample(struct transaction *t, const struct message *m)
{
	struct rows *r = transaction_row(t, ADD_REFUSAL);
	uint8_t digest[DIGEST_SIZE];

	sha256(m->bytes, digest);
	row_time(r, m->received_us);
	if (is_tenants(m)) {
		row_int(r, m->device->tenant_id);
		row_int(r, m->device->device_id);
	} else {
		row_null(r);
		row_null(r);
	}
	if (m->reason == REASON_TOPIC_MALFORMED)
		row_null(r);
	else
		row_bytes(r, m->ueid.bytes, UEID_SIZE);
	row_text(r, reason_name(m->reason));
	row_int(r, (int64_t)m->bytes.len);
	row_bytes(r, digest, DIGEST_SIZE);
	/* What a device that was deleted goes on telling is not taken in by this way either. */
	if (m->reason == REASON_DEVICE_DELETED)
		row_bytes(r, m->bytes.at, 0);
	else
		row_bytes(r, m->bytes.at, m->bytes.len < SAMPLE_SIZE ? m->bytes.len : SAMPLE_SIZE);
}

static void
add_refusal(struct transaction *t, const struct message *m, struct sampler *sampler)
{
	if (m->device != NULL) {
		struct rows *r = transaction_row(t, COUNT_REFUSAL);

		row_int(r, m->device->device_id);
		row_text(r, reason_name(m->reason));
		row_int(r, m->device->tenant_id);
		if (m->reason == REASON_KEY_REVOKED || m->reason == REASON_KEY_RETIRED)
			add_mark(t, m->device, "revoked-key", true);
		if (m->reason == REASON_BAD_SIGNATURE)
			add_mark(t, m->device, "verification", true);
	}
	if (may_sample(sampler, m->reason))
		add_sample(t, m);
}

int
record(struct transaction *t, const struct judge *judge, struct message **messages, size_t n, struct sampler *sampler)
{
	for (size_t i = 0; i < judge->dockets_n; i++)
		if (add_docket(t, &judge->dockets[i]) < 0)
			return -1;
	add_inventories(t, messages, n);
	for (size_t i = 0; i < n; i++)
		if (messages[i]->reason != REASON_OK)
			add_refusal(t, messages[i], sampler);
	return 0;
}
