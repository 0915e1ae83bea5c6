/*
 * Facts: what a probe found, on the device; and their two encodings, CBOR in the report and JSON everywhere else. The table is facts.def.
 */
#ifndef FLEETSTATE_FACTS_H
#define FLEETSTATE_FACTS_H

#include <jansson.h>
#include <stdbool.h>

#include "schema/cbor.h"
#include "schema/reason.h"
#include "schema/slice.h"

enum fact {
#define FACT(topic, symbol, key, json, type, unit, element, is_volatile, personal, help) FACT_##topic##_##symbol,
#include "schema/facts.def"
	FACTS
};

/* A row of a list: as many fields as its RECORD has, NULL text for a field not known. MAC: 6 bytes, IP: 4 or 16. */
struct fact_field {
	enum { FIELD_ABSENT, FIELD_BOOL, FIELD_UINT, FIELD_TEXT, FIELD_BYTES } kind;
	bool flag;
	uint64_t number;
	struct slice bytes;	/* text or bytes; copied by facts_add_row */
};

/* How a key element of NISTIR 8259 Table 1 is met, as the device sees it. Numbers as in report.cddl. */
enum status {
	STATUS_UNKNOWN,
	STATUS_NOT_SUPPORTED,
	STATUS_OFF,		/* supported, but off */
	STATUS_IN_EFFECT,
	STATUS_WEAK,		/* on, and below what it should be */
	STATUS_PROBE_ERROR,
	STATUS_NOT_APPLICABLE,
	STATUS_DECLARED,	/* by the manufacturer, not observed */
	STATUSES
};
const char *status_name(enum status);	/* "in-effect" */

struct facts;

struct facts *facts_new(void);
void facts_free(struct facts *);	/* NULL is fine */
void facts_clear(struct facts *);	/* forgets all, keeps the memory */

/* Each replaces what was known of that fact. Texts are copied, cut at LIMIT_SENT_TEXT (in lists LIMIT_TEXT, reasons LIMIT_SENT_WHY) on a character's border; bytes that are not UTF-8 and
   control characters become U+FFFD. Using the wrong type for a fact is a bug and asserts. */
void facts_set_bool(struct facts *, enum fact, bool);
void facts_set_uint(struct facts *, enum fact, uint64_t);
void facts_set_number(struct facts *, enum fact, double);
void facts_set_text(struct facts *, enum fact, const char *);
void facts_set_textn(struct facts *, enum fact, struct slice);
void facts_set_status(struct facts *, enum fact, enum status, const char *why);	/* why: "" when there is nothing to say */
/* TEXTS and LIST facts: begin, then add. Rows beyond LIMIT_SOCKETS or LIMIT_LISTS are dropped and make the fact's rest known as unknown ("more
   than 512").
   The encoder sorts lists bytewise, so that the order of discovery never changes the digest. */
void facts_begin_list(struct facts *, enum fact);
void facts_add_text(struct facts *, enum fact, const char *);
void facts_add_row(struct facts *, enum fact, const struct fact_field *fields, size_t n);
/* Not known, and why: "no efivars". Takes the value away. */
void facts_unknown(struct facts *, enum fact, const char *why) ;
bool facts_has(const struct facts *, enum fact);
/* Why it is unknown, or not wholly known: "more than 512". NULL: it is. */
const char *facts_why(const struct facts *, enum fact);
/* Each false, or NULL, or 0, when it is not known; good until the fact is set again. */
bool facts_bool(const struct facts *, enum fact, bool *) WARN_UNUSED;
bool facts_number(const struct facts *, enum fact, double *) WARN_UNUSED;	/* UINT and NUMBER */
const char *facts_text(const struct facts *, enum fact);
size_t facts_count(const struct facts *, enum fact);	/* of TEXTS or LIST */
bool facts_next_text(const struct facts *, enum fact, size_t *at, struct slice *text) WARN_UNUSED;	/* of TEXTS, in the order of adding; begin with *at = 0 */
struct slice facts_rows(const struct facts *, enum fact);	/* of LIST: facts_count encoded rows, in the order of adding */
bool facts_status(const struct facts *, enum fact, enum status *, struct slice *why) WARN_UNUSED;
/* Makes `to` what `from` is. -1: memory ran out; what did not fit is unknown. */
int facts_copy(struct facts *to, const struct facts *from) WARN_UNUSED;

/* A text as we send one, in `out`, at most `max` bytes long. */
struct slice facts_clean(struct slice text, uint8_t *out, size_t max);

/* Write the `state` and `readings` maps of report.cddl. readings writes nothing and returns false when there are none. */
void facts_encode_state(const struct facts *, struct cbor_writer *);
bool facts_encode_readings(const struct facts *, struct cbor_writer *);

/* Check a section against the table while reading it: known facts have their type, unknown ones are well formed and skipped. */
void facts_check_state(struct cbor_reader *);
void facts_check_readings(struct cbor_reader *);

/* The state document that policies, the API and people see: {"boot": {"secure": true}, "unknown": {"boot.lockdown": "..."}}.
   Both slices must have passed their check; readings may be absent. Returns a new reference, NULL if memory ran out. */
json_t *facts_json(struct slice state, struct slice readings);
/* One text fact out of a checked state section; absent slice if not there. */
struct slice facts_find_text(struct slice state, enum fact);

/* The table, for documentation and tests. */
struct fact_row {
	const char *topic, *name, *type, *unit, *element, *help;
	unsigned topic_key, key;
	bool is_volatile, personal;
};
const struct fact_row *fact_row(enum fact);

#endif
