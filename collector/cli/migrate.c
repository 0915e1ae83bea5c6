#include "collector/migrate.h"

#include <stdio.h>

#include "collector/cli/cli.h"

int
migrate_database(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 0, 0);
	if (migrate_run(cli_uri()) < 0)
		return CLI_NO;
	printf("%d\n", migrate_version());
	return CLI_YES;
}
