#include "collector/cli/cli.h"

#include <stdio.h>
#include <string.h>

int
alert_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false, all = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"all", NULL, &all}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 3, 0, 0);
	cli_list("SELECT a.alert_id AS id, coalesce(t.id, '(system)') AS tenant, a.severity, a.policy, a.state, "
		 "rfc3339(a.opened_at) AS opened_at, "
		 "coalesce(encode(a.ueid, 'hex'), CASE a.item::json ->> 'scope' WHEN 'group' THEN (a.item::json ->> "
		 "'devices') || ' devices' "
		 "ELSE array_to_string(ARRAY(SELECT json_array_elements_text(a.item::json -> 'reasons')), '; ') END) "
		 "AS what FROM alert_item a "
		 "LEFT JOIN tenant t ON t.tenant_id = a.tenant_id WHERE ($1::text IS NULL OR t.id = $1) AND a.group_id "
		 "IS NULL "
		 "AND ($2::bool OR a.resolved_at IS NULL) ORDER BY a.alert_id",
		 2, (const char *const[]){tenant, all ? "t" : "f"}, json);
	return CLI_YES;
}

/* Runs a function of the schema on one alert; it returns what it acted on. */
static int
act(const char *sql, const char *number, int n, const char *const *params)
{
	PGresult *res;

	cli_check_number(number, "the alert");
	res = cli_query(sql, n, params);
	if (PQgetisnull(res, 0, 0) || strcmp(PQgetvalue(res, 0, 0), "{}") == 0)
		cli_die(CLI_NO, "there is no open alert %s", number);
	PQclear(res);
	return CLI_YES;
}

int
alert_acknowledge(const struct command *command, int argc, char **argv)
{
	const char *comment = NULL;
	const struct cli_option options[] = {{"comment", &comment, NULL}};

	cli_parse(command, argc, argv, options, 1, 1, 1);
	return act("SELECT alert_acknowledge(ARRAY[$1::bigint], NULL, $2, $3)", argv[1], 3,
		   (const char *const[]){argv[1], cli_who(), comment});
}

int
alert_silence(const struct command *command, int argc, char **argv)
{
	const char *comment = NULL, *hours = "24";
	const struct cli_option options[] = {{"comment", &comment, NULL}, {"hours", &hours, NULL}};

	cli_parse(command, argc, argv, options, 2, 1, 1);
	cli_check_number(hours, "--hours");
	return act("SELECT alert_silence(ARRAY[$1::bigint], NULL, $2, now() + $4::int * interval '1 hour', $3)",
		   argv[1], 4, (const char *const[]){argv[1], cli_who(), comment, hours});
}

int
alert_resolve(const struct command *command, int argc, char **argv)
{
	const char *comment = NULL;
	const struct cli_option options[] = {{"comment", &comment, NULL}};

	cli_parse(command, argc, argv, options, 1, 1, 1);
	return act("SELECT alert_resolve(ARRAY[$1::bigint], NULL, $2, $3)", argv[1], 3,
		   (const char *const[]){argv[1], cli_who(), comment});
}

int
alert_comment(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	return act("SELECT alert_comment(ARRAY[$1::bigint], NULL, $2, $3)", argv[1], 3,
		   (const char *const[]){argv[1], cli_who(), argv[2]});
}
