/*
 * What system logs say of log-ins and of rights that were used: lines in, events out. Pure. The texts are written by programs that put what a
 * stranger typed into them, so each is read from the side that the stranger can't reach, and what stays doubtful is left unknown.
 */
#ifndef FLEETSTATE_LOG_MESSAGE_H
#define FLEETSTATE_LOG_MESSAGE_H

#include <stdbool.h>

#include "schema/events.h"

struct log_event {
	enum event_kind kind;
	struct slice parts[3];	/* as events.def has them for the kind; within the message, or a literal */
};

/* A program by the name that its log has: sshd, sshd-session, sudo, su, login. False: nothing that we tell of. */
bool log_message_parse(struct slice program, struct slice message, struct log_event *) WARN_UNUSED;
/* A line of syslog's file, of either form: "Nov 26 08:00:00 host sshd[12]: message", "2026-11-26T08:00:00.000+00:00 host sshd[12]: message". */
bool log_line_parse(struct slice line, struct slice *program, struct slice *message) WARN_UNUSED;
/* Whether the journal's trusted fields say who wrote it: root, or the program that is installed under that path. Absent: not known. */
bool log_is_trusted(struct slice uid, struct slice exe);

#endif
