#include "collector/migrate.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/assets.h"
#include "schema/key.h"
#include "schema/log.h"
#include "schema/topics.h"

static const struct migration {
	int number;
	const char *path;
	const uint8_t *at, *end;
} migrations[] = {
#define MIGRATION(number, path) {number, path, asset_migration_##number, asset_migration_##number##_end},
#define ASSET(symbol, path, url, type)
#include "collector/assets.def"
#undef MIGRATION
#undef ASSET
};
#define MIGRATIONS (sizeof migrations / sizeof migrations[0])

static const char prepare[] = "SET client_min_messages = warning; SELECT pg_advisory_lock(8259, 0);"
			      "CREATE SCHEMA IF NOT EXISTS fleetstate;"
			      "GRANT USAGE ON SCHEMA fleetstate TO fleetstate_ingest, fleetstate_api;"
			      "CREATE TABLE IF NOT EXISTS fleetstate.schema_version ("
			      "version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());"
			      "ALTER TABLE fleetstate.schema_version ADD COLUMN IF NOT EXISTS sha256 bytea;"
			      "GRANT SELECT ON fleetstate.schema_version TO fleetstate_ingest";

int
migrate_version(void)
{
	return migrations[MIGRATIONS - 1].number;
}

static PGconn *
connect_to(const char *uri)
{
	PGconn *conn = PQconnectdb(uri);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	log_error("migrate: %s", PQerrorMessage(conn));
	PQfinish(conn);
	return NULL;
}

static int
run(PGconn *conn, const char *what, const char *sql)
{
	PGresult *res = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(res);

	PQclear(res);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
		return 0;
	log_error("migrate: %s: %s", what, PQerrorMessage(conn));
	return -1;
}

/* The database's version, 0 when it has none yet, -1 when it does not answer. */
static int
read_version(PGconn *conn)
{
	PGresult *res = PQexec(conn, "SELECT coalesce(max(version), 0) FROM fleetstate.schema_version");
	int version = -1;

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		version = atoi(PQgetvalue(res, 0, 0));
	else
		log_error("migrate: read the version: %s", PQerrorMessage(conn));
	PQclear(res);
	return version;
}

static void
digest_of(const struct migration *m, char hex[2 * DIGEST_SIZE + 1])
{
	uint8_t digest[DIGEST_SIZE];

	sha256((struct slice){m->at, (size_t)(m->end - m->at)}, digest);
	hex_print(digest, sizeof digest, hex);
}

/* Whether what was applied there is what is carried here: a number alone would take another line's database for ours. -1 after saying so. */
static int
check_applied(PGconn *conn)
{
	PGresult *res =
		PQexec(conn, "SELECT version, encode(sha256, 'hex') FROM fleetstate.schema_version ORDER BY version");
	int rc = -1;

	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		log_error("migrate: read what was applied: %s", PQerrorMessage(conn));
		goto out;
	}
	for (int i = 0; i < PQntuples(res); i++) {
		char hex[2 * DIGEST_SIZE + 1] = "";
		int number = 0;

		if ((size_t)i < MIGRATIONS) {
			digest_of(&migrations[i], hex);
			number = migrations[i].number;
		}
		if (atoi(PQgetvalue(res, i, 0)) == number && strcmp(PQgetvalue(res, i, 1), hex) == 0)
			continue;
		log_error("migrate: version %s of the database was made by another line of this program: use the "
			  "program that made it, or a new database",
			  PQgetvalue(res, i, 0));
		goto out;
	}
	rc = 0;
out:
	PQclear(res);
	return rc;
}

static int
apply(PGconn *conn, const struct migration *m)
{
	size_t len = (size_t)(m->end - m->at);
	char *sql = malloc(len + 256 + 2 * DIGEST_SIZE), hex[2 * DIGEST_SIZE + 1];
	int rc;

	if (sql == NULL)
		return -1;
	digest_of(m, hex);
	snprintf(sql, len + 256 + 2 * DIGEST_SIZE,
		 "BEGIN; SET LOCAL search_path = fleetstate, pg_catalog;\n%.*s\n;"
		 "INSERT INTO fleetstate.schema_version (version, sha256) VALUES (%d, '\\x%s'); COMMIT",
		 (int)len, (const char *)m->at, m->number, hex);
	rc = run(conn, m->path, sql);
	free(sql);
	if (rc == 0)
		log_info("migrate: database is now at version %d", m->number);
	return rc;
}

static int
apply_missing(PGconn *conn)
{
	int version = read_version(conn);

	if (version < 0)
		return -1;
	if (version > migrate_version()) {
		log_error("migrate: the database is at version %d, newer than this program's %d", version,
			  migrate_version());
		return -1;
	}
	if (check_applied(conn) < 0)
		return -1;
	for (size_t i = 0; i < MIGRATIONS; i++)
		if (migrations[i].number > version && apply(conn, &migrations[i]) < 0)
			return -1;
	return 0;
}

int
migrate_run(const char *owner_uri)
{
	PGconn *conn = connect_to(owner_uri);
	int rc;

	if (conn == NULL)
		return -1;
	rc = run(conn, "take the lock", prepare);
	if (rc == 0)
		rc = apply_missing(conn);
	PQfinish(conn); /* and with it the lock */
	return rc;
}

int
migrate_check(const char *uri)
{
	PGconn *conn = connect_to(uri);
	int version, rc = -1;

	if (conn == NULL)
		return -1;
	version = read_version(conn);
	if (version == migrate_version())
		rc = check_applied(conn);
	else if (version >= 0)
		log_error("migrate: the database is at version %d, this program needs %d", version, migrate_version());
	PQfinish(conn);
	return rc;
}
