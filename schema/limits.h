/*
 * Every limit, with its reason. Sizes are in bytes unless the name says otherwise.
 */
#ifndef FLEETSTATE_LIMITS_H
#define FLEETSTATE_LIMITS_H

#define LIMIT_MESSAGE (2 * 1024 * 1024)	/* 20,000 components at 100 bytes each */
#define LIMIT_SEQUENCE (16 * 1024)	/* reports that travel together: 75 quiet ones, so that what a message costs is hardly felt; a TLS record */
#define LIMIT_SEQUENCE_REPORTS 128	/* likewise: none that is good is so small */
#define LIMIT_SEQUENCE_LEAST 80	/* of one that others follow: a signature and its headers; so a flood of little ones is one item */
#define LIMIT_STATE (64 * 1024)		/* 512 sockets and what else a gateway has; jsonb stays small */
#define LIMIT_READINGS (4 * 1024)	/* a handful of numbers */
#define LIMIT_COMPONENTS 20000		/* a full desktop has 4,000 packages */
#define LIMIT_SOCKETS 512		/* also the longest list of any other fact */
#define LIMIT_DEPTH 8			/* our deepest is 5: payload, state, topic, list, record */
#define LIMIT_LISTS (LIMIT_STATE * 3 / 8)	/* all lists of a state that we send */
#define LIMIT_TEXT 1024			/* a text within a state, as taken in */
#define LIMIT_SENT_TEXT 256		/* a fact's text as we send it: all of them fit into a state, beside LIMIT_LISTS */
#define LIMIT_SENT_WHY 128		/* likewise the reason why a fact is unknown, or of an element's status */
#define LIMIT_NAME 255			/* a component's name, architecture or source */
#define LIMIT_VERSION 128		/* a component's version */
#define LIMIT_PURL 1024			/* a package URL: a name and a version as above, encoded, and what qualifies them */
#define LIMIT_CRL LIMIT_MESSAGE		/* a list of revoked certificates: some 50,000 of them */
#define LIMIT_CHAIN_CERTS 3		/* leaf and two intermediates */
#define LIMIT_CHAIN (8 * 1024)		/* three RSA-4096 certificates fit */
#define LIMIT_HEADER (LIMIT_CHAIN + 64)	/* the protected header */
#define LIMIT_NONCE_MIN 8		/* RFC 9711 4.1 */
#define LIMIT_NONCE 64
#define LIMIT_SIGNATURE 96		/* P-384's r || s */
#define LIMIT_DROPPED 64		/* ranges declared in one report */
#define LIMIT_EVENTS 256		/* in one report, each with a count; the device has 128 at most */
#define LIMIT_EVENT_TEXT 256		/* a part of an event's subject, as taken in: a path */
#define LIMIT_EVENTS_SIZE (64 * 1024)	/* the whole section: an event of a path has 300 bytes */
#define LIMIT_UNKNOWN 256		/* facts that may be unknown at once */
#define LIMIT_SEQ INT64_C(9007199254740991) /* 2^53 - 1: exact in every JSON reader */
#define LIMIT_IAT INT64_C(253402300799)	/* 9999-12-31T23:59:59Z: PostgreSQL and RFC 3339 hold it */
#define LIMIT_INTERVAL_MIN 1		/* seconds; below 30 only tests go */
#define LIMIT_INTERVAL 86400
#define LIMIT_RECEIPT (16 * 1024)	/* chain, 64 ranges, 16 refusals */
#define LIMIT_RECEIPT_MISSING 64
#define LIMIT_RECEIPT_REFUSED 16
#define LIMIT_BASELINE (256 * 1024)	/* 512 files of 300 bytes, and as much again */
#define LIMIT_BASELINE_FILES 512	/* as many as a list of facts holds */
#define LIMIT_BASELINE_PATTERNS 64
#define LIMIT_BASELINE_PATH 255
#define LIMIT_TOPIC 128			/* our longest is 70 */

#endif
