#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "schema/facts_table.h"
#include "schema/limits.h"

static int
compare(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void
write_list(struct cbor_writer *w, const struct value *value)
{
	struct slice items[LIMIT_SOCKETS];
	struct cbor_reader r;

	cbor_reader_init(&r, (struct slice){value->encoded.at, value->encoded.len});
	for (size_t i = 0; i < value->items; i++)
		items[i] = cbor_read_item(&r, LIMIT_DEPTH);
	assert(r.error == REASON_OK);
	qsort(items, value->items, sizeof items[0], compare);
	cbor_write_array(w, value->items);
	for (size_t i = 0; i < value->items; i++)
		cbor_write_encoded(w, items[i]);
}

static bool
in_section(const struct facts *facts, size_t fact, size_t topic, bool is_volatile)
{
	return fact_rows[fact].topic == topic && fact_rows[fact].told.is_volatile == is_volatile &&
	       facts->values[fact].known;
}

static size_t
known_in(const struct facts *facts, size_t topic, bool is_volatile)
{
	size_t n = 0;

	for (size_t i = 0; i < FACTS; i++)
		n += in_section(facts, i, topic, is_volatile);
	return n;
}

static size_t
topics_in(const struct facts *facts, bool is_volatile)
{
	size_t n = 0;

	for (size_t topic = 0; topic < TOPICS; topic++)
		n += known_in(facts, topic, is_volatile) > 0;
	return n;
}

static void
write_topic(const struct facts *facts, size_t topic, bool is_volatile, struct cbor_writer *w)
{
	size_t known = known_in(facts, topic, is_volatile);

	if (known == 0)
		return;
	cbor_write_uint(w, fact_topics[topic].key);
	cbor_write_map(w, known);
	for (size_t i = 0; i < FACTS; i++) {
		const struct value *value = &facts->values[i];

		if (!in_section(facts, i, topic, is_volatile))
			continue;
		cbor_write_uint(w, fact_rows[i].told.key);
		if (fact_is_list((enum fact)i))
			write_list(w, value);
		else
			cbor_write_encoded(w, (struct slice){value->encoded.at, value->encoded.len});
	}
}

static uint64_t
unknown_key(size_t fact)
{
	return fact_rows[fact].told.topic_key * 256u + fact_rows[fact].told.key;
}

static void
write_unknown(const struct facts *facts, size_t unknown, struct cbor_writer *w)
{
	cbor_write_uint(w, UNKNOWN_KEY);
	cbor_write_map(w, unknown);
	for (size_t i = 0; i < FACTS; i++) {
		if (!facts->values[i].why)
			continue;
		cbor_write_uint(w, unknown_key(i));
		cbor_write_string(w, facts->values[i].why);
	}
}

void
facts_encode_state(const struct facts *facts, struct cbor_writer *w)
{
	size_t unknown = 0;

	for (size_t i = 0; i < FACTS; i++)
		unknown += facts->values[i].why != NULL;
	cbor_write_map(w, topics_in(facts, false) + (unknown > 0));
	if (unknown > 0)
		write_unknown(facts, unknown, w);
	for (size_t topic = 0; topic < TOPICS; topic++)
		write_topic(facts, topic, false, w);
}

bool
facts_encode_readings(const struct facts *facts, struct cbor_writer *w)
{
	size_t n = topics_in(facts, true);

	if (n == 0)
		return false;
	cbor_write_map(w, n);
	for (size_t topic = 0; topic < TOPICS; topic++)
		write_topic(facts, topic, true, w);
	return true;
}
