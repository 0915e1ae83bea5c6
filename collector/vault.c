#include "collector/vault.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { VERSION = 1, NONCE = 12, TAG = 16, HEAD = 1 + NONCE };

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
read_hex(struct vault_key *key, const char *text)
{
	for (size_t i = 0; i < VAULT_KEY_SIZE; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return false;
		key->at[i] = (uint8_t)(high << 4 | low);
	}
	return strcmp(text + 2 * VAULT_KEY_SIZE, "\n") == 0 || text[2 * VAULT_KEY_SIZE] == '\0';
}

int
vault_key_load(struct vault_key *key, const char *file, char *why)
{
	char text[2 * VAULT_KEY_SIZE + 3] = "";
	FILE *in = fopen(file, "re");
	struct stat st;
	int rc = -1;

	if (in == NULL || fstat(fileno(in), &st) != 0) {
		snprintf(why, VAULT_WHY_SIZE, "%s: %m", file);
		goto out;
	}
	if ((st.st_mode & S_IRWXO) != 0) {
		snprintf(why, VAULT_WHY_SIZE, "%s: others may read it", file);
		goto out;
	}
	(void)!fread(text, 1, sizeof text - 1, in);
	if (read_hex(key, text))
		rc = 0;
	else
		snprintf(why, VAULT_WHY_SIZE, "%s: not 64 hex digits (openssl rand -hex 32 makes them)", file);
out:
	if (in != NULL)
		fclose(in);
	OPENSSL_cleanse(text, sizeof text);
	return rc;
}

size_t
vault_binding(char *at, size_t size, const char *tenant, const char *name, const char *kind, const char *target)
{
	int len = snprintf(at, size, "%s%c%s%c%s%c%s", tenant == NULL ? "" : tenant, 0, name, 0, kind, 0, target);

	return len < 0 || (size_t)len >= size ? 0 : (size_t)len;
}

size_t
vault_close(const struct vault_key *key, struct slice binding, struct slice secret, uint8_t *out)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t *nonce = out + 1, *at = out + HEAD;
	size_t len = 0;
	int n = 0, last = 0;

	out[0] = VERSION;
	if (c != NULL && secret.len <= VAULT_MAX && RAND_bytes(nonce, NONCE) == 1 &&
	    EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key->at, nonce) == 1 &&
	    EVP_EncryptUpdate(c, NULL, &n, binding.at, (int)binding.len) == 1 &&
	    EVP_EncryptUpdate(c, at, &n, secret.at, (int)secret.len) == 1 &&
	    EVP_EncryptFinal_ex(c, at + n, &last) == 1 &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, at + secret.len) == 1)
		len = secret.len + VAULT_OVERHEAD;
	EVP_CIPHER_CTX_free(c);
	return len;
}

int
vault_open(const struct vault_key *key, struct slice binding, struct slice sealed, uint8_t *out)
{
	EVP_CIPHER_CTX *c;
	uint8_t tag[TAG];
	int n = 0, last = 0, len = -1;

	if (sealed.len < VAULT_OVERHEAD || sealed.len > VAULT_MAX + VAULT_OVERHEAD || sealed.at[0] != VERSION)
		return -1;
	c = EVP_CIPHER_CTX_new();
	memcpy(tag, sealed.at + sealed.len - TAG, TAG);
	if (c != NULL && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key->at, sealed.at + 1) == 1 &&
	    EVP_DecryptUpdate(c, NULL, &n, binding.at, (int)binding.len) == 1 &&
	    EVP_DecryptUpdate(c, out, &n, sealed.at + HEAD, (int)(sealed.len - VAULT_OVERHEAD)) == 1 &&
	    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 && EVP_DecryptFinal_ex(c, out + n, &last) == 1)
		len = n + last;
	else
		OPENSSL_cleanse(out, sealed.len - VAULT_OVERHEAD);
	EVP_CIPHER_CTX_free(c);
	return len;
}
