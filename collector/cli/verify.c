/* `fleetstate verify`: the collector's own verification, on one file, without its database. */
#include "collector/verify.h"

#include <jansson.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/cli/cli.h"
#include "collector/cli/verify_manifest.h"
#include "collector/cli/verify_proof.h"
#include "schema/claims.h"

static size_t
read_chain(const char *file, struct slice chain[LIMIT_CHAIN_CERTS])
{
	char *name, *header;
	unsigned char *der;
	size_t n = 0;
	long len;
	FILE *in = fopen(file, "r");

	if (in == NULL)
		cli_die(CLI_WRONG, "%s: %m", file);
	while (n < LIMIT_CHAIN_CERTS && PEM_read(in, &name, &header, &der, &len) == 1) {
		OPENSSL_free(name);
		OPENSSL_free(header);
		chain[n++] = (struct slice){der, (size_t)len};
	}
	fclose(in);
	if (n == 0)
		cli_die(CLI_WRONG, "%s: no certificate", file);
	return n;
}

/* A report that carries no chain is verified as the collector does it, by a key that it knows already: here from --chain. */
static enum reason
know_device(struct message *m, const struct anchors *anchors, const char *file, struct device *device,
	    struct enrolment **known)
{
	struct slice chain[LIMIT_CHAIN_CERTS];
	struct enrolment *enrolment = NULL;
	struct device_keys *keys;
	size_t n = read_chain(file, chain);
	enum reason reason;

	reason = enrol_chain(anchors, chain, n, &m->ueid, m->cose.kid, m->received_us / 1000000, 0, &enrolment);
	while (n > 0)
		OPENSSL_free((void *)(uintptr_t)chain[--n].at);
	if (reason != REASON_OK)
		return reason;
	keys = calloc(1, sizeof *keys + sizeof keys->at[0]);
	if (keys == NULL)
		cli_die(CLI_WRONG, "out of memory");
	memcpy(keys->at[0].kid, enrolment->kid, KID_SIZE);
	keys->at[0].not_before = enrolment->not_before;
	keys->at[0].not_after = enrolment->not_after;
	keys->at[0].spki = enrolment->spki;
	keys->len = 1;
	device->keys = keys;
	*known = enrolment;
	device->ueid = m->ueid;
	device->lifecycle = LIFECYCLE_ACTIVE;
	m->device = device;
	return REASON_OK;
}

/* Whose topic it came by can't be known here, so its own word is taken for that. The signature decides. */
static bool
read_ueid(struct message *m)
{
	struct report report;

	m->reason = cose_decode(m->bytes, &m->cose);
	if (m->reason == REASON_OK)
		m->reason = report_decode(m->cose.payload, &report);
	if (m->reason == REASON_OK)
		m->ueid = report.ueid;
	return m->reason == REASON_OK;
}

static void
print_text(const json_t *json)
{
	char *text = json_dumps(json, JSON_INDENT(2));

	/* Escapes of control characters are JSON's own, so a device can't write to the terminal. */
	puts(text == NULL ? "" : text);
	free(text);
}

/* What there is to say, once all is looked at. */
struct outcome {
	const char *why; /* NULL: verified */
	bool claims; /* they can be shown */
	const struct coverage *coverage; /* NULL: no proof was named */
};

static void
print_coverage(const struct coverage *c)
{
	char at[24];
	time_t t = (time_t)c->checkpoint.iat;
	struct tm tm;

	if (c->wrong != NULL) {
		printf("not covered: %s%s%s\n", c->wrong, c->detail == NULL ? "" : ": ",
		       c->detail == NULL ? "" : c->detail);
		return;
	}
	strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	printf("covered by checkpoint %llu of %s\n", (unsigned long long)c->checkpoint.number, at);
}

static json_t *
coverage_json(const struct coverage *c)
{
	if (c == NULL)
		return NULL;
	if (c->wrong != NULL)
		return json_pack("{s:b, s:s, s:s*}", "covered", 0, "fault", c->wrong, "detail", c->detail);
	return json_pack("{s:b, s:I, s:o}", "covered", 1, "checkpoint", (json_int_t)c->checkpoint.number, "made_at",
			 claim_json_time(c->checkpoint.iat));
}

static void
print_outcome(const struct message *m, const struct outcome *o, bool json)
{
	char digest[2 * DIGEST_SIZE + 1];
	json_t *report = o->claims ? report_json(&m->report) : NULL;
	const char *why = o->why;

	hex_print(m->sha256, DIGEST_SIZE, digest);
	if (json) {
		json_t *all = json_pack("{s:b, s:s*, s:s, s:o*, s:o*}", "verified", why == NULL, "reason", why,
					"sha256", digest, "proof", coverage_json(o->coverage), "claims", report);

		print_text(all);
		json_decref(all);
		return;
	}
	printf("%s%s%s\nsha256 %s\n", why == NULL ? "verified" : "not verified", why == NULL ? "" : ": ",
	       why == NULL ? "" : why, digest);
	if (o->coverage != NULL)
		print_coverage(o->coverage);
	if (report != NULL)
		print_text(report);
	json_decref(report);
}

int
verify_file(const struct command *command, int argc, char **argv)
{
	const char *ca = NULL, *chain = NULL, *at = NULL, *why = NULL, *proof = NULL, *operator_ca = NULL,
		   *export = NULL;
	bool json = false;
	const struct cli_option options[] = {{"ca", &ca, NULL},          {"chain", &chain, NULL},
					     {"time", &at, NULL},        {"json", NULL, &json},
					     {"proof", &proof, NULL},    {"operator-ca", &operator_ca, NULL},
					     {"manifest", &export, NULL}};
	struct coverage coverage;
	struct device device = {0};
	struct message m = {0};
	struct anchors *anchors = NULL;
	struct enrolment *known = NULL;
	uint8_t *bytes;
	struct key_cache *keys;
	char error[256];
	bool decoded;

	cli_parse(command, argc, argv, options, 7, 1, 1);
	if (export != NULL)
		return verify_manifest(export, argv[1], operator_ca, json);
	keys = key_cache_new(1);
	m.received_us = (at == NULL ? time(NULL) : cli_time(at)) * 1000000;
	if (ca != NULL && (anchors = anchors_from_pem(ca, error)) == NULL)
		cli_die(CLI_WRONG, "%s", error);
	m.bytes.at = bytes = cli_read(argv[1], LIMIT_MESSAGE, &m.bytes.len);
	sha256(m.bytes, m.sha256);
	decoded = read_ueid(&m);
	if (decoded && anchors == NULL) {
		why = "no trust anchor was named with --ca";
		m.reason = report_decode(m.cose.payload, &m.report);
	} else if (decoded) {
		if (chain != NULL)
			m.reason = know_device(&m, anchors, chain, &device, &known);
		if (m.reason == REASON_OK)
			verify_message(&m, keys, anchors);
		if (m.parked)
			why = "it carries no certificate chain; name one with --chain";
	}
	if (why == NULL && m.reason != REASON_OK)
		why = reason_name(m.reason);
	if (proof != NULL)
		verify_proof(proof, operator_ca, m.bytes, &coverage);
	print_outcome(
		&m,
		&(struct outcome){why, decoded && m.reason == REASON_OK && !m.parked, proof == NULL ? NULL : &coverage},
		json);
	enrolment_free(m.enrolment);
	enrolment_free(known); /* whose key device.keys points to */
	free(device.keys);
	anchors_free(anchors);
	key_cache_free(keys);
	free(bytes);
	return why == NULL && (proof == NULL || coverage.wrong == NULL) ? CLI_YES : CLI_NO;
}
