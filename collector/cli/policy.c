#include "collector/cli/cli.h"

#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACK_MAX (4u << 20)

const char *
cli_who(void)
{
	static char who[128];
	const struct passwd *user = getpwuid(getuid());

	snprintf(who, sizeof who, "%s (command line)", user == NULL ? "somebody" : user->pw_name);
	return who;
}

void
cli_act_for(const char *tenant)
{
	PGresult *res;

	if (tenant == NULL)
		return;
	res = cli_query("SELECT set_config('fleetstate.tenant', tenant_id::text, false) FROM tenant WHERE id = $1", 1,
			&tenant);
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no tenant %s", tenant);
	PQclear(res);
}

/* The file's JSON, written anew; free it. Ends the program, saying where, if it is none. */
static char *
read_pack(const char *path)
{
	json_error_t error;
	json_t *json;
	char *text;
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");

	if (file == NULL)
		cli_die(CLI_WRONG, "%s: %m", path);
	json = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
	if (file != stdin)
		fclose(file);
	if (json == NULL)
		cli_die(CLI_WRONG, "%s: line %d, column %d: %s", path, error.line, error.column, error.text);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	if (text == NULL || strlen(text) > PACK_MAX)
		cli_die(CLI_WRONG, "%s: too large", path);
	return text;
}

int
policy_apply(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};
	char *pack;

	cli_parse(command, argc, argv, options, 2, 1, 1);
	pack = read_pack(argv[1]);
	cli_act_for(tenant);
	cli_list("SELECT * FROM pack_apply($1::jsonb, $2)", 2, (const char *const[]){pack, cli_who()}, json);
	free(pack);
	return CLI_YES;
}

int
policy_test(const struct command *command, int argc, char **argv)
{
	char *pack;
	PGresult *res;
	int wrong = 0;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	pack = read_pack(argv[1]);
	res = cli_query("SELECT policy, wrong FROM pack_test($1::jsonb)", 1, (const char *const[]){pack});
	free(pack);
	for (int i = 0; i < PQntuples(res); i++)
		if (!PQgetisnull(res, i, 1)) {
			printf("%s: %s\n", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
			wrong++;
		}
	printf("%d policies, %d wrong\n", PQntuples(res), wrong);
	PQclear(res);
	return wrong == 0 ? CLI_YES : CLI_NO;
}

int
policy_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 2, 0, 0);
	cli_list("SELECT p.id, coalesce(t.id, CASE WHEN p.builtin THEN '(built in)' ELSE '(everyone)' END) AS tenant, "
		 "p.severity, p.element, "
		 "p.pack, p.enabled, rfc3339(p.struck_out_at) AS struck_out_at, p.title FROM policy p LEFT JOIN tenant "
		 "t ON t.tenant_id = "
		 "p.tenant_id WHERE p.deleted_at IS NULL AND ($1::text IS NULL OR t.id = $1 OR p.tenant_id IS NULL) "
		 "ORDER BY p.tenant_id NULLS FIRST, p.policy_id",
		 1, (const char *const[]){tenant}, json);
	return CLI_YES;
}
