/*
 * What verify_message costs over one bare EVP_PKEY_verify: a quiet report by a key that is warm. Turns are interleaved, medians of each taken,
 * so that a machine whose speed changes changes both. Prints nanoseconds of processor time and the ratio.
 *	verify_cost [DEVICES [yardstick]]	how many devices report in turn (1); only bare verification, beside something else
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/verify.h"

#define TURNS 301
#define EACH 40 /* calls a turn */
#define YARDSTICK_TURNS 20000
#define NOW INT64_C(1800000000)
#define MESSAGE_MAX 512

struct sender {
	struct cose_key *key;
	struct device *device;
	uint8_t message[MESSAGE_MAX];
	size_t len;
	EVP_PKEY *pkey;
	EVP_PKEY_CTX *context;
	uint8_t digest[DIGEST_SIZE], signature[80];
	size_t signature_len;
};

static struct sender *senders;
static size_t n_senders = 1;
static struct key_cache *cache;

static void
must(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "verify_cost: %s\n", what);
		exit(1);
	}
}

/* The key in a file, as the emitter has it; and once more as EVP's own for the bare verification. */
static void
make_key(struct sender *s)
{
	char directory[] = "/tmp/verify_cost.XXXXXX", file[64], error[256];
	FILE *in;

	must(mkdtemp(directory) != NULL, "mkdtemp");
	snprintf(file, sizeof file, "%s/key.pem", directory);
	must(cose_key_generate(-7, file) == 0, "no key");
	s->key = cose_key_open(file, error);
	must(s->key != NULL, error);
	in = fopen(file, "r");
	must(in != NULL, "fopen");
	s->pkey = PEM_read_PrivateKey(in, NULL, NULL, NULL);
	fclose(in);
	must(s->pkey != NULL && unlink(file) == 0 && rmdir(directory) == 0, "key file");
}

static void
make_bare(struct sender *s)
{
	EVP_PKEY_CTX *signer = EVP_PKEY_CTX_new_from_pkey(NULL, s->pkey, NULL);

	s->signature_len = sizeof s->signature;
	must(EVP_PKEY_sign_init(signer) == 1 &&
		     EVP_PKEY_sign(signer, s->signature, &s->signature_len, s->digest, sizeof s->digest) == 1,
	     "sign");
	EVP_PKEY_CTX_free(signer);
	s->context = EVP_PKEY_CTX_new_from_pkey(NULL, s->pkey, NULL);
	must(EVP_PKEY_verify_init(s->context) == 1, "verify_init");
}

static void
make_sender(struct sender *s, size_t i)
{
	struct report report = {.iat = (uint64_t)NOW,
				.ueid = {{1, (uint8_t)i, (uint8_t)(i >> 8)}},
				.bootcount = 3,
				.seq = 4711,
				.epoch = 0x8899aabbccddeeff,
				.has_prev = true,
				.interval = 300};
	struct device_keys *keys = calloc(1, sizeof *keys + sizeof keys->at[0]);
	uint8_t payload[MESSAGE_MAX], *spki = NULL;
	int spki_len = i2d_PUBKEY(s->pkey, &spki);
	struct cbor_writer w;

	cbor_writer_init(&w, payload, sizeof payload);
	report_encode(&report, &w);
	s->len = cose_sign(s->key, NULL, 0, (struct slice){payload, w.len}, s->message, sizeof s->message);
	must(!w.overflow && s->len > 0, "encode");
	s->device = calloc(1, sizeof *s->device);
	must(keys != NULL && s->device != NULL, "memory");
	keys->len = 1;
	cose_key_kid(s->key, keys->at[0].kid);
	keys->at[0].not_after = NOW + 1;
	keys->at[0].spki = (struct slice){spki, (size_t)spki_len};
	s->device->ueid = report.ueid;
	s->device->lifecycle = LIFECYCLE_ACTIVE;
	s->device->keys = keys;
}

static void
verify_whole(size_t i)
{
	struct sender *s = &senders[i % n_senders];
	struct message m = {.ueid = s->device->ueid,
			    .bytes = {s->message, s->len},
			    .received_us = NOW * 1000000,
			    .device = s->device};

	verify_message(&m, cache, NULL);
	must(m.reason == REASON_OK && !m.parked, reason_name(m.reason));
}

static void
verify_bare(size_t i)
{
	struct sender *s = &senders[i % n_senders];

	must(EVP_PKEY_verify(s->context, s->signature, s->signature_len, s->digest, sizeof s->digest) == 1, "bare");
}

/* The parts, as often, to see where the rest goes. */

static void
only_digest(size_t i)
{
	uint8_t digest[DIGEST_SIZE];

	sha256((struct slice){senders[i % n_senders].message, senders[i % n_senders].len}, digest);
}

