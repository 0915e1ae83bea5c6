/* Any sshd_config that includes itself, and any configuration of dropbear. */
#include <stdlib.h>
#include <string.h>

#include "emitter/dropbear.h"
#include "emitter/sshd_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct again {
	struct slice text;
	size_t times;
};

static void
include(void *context, struct sshd_config *config, const char *pattern, const struct sshd_place *place)
{
	struct again *again = context;
	const struct sshd_include files = {include, again};

	if (place->depth > 16 || pattern[0] == '\0' || again->times++ > 64)
		return;
	sshd_config_parse(config, again->text, place, &files);
}

static void
take(void *context, const char *text)
{
	if (text[0] == '\0' || strlen(text) > 255)
		abort();
	++*(size_t *)context;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct again again = {{data, size}, 0};
	const struct sshd_include files = {include, &again};
	struct sshd_config *config = malloc(sizeof *config);
	struct dropbear dropbear;
	size_t n = 0;

	sshd_config_init(config);
	sshd_config_parse(config, again.text, NULL, &files);
	for (size_t i = 0; i < SSHD_KEYWORDS; i++)
		if (strlen(sshd_config_text(config, (enum sshd_keyword)i)) >= SSHD_VALUE)
			abort();
	sshd_weak(config, take, &n);
	sshd_loosened(config, take, &n);
	(void)sshd_takes_passwords(config);
	if (sshd_config_number(config, SSHD_LOGIN_GRACE_TIME) > INT32_MAX)
		abort();
	free(config);
	dropbear_init(&dropbear);
	dropbear_arguments(again.text, &dropbear);
	dropbear_uci(again.text, &dropbear);
	return 0;
}
