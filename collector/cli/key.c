/* `fleetstate key`: what devices sign with, and `fleetstate trust-anchor crl`, which takes many back at once. */
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/cli/cli.h"
#include "collector/crl.h"

#define PAGE "2000" /* keys looked at at once */

int
key_list(const struct command *command, int argc, char **argv)
{
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 1, 1, 1);
	cli_check_ueid(argv[1]);
	cli_list("SELECT encode(k.kid, 'hex') AS kid, k.status, rfc3339(k.not_before) AS not_before, "
		 "rfc3339(k.not_after) AS not_after, rfc3339(k.enrolled_at) AS enrolled_at, "
		 "CASE WHEN k.superseded_seq IS NOT NULL THEN epoch_hex(k.superseded_epoch) || '/' || k.superseded_seq "
		 "END AS superseded_at, rfc3339(k.revoked_at) AS revoked_at, k.revoked_why AS why FROM device_key k "
		 "JOIN device d ON d.device_id = k.device_id WHERE d.ueid = decode($1, 'hex') AND d.lifecycle <> "
		 "'transferred' "
		 "ORDER BY k.enrolled_at, "
		 "k.not_before, "
		 "k.kid",
		 1, (const char *const[]){argv[1]}, json);
	return CLI_YES;
}

static bool
revoke(const char *ueid, const char *kid, const char *why)
{
	PGresult *res = cli_query("SELECT revoke_key(decode($1, 'hex'), decode($2, 'hex'), $3)", 3,
				  (const char *const[]){ueid, kid, why});
	bool done = PQgetvalue(res, 0, 0)[0] == 't';

	PQclear(res);
	return done;
}

static void
check_key(const char *kid)
{
	if (strlen(kid) != 16 || strspn(kid, "0123456789abcdef") != 16)
		cli_die(CLI_WRONG, "%s: a key is 16 hex digits, as fleetstate key list prints them", kid);
}

int
key_revoke(const struct command *command, int argc, char **argv)
{
	const char *why = cli_who();
	const struct cli_option options[] = {{"why", &why, NULL}};

	cli_parse(command, argc, argv, options, 1, 2, 2);
	cli_check_ueid(argv[1]);
	check_key(argv[2]);
	if (!revoke(argv[1], argv[2], why))
		cli_die(CLI_NO, "%s has no such key that is not revoked already", argv[1]);
	return CLI_YES;
}

int
key_retire(const struct command *command, int argc, char **argv)
{
	static const char sql[] =
		"WITH changed AS (UPDATE device_key k SET status = 'retired', superseded_epoch = h.epoch, "
		"superseded_seq = "
		"h.hi + 1 FROM device d JOIN device_hot h ON h.device_id = d.device_id WHERE d.ueid = decode($1, "
		"'hex') AND d.lifecycle <> 'transferred' AND "
		"k.device_id = d.device_id AND k.kid = decode($2, 'hex') AND k.status = 'active' RETURNING "
		"d.tenant_id, "
		"d.ueid, k.kid), told AS (INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, "
		"'device.key-retired', ueid, jsonb_build_object('kid', encode(kid, 'hex')) FROM changed) "
		"SELECT pg_notify('fleetstate_device', $1) FROM changed";
	PGresult *res;

	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	cli_check_ueid(argv[1]);
	check_key(argv[2]);
	res = cli_query(sql, 2, (const char *const[]){argv[1], argv[2]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "%s has no such key that is active", argv[1]);
	PQclear(res);
	return CLI_YES;
}

/* What PostgreSQL prints as \x and hex digits. */
static X509 *
read_certificate(const char *text)
{
	size_t len = strlen(text) / 2;
	uint8_t *der = malloc(len);
	const unsigned char *at = der;
	X509 *x = NULL;

	if (der != NULL && text[0] == '\\' &&
	    hex_parse((struct slice){(const uint8_t *)text + 2, 2 * (len - 1)}, der, len - 1))
		x = d2i_X509(NULL, &at, (long)len - 1);
	free(der);
	return x;
}

static X509 *
anchor_of(const char *number)
{
	PGresult *res = cli_query("SELECT certificate FROM trust_anchor WHERE trust_anchor_id = $1::int", 1,
				  (const char *const[]){number});
	X509 *x;

	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no trust anchor %s", number);
	x = read_certificate(PQgetvalue(res, 0, 0));
	if (x == NULL)
		cli_die(CLI_NO, "trust anchor %s can't be read", number);
	PQclear(res);
	return x;
}

/* The anchor, or an intermediate in PEM that the anchor itself vouches for. */
static X509 *
issuer_of(X509 *anchor, const char *file)
{
	FILE *in;
	X509 *x;

	if (file == NULL)
		return anchor;
	in = fopen(file, "re");
	if (in == NULL)
		cli_die(CLI_WRONG, "%s: %m", file);
	x = PEM_read_X509(in, NULL, NULL, NULL);
	fclose(in);
	if (x == NULL)
		cli_die(CLI_WRONG, "%s: no certificate in it", file);
	if (X509_check_issued(anchor, x) != X509_V_OK || X509_verify(x, X509_get0_pubkey(anchor)) != 1)
		cli_die(CLI_NO, "%s: the trust anchor did not issue it", file);
	return x;
}

static void
store_list(const char *number, const X509_CRL *crl)
{
	unsigned char *der = NULL;
	int len = i2d_X509_CRL(crl, &der);
	char *hex = len <= 0 ? NULL : malloc((size_t)len * 2 + 3), issuer[2 * DIGEST_SIZE + 3] = "\\x", begins[24],
	     ends[24];
	uint8_t digest[DIGEST_SIZE];
	PGresult *res;

	if (hex == NULL)
		cli_die(CLI_NO, "out of memory");
	memcpy(hex, "\\x", 2);
	hex_print(der, (size_t)len, hex + 2);
	crl_issuer(crl, digest);
	hex_print(digest, DIGEST_SIZE, issuer + 2);
	snprintf(begins, sizeof begins, "%lld", (long long)crl_begins(crl));
	snprintf(ends, sizeof ends, "%lld", (long long)crl_ends(crl));
	/* Somebody who kept an old list must not bring back what was revoked since. */
	res = cli_query(
		"INSERT INTO crl AS c (trust_anchor_id, issuer, crl, this_update, next_update) VALUES ($1::int, "
		"$2::bytea, $3::bytea, to_timestamp($4::bigint), to_timestamp($5::bigint)) ON CONFLICT "
		"(trust_anchor_id, "
		"issuer) DO UPDATE SET crl = EXCLUDED.crl, this_update = EXCLUDED.this_update, next_update = "
		"EXCLUDED.next_update, loaded_at = now() WHERE c.this_update <= EXCLUDED.this_update RETURNING 1",
		5, (const char *const[]){number, issuer, hex, begins, ends});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "it is older than the list that is in force");
	PQclear(res);
	OPENSSL_free(der);
	free(hex);
}

