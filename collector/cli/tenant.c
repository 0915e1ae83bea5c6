#include "collector/cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the table's own check has it. */
static void
check_id(const char *id)
{
	size_t len = strlen(id);

	if (len < 1 || len > 63 || id[0] == '-' || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
		cli_die(CLI_WRONG,
			"%s: a tenant's id is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit", id);
}

int
tenant_add(const struct command *command, int argc, char **argv)
{
	PGresult *res;

	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	check_id(argv[1]);
	res = cli_query("INSERT INTO tenant (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING RETURNING 1", 2,
			(const char *const[]){argv[1], argv[2]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is a tenant %s already", argv[1]);
	PQclear(res);
	return CLI_YES;
}

/* `changes` is an SQL expression of `n` values, from $3 on. */
static int
change(const char *id, const char *changes, const char *const *values, int n)
{
	const char *params[5] = {id, cli_who()};
	char sql[512];
	PGresult *res;
	bool found;

	memcpy(params + 2, values, (size_t)n * sizeof *values);
	snprintf(sql, sizeof sql, "SELECT tenant_change($1, %s, $2, NULL)", changes);
	res = cli_query(sql, n + 2, params);
	found = PQgetvalue(res, 0, 0)[0] == 't';
	PQclear(res);
	if (!found)
		cli_die(CLI_NO, "there is no tenant %s", id);
	return CLI_YES;
}

int
tenant_hold(const struct command *command, int argc, char **argv)
{
	const char *reason = NULL;
	bool release = false;
	const struct cli_option options[] = {{"reason", &reason, NULL}, {"release", NULL, &release}};

	cli_parse(command, argc, argv, options, 2, 1, 1);
	if ((reason != NULL) == release)
		cli_die(CLI_WRONG, "it takes either --reason or --release");
	return change(argv[1],
		      "jsonb_build_object('legal_hold', CASE WHEN $3::text IS NOT NULL "
		      "THEN jsonb_build_object('reason', $3::text) END)",
		      &reason, 1);
}

int
tenant_personal(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	return change(argv[1], "jsonb_build_object('personal', $3::text)", (const char *const *)argv + 2, 1);
}

/* As the settings have it: seconds, or with one of s m h d behind. It is the database's to say which are too few or too many. */
static const char *
read_retention(const char *text, char seconds[24])
{
	static const char units[] = "smhd";
	static const int64_t factors[] = {1, 60, 3600, 86400};
	const char *unit;
	char *end;
	int64_t n;

	if (text == NULL || strcmp(text, "usual") == 0)
		return text == NULL ? NULL : "null";
	errno = 0;
	n = strtoll(text, &end, 10);
	unit = *end == '\0' ? units : strchr(units, *end);
	if (errno != 0 || text[0] < '0' || text[0] > '9' || unit == NULL || (*end != '\0' && end[1] != '\0') ||
	    __builtin_mul_overflow(n, factors[unit - units], &n))
		cli_die(CLI_WRONG, "%s: a time is 90d, or with h, m or s, or usual: what the collector's settings say",
			text);
	snprintf(seconds, 24, "%" PRId64, n);
	return seconds;
}

int
tenant_retention(const struct command *command, int argc, char **argv)
{
	const char *quiet = NULL, *sections = NULL, *history = NULL;
	const struct cli_option options[] = {
		{"quiet", &quiet, NULL}, {"sections", &sections, NULL}, {"history", &history, NULL}};
	char texts[3][24];

	cli_parse(command, argc, argv, options, 3, 1, 1);
	if (quiet == NULL && sections == NULL && history == NULL)
		cli_die(CLI_WRONG, "it takes --quiet, --sections or --history");
	return change(argv[1],
		      "jsonb_build_object('retention', (SELECT jsonb_object_agg(k, v::jsonb) FROM (VALUES ('quiet_s', "
		      "$3::text), "
		      "('sections_s', $4::text), ('history_s', $5::text)) x (k, v) WHERE v IS NOT NULL))",
		      (const char *const[]){read_retention(quiet, texts[0]), read_retention(sections, texts[1]),
					    read_retention(history, texts[2])},
		      3);
}

int
tenant_list(const struct command *command, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 1, 0, 0);
	cli_list("SELECT t.id, t.name, rfc3339(t.created_at) AS created_at, "
		 "(SELECT coalesce(sum(n), 0)::int8 FROM fleet_count c WHERE c.tenant_id = t.tenant_id) AS devices, "
		 "t.personal, t.hold_reason AS legal_hold, t.quiet_s, t.sections_s, t.history_s "
		 "FROM tenant t ORDER BY t.id",
		 0, NULL, json);
	return CLI_YES;
}
