/* `fleetstate device import`: registers a list of devices, all of them or none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/cli/cli.h"
#include "collector/import.h"

#define PIECE 65536

struct list {
	const char *tenant;
	bool dry;
	json_t *batch;
	uint64_t lines[IMPORT_BATCH];
	struct import_faults faults;
	uint64_t devices;
};

/* To whoever watches. */
static void
show_progress(const struct list *list, bool over)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (over)
		fputs("\r\033[K", stderr);
	else
		fprintf(stderr, "\r%llu devices ", (unsigned long long)list->devices);
	fflush(stderr);
}

static void
send_batch(struct list *list)
{
	static const char sql[] =
		"SELECT place, member, fault FROM devices_add((SELECT tenant_id FROM tenant WHERE id = $1), "
		"$2::jsonb, $3, $4)";
	char *text = json_dumps(list->batch, JSON_COMPACT);
	PGresult *res =
		cli_query(sql, 4, (const char *const[]){list->tenant, text, cli_who(), list->dry ? "true" : "false"});

	for (int i = 0; i < PQntuples(res); i++)
		import_fault_add(&list->faults, list->lines[atoi(PQgetvalue(res, i, 0))], PQgetvalue(res, i, 1),
				 PQgetvalue(res, i, 2));
	list->devices += json_array_size(list->batch);
	show_progress(list, false);
	json_array_clear(list->batch);
	PQclear(res);
	free(text);
}

static void
on_document(void *context, uint64_t line, const json_t *document)
{
	struct list *list = context;

	list->lines[json_array_size(list->batch)] = line;
	json_array_append_new(list->batch, json_deep_copy(document));
	if (json_array_size(list->batch) == IMPORT_BATCH)
		send_batch(list);
}

static void
on_fault(void *context, uint64_t line, const char *column, const char *problem)
{
	struct list *list = context;

	import_fault_add(&list->faults, line, column, problem);
}

static void
read_list(const char *name, struct list *list)
{
	struct import *import = import_new(&(struct import_sink){on_document, on_fault, list});
	FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
	char piece[PIECE];
	size_t n;

	if (in == NULL)
		cli_die(CLI_WRONG, "%s: %m", name);
	if (import == NULL)
		cli_die(CLI_NO, "out of memory");
	while ((n = fread(piece, 1, sizeof piece, in)) > 0 && import_feed(import, piece, n))
		;
	if (ferror(in))
		cli_die(CLI_WRONG, "%s: %m", name);
	import_end(import);
	import_free(import);
	if (in != stdin)
		fclose(in);
	if (json_array_size(list->batch) > 0)
		send_batch(list);
	show_progress(list, true);
}

static void
tell_faults(const struct import_faults *faults)
{
	const json_t *fault;
	size_t i;

	json_array_foreach(faults->list, i, fault)
	{
		const char *column = json_string_value(json_object_get(fault, "column"));

		fprintf(stderr, "line %lld: %s%s%s\n", (long long)json_integer_value(json_object_get(fault, "line")),
			column == NULL ? "" : column, column == NULL ? "" : ": ",
			json_string_value(json_object_get(fault, "problem")));
	}
}

int
device_import(const struct command *command, int argc, char **argv)
{
	static struct list list;
	const struct cli_option options[] = {{"tenant", &list.tenant, NULL}, {"dry-run", NULL, &list.dry}};
	PGresult *res;

	cli_parse(command, argc, argv, options, 2, 1, 1);
	if (list.tenant == NULL)
		cli_die(CLI_WRONG, "--tenant says whose devices they are");
	res = cli_query("SELECT 1 FROM tenant WHERE id = $1", 1, &list.tenant);
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no tenant %s", list.tenant);
	PQclear(res);
	list.batch = json_array();
	if (list.batch == NULL)
		cli_die(CLI_NO, "out of memory");
	read_list(argv[1], &list);
	json_decref(list.batch);
	if (list.faults.n > 0) {
		tell_faults(&list.faults);
		cli_die(CLI_NO, "%s: %llu %s wrong, and nothing was taken", argv[1], (unsigned long long)list.faults.n,
			list.faults.n == 1 ? "thing is" : "things are");
	}
	printf("%llu device%s%s\n", (unsigned long long)list.devices, list.devices == 1 ? "" : "s",
	       list.dry ? " would be registered" : "");
	return CLI_YES;
}
