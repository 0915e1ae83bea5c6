#include "schema/report.h"

#include <assert.h>
#include <string.h>

#include "schema/claims.h"
#include "schema/facts.h"

#define META_ITEMS 6
#define DROPPED_ITEMS 3
#define COMPONENT_ITEMS 7

/* What was read since `from`. */
static struct slice
since(const struct cbor_reader *r, const uint8_t *from)
{
	return (struct slice){from, (size_t)(r->at - from)};
}

/*
 * The claims, one pair of functions each, in the order of report.cddl.
 */
static void
read_iat(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	report->iat = cbor_read_uint_max(r, 0, LIMIT_IAT);
}

static void
write_iat(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_uint(w, report->iat);
}

static void
read_nonce(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	report->nonce = claim_read_nonce(r);
}

static bool
has_nonce(const void *message)
{
	const struct report *report = message;

	return report->nonce.at;
}

static void
write_nonce(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_bytes(w, report->nonce);
}

static void
read_ueid(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	claim_read_ueid(r, &report->ueid);
}

static void
write_ueid(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_bytes(w, (struct slice){report->ueid.bytes, UEID_SIZE});
}

static void
read_bootcount(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	report->bootcount = cbor_read_uint_max(r, 0, INT64_MAX);
}

static void
write_bootcount(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_uint(w, report->bootcount);
}

static void
read_state(struct cbor_reader *r, void *message)
{
	struct report *report = message;
	const uint8_t *from = r->at;

	facts_check_state(r);
	report->state = since(r, from);
	if (report->state.len > LIMIT_STATE)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
}

static bool
has_state(const void *message)
{
	const struct report *report = message;

	return report->state.at;
}

static void
write_state(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_encoded(w, report->state);
}

static void
read_meta(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	if (cbor_read_array(r, SIZE_MAX) != META_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	report->seq = cbor_read_uint_max(r, 1, LIMIT_SEQ);
	report->epoch = claim_read_epoch(r);
	report->has_prev = claim_read_digest(r, report->prev);
	if (report->has_prev && report->seq == 1)
		cbor_fail(r, REASON_CLAIM_INVALID); /* nothing comes before an epoch's first */
	cbor_read_bytes_exact(r, report->facts, FACTS_SIZE);
	report->interval = (uint32_t)cbor_read_uint_max(r, LIMIT_INTERVAL_MIN, LIMIT_INTERVAL);
	report->receipt = cbor_read_bool(r);
}

static void
write_meta(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_array(w, META_ITEMS);
	cbor_write_uint(w, report->seq);
	claim_write_epoch(w, report->epoch);
	claim_write_digest(w, report->has_prev, report->prev);
	cbor_write_bytes(w, (struct slice){report->facts, FACTS_SIZE});
	cbor_write_uint(w, report->interval);
	cbor_write_bool(w, report->receipt);
}

/* A set has one order, and each of its members once. */
static void
check_follows(struct cbor_reader *r, struct slice before, struct slice component)
{
	size_t shorter = before.len < component.len ? before.len : component.len;
	int order = shorter > 0 ? memcmp(before.at, component.at, shorter) : -1;

	if (order == 0 && before.len == component.len)
		cbor_fail(r, REASON_DUPLICATE_KEY);
	else if (order > 0 || (order == 0 && before.len > component.len))
		cbor_fail(r, REASON_NON_CANONICAL);
}

static size_t
check_components(struct cbor_reader *r)
{
	size_t n = cbor_read_array(r, LIMIT_COMPONENTS);
	struct slice before = {NULL, 0};

	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		const uint8_t *from = r->at;
		struct component component;

		component_decode(r, &component);
		check_follows(r, before, since(r, from));
		before = since(r, from);
	}
	return n;
}

static void
read_inventory(struct cbor_reader *r, void *message)
{
	struct report *report = message;
	const uint8_t *from = r->at;

	if (cbor_peek(r) == CBOR_BYTES) {
		cbor_read_bytes_exact(r, report->inventory_digest, DIGEST_SIZE);
		return;
	}
	report->components = check_components(r);
	report->inventory = since(r, from);
	if (r->error == REASON_OK)
		sha256(report->inventory, report->inventory_digest);
}

