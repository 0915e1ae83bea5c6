/*
 * Where a system sends its own log: rsyslog's, syslog-ng's and systemd-journal-upload's configuration, and OpenWrt's. Pure: bytes in, values out.
 */
#ifndef FLEETSTATE_FORWARDING_H
#define FLEETSTATE_FORWARDING_H

#include <stdbool.h>

#include "schema/slice.h"

/* What was found in the files of one log service. */
struct forwarding {
	bool plain, tls;	/* destinations of that kind */
	bool driver;	/* rsyslog: the default way to send is by TLS */
};

/* Each adds what one file says. */
void forwarding_rsyslog(struct slice text, struct forwarding *);
void forwarding_syslog_ng(struct slice text, struct forwarding *);
void forwarding_journal_upload(struct slice text, struct forwarding *);
void forwarding_openwrt(struct slice text, struct forwarding *);

#endif
