/* `fleetstate audit`: verifies the stored evidence again, from the bytes alone, several devices at a time. */
#include "collector/cli/audit.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/cli/cli.h"
#include "collector/cli/show.h"
#include "collector/database.h"

#define PAGE 1000 /* devices read at once */
#define JOBS_MAX 64
#define PROGRESS_MS 500

/* clang-format off */
enum { DEVICES, COUNT, KEYS, EPOCHS, EXCUSED, EXPIRED, ROWS, DELETED };
static const struct statement statements[] = {
	[DEVICES] = {"audit_devices",
		"SELECT device_id, ueid FROM device JOIN tenant t USING (tenant_id) WHERE deleted_at IS NULL AND ($1::text IS NULL OR t.id = $1)"
		" AND ($2::text IS NULL OR ueid = decode($2, 'hex')) AND device_id > $3::bigint ORDER BY device_id LIMIT $4::bigint", 4},
	[COUNT] = {"audit_count",
		"SELECT count(*) FROM device JOIN tenant t USING (tenant_id) WHERE deleted_at IS NULL AND ($1::text IS NULL OR t.id = $1)"
		" AND ($2::text IS NULL OR ueid = decode($2, 'hex'))", 2},
	[KEYS] = {"audit_keys",
		"SELECT kid, spki, extract(epoch FROM not_before)::bigint, extract(epoch FROM not_after)::bigint,"
		" coalesce(extract(epoch FROM revoked_at)::bigint, 0), coalesce(superseded_epoch, 0), coalesce(superseded_seq, 0) FROM device_key"
		" WHERE device_id = $1::bigint", 1},
	[EPOCHS] = {"audit_epochs",
		"SELECT e.epoch, CASE WHEN h.epoch = e.epoch THEN h.hi ELSE e.hi END, e.vouched, e.first_seen, CASE WHEN h.epoch = e.epoch THEN h.head END"
		" FROM device_epoch e LEFT JOIN device_hot h ON h.device_id = e.device_id WHERE e.device_id = $1::bigint ORDER BY e.epoch", 1},
	[EXCUSED] = {"audit_excused",
		"SELECT epoch, lower(missing), upper(missing) - 1, false, NULL, false FROM report_gap WHERE device_id = $1::bigint"
		" UNION ALL SELECT epoch, lower(dropped), upper(dropped) - 1, true, sha256, sha256 IS NOT NULL AND EXISTS (SELECT FROM device d JOIN device o"
		"  ON o.ueid = d.ueid AND o.device_id <> d.device_id JOIN report r ON r.device_id = o.device_id AND r.epoch = p.epoch"
		"  AND r.seq = upper(p.dropped) - 1 AND r.flags & 2 = 0 AND r.sha256 <> p.sha256 WHERE d.device_id = $1::bigint)"
		" FROM report_drop p WHERE device_id = $1::bigint ORDER BY 1, 2", 1},
	[EXPIRED] = {"audit_expired", "SELECT epoch, sections, seq, sha256, n FROM report_expired WHERE device_id = $1::bigint", 1},
	[ROWS] = {"audit_rows",
		"SELECT epoch, seq, received_at, issued_at, sha256, flags, message FROM report WHERE device_id = $1::bigint"
		" AND ($2::bigint IS NULL OR received_at >= to_timestamp($2)) ORDER BY epoch, seq, received_at", 2},
	/* Of one that was deleted, who did it when, as far as the log still says so, and where its reports ended. */
	[DELETED] = {"audit_deleted_device",
		"SELECT t.id, rfc3339(d.deleted_at), l.entry, EXISTS (SELECT FROM device_purge p WHERE p.device_id = d.device_id), e.told,"
		" json_build_object('deleted', json_build_object('ueid', $2::text, 'tenant', t.id, 'at', rfc3339(d.deleted_at), 'by', l.who, 'entry', l.number,"
		"  'removing', EXISTS (SELECT FROM device_purge p WHERE p.device_id = d.device_id), 'epochs', coalesce(e.list, '[]')))::text"
		" FROM device d JOIN tenant t USING (tenant_id) LEFT JOIN LATERAL (SELECT a.number, x.who, coalesce(' by ' || x.who, '') || ', entry '"
		"   || a.number || ' of the audit log' AS entry FROM audit a, LATERAL (SELECT a.line::jsonb ->> 'who' AS who) x"
		"   WHERE a.tenant_id = d.tenant_id AND a.time = d.deleted_at AND a.line::jsonb @> jsonb_build_object('method', 'ERASE', 'target', '/v1/devices/' || $2)"
		"   ORDER BY a.number DESC LIMIT 1) l ON true,"
		" LATERAL (SELECT string_agg(format('epoch %s seq %s', epoch_hex(e.epoch), e.hi), ', ' ORDER BY e.epoch) AS told,"
		"   json_agg(json_build_object('epoch', epoch_hex(e.epoch), 'seq', e.hi) ORDER BY e.epoch) AS list FROM device_epoch e"
		"   WHERE e.device_id = d.device_id AND e.hi > 0) e"
		" WHERE d.deleted_at IS NOT NULL AND ($1::text IS NULL OR t.id = $1) AND d.ueid = decode($2, 'hex') ORDER BY d.device_id", 2},
};
/* clang-format on */
#define STATEMENTS (sizeof statements / sizeof statements[0])

