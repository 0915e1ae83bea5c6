#include "emitter/sign.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STATE_FILE "signer"
#define STATE_VERSION 1
#define STATE_SIZE 256
#define ENVELOPE_SIZE 256 /* tags, headers and signature, beside chain and payload */

struct signer {
	int dir;
	struct cose_key *key;
	uint8_t *certificates[LIMIT_CHAIN_CERTS];
	struct slice chain[LIMIT_CHAIN_CERTS];
	size_t chain_len;
	uint8_t leaf[DIGEST_SIZE];
	uint64_t not_before;
	struct ueid ueid;

	/* What the file holds. */
	uint64_t epoch;
	uint64_t seq; /* the last one known to be used */
	uint64_t ceiling; /* numbers up to here may have been used */
	bool clean;
	uint8_t boot_id[BOOT_ID_SIZE];
	uint64_t bootcount;
	bool boot_told; /* the boot id has been in a report */
	struct link prev, sections;
};

static void
write_link(struct cbor_writer *w, const struct link *link)
{
	cbor_write_array(w, 2);
	cbor_write_uint(w, link->seq);
	cbor_write_bytes(w, (struct slice){link->digest, DIGEST_SIZE});
}

static void
read_link(struct cbor_reader *r, struct link *link)
{
	if (cbor_read_array(r, 2) != 2)
		cbor_fail(r, REASON_MALFORMED);
	link->seq = cbor_read_uint_max(r, 0, LIMIT_SEQ);
	cbor_read_bytes_exact(r, link->digest, DIGEST_SIZE);
}

static int
state_save(const struct signer *s)
{
	uint8_t buffer[STATE_SIZE];
	struct cbor_writer w;
	cbor_writer_init(&w, buffer, sizeof buffer);
	cbor_write_array(&w, 10);
	cbor_write_uint(&w, STATE_VERSION);
	cbor_write_uint(&w, s->epoch);
	cbor_write_uint(&w, s->seq);
	cbor_write_uint(&w, s->ceiling);
	cbor_write_bool(&w, s->clean);
	cbor_write_bytes(&w, (struct slice){s->boot_id, BOOT_ID_SIZE});
	cbor_write_uint(&w, s->bootcount);
	cbor_write_bool(&w, s->boot_told);
	write_link(&w, &s->prev);
	write_link(&w, &s->sections);
	return durable_write(s->dir, STATE_FILE, (struct slice){buffer, w.len}, true);
}

static enum reason
state_parse(struct signer *s, struct slice file)
{
	struct cbor_reader r;
	cbor_reader_init(&r, file);
	if (cbor_read_array(&r, 10) != 10)
		cbor_fail(&r, REASON_MALFORMED);
	(void)cbor_read_uint_max(&r, STATE_VERSION, STATE_VERSION);
	s->epoch = cbor_read_uint(&r);
	s->seq = cbor_read_uint_max(&r, 0, LIMIT_SEQ);
	s->ceiling = cbor_read_uint_max(&r, s->seq, LIMIT_SEQ);
	s->clean = cbor_read_bool(&r);
	cbor_read_bytes_exact(&r, s->boot_id, BOOT_ID_SIZE);
	s->bootcount = cbor_read_uint(&r);
	s->boot_told = cbor_read_bool(&r);
	read_link(&r, &s->prev);
	read_link(&r, &s->sections);
	return cbor_reader_end(&r);
}

