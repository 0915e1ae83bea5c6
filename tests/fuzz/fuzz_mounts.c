/* Any line of mountinfo, of fstab, of crypttab and of /proc/swaps. */
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
	struct slice text = {data, size}, line, path;
	struct crypt_volume volume;
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
		if (crypttab_parse(line, &volume)) {
			within(volume.name, line);
			within(volume.device, line);
			if (volume.key.len > 0)
				within(volume.key, line);
			if (volume.options.len > 0)
				within(volume.options, line);
			(void)mount_option(volume.options, "luks");
		}
		if (swap_parse(line, &path))
			within(path, line);
	}
	return 0;
}
