#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>

#include "schema/facts.h"
#include "schema/facts_table.h"
#include "schema/limits.h"
#include "schema/topics.h"

static void
check_field(struct cbor_reader *r, enum field_type type)
{
	struct slice bytes;

	if (cbor_at_null(r)) {
		cbor_read_null(r);
		return;
	}
	switch (type) {
	case TYPE_TEXT:
		cbor_read_text(r, LIMIT_TEXT);
		break;
	case TYPE_BOOL:
		cbor_read_bool(r);
		break;
	case TYPE_UINT:
		cbor_read_uint_max(r, 0, INT64_MAX);
		break;
	case TYPE_MAC:
		bytes = cbor_read_bytes(r, LIMIT_TEXT);
		if (bytes.len != MAC_SIZE)
			cbor_fail(r, REASON_CLAIM_INVALID);
		break;
	case TYPE_IP:
		bytes = cbor_read_bytes(r, LIMIT_TEXT);
		if (bytes.len != IPV4_SIZE && bytes.len != IPV6_SIZE)
			cbor_fail(r, REASON_CLAIM_INVALID);
		break;
	}
}

static void
check_rows(struct cbor_reader *r, enum record record)
{
	size_t n = cbor_read_array(r, LIMIT_SOCKETS), wanted;
	const struct field_row *field = record_fields(record, &wanted);

	for (size_t i = 0; i < n && r->error == REASON_OK; i++) {
		if (cbor_read_array(r, LIMIT_SOCKETS) != wanted)
			cbor_fail(r, REASON_CLAIM_INVALID);
		for (size_t j = 0; j < wanted; j++)
			check_field(r, field[j].type);
	}
}

static void
check_texts(struct cbor_reader *r)
{
	size_t n = cbor_read_array(r, LIMIT_SOCKETS);

	for (size_t i = 0; i < n; i++)
		cbor_read_text(r, LIMIT_TEXT);
}

static void
check_value(struct cbor_reader *r, const struct row *row)
{
	switch (row->kind) {
	case KIND_BOOL:
		cbor_read_bool(r);
		break;
	case KIND_UINT:
		cbor_read_uint_max(r, 0, INT64_MAX);
		break;
	case KIND_INT:
		cbor_read_int(r);
		break;
	case KIND_NUMBER:
		cbor_read_number(r);
		break;
	case KIND_TEXT:
		cbor_read_text(r, LIMIT_TEXT);
		break;
	case KIND_TEXTS:
		check_texts(r);
		break;
	case KIND_ROWS:
		check_rows(r, row->record);
		break;
	case KIND_STATUS:
		if (cbor_read_array(r, 2) != 2)
			cbor_fail(r, REASON_CLAIM_INVALID);
		cbor_read_uint_max(r, 0, STATUSES - 1);
		cbor_read_text(r, LIMIT_TEXT);
		break;
	}
}

/* A fact that only a newer emitter knows. Never null: not known is absent. */
static void
skip_value(struct cbor_reader *r)
{
	if (cbor_at_null(r))
		cbor_fail(r, REASON_CLAIM_INVALID);
	cbor_read_item(r, LIMIT_DEPTH - 3); /* below payload, section and topic */
}

static const struct row *
find(int64_t topic_key, int64_t key)
{
	for (size_t i = 0; i < FACTS; i++)
		if (fact_rows[i].told.topic_key == topic_key && fact_rows[i].told.key == key)
			return &fact_rows[i];
	return NULL;
}

