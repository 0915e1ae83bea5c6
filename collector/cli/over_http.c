/* What only the database can do, and how a collector is asked for the same. */
#include <stdio.h>

#include "collector/cli/cli.h"

/* Where the words are others than the command's own. */
static const struct {
	int (*run)(const struct command *, int argc, char **argv);
	const char *words;
} others[] = {
	{tenant_hold, "tenant change ID legal_hold:='{\"reason\": \"TEXT\"}'"},
	{tenant_retention, "tenant change ID retention:='{\"quiet_s\": SECONDS}'"},
	{tenant_personal, "tenant change ID personal=keep|hash|omit"},
	{trust_anchor_remove, "trust-anchor delete NUMBER"},
	{device_approve, "device change UEID lifecycle=active"},
	{device_retire, "device change UEID lifecycle=retired"},
	{device_revoke, "device change UEID lifecycle=revoked"},
	{device_import, "device add --tenant ID --type text/csv --body FILE"},
	{device_transfer, "device change UEID --tenant ID tenant=TENANT"},
	{device_hold, "device change UEID legal_hold:='{\"reason\": \"TEXT\"}'"},
	{device_label, "device change UEID labels:='{\"KEY\": \"VALUE\"}'"},
	{sink_status, "sink list"},
	{sink_remove, "sink delete NUMBER"},
	{policy_apply, "policy put ID --body FILE"},
};

void
cli_say_database_only(const struct command *command)
{
	const char *verb = command->verb == NULL ? "" : command->verb, *words = NULL;

	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (others[i].run == command->run)
			words = others[i].words;
	fprintf(stderr, "fleetstate: %s%s%s works on the database%s%s\n", command->noun, verb[0] == '\0' ? "" : " ",
		verb, words == NULL ? " and is nothing to ask a collector for" : "; over HTTP it is: fleetstate ",
		words == NULL ? "" : words);
}
