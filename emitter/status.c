#include "emitter/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema/log.h"

#define STATUS_FILE "status.json"
#define STATUS_MAX (16 * 1024)

static json_t *
counters_json(const uint64_t counters[COUNTERS])
{
	json_t *object = json_object();
	for (size_t i = 0; i < COUNTERS; i++)
		json_object_set_new(object, counter_name((enum counter)i), json_integer((json_int_t)counters[i]));
	return object;
}

/* What this process had written to storage, as the kernel counts it: by the page. 0: not known. */
static uint64_t
bytes_written(void)
{
	char line[64];
	uint64_t bytes = 0;
	FILE *f = fopen("/proc/self/io", "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "write_bytes: %" SCNu64, &bytes) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return bytes;
}

static json_t *
status_json(const struct pipeline_status *s, uint32_t interval, uint64_t wall)
{
	char ueid[UEID_HEX], epoch[17];
	ueid_print(&s->ueid, ueid);
	snprintf(epoch, sizeof epoch, "%016" PRIx64, s->epoch);
	return json_pack("{s:i, s:I, s:i, s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:{s:I, s:I, s:I, "
			 "s:I, s:I, s:b}, s:o}",
			 "pid", (int)getpid(), "written", (json_int_t)wall, "interval", (int)interval, "ueid", ueid,
			 "epoch", epoch, "seq", (json_int_t)s->seq, "connected", (int)s->connected, "up_to",
			 (json_int_t)s->up_to, "last_receipt", (json_int_t)s->receipt_iat, "ahead",
			 (json_int_t)s->ahead, "clock_behind", (json_int_t)s->clock_behind, "lost_why", s->lost_why,
			 "running_s", (json_int_t)s->running_s, "written_bytes", (json_int_t)bytes_written(), "spool",
			 "records", (json_int_t)s->spool.records, "pending", (json_int_t)s->spool.pending, "bytes",
			 (json_int_t)s->spool.bytes, "dropped", (json_int_t)s->spool.dropped, "damaged",
			 (json_int_t)s->spool.damaged, "undeclared", (int)s->undeclared, "counters",
			 counters_json(s->counters));
}

int
status_write(const char *state_dir, const struct pipeline_status *status, uint32_t interval, uint64_t wall)
{
	char error[ERROR_SIZE];
	json_t *json = status_json(status, interval, wall);
	char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
	int dir = text != NULL ? durable_directory(AT_FDCWD, state_dir, error) : -1;
	int rc = -1;
	if (dir >= 0) {
		rc = durable_write(dir, STATUS_FILE, (struct slice){(uint8_t *)text, strlen(text)}, false);
		int why = errno;
		close(dir);
		errno = why;
	}
	free(text);
	json_decref(json);
	return rc;
}

static json_t *
status_load(const char *state_dir)
{
	char path[512];
	json_error_t error;
	snprintf(path, sizeof path, "%s/" STATUS_FILE, state_dir);
	json_t *json = json_load_file(path, 0, &error);
	if (json == NULL)
		log_error("no status of a running emitter in %s: %s", state_dir, error.text);
	return json;
}

static json_int_t
number(const json_t *json, const char *name)
{
	return json_integer_value(json_object_get(json, name));
}

static void
print_age(const char *label, json_int_t then, uint64_t wall)
{
	if (then == 0)
		printf("%-16s never\n", label);
	else
		printf("%-16s %lld s ago\n", label, (long long)wall - (long long)then);
}

static void
print_people(const json_t *json, uint64_t wall)
{
	const json_t *spool = json_object_get(json, "spool");
	const char *name;
	json_t *value;
	printf("%-16s %s\n", "ueid", json_string_value(json_object_get(json, "ueid")));
	bool connected = json_is_true(json_object_get(json, "connected"));
	const char *why = json_string_value(json_object_get(json, "lost_why"));
	printf("%-16s %s%s%s\n", "broker", connected ? "connected" : "not connected",
	       !connected && why != NULL && why[0] != '\0' ? ": " : "", !connected && why != NULL ? why : "");
	if (number(json, "clock_behind") > 0)
		printf("%-16s %lld s before a time that is over%s\n", "WARNING clock",
		       (long long)number(json, "clock_behind"),
		       connected || why == NULL || strncmp(why, "TLS", 3) != 0
			       ? ""
			       : ": the clock is before the broker's certificate; reports wait in the spool");
	print_age("written", number(json, "written"), wall);
	print_age("last receipt", number(json, "last_receipt"), wall);
	printf("%-16s %s seq %lld, receipted to %lld\n", "sequence", json_string_value(json_object_get(json, "epoch")),
	       (long long)number(json, "seq"), (long long)number(json, "up_to"));
	printf("%-16s %lld reports in %lld bytes, %lld wait for a receipt\n", "spool",
	       (long long)number(spool, "records"), (long long)number(spool, "bytes"),
	       (long long)number(spool, "pending"));
	printf("%-16s %lld for want of room, %lld unreadable%s\n", "lost", (long long)number(spool, "dropped"),
	       (long long)number(spool, "damaged"),
	       json_is_true(json_object_get(spool, "undeclared")) ? ", not declared yet" : "");
	json_int_t seconds = number(json, "running_s"), bytes = number(json, "written_bytes");
	if (seconds > 0 && bytes > 0)
		printf("%-16s %lld bytes in %lld s: %.0f KiB a day\n", "to storage", (long long)bytes,
		       (long long)seconds, (double)bytes / (double)seconds * 86400 / 1024);
	if (number(json, "ahead") > 0)
		printf("%-16s receipts account for reports, from %lld on, that this device did not make:\n%-16s "
		       "another one signs "
		       "with its key, or an old state was put back\n",
		       "WARNING", (long long)number(json, "ahead"), "");
	json_object_foreach(json_object_get(json, "counters"), name, value) if (json_integer_value(value) > 0)
		printf("%-24s %lld\n", name, (long long)json_integer_value(value));
}

int
status_show(const char *state_dir, bool as_json, uint64_t wall)
{
	json_t *json = status_load(state_dir);
	if (json == NULL)
		return 2;
	if (as_json) {
		json_dumpf(json, stdout, JSON_INDENT(1));
		putchar('\n');
	} else {
		print_people(json, wall);
	}
	/* A file that is older than three intervals was left by an emitter that is no more. */
	json_int_t age = (json_int_t)wall - number(json, "written");
	bool lively = age <= 3 * number(json, "interval") + 10;
	bool connected = json_is_true(json_object_get(json, "connected"));
	json_decref(json);
	return lively && connected ? 0 : 1;
}
