/* Any sudoers that includes itself, and any doas.conf. */
#include <stdlib.h>
#include <string.h>

#include "emitter/sudoers.h"
#include "emitter/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
	struct slice text;
	size_t times;
};

static void
include(void *context, struct sudoers *sudoers, const char *path, bool directory)
{
	struct again *again = context;
	const struct sudoers_include files = {include, again};

	if (path[0] == '\0' || strlen(path) > 255)
		abort();
	(void)directory;
	if (again->times++ < 8)
		sudoers_parse(sudoers, again->text, &files);
}

static void
take(void *context, const char *who, bool all_commands, bool without_password)
{
	(void)all_commands;
	(void)without_password;
	if (who[0] == '\0' || strcmp(who, "root") == 0)
		abort();
	++*(size_t *)context;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct again again = {{data, size}, 0};
	const struct sudoers_include files = {include, &again};
	struct sudoers *sudoers = calloc(1, sizeof *sudoers);
	struct slice text = again.text, line, who;
	bool all, free_of_password;
	size_t n = 0;

	sudoers_parse(sudoers, again.text, &files);
	if (sudoers->len > sizeof sudoers->text)
		abort();
	sudoers_administrators(sudoers, take, &n);
	free(sudoers);
	while (text_line(&text, &line))
		if (doas_parse(line, &who, &all, &free_of_password) && who.len == 0)
			abort();
	return 0;
}
