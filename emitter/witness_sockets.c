#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emitter/witness_sources.h"

#define EPHEMERAL 32768 /* Linux gives out UDP ports from here on to clients, which come and go */

struct row {
	struct slice key; /* encoded: protocol, address, port */
	struct slice protocol, address, program;
	uint64_t port;
};

static bool
next_row(struct cbor_reader *r, struct row *row)
{
	const uint8_t *from;

	if (r->error != REASON_OK || r->at == r->end)
		return false;
	cbor_read_array(r, 4);
	from = r->at;
	row->protocol = cbor_read_text(r, LIMIT_TEXT);
	row->address = cbor_read_bytes(r, 16);
	row->port = cbor_read_uint(r);
	row->key = (struct slice){from, (size_t)(r->at - from)};
	row->program = (struct slice){NULL, 0};
	if (cbor_at_null(r))
		cbor_read_null(r);
	else
		row->program = cbor_read_text(r, LIMIT_TEXT);
	return r->error == REASON_OK;
}

static bool
is_in(struct slice rows, struct slice key)
{
	struct cbor_reader r;
	struct row row;

	cbor_reader_init(&r, rows);
	while (next_row(&r, &row))
		if (row.key.len == key.len && memcmp(row.key.at, key.at, key.len) == 0)
			return true;
	return false;
}

static void
tell(struct events *events, enum event_kind kind, const struct row *row)
{
	char address[INET6_ADDRSTRLEN] = "", port[8];

	if (row->protocol.len == 3 && memcmp(row->protocol.at, "udp", 3) == 0 && row->port >= EPHEMERAL)
		return;
	(void)inet_ntop(row->address.len == 4 ? AF_INET : AF_INET6, row->address.at, address, sizeof address);
	snprintf(port, sizeof port, "%u", (unsigned)row->port);
	const struct slice parts[] = {
		row->protocol, {(uint8_t *)address, strlen(address)}, {(uint8_t *)port, strlen(port)}, row->program};
	events_add(events, kind, (uint64_t)time(NULL), 1, parts, 4);
}

static void
tell_missing(struct events *events, enum event_kind kind, struct slice rows, struct slice others)
{
	struct cbor_reader r;
	struct row row;

	cbor_reader_init(&r, rows);
	while (next_row(&r, &row))
		if (!is_in(others, row.key))
			tell(events, kind, &row);
}

/* What can't be known this time is compared when it is known again. */
void
socket_source_sweep(struct socket_source *s, const struct facts *facts, struct events *events)
{
	struct slice now, before = {s->rows, s->len};
	uint8_t *copy;

	if (!facts_has(facts, FACT_INTERFACES_SOCKETS))
		return;
	now = facts_rows(facts, FACT_INTERFACES_SOCKETS);
	if (s->known && now.len == before.len && (now.len == 0 || memcmp(now.at, before.at, now.len) == 0))
		return;
	copy = malloc(now.len + 1);
	if (copy == NULL)
		return;
	if (now.len > 0)
		memcpy(copy, now.at, now.len);
	if (s->known) {
		tell_missing(events, EVENT_SOCKET_OPENED, now, before);
		tell_missing(events, EVENT_SOCKET_CLOSED, before, now);
	}
	free(s->rows);
	s->rows = copy;
	s->len = now.len;
	s->known = true;
}
