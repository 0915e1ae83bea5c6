#include "collector/cli/cli.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/sink_new.h"

#define FILE_MAX VAULT_SECRET_MAX
#define TEST_SECONDS 45

/* A text file whole; NULL if there is none to read. */
static char *
read_text(const char *file)
{
	char *text;
	FILE *in;
	size_t len;

	if (file == NULL)
		return NULL;
	text = calloc(1, FILE_MAX + 2);
	in = fopen(file, "re");
	if (text == NULL || in == NULL)
		cli_die(CLI_WRONG, "%s: %m", file);
	len = fread(text, 1, FILE_MAX + 1, in);
	fclose(in);
	if (len > FILE_MAX || strlen(text) != len)
		cli_die(CLI_WRONG, "%s: not a text file of at most %d bytes", file, FILE_MAX);
	return text;
}

/* Its first line. */
static char *
read_line(const char *file)
{
	char *text = read_text(file);

	if (text != NULL)
		text[strcspn(text, "\r\n")] = '\0';
	return text;
}

static void
load_key(struct vault_key *key, const char *file)
{
	char why[VAULT_WHY_SIZE];

	if (file == NULL)
		file = getenv("FLEETSTATE_SECRET_KEY");
	if (file == NULL)
		cli_die(CLI_WRONG, "the sink's secret is sealed under the collectors' secret_key: --secret-key or "
				   "FLEETSTATE_SECRET_KEY names it");
	if (vault_key_load(key, file, why) < 0)
		cli_die(CLI_WRONG, "%s", why);
}

/* What read_text gave. */
static void
forget(const char *text)
{
	if (text != NULL)
		OPENSSL_cleanse((char *)(uintptr_t)text, strlen(text));
	free((char *)(uintptr_t)text);
}

/* As bytea's hex spells it. */
static char *
hex_of(const struct sink_secret *secret)
{
	char *hex;

	if (secret->sealed == NULL)
		return NULL;
	hex = malloc(2 * secret->len + 3);
	if (hex == NULL)
		cli_die(CLI_NO, "out of memory");
	memcpy(hex, "\\x", 2);
	hex_print(secret->sealed, secret->len, hex + 2);
	return hex;
}

static void
insert(const struct sink_wish *w, const struct sink_secret *secret, const char *batch, bool backlog)
{
	char *types = NULL, *sealed = hex_of(secret);
	PGresult *res;

	/* As text[] spells it: the words have no letter that would need a thought. */
	if (asprintf(&types, "{%s}", w->types) < 0)
		cli_die(CLI_NO, "out of memory");
	res = cli_query("SELECT add_sink($1, $2, $3, $4, $5, $6, $7::bytea, $8::text[], $9, $10::int, $11::bool, $12)",
			12,
			(const char *const[]){w->tenant, w->name, w->kind, w->target, w->ca, w->certificate, sealed,
					      types, w->severity, batch, backlog ? "t" : "f",
					      w->format != NULL ? w->format : sink_kind(w->kind)->format});
	if (PQgetisnull(res, 0, 0))
		cli_die(CLI_NO, "there is no tenant %s", w->tenant);
	puts(PQgetvalue(res, 0, 0));
	PQclear(res);
	free(types);
	free(sealed);
}