static void
write_inventory(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	if (report->inventory.at)
		cbor_write_encoded(w, report->inventory);
	else
		cbor_write_bytes(w, (struct slice){report->inventory_digest, DIGEST_SIZE});
}

static void
read_boot_id(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	report->boot_id = cbor_read_bytes(r, SIZE_MAX);
	if (report->boot_id.len != BOOT_ID_SIZE)
		cbor_fail(r, REASON_CLAIM_INVALID);
}

static bool
has_boot_id(const void *message)
{
	const struct report *report = message;

	return report->boot_id.at;
}

static void
write_boot_id(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_bytes(w, report->boot_id);
}

static void
read_readings(struct cbor_reader *r, void *message)
{
	struct report *report = message;
	const uint8_t *from = r->at;

	facts_check_readings(r);
	report->readings = since(r, from);
	if (report->readings.len > LIMIT_READINGS)
		cbor_fail(r, REASON_LIMIT_EXCEEDED);
}

static bool
has_readings(const void *message)
{
	const struct report *report = message;

	return report->readings.at;
}

static void
write_readings(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_encoded(w, report->readings);
}

static void
read_sections_prev(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	cbor_read_bytes_exact(r, report->sections_prev, DIGEST_SIZE);
	report->has_sections_prev = true;
}

static bool
has_sections_prev(const void *message)
{
	const struct report *report = message;

	return report->has_sections_prev;
}

static void
write_sections_prev(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_bytes(w, (struct slice){report->sections_prev, DIGEST_SIZE});
}