struct target {
	int64_t device_id;
	struct ueid ueid;
};

/* What the threads share. */
struct campaign {
	const char *tenant, *ueid, *since; /* seconds since 1970 */
	bool json;
	int64_t since_us;
	int64_t devices; /* in all */
	pthread_mutex_t lock; /* for what follows and for standard output */
	struct database *db; /* that the targets are read by */
	struct target page[PAGE];
	size_t page_len, page_at;
	int64_t last; /* device of the page; -1: that was the last page */
	bool failed;
	uint64_t checkpoints;
	atomic_llong devices_done, reports, expired, findings;
};

/* One thread's. */
struct auditor {
	struct campaign *campaign;
	struct database *db;
	struct key_cache *cache;
	struct target target;
	pthread_t thread;
};

static PGresult *
run_statement(struct database *db, int statement, const struct param *params)
{
	return database_run(db, statements[statement].name, params, statements[statement].params, NULL);
}

/* Findings. */

static void
print_json(const struct audit_place *p, const char *finding, const char *ueid, const char *epoch, const char *detail)
{
	json_t *line = json_pack("{s:s, s:s*, s:s*, s:s*}", "finding", finding, "ueid", ueid, "epoch", epoch, "detail",
				 detail);

	if (ueid != NULL)
		(void)json_object_update_new(
			line, json_pack("{s:I, s:I}", "first", (json_int_t)p->first, "last", (json_int_t)p->last));
	if (p->entry != 0)
		json_object_set_new(line, "entry", json_integer((json_int_t)p->entry));
	if (p->checkpoint != 0)
		json_object_set_new(line, "checkpoint", json_integer((json_int_t)p->checkpoint));
	json_dumpf(line, stdout, JSON_COMPACT);
	json_decref(line);
	putchar('\n');
}

static void
print_words(const struct audit_place *p, enum finding finding, const char *ueid, const char *epoch, const char *detail)
{
	printf("%s:", finding_name(finding));
	if (p->entry != 0)
		printf(" entry %llu", (unsigned long long)p->entry);
	if (p->checkpoint != 0)
		printf(" checkpoint %llu", (unsigned long long)p->checkpoint);
	if (ueid != NULL)
		printf(" device %s epoch %s seq %llu", ueid, epoch, (unsigned long long)p->first);
	if (p->last != p->first)
		printf(" to %llu", (unsigned long long)p->last);
	printf(": %s%s%s%s\n", finding_help(finding), detail == NULL ? "" : " (", detail == NULL ? "" : detail,
	       detail == NULL ? "" : ")");
}

static void
print_finding(void *context, enum finding finding, const struct audit_place *p, const char *detail)
{
	struct campaign *c = context;
	char ueid[UEID_HEX] = "", epoch[17] = "";

	if (p->ueid != NULL) {
		ueid_print(p->ueid, ueid);
		snprintf(epoch, sizeof epoch, "%016llx", (unsigned long long)p->epoch);
	}
	atomic_fetch_add(&c->findings, 1);
	pthread_mutex_lock(&c->lock);
	if (c->json)
		print_json(p, finding_name(finding), p->ueid == NULL ? NULL : ueid, p->ueid == NULL ? NULL : epoch,
			   detail);
	else
		print_words(p, finding, p->ueid == NULL ? NULL : ueid, epoch, detail);
	pthread_mutex_unlock(&c->lock);
}

static void
tell_finding(void *context, enum finding finding, uint64_t epoch, uint64_t first, uint64_t last, const char *detail)
{
	struct auditor *a = context;

	print_finding(a->campaign, finding, &(struct audit_place){&a->target.ueid, epoch, first, last, 0, 0}, detail);
}