int
sink_add(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *kind = NULL, *format = NULL, *types = "", *severity = "info", *batch = "100",
		   *ca = NULL, *certificate = NULL, *key = NULL, *secret_file = NULL, *key_file = NULL;
	bool all = false, backlog = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL},
					     {"all-tenants", NULL, &all},
					     {"kind", &kind, NULL},
					     {"format", &format, NULL},
					     {"types", &types, NULL},
					     {"severity", &severity, NULL},
					     {"batch", &batch, NULL},
					     {"ca", &ca, NULL},
					     {"certificate", &certificate, NULL},
					     {"key", &key, NULL},
					     {"secret", &secret_file, NULL},
					     {"secret-key", &key_file, NULL},
					     {"backlog", NULL, &backlog}};
	char why[SINK_WHY_SIZE];
	struct sink_secret secret;
	struct vault_key vault;
	struct sink_wish w;
	bool has_secret;

	cli_parse(command, argc, argv, options, sizeof options / sizeof *options, 2, 2);
	if ((tenant == NULL) != all)
		cli_die(CLI_WRONG, "--tenant says whose events it is told, or --all-tenants that it is told of all");
	cli_check_number(batch, "--batch");
	w = (struct sink_wish){.tenant = tenant,
			       .name = argv[1],
			       .kind = kind == NULL ? "" : kind,
			       .target = argv[2],
			       .format = format,
			       .types = types,
			       .severity = severity,
			       .batch = atoi(batch),
			       .ca = read_text(ca),
			       .certificate = read_text(certificate),
			       .key = read_text(key),
			       .secret = read_line(secret_file)};
	if (!sink_wish_ok(&w, why))
		cli_die(CLI_WRONG, "%s", why);
	has_secret = w.key != NULL || sink_kind(w.kind)->makes_secret;
	if (has_secret)
		load_key(&vault, key_file);
	if (!sink_wish_seal(&w, has_secret ? &vault : NULL, &secret, why))
		cli_die(CLI_NO, "%s", why);
	insert(&w, &secret, batch, backlog);
	if (secret.made[0] != '\0')
		puts(secret.made);
	sink_secret_free(&secret);
	OPENSSL_cleanse(&vault, sizeof vault);
	forget(w.ca);
	forget(w.certificate);
	forget(w.key);
	forget(w.secret);
	return CLI_YES;
}

int
sink_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 2, 0, 0);
	cli_list("SELECT s.sink_id AS number, t.id AS tenant, s.name, s.kind, s.format, s.target, s.types, s.severity, "
		 "s.batch, "
		 "rfc3339(s.created_at) AS created_at "
		 "FROM sink s LEFT JOIN tenant t ON t.tenant_id = s.tenant_id WHERE $1::text IS NULL OR t.id = $1 "
		 "ORDER BY 1",
		 1, &tenant, json);
	return CLI_YES;
}

int
sink_remove(const struct command *command, int argc, char **argv)
{
	PGresult *res;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_number(argv[1], "a sink");
	res = cli_query("WITH gone AS (DELETE FROM sink WHERE sink_id = $1::int RETURNING 1) SELECT "
			"pg_notify('fleetstate_sink', '') FROM gone",
			1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no sink %s", argv[1]);
	PQclear(res);
	return CLI_YES;
}

int
sink_status(const struct command *command, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 1, 0, 0);
	cli_list("SELECT s.sink_id AS number, s.name, c.leader, c.position, h.top - c.position AS behind, c.delivered, "
		 "c.retried, c.dead, c.missed, "
		 "rfc3339(c.delivered_at) AS delivered_at, rfc3339(c.failed_at) AS failing_since, c.failure "
		 "FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id, event_head h ORDER BY 1",
		 0, NULL, json);
	return CLI_YES;
}

int
sink_dead(const struct command *command, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 1, 1, 1);
	cli_check_number(argv[1], "a sink");
	cli_list("SELECT position, rfc3339(died_at) AS died_at, tries, answer, event FROM sink_dead WHERE sink_id = "
		 "$1::int ORDER BY position",
		 1, (const char *const[]){argv[1]}, json);
	return CLI_YES;
}

/* The collector that leads the sink sends it, as it sends everything else. */
int
sink_test(const struct command *command, int argc, char **argv)
{
	static const char ask[] = "WITH wanted AS (UPDATE sink_cursor SET test_wanted_at = clock_timestamp() WHERE "
				  "sink_id = $1::int RETURNING test_wanted_at) "
				  "SELECT test_wanted_at, pg_notify('fleetstate_sink', '') FROM wanted";
	static const char look[] =
		"SELECT test_answer FROM sink_cursor WHERE sink_id = $1::int AND tested_at >= $2::timestamptz";
	char *wanted;
	PGresult *res;
	int status;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_number(argv[1], "a sink");
	res = cli_query(ask, 1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no sink %s", argv[1]);
	wanted = strdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	cli_commit();
	for (int i = 0; i < TEST_SECONDS * 10; i++) {
		res = cli_query(look, 2, (const char *const[]){argv[1], wanted});
		if (PQntuples(res) == 1) {
			puts(PQgetvalue(res, 0, 0));
			status = strcmp(PQgetvalue(res, 0, 0), "delivered") == 0 ? CLI_YES : CLI_NO;
			PQclear(res);
			free(wanted);
			return status;
		}
		PQclear(res);
		nanosleep(&(struct timespec){0, 100000000}, NULL);
	}
	cli_die(CLI_NO, "no collector has tried it within %d seconds", TEST_SECONDS);
}
