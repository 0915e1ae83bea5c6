/*
 * What the maker expects to be open: interfaces by name, sockets as "tcp/22/sshd". Pure.
 */
#ifndef FLEETSTATE_EXPECTED_H
#define FLEETSTATE_EXPECTED_H

#include <stdbool.h>
#include <stdint.h>

/* Whether one of the patterns between blanks matches; in them "*", "?" and "[...]" are as in glob(7). */
bool expects_interface(const char *patterns, const char *name);
/* protocol/port or protocol/port/program. A program that is not known ("") is expected only where no program is named, or any. */
bool expects_socket(const char *patterns, const char *protocol, unsigned port, const char *program);
/* Services that carry passwords or commands in the clear, so that no maker can expect them: telnet, ftp, rsh and their like. */
bool is_never_expected(const char *protocol, unsigned port);

#endif
