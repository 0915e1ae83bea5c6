#include "emitter/utmp.h"

#include <string.h>
#include <utmp.h>

/* Fields are filled up with NULs, or full. */
static struct slice
field(const uint8_t *at, size_t size)
{
	size_t len = strnlen((const char *)at, size);

	return (struct slice){len > 0 ? at : NULL, len};
}

size_t
utmp_record_size(void)
{
	return sizeof(struct utmp);
}

bool
utmp_next(struct slice *bytes, struct utmp_record *out)
{
	struct utmp record;
	const uint8_t *at = bytes->at;

	if (bytes->len < sizeof record)
		return false;
	memcpy(&record, at, sizeof record);
	out->is_login = record.ut_type == USER_PROCESS;
	out->user = field(at + offsetof(struct utmp, ut_user), UT_NAMESIZE);
	out->line = field(at + offsetof(struct utmp, ut_line), UT_LINESIZE);
	out->host = field(at + offsetof(struct utmp, ut_host), UT_HOSTSIZE);
	out->at = record.ut_tv.tv_sec > 0 ? (uint64_t)record.ut_tv.tv_sec : 0;
	*bytes = (struct slice){at + sizeof record, bytes->len - sizeof record};
	return true;
}
