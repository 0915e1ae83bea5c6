/* Where logs are sent, and what a maker states in the configuration. */
#include <stdlib.h>

#include "emitter/forwarding.h"
#include "emitter/stated.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size}, name, value;
	struct forwarding found = {0};
	const char *why;
	enum stated got;

	forwarding_rsyslog(text, &found);
	forwarding_syslog_ng(text, &found);
	forwarding_journal_upload(text, &found);
	forwarding_openwrt(text, &found);
	while ((got = stated_next(&text, &name, &value, &why)) != STATED_END)
		if (got == STATED_ONE &&
		    (name.len == 0 || name.len > STATED_NAME || value.len == 0 || value.len > STATED_VALUE))
			abort();
	return 0;
}