static int
state_begin(struct signer *s, char *error)
{
	if (RAND_bytes((unsigned char *)&s->epoch, sizeof s->epoch) != 1) {
		snprintf(error, ERROR_SIZE, "no random numbers for an epoch");
		return -1;
	}
	s->clean = true;
	if (state_save(s) != 0) {
		snprintf(error, ERROR_SIZE, "can't write the signer's state: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int
state_load(struct signer *s, char *error)
{
	uint8_t buffer[STATE_SIZE];
	ssize_t len = durable_read(s->dir, STATE_FILE, buffer, sizeof buffer);
	if (len < 0 && errno == ENOENT)
		return state_begin(s, error);
	if (len < 0) {
		snprintf(error, ERROR_SIZE, "can't read the signer's state: %s", strerror(errno));
		return -1;
	}
	enum reason reason = state_parse(s, (struct slice){buffer, (size_t)len});
	if (reason != REASON_OK) {
		snprintf(error, ERROR_SIZE,
			 "the signer's state is damaged (%s): restore it, or begin a new epoch with an empty state "
			 "directory",
			 reason_name(reason));
		return -1;
	}
	return 0;
}

/* The leaf must name the device and hold the key that we sign with; otherwise every report would be refused. */
static int
leaf_check(struct signer *s, const char *file, X509 *leaf, char *error)
{
	char name[UEID_HEX + 1];
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, name, sizeof name);
	if (len < 0 || !ueid_parse((struct slice){(uint8_t *)name, (size_t)len}, &s->ueid)) {
		snprintf(error, ERROR_SIZE, "%s: the common name is not a ueid", file);
		return -1;
	}
	uint8_t *spki = NULL;
	int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki);
	struct cose_key *public = size > 0 ? cose_key_from_spki((struct slice){spki, (size_t)size}) : NULL;
	OPENSSL_free(spki);
	uint8_t ours[KID_SIZE], its[KID_SIZE] = {0};
	cose_key_kid(s->key, ours);
	if (public != NULL)
		cose_key_kid(public, its);
	cose_key_free(public);
	if (public == NULL || memcmp(ours, its, KID_SIZE) != 0) {
		snprintf(error, ERROR_SIZE, "%s: the certificate is not for the signing key", file);
		return -1;
	}
	return 0;
}

static uint64_t
begins(const X509 *leaf)
{
	struct tm tm;
	if (ASN1_TIME_to_tm(X509_get0_notBefore(leaf), &tm) != 1)
		return 0;
	time_t at = timegm(&tm);
	return at > 0 ? (uint64_t)at : 0;
}

static int
chain_add(struct signer *s, X509 *certificate)
{
	uint8_t *der = NULL;
	int len = i2d_X509(certificate, &der);
	if (len <= 0)
		return -1;
	s->certificates[s->chain_len] = der;
	s->chain[s->chain_len++] = (struct slice){der, (size_t)len};
	return 0;
}

/* A trust anchor at the chain's end is left out: the collector has it, and the message is paid for by the byte. */
static int
chain_load(struct signer *s, const char *file, char *error)
{
	FILE *f = fopen(file, "re");
	if (f == NULL) {
		snprintf(error, ERROR_SIZE, "can't open %s: %s", file, strerror(errno));
		return -1;
	}
	int rc = -1;
	size_t total = 0;
	X509 *x;
	while ((x = PEM_read_X509(f, NULL, NULL, NULL)) != NULL) {
		bool first = s->chain_len == 0;
		bool anchor = !first && X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
		if (first && leaf_check(s, file, x, error) != 0) {
			X509_free(x);
			goto out;
		}
		if (first)
			s->not_before = begins(x);
		bool fits = s->chain_len < LIMIT_CHAIN_CERTS;
		int added = anchor ? 0 : fits ? chain_add(s, x) : -1;
		X509_free(x);
		if (!anchor && added == 0)
			total += s->chain[s->chain_len - 1].len;
		if (added != 0 || total > LIMIT_CHAIN) {
			snprintf(error, ERROR_SIZE, "%s: more than %d certificates or %d bytes", file,
				 LIMIT_CHAIN_CERTS, LIMIT_CHAIN);
			goto out;
		}
	}
	if (s->chain_len == 0)
		snprintf(error, ERROR_SIZE, "%s: no certificate in it", file);
	else {
		sha256(s->chain[0], s->leaf);
		rc = 0;
	}
out:
	fclose(f);
	return rc;
}

struct signer *
signer_open(int dir, const char *key, const char *certificate, const uint8_t *boot_id, char *error)
{
	struct signer *s = calloc(1, sizeof *s);
	if (s == NULL) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return NULL;
	}
	s->dir = dir;
	s->key = cose_key_open(key, error);
	if (s->key == NULL || chain_load(s, certificate, error) != 0 || state_load(s, error) != 0)
		goto fail;
	if (memcmp(s->boot_id, boot_id, BOOT_ID_SIZE) != 0 || s->bootcount == 0) {
		memcpy(s->boot_id, boot_id, BOOT_ID_SIZE);
		s->bootcount++;
		s->boot_told = false;
	}
	return s;
fail:
	signer_free(s);
	return NULL;
}

void
signer_free(struct signer *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->chain_len; i++)
		OPENSSL_free(s->certificates[i]);
	cose_key_free(s->key);
	free(s);
}

