/*
 * The table of facts.def as C sees it: for the files that write and read facts, and nobody else.
 */
#ifndef FLEETSTATE_FACTS_TABLE_H
#define FLEETSTATE_FACTS_TABLE_H

#include "schema/facts.h"

#define UNKNOWN_KEY 0	/* in a state: what is not known, and why */
#define MAC_SIZE 6
#define IPV4_SIZE 4
#define IPV6_SIZE 16

enum topic {
#define TOPIC(symbol, key, json) TOPIC_##symbol,
#include "schema/facts.def"
	TOPICS
};

enum record {
	RECORD_NONE,
#define RECORD(symbol) RECORD_##symbol,
#include "schema/facts.def"
};

enum fact_kind { KIND_BOOL, KIND_UINT, KIND_INT, KIND_NUMBER, KIND_TEXT, KIND_TEXTS, KIND_ROWS, KIND_STATUS };
enum field_type { TYPE_TEXT, TYPE_BOOL, TYPE_UINT, TYPE_MAC, TYPE_IP };

struct topic_row {
	unsigned key;
	const char *name;
};

struct field_row {
	enum record record;
	const char *name;
	enum field_type type;
};

struct row {
	struct fact_row told;
	enum topic topic;
	enum fact_kind kind;
	enum record record;	/* of KIND_ROWS */
};

/* Topics and facts stand in the order of their keys, so that walking the table writes a map in its order. */
extern const struct topic_row fact_topics[TOPICS];
extern const struct row fact_rows[FACTS];

bool fact_is_list(enum fact);
const struct field_row *record_fields(enum record, size_t *n);	/* of a list's rows, and how many */

/*
 * What a probe found. Each value is kept as it will be encoded; a list as its items one after the other.
 */
struct buffer {
	uint8_t *at;
	size_t len, size;
};

struct value {
	bool known;
	size_t items; /* of a list */
	const char *why; /* it is unknown, or not wholly known; a literal or text.at */
	struct buffer encoded, text;
};

struct facts {
	struct value values[FACTS];
};

#endif
