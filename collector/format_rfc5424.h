/*
 * An event as one RFC 5424 syslog message. Whatever a device put into its facts, the message stays one line of one meaning: control characters and line
 * separators are spelt out, and quotes, brackets and backslashes escaped. Pure.
 */
#ifndef FLEETSTATE_COLLECTOR_FORMAT_RFC5424_H
#define FLEETSTATE_COLLECTOR_FORMAT_RFC5424_H

#include "collector/draft.h"
#include "collector/format_event.h"

#define SYSLOG_MESSAGE_MAX 8192	/* RFC 5425 4.3.1: what a receiver should take */

/* `host`: ours. `payload`: what the message is; NULL: its data as structured data. At most SYSLOG_MESSAGE_MAX bytes; what does not fit is left out, and
   "truncated" says so. */
void format_rfc5424(struct draft *, const struct event *, const char *host, const struct event_format *payload);

#endif
