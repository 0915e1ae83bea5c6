/*
 * Log lines: one each, "program: level: what happened key=value ...", to stderr; to the journal with sd-daemon's prefix, not the program.
 * Values from outside are quoted and escaped, so that nobody can forge a line.
 */
#ifndef FLEETSTATE_LOG_H
#define FLEETSTATE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_open(const char *program, enum log_level least);
bool log_level_parse(const char *name, enum log_level *);	/* error, warning, info, debug */

/* printf-like. Control characters in the result are escaped. Safe from any thread. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
