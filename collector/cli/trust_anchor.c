#include "collector/cli/cli.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/enrol.h"

#define ANCHORS_MAX 64

/* enrol.c judges the file as the collector will; only then is it taken apart here, into DER as bytea's hex spells it. */
static size_t
read_anchors(const char *file, char *hex[ANCHORS_MAX])
{
	char error[256], *name, *header;
	struct anchors *anchors = anchors_from_pem(file, error);
	unsigned char *der;
	size_t n = 0;
	long len;
	FILE *in;

	if (anchors == NULL)
		cli_die(CLI_WRONG, "%s", error);
	anchors_free(anchors);
	in = fopen(file, "r");
	if (in == NULL)
		cli_die(CLI_WRONG, "%s: %m", file);
	while (n < ANCHORS_MAX && PEM_read(in, &name, &header, &der, &len) == 1) {
		if (strcmp(name, PEM_STRING_X509) == 0) {
			hex[n] = malloc((size_t)len * 2 + 3);
			if (hex[n] == NULL)
				cli_die(CLI_NO, "out of memory");
			memcpy(hex[n], "\\x", 2);
			hex_print(der, (size_t)len, hex[n++] + 2);
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	fclose(in);
	return n;
}

int
trust_anchor_add(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *enrol = "admit", *name = NULL;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"enrol", &enrol, NULL}, {"name", &name, NULL}};
	char *hex[ANCHORS_MAX];
	size_t n;

	cli_parse(command, argc, argv, options, 3, 1, 1);
	if (tenant == NULL)
		cli_die(CLI_WRONG, "--tenant says whose devices it may vouch for");
	cli_check_word(enrol, "admit|hold", "--enrol");
	n = read_anchors(argv[1], hex);
	if (name == NULL)
		name = strrchr(argv[1], '/') == NULL ? argv[1] : strrchr(argv[1], '/') + 1;
	PQclear(cli_query("BEGIN", 0, NULL));
	for (size_t i = 0; i < n; i++) {
		PGresult *res = cli_query("INSERT INTO trust_anchor (tenant_id, name, certificate, enrol) "
					  "SELECT tenant_id, $2, $3::bytea, $4 FROM tenant WHERE id = $1 ON CONFLICT "
					  "DO NOTHING RETURNING trust_anchor_id",
					  4, (const char *const[]){tenant, name, hex[i], enrol});

		if (PQntuples(res) == 0)
			cli_die(CLI_NO,
				"there is no tenant %s, or certificate %zu of %s is a trust anchor of it already",
				tenant, i + 1, argv[1]);
		puts(PQgetvalue(res, 0, 0));
		PQclear(res);
		free(hex[i]);
	}
	PQclear(cli_query("NOTIFY fleetstate_trust_anchor", 0, NULL));
	PQclear(cli_query("COMMIT", 0, NULL));
	return CLI_YES;
}

int
trust_anchor_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 2, 0, 0);
	cli_list("SELECT a.trust_anchor_id AS number, t.id AS tenant, a.enrol, a.name, "
		 "encode(sha256(a.certificate), 'hex') AS sha256, rfc3339(a.created_at) AS created_at "
		 "FROM trust_anchor a JOIN tenant t ON t.tenant_id = a.tenant_id WHERE $1::text IS NULL OR t.id = $1 "
		 "ORDER BY 1",
		 1, &tenant, json);
	return CLI_YES;
}

int
trust_anchor_remove(const struct command *command, int argc, char **argv)
{
	PGresult *res;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_number(argv[1], "a trust anchor");
	res = cli_query("WITH gone AS (DELETE FROM trust_anchor WHERE trust_anchor_id = $1::int RETURNING 1) "
			"SELECT pg_notify('fleetstate_trust_anchor', '') FROM gone",
			1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no trust anchor %s", argv[1]);
	PQclear(res);
	return CLI_YES;
}
