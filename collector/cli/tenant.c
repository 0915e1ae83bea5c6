#include "collector/cli/cli.h"

#include <stdio.h>

int
tenant_add(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	PQclear(cli_query("INSERT INTO tenant (id, name) VALUES ($1, $2)", 2, (const char *const[]){argv[1], argv[2]}));
	return CLI_YES;
}

int
tenant_list(const struct command *command, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 1, 0, 0);
	cli_list("SELECT t.id, t.name, rfc3339(t.created_at) AS created_at, "
		 "(SELECT coalesce(sum(n), 0)::int8 FROM fleet_count c WHERE c.tenant_id = t.tenant_id) AS devices "
		 "FROM tenant t ORDER BY t.id",
		 0, NULL, json);
	return CLI_YES;
}
