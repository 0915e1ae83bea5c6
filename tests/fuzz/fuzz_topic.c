/* A topic that is taken prints as it came; a wrong shard's, with the right one, is taken. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schema/limits.h"
#include "schema/topics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
check_topic(struct slice topic)
{
	char printed[LIMIT_TOPIC];
	struct ueid ueid, again;
	enum reason reason = topic_parse_report(topic, &ueid);
	struct slice right;

	if (reason == REASON_TOPIC_MALFORMED)
		return;
	topic_print_report(&ueid, printed, sizeof printed);
	right = (struct slice){(const uint8_t *)printed, strlen(printed)};
	require(right.len == topic.len);
	require((memcmp(printed, topic.at, topic.len) == 0) == (reason == REASON_OK));
	require(topic_parse_report(right, &again) == REASON_OK);
	require(memcmp(&ueid, &again, sizeof ueid) == 0);
}

static void
check_ueid(struct slice hex)
{
	char printed[UEID_HEX];
	struct ueid ueid;

	if (!ueid_parse(hex, &ueid))
		return;
	ueid_print(&ueid, printed);
	require(hex.len == UEID_HEX - 1 && memcmp(printed, hex.at, hex.len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_topic((struct slice){data, size});
	check_ueid((struct slice){data, size});
	return 0;
}
