#include "collector/settings.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema/log.h"
#include "schema/program.h"

#define AT(field) offsetof(struct settings, field)

/* clang-format off */
static const struct option table[] = {
	{.name = "name", .type = OPTION_TEXT, .offset = AT(name),
		.help = "this collector's name, unique among those of one database (default: the host's name)"},
	{.name = "log_level", .type = OPTION_CHOICE, .offset = AT(log_level), .initial = "info", .choices = "error|warning|info|debug",
		.help = "the least of what is logged"},
	{.name = "database", .type = OPTION_TEXT, .offset = AT(database), .required = true, .secret = true,
		.help = "libpq URI of the database, as the role fleetstate_ingest"},
	{.name = "database_api", .type = OPTION_TEXT, .offset = AT(database_api), .required = true, .secret = true,
		.help = "libpq URI for HTTP requests, as the role fleetstate_api"},
	{.name = "database_owner", .type = OPTION_TEXT, .offset = AT(database_owner), .secret = true,
		.help = "libpq URI as the role fleetstate_owner: migrates the database at the start; without it the version is only checked"},
	{.name = "broker", .type = OPTION_TEXT, .offset = AT(broker), .initial = "ssl://localhost:8884",
		.help = "the broker's listener for collectors"},
	{.name = "ca", .type = OPTION_PATH, .offset = AT(ca), .required = true,
		.help = "PEM file of the CA that the broker's certificate must end at"},
	{.name = "certificate", .type = OPTION_PATH, .offset = AT(certificate), .required = true,
		.help = "PEM file of our client certificate at the broker"},
	{.name = "key", .type = OPTION_PATH, .offset = AT(key), .required = true, .help = "PEM file of its key"},
	{.name = "keep_alive", .type = OPTION_SECONDS, .offset = AT(keep_alive), .initial = "30", .min = 4, .max = 600,
		.help = "the broker's connection is given up after one and a half of these"},
	{.name = "session_expiry", .type = OPTION_SECONDS, .offset = AT(session_expiry), .initial = "1d", .min = 60, .max = 4294967294,
		.help = "how long the broker keeps a shard's queue when no collector holds it"},
	{.name = "receive_maximum", .type = OPTION_NUMBER, .offset = AT(receive_maximum), .initial = "1000", .min = 1, .max = 65535,
		.help = "messages that the broker may send on one shard before the first is acknowledged"},
	{.name = "receipt_certificate", .type = OPTION_PATH, .offset = AT(receipt_certificate), .required = true,
		.help = "PEM file of the receipt signer's certificate and its intermediates, leaf first"},
	{.name = "receipt_key", .type = OPTION_TEXT, .offset = AT(receipt_key), .required = true,
		.help = "the receipt signer's key: a path, or a URI as OpenSSL's STORE takes it"},
	{.name = "workers", .type = OPTION_NUMBER, .offset = AT(workers), .initial = "2", .min = 1, .max = 64,
		.help = "threads that verify reports"},
	{.name = "queue_bytes", .type = OPTION_BYTES, .offset = AT(queue_bytes), .initial = "64M", .min = 4194304, .max = INT64_C(1) << 36,
		.help = "memory for reports that wait for their commit"},
	{.name = "queue_slots", .type = OPTION_NUMBER, .offset = AT(queue_slots), .initial = "16384", .min = 64, .max = 1048576,
		.help = "reports that may wait for their commit"},
	{.name = "batch_max", .type = OPTION_NUMBER, .offset = AT(batch_max), .initial = "1024", .min = 1, .max = 16384,
		.help = "reports in one transaction at most"},
	{.name = "batch_window_ms", .type = OPTION_NUMBER, .offset = AT(batch_window_ms), .initial = "50", .min = 0, .max = 10000,
		.help = "milliseconds that a transaction waits for more reports"},
	{.name = "batch_news_ms", .type = OPTION_NUMBER, .offset = AT(batch_news_ms), .initial = "5", .min = 0, .max = 10000,
		.help = "and at most, once a report in it says something new: a state, an inventory, events"},
	{.name = "policy_ms", .type = OPTION_NUMBER, .offset = AT(policy_ms), .initial = "500", .min = 1, .max = 60000,
		.help = "milliseconds that one policy of a tenant's own may take for 200 devices, and all of its in one turn before other tenants have theirs; the third time one takes longer it is struck out"},
	{.name = "park_seconds", .type = OPTION_SECONDS, .offset = AT(park_seconds), .initial = "60", .min = 1, .max = 3600,
		.help = "how long a report without a known key waits for its device's certificate"},
	{.name = "park_max", .type = OPTION_NUMBER, .offset = AT(park_max), .initial = "4096", .min = 0, .max = 1048576,
		.help = "reports that may wait so"},
	{.name = "refusals_per_second", .type = OPTION_NUMBER, .offset = AT(refusals_per_second), .initial = "100", .min = 0, .max = 1000000,
		.help = "messages of one device that may be refused, with twenty seconds' worth at once; what it sends beyond is given up unread; 0: any number"},
	{.name = "pending_max", .type = OPTION_NUMBER, .offset = AT(pending_max), .initial = "1000", .min = 0, .max = 1000000,
		.help = "reports stored of a device that waits for approval"},
	{.name = "registrations_max", .type = OPTION_NUMBER, .offset = AT(registrations_max), .initial = "200000", .min = 0, .max = 100000000,
		.help = "devices of a tenant that were registered and never heard; who is no operator can register no more; 0: any number"},
	{.name = "checkpoint_interval", .type = OPTION_SECONDS, .offset = AT(checkpoint_interval), .initial = "1d", .min = 1, .max = 2678400,
		.help = "time between two signed checkpoints of all devices' reports"},
	{.name = "challenge_timeout", .type = OPTION_SECONDS, .offset = AT(challenge_timeout), .initial = "60", .min = 1, .max = 86400,
		.help = "a device that is heard and has not answered a challenge for so long is told of"},
	{.name = "silence_min", .type = OPTION_SECONDS, .offset = AT(silence_min), .initial = "30", .min = 1, .max = 86400,
		.help = "nobody is called silent sooner than this, however short the interval"},
	{.name = "certificate_warning", .type = OPTION_SECONDS, .offset = AT(certificate_warning), .initial = "30d", .min = 3600, .max = 31536000,
		.help = "an alert this long before a certificate ends, or in its last quarter if that is later: devices', our own, trust anchors"},
	{.name = "certificate_urgent", .type = OPTION_SECONDS, .offset = AT(certificate_urgent), .initial = "7d", .min = 3600, .max = 31536000,
		.help = "one of severity high this long before a device's ends, or in its last sixteenth"},
	{.name = "disks", .type = OPTION_WORDS, .offset = AT(disks),
		.help = "directories whose disks must have room (default: of / /var/lib/postgresql /var/lib/mosquitto those that are there)"},
	{.name = "disk_free", .type = OPTION_BYTES, .offset = AT(disk_free), .initial = "4G", .min = 0, .max = INT64_C(1) << 50,
		.help = "an alert when less is free; 0: disks are not looked at"},
	{.name = "database_size", .type = OPTION_BYTES, .offset = AT(database_size), .initial = "0", .min = 0, .max = INT64_C(1) << 50,
		.help = "what the database may grow to: an alert from nine tenths of it on; 0: its size is not looked at"},
	{.name = "event_retention", .type = OPTION_SECONDS, .offset = AT(event_retention), .initial = "30d", .min = 1, .max = 315360000,
		.help = "how long events stay in the feed"},
	{.name = "quiet_retention", .type = OPTION_SECONDS, .offset = AT(quiet_retention), .initial = "90d", .min = 86400, .max = 1576800000,
		.help = "how long quiet reports are kept; they go by whole days"},
	{.name = "sections_retention", .type = OPTION_SECONDS, .offset = AT(sections_retention), .initial = "1825d", .min = 86400, .max = 1576800000,
		.help = "how long reports with a state, an inventory or events are kept, and what devices were before they changed"},
	{.name = "audit_retention", .type = OPTION_SECONDS, .offset = AT(audit_retention), .initial = "1825d", .min = 86400, .max = 1576800000,
		.help = "how long entries of the audit log are kept, if that is not less than the database allows: 90 days, unless told otherwise there"},
	{.name = "retention_uncovered", .type = OPTION_FLAG, .offset = AT(retention_uncovered), .initial = "no",
		.help = "reports and entries of the audit log may go at the end of their retention although no checkpoint speaks for them"},
	{.name = "secret_key", .type = OPTION_PATH, .offset = AT(secret_key),
		.help = "file of 64 hex digits, the key that sinks' secrets are sealed under; without it only sinks without a secret are served"},
	{.name = "sink_networks", .type = OPTION_TEXT, .offset = AT(sink_networks),
		.help = "networks that sinks may reach although they are private, loopback or link-local: 10.1.0.0/16, fd00::/8"},
	{.name = "sink_http", .type = OPTION_FLAG, .offset = AT(sink_http), .initial = "no",
		.help = "sinks may be reached by http without TLS"},
	{.name = "sink_timeout", .type = OPTION_SECONDS, .offset = AT(sink_timeout), .initial = "15", .min = 1, .max = 300,
		.help = "how long a sink may take to answer"},
	{.name = "http_listen", .type = OPTION_TEXT, .offset = AT(http_listen), .initial = "127.0.0.1",
		.help = "address of the HTTP interface"},
	{.name = "http_port", .type = OPTION_NUMBER, .offset = AT(http_port), .initial = "8080", .min = 1, .max = 65535,
		.help = "port of the HTTP interface"},
	{.name = "http_certificate", .type = OPTION_PATH, .offset = AT(http_certificate),
		.help = "PEM file of its certificate and the intermediates, leaf first: it speaks TLS then, and reads the files again when they change"},
	{.name = "http_key", .type = OPTION_PATH, .offset = AT(http_key),
		.help = "PEM file of the key of http_certificate, which others may not read"},
	{.name = "http_tls", .type = OPTION_CHOICE, .offset = AT(http_tls), .initial = "1.3", .choices = "1.3|1.2",
		.help = "the least version of TLS"},
	{.name = "http_tls_proxy", .type = OPTION_FLAG, .offset = AT(http_tls_proxy), .initial = "no",
		.help = "a proxy in front speaks TLS: listen beyond loopback without"},
	{.name = "http_client_ca", .type = OPTION_PATH, .offset = AT(http_client_ca),
		.help = "PEM file of the authorities that clients' certificates must end at; without it none is asked for"},
	{.name = "http_client_crl", .type = OPTION_PATH, .offset = AT(http_client_crl),
		.help = "PEM file of their lists of revoked certificates; with it a certificate is good only if each authority above it has given one that is in time"},
	{.name = "http_connections", .type = OPTION_NUMBER, .offset = AT(http_connections), .initial = "16384", .min = 16, .max = 1000000,
		.help = "connections in all; more are closed at once"},
	{.name = "http_connections_per_address", .type = OPTION_NUMBER, .offset = AT(http_connections_per_address), .initial = "256", .min = 0, .max = 1000000,
		.help = "connections of one address, of IPv6 one /64; more are closed at once; 0: any number, as behind a proxy"},
	{.name = "http_idle", .type = OPTION_SECONDS, .offset = AT(http_idle), .initial = "30", .min = 1, .max = 3600,
		.help = "a connection without a byte in either direction is closed after so long"},
	{.name = "http_request_time", .type = OPTION_SECONDS, .offset = AT(http_request_time), .initial = "60", .min = 1, .max = 3600,
		.help = "what a request may take from its first line to its last byte, and a TLS handshake; then the connection is closed"},
	{.name = "http_read_rate", .type = OPTION_BYTES, .offset = AT(http_read_rate), .initial = "1K", .min = 0, .max = 1073741824,
		.help = "bytes a second that a client takes an answer at, over http_idle; who is slower is cut off; 0: nobody is"},
	{.name = "http_header_size", .type = OPTION_BYTES, .offset = AT(http_header_size), .initial = "32K", .min = 12288, .max = 1048576,
		.help = "of a request's line and headers, and of an answer's headers: more is answered 431 or 414"},
	{.name = "http_target_size", .type = OPTION_BYTES, .offset = AT(http_target_size), .initial = "4K", .min = 256, .max = 8192,
		.help = "of a request's path and parameters: more is answered target-too-long"},
	{.name = "http_body_size", .type = OPTION_BYTES, .offset = AT(http_body_size), .initial = "64K", .min = 1024, .max = 16777216,
		.help = "of what a request carries: more is answered content-too-large"},
	{.name = "http_answer_size", .type = OPTION_BYTES, .offset = AT(http_answer_size), .initial = "16M", .min = 65536, .max = 1073741824,
		.help = "of an answer, or of a piece of one that streams, about 2M: more is answered answer-too-large; a report has up to 2M"},
	{.name = "http_streams", .type = OPTION_NUMBER, .offset = AT(http_streams), .initial = "256", .min = 0, .max = 100000,
		.help = "streams of events and whole lists that are open at once; more are answered too-many-streams"},
	{.name = "http_query_time", .type = OPTION_SECONDS, .offset = AT(http_query_time), .initial = "10", .min = 1, .max = 300,
		.help = "what a statement may take in the database; longer is answered timeout"},
	{.name = "http_threads", .type = OPTION_NUMBER, .offset = AT(http_threads), .initial = "2", .min = 1, .max = 64,
		.help = "threads that answer HTTP requests, each with a database connection"},
	{.name = "preview_ms", .type = OPTION_NUMBER, .offset = AT(preview_ms), .initial = "5000", .min = 1, .max = 10000,
		.help = "milliseconds that a preview of a policy may take, or a list with where; a tenant's previews run one at a time, and all of them leave a thread to other requests if there are two"},
	{.name = "page_bytes", .type = OPTION_NUMBER, .offset = AT(page_bytes), .initial = "2097152", .min = 65536, .max = 8388608,
		.help = "bytes of an answer's list: a page ends before the item that would exceed them"},
	{.name = "http_proxies", .type = OPTION_NUMBER, .offset = AT(http_proxies), .initial = "0", .min = 0, .max = 16,
		.help = "proxies in front, each of which appends to X-Forwarded-For whom it heard; 0: the header is not believed"},
	{.name = "guess_free", .type = OPTION_NUMBER, .offset = AT(guess_free), .initial = "10", .min = 0, .max = 1000000,
		.help = "failed sign-ins from one address, or with one token's first ten characters, before answers are delayed; 0: none is"},
	{.name = "guess_delay", .type = OPTION_SECONDS, .offset = AT(guess_delay), .initial = "10", .min = 1, .max = 60,
		.help = "the longest of these delays; the first is a quarter of a second, each further one twice as long"},
	{.name = "guess_window", .type = OPTION_SECONDS, .offset = AT(guess_window), .initial = "15m", .min = 1, .max = 86400,
		.help = "after so long without another failure they are forgotten"},
	{.name = "quota_requests", .type = OPTION_NUMBER, .offset = AT(quota_requests), .initial = "100", .min = 0, .max = 1000000,
		.help = "requests a second with one token; 0: any number"},
	{.name = "quota_bytes", .type = OPTION_BYTES, .offset = AT(quota_bytes), .initial = "64M", .min = 0, .max = INT64_C(1) << 36,
		.help = "bytes a second that one token is answered; 0: any number"},
	{.name = "quota_burst", .type = OPTION_SECONDS, .offset = AT(quota_burst), .initial = "10", .min = 1, .max = 3600,
		.help = "so much of both may come at once after a time of less"},
	{.name = "quota_exports", .type = OPTION_NUMBER, .offset = AT(quota_exports), .initial = "8", .min = 0, .max = 256,
		.help = "exports and streams of events open at once with one token; 0: any number"},
	{.name = "jwt_issuer", .type = OPTION_TEXT, .offset = AT(jwt_issuer),
		.help = "the identity provider whose JSON Web Tokens are taken as bearer tokens, as their claim iss names it; without it none is"},
	{.name = "jwt_audience", .type = OPTION_TEXT, .offset = AT(jwt_audience),
		.help = "what their claim aud has to name"},
	{.name = "jwt_keys", .type = OPTION_TEXT, .offset = AT(jwt_keys),
		.help = "the provider's keys (JWKS): an https URL, or a file"},
	{.name = "jwt_ca", .type = OPTION_PATH, .offset = AT(jwt_ca),
		.help = "PEM file of the authorities that the URL's certificate must end at, instead of the system's"},
	{.name = "jwt_networks", .type = OPTION_TEXT, .offset = AT(jwt_networks),
		.help = "networks where the URL may lead although they are private, loopback or link-local: 10.1.0.0/16, fd00::/8"},
	{.name = "jwt_refresh", .type = OPTION_SECONDS, .offset = AT(jwt_refresh), .initial = "1h", .min = 1, .max = 86400,
		.help = "how often the keys are read again"},
	{.name = "jwt_refetch", .type = OPTION_SECONDS, .offset = AT(jwt_refetch), .initial = "60", .min = 1, .max = 3600,
		.help = "and sooner when a token names another key, but no more often than this"},
	{.name = "jwt_leeway", .type = OPTION_SECONDS, .offset = AT(jwt_leeway), .initial = "30", .min = 0, .max = 300,
		.help = "by how much the provider's clock may differ from ours"},
	{.name = "jwt_tenant_claim", .type = OPTION_TEXT, .offset = AT(jwt_tenant_claim), .initial = "tenant",
		.help = "the claim that says the tenant; a dot leads into an object"},
	{.name = "jwt_tenants", .type = OPTION_WORDS, .offset = AT(jwt_tenants),
		.help = "which value stands for which tenant, value=tenant with spaces between (default: it is the tenant's id)"},
	{.name = "jwt_role_claim", .type = OPTION_TEXT, .offset = AT(jwt_role_claim), .initial = "roles",
		.help = "the claim that says the role"},
	{.name = "jwt_roles", .type = OPTION_WORDS, .offset = AT(jwt_roles),
		.help = "which value stands for which role, value=role with spaces between; of several the highest counts, and without one nobody is let in"},
	{.name = "jwt_scope_claim", .type = OPTION_TEXT, .offset = AT(jwt_scope_claim),
		.help = "the claim that narrows to scopes; then each token has to name one; without it none is narrowed"},
	{.name = "jwt_scopes", .type = OPTION_WORDS, .offset = AT(jwt_scopes),
		.help = "which value stands for which scope, value=scope with spaces between (default: it is the scope's name)"},
	{.name = "jwt_name_claim", .type = OPTION_TEXT, .offset = AT(jwt_name_claim), .initial = "preferred_username",
		.help = "the claim that names who it is in the audit log; without it the subject does"},
};
/* clang-format on */
#define OPTIONS (sizeof table / sizeof table[0])

