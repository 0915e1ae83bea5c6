#include "emitter/default_password.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "emitter/accounts.h"

#define PASSWORD_SIZE 256
#define WORK_SIZE (256 * 1024) /* struct crypt_data: 32 KiB of libxcrypt, 128 KiB of glibc before it */

typedef char *crypt_function(const char *password, const char *setting, void *work);

static crypt_function *
find_crypt(void)
{
	void *library = dlopen("libcrypt.so.1", RTLD_NOW | RTLD_LOCAL);
	crypt_function *function = NULL;
	void *symbol;

	if (!library)
		library = dlopen("libcrypt.so.2", RTLD_NOW | RTLD_LOCAL);
	symbol = dlsym(library ? library : RTLD_DEFAULT, "crypt_r");
	memcpy(&function, &symbol, sizeof function);
	return function;
}

static const char *
compare(const char *password, const char *field, bool *same)
{
	static crypt_function *function;
	const char *made;
	void *work;

	if (!function)
		function = find_crypt();
	if (!function)
		return "no crypt(3) on this system";
	work = calloc(1, WORK_SIZE);
	if (!work)
		return "memory ran out";
	made = function(password, field, work);
	*same = made && strlen(made) == strlen(field) && CRYPTO_memcmp(made, field, strlen(field)) == 0;
	OPENSSL_cleanse(work, WORK_SIZE);
	free(work);
	return NULL;
}

const char *
default_password_check(struct default_passwords *d, struct slice password, struct slice field, bool *same)
{
	char word[PASSWORD_SIZE], setting[PASSWORD_SIZE + 1];
	uint8_t pair[DIGEST_SIZE], digests[2][DIGEST_SIZE];
	const char *why;

	if (password.len >= sizeof word || memchr(password.at, '\0', password.len))
		return "a declared password is too long";
	if (!password_is_cheap(field))
		return "a password's hash is too costly to try";
	sha256(password, digests[0]);
	sha256(field, digests[1]);
	sha256((struct slice){digests[0], sizeof digests}, pair);
	for (size_t i = 0; i < DEFAULT_PASSWORDS; i++)
		if (d->cache[i].known && memcmp(d->cache[i].pair, pair, sizeof pair) == 0) {
			*same = d->cache[i].same;
			return NULL;
		}
	memcpy(word, password.at, password.len);
	word[password.len] = '\0';
	memcpy(setting, field.at, field.len);
	setting[field.len] = '\0';
	why = compare(word, setting, same);
	OPENSSL_cleanse(word, sizeof word);
	if (why)
		return why;
	d->cache[d->next].known = true;
	d->cache[d->next].same = *same;
	memcpy(d->cache[d->next].pair, pair, sizeof pair);
	d->next = (d->next + 1) % DEFAULT_PASSWORDS;
	return NULL;
}
