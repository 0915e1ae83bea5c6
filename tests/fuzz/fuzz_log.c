/* Lines of logs, records of utmp, the kernel's datagrams: what is taken of them lies within them, and makes a section that the collector takes. */
#include <stdlib.h>
#include <string.h>

#include "emitter/log_message.h"
#include "emitter/text.h"
#include "emitter/uevent.h"
#include "emitter/utmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sum;

static void
touch(struct slice part, const uint8_t *data, size_t size)
{
	static const char *const literals[] = {"sshd", "sudo", "su", "login"};
	bool own = part.at >= data && part.at + part.len <= data + size;

	for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
		own = own || text_is(part, literals[i]);
	if (part.at && !own)
		abort();
	for (size_t i = 0; i < part.len; i++)
		sum = (uint8_t)(sum + part.at[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const programs[] = {"sshd", "sudo", "su", "login"};
	struct slice all = {data, size}, rest = all, line, program, message;
	struct utmp_record record;
	struct usb_event usb;
	struct log_event event;

	while (utmp_next(&rest, &record)) {
		touch(record.user, data, size);
		touch(record.host, data, size);
	}
	(void)!uevent_parse(all, &usb);
	for (rest = all; text_line(&rest, &line);) {
		if (!log_line_parse(line, &program, &message))
			message = line;
		for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
			if (log_message_parse((struct slice){(const uint8_t *)programs[i], strlen(programs[i])},
					      message, &event))
				for (size_t k = 0; k < 3; k++)
					touch(event.parts[k], data, size);
	}
	return 0;
}
