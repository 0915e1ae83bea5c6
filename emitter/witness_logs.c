#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "emitter/log_message.h"
#include "emitter/text.h"
#include "emitter/utmp.h"
#include "emitter/witness_sources.h"

#define READ_MAX (8 * 1024 * 1024) /* of one file in one look: 20,000 failed log-ins */
#define ENTRIES_MAX 20000 /* of the journal in one look */
#define BTMP "/var/log/btmp"
#define WTMP "/var/log/wtmp"
#define PIECE (64 * 1024)
#define FILES_OF_JOURNAL "/{run,var}/log/journal/*/system.journal"

/* libsystemd is not linked: most of what it brings along is never needed. */
struct journal_calls {
	int (*open)(sd_journal **, int);
	void (*close)(sd_journal *);
	int (*get_fd)(sd_journal *);
	int (*process)(sd_journal *);
	int (*add_match)(sd_journal *, const void *, size_t);
	int (*seek_tail)(sd_journal *);
	int (*seek_cursor)(sd_journal *, const char *);
	int (*test_cursor)(sd_journal *, const char *);
	int (*next)(sd_journal *);
	int (*previous)(sd_journal *);
	int (*get_cursor)(sd_journal *, char **);
	int (*get_realtime)(sd_journal *, uint64_t *);
	int (*get_data)(sd_journal *, const char *, const void **, size_t *);
};

struct log_source {
	enum { LOG_NONE, LOG_JOURNAL, LOG_FILE, LOG_UTMP } kind;
	void *library;
	struct journal_calls calls;
	sd_journal *journal;
	const char *file;
	int inotify;
};

static const char *const log_files[] = {"/var/log/auth.log", "/var/log/secure"};

/* ---- the journal ---- */

static bool
load(struct log_source *s)
{
	static const char *const names[] = {
		"sd_journal_open",        "sd_journal_close",       "sd_journal_get_fd",
		"sd_journal_process",     "sd_journal_add_match",   "sd_journal_seek_tail",
		"sd_journal_seek_cursor", "sd_journal_test_cursor", "sd_journal_next",
		"sd_journal_previous",    "sd_journal_get_cursor",  "sd_journal_get_realtime_usec",
		"sd_journal_get_data",
	};
	void *found[sizeof names / sizeof names[0]];

	_Static_assert(sizeof found == sizeof s->calls, "a name for each call");
	s->library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; s->library != NULL && i < sizeof names / sizeof names[0]; i++)
		if ((found[i] = dlsym(s->library, names[i])) == NULL) {
			dlclose(s->library);
			s->library = NULL;
		}
	if (s->library != NULL)
		memcpy(&s->calls, found, sizeof s->calls);
	return s->library != NULL;
}

static bool
journal_is_there(void)
{
	glob_t found;
	bool there = glob(FILES_OF_JOURNAL, GLOB_BRACE | GLOB_NOSORT, NULL, &found) == 0;

	globfree(&found);
	return there;
}

static bool
open_journal(struct log_source *s)
{
	static const char *const programs[] = {"sshd", "sshd-session", "sudo", "su", "login"};
	char match[64];

	if (!journal_is_there() || (s->library == NULL && !load(s)))
		return false;
	if (s->calls.open(&s->journal, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0)
		return false;
	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
		snprintf(match, sizeof match, "SYSLOG_IDENTIFIER=%s", programs[i]);
		if (s->calls.add_match(s->journal, match, 0) < 0)
			goto fail;
	}
	if (s->calls.get_fd(s->journal) < 0)
		goto fail;
	return true;
fail:
	s->calls.close(s->journal);
	s->journal = NULL;
	return false;
}

static struct slice
field(struct log_source *s, const char *name)
{
	const void *data;
	size_t len, skip = strlen(name) + 1;

	if (s->calls.get_data(s->journal, name, &data, &len) < 0 || len < skip)
		return (struct slice){NULL, 0};
	return (struct slice){(const uint8_t *)data + skip, len - skip};
}