static void
read_dropped(struct cbor_reader *r, void *message)
{
	struct report *report = message;
	size_t n = cbor_read_array(r, LIMIT_DROPPED);

	if (n == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	for (size_t i = 0; i < n; i++) {
		struct dropped *dropped = &report->dropped[i];

		if (cbor_read_array(r, SIZE_MAX) != DROPPED_ITEMS)
			cbor_fail(r, REASON_CLAIM_INVALID);
		dropped->range = claim_read_range(r);
		dropped->cause = (enum drop_cause)cbor_read_uint_max(r, DROP_SKIPPED, DROP_OVERWRITTEN);
	}
	report->dropped_len = n;
}

static bool
has_dropped(const void *message)
{
	const struct report *report = message;

	return report->dropped_len > 0;
}

static void
write_dropped(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_array(w, report->dropped_len);
	for (size_t i = 0; i < report->dropped_len; i++) {
		cbor_write_array(w, DROPPED_ITEMS);
		claim_write_range(w, report->dropped[i].range);
		cbor_write_uint(w, report->dropped[i].cause);
	}
}

static void
read_events(struct cbor_reader *r, void *message)
{
	struct report *report = message;
	const uint8_t *from = r->at;

	events_check(r);
	report->events = since(r, from);
}

static bool
has_events(const void *message)
{
	const struct report *report = message;

	return report->events.at;
}

static void
write_events(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_encoded(w, report->events);
}

static void
read_clock(struct cbor_reader *r, void *message)
{
	struct report *report = message;

	report->clock = cbor_read_uint_max(r, 0, LIMIT_IAT);
	report->has_clock = true;
}

static bool
has_clock(const void *message)
{
	const struct report *report = message;

	return report->has_clock;
}

static void
write_clock(struct cbor_writer *w, const void *message)
{
	const struct report *report = message;

	cbor_write_uint(w, report->clock);
}

static const struct claim claims[] = {
	{6, true, 0, read_iat, NULL, write_iat},
	{10, false, 0, read_nonce, has_nonce, write_nonce},
	{256, true, 0, read_ueid, NULL, write_ueid},
	{265, true, 0, claim_read_profile, NULL, claim_write_profile},
	{267, true, 0, read_bootcount, NULL, write_bootcount},
	{-65537, false, -65539, read_state, has_state, write_state},
	{-65538, true, 0, read_meta, NULL, write_meta},
	{-65539, false, -65537, read_inventory, has_state, write_inventory},
	{-65540, false, 0, read_boot_id, has_boot_id, write_boot_id},
	{-65541, false, -65537, read_readings, has_readings, write_readings},
	{-65542, false, 0, read_sections_prev, has_sections_prev, write_sections_prev},
	{-65543, false, 0, read_dropped, has_dropped, write_dropped},
	{-65544, false, 0, read_events, has_events, write_events},
	{-65545, false, 0, read_clock, has_clock, write_clock},
};
#define CLAIMS (sizeof claims / sizeof claims[0])

/* What claims say of each other. */
static enum reason
check_together(struct report *report)
{
	uint8_t facts[FACTS_SIZE];

	for (size_t i = 0; i < report->dropped_len; i++)
		if (report->dropped[i].range.last >= report->seq)
			return REASON_CLAIM_INVALID;
	if (report->has_sections_prev && !report_has_sections(report))
		return REASON_CLAIM_MISSING;
	if (report->has_sections_prev && !report->has_prev)
		return REASON_CLAIM_INVALID; /* an epoch's first message has none with sections before it */
	if (!report->state.at)
		return REASON_OK;
	sha256(report->state, report->state_digest);
	report_facts_digest(report->state_digest, report->inventory_digest, facts);
	return memcmp(facts, report->facts, FACTS_SIZE) == 0 ? REASON_OK : REASON_DIGEST_MISMATCH;
}

enum reason
report_decode(struct slice payload, struct report *out)
{
	enum reason reason;

	memset(out, 0, sizeof *out);
	if (payload.len > LIMIT_MESSAGE)
		return REASON_TOO_LARGE;
	reason = claims_decode(payload, claims, CLAIMS, out);
	return reason == REASON_OK ? check_together(out) : reason;
}

void
report_encode(const struct report *report, struct cbor_writer *w)
{
	claims_encode(claims, CLAIMS, report, w);
}

bool
report_has_sections(const struct report *report)
{
	return has_state(report) || has_events(report);
}

void
report_facts_digest(const uint8_t state[DIGEST_SIZE], const uint8_t inventory[DIGEST_SIZE], uint8_t facts[FACTS_SIZE])
{
	uint8_t both[DIGEST_SIZE];

	sha256_pair((struct slice){state, DIGEST_SIZE}, (struct slice){inventory, DIGEST_SIZE}, both);
	memcpy(facts, both, FACTS_SIZE);
}

/*
 * Components.
 */
static const char *const type_names[COMPONENT_TYPES] = {
	[COMPONENT_DPKG] = "dpkg",
	[COMPONENT_OPKG] = "opkg",
	[COMPONENT_APK] = "apk",
	[COMPONENT_RPM] = "rpm",
	[COMPONENT_IMAGE] = "image",
	[COMPONENT_CONTAINER] = "container",
	[COMPONENT_MODULE] = "kernel-module",
	[COMPONENT_FIRMWARE] = "firmware",
};

const char *
component_type_name(enum component_type type)
{
	assert(type < COMPONENT_TYPES);
	return type_names[type];
}

static struct slice
read_optional(struct cbor_reader *r, size_t max)
{
	if (!cbor_at_null(r))
		return cbor_read_text(r, max);
	cbor_read_null(r);
	return (struct slice){NULL, 0};
}

static void
write_optional(struct cbor_writer *w, struct slice text)
{
	if (text.at)
		cbor_write_text(w, text);
	else
		cbor_write_null(w);
}

void
component_decode(struct cbor_reader *r, struct component *component)
{
	if (cbor_read_array(r, SIZE_MAX) != COMPONENT_ITEMS)
		cbor_fail(r, REASON_CLAIM_INVALID);
	component->type = (enum component_type)cbor_read_uint_max(r, 0, COMPONENT_TYPES - 1);
	component->name = cbor_read_text(r, LIMIT_NAME);
	if (component->name.len == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	component->version = cbor_read_text(r, LIMIT_VERSION);
	component->architecture = read_optional(r, LIMIT_NAME);
	component->source = read_optional(r, LIMIT_NAME);
	component->source_version = read_optional(r, LIMIT_VERSION);
	component->purl = read_optional(r, LIMIT_PURL);
}

void
component_encode(const struct component *component, struct cbor_writer *w)
{
	cbor_write_array(w, COMPONENT_ITEMS);
	cbor_write_uint(w, component->type);
	cbor_write_text(w, component->name);
	cbor_write_text(w, component->version);
	write_optional(w, component->architecture);
	write_optional(w, component->source);
	write_optional(w, component->source_version);
	write_optional(w, component->purl);
}

/*
 * To JSON. json_object_set_new and json_array_append_new answer -1 when their value is NULL, that is when memory ran out.
 */
static int
set_text(json_t *object, const char *name, struct slice text)
{
	return text.at ? json_object_set_new(object, name, json_stringn((const char *)text.at, text.len)) : 0;
}

static int
set_hex(json_t *object, const char *name, bool there, const uint8_t *bytes, size_t len)
{
	return there ? json_object_set_new(object, name, claim_json_hex(bytes, len)) : 0;
}

static json_t *
component_json(const struct component *component)
{
	json_t *object = json_object();

	if (json_object_set_new(object, "type", json_string(component_type_name(component->type))) < 0 ||
	    set_text(object, "name", component->name) < 0 || set_text(object, "version", component->version) < 0 ||
	    set_text(object, "architecture", component->architecture) < 0 ||
	    set_text(object, "source", component->source) < 0 ||
	    set_text(object, "source_version", component->source_version) < 0 ||
	    set_text(object, "purl", component->purl) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *
items_json(struct slice inventory)
{
	json_t *items = json_array();
	struct cbor_reader r;
	size_t n;

	cbor_reader_init(&r, inventory);
	n = cbor_read_array(&r, LIMIT_COMPONENTS);
	for (size_t i = 0; i < n; i++) {
		struct component component;

		component_decode(&r, &component);
		if (json_array_append_new(items, component_json(&component)) < 0) {
			json_decref(items);
			return NULL;
		}
	}
	return items;
}

static json_t *
inventory_json(const struct report *report)
{
	json_t *object = json_object();

	if (set_hex(object, "digest", true, report->inventory_digest, DIGEST_SIZE) < 0 ||
	    (report->inventory.at && json_object_set_new(object, "items", items_json(report->inventory)) < 0)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *
dropped_json(const struct report *report)
{
	static const char *const causes[] = {[DROP_SKIPPED] = "skipped", [DROP_OVERWRITTEN] = "overwritten"};
	json_t *list = json_array();

	for (size_t i = 0; i < report->dropped_len; i++) {
		const struct dropped *dropped = &report->dropped[i];
		json_t *item = json_pack("{s:I, s:I, s:s}", "first", (json_int_t)dropped->range.first, "last",
					 (json_int_t)dropped->range.last, "cause", causes[dropped->cause]);

		if (json_array_append_new(list, item) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static int
set_sections(json_t *object, const struct report *report)
{
	if (!report->state.at)
		return 0;
	if (json_object_set_new(object, "state", facts_json(report->state, report->readings)) < 0)
		return -1;
	return json_object_set_new(object, "inventory", inventory_json(report));
}

json_t *
report_json(const struct report *report)
{
	json_t *object = json_object();

	if (json_object_set_new(object, "ueid", claim_json_ueid(&report->ueid)) < 0 ||
	    json_object_set_new(object, "epoch", claim_json_epoch(report->epoch)) < 0 ||
	    json_object_set_new(object, "seq", json_integer((json_int_t)report->seq)) < 0 ||
	    json_object_set_new(object, "issued_at", claim_json_time(report->iat)) < 0 ||
	    (report->has_clock && json_object_set_new(object, "clock", claim_json_time(report->clock)) < 0) ||
	    json_object_set_new(object, "bootcount", json_integer((json_int_t)report->bootcount)) < 0 ||
	    json_object_set_new(object, "interval_s", json_integer((json_int_t)report->interval)) < 0 ||
	    json_object_set_new(object, "receipt_wanted", json_boolean(report->receipt)) < 0 ||
	    set_hex(object, "prev", report->has_prev, report->prev, DIGEST_SIZE) < 0 ||
	    set_hex(object, "facts", true, report->facts, FACTS_SIZE) < 0 ||
	    set_hex(object, "nonce", has_nonce(report), report->nonce.at, report->nonce.len) < 0 ||
	    set_hex(object, "boot_id", has_boot_id(report), report->boot_id.at, report->boot_id.len) < 0 ||
	    set_hex(object, "sections_prev", report->has_sections_prev, report->sections_prev, DIGEST_SIZE) < 0 ||
	    (has_dropped(report) && json_object_set_new(object, "dropped", dropped_json(report)) < 0) ||
	    (has_events(report) && json_object_set_new(object, "events", events_json(report->events)) < 0) ||
	    set_sections(object, report) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}
