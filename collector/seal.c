#include "collector/seal.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "schema/log.h"

struct seal {
	pthread_mutex_t lock;
	struct cose_key *key;
	struct slice chain[LIMIT_CHAIN_CERTS]; /* leaf first */
	size_t chain_len;
};

static int
load_chain(struct seal *s, const char *file)
{
	FILE *in = fopen(file, "re");
	X509 *certificate;

	if (in == NULL)
		return -1;
	while (s->chain_len < LIMIT_CHAIN_CERTS && (certificate = PEM_read_X509(in, NULL, NULL, NULL)) != NULL) {
		uint8_t *der = NULL;
		int len = i2d_X509(certificate, &der);

		X509_free(certificate);
		if (len <= 0)
			break;
		s->chain[s->chain_len++] = (struct slice){der, (size_t)len};
	}
	fclose(in);
	return s->chain_len > 0 ? 0 : -1;
}

struct seal *
seal_open(const struct settings *settings)
{
	struct seal *s = calloc(1, sizeof *s);
	char error[256] = "";

	if (s == NULL)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->key = cose_key_open(settings->receipt_key, error);
	if (s->key == NULL)
		log_error("receipt_key: %s", error);
	else if (load_chain(s, settings->receipt_certificate) < 0)
		log_error("no certificate in %s", settings->receipt_certificate);
	else
		return s;
	seal_free(s);
	return NULL;
}

void
seal_free(struct seal *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->chain_len; i++)
		OPENSSL_free((void *)(uintptr_t)s->chain[i].at);
	cose_key_free(s->key);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

size_t
seal_sign(struct seal *s, struct slice payload, uint8_t *out, size_t size)
{
	size_t len;

	pthread_mutex_lock(&s->lock);
	len = cose_sign(s->key, s->chain, s->chain_len, payload, out, size);
	pthread_mutex_unlock(&s->lock);
	return len;
}
