#include "schema/facts_table.h"

#include <assert.h>

#include "schema/limits.h"

#define TOPIC(symbol, key, json)                                                                                       \
	enum { KEY_##symbol = key };                                                                                   \
	static const char NAME_##symbol[] = json;
#include "schema/facts.def"

const struct topic_row fact_topics[TOPICS] = {
#define TOPIC(symbol, key, json) {KEY_##symbol, NAME_##symbol},
#include "schema/facts.def"
};

static const struct field_row fields[] = {
#define FIELD(record, json, type) {RECORD_##record, json, TYPE_##type},
#include "schema/facts.def"
};
#define FIELDS (sizeof fields / sizeof fields[0])

const struct row fact_rows[FACTS] = {
#define KIND_LIST(record) KIND_ROWS, RECORD_##record
#define FACT(topic, symbol, key, json, type, unit, element, is_volatile, personal, help)                               \
	{{NAME_##topic, json, #type, unit, element, help, KEY_##topic, key, is_volatile, personal},                    \
	 TOPIC_##topic,                                                                                                \
	 .kind = KIND_##type},
#include "schema/facts.def"
};

_Static_assert(FACTS <= LIMIT_UNKNOWN, "all facts may be unknown at once");

const char *
status_name(enum status status)
{
	static const char *const names[STATUSES] = {
		"unknown", "not-supported", "off", "in-effect", "weak", "probe-error", "not-applicable", "declared",
	};

	assert(status < STATUSES);
	return names[status];
}

const struct fact_row *
fact_row(enum fact fact)
{
	assert(fact < FACTS);
	return &fact_rows[fact].told;
}

bool
fact_is_list(enum fact fact)
{
	return fact_rows[fact].kind == KIND_TEXTS || fact_rows[fact].kind == KIND_ROWS;
}

const struct field_row *
record_fields(enum record record, size_t *n)
{
	size_t first = 0;

	while (fields[first].record != record)
		first++;
	*n = 0;
	while (first + *n < FIELDS && fields[first + *n].record == record)
		++*n;
	return &fields[first];
}
