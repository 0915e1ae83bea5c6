#include "emitter/serial.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "emitter/boot_arguments.h"

#define NAME_SIZE 32
#define LINES_MAX 64
#define NAMES_MAX 4096 /* units, services */

bool
serial_is(struct slice terminal)
{
	bool letters =
		text_begins(terminal, "tty") && terminal.len > 3 && terminal.at[3] >= 'A' && terminal.at[3] <= 'z';

	if (terminal.len >= NAME_SIZE || (!letters && !(text_begins(terminal, "hvc") && terminal.len > 3)))
		return false;
	for (size_t i = 0; i < terminal.len; i++)
		if (terminal.at[i] <= ' ' || terminal.at[i] > '~' || terminal.at[i] == '/')
			return false;
	return terminal.at[terminal.len - 1] >= '0' && terminal.at[terminal.len - 1] <= '9';
}

static struct slice
without_dev(struct slice word)
{
	return text_begins(word, "/dev/") ? (struct slice){word.at + 5, word.len - 5} : word;
}

/* The fields are id, run levels, action and process. BusyBox takes the terminal from the id, sysvinit from what getty is told. */
bool
inittab_parse(struct slice line, struct slice *terminal)
{
	static const char *const actions[] = {"respawn",  "respawnlate", "once",
					      "askfirst", "askconsole",  "askconsolelate"};
	struct slice id, levels, action, process, word;
	bool starts = false;

	line = text_trim(line);
	if (line.len == 0 || line.at[0] == '#' || !text_cut(line, ':', &id, &levels) ||
	    !text_cut(levels, ':', &levels, &action) || !text_cut(action, ':', &action, &process))
		return false;
	for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
		starts = starts || text_is(action, actions[i]);
	if (!starts || process.len == 0)
		return false;
	if (serial_is(id)) {
		*terminal = id;
		return true;
	}
	if (text_begins(action, "askconsole")) {
		*terminal = (struct slice){(const uint8_t *)"console", 7};
		return true;
	}
	while (text_word(&process, &word)) {
		*terminal = without_dev(word);
		if (serial_is(*terminal) || text_is(*terminal, "console"))
			return true;
	}
	return false;
}

struct lines {
	struct probe *probe;
	struct line {
		char name[NAME_SIZE];
		bool console, log_in, masked;
	} at[LINES_MAX];
	size_t len;
	bool console_log_in; /* somebody logs in on whatever the kernel's console is */
	bool generated; /* systemd starts a log-in on each console by itself */
	bool masked; /* but for the unit being masked as a whole */
	bool known; /* anything that could tell was there */
	const char *prefix; /* of the names in the directory being read */
};

static struct line *
line_of(struct lines *l, struct slice name)
{
	for (size_t i = 0; i < l->len; i++)
		if (text_is(name, l->at[i].name))
			return &l->at[i];
	if (l->len == LINES_MAX)
		return &l->at[LINES_MAX - 1];
	memcpy(l->at[l->len].name, name.at, name.len);
	return &l->at[l->len++];
}

static void
take_argument(void *context, struct slice value)
{
	struct lines *l = context;
	struct slice name, speed;

	if (text_cut(value, ',', &name, &speed))
		value = name;
	if (serial_is(value))
		line_of(l, value)->console = true;
}

/* The kernel tells what it uses; an image only what it will be told to use. */
static void
consoles(struct lines *l)
{
	struct slice text = source_read(l->probe->source, "proc/consoles", SOURCE_ATTRIBUTE), line, name;

	if (!text.at) {
		l->known = boot_arguments(l->probe, "console", take_argument, l);
		return;
	}
	l->known = true;
	while (text_line(&text, &line))
		if (text_word(&line, &name) && serial_is(name))
			line_of(l, name)->console = true;
}

static void
inittab(struct lines *l)
{
	struct slice text = source_read(l->probe->source, "etc/inittab", SOURCE_FILE), line, terminal;

	l->known = l->known || text.at;
	while (text.at && text_line(&text, &line)) {
		if (!inittab_parse(line, &terminal))
			continue;
		if (text_is(terminal, "console"))
			l->console_log_in = true;
		else
			line_of(l, terminal)->log_in = true;
	}
}

