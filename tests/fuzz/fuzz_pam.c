/* Any of PAM's stacks, and any file of settings. */
#include <stdlib.h>

#include "emitter/pam.h"
#include "emitter/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"deny", "unlock_time", "FAIL_DELAY", "conf", ""};
	struct slice text = {data, size}, line, value;
	char joined[PAM_LINE];
	struct pam_line parsed;

	while (pam_next_line(&text, joined, &line)) {
		if (!pam_parse(line, &parsed))
			continue;
		if (parsed.module.len == 0 || parsed.module.len > line.len)
			abort();
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
			if (pam_argument(parsed.arguments, names[i], &value) && value.len > line.len)
				abort();
	}
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (setting_find((struct slice){data, size}, names[i], &value) && value.len > size)
			abort();
	return 0;
}