static void
only_envelope(size_t i)
{
	struct cose_sign1 cose;

	must(cose_decode((struct slice){senders[i % n_senders].message, senders[i % n_senders].len}, &cose) ==
		     REASON_OK,
	     "envelope");
}

static void
only_cache(size_t i)
{
	must(key_cache_get(cache, &senders[i % n_senders].device->keys->at[0]) != NULL, "cache");
}

static void
only_cose(size_t i)
{
	struct sender *s = &senders[i % n_senders];
	struct cose_sign1 cose;
	uint8_t tbs[DIGEST_SIZE];

	must(cose_decode((struct slice){s->message, s->len}, &cose) == REASON_OK, "envelope");
	must(cose_verify(&cose, key_cache_get(cache, &s->device->keys->at[0]), tbs) == REASON_OK, "cose");
}

static void
only_claims(size_t i)
{
	static struct report report;
	struct cose_sign1 cose;

	must(cose_decode((struct slice){senders[i % n_senders].message, senders[i % n_senders].len}, &cose) ==
		     REASON_OK,
	     "envelope");
	must(report_decode(cose.payload, &report) == REASON_OK, "claims");
}

static void
cold_key(size_t i)
{
	const struct device_key *key = &senders[i % n_senders].device->keys->at[0];

	cose_key_free(cose_key_from_spki(key->spki));
}

/* What a cold message costs more than a warm one is the making of its key; so this is to be held against the bare verification. */
static void
cold_signature(size_t i)
{
	struct sender *s = &senders[i % n_senders];
	struct cose_key *key = cose_key_from_spki(s->device->keys->at[0].spki);
	struct cose_sign1 cose;
	uint8_t tbs[DIGEST_SIZE];

	must(key != NULL && cose_decode((struct slice){s->message, s->len}, &cose) == REASON_OK, "envelope");
	must(cose_verify(&cose, key, tbs) == REASON_OK, "cold");
	cose_key_free(key);
}

static const struct part {
	const char *name;
	void (*run)(size_t);
} parts[] = {
	{"bare EVP_PKEY_verify", verify_bare},
	{"verify_message", verify_whole},
	{"  SHA-256 of the message", only_digest},
	{"  envelope", only_envelope},
	{"  key from the cache", only_cache},
	{"  envelope, cache, signature", only_cose},
	{"  envelope and claims", only_claims},
	{"a key that is not warm", cold_key},
	{"  envelope, new key, signature", cold_signature},
};

#define PARTS (sizeof parts / sizeof parts[0])

static double
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int
ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The yardstick for what else runs: short turns of bare verification all through it, so that it meets the same caches and the same neighbours.
   Ends with standard input. */
static void
measure_beside(void)
{
	static double times[YARDSTICK_TURNS];
	const struct timespec pause = {0, 50 * 1000 * 1000};
	struct pollfd input = {STDIN_FILENO, POLLIN, 0};
	size_t n = 0, at = 0;

	puts("ready");
	fflush(stdout);
	while (n < YARDSTICK_TURNS && poll(&input, 1, 0) == 0) {
		double begun = cpu_ns();

		for (size_t i = 0; i < EACH; i++)
			parts[0].run(at++);
		times[n++] = (cpu_ns() - begun) / EACH;
		nanosleep(&pause, NULL);
	}
	qsort(times, n, sizeof times[0], ascending);
	printf("%.0f ns, median of %zu turns\n", n > 0 ? times[n / 2] : 0, n);
}

int
main(int argc, char **argv)
{
	static double times[PARTS][TURNS];
	static size_t at[PARTS];

	if (argc > 1)
		n_senders = strtoul(argv[1], NULL, 10);
	must(n_senders >= 1 && n_senders <= 10000, "1 to 10000 devices");
	senders = calloc(n_senders, sizeof *senders);
	cache = key_cache_new(n_senders);
	must(senders != NULL && cache != NULL, "memory");
	for (size_t i = 0; i < n_senders; i++) {
		make_key(&senders[i]);
		make_sender(&senders[i], i);
		make_bare(&senders[i]);
	}
	if (argc > 2) {
		measure_beside();
		return 0;
	}
	for (size_t turn = 0; turn < TURNS; turn++)
		for (size_t p = 0; p < PARTS; p++) {
			double begun = cpu_ns();

			for (size_t i = 0; i < EACH; i++)
				parts[p].run(at[p]++);
			times[p][turn] = (cpu_ns() - begun) / EACH;
		}
	for (size_t p = 0; p < PARTS; p++)
		qsort(times[p], TURNS, sizeof times[p][0], ascending);
	for (size_t p = 0; p < PARTS; p++)
		printf("%-30s %9.0f ns  %.3f\n", parts[p].name, times[p][TURNS / 2],
		       times[p][TURNS / 2] / times[0][TURNS / 2]);
	return 0;
}