/* One device. */

static struct device_keys *
read_keys(PGresult *res)
{
	size_t n = (size_t)PQntuples(res);
	struct device_keys *keys = calloc(1, sizeof *keys + n * sizeof keys->at[0]);

	if (keys == NULL)
		return NULL;
	keys->len = n;
	for (size_t i = 0; i < n; i++) {
		struct slice kid = result_bytes(res, (int)i, 0);

		memcpy(keys->at[i].kid, kid.at, kid.len < KID_SIZE ? kid.len : KID_SIZE);
		keys->at[i].spki = result_bytes(res, (int)i, 1);
		keys->at[i].not_before = result_int(res, (int)i, 2);
		keys->at[i].not_after = result_int(res, (int)i, 3);
		keys->at[i].revoked_at = result_int(res, (int)i, 4);
		keys->at[i].superseded_epoch = (uint64_t)result_int(res, (int)i, 5);
		keys->at[i].superseded_seq = (uint64_t)result_int(res, (int)i, 6);
	}
	return keys;
}

static void
free_epochs(struct audit_epoch *epochs, size_t n)
{
	for (size_t i = 0; epochs != NULL && i < n; i++) {
		free(epochs[i].excused);
		free(epochs[i].dropped);
		free(epochs[i].ends);
	}
	free(epochs);
}

/* The rows of `excused` that are of this epoch; both are sorted alike. -1: no memory. */
static int
take_excused(struct audit_epoch *e, PGresult *excused, int *at)
{
	int n = PQntuples(excused), end;

	while (*at < n && result_int(excused, *at, 0) < (int64_t)e->epoch)
		++*at;
	for (end = *at; end < n && result_int(excused, end, 0) == (int64_t)e->epoch; end++)
		;
	e->excused_len = (size_t)(end - *at);
	e->excused = calloc(e->excused_len + 1, sizeof e->excused[0]);
	e->dropped = calloc(e->excused_len + 1, sizeof e->dropped[0]);
	e->ends = calloc(e->excused_len + 1, sizeof e->ends[0]);
	if (e->excused == NULL || e->dropped == NULL || e->ends == NULL)
		return -1;
	for (size_t i = 0; i < e->excused_len; i++, ++*at) {
		e->excused[i] = (struct seq_range){(uint64_t)result_int(excused, *at, 1),
						   (uint64_t)result_int(excused, *at, 2)};
		e->dropped[i] = result_bool(excused, *at, 3);
		e->ends[i] = result_bytes(excused, *at, 4);
	}
	return 0;
}

static struct audit_epoch *
read_epochs(PGresult *res, PGresult *excused)
{
	size_t n = (size_t)PQntuples(res);
	struct audit_epoch *epochs = calloc(n + 1, sizeof *epochs);
	int at = 0;

	for (size_t i = 0; epochs != NULL && i < n; i++) {
		struct audit_epoch *e = &epochs[i];
		struct slice head = result_bytes(res, (int)i, 4);

		e->epoch = (uint64_t)result_int(res, (int)i, 0);
		e->hi = (uint64_t)result_int(res, (int)i, 1);
		e->vouched = result_bool(res, (int)i, 2);
		e->first_seen_us = result_time_us(res, (int)i, 3);
		e->has_head = head.len == DIGEST_SIZE;
		if (e->has_head)
			memcpy(e->head, head.at, DIGEST_SIZE);
		if (take_excused(e, excused, &at) < 0) {
			free_epochs(epochs, n);
			return NULL;
		}
	}
	return epochs;
}

static void
take_expired(struct audit_epoch *epochs, size_t n, const PGresult *res)
{
	for (int row = 0; row < PQntuples(res); row++)
		for (size_t i = 0; i < n; i++) {
			struct audit_expired *x = &epochs[i].expired[result_bool(res, row, 1)];
			struct slice digest = result_bytes(res, row, 3);

			if (epochs[i].epoch != (uint64_t)result_int(res, row, 0))
				continue;
			x->seq = (uint64_t)result_int(res, row, 2);
			x->n = (uint64_t)result_int(res, row, 4);
			memcpy(x->sha256, digest.at, digest.len < DIGEST_SIZE ? digest.len : DIGEST_SIZE);
		}
}

