#include "schema/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_TEXT 2048 /* of what the caller says; more is cut, and marked */

static const struct {
	const char *name;
	const char *prefix; /* sd-daemon(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "<3>"},
	[LOG_LEVEL_WARNING] = {"warning", "<4>"},
	[LOG_LEVEL_INFO] = {"info", "<6>"},
	[LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

#define LEVELS (sizeof levels / sizeof levels[0])

/* Set once, before there are threads. */
static const char *name = "fleetstate";
static enum log_level threshold = LOG_LEVEL_INFO;
static bool to_journal;

/* Whether stderr is the very stream that the journal gave us (systemd.exec(5), JOURNAL_STREAM). */
static bool
is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat status;

	if (stream == NULL || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &status) == -1)
		return false;
	return status.st_dev == device && status.st_ino == inode;
}

void
log_open(const char *program, enum log_level least)
{
	name = program;
	threshold = least;
	to_journal = is_journal();
}

bool
log_level_parse(const char *text, enum log_level *level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (strcmp(text, levels[i].name) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* Control characters, C1's too (in UTF-8 they are c2 80 to c2 9f), as \xNN: a terminal must not obey them. Returns the length. */
static size_t
escape(const char *text, char *out)
{
	size_t len = 0;

	for (const char *at = text; *at != '\0'; at++) {
		unsigned char c = (unsigned char)*at, next = (unsigned char)at[1];

		if (c == 0xc2 && next >= 0x80 && next <= 0x9f) {
			len += (size_t)sprintf(out + len, "\\xc2\\x%02x", next);
			at++;
		} else if (c < 0x20 || c == 0x7f) {
			len += (size_t)sprintf(out + len, "\\x%02x", c);
		} else {
			out[len++] = (char)c;
		}
	}
	return len;
}

/* The line goes out in one write, so that lines of two threads never mix. */
static void
write_line(enum log_level level, const char *format, va_list arguments)
{
	char text[LINE_MAX_TEXT], line[4 * LINE_MAX_TEXT + 128];
	int wanted, len;
	size_t end;
	ssize_t written;

	if (level > threshold)
		return;
	wanted = vsnprintf(text, sizeof text, format, arguments);
	if (wanted < 0)
		return;
	if (to_journal)
		len = snprintf(line, 128, "%s%s: ", levels[level].prefix, levels[level].name);
	else
		len = snprintf(line, 128, "%s: %s: ", name, levels[level].name);
	if (len >= 128)
		len = 127;
	end = (size_t)len + escape(text, line + len);
	if ((size_t)wanted >= sizeof text)
		end += (size_t)sprintf(line + end, " [cut]");
	line[end++] = '\n';
	written = write(STDERR_FILENO, line, end);
	(void)written;
}

void
log_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_ERROR, format, arguments);
	va_end(arguments);
}

void
log_warning(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_WARNING, format, arguments);
	va_end(arguments);
}

void
log_info(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_INFO, format, arguments);
	va_end(arguments);
}

void
log_debug(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(LOG_LEVEL_DEBUG, format, arguments);
	va_end(arguments);
}
