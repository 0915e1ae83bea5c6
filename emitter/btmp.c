#include "emitter/btmp.h"

#define LOGIN_PROCESS 6
#define USER_PROCESS 7
#define DEAD_PROCESS 8

static uint64_t
little(const uint8_t *at, size_t len)
{
	uint64_t number = 0;

	for (size_t i = len; i > 0; i--)
		number = number << 8 | at[i - 1];
	return number;
}

static uint64_t
time_of(const uint8_t *record, size_t size)
{
	return size == 384 ? little(record + 340, 4) : little(record + 344, 8);
}

/* The second record, where it is there, begins with a kind too. */
size_t
btmp_record_size(uint64_t size, struct slice beginning)
{
	static const size_t sizes[] = {384, 400};

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		if (size % sizes[i] != 0 || beginning.len < 2 || little(beginning.at, 2) > DEAD_PROCESS + 1)
			continue;
		if (size == sizes[i] ||
		    (beginning.len >= sizes[i] + 2 && little(beginning.at + sizes[i], 2) <= DEAD_PROCESS + 1))
			return sizes[i];
	}
	return 0;
}

uint64_t
btmp_count(struct slice records, size_t size, uint64_t since, uint64_t until, bool *older)
{
	uint64_t n = 0;

	*older = false;
	for (; records.len >= size; records.at += size, records.len -= size) {
		uint64_t kind = little(records.at, 2), at = time_of(records.at, size);

		if (kind != LOGIN_PROCESS && kind != USER_PROCESS)
			continue;
		*older = *older || at < since;
		n += at >= since && at <= until;
	}
	return n;
}
