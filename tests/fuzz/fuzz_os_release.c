/* Any text that a system describes itself with: os-release, and the small files of /proc and /sys. */
#include <stdlib.h>
#include <string.h>

#include "emitter/probes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_release(const struct os_release *release)
{
	for (size_t i = 0; i < RELEASE_FIELDS; i++) {
		const char *text = os_release_text(release, (enum release)i);

		for (; text && *text; text++)
			if ((unsigned char)*text < ' ' || *text == 0x7f)
				abort();
		if (strnlen(release->fields[i].text, sizeof release->fields[i].text) == sizeof release->fields[i].text)
			abort();
	}
}

static void
take_risk(void *context, const char *risk)
{
	if (risk[0] == '\0' || strlen(risk) > LIMIT_TEXT)
		abort();
	++*(size_t *)context;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size}, found;
	struct os_release release;
	char id[HOST_ID_SIZE];
	struct cpuinfo cpuinfo;
	uint64_t number;
	size_t risks = 0;
	bool flag;

	os_release_parse(text, &release);
	check_release(&release);
	cpuinfo_parse(text, &cpuinfo);
	if (cpuinfo.processors > size)
		abort();
	command_line_risks(text, take_risk, &risks);
	if (risks > size)
		abort();
	(void)!cpu_list_parse(text, &number);
	(void)!meminfo_parse(text, &number);
	(void)!uptime_parse(text, &number);
	(void)!host_id(text, id);
	(void)!efi_flag(text, &flag);
	(void)is_placeholder(text);
	if (compatible_vendor(text, &found) && (found.len == 0 || found.len >= size))
		abort();
	if (lockdown_parse(text, &found) && found.len + 2 > size)
		abort();
	return 0;
}
