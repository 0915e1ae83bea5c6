/*
 * The command line `fleetstate`: what its commands share. A command that fails says why in one line and ends the program: 1 for "no", 2 for a
 * wrong call or an unreadable file.
 */
#ifndef FLEETSTATE_COLLECTOR_CLI_H
#define FLEETSTATE_COLLECTOR_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include <libpq-fe.h>

#include "schema/topics.h"

enum { CLI_YES = 0, CLI_NO = 1, CLI_WRONG = 2, CLI_AWAY = 3 /* a collector that does not answer, or fails */ };

struct command {
	const char *noun, *verb;	/* verb NULL: the noun is all */
	int (*run)(const struct command *, int argc, char **argv);	/* argv[0] is the last word of its name */
	const char *arguments, *help;
};

struct cli_option {
	const char *name;	/* "tenant": --tenant VALUE or --tenant=VALUE */
	const char **value;	/* for one with a value, */
	bool *flag;		/* or without */
};

/* The table of commands. */
const struct command *cli_commands(size_t *n);

/* Says on standard error that only the database can do it, and how a collector is asked for the same. */
void cli_say_database_only(const struct command *);

_Noreturn void cli_die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets the options and moves the operands to the front of argv[1]. Returns how many operands there are, `least` to `most`; else ends the
   program with the command's usage. */
int cli_parse(const struct command *, int argc, char **argv, const struct cli_option *, size_t n, int least, int most);

/* The database that --database, FLEETSTATE_DATABASE or libpq's own environment name. */
const char *cli_uri(void);
/* Runs it with text parameters (NULL: SQL NULL), connecting first. Ends the program if that fails. PQclear it. */
PGresult *cli_query(const char *sql, int n, const char *const *params);
/* Runs it and prints the rows: a table, or a JSON array of objects. */
void cli_list(const char *sql, int n, const char *const *params, bool json);
/* Ends the program unless it is a device's name. */
void cli_check_ueid(const char *);
/* Ends the program unless it is a number from 1 to 999999999; `what` names it. */
void cli_check_number(const char *, const char *what);
/* A report or the like, - is standard input: at most one byte more than it may have. free() it. Ends the program when it can't be read. */
uint8_t *cli_read(const char *name, size_t most, size_t *len);
/* Seconds since 1970 of "2026-01-31T23:59:59Z", or of @ and seconds; else ends the program. */
int64_t cli_time(const char *);
/* Ends the program unless it is one of the words, "admit|hold". */
void cli_check_word(const char *, const char *words, const char *what);

/* Who does it, for the record. */
const char *cli_who(void);
/* Commits what the command began, with its entry in the audit log, before it waits for what comes of it. */
void cli_commit(void);
/* From now on acts for this tenant alone (NULL: for all). Ends the program unless there is one. */
void cli_act_for(const char *tenant);

/* The commands, by file. */
int tenant_add(const struct command *, int, char **);
int tenant_list(const struct command *, int, char **);
int tenant_hold(const struct command *, int, char **);
int tenant_retention(const struct command *, int, char **);
int tenant_personal(const struct command *, int, char **);
int trust_anchor_add(const struct command *, int, char **);
int trust_anchor_list(const struct command *, int, char **);
int trust_anchor_remove(const struct command *, int, char **);
int trust_anchor_crl(const struct command *, int, char **);
int token_add(const struct command *, int, char **);
int token_list(const struct command *, int, char **);
int token_revoke(const struct command *, int, char **);
int token_quota(const struct command *, int, char **);
int device_list(const struct command *, int, char **);
int device_show(const struct command *, int, char **);
int device_approve(const struct command *, int, char **);
int device_retire(const struct command *, int, char **);
int device_challenge(const struct command *, int, char **);
int device_import(const struct command *, int, char **);
int device_transfer(const struct command *, int, char **);
int device_delete(const struct command *, int, char **);
int device_hold(const struct command *, int, char **);
int device_revoke(const struct command *, int, char **);
int device_reprovision(const struct command *, int, char **);
int device_label(const struct command *, int, char **);
int key_list(const struct command *, int, char **);
int key_retire(const struct command *, int, char **);
int key_revoke(const struct command *, int, char **);
int sink_add(const struct command *, int, char **);
int sink_list(const struct command *, int, char **);
int sink_status(const struct command *, int, char **);
int sink_dead(const struct command *, int, char **);
int sink_test(const struct command *, int, char **);
int sink_remove(const struct command *, int, char **);
int audit_evidence(const struct command *, int, char **);
int policy_apply(const struct command *, int, char **);
int policy_test(const struct command *, int, char **);
int policy_list(const struct command *, int, char **);
int alert_list(const struct command *, int, char **);
int alert_acknowledge(const struct command *, int, char **);
int alert_silence(const struct command *, int, char **);
int alert_resolve(const struct command *, int, char **);
int alert_comment(const struct command *, int, char **);
int verify_file(const struct command *, int, char **);
int baseline_make(const struct command *, int, char **);
int baseline_show(const struct command *, int, char **);
int migrate_database(const struct command *, int, char **);
int print_completion(const struct command *, int, char **);

#endif