static bool
is_named(X509_CRL *crl, X509 *issuer, const PGresult *res, int row)
{
	bool named = false;

	for (int column = 2; column < 5 && !named && !PQgetisnull(res, row, column); column++) {
		X509 *x = read_certificate(PQgetvalue(res, row, column));

		named = x != NULL && crl_names(crl, issuer, x);
		X509_free(x);
	}
	return named;
}

/* Keys that are enrolled already, of devices that are or were the tenant's, page by page; collectors look after those to come. Returns how many were
   taken back. */
static long
revoke_named(const char *number, X509_CRL *crl, X509 *issuer)
{
	char device[24] = "0", kid[17] = "";
	long revoked = 0;
	int n;

	do {
		PGresult *res =
			cli_query("SELECT encode(d.ueid, 'hex'), encode(k.kid, 'hex'), k.chain[1], k.chain[2], "
				  "k.chain[3], k.device_id FROM "
				  "device_key k JOIN device d ON d.device_id = k.device_id WHERE EXISTS (SELECT FROM "
				  "trust_anchor a JOIN device o ON o.tenant_id = a.tenant_id WHERE "
				  "a.trust_anchor_id = $1::int AND o.ueid = d.ueid) AND d.lifecycle <> "
				  "'transferred' AND k.status <> 'revoked' AND "
				  "(k.device_id, k.kid) > "
				  "($2::bigint, decode($3, 'hex')) ORDER BY "
				  "k.device_id, k.kid LIMIT " PAGE,
				  3, (const char *const[]){number, device, kid});

		n = PQntuples(res);
		for (int i = 0; i < n; i++)
			if (is_named(crl, issuer, res, i))
				revoked += revoke(PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
						  "named by its authority's list");
		if (n > 0) {
			snprintf(device, sizeof device, "%s", PQgetvalue(res, n - 1, 5));
			snprintf(kid, sizeof kid, "%s", PQgetvalue(res, n - 1, 1));
		}
		PQclear(res);
	} while (n > 0);
	return revoked;
}

int
trust_anchor_crl(const struct command *command, int argc, char **argv)
{
	const char *file = NULL;
	const struct cli_option options[] = {{"issuer", &file, NULL}};
	char why[CRL_WHY_SIZE];
	X509 *anchor, *issuer;
	struct slice bytes;
	X509_CRL *crl;
	long revoked;

	cli_parse(command, argc, argv, options, 1, 2, 2);
	cli_check_number(argv[1], "a trust anchor");
	bytes.at = cli_read(argv[2], LIMIT_CRL, &bytes.len);
	crl = crl_read(bytes, why);
	if (crl == NULL)
		cli_die(CLI_WRONG, "%s: %s", argv[2], why);
	anchor = anchor_of(argv[1]);
	issuer = issuer_of(anchor, file);
	if (!crl_fits(crl, issuer, time(NULL), why))
		cli_die(CLI_NO, "%s: %s", argv[2], why);
	store_list(argv[1], crl);
	revoked = revoke_named(argv[1], crl, issuer);
	printf("%ld keys revoked\n", revoked);
	if (issuer != anchor)
		X509_free(issuer);
	X509_free(anchor);
	X509_CRL_free(crl);
	free((void *)(uintptr_t)bytes.at);
	return CLI_YES;
}
