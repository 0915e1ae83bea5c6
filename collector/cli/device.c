#include "collector/cli/cli.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/request.h"

#define LABELS_AT_ONCE 32 /* all that it has taken away, and as many others */

int
device_list(const struct command *command, int argc, char **argv)
{
	const char *tenant = NULL, *posture = NULL, *lifecycle = NULL, *label = NULL;
	bool json = false;
	const struct cli_option options[] = {{"tenant", &tenant, NULL},
					     {"posture", &posture, NULL},
					     {"lifecycle", &lifecycle, NULL},
					     {"label", &label, NULL},
					     {"json", NULL, &json}};

	cli_parse(command, argc, argv, options, 5, 0, 0);
	if (posture != NULL)
		cli_check_word(posture, "untrusted|silent|degraded|unknown|operational", "--posture");
	if (lifecycle != NULL)
		cli_check_word(lifecycle, "pending|active|retired|revoked|transferred", "--lifecycle");
	if (label != NULL && label_fault(label) > 0)
		cli_die(CLI_WRONG, "--label is " LABEL_WANTED);
	cli_list("SELECT encode(d.ueid, 'hex') AS ueid, t.id AS tenant, d.lifecycle, d.posture, d.serial, d.hwmodel, "
		 "d.swversion, "
		 "rfc3339(h.last_seen) AS last_seen FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id "
		 "LEFT JOIN device_hot h ON h.device_id = d.device_id WHERE d.deleted_at IS NULL AND ($1::text IS NULL "
		 "OR t.id = $1) "
		 "AND ($2::text IS NULL OR d.posture = $2) AND ($3::text IS NULL OR d.lifecycle = $3) "
		 "AND ($4::text IS NULL OR has_label(d.labels, $4)) ORDER BY d.device_id",
		 4, (const char *const[]){tenant, posture, lifecycle, label}, json);
	return CLI_YES;
}

int
device_show(const struct command *command, int argc, char **argv)
{
	static const char document[] = "SELECT item FROM device_item WHERE device_id = find_device(decode($1, 'hex'))";
	static const char rows[] = "SELECT key AS field, value FROM device_item, json_each_text(item::json) WHERE "
				   "device_id = find_device(decode($1, 'hex'))";
	bool json = false;
	const struct cli_option options[] = {{"json", NULL, &json}};
	PGresult *res;

	cli_parse(command, argc, argv, options, 1, 1, 1);
	cli_check_ueid(argv[1]);
	res = cli_query(document, 1, (const char *const[]){argv[1]});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "there is no device %s", argv[1]);
	if (json)
		puts(PQgetvalue(res, 0, 0));
	else
		cli_list(rows, 1, (const char *const[]){argv[1]}, false);
	PQclear(res);
	return CLI_YES;
}

/* What may be and what may not is the database's to judge, which is why it dies saying so. The first parameter is the device. */
static int
ask(const char *sql, int n, const char *const *params)
{
	PGresult *res;
	bool found;

	cli_check_ueid(params[0]);
	res = cli_query(sql, n, params);
	found = PQgetvalue(res, 0, 0)[0] == 't';
	PQclear(res);
	if (!found)
		cli_die(CLI_NO, "there is no device %s", params[0]);
	return CLI_YES;
}

static int
decide(const char *ueid, const char *key, const char *value)
{
	return ask("SELECT device_change(decode($1, 'hex'), jsonb_build_object($2::text, $3::text), $4, NULL)", 4,
		   (const char *const[]){ueid, key, value, cli_who()});
}

int
device_approve(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return decide(argv[1], "lifecycle", "active");
}

int
device_retire(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return decide(argv[1], "lifecycle", "retired");
}

int
device_transfer(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 2, 2);
	return decide(argv[1], "tenant", argv[2]);
}

int
device_delete(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return ask("SELECT device_delete(decode($1, 'hex'), $2, NULL)", 2, (const char *const[]){argv[1], cli_who()});
}

int
device_hold(const struct command *command, int argc, char **argv)
{
	const char *reason = NULL;
	bool release = false;
	const struct cli_option options[] = {{"reason", &reason, NULL}, {"release", NULL, &release}};

	cli_parse(command, argc, argv, options, 2, 1, 1);
	if ((reason != NULL) == release)
		cli_die(CLI_WRONG, "it takes either --reason or --release");
	return ask("SELECT device_change(decode($1, 'hex'), jsonb_build_object('legal_hold', CASE WHEN $2::text IS NOT "
		   "NULL "
		   "THEN jsonb_build_object('reason', $2::text) END), $3, NULL)",
		   3, (const char *const[]){argv[1], reason, cli_who()});
}

#define EXPIRES "86400" /* seconds that the question stays open */
#define LOOK_MS 100

static bool
is_answered(const char *ueid, const char *nonce)
{
	PGresult *res =
		cli_query("SELECT FROM challenge c JOIN device d USING (device_id) WHERE d.ueid = decode($1, 'hex') "
			  "AND c.nonce = decode($2, 'hex') AND c.outcome = 'answered'",
			  2, (const char *const[]){ueid, nonce});
	bool answered = PQntuples(res) > 0;

	PQclear(res);
	return answered;
}