/* Sections bound their maps by their size. An empty one inside would be a second way to say nothing. */
static void
read_topic(struct cbor_reader *r, struct cbor_map *map)
{
	cbor_read_map(r, map, LIMIT_STATE);
	if (map->left == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
}

static bool
next_key(struct cbor_reader *r, struct cbor_map *map, int64_t *key)
{
	if (!cbor_map_next(r, map, key))
		return false;
	if (*key < 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	return r->error == REASON_OK;
}

static void
check_topic(struct cbor_reader *r, int64_t topic_key, bool is_volatile)
{
	struct cbor_map map;
	int64_t key;

	read_topic(r, &map);
	while (next_key(r, &map, &key)) {
		const struct row *row = find(topic_key, key);

		if (!row) {
			skip_value(r);
			continue;
		}
		if (row->told.is_volatile != is_volatile)
			cbor_fail(
				r,
				REASON_CLAIM_INVALID); /* it would be in or out of the digest by the sender's choice */
		check_value(r, row);
	}
}

static void
check_unknown(struct cbor_reader *r)
{
	struct cbor_map map;
	int64_t key;

	cbor_read_map(r, &map, LIMIT_UNKNOWN);
	if (map.left == 0)
		cbor_fail(r, REASON_CLAIM_INVALID);
	while (next_key(r, &map, &key))
		cbor_read_text(r, LIMIT_TEXT);
}

void
facts_check_state(struct cbor_reader *r)
{
	struct cbor_map map;
	int64_t key;

	cbor_read_map(r, &map, LIMIT_STATE);
	while (next_key(r, &map, &key)) {
		if (key == UNKNOWN_KEY)
			check_unknown(r);
		else
			check_topic(r, key, false);
	}
}

void
facts_check_readings(struct cbor_reader *r)
{
	struct cbor_map map;
	int64_t key;

	read_topic(r, &map);
	while (next_key(r, &map, &key)) {
		if (key == UNKNOWN_KEY)
			cbor_fail(r, REASON_CLAIM_INVALID); /* no topic; what is not known stands in the state */
		check_topic(r, key, true);
	}
}

struct slice
facts_find_text(struct slice state, enum fact fact)
{
	struct slice found = {NULL, 0};
	struct cbor_reader r;
	struct cbor_map map, topic;
	int64_t key, fact_key;

	assert(fact < FACTS && fact_rows[fact].kind == KIND_TEXT);
	cbor_reader_init(&r, state);
	cbor_read_map(&r, &map, LIMIT_STATE);
	while (cbor_map_next(&r, &map, &key)) {
		if (key != fact_rows[fact].told.topic_key) {
			cbor_read_item(&r, LIMIT_DEPTH);
			continue;
		}
		cbor_read_map(&r, &topic, LIMIT_STATE);
		while (cbor_map_next(&r, &topic, &fact_key)) {
			if (fact_key == fact_rows[fact].told.key)
				found = cbor_read_text(&r, LIMIT_TEXT);
			else
				cbor_read_item(&r, LIMIT_DEPTH);
		}
	}
	return found;
}

/*
 * To JSON. A NULL from one of these is memory that ran out; json_object_set_new and json_array_append_new pass it on as -1.
 */
static json_t *
text_json(struct slice text)
{
	return json_stringn((const char *)text.at, text.len);
}

static json_t *
mac_json(struct slice mac)
{
	char text[3 * MAC_SIZE];

	for (size_t i = 0; i < MAC_SIZE; i++) {
		hex_print(mac.at + i, 1, text + 3 * i);
		text[3 * i + 2] = ':';
	}
	return json_stringn(text, sizeof text - 1);
}

static json_t *
ip_json(struct slice ip)
{
	char text[INET6_ADDRSTRLEN];

	return json_string(inet_ntop(ip.len == IPV4_SIZE ? AF_INET : AF_INET6, ip.at, text, sizeof text));
}

static json_t *
field_json(struct cbor_reader *r, enum field_type type)
{
	switch (type) {
	case TYPE_TEXT:
		return text_json(cbor_read_text(r, LIMIT_TEXT));
	case TYPE_BOOL:
		return json_boolean(cbor_read_bool(r));
	case TYPE_UINT:
		return json_integer((json_int_t)cbor_read_uint(r));
	case TYPE_MAC:
		return mac_json(cbor_read_bytes(r, MAC_SIZE));
	case TYPE_IP:
		return ip_json(cbor_read_bytes(r, IPV6_SIZE));
	}
	return NULL;
}

static json_t *
record_json(struct cbor_reader *r, enum record record)
{
	size_t n;
	const struct field_row *field = record_fields(record, &n);
	json_t *object = json_object();

	cbor_read_array(r, n);
	for (size_t i = 0; i < n; i++) {
		if (cbor_at_null(r)) {
			cbor_read_null(r);
			continue;
		}
		if (json_object_set_new(object, field[i].name, field_json(r, field[i].type)) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static json_t *
list_json(struct cbor_reader *r, const struct row *row)
{
	json_t *list = json_array();
	size_t n = cbor_read_array(r, LIMIT_SOCKETS);

	for (size_t i = 0; i < n; i++) {
		json_t *item = row->kind == KIND_TEXTS ? text_json(cbor_read_text(r, LIMIT_TEXT))
						       : record_json(r, row->record);

		if (json_array_append_new(list, item) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *
status_json(struct cbor_reader *r)
{
	enum status status;
	struct slice why;

	cbor_read_array(r, 2);
	status = (enum status)cbor_read_uint(r);
	why = cbor_read_text(r, LIMIT_TEXT);
	if (why.len == 0)
		return json_pack("{s:s}", "status", status_name(status));
	return json_pack("{s:s, s:s%}", "status", status_name(status), "why", (const char *)why.at, why.len);
}

static json_t *
value_json(struct cbor_reader *r, const struct row *row)
{
	switch (row->kind) {
	case KIND_BOOL:
		return json_boolean(cbor_read_bool(r));
	case KIND_UINT:
	case KIND_INT:
		return json_integer(cbor_read_int(r));
	case KIND_NUMBER:
		return json_real(cbor_read_number(r));
	case KIND_TEXT:
		return text_json(cbor_read_text(r, LIMIT_TEXT));
	case KIND_TEXTS:
	case KIND_ROWS:
		return list_json(r, row);
	case KIND_STATUS:
		return status_json(r);
	}
	return NULL;
}

/* The member of that name, made if it is not there: a topic may stand in both sections. */
static json_t *
member(json_t *object, const char *name)
{
	json_t *found = json_object_get(object, name);

	if (!found && json_object_set_new(object, name, json_object()) == 0)
		found = json_object_get(object, name);
	return found;
}

static int
topic_json(struct cbor_reader *r, int64_t topic_key, json_t *document)
{
	struct cbor_map map;
	int64_t key;

	cbor_read_map(r, &map, LIMIT_STATE);
	while (cbor_map_next(r, &map, &key)) {
		const struct row *row = find(topic_key, key);

		if (!row) {
			cbor_read_item(r, LIMIT_DEPTH);
			continue;
		}
		if (json_object_set_new(member(document, row->told.topic), row->told.name, value_json(r, row)) < 0)
			return -1;
	}
	return 0;
}

/* What a newer emitter does not know of facts that we do not know is no loss. */
static int
unknown_json(struct cbor_reader *r, json_t *document)
{
	struct cbor_map map;
	int64_t key;

	cbor_read_map(r, &map, LIMIT_UNKNOWN);
	while (cbor_map_next(r, &map, &key)) {
		struct slice why = cbor_read_text(r, LIMIT_TEXT);
		const struct row *row = find(key / 256, key % 256);
		char name[64];

		if (!row)
			continue;
		snprintf(name, sizeof name, "%s.%s", row->told.topic, row->told.name);
		if (json_object_set_new(member(document, "unknown"), name, text_json(why)) < 0)
			return -1;
	}
	return 0;
}

static int
section_json(struct slice section, json_t *document)
{
	struct cbor_reader r;
	struct cbor_map map;
	int64_t key;

	cbor_reader_init(&r, section);
	cbor_read_map(&r, &map, LIMIT_STATE);
	while (cbor_map_next(&r, &map, &key)) {
		int status = key == UNKNOWN_KEY ? unknown_json(&r, document) : topic_json(&r, key, document);

		if (status < 0)
			return -1;
	}
	return r.error == REASON_OK ? 0 : -1;
}

json_t *
facts_json(struct slice state, struct slice readings)
{
	json_t *document = json_object();

	if (!document || section_json(state, document) < 0 || (readings.at && section_json(readings, document) < 0)) {
		json_decref(document);
		return NULL;
	}
	return document;
}
