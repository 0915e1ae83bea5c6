#include "emitter/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emitter/durable.h"
#include "emitter/monitor.h"
#include "emitter/receipt_trust.h"
#include "emitter/self.h"
#include "emitter/stated.h"
#include "schema/cose.h"
#include "schema/limits.h"
#include "schema/log.h"
#include "schema/program.h"

#define INTERVAL_MIN 30 /* seconds: what a fleet may do; below it only tests go */
#define AT(field) offsetof(struct settings, field)

/* clang-format off */
static const struct option table[] = {
	{.name = "log_level", .type = OPTION_CHOICE, .offset = AT(log_level), .initial = "info", .choices = "error|warning|info|debug",
		.help = "the least of what is logged"},
	{.name = "root", .type = OPTION_PATH, .offset = AT(root), .initial = "/", .help = "the directory that is observed"},
	{.name = "state_dir", .type = OPTION_PATH, .offset = AT(state_dir), .initial = "/var/lib/fleetstate-emitter",
		.help = "directory of sequence, spool and status"},
	{.name = "interval", .type = OPTION_SECONDS, .offset = AT(interval), .initial = "60s", .min = LIMIT_INTERVAL_MIN, .max = LIMIT_INTERVAL,
		.help = "time between two reports; below 30 s only with test_intervals"},
	{.name = "event_delay", .type = OPTION_SECONDS, .offset = AT(event_delay), .initial = "10s", .min = 1, .max = LIMIT_INTERVAL,
		.help = "after something happened the next report comes within this time, at most every 30 s; what happens meanwhile goes with it"},
	{.name = "test_intervals", .type = OPTION_FLAG, .offset = AT(test_intervals), .initial = "no",
		.help = "an interval below 30 s is meant: for tests only"},
	{.name = "spool_size", .type = OPTION_BYTES, .offset = AT(spool_size), .initial = "16M", .min = 5 * 1024 * 1024, .max = INT64_C(1) << 32,
		.help = "bytes of reports kept until the collector has them"},
	{.name = "spool_sync", .type = OPTION_SECONDS, .offset = AT(spool_sync), .initial = "0", .min = 0, .max = 86400,
		.help = "reports are made durable, and then published, together within this time; 0: each at once"},
	{.name = "broker", .type = OPTION_TEXT, .offset = AT(broker), .initial = "ssl://localhost:8883",
		.help = "the broker, ssl://host:port; its certificate must name this host"},
	{.name = "ca", .type = OPTION_PATH, .offset = AT(ca), .help = "PEM file of the authority of the broker's certificate"},
	{.name = "tls_certificate", .type = OPTION_PATH, .offset = AT(tls_certificate), .help = "PEM file of our client certificate and its intermediates"},
	{.name = "tls_key", .type = OPTION_PATH, .offset = AT(tls_key), .help = "PEM file of its key"},
	{.name = "keep_alive", .type = OPTION_SECONDS, .offset = AT(keep_alive), .initial = "60s", .min = 5, .max = 3600,
		.help = "the broker is pinged when nothing else was sent for so long"},
	{.name = "backoff_min", .type = OPTION_SECONDS, .offset = AT(backoff_min), .initial = "1s", .min = 1, .max = 3600,
		.help = "the first wait between two attempts to connect; doubled each time, a random part of it is waited"},
	{.name = "backoff_max", .type = OPTION_SECONDS, .offset = AT(backoff_max), .initial = "2m", .min = 1, .max = 86400,
		.help = "the longest wait between two attempts to connect, or the interval when that is less"},
	{.name = "sign_certificate", .type = OPTION_PATH, .offset = AT(sign_certificate),
		.help = "PEM file of the signing certificate and its intermediates, leaf first; its common name is the ueid"},
	{.name = "sign_key", .type = OPTION_TEXT, .offset = AT(sign_key), .help = "the signing key: a path, or a URI as OpenSSL's STORE takes it"},
	{.name = "receipt_ca", .type = OPTION_PATH, .offset = AT(receipt_ca), .help = "PEM file of the operator's authority, which receipts must end at"},
	{.name = "vendor", .type = OPTION_TEXT, .offset = AT(vendor), .help = "declared fact: the maker's name"},
	{.name = "hwmodel", .type = OPTION_TEXT, .offset = AT(hwmodel), .help = "declared fact: the model's name"},
	{.name = "hwversion", .type = OPTION_TEXT, .offset = AT(hwversion), .help = "declared fact: the model's version"},
	{.name = "serial", .type = OPTION_TEXT, .offset = AT(serial), .help = "declared fact: the serial number"},
	{.name = "oemid", .type = OPTION_TEXT, .offset = AT(oemid), .help = "declared fact: the maker's registered identifier"},
	{.name = "swname", .type = OPTION_TEXT, .offset = AT(swname), .help = "declared fact: the firmware's name"},
	{.name = "swversion", .type = OPTION_TEXT, .offset = AT(swversion), .help = "declared fact: the firmware's version"},
	{.name = "config_files", .type = OPTION_WORDS, .offset = AT(config_files),
		.help = "configuration to watch: absolute paths and patterns such as /etc/app/*.conf, between blanks"},
	{.name = "baseline", .type = OPTION_PATH, .offset = AT(baseline),
		.help = "the signed secure baseline of the configuration, as fleetstate baseline makes it; below root"},
	{.name = "baseline_key", .type = OPTION_PATH, .offset = AT(baseline_key),
		.help = "PEM file of the one certificate or public key by which the baseline must be signed"},
	{.name = "default_passwords", .type = OPTION_PATH, .offset = AT(default_passwords),
		.help = "file of the passwords that devices leave the factory with, name:password a line, to find where they still stand; below root"},
	{.name = "wipe", .type = OPTION_TEXT, .offset = AT(wipe), .help = "declared: how the maker's firmware makes the data on the device unreadable"},
	{.name = "declare", .type = OPTION_STATEMENTS, .offset = AT(declare), .help = "what the maker states of the device: name=value; name=value"},
	{.name = "declare_run", .type = OPTION_STATEMENTS, .offset = AT(declare_run),
		.help = "what executables state, one line each: name=/path; name=/path; each root's own, and written by nobody else"},
	{.name = "declare_elements", .type = OPTION_STATEMENTS, .offset = AT(declare_elements),
		.help = "key elements that nothing can be seen of, and how the maker meets them: DP.2=text; DI.2=text"},
	{.name = "personal", .type = OPTION_CHOICE, .offset = AT(personal), .initial = "keep", .choices = "keep|hash|omit",
		.help = "whether personal facts, such as account names, are sent as they are, hashed for this device, or left out"},
	{.name = "user", .type = OPTION_TEXT, .offset = AT(user),
		.help = "the user to become when started as root, keeping only the capabilities that probes need; unset: stays as started"},
	{.name = "seccomp", .type = OPTION_FLAG, .offset = AT(seccomp), .initial = "yes",
		.help = "the running emitter lets itself make no system calls but those that it needs"},
	{.name = "expected_interfaces", .type = OPTION_TEXT, .offset = AT(expected_interfaces),
		.help = "network interfaces that may be up, names and patterns between blanks: eth0 wlan*; - for none"},
	{.name = "expected_sockets", .type = OPTION_TEXT, .offset = AT(expected_sockets),
		.help = "sockets that may listen, as protocol/port or protocol/port/program, with patterns, between blanks: tcp/22/sshd udp/68; - for none"},
	{.name = "measured_files", .type = OPTION_TEXT, .offset = AT(measured_files),
		.help = "files to be measured, absolute paths and patterns between blanks"},
	{.name = "tpm", .type = OPTION_PATH, .offset = AT(tpm), .initial = "/dev/tpmrm0",
		.help = "the device of the TPM, or the Unix socket of a software one"},
	{.name = "journal", .type = OPTION_PATH, .offset = AT(journal), .help = "file for one line per report: ueid epoch seq sha256; for tests"},
	{.name = "once_timeout", .type = OPTION_SECONDS, .offset = AT(once_timeout), .initial = "30s", .min = 1, .max = 3600,
		.help = "how long --once waits for the broker, and then a third of it for the receipt"},
};
/* clang-format on */
#define OPTIONS (sizeof table / sizeof *table)