/* A question that is open already is waited for as well. */
int
device_challenge(const struct command *command, int argc, char **argv)
{
	static const char told[] = "SELECT key AS field, value FROM json_each_text((SELECT challenge_json(c) FROM "
				   "challenge c JOIN device d "
				   "USING (device_id) WHERE d.ueid = decode($1, 'hex') AND c.nonce = decode($2, "
				   "'hex'))) WHERE value IS NOT NULL";
	static const char all[] =
		"SELECT challenge_json(c) FROM challenge c JOIN device d USING (device_id) WHERE d.ueid = "
		"decode($1, 'hex') AND c.nonce = decode($2, 'hex')";
	const char *wait = NULL;
	bool json = false, answered = false;
	const struct cli_option options[] = {{"wait", &wait, NULL}, {"json", NULL, &json}};
	PGresult *res;
	char *nonce;

	cli_parse(command, argc, argv, options, 2, 1, 1);
	cli_check_ueid(argv[1]);
	if (wait != NULL)
		cli_check_number(wait, "--wait");
	res = cli_query("SELECT item ->> 'nonce' FROM challenge_ask(decode($1, 'hex'), " EXPIRES ", $2)", 2,
			(const char *const[]){argv[1], cli_who()});
	if (PQntuples(res) == 0 || PQgetisnull(res, 0, 0))
		cli_die(CLI_NO, "there is no device %s", argv[1]);
	nonce = strdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	cli_commit();
	if (nonce == NULL)
		cli_die(CLI_WRONG, "out of memory");
	for (int64_t left = wait == NULL ? 0 : atoll(wait) * 1000; left > 0 && !answered; left -= LOOK_MS) {
		nanosleep(&(struct timespec){0, LOOK_MS * 1000000}, NULL);
		answered = is_answered(argv[1], nonce);
	}
	const char *const which[] = {argv[1], nonce};

	if (json) {
		res = cli_query(all, 2, which);
		puts(PQgetvalue(res, 0, 0));
		PQclear(res);
	} else {
		cli_list(told, 2, which, false);
	}
	free(nonce);
	return wait == NULL || answered ? CLI_YES : CLI_NO;
}

int
device_revoke(const struct command *command, int argc, char **argv)
{
	cli_parse(command, argc, argv, NULL, 0, 1, 1);
	return decide(argv[1], "lifecycle", "revoked");
}

/* One that has begun already. */
static int
vouch_for(const char *ueid, const char *epoch)
{
	PGresult *res;

	cli_check_ueid(ueid);
	if (strlen(epoch) != 16 || strspn(epoch, "0123456789abcdef") != 16)
		cli_die(CLI_WRONG, "%s: an epoch is 16 hex digits", epoch);
	res = cli_query("SELECT vouch_epoch(decode($1, 'hex'), ('x' || $2)::bit(64)::bigint)", 2,
			(const char *const[]){ueid, epoch});
	if (PQgetvalue(res, 0, 0)[0] != 't')
		cli_die(CLI_NO, "%s: no such device is pending or active and has that epoch, vouched for by nobody",
			ueid);
	PQclear(res);
	return CLI_YES;
}

int
device_reprovision(const struct command *command, int argc, char **argv)
{
	/* The change feed tells it, and collectors that know the device hear of it by NOTIFY and read it anew. */
	static const char sql[] =
		"WITH changed AS (UPDATE device SET reprovision_until = now() + $2::int * interval '1 hour' WHERE ueid "
		"= decode($1, 'hex') AND lifecycle IN ('pending', 'active') RETURNING tenant_id, ueid, lifecycle), "
		"told AS (INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, 'device.reprovision', "
		"ueid, "
		"jsonb_build_object('lifecycle', lifecycle) FROM changed) SELECT pg_notify('fleetstate_device', $1) "
		"FROM changed";
	const char *hours = "24", *epoch = NULL;
	const struct cli_option options[] = {{"hours", &hours, NULL}, {"epoch", &epoch, NULL}};
	PGresult *res;

	cli_parse(command, argc, argv, options, 2, 1, 1);
	cli_check_number(hours, "--hours");
	if (epoch != NULL)
		return vouch_for(argv[1], epoch);
	cli_check_ueid(argv[1]);
	res = cli_query(sql, 2, (const char *const[]){argv[1], hours});
	if (PQntuples(res) == 0)
		cli_die(CLI_NO, "%s: no such device is pending or active", argv[1]);
	PQclear(res);
	return CLI_YES;
}

/* "key=value" or "key-" as a member of the change. What keys and values may be is the database's to judge. */
static void
add_label(json_t *change, char *word)
{
	char *value = strchr(word, '=');
	size_t len = strlen(word);
	bool gone = value == NULL && len > 1 && word[len - 1] == '-';

	if (value == NULL && !gone)
		cli_die(CLI_WRONG, "%s: key=value, or key- to take one away", word);
	if (gone)
		word[len - 1] = '\0';
	else
		*value++ = '\0';
	if (json_object_get(change, word) != NULL)
		cli_die(CLI_WRONG, "%s: twice", word);
	if (json_object_set_new(change, word, gone ? json_null() : json_string(value)) != 0)
		cli_die(CLI_WRONG, "%s: a label is text in UTF-8", word);
}

int
device_label(const struct command *command, int argc, char **argv)
{
	int n = cli_parse(command, argc, argv, NULL, 0, 2, LABELS_AT_ONCE + 1);
	json_t *change = json_object();
	int status;
	char *text;

	cli_check_ueid(argv[1]);
	for (int i = 2; i <= n; i++)
		add_label(change, argv[i]);
	text = json_dumps(change, JSON_COMPACT);
	status = ask("SELECT device_change(decode($1, 'hex'), jsonb_build_object('labels', $2::jsonb), $3, NULL)", 3,
		     (const char *const[]){argv[1], text, cli_who()});
	free(text);
	json_decref(change);
	return status;
}
