/* Any line of mountinfo and of fstab. */
#include <stdlib.h>
#include <string.h>

#include "emitter/mounts.h"
#include "emitter/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
within(struct slice part, struct slice whole)
{
	if (part.len == 0 || part.at < whole.at || part.len > whole.len - (size_t)(part.at - whole.at))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size}, line;
	struct mount entry;
	struct mount mount;
	char point[64];

	while (text_line(&text, &line)) {
		if (mount_parse(line, &mount)) {
			within(mount.point, line);
			within(mount.super, line);
			if (mount_unescape(mount.point, point, sizeof point) > mount.point.len)
				abort();
			(void)mount_option(mount.super, "errors");
		}
		if (fstab_parse(line, &entry)) {
			within(entry.source, line);
			(void)mount_option(entry.options, "ro");
		}
	}
	return 0;
}
