/* Any table of sockets, and any address of an interface. */
#include <stdlib.h>
#include <string.h>

#include "emitter/probes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
take_line(void *context, struct slice line, bool cut)
{
	struct socket_row row;

	++*(size_t *)context;
	if (!cut && socket_parse(line, &row) &&
	    ((row.address_len != 4 && row.address_len != 16) || row.state > UINT8_MAX))
		abort();
	return true;
}

static size_t
count_lines(struct slice text, size_t piece)
{
	struct text_feed *feed = calloc(1, sizeof *feed);
	size_t lines = 0;

	while (text.len > 0) {
		size_t len = text.len < piece ? text.len : piece;

		(void)!text_feed(feed, (struct slice){text.at, len}, take_line, &lines);
		text.at += len;
		text.len -= len;
	}
	(void)!text_feed_end(feed, take_line, &lines);
	free(feed);
	return lines;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size};
	uint8_t mac[6];

	if (count_lines(text, size ? size : 1) != count_lines(text, size % 5 + 1))
		abort();
	(void)!mac_parse(text, mac);
	return 0;
}