static void
copy_field(struct log_source *s, const char *name, char *out, size_t size)
{
	struct slice value = field(s, name);
	size_t len = value.len < size - 1 ? value.len : size - 1;

	if (len > 0)
		memcpy(out, value.at, len);
	out[len] = '\0';
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static size_t
parts_of(enum event_kind kind)
{
	size_t n;

	(void)event_parts(kind, &n);
	return n;
}

/* Whether the account has that number, by the file alone: no directory of the network is asked. */
static bool
is_account(struct slice name, const char *uid)
{
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *entry;
	char number[16];
	bool found = false;

	while (file != NULL && !found && (entry = fgetpwent(file)) != NULL) {
		snprintf(number, sizeof number, "%u", entry->pw_uid);
		found = text_is(name, entry->pw_name) && strcmp(uid, number) == 0;
	}
	if (file != NULL)
		fclose(file);
	return found;
}

/* Of a program that ended at once the journal knows only the user. What a user could forge then is that he himself was refused something. */
static bool
is_own_refusal(const struct log_event *event, const char *uid, const char *exe)
{
	return exe[0] == '\0' && event->kind == EVENT_PRIVILEGE_REFUSED && is_account(event->parts[0], uid);
}

/* Each field is only good until the next is asked for. */
static void
take_entry(struct log_source *s, struct events *events)
{
	char uid[16], exe[128], program[32], message[2048];
	struct log_event event;
	uint64_t us = 0;

	copy_field(s, "_UID", uid, sizeof uid);
	copy_field(s, "_EXE", exe, sizeof exe);
	copy_field(s, "SYSLOG_IDENTIFIER", program, sizeof program);
	copy_field(s, "MESSAGE", message, sizeof message);
	if (!log_message_parse(string(program), string(message), &event) ||
	    (!log_is_trusted(string(uid), string(exe)) && !is_own_refusal(&event, uid, exe)) ||
	    s->calls.get_realtime(s->journal, &us) < 0)
		return;
	events_add(events, event.kind, us / 1000000, 1, event.parts, parts_of(event.kind));
}

static void
note_cursor(struct log_source *s, struct positions *p)
{
	char *cursor = NULL;

	if (s->calls.get_cursor(s->journal, &cursor) >= 0 && strlen(cursor) < sizeof p->cursor)
		snprintf(p->cursor, sizeof p->cursor, "%s", cursor);
	free(cursor);
}

/* Goes to what was read last, or, the first time, to the end. An empty journal is read from its beginning. */
static void
find_place(struct log_source *s, struct events *events)
{
	struct positions *p = events_positions(events);

	if (p->cursor[0] == '\0' && !p->known) {
		if (s->calls.seek_tail(s->journal) >= 0 && s->calls.previous(s->journal) > 0)
			note_cursor(s, p);
	} else if (p->cursor[0] != '\0' && s->calls.seek_cursor(s->journal, p->cursor) >= 0 &&
		   s->calls.next(s->journal) > 0 && s->calls.test_cursor(s->journal, p->cursor) <= 0) {
		events_say(events, EVENT_LOST, (uint64_t)time(NULL),
			   (const char *const[]){"journal", "gone before it was read"}, 2);
		take_entry(s, events);
		note_cursor(s, p);
	}
}

static void
look_at_journal(struct log_source *s, struct events *events)
{
	struct positions *p = events_positions(events);
	size_t n = 0;

	(void)s->calls.process(s->journal);
	for (; n < ENTRIES_MAX && s->calls.next(s->journal) > 0; n++)
		take_entry(s, events);
	if (n > 0)
		note_cursor(s, p);
}

/* ---- files that grow ---- */

typedef size_t take_bytes(struct slice, struct events *); /* what it took of them */

static size_t
take_lines(struct slice bytes, struct events *events)
{
	const uint8_t *end = memrchr(bytes.at, '\n', bytes.len);
	size_t taken = end ? (size_t)(end - bytes.at) + 1 : bytes.len == PIECE ? PIECE : 0;
	struct slice rest = {bytes.at, taken}, line, program, message;
	struct log_event event;

	while (text_line(&rest, &line))
		if (log_line_parse(line, &program, &message) && log_message_parse(program, message, &event))
			events_add(events, event.kind, (uint64_t)time(NULL), 1, event.parts, parts_of(event.kind));
	return taken;
}

static void
take_record(const struct utmp_record *record, enum event_kind kind, struct events *events)
{
	struct slice service = record->line;

	for (service.len = 0; service.len < record->line.len && (record->line.at[service.len] | 0x20) >= 'a' &&
			      (record->line.at[service.len] | 0x20) <= 'z';)
		service.len++;
	events_add(events, kind, record->at, 1, (const struct slice[]){record->user, service, record->host}, 3);
}

static size_t
take_failed(struct slice bytes, struct events *events)
{
	struct slice rest = bytes;
	struct utmp_record record;

	while (utmp_next(&rest, &record))
		take_record(&record, EVENT_LOGIN_FAILED, events);
	return bytes.len - rest.len;
}

static size_t
take_logins(struct slice bytes, struct events *events)
{
	struct slice rest = bytes;
	struct utmp_record record;

	while (utmp_next(&rest, &record))
		if (record.is_login)
			take_record(&record, EVENT_LOGIN, events);
	return bytes.len - rest.len;
}

static int
open_file(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	if (fd >= 0 && (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Whether that was all. */
static bool
read_on(int fd, struct place *place, take_bytes *take, struct events *events)
{
	static uint8_t buffer[PIECE];
	size_t all = 0, taken = 1;

	while (taken > 0 && all < READ_MAX) {
		ssize_t n = pread(fd, buffer, sizeof buffer, (off_t)place->offset);

		taken = n > 0 ? take((struct slice){buffer, (size_t)n}, events) : 0;
		place->offset += taken;
		all += taken;
	}
	return taken == 0;
}

/* What was still added to a file before it was rotated away. Whether that was all. */
static bool
read_rotated(const char *path, struct place *place, take_bytes *take, struct events *events)
{
	char before[64];
	bool all = true;
	struct stat st;
	int fd;

	snprintf(before, sizeof before, "%s.1", path);
	fd = open_file(before, &st);
	if (fd >= 0 && (uint64_t)st.st_ino == place->inode)
		all = read_on(fd, place, take, events);
	else
		events_say(events, EVENT_LOST, (uint64_t)time(NULL),
			   (const char *const[]){path, "replaced since it was read"}, 2);
	if (fd >= 0)
		close(fd);
	return all;
}

/* From where it was read last. */
static void
look_at_file(const char *path, struct place *place, take_bytes *take, struct events *events)
{
	struct stat st;
	int fd = open_file(path, &st);

	if (fd < 0)
		return;
	if (place->inode != (uint64_t)st.st_ino) {
		if (place->inode != 0 && !read_rotated(path, place, take, events)) {
			close(fd);
			return;
		}
		*place = (struct place){(uint64_t)st.st_ino, 0};
	} else if (place->offset > (uint64_t)st.st_size) {
		events_say(events, EVENT_LOST, (uint64_t)time(NULL), (const char *const[]){path, "cut short"}, 2);
		place->offset = 0;
	}
	(void)read_on(fd, place, take, events);
	close(fd);
}

/* The first time nothing is read: what is there is history. */
static void
note_end(const char *path, struct place *place)
{
	struct stat st;
	int fd = open_file(path, &st);

	if (fd < 0)
		return;
	*place = (struct place){(uint64_t)st.st_ino, (uint64_t)st.st_size};
	close(fd);
}

/* ---- which of them ---- */

struct log_source *
log_source_new(void)
{
	struct log_source *s = calloc(1, sizeof *s);

	if (s != NULL)
		s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return s;
}

void
log_source_free(struct log_source *s)
{
	if (s == NULL)
		return;
	if (s->journal != NULL)
		s->calls.close(s->journal);
	if (s->library != NULL)
		dlclose(s->library);
	if (s->inotify >= 0)
		close(s->inotify);
	free(s);
}

int
log_source_fd(const struct log_source *s)
{
	return s->kind == LOG_JOURNAL ? s->calls.get_fd(s->journal) : s->inotify;
}

static void
watch(struct log_source *s, const char *path)
{
	if (s->inotify >= 0)
		(void)inotify_add_watch(s->inotify, path, IN_MODIFY);
}

/* The best there is: the journal says who wrote a line, a file of lines does not, and utmp's know only of terminals. */
static void
choose(struct log_source *s, struct events *events)
{
	if (s->kind == LOG_JOURNAL)
		return;
	if (open_journal(s)) {
		s->kind = LOG_JOURNAL;
		find_place(s, events);
		return;
	}
	s->file = NULL;
	for (size_t i = 0; i < sizeof log_files / sizeof log_files[0] && s->file == NULL; i++)
		if (eaccess(log_files[i], R_OK) == 0)
			s->file = log_files[i];
	s->kind = s->file != NULL ? LOG_FILE : LOG_UTMP;
}

static void
drain(int fd)
{
	char buffer[4096];

	while (fd >= 0 && read(fd, buffer, sizeof buffer) > 0)
		;
}

void
log_source_look(struct log_source *s, struct events *events)
{
	struct positions *p = events_positions(events);

	drain(s->inotify);
	choose(s, events);
	if (!p->known) {
		note_end(BTMP, &p->btmp);
		note_end(WTMP, &p->wtmp);
		if (s->file != NULL)
			note_end(s->file, &p->log);
	}
	if (s->kind == LOG_JOURNAL) {
		look_at_journal(s, events);
	} else if (s->kind == LOG_FILE) {
		watch(s, s->file);
		look_at_file(s->file, &p->log, take_lines, events);
	} else {
		watch(s, BTMP);
		watch(s, WTMP);
		look_at_file(BTMP, &p->btmp, take_failed, events);
		look_at_file(WTMP, &p->wtmp, take_logins, events);
	}
	p->known = true;
}