static bool
read_row(const PGresult *res, struct audit_row *row)
{
	struct slice digest = result_bytes(res, 0, 4);

	row->epoch = (uint64_t)result_int(res, 0, 0);
	row->seq = (uint64_t)result_int(res, 0, 1);
	row->received_us = result_time_us(res, 0, 2);
	row->issued_us = result_time_us(res, 0, 3);
	memset(row->sha256, 0, sizeof row->sha256);
	if (digest.len == DIGEST_SIZE)
		memcpy(row->sha256, digest.at, DIGEST_SIZE);
	row->flags = (unsigned)result_int(res, 0, 5);
	row->message = result_bytes(res, 0, 6);
	return row->seq > 0;
}

/* Row by row, so that a device's whole history never stands in memory. */
static int
walk_rows(struct auditor *a, struct audit *audit)
{
	char id[PARAM_NUMBER];
	const struct param device = param_number(id, a->target.device_id), since = param_text(a->campaign->since);
	const char *values[2] = {device.at, since.at};
	const int lengths[2] = {device.len, since.len}, formats[2] = {0, 0};
	PGconn *conn = database_connect(a->db);
	PGresult *res;
	struct audit_row row;
	int rc = 0;

	if (conn == NULL || PQsendQueryPrepared(conn, statements[ROWS].name, 2, values, lengths, formats, 1) != 1 ||
	    PQsetSingleRowMode(conn) != 1)
		return -1;
	while ((res = PQgetResult(conn)) != NULL) {
		if (PQresultStatus(res) == PGRES_SINGLE_TUPLE && read_row(res, &row))
			audit_row(audit, &row);
		else if (PQresultStatus(res) != PGRES_TUPLES_OK)
			rc = -1;
		PQclear(res);
	}
	return rc;
}

/* What was taken over by a transfer is the end of what the former tenant has, as far as that is kept. */
static void
tell_boundaries(struct auditor *a, const PGresult *excused)
{
	for (int i = 0; i < PQntuples(excused); i++) {
		uint64_t last = (uint64_t)result_int(excused, i, 2);

		if (result_bool(excused, i, 5))
			tell_finding(a, FINDING_CHAIN, (uint64_t)result_int(excused, i, 0), last, last,
				     "another one before the transfer");
	}
}

