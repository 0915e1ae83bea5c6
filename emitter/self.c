#include "emitter/self.h"

#include <string.h>

bool
self_is_set(const char *option)
{
	return option != NULL && option[0] != '\0';
}

const char *
self_key_place(const char *uri)
{
	static const struct {
		const char *scheme, *place;
	} places[] = {{"pkcs11:", "pkcs11"}, {"handle:", "tpm2"}, {"object:", "tpm2"}};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (strncmp(uri, places[i].scheme, strlen(places[i].scheme)) == 0)
			return places[i].place;
	return "file";
}

const char *
self_key_file(const char *uri)
{
	if (!self_is_set(uri) || strcmp(self_key_place(uri), "file") != 0)
		return NULL;
	if (strncmp(uri, "file://", 7) == 0)
		return uri + 7;
	return strncmp(uri, "file:", 5) == 0 ? uri + 5 : uri;
}
