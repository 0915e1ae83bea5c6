#include "emitter/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emitter/durable.h"
#include "emitter/receipt_trust.h"
#include "schema/cose.h"
#include "schema/limits.h"
#include "schema/log.h"
#include "schema/options.h"

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
	{.name = "test_intervals", .type = OPTION_FLAG, .offset = AT(test_intervals), .initial = "no",
		.help = "an interval below 30 s is meant: for tests only"},
	{.name = "spool_size", .type = OPTION_BYTES, .offset = AT(spool_size), .initial = "16M", .min = 5 * 1024 * 1024, .max = INT64_C(1) << 32,
		.help = "bytes of reports kept until the collector has them"},
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
		.help = "the longest wait between two attempts to connect"},
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
	{.name = "journal", .type = OPTION_PATH, .offset = AT(journal), .help = "file for one line per report: ueid epoch seq sha256; for tests"},
	{.name = "once_timeout", .type = OPTION_SECONDS, .offset = AT(once_timeout), .initial = "30s", .min = 1, .max = 3600,
		.help = "how long --once waits for the broker, and then a third of it for the receipt"},
};
/* clang-format on */
#define OPTIONS (sizeof table / sizeof *table)

static void
print_help(void)
{
	puts("usage: fleetstate-emitter [--config file] [--once | --print | --check] [--option value ...]\n"
	     "       fleetstate-emitter [--config file] status [--json]\n"
	     "\n"
	     "  --config file        read this file instead of " SETTINGS_FILE "\n"
	     "  --once               make one report, wait until it is taken over, end\n"
	     "  --print              observe once and print the report as JSON; needs neither keys nor broker\n"
	     "  --check              check the settings and what they name, print what is in force, end\n"
	     "  --example            print an example file, end\n"
	     "  --man-options        print the list of options as the manual has it, end\n"
	     "  --version            print the version, end\n"
	     "  --help               print this, end\n");
	options_help(table, OPTIONS, stdout);
}

static void
print_example(void)
{
	puts("# fleetstate-emitter: every option with its default. See fleetstate-emitter(8).");
	for (size_t i = 0; i < OPTIONS; i++)
		printf("\n# %s\n#%s = %s\n", table[i].help, table[i].name,
		       table[i].initial == NULL ? "" : table[i].initial);
}

static void
print_version(void)
{
	puts("fleetstate-emitter " FLEETSTATE_VERSION);
}

static void
print_man(void)
{
	options_man(table, OPTIONS, stdout);
}

static const struct {
	const char *flag;
	void (*print)(void);
} printers[] = {
	{"--help", print_help},
	{"--example", print_example},
	{"--version", print_version},
	{"--man-options", print_man},
};

/* --check is a run that ends before it begins. */
#define ACTION_CHECK SETTINGS_DONE

static const struct {
	const char *flag;
	enum settings_action action;
} actions[] = {
	{"--once", SETTINGS_ONCE},   {"--print", SETTINGS_PRINT},      {"--check", ACTION_CHECK},
	{"status", SETTINGS_STATUS}, {"--json", SETTINGS_STATUS_JSON},
};

struct arguments {
	int argc;
	char **argv; /* those that are options of the table */
	const char *file;
	enum settings_action action;
};

static bool
take_action(struct arguments *a, const char *argument)
{
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(argument, actions[i].flag) == 0) {
			a->action = actions[i].action;
			return true;
		}
	return false;
}

/* Sorts out what is no setting. False after printing what was asked for. */
static bool
sort_arguments(struct arguments *a, int argc, char *const *argv)
{
	for (int i = 0; i < argc; i++) {
		for (size_t p = 0; i > 0 && p < sizeof printers / sizeof *printers; p++)
			if (strcmp(argv[i], printers[p].flag) == 0) {
				printers[p].print();
				return false;
			}
		if (i > 0 && strcmp(argv[i], "--config") == 0 && i + 1 < argc)
			a->file = argv[++i];
		else if (strncmp(argv[i], "--config=", 9) == 0)
			a->file = argv[i] + 9;
		else if (i == 0 || !take_action(a, argv[i]))
			a->argv[a->argc++] = argv[i];
	}
	a->argv[a->argc] = NULL;
	return true;
}

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
	if (access(file, R_OK) == 0)
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
	bad |= file_is_wrong("receipt_ca", s->receipt_ca) || authority_is_wrong(s->receipt_ca);
	return bad;
}

static enum settings_action
load(struct settings *settings, struct arguments *a)
{
	if (a->file == NULL && access(SETTINGS_FILE, R_OK) == 0)
		a->file = SETTINGS_FILE;
	int first = options_load(table, OPTIONS, settings, a->file, a->argc, a->argv);
	if (first < 0)
		return SETTINGS_WRONG;
	bool needs_keys = a->action == SETTINGS_RUN || a->action == SETTINGS_ONCE || a->action == ACTION_CHECK;
	if ((first < a->argc && wrong("not an option: %s", a->argv[first])) || (needs_keys && run_is_wrong(settings))) {
		settings_free(settings);
		return SETTINGS_WRONG;
	}
	if (a->action == ACTION_CHECK)
		options_print(table, OPTIONS, settings, stdout);
	return a->action;
}

enum settings_action
settings_load(struct settings *settings, int argc, char *const *argv)
{
	struct arguments a = {.action = SETTINGS_RUN, .argv = calloc((size_t)argc + 1, sizeof(char *))};
	memset(settings, 0, sizeof *settings);
	enum settings_action action = SETTINGS_WRONG;
	if (a.argv != NULL)
		action = sort_arguments(&a, argc, argv) ? load(settings, &a) : SETTINGS_DONE;
	free(a.argv);
	return action;
}

void
settings_free(struct settings *settings)
{
	options_free(table, OPTIONS, settings);
}