/* ---- what single options can't say ---- */

static bool
wrong(const char *format, const char *value)
{
	char line[512];
	snprintf(line, sizeof line, format, value);
	log_error("%s", line);
	return true;
}

static bool
file_is_wrong(const char *option, const char *file)
{
	if (file == NULL || file[0] == '\0')
		return wrong("%s is not set", option);
	if (faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) == 0)
		return false;
	log_error("%s: can't read %s: %s", option, file, strerror(errno));
	return true;
}

static bool
key_is_wrong(const char *uri)
{
	char error[ERROR_SIZE] = "";
	if (uri == NULL || uri[0] == '\0')
		return wrong("%s is not set", "sign_key");
	struct cose_key *key = cose_key_open(uri, error);
	cose_key_free(key);
	return key == NULL && wrong("sign_key: %s", error);
}

/* A private key is for the emitter alone; its group may be the emitter's. */
static bool
key_is_open(const char *option, const char *file)
{
	struct stat st;
	if (file == NULL || stat(file, &st) != 0 || (st.st_mode & (S_IWGRP | S_IRWXO)) == 0)
		return false;
	log_error("%s: others than its owner may read or write %s: mode %04o", option, file,
		  (unsigned)st.st_mode & 07777);
	return true;
}

static bool
is_fact(struct slice name, struct slice value)
{
	(void)name, (void)value;
	return true;
}

