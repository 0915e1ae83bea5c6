/* fleetstate: what an administrator and an auditor do at a terminal. */
#include "collector/cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/cli/remote.h"
#include "collector/cli/wish.h"
#include "collector/cli/show.h"
#include "schema/limits.h"
#include "schema/log.h"

static const struct command commands[] = {
	{"tenant", "add", tenant_add, "ID NAME", "make a tenant"},
	{"tenant", "list", tenant_list, "[--json]", "all tenants"},
	{"tenant", "hold", tenant_hold, "ID --reason TEXT|--release",
	 "keep all of its devices from deletion and retention, or no longer"},
	{"tenant", "retention", tenant_retention,
	 "ID [--quiet TIME|usual] [--sections TIME|usual] [--history TIME|usual]",
	 "keep its reports, and what its devices were, for longer or less long than others'"},
	{"tenant", "personal", tenant_personal, "ID keep|hash|omit", "what is shown of its devices' personal facts"},
	{"trust-anchor", "add", trust_anchor_add, "--tenant ID [--enrol admit|hold] [--name NAME] FILE",
	 "let a maker's CA (PEM) vouch for devices of a tenant"},
	{"trust-anchor", "list", trust_anchor_list, "[--tenant ID] [--json]", "all trust anchors"},
	{"trust-anchor", "remove", trust_anchor_remove, "NUMBER", "let it vouch for no new device"},
	{"trust-anchor", "crl", trust_anchor_crl, "[--issuer FILE] NUMBER FILE",
	 "take in its list of revoked certificates (PEM or DER), and revoke the keys that it names"},
	{"token", "add", token_add,
	 "--role viewer|analyst|admin|operator [--tenant ID] [--expires DAYS] [--scopes LIST] [--certificate MARK] "
	 "NAME",
	 "make an API token, and print it this once; or let a client certificate stand for one"},
	{"token", "list", token_list, "[--tenant ID] [--json]", "all tokens, without their secrets"},
	{"token", "revoke", token_revoke, "NUMBER", "end a token now"},
	{"token", "quota", token_quota, "[--requests N] [--bytes N] [--exports N] NUMBER",
	 "how much may be asked with it: a second, and exports at once; what is left out is as for all"},
	{"device", "list", device_list,
	 "[--tenant ID] [--posture POSTURE] [--lifecycle LIFECYCLE] [--label KEY[:VALUE]] [--json]", "devices"},
	{"device", "show", device_show, "UEID [--json]", "one device"},
	{"device", "approve", device_approve, "UEID", "admit a device that waits"},
	{"device", "retire", device_retire, "UEID", "refuse its reports from now on"},
	{"device", "challenge", device_challenge, "UEID [--wait SECONDS] [--json]",
	 "ask a device to prove now that it holds its key"},
	{"device", "revoke", device_revoke, "UEID", "refuse its reports from now on: it is in wrong hands"},
	{"device", "import", device_import, "--tenant ID [--dry-run] FILE",
	 "register a list of devices (CSV, - is standard input), all of them or none"},
	{"device", "transfer", device_transfer, "UEID TENANT",
	 "give it to another tenant, which sees nothing of before"},
	{"device", "hold", device_hold, "UEID --reason TEXT|--release",
	 "keep all of a device from deletion and retention, or no longer"},
	{"device", "delete", device_delete, "UEID", "remove it, and all that it told"},
	{"device", "reprovision", device_reprovision, "UEID [--hours N] [--epoch HEX]",
	 "vouch for the next epoch that it begins, or for one that it began, after its storage was renewed"},
	{"device", "label", device_label, "UEID KEY=VALUE|KEY- ...", "set labels of a device, or take them away"},
	{"key", "list", key_list, "UEID [--json]", "what a device signs and signed with"},
	{"key", "retire", key_retire, "UEID KEY", "take nothing more of that key above what is here"},
	{"key", "revoke", key_revoke, "[--why TEXT] UEID KEY", "refuse everything of that key from now on"},
	{"sink", "add", sink_add,
	 "--kind webhook|syslog --tenant ID|--all-tenants [--format FORMAT] [--types LIST] [--severity LEAST] [--batch "
	 "N] [--ca FILE] "
	 "[--secret FILE] "
	 "[--certificate FILE --key FILE] [--secret-key FILE] [--backlog] NAME TARGET",
	 "send events to a URL or a syslog receiver; prints its number and the secret that it made"},
	{"sink", "list", sink_list, "[--tenant ID] [--json]", "all sinks, without their secrets"},
	{"sink", "status", sink_status, "[--json]", "how far each got, and what keeps it"},
	{"sink", "dead", sink_dead, "NUMBER [--json]", "the events that it refused for good"},
	{"sink", "test", sink_test, "NUMBER", "have a test event sent, and wait for the answer"},
	{"sink", "remove", sink_remove, "NUMBER", "send it nothing more"},
	{"audit", NULL, audit_evidence,
	 "[--device UEID] [--tenant ID] [--since TIME] [--ca FILE] [--checkpoint FILE] [--jobs N] [--json] [--log]",
	 "verify the stored evidence again: signatures, chain, and that nothing is gone; or the audit log"},
	{"policy", "apply", policy_apply, "[--tenant ID] [--json] FILE",
	 "put a pack of policies, for everyone or for a tenant"},
	{"policy", "test", policy_test, "FILE", "try each policy of a pack on its own examples"},
	{"policy", "list", policy_list, "[--tenant ID] [--json]", "policies"},
	{"alert", "list", alert_list, "[--tenant ID] [--all] [--json]", "open alerts, or all"},
	{"alert", "acknowledge", alert_acknowledge, "[--comment TEXT] NUMBER", "say that somebody looks after it"},
	{"alert", "silence", alert_silence, "[--hours N] [--comment TEXT] NUMBER", "let it be silent for a while"},
	{"alert", "resolve", alert_resolve, "[--comment TEXT] NUMBER", "say that it is dealt with"},
	{"alert", "comment", alert_comment, "NUMBER TEXT", "add a comment to it"},
	{"verify", NULL, verify_file,
	 "FILE [--ca FILE] [--chain FILE] [--time TIME] [--proof FILE --operator-ca FILE] [--json]\n"
	 "       fleetstate verify --manifest EXPORT --operator-ca FILE [--json] FILE",
	 "verify one report (- is standard input) and that a checkpoint covers it, or an export by its manifest, "
	 "without a database"},
	{"baseline", "make", baseline_make, "[--root DIR] --key KEY [--out FILE] PATTERN...",
	 "sign what a device's configuration is now, as its secure baseline"},
	{"baseline", "show", baseline_show, "FILE --key FILE", "verify a secure baseline, and list its files"},
	{"migrate", NULL, migrate_database, "", "bring the database to this program's version"},
	{"completion", NULL, print_completion, "bash|zsh", "what a shell completes this program's words by"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const char *database;
static struct server server;
static PGconn *connection;

const struct command *
cli_commands(size_t *n)
{
	*n = COMMANDS;
	return commands;
}

void
cli_die(int status, const char *format, ...)
{
	va_list args;

	fputs("fleetstate: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static bool
is_of(const char *noun, const char *only)
{
	return only == NULL || strcmp(noun, only) == 0;
}

/* `noun` NULL: all of them. */
static bool
print_commands(FILE *out, const char *noun)
{
	bool any = false;

	for (size_t i = 0; i < COMMANDS; i++) {
		if (!is_of(commands[i].noun, noun))
			continue;
		any = true;
		fprintf(out, "  %s%s%s%s%s\n        %s\n", commands[i].noun, commands[i].verb == NULL ? "" : " ",
			commands[i].verb == NULL ? "" : commands[i].verb, commands[i].arguments[0] == '\0' ? "" : " ",
			commands[i].arguments, commands[i].help);
	}
	return any;
}

static void
print_operations(FILE *out, const char *noun)
{
	bool any = false;

	for (size_t i = 0; i < operations_n; i++) {
		if (!is_of(operations[i].noun, noun))
			continue;
		if (!any)
			fputs("Over HTTP, of the collector that --url or FLEETSTATE_URL names, with the token in "
			      "--token-file "
			      "or FLEETSTATE_TOKEN:\n\n",
			      out);
		any = true;
		fputs("  ", out);
		wish_print_name(&operations[i], out);
		fprintf(out, "\n        %s\n", operations[i].help);
	}
}

static void
print_usage(FILE *out, const char *noun)
{
	fputs("usage: fleetstate [--database URI] COMMAND ...\n"
	      "       fleetstate --url URL [--token-file FILE] COMMAND ...\n\n",
	      out);
	if (print_commands(out, noun))
		fputc('\n', out);
	print_operations(out, noun);
	fputs("\nfleetstate NOUN --help has the commands of one noun, fleetstate --url URL NOUN VERB --help a "
	      "command's "
	      "options over HTTP.\nThe database is --database, FLEETSTATE_DATABASE, or what PGHOST, PGDATABASE and the "
	      "like say; as the "
	      "role fleetstate_owner.\nWhat both could be asked is asked of what an option names, else of the "
	      "collector if FLEETSTATE_URL names one.\nThe exit status is 0 for yes, 1 for no, 2 for a wrong call, 3 "
	      "for a collector that does not answer.\n",
	      out);
}

static void
print_command(const struct command *command, FILE *out)
{
	fprintf(out, "usage: fleetstate %s%s%s%s%s\n%s\n", command->noun, command->verb == NULL ? "" : " ",
		command->verb == NULL ? "" : command->verb, command->arguments[0] == '\0' ? "" : " ",
		command->arguments, command->help);
	for (size_t i = 0; command->verb != NULL && i < operations_n; i++)
		if (operations[i].verb != NULL && strcmp(operations[i].noun, command->noun) == 0 &&
		    strcmp(operations[i].verb, command->verb) == 0)
			fprintf(out,
				"With --url it asks a collector, with options of its own: fleetstate --url URL %s %s "
				"--help\n",
				command->noun, command->verb);
}

static _Noreturn void
refuse(const struct command *command)
{
	print_command(command, stderr);
	exit(CLI_WRONG);
}

int
cli_parse(const struct command *command, int argc, char **argv, const struct cli_option *options, size_t n, int least,
	  int most)
{
	enum { OPTIONS_MAX = 24, HELP = 'h', FIRST = 256 };
	struct option longs[OPTIONS_MAX + 2] = {{"help", no_argument, NULL, HELP}};
	int c, operands;

	assert(n <= OPTIONS_MAX);
	for (size_t i = 0; i < n; i++)
		longs[i + 1] =
			(struct option){options[i].name, options[i].flag == NULL ? required_argument : no_argument,
					NULL, FIRST + (int)i};
	optind = 0;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == HELP) {
			print_command(command, stdout);
			exit(CLI_YES);
		}
		if (c < FIRST)
			refuse(command);
		if (options[c - FIRST].flag != NULL)
			*options[c - FIRST].flag = true;
		else
			*options[c - FIRST].value = optarg;
	}
	operands = argc - optind;
	if (operands < least || operands > most)
		refuse(command);
	memmove(argv + 1, argv + optind, (size_t)operands * sizeof *argv);
	return operands;
}

static bool
is_set(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0';
}

const char *
cli_uri(void)
{
	if (database != NULL)
		return database;
	return is_set("FLEETSTATE_DATABASE") ? getenv("FLEETSTATE_DATABASE") : "";
}

/* The database with what named it. */
static const char *
database_named(void)
{
	if (database != NULL)
		return "database of --database: ";
	return is_set("FLEETSTATE_DATABASE") ? "database of FLEETSTATE_DATABASE: "
					     : "database of PGHOST and the like: ";
}

static void
on_notice(void *unused, const char *message)
{
	(void)unused;
	(void)message;
}

/* libpq ends its messages with a line's end. */
static void
tell_of_database(const char *prefix, const char *message)
{
	int len = (int)strlen(message);

	while (len > 0 && message[len - 1] == '\n')
		len--;
	fprintf(stderr, "fleetstate: %s%.*s\n", prefix, len, message);
}

/* A command that only the database can do; NULL: none, or nobody would expect a collector to do it. */
static const struct command *database_only;

/* A command that changes something is one transaction, with its entry in the audit log. */
static const char *whole_command;

static PGconn *
connect_database(void)
{
	static const char *const keys[] = {"connect_timeout", "fallback_application_name", "dbname", "client_encoding",
					   NULL};
	const char *const values[] = {"10", "fleetstate", cli_uri(), "UTF8", NULL};

	if (connection != NULL)
		return connection;
	connection = PQconnectdbParams(keys, values, 1);
	if (PQstatus(connection) != CONNECTION_OK) {
		tell_of_database(database_named(), PQerrorMessage(connection));
		if (database_only != NULL)
			cli_say_database_only(database_only);
		exit(CLI_NO);
	}
	PQsetNoticeProcessor(connection, on_notice, NULL);
	if (whole_command != NULL)
		PQclear(cli_query("BEGIN", 0, NULL));
	return connection;
}

PGresult *
cli_query(const char *sql, int n, const char *const *params)
{
	PGresult *res = PQexecParams(connect_database(), sql, n, NULL, params, NULL, NULL, 0);
	const char *message;

	if (PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK)
		return res;
	message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	tell_of_database("", message == NULL ? PQerrorMessage(connection) : message);
	PQclear(res);
	exit(CLI_NO);
}

static void
print_row(const PGresult *res, int row, const int *room)
{
	int columns = PQnfields(res);

	for (int c = 0; c < columns; c++) {
		const char *text = row < 0 ? PQfname(res, c) : PQgetvalue(res, row, c);

		show_cell(stdout, text, c == columns - 1 ? 0 : room[c] + 2);
	}
	putchar('\n');
}

static void
print_table(const PGresult *res)
{
	enum { COLUMNS_MAX = 32 };
	int room[COLUMNS_MAX] = {0};

	if (PQnfields(res) > COLUMNS_MAX)
		abort();
	for (int c = 0; c < PQnfields(res); c++) {
		room[c] = show_width(PQfname(res, c));
		for (int r = 0; r < PQntuples(res); r++)
			if (show_width(PQgetvalue(res, r, c)) > room[c])
				room[c] = show_width(PQgetvalue(res, r, c));
	}
	for (int r = -1; r < PQntuples(res); r++)
		print_row(res, r, room);
}

void
cli_list(const char *sql, int n, const char *const *params, bool json)
{
	PGresult *res;
	char *whole;

	if (!json) {
		res = cli_query(sql, n, params);
		print_table(res);
		PQclear(res);
		return;
	}
	if (asprintf(&whole, "SELECT coalesce(json_agg(x), '[]') FROM (%s) x", sql) < 0)
		cli_die(CLI_NO, "out of memory");
	res = cli_query(whole, n, params);
	puts(PQgetvalue(res, 0, 0));
	PQclear(res);
	free(whole);
}

void
cli_check_ueid(const char *text)
{
	struct ueid ueid;

	if (!ueid_parse((struct slice){(const uint8_t *)text, strlen(text)}, &ueid))
		cli_die(CLI_WRONG, "%s: a ueid is 34 lower-case hex digits that begin with 01", text);
}

void
cli_check_number(const char *text, const char *what)
{
	if (strspn(text, "0123456789") != strlen(text) || strlen(text) < 1 || strlen(text) > 9 || atoi(text) == 0)
		cli_die(CLI_WRONG, "%s: %s is a number from 1 to 999999999", text, what);
}

uint8_t *
cli_read(const char *name, size_t most, size_t *len)
{
	FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
	uint8_t *bytes = malloc(most + 1);

	if (in == NULL)
		cli_die(CLI_WRONG, "%s: %m", name);
	if (bytes == NULL)
		cli_die(CLI_WRONG, "out of memory");
	/* One byte more than allowed tells a message that is too large. */
	*len = fread(bytes, 1, most + 1, in);
	if (ferror(in))
		cli_die(CLI_WRONG, "%s: %m", name);
	if (in != stdin)
		fclose(in);
	return bytes;
}

int64_t
cli_time(const char *text)
{
	struct tm tm = {0};
	char *end;

	if (text[0] == '@') {
		errno = 0;
		long long seconds = strtoll(text + 1, &end, 10);

		if (end != text + 1 && *end == '\0' && errno == 0 && seconds >= 0 && seconds <= LIMIT_IAT)
			return seconds;
	} else if ((end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm)) != NULL && *end == '\0') {
		return timegm(&tm);
	}
	cli_die(CLI_WRONG, "%s: a time is 2026-01-31T23:59:59Z or @ and seconds since 1970", text);
}

void
cli_check_word(const char *text, const char *words, const char *what)
{
	size_t len = strlen(text);

	for (const char *at = words; at != NULL && len > 0; at = strchr(at, '|') == NULL ? NULL : strchr(at, '|') + 1)
		if (strcspn(at, "|") == len && strncmp(at, text, len) == 0)
			return;
	cli_die(CLI_WRONG, "%s: %s is one of %s", text, what, words);
}

/* What was called, printable and not without end. */
static const char *
join(int argc, char **argv)
{
	static char text[512];
	size_t len = 0;

	for (int i = 0; i < argc; i++) {
		if (i > 0 && len < sizeof text - 1)
			text[len++] = ' ';
		for (const char *at = argv[i]; *at != '\0' && len < sizeof text - 1; at++)
			text[len++] = (char)(*at >= ' ' && *at <= '~' ? *at : '?');
	}
	return text;
}

/* The value of --tenant, for whose log it is. */
static const char *
find_tenant(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "--tenant=", 9) == 0)
			return argv[i] + 9;
		if (strcmp(argv[i], "--tenant") == 0 && i + 1 < argc)
			return argv[i + 1];
	}
	return NULL;
}

