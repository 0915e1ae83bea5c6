/*
 * What the emitter was told: defaults, then emitter.conf, then the command line. The table in settings.c writes --help, --example, the man page's
 * list and --check.
 */
#ifndef FLEETSTATE_EMITTER_SETTINGS_H
#define FLEETSTATE_EMITTER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/program.h"

struct settings {
	char *log_level;
	char *root;		/* what is observed: / */
	char *state_dir;
	int64_t interval;	/* seconds */
	int64_t event_delay;	/* seconds */
	bool test_intervals;	/* intervals below 30 s are meant */
	int64_t spool_size;	/* bytes */
	int64_t spool_sync;	/* seconds; 0: each report by itself */
	char *broker;		/* ssl://host:port */
	char *ca, *tls_certificate, *tls_key;	/* PEM files */
	int64_t keep_alive;	/* seconds */
	int64_t backoff_min, backoff_max;	/* seconds */
	char *sign_certificate, *sign_key;	/* PEM chain, leaf first; a URI as cose_key_open takes it */
	char *receipt_ca;	/* PEM */
	char *vendor, *hwmodel, *hwversion, *serial, *oemid, *swname, *swversion;	/* declared facts; NULL: observe */
	char *config_files, *baseline, *baseline_key, *default_passwords, *wipe;	/* as in struct declared */
	char *declare, *declare_run, *declare_elements;	/* "name=value; ...", "name=/path; ...", "DP.2=text; ..."; NULL: none */
	char *personal;		/* keep, hash or omit */
	char *user;		/* NULL: stays who it is */
	bool seccomp;
	char *expected_interfaces, *expected_sockets, *measured_files, *tpm;	/* as in struct declared */
	char *journal;		/* NULL: none */
	int64_t once_timeout;	/* seconds */
};

/* What the emitter does other than run. */
enum settings_action {
	SETTINGS_ONCE = PROGRAM_OWN,	/* one report, then end */
	SETTINGS_PRINT,		/* one observation as JSON; needs no keys */
	SETTINGS_STATUS,	/* of the running emitter */
	SETTINGS_STATUS_JSON
};

/* Defaults, then --config's file or /etc/fleetstate/emitter.conf, then the command line. Returns as program_load does. */
int settings_load(struct settings *, int argc, char *const *argv) WARN_UNUSED;
/* Another emitter's: those of a file that lies in an image. 0, or -1 after printing what is wrong with it. */
int settings_read(struct settings *, const char *file, FILE *) WARN_UNUSED;
void settings_free(struct settings *);
/* The file that settings_load reads with these arguments; NULL: none. */
const char *settings_file(int argc, char *const *argv);

#endif
