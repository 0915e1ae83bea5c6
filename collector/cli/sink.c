#include "collector/cli/cli.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/vault.h"
#include "collector/sink.h"

#define FILE_MAX VAULT_SECRET_MAX
#define TEST_SECONDS 45

/* A text file whole, without the end of its last line. */
static char *
read_text(const char *file)
{
	char *text = calloc(1, FILE_MAX + 2);
	FILE *in = fopen(file, "re");
	size_t len;

	if (text == NULL || in == NULL)
		cli_die(CLI_WRONG, "%s: %m", file);
	len = fread(text, 1, FILE_MAX + 1, in);
	fclose(in);
	if (len > FILE_MAX || strlen(text) != len || len == 0)
		cli_die(CLI_WRONG, "%s: not a text file of at most %d bytes", file, FILE_MAX);
	return text;
}

static char *
read_pem(const char *file, const char *what)
{
	char *text = file == NULL ? NULL : read_text(file);

	if (text != NULL && strstr(text, what) == NULL)
		cli_die(CLI_WRONG, "%s: not in PEM", file);
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

/* 256 random bits in hex. */
static char *
make_secret(void)
{
	unsigned char bytes[32];
	char *text = malloc(2 * sizeof bytes + 1);

	if (text == NULL || RAND_bytes(bytes, sizeof bytes) != 1)
		cli_die(CLI_NO, "the system has no random bytes");
	hex_print(bytes, sizeof bytes, text);
	OPENSSL_cleanse(bytes, sizeof bytes);
	return text;
}

/* As bytea's hex spells it. */
static char *
seal_text(const char *key_file, const char *secret, const char *tenant, const char *name, const char *kind,
	  const char *target)
{
	uint8_t sealed[VAULT_SECRET_MAX + VAULT_OVERHEAD];
	struct vault_key key;
	char binding[4096], *hex;
	size_t n = vault_binding(binding, sizeof binding, tenant, name, kind, target), len = 0;

	load_key(&key, key_file);
	if (n > 0)
		len = vault_close(&key, (struct slice){(uint8_t *)binding, n},
				  (struct slice){(const uint8_t *)secret, strlen(secret)}, sealed);
	OPENSSL_cleanse(&key, sizeof key);
	hex = malloc(2 * sizeof sealed + 3);
	if (len == 0 || hex == NULL)
		cli_die(CLI_NO, "the secret can't be sealed");
	memcpy(hex, "\\x", 2);
	hex_print(sealed, len, hex + 2);
	return hex;
}

static void
check_name(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > 63 || name[0] == '-' || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
		cli_die(CLI_WRONG,
			"%s: a sink's name is 1 to 63 of a-z, 0-9 and -, and begins with a letter or a digit", name);
}

/* "{a,b}", as text[] spells it: the words have no letter that would need a thought. */
static char *
array_of(const char *types)
{
	char *text = NULL;

	if (asprintf(&text, "{%s}", types) < 0)
		cli_die(CLI_NO, "out of memory");
	return text;
}

int
sink_add(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *kind_name = NULL, *types = "", *severity = "info", *batch = "100", *ca = NULL,
		   *certificate = NULL, *key = NULL, *secret_file = NULL, *key_file = NULL;
	bool all = false, backlog = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL},
					     {"all-tenants", NULL, &all},
					     {"kind", &kind_name, NULL},
					     {"types", &types, NULL},
					     {"severity", &severity, NULL},
					     {"batch", &batch, NULL},
					     {"ca", &ca, NULL},
					     {"certificate", &certificate, NULL},
					     {"key", &key, NULL},
					     {"secret", &secret_file, NULL},
					     {"secret-key", &key_file, NULL},
					     {"backlog", NULL, &backlog}};
	const struct sink_kind *kind;
	char why[GUARD_WHY_SIZE], *secret = NULL, *sealed = NULL, *made = NULL;
	PGresult *res;

	cli_parse(command, argc, argv, options, sizeof options / sizeof *options, 2, 2);
	check_name(argv[1]);
	if ((tenant == NULL) != all)
		cli_die(CLI_WRONG, "--tenant says whose events it is told, or --all-tenants that it is told of all");
	kind = kind_name == NULL ? NULL : sink_kind(kind_name);
	if (kind == NULL)
		cli_die(CLI_WRONG, "--kind is webhook or syslog");
	if (!kind->target_ok(argv[2], why))
		cli_die(CLI_WRONG, "%s: %s", argv[2], why);
	if (!event_types_ok(types))
		cli_die(CLI_WRONG, "%s: types are words like device.fork or alert.*, with commas between them", types);
	cli_check_word(severity, "info|low|medium|high|critical", "--severity");
	cli_check_number(batch, "--batch");
	if (atoi(batch) > 1000)
		cli_die(CLI_WRONG, "--batch is at most 1000");
	if ((certificate == NULL) != (key == NULL))
		cli_die(CLI_WRONG, "--certificate and --key go together");
	if (kind->makes_secret ? certificate != NULL : secret_file != NULL)
		cli_die(CLI_WRONG, "a %s has no %s", kind->name, kind->makes_secret ? "--certificate" : "--secret");
	if (kind->makes_secret)
		secret = secret_file == NULL ? (made = make_secret()) : read_text(secret_file);
	else if (key != NULL)
		secret = read_pem(key, "PRIVATE KEY-----");
	if (secret != NULL && kind->makes_secret)
		secret[strcspn(secret, "\r\n")] = '\0';
	if (secret != NULL)
		sealed = seal_text(key_file, secret, tenant, argv[1], kind->name, argv[2]);
	res = cli_query("SELECT add_sink($1, $2, $3, $4, $5, $6, $7::bytea, $8::text[], $9, $10::int, $11::bool)", 11,
			(const char *const[]){tenant, argv[1], kind->name, argv[2], read_pem(ca, "BEGIN CERTIFICATE"),
					      read_pem(certificate, "BEGIN CERTIFICATE"), sealed, array_of(types),
					      severity, batch, backlog ? "t" : "f"});
	if (PQgetisnull(res, 0, 0))
		cli_die(CLI_NO, "there is no tenant %s", tenant);
	puts(PQgetvalue(res, 0, 0));
	if (made != NULL)
		puts(made);
	PQclear(res);
	if (secret != NULL)
		OPENSSL_cleanse(secret, strlen(secret));
	return CLI_YES;
}

int
sink_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 2, 0, 0);
	cli_list("SELECT s.sink_id AS number, t.id AS tenant, s.name, s.kind, s.target, s.types, s.severity, s.batch, "
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
