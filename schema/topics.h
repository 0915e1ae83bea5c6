/*
 * Devices' names and the topics made of them.
 *	fleetstate/1/<shard>/<ueid>/report	up; the shard is the first hex digit of SHA-256 over the 17 bytes
 *	fleetstate/1/<ueid>/receipt		down
 */
#ifndef FLEETSTATE_TOPICS_H
#define FLEETSTATE_TOPICS_H

#include <stdbool.h>

#include "schema/reason.h"
#include "schema/slice.h"

#define UEID_SIZE 17
#define UEID_HEX (2 * UEID_SIZE + 1)	/* lower case, with the NUL */
#define SHARDS 16

struct ueid {
	uint8_t bytes[UEID_SIZE];	/* the first is 0x01 (RFC 9711 4.2.1.1: RAND) */
};

bool ueid_parse(struct slice hex, struct ueid *) WARN_UNUSED;	/* lower-case hex of 17 bytes that begin with 01 */
void ueid_print(const struct ueid *, char hex[UEID_HEX]);
unsigned ueid_shard(const struct ueid *);	/* 0 to 15 */

/* TOPIC_MALFORMED, WRONG_SHARD or OK. `ueid` is written unless the topic is malformed. */
enum reason topic_parse_report(struct slice topic, struct ueid *) WARN_UNUSED;
void topic_print_report(const struct ueid *, char *out, size_t size);
void topic_print_receipt(const struct ueid *, char *out, size_t size);

/* Lower-case hex. hex_parse wants just 2 * len digits. */
void hex_print(const uint8_t *, size_t len, char *out);
bool hex_parse(struct slice hex, uint8_t *out, size_t len) WARN_UNUSED;

#endif
