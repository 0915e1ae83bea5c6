#include "collector/tally.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct tally {
	EVP_MD_CTX *sha256;
	uint64_t size;
	bool failed;
};

struct tally *
tally_new(void)
{
	struct tally *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->sha256 = EVP_MD_CTX_new();
	if (t->sha256 != NULL && EVP_DigestInit_ex(t->sha256, EVP_sha256(), NULL) == 1)
		return t;
	tally_free(t);
	return NULL;
}

void
tally_free(struct tally *t)
{
	if (t == NULL)
		return;
	EVP_MD_CTX_free(t->sha256);
	free(t);
}

void
tally_add(struct tally *t, struct slice bytes)
{
	t->size += bytes.len;
	t->failed = t->failed || EVP_DigestUpdate(t->sha256, bytes.at, bytes.len) != 1;
}

bool
tally_end(struct tally *t, uint8_t digest[DIGEST_SIZE], uint64_t *size)
{
	*size = t->size;
	return EVP_DigestFinal_ex(t->sha256, digest, NULL) == 1 && !t->failed;
}