/* Reserves the numbers above `last`. */
static int
reserve(struct signer *s, uint64_t last)
{
	uint64_t before = s->ceiling;
	if (last + SEQ_RESERVE > (uint64_t)LIMIT_SEQ) {
		errno = ERANGE;
		return -1;
	}
	s->ceiling = last + SEQ_RESERVE;
	s->clean = false;
	if (state_save(s) == 0)
		return 0;
	/* Whether the file holds the old ceiling or the new one is unknown; the old one is safe to go by. */
	s->ceiling = before;
	return -1;
}

int
signer_start(struct signer *s, const struct link *newest, const struct link *sections, struct seq_range *skipped,
	     char *error)
{
	if (newest->seq > s->ceiling) {
		snprintf(error, ERROR_SIZE, "the spool is newer than the signer's state: was an old state restored?");
		return -1;
	}
	if (newest->seq > s->prev.seq)
		s->prev = *newest;
	if (sections->seq > s->sections.seq)
		s->sections = *sections;
	if (newest->seq > s->seq)
		s->seq = newest->seq;
	*skipped = (struct seq_range){0, 0};
	uint64_t last = s->clean ? s->seq : s->ceiling;
	if (last > s->seq)
		*skipped = (struct seq_range){s->seq + 1, last};
	/* What is saved still names the last number used: a crash before the caller has noted the skipped ones finds them skipped again. */
	if (reserve(s, last) != 0) {
		snprintf(error, ERROR_SIZE, "can't write the signer's state: %s", strerror(errno));
		return -1;
	}
	s->seq = last;
	return 0;
}

static void
fill_in(struct signer *s, struct report *report)
{
	bool sections = report_has_sections(report);
	report->ueid = s->ueid;
	report->epoch = s->epoch;
	report->seq = ++s->seq;
	report->bootcount = s->bootcount;
	report->boot_id = s->boot_told ? (struct slice){NULL, 0} : (struct slice){s->boot_id, BOOT_ID_SIZE};
	report->has_prev = s->prev.seq != 0;
	memcpy(report->prev, s->prev.digest, DIGEST_SIZE);
	report->has_sections_prev = sections && s->sections.seq != 0;
	memcpy(report->sections_prev, s->sections.digest, DIGEST_SIZE);
}

static struct slice
encode_and_sign(struct signer *s, const struct report *report, bool with_chain)
{
	struct slice none = {NULL, 0};
	struct cbor_writer w;
	cbor_writer_init(&w, NULL, 0);
	report_encode(report, &w);
	size_t len = w.len, size = len + LIMIT_CHAIN + ENVELOPE_SIZE;
	uint8_t *payload = malloc(len), *message = malloc(size);
	size_t made = 0;
	if (payload != NULL && message != NULL) {
		cbor_writer_init(&w, payload, len);
		report_encode(report, &w);
		size_t certs = with_chain ? s->chain_len : 0;
		made = cose_sign(s->key, s->chain, certs, (struct slice){payload, len}, message, size);
	}
	free(payload);
	if (made == 0 || made > LIMIT_MESSAGE) {
		free(message);
		errno = made == 0 ? EKEYREJECTED : EFBIG;
		return none;
	}
	uint8_t *fitted = realloc(message, made);
	return (struct slice){fitted != NULL ? fitted : message, made};
}

struct slice
signer_sign(struct signer *s, struct report *report, bool with_chain)
{
	report->seq = 0;
	if (s->seq == s->ceiling && reserve(s, s->seq) != 0)
		return (struct slice){NULL, 0};
	fill_in(s, report);
	return encode_and_sign(s, report, with_chain);
}

void
signer_commit(struct signer *s, const struct report *report, const uint8_t digest[DIGEST_SIZE])
{
	s->prev.seq = report->seq;
	memcpy(s->prev.digest, digest, DIGEST_SIZE);
	if (report_has_sections(report))
		s->sections = s->prev;
	if (report->boot_id.at != NULL)
		s->boot_told = true;
}

int
signer_stop(struct signer *s)
{
	s->ceiling = s->seq;
	s->clean = true;
	return state_save(s);
}

const struct ueid *
signer_ueid(const struct signer *s)
{
	return &s->ueid;
}

uint64_t
signer_epoch(const struct signer *s)
{
	return s->epoch;
}

uint64_t
signer_seq(const struct signer *s)
{
	return s->seq;
}

uint64_t
signer_not_before(const struct signer *s)
{
	return s->not_before;
}

const uint8_t *
signer_leaf(const struct signer *s)
{
	return s->leaf;
}