/* For whose log the command is. */
static const char *for_tenant;

void
cli_commit(void)
{
	static const char sql[] = "SELECT audit_append((SELECT tenant_id FROM tenant WHERE id = $1), now(), "
				  "jsonb_build_object('kind', 'command', "
				  "'who', $2::text, 'method', 'COMMAND', 'target', $3::text, 'address', '-'))";

	if (connection == NULL || whole_command == NULL)
		return;
	PQclear(cli_query(sql, 3, (const char *const[]){for_tenant, cli_who(), whole_command}));
	PQclear(cli_query("COMMIT", 0, NULL));
	whole_command = NULL;
}

/* Whether it may change something in the database: all do that are not known to leave it as it is. */
static bool
changes(const struct command *command)
{
	static const char *const verbs[] = {"list", "show", "status", "dead"};

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (command->verb == NULL || strcmp(command->verb, verbs[i]) == 0)
			return false;
	return true;
}

static const struct command *
find(int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->noun, argv[0]) == 0 && (c->verb == NULL || (argc > 1 && strcmp(c->verb, argv[1]) == 0)))
			return c;
	}
	return NULL;
}

/* Commands that need neither. */
static bool
is_local(const struct command *command)
{
	return command->run == verify_file || command->run == baseline_make || command->run == baseline_show ||
	       command->run == policy_test || command->run == print_completion;
}

