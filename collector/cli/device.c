#include "collector/cli/cli.h"

#include <stdio.h>
#include <string.h>

int
device_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *posture = NULL, *lifecycle = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL},
					     {"posture", &posture, NULL},
					     {"lifecycle", &lifecycle, NULL},
					     {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 4, 0, 0);
	if (posture != NULL)
		cli_check_word(posture, "untrusted|silent|degraded|unknown|operational", "--posture");
	if (lifecycle != NULL)
		cli_check_word(lifecycle, "pending|active|retired|revoked|transferred", "--lifecycle");
	cli_list("SELECT encode(d.ueid, 'hex') AS ueid, t.id AS tenant, d.lifecycle, d.posture, d.serial, d.hwmodel, "
		 "d.swversion, "
		 "rfc3339(h.last_seen) AS last_seen FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id "
		 "LEFT JOIN device_hot h ON h.device_id = d.device_id WHERE ($1::text IS NULL OR t.id = $1) "
		 "AND ($2::text IS NULL OR d.posture = $2) AND ($3::text IS NULL OR d.lifecycle = $3) ORDER BY "
		 "d.device_id",
		 3, (const char *const[]){tenant, posture, lifecycle}, json);
	return CLI_YES;
}

int
device_show(const struct command *command, int argc, char **argv)
{
	static const char document[] = "SELECT item FROM device_item WHERE ueid = decode($1, 'hex')";
	static const char rows[] = "SELECT key AS field, value FROM device_item, json_each_text(item::json) WHERE ueid "
				   "= decode($1, 'hex')";
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};
	PGresult *res;

	cli_parse(command, argc, argv, options, 1, 1, 1);
	cli_check_ueid(argv[1]);
	res = cli_query(document, 1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no device %s", argv[1]);
	if (json)
		puts(PQgetvalue(res, 0, 0));
	else
		cli_list(rows, 1, (const char *const[]){argv[1]}, false);
	PQclear(res);
	return CLI_YES;
}

/* The change feed tells it, and collectors that know the device hear of it by NOTIFY and read it anew. */
#define CHANGED "RETURNING tenant_id, ueid, lifecycle"
#define TELL(type)                                                                                                     \
	", told AS (INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, '" type "', ueid, "              \
	"jsonb_build_object('lifecycle', lifecycle) FROM changed) SELECT pg_notify('fleetstate_device', $1) FROM "     \
	"changed"

/* Runs an UPDATE that returns a row if it applied. */
static int
change(const char *sql, int n, const char *const *params, const char *otherwise)
{
	PGresult *res;

	cli_check_ueid(params[0]);
	res = cli_query(sql, n, params);
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "%s: %s", params[0], otherwise);
	PQclear(res);
	return CLI_YES;
}

int
device_approve(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return change("WITH changed AS (UPDATE device SET lifecycle = 'active' WHERE ueid = decode($1, 'hex') AND "
		      "lifecycle = 'pending' " CHANGED ")" TELL("device.lifecycle"),
		      1, (const char *const[]){argv[1]}, "no such device waits for approval");
}

int
device_retire(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return change("WITH changed AS (UPDATE device SET lifecycle = 'retired' WHERE ueid = decode($1, 'hex') "
		      "AND lifecycle IN ('pending', 'active') " CHANGED ")" TELL("device.lifecycle"),
		      1, (const char *const[]){argv[1]}, "no such device is pending or active");
}

int
device_reprovision(const struct command *command, int argc, char **argv)
{
	const char *hours = "24";
	const struct cli_option options[] = {{"hours", &hours, NULL}};

	cli_parse(command, argc, argv, options, 1, 1, 1);
	cli_check_number(hours, "--hours");
	return change("WITH changed AS (UPDATE device SET reprovision_until = now() + $2::int * interval '1 hour' "
		      "WHERE ueid = decode($1, 'hex') AND lifecycle IN ('pending', 'active') " CHANGED
		      ")" TELL("device.reprovision"),
		      2, (const char *const[]){argv[1], hours}, "no such device is pending or active");
}
