/* Any file: what is taken for a list of revoked certificates is whole, has its times, and is read again from its own bytes. */
#include <stdlib.h>
#include <string.h>

#include "collector/crl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char why[CRL_WHY_SIZE] = "";
	X509_CRL *crl = crl_read((struct slice){data, size}, why), *again;
	uint8_t digest[DIGEST_SIZE];
	unsigned char *der = NULL;
	int len;

	if (crl == NULL) {
		if (why[0] == '\0')
			abort();
		return 0;
	}
	if (crl_begins(crl) < 0 || crl_ends(crl) < 0)
		abort();
	crl_issuer(crl, digest);
	len = i2d_X509_CRL(crl, &der);
	again = len <= 0 ? NULL : crl_read((struct slice){der, (size_t)len}, why);
	if (again == NULL || crl_ends(again) != crl_ends(crl))
		abort();
	X509_CRL_free(again);
	X509_CRL_free(crl);
	OPENSSL_free(der);
	return 0;
}
