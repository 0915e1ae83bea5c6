/*
 * What the collector was told: defaults, then collector.conf, then the command line. The table in settings.c writes --help, --example, the man
 * page and --check.
 */
#ifndef FLEETSTATE_COLLECTOR_SETTINGS_H
#define FLEETSTATE_COLLECTOR_SETTINGS_H

#include <stdint.h>

#include "schema/program.h"

struct settings {
	char *name;		/* this collector's, unique among those of the database; the host's name unless given */
	char *log_level;

	char *database;		/* libpq URIs, as the roles ingest, api and owner; owner NULL: migrations are run by hand */
	char *database_api;
	char *database_owner;

	char *broker;		/* ssl://host:port */
	char *ca, *certificate, *key;	/* PEM files of the TLS client */
	int64_t keep_alive;	/* seconds */
	int64_t session_expiry;	/* seconds the broker keeps a shard's queue for a successor */
	int64_t receive_maximum;	/* messages of a shard on their way to us at once */

	char *receipt_certificate, *receipt_key;	/* PEM chain, leaf first; a URI as cose_key_open takes it */

	int64_t workers;	/* threads that verify */
	int64_t queue_bytes, queue_slots;	/* of messages that wait for their commit */
	int64_t batch_max;	/* reports in one transaction */
	int64_t batch_window_ms;	/* how long a batch may wait for more */
	int64_t batch_news_ms;	/* and with a report in it that says something new */
	int64_t policy_ms;		/* for a tenant's own policy over 200 devices */
	int64_t park_seconds, park_max;	/* reports without a known key */
	int64_t refusals_per_second;	/* of one device; 0: any number */
	int64_t registrations_max;	/* devices of a tenant that were registered and never heard; 0: any number */
	int64_t pending_max;	/* reports stored of a device on hold */
	int64_t checkpoint_interval;	/* seconds */
	int64_t challenge_timeout;	/* seconds that a device which is heard may take to answer */
	int64_t silence_min;	/* seconds: nobody is silent sooner */
	int64_t certificate_warning, certificate_urgent;	/* seconds before its end */
	char *disks;		/* paths with spaces between; NULL: the usual */
	int64_t disk_free;	/* bytes; 0: disks are not looked at */
	int64_t database_size;	/* bytes; 0: it may grow */
	int64_t event_retention;	/* seconds */
	int64_t quiet_retention, sections_retention;	/* seconds that reports are kept */
	int64_t audit_retention;	/* seconds that entries of the audit log are kept */
	bool retention_uncovered;	/* also what no checkpoint speaks for may go */
	char *secret_key;	/* path of the key that sinks' secrets are sealed under; NULL: none */
	char *sink_networks;	/* what sinks may reach beside the public internet */
	bool sink_http;		/* also without TLS */
	int64_t sink_timeout;	/* seconds */

	char *http_listen;
	int64_t http_port, http_threads;
	char *http_certificate, *http_key;	/* PEM files; NULL: no TLS */
	char *http_tls;		/* the least version: "1.3" or "1.2" */
	bool http_tls_proxy;	/* somebody in front of us speaks it */
	char *http_client_ca, *http_client_crl;	/* PEM files; NULL: certificates are not asked for, or not held against lists */
	int64_t http_connections, http_connections_per_address;	/* 0 of one address: any number */
	int64_t http_idle, http_request_time;	/* seconds */
	int64_t http_read_rate;	/* bytes a second; 0: any */
	int64_t http_header_size, http_target_size, http_body_size, http_answer_size;	/* bytes */
	int64_t http_streams;	/* open at once */
	int64_t http_query_time;	/* seconds, of a statement */
	int64_t preview_ms;	/* for one preview of a policy */
	int64_t page_bytes;
	int64_t http_proxies;	/* in front of us, whose X-Forwarded-For is believed */
	int64_t guess_free;	/* failed sign-ins that are answered at once; 0: all */
	int64_t guess_delay, guess_window;	/* seconds */
	int64_t quota_requests, quota_bytes;	/* of one token, a second; 0: any number */
	int64_t quota_burst;			/* seconds' worth of them at once */
	int64_t quota_exports;			/* of one token, at once; 0: any number */
	char *jwt_issuer, *jwt_audience;	/* NULL issuer: no JSON Web Token is taken */
	char *jwt_keys, *jwt_ca, *jwt_networks;	/* path or URL of its keys; for that: PEM file, networks; NULL: the system's, public ones */
	int64_t jwt_refresh, jwt_refetch, jwt_leeway;	/* seconds */
	char *jwt_tenant_claim, *jwt_tenants;
	char *jwt_role_claim, *jwt_roles;
	char *jwt_scope_claim, *jwt_scopes;
	char *jwt_name_claim;
};

/* Defaults, then --config's file or /etc/fleetstate/collector.conf, then the command line. Returns as program_load does. */
int settings_load(struct settings *, int argc, char *const *argv) WARN_UNUSED;
void settings_free(struct settings *);
/* What a text was set to; NULL: to nothing, which is as if it was not set. */
const char *setting_given(const char *) WARN_UNUSED;

#endif