static bool
is_executable(struct slice name, struct slice value)
{
	(void)name;
	return value.at[0] == '/';
}

static bool
is_element(struct slice name, struct slice value)
{
	(void)value;
	return monitor_element(name) != FACTS;
}

static bool
statements_are_wrong(const char *option, const char *statements, bool (*fits)(struct slice name, struct slice value),
		     const char *wanted)
{
	struct slice text = {(const uint8_t *)statements, statements != NULL ? strlen(statements) : 0}, name, value;
	const char *why;
	enum stated got;
	while ((got = stated_next(&text, &name, &value, &why)) == STATED_ONE && fits(name, value))
		continue;
	if (got == STATED_END)
		return false;
	log_error("%s: %s", option, got == STATED_WRONG ? why : wanted);
	return true;
}

static bool
declarations_are_wrong(const struct settings *s)
{
	bool bad = statements_are_wrong("declare", s->declare, is_fact, "");
	bad |= statements_are_wrong("declare_run", s->declare_run, is_executable, "wants absolute paths");
	bad |= statements_are_wrong("declare_elements", s->declare_elements, is_element,
				    "wants key elements: DI.1 to CS.5");
	return bad;
}

static bool
authority_is_wrong(const char *file)
{
	char error[ERROR_SIZE] = "";
	struct receipt_trust *trust = receipt_trust_open(file, error);
	receipt_trust_free(trust);
	return trust == NULL && wrong("receipt_ca: %s", error);
}

/* Says all that is wrong, not only the first. */
static bool
run_is_wrong(const struct settings *s)
{
	bool bad = false;
	if (s->interval < INTERVAL_MIN && !s->test_intervals)
		bad |= wrong("interval is below 30 s%s", ": set test_intervals if that is meant");
	else if (s->interval < INTERVAL_MIN)
		log_warning("interval below 30 s: for tests only interval=%d", (int)s->interval);
	if (strncmp(s->broker, "ssl://", 6) != 0)
		bad |= wrong("broker: wants ssl://host:port, not %s", s->broker);
	bad |= file_is_wrong("ca", s->ca);
	bad |= file_is_wrong("tls_certificate", s->tls_certificate);
	bad |= file_is_wrong("tls_key", s->tls_key);
	bad |= file_is_wrong("sign_certificate", s->sign_certificate);
	bad |= key_is_wrong(s->sign_key);
	bad |= key_is_open("sign_key", self_key_file(s->sign_key));
	bad |= key_is_open("tls_key", s->tls_key);
	bad |= file_is_wrong("receipt_ca", s->receipt_ca) || authority_is_wrong(s->receipt_ca);
	return bad;
}

static int
settle(void *settings, int action)
{
	struct settings *s = settings;
	if (action == SETTINGS_ONCE)
		s->spool_sync = 0; /* there is no other to wait for */
	bool needs_keys = action == PROGRAM_RUN || action == SETTINGS_ONCE || action == PROGRAM_CHECK;
	bool bad = declarations_are_wrong(settings);
	bad |= needs_keys && run_is_wrong(settings);
	return bad ? -1 : 0;
}

static const struct program_word words[] = {
	{"--once", SETTINGS_ONCE, "make one report, wait until it is taken over, end"},
	{"--print", SETTINGS_PRINT, "observe once and print the report as JSON; needs neither keys nor broker"},
	{"status", SETTINGS_STATUS, "tell how the running emitter fares; with --json as JSON"},
	{"--json", SETTINGS_STATUS_JSON, NULL},
};

static const struct program program = {
	.name = "fleetstate-emitter",
	.usage = "fleetstate-emitter [--config file] [--once | --print | --check] [--option value ...]\n"
		 "       fleetstate-emitter [--config file] status [--json]",
	.file = "/etc/fleetstate/emitter.conf",
	.table = table,
	.options = OPTIONS,
	.words = words,
	.words_len = sizeof words / sizeof *words,
	.settle = settle,
};

int
settings_load(struct settings *settings, int argc, char *const *argv)
{
	memset(settings, 0, sizeof *settings);
	return program_load(&program, settings, argc, argv);
}

int
settings_read(struct settings *settings, const char *file, FILE *stream)
{
	memset(settings, 0, sizeof *settings);
	return options_read(table, OPTIONS, settings, file, stream);
}

void
settings_free(struct settings *settings)
{
	options_free(table, OPTIONS, settings);
}

const char *
settings_file(int argc, char *const *argv)
{
	return program_file(&program, argc, argv);
}
