/* Any configuration, sources, preferences, lists and keys: each reader comes to an end, tells only what lies within the text, and keeps its bounds. */
#include <stdlib.h>
#include <string.h>

#include "emitter/apt_conf.h"
#include "emitter/apt_policy.h"
#include "emitter/update_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice whole;

static void
check_within(struct slice part)
{
	if (part.len > 0 && (part.at < whole.at || part.at + part.len > whole.at + whole.len))
		abort();
}

static void
take_setting(void *context, const char *name, struct slice value)
{
	(void)context;
	if (strlen(name) >= APT_NAME)
		abort();
	check_within(value);
	(void)apt_conf_is_yes(value);
}

static void
take_source(void *context, const struct apt_source *source)
{
	char name[64];
	size_t len = apt_list_name(source->uri, source->suite, name, sizeof name);

	(void)context;
	if (len >= sizeof name || (len > 0 && (strlen(name) != len || strchr(name, '/'))))
		abort();
}

static void
take_section(void *context, struct slice section, struct slice name, struct slice value)
{
	(void)context;
	check_within(section);
	check_within(name);
	check_within(value);
}

static void
take_feed(void *context, struct slice feed)
{
	(void)context;
	check_within(feed);
}

static void
take_pending(void *context, const struct apt_pending *pending)
{
	(void)context;
	if (!pending->name[0] || !pending->to || strcmp(pending->from, pending->to) == 0)
		abort();
}

static void
read_policy(struct slice text)
{
	struct apt_policy *policy = apt_policy_new();
	struct slice a = {(const uint8_t *)"a", 1}, b = {(const uint8_t *)"b", 1}, arch = {(const uint8_t *)"amd64", 5},
		     one = {(const uint8_t *)"1", 1};
	struct apt_release release = {.suite = "stable-security"};

	if (!policy)
		abort();
	apt_policy_native(policy, arch);
	apt_policy_installed(policy, a, arch, one);
	apt_policy_installed(policy, b, arch, one);
	apt_release_parse(text, &release);
	apt_policy_preferences(policy, text);
	apt_policy_begin(policy, &release);
	apt_policy_feed(policy, text);
	apt_policy_end(policy);
	(void)!apt_policy_finish(policy, take_pending, NULL);
	apt_policy_free(policy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct opkg_conf opkg = {false};
	struct slice value;

	whole = (struct slice){data, size};
	apt_conf_parse(whole, take_setting, NULL);
	apt_sources_parse_lines(whole, take_source, NULL);
	apt_sources_parse_paragraphs(whole, take_source, NULL);
	sections_parse(whole, take_section, NULL);
	opkg_conf_parse(whole, &opkg, take_feed, NULL);
	if (quoted_value(whole, "ArtifactVerifyKey", &value))
		check_within(value);
	(void)json_flag(whole, "SkipVerify");
	if (update_keys_count(whole) > size)
		abort();
	read_policy(whole);
	return 0;
}