static char *
read_token(const char *file)
{
	enum { TOKEN_MAX = 4096 };
	size_t len;
	char *text = (char *)cli_read(file, TOKEN_MAX, &len);

	if (len > TOKEN_MAX)
		cli_die(CLI_WRONG, "%s: too long for a token", file);
	text[len] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	return text;
}

static void
name_server(const char *token_file)
{
	const char *url = server.url != NULL ? server.url : getenv("FLEETSTATE_URL");
	size_t len = strlen(url);
	char *copy;

	while (len > 0 && url[len - 1] == '/')
		len--;
	copy = strndup(url, len);
	if (copy == NULL)
		cli_die(CLI_NO, "out of memory");
	if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || strpbrk(url, "?# @") != NULL)
		cli_die(CLI_WRONG, "%s: not http://host or https://host", url);
	server.url = copy;
	if (token_file != NULL)
		server.token = read_token(token_file);
	else if (server.token == NULL && is_set("FLEETSTATE_TOKEN"))
		server.token = getenv("FLEETSTATE_TOKEN");
	for (const char *at = server.token; at != NULL && *at != '\0'; at++)
		if (*at <= ' ' || *at > '~')
			cli_die(CLI_WRONG, "the token has characters that no token has");
}

static bool
is_noun(const char *word)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].noun, word) == 0)
			return true;
	for (size_t i = 0; i < operations_n; i++)
		if (strcmp(operations[i].noun, word) == 0)
			return true;
	return false;
}