const char *
setting_given(const char *setting)
{
	return setting == NULL || setting[0] == '\0' ? NULL : setting;
}

static int
default_name(struct settings *settings)
{
	char host[256];

	if (setting_given(settings->name) != NULL)
		return 0;
	if (gethostname(host, sizeof host) != 0)
		return -1;
	host[sizeof host - 1] = '\0';
	free(settings->name);
	settings->name = strdup(host);
	return settings->name == NULL ? -1 : 0;
}

/* One of them without the other does nothing, and whoever set it thinks that it does. */
static int
check_tls(const struct settings *settings)
{
	const struct {
		const char *name, *value, *other_name, *other;
	} rows[] = {
		{"http_certificate", settings->http_certificate, "http_key", settings->http_key},
		{"http_key", settings->http_key, "http_certificate", settings->http_certificate},
		{"http_client_ca", settings->http_client_ca, "http_certificate", settings->http_certificate},
		{"http_client_crl", settings->http_client_crl, "http_client_ca", settings->http_client_ca},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (setting_given(rows[i].value) != NULL && setting_given(rows[i].other) == NULL) {
			log_error("%s is set, and %s is not", rows[i].name, rows[i].other_name);
			return -1;
		}
	return 0;
}

static int
settle(void *context, int action)
{
	struct settings *settings = context;

	(void)action;
	return default_name(settings) < 0 || check_tls(settings) < 0 ? -1 : 0;
}

static const struct program program = {
	.name = "fleetstate-collector",
	.usage = "fleetstate-collector [--config file] [--check] [--option value ...]",
	.file = "/etc/fleetstate/collector.conf",
	.table = table,
	.options = OPTIONS,
	.settle = settle,
};

int
settings_load(struct settings *settings, int argc, char *const *argv)
{
	memset(settings, 0, sizeof *settings);
	return program_load(&program, settings, argc, argv);
}

void
settings_free(struct settings *settings)
{
	options_free(table, OPTIONS, settings);
}
