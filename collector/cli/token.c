#include "collector/cli/cli.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "collector/auth.h"
#include "collector/client_certificate.h"
#include "collector/words.h"

/* Ends the program unless it is a list of scopes, "devices,state". */
static void
check_scopes(const char *list)
{
	struct slice word;

	while (words_next(&list, &word))
		if (scope_parse((const char *)word.at, word.len) == SCOPE_ANY)
			cli_die(CLI_WRONG, "--scopes: there is no scope %.*s", (int)word.len, (const char *)word.at);
}

int
token_add(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *role_name = NULL, *expires = NULL, *scopes = NULL, *certificate = NULL;
	const struct cli_option options[] = {{"tenant", &tenant, NULL},
					     {"role", &role_name, NULL},
					     {"expires", &expires, NULL},
					     {"scopes", &scopes, NULL},
					     {"certificate", &certificate, NULL}};
	char token[TOKEN_SIZE], hex[2 + 2 * DIGEST_SIZE + 1] = "\\x";
	uint8_t hash[DIGEST_SIZE];
	enum role role;
	PGresult *res;

	cli_parse(command, argc, argv, options, 5, 1, 1);
	if (role_name == NULL || !role_parse(role_name, &role))
		cli_die(CLI_WRONG, "--role is viewer, analyst, admin or operator");
	if ((tenant == NULL) != (role == ROLE_OPERATOR))
		cli_die(CLI_WRONG, "an operator stands above tenants; every other role needs --tenant");
	if (expires != NULL)
		cli_check_number(expires, "--expires");
	if (scopes != NULL)
		check_scopes(scopes);
	if (certificate != NULL && !certificate_mark_ok(certificate))
		cli_die(CLI_WRONG,
			"--certificate is fingerprint:, dns:, uri:, email: or subject: and what stands in it");
	if (token_make(TOKEN_PREFIX, token, hash) < 0)
		cli_die(CLI_NO, "the system has no random bytes");
	hex_print(hash, sizeof hash, hex + 2);
	res = cli_query("INSERT INTO api_token (kind, tenant_id, role, name, hash, expires_at, scopes, certificate) "
			"SELECT CASE WHEN "
			"$7::text IS NULL THEN 'token' ELSE 'certificate' END, t.tenant_id, $2, $3, CASE WHEN $7::text "
			"IS NULL THEN "
			"$4::bytea ELSE token_handle() END, now() + $5::int * interval '1 day', string_to_array($6, "
			"','), $7 FROM "
			"(SELECT 1) one LEFT JOIN tenant t ON t.id = $1 WHERE $1::text IS NULL OR t.id IS NOT NULL "
			"ON CONFLICT (certificate) WHERE revoked_at IS NULL DO NOTHING RETURNING token_id",
			7, (const char *const[]){tenant, role_name, argv[1], hex, expires, scopes, certificate});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no tenant %s%s", tenant == NULL ? "" : tenant,
			certificate == NULL ? "" : ", or the certificate is mapped already");
	puts(certificate == NULL ? token : PQgetvalue(res, 0, 0));
	PQclear(res);
	OPENSSL_cleanse(token, sizeof token);
	return CLI_YES;
}

int
token_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL}, {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 2, 0, 0);
	cli_list("SELECT a.token_id AS number, a.kind, t.id AS tenant, a.role, array_to_string(a.scopes, ',') AS "
		 "scopes, "
		 "a.name, rfc3339(a.created_at) AS created_at, "
		 "rfc3339(a.expires_at) AS expires_at, rfc3339(a.revoked_at) AS revoked_at, rfc3339(a.last_used_at) AS "
		 "last_used_at, coalesce(a.certificate, a.subject || ' at ' || a.issuer) AS stands_for, "
		 "a.quota_requests, "
		 "a.quota_bytes, a.quota_exports "
		 "FROM api_token a LEFT JOIN tenant t ON t.tenant_id = a.tenant_id WHERE $1::text IS NULL OR t.id = $1 "
		 "ORDER BY 1",
		 1, &tenant, json);
	return CLI_YES;
}

int
token_revoke(const struct command *command, int argc, char **argv)
{
	PGresult *res;

	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	cli_check_number(argv[1], "a token");
	res = cli_query(
		/* Of whom a provider vouches for, all that he was let in as in that tenant. */
		"UPDATE api_token k SET revoked_at = coalesce(k.revoked_at, now()) FROM api_token x WHERE x.token_id = "
		"$1::int8 "
		"AND (k.token_id = x.token_id OR (k.kind = 'bearer' AND k.issuer = x.issuer AND k.subject = x.subject "
		"AND "
		"k.tenant_id IS NOT DISTINCT FROM x.tenant_id)) RETURNING 1",
		1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no token %s", argv[1]);
	PQclear(res);
	return CLI_YES;
}

/* What is left out is as the collector's settings have it. */
int
token_quota(const struct command *command, int argc, char **argv)
{
	const char *requests = NULL, *bytes = NULL, *exports = NULL;
	const struct cli_option options[] = {
		{"requests", &requests, NULL}, {"bytes", &bytes, NULL}, {"exports", &exports, NULL}};
	PGresult *res;

	cli_parse(command, argc, argv, options, 3, 1, 1);
	cli_check_number(argv[1], "a token");
	res = cli_query(
		"UPDATE api_token SET quota_requests = $2::int, quota_bytes = $3::int8, quota_exports = $4::int WHERE "
		"token_id = $1::int8 RETURNING 1",
		4, (const char *const[]){argv[1], requests, bytes, exports});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no token %s", argv[1]);
	PQclear(res);
	return CLI_YES;
}