static int
audit_device(struct auditor *a)
{
	struct audit audit = {.cache = a->cache, .since_us = a->campaign->since_us, .tell = tell_finding, .context = a};
	struct device device = {.ueid = a->target.ueid, .device_id = a->target.device_id};
	struct audit_epoch *epochs = NULL;
	struct device_keys *keys = NULL;
	PGresult *res[4] = {NULL};
	char id[PARAM_NUMBER];
	const struct param param = param_number(id, a->target.device_id);
	int rc = -1;

	if (database_exec(a->db, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") < 0)
		return -1;
	for (int i = 0; i < 4; i++)
		if ((res[i] = run_statement(a->db, KEYS + i, &param)) == NULL)
			goto out;
	keys = read_keys(res[0]);
	epochs = read_epochs(res[1], res[2]);
	if (keys == NULL || epochs == NULL)
		goto out;
	take_expired(epochs, (size_t)PQntuples(res[1]), res[3]);
	device.keys = keys;
	tell_boundaries(a, res[2]);
	audit.device = &device;
	audit.epochs = epochs;
	audit.epochs_len = (size_t)PQntuples(res[1]);
	if (walk_rows(a, &audit) < 0)
		goto out;
	audit_end(&audit);
	rc = database_exec(a->db, "COMMIT");
out:
	atomic_fetch_add(&a->campaign->reports, (long long)audit.reports);
	atomic_fetch_add(&a->campaign->expired, (long long)audit.expired);
	free_epochs(epochs, res[1] == NULL ? 0 : (size_t)PQntuples(res[1]));
	free(keys);
	for (int i = 0; i < 4; i++)
		PQclear(res[i]);
	return rc;
}

/* All devices. */

static int
next_page(struct campaign *c)
{
	char last[PARAM_NUMBER], limit[PARAM_NUMBER];
	PGresult *res = run_statement(c->db, DEVICES,
				      (const struct param[]){param_text(c->tenant), param_text(c->ueid),
							     param_number(last, c->last), param_number(limit, PAGE)});

	if (res == NULL)
		return -1;
	c->page_at = 0;
	c->page_len = (size_t)PQntuples(res);
	for (size_t i = 0; i < c->page_len; i++) {
		c->page[i].device_id = result_int(res, (int)i, 0);
		memcpy(&c->page[i].ueid, result_bytes(res, (int)i, 1).at, sizeof c->page[i].ueid);
	}
	c->last = c->page_len < PAGE ? -1 : c->page[c->page_len - 1].device_id;
	PQclear(res);
	return 0;
}

static bool
next_target(struct campaign *c, struct target *target)
{
	bool more;

	pthread_mutex_lock(&c->lock);
	if (!c->failed && c->page_at == c->page_len && c->last >= 0 && next_page(c) < 0)
		c->failed = true;
	more = !c->failed && c->page_at < c->page_len;
	if (more)
		*target = c->page[c->page_at++];
	pthread_mutex_unlock(&c->lock);
	return more;
}

static void *
work(void *argument)
{
	struct auditor *a = argument;

	while (next_target(a->campaign, &a->target)) {
		if (audit_device(a) < 0) {
			pthread_mutex_lock(&a->campaign->lock);
			a->campaign->failed = true;
			pthread_mutex_unlock(&a->campaign->lock);
			break;
		}
		atomic_fetch_add(&a->campaign->devices_done, 1);
	}
	return NULL;
}

static void
print_progress(struct campaign *c, const char *end)
{
	fprintf(stderr, "\r%lld of %lld devices, %lld reports, %lld findings%s", atomic_load(&c->devices_done),
		(long long)c->devices, atomic_load(&c->reports), atomic_load(&c->findings), end);
}

/* Until the threads have ended. */
static void
watch_progress(struct campaign *c, struct auditor *auditors, size_t n)
{
	bool show = isatty(STDERR_FILENO);
	struct timespec until;

	for (size_t i = 0; i < n;) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += PROGRESS_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		if (pthread_timedjoin_np(auditors[i].thread, NULL, &until) == 0)
			i++;
		else if (show)
			print_progress(c, "");
	}
	if (show)
		print_progress(c, "\n");
}

static int
prepare(struct campaign *c)
{
	PGresult *count;

	c->db = database_new(cli_uri(), statements, STATEMENTS);
	if (c->db == NULL)
		return -1;
	count = run_statement(c->db, COUNT, (const struct param[]){param_text(c->tenant), param_text(c->ueid)});
	if (count == NULL)
		return -1;
	c->devices = result_int(count, 0, 0);
	PQclear(count);
	return 0;
}

static void
run_jobs(struct campaign *c, size_t jobs)
{
	struct auditor auditors[JOBS_MAX];
	size_t n = 0;

	memset(auditors, 0, sizeof auditors);
	for (; n < jobs; n++) {
		struct auditor *a = &auditors[n];

		a->campaign = c;
		a->db = database_new(cli_uri(), statements, STATEMENTS);
		a->cache = key_cache_new(4);
		if (a->db == NULL || a->cache == NULL || pthread_create(&a->thread, NULL, work, a) != 0)
			cli_die(CLI_WRONG, "out of memory");
	}
	watch_progress(c, auditors, n);
	while (n > 0) {
		key_cache_free(auditors[--n].cache);
		database_free(auditors[n].db);
	}
}

static int
look_at_checkpoints(struct campaign *c, const struct anchors *anchors, struct slice held)
{
	struct checkpoint_audit audit = {c->db, c->tenant, c->ueid, c->since_us, anchors, held, print_finding, c, 0};
	int rc = audit_checkpoints(&audit);

	c->checkpoints = audit.checkpoints;
	return rc;
}

/* The log alone, not the evidence. */
static int
look_at_log(struct campaign *c, const struct anchors *anchors, struct slice held)
{
	struct log_audit audit = {.anchors = anchors, .held = held, .print = print_finding, .context = c};

	c->db = audit.db = database_new(cli_uri(), NULL, 0);
	if (audit.db == NULL || audit_log(&audit) < 0)
		cli_die(CLI_WRONG, "the database failed: the audit is not complete");
	printf(c->json ? "{\"entries\":%llu,\"expired\":%llu,\"findings\":%lld}\n"
		       : "%llu entries, %llu more expired by retention, %lld findings\n",
	       (unsigned long long)audit.entries, (unsigned long long)audit.expired,
	       (long long)atomic_load(&c->findings));
	database_free(c->db);
	return atomic_load(&c->findings) > 0 ? CLI_NO : CLI_YES;
}

static void
print_totals(const struct campaign *c)
{
	long long devices = atomic_load(&c->devices_done), reports = atomic_load(&c->reports),
		  expired = atomic_load(&c->expired), findings = atomic_load(&c->findings);
	unsigned long long checkpoints = c->checkpoints;

	if (c->json)
		printf("{\"devices\":%lld,\"reports\":%lld,\"checkpoints\":%llu,\"findings\":%lld,\"expired\":%lld}\n",
		       devices, reports, checkpoints, findings, expired);
	else if (expired > 0)
		printf("%lld devices, %lld reports, %lld more expired by retention, %llu checkpoints, %lld findings\n",
		       devices, reports, expired, checkpoints, findings);
	else
		printf("%lld devices, %lld reports, %llu checkpoints, %lld findings\n", devices, reports, checkpoints,
		       findings);
}

/* Whether the device that was asked for was deleted; then that is told, since no more is left of it. */
static bool
tell_deleted(struct campaign *c)
{
	PGresult *res;
	int n;

	if (c->ueid == NULL)
		return false;
	res = run_statement(c->db, DELETED, (const struct param[]){param_text(c->tenant), param_text(c->ueid)});
	if (res == NULL)
		cli_die(CLI_WRONG, "the database does not answer");
	n = PQntuples(res);
	for (int i = 0; i < n; i++) {
		if (c->json) {
			puts(PQgetvalue(res, i, 5));
			continue;
		}
		printf("device %s of tenant %s was deleted at %s", c->ueid, PQgetvalue(res, i, 0),
		       PQgetvalue(res, i, 1));
		show_cell(stdout, PQgetvalue(res, i, 2), 0);
		if (result_null(res, i, 4))
			puts(": no report of it was here");
		else
			printf(": its reports are %s, and ended at %s\n",
			       result_bool(res, i, 3) ? "being removed" : "gone", PQgetvalue(res, i, 4));
	}
	PQclear(res);
	return n > 0;
}

int
audit_evidence(const struct command *command, int argc, char **argv)
{
	struct campaign c = {.since_us = INT64_MIN, .lock = PTHREAD_MUTEX_INITIALIZER};
	const char *jobs = NULL, *since = NULL, *ca = NULL, *kept = NULL;
	struct anchors *anchors = NULL;
	struct slice held = {NULL, 0};
	bool log = false;
	char error[256];
	char seconds[24];
	const struct cli_option options[] = {
		{"device", &c.ueid, NULL}, {"tenant", &c.tenant, NULL}, {"since", &since, NULL}, {"jobs", &jobs, NULL},
		{"ca", &ca, NULL},         {"checkpoint", &kept, NULL}, {"json", NULL, &c.json}, {"log", NULL, &log}};
	long processors = sysconf(_SC_NPROCESSORS_ONLN), n = processors > 0 ? processors : 1;

	cli_parse(command, argc, argv, options, 8, 0, 0);
	if (c.ueid != NULL)
		cli_check_ueid(c.ueid);
	if (jobs != NULL) {
		cli_check_number(jobs, "--jobs");
		n = atol(jobs);
	}
	if (since != NULL) {
		c.since_us = cli_time(since) * 1000000;
		snprintf(seconds, sizeof seconds, "%lld", (long long)(c.since_us / 1000000));
		c.since = seconds;
	}
	if (ca != NULL && (anchors = anchors_from_pem(ca, error)) == NULL)
		cli_die(CLI_WRONG, "%s", error);
	if (kept != NULL)
		held.at = cli_read(kept, LIMIT_CHECKPOINT, &held.len);
	if (log && (c.ueid != NULL || c.tenant != NULL || since != NULL || jobs != NULL))
		cli_die(CLI_WRONG, "the audit log is one, and is looked at from its beginning");
	if (log) {
		int status = look_at_log(&c, anchors, held);

		anchors_free(anchors);
		free((void *)(uintptr_t)held.at);
		return status;
	}
	if (prepare(&c) < 0)
		cli_die(CLI_WRONG, "the database does not answer");
	if (!tell_deleted(&c) && c.devices == 0 && (c.ueid != NULL || c.tenant != NULL))
		cli_die(CLI_WRONG,
			c.ueid != NULL ? "there is no such device" : "there are no devices of such a tenant");
	run_jobs(&c, (size_t)(n < JOBS_MAX ? n : JOBS_MAX));
	if (!c.failed && look_at_checkpoints(&c, anchors, held) < 0)
		c.failed = true;
	database_free(c.db);
	anchors_free(anchors);
	free((void *)(uintptr_t)held.at);
	if (c.failed)
		cli_die(CLI_WRONG, "the database failed: the audit is not complete");
	print_totals(&c);
	return atomic_load(&c.findings) > 0 ? CLI_NO : CLI_YES;
}