/* "serial-getty@ttyS0.service", "agetty.ttyS0", "agetty-ttyS0". */
static bool
take_service(void *context, int directory, const char *name)
{
	struct lines *l = context;
	struct slice text = {(const uint8_t *)name, strlen(name)};
	size_t len = strlen(l->prefix);

	(void)directory;
	l->known = true;
	if (strcmp(name, "console-getty.service") == 0)
		l->console_log_in = true;
	if (!text_begins(text, l->prefix))
		return true;
	text.at += len;
	text.len -= len;
	if (text.len > 8 && memcmp(text.at + text.len - 8, ".service", 8) == 0)
		text.len -= 8;
	if (serial_is(text))
		line_of(l, text)->log_in = true;
	return true;
}

static const struct {
	const char *directory, *prefix;
} services[] = {
	{"etc/systemd/system/getty.target.wants", "serial-getty@"},
	{"etc/systemd/system/getty.target.wants", "getty@"},
	{"etc/systemd/system/multi-user.target.wants", "serial-getty@"},
	{"usr/lib/systemd/system/getty.target.wants", "serial-getty@"},
	{"run/systemd/generator/getty.target.wants", "serial-getty@"},
	{"etc/runlevels/default", "agetty."},
	{"etc/runit/runsvdir/default", "agetty-"},
	{"etc/service", "agetty-"},
};

/* A unit that is a link to /dev/null never starts. */
static bool
take_mask(void *context, int directory, const char *name)
{
	struct lines *l = context;
	struct slice text = {(const uint8_t *)name, strlen(name)};
	char target[16];
	ssize_t len;

	if (!text_begins(text, "serial-getty@") && !text_begins(text, "getty@ttyS"))
		return true;
	len = readlinkat(directory, name, target, sizeof target);
	if (len != 9 || memcmp(target, "/dev/null", 9) != 0)
		return true;
	if (strcmp(name, "serial-getty@.service") == 0)
		l->masked = true;
	text.at += 13;
	text.len -= text.len > 21 ? 21 : text.len;
	if (serial_is(text))
		line_of(l, text)->masked = true;
	return true;
}

static void
units(struct lines *l)
{
	static const char *const generators[] = {"usr/lib/systemd/system-generators/systemd-getty-generator",
						 "lib/systemd/system-generators/systemd-getty-generator"};

	for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
		l->prefix = services[i].prefix;
		(void)!source_list(l->probe->source, services[i].directory, NAMES_MAX, take_service, l);
	}
	(void)!source_list(l->probe->source, "etc/systemd/system", NAMES_MAX, take_mask, l);
	/* What the generator made for the running system was read above. */
	for (size_t i = 0; i < 2 && !source_is_live(l->probe->source); i++)
		l->generated = l->generated || source_exists(l->probe->source, generators[i]);
}

static void
state(struct lines *l)
{
	char text[NAME_SIZE + 16];

	facts_begin_list(l->probe->facts, FACT_INTERFACES_SERIAL_CONSOLES);
	for (size_t i = 0; i < l->len; i++) {
		struct line *line = &l->at[i];

		if (line->console && (l->console_log_in || l->generated))
			line->log_in = true;
		snprintf(text, sizeof text, "%s console", line->name);
		if (line->console)
			facts_add_text(l->probe->facts, FACT_INTERFACES_SERIAL_CONSOLES, text);
		snprintf(text, sizeof text, "%s log-in", line->name);
		if (line->log_in && !line->masked && !l->masked)
			facts_add_text(l->probe->facts, FACT_INTERFACES_SERIAL_CONSOLES, text);
	}
}

void
serial_observe(struct probe *p)
{
	struct lines l = {.probe = p};

	consoles(&l);
	inittab(&l);
	units(&l);
	if (l.known)
		state(&l);
	else
		facts_unknown(p->facts, FACT_INTERFACES_SERIAL_CONSOLES,
			      source_is_live(p->source) ? "no proc/consoles" : "root is an image that does not say");
}