/* "fleetstate device --help", and "fleetstate help". */
static bool
asks_help(int argc, char **argv)
{
	const char *last = argc > 0 ? argv[argc - 1] : "";

	return strcmp(last, "--help") == 0 || strcmp(last, "-h") == 0 || strcmp(last, "help") == 0;
}

static int
run(int argc, char **argv, const char *token_file)
{
	const struct command *command = argc > 0 ? find(argc, argv) : NULL;
	const struct operation *remote = operation_find(argc, argv);
	/* What the call says counts more than the environment, and there a collector more than a database for what both can do. */
	bool named = server.url != NULL || (database == NULL && is_set("FLEETSTATE_URL"));
	int words, status;

	if (remote != NULL && (named || (command == NULL && asks_help(argc, argv)))) {
		words = remote->verb == NULL ? 1 : 2;
		server.or_database = server.url == NULL && command != NULL;
		if (named)
			name_server(token_file);
		return remote_run(remote, &server, argc - words + 1, argv + words - 1);
	}
	if (named && command != NULL && !is_local(command))
		database_only = command;
	if (server.url != NULL && database_only != NULL) {
		cli_say_database_only(command);
		return CLI_WRONG;
	}
	if (command == NULL && asks_help(argc, argv)) {
		print_usage(stdout, is_noun(argv[0]) ? argv[0] : NULL);
		return CLI_YES;
	}
	if (command == NULL && remote != NULL)
		cli_die(CLI_WRONG, "%s%s%s is asked of a collector: name it with --url or FLEETSTATE_URL", remote->noun,
			remote->verb == NULL ? "" : " ", remote->verb == NULL ? "" : remote->verb);
	if (command == NULL && argc > 0)
		cli_die(CLI_WRONG, "no such command: %s%s%s (see fleetstate %s%s--help)", argv[0], argc > 1 ? " " : "",
			argc > 1 ? argv[1] : "", is_noun(argv[0]) ? argv[0] : "", is_noun(argv[0]) ? " " : "");
	if (command == NULL) {
		print_usage(stderr, NULL);
		return CLI_WRONG;
	}
	words = command->verb == NULL ? 1 : 2;
	if (!changes(command))
		return command->run(command, argc - words + 1, argv + words - 1);
	whole_command = join(argc, argv);
	for_tenant = find_tenant(argc, argv);
	status = command->run(command, argc - words + 1, argv + words - 1);
	if (status == CLI_YES)
		cli_commit();
	return status;
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"database", required_argument, NULL, 'd'}, {"url", required_argument, NULL, 'u'},
		{"token", required_argument, NULL, 't'},    {"token-file", required_argument, NULL, 'f'},
		{"ca", required_argument, NULL, 'a'},       {"certificate", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},      {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},        {0}};
	const char *token_file = NULL;
	int c, status;

	log_open("fleetstate", LOG_LEVEL_WARNING);
	while ((c = getopt_long(argc, argv, "+hV", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			database = optarg;
			break;
		case 'u':
			server.url = optarg;
			break;
		case 't':
			server.token = optarg;
			break;
		case 'f':
			token_file = optarg;
			break;
		case 'a':
			server.ca = optarg;
			break;
		case 'c':
			server.certificate = optarg;
			break;
		case 'k':
			server.key = optarg;
			break;
		case 'h':
			print_usage(stdout, NULL);
			return CLI_YES;
		case 'V':
			puts("fleetstate " FLEETSTATE_VERSION);
			return CLI_YES;
		default:
			return CLI_WRONG;
		}
	}
	if (server.url != NULL && database != NULL)
		cli_die(CLI_WRONG, "--url asks a collector, --database the database: one of them");
	status = run(argc - optind, argv + optind, token_file);
	PQfinish(connection);
	if (fflush(stdout) != 0 && status == CLI_YES)
		cli_die(CLI_NO, "standard output can't be written");
	return status;
}
