#include <stdio.h>
#include <string.h>

#include "emitter/kernel.h"
#include "emitter/probes.h"

static const char *const release_names[RELEASE_FIELDS] = {
	[RELEASE_ID] = "ID",
	[RELEASE_PRETTY_NAME] = "PRETTY_NAME",
	[RELEASE_VERSION_ID] = "VERSION_ID",
	[RELEASE_VERSION_CODENAME] = "VERSION_CODENAME",
	[RELEASE_BUILD_ID] = "BUILD_ID",
	[RELEASE_VARIANT_ID] = "VARIANT_ID",
	[RELEASE_SUPPORT_END] = "SUPPORT_END",
	[RELEASE_IMAGE_ID] = "IMAGE_ID",
	[RELEASE_IMAGE_VERSION] = "IMAGE_VERSION",
};

static const struct {
	enum fact fact;
	enum release field;
} release_facts[] = {
	{FACT_OS_ID, RELEASE_ID},
	{FACT_OS_NAME, RELEASE_PRETTY_NAME},
	{FACT_OS_VERSION, RELEASE_VERSION_ID},
	{FACT_OS_BUILD, RELEASE_BUILD_ID},
	{FACT_OS_VARIANT, RELEASE_VARIANT_ID},
	{FACT_OS_SUPPORT_END, RELEASE_SUPPORT_END},
};

/* A value being read: what was taken so far, and whether it is still one. */
struct value {
	char text[sizeof((struct os_release *)0)->fields[0].text];
	size_t len;
	bool malformed;
};

static void
take(struct value *value, uint8_t c)
{
	if (c < 0x20 || c == 0x7f || value->len >= sizeof value->text - 1)
		value->malformed = true;
	else
		value->text[value->len++] = (char)c;
}

/* In double quotes a backslash only quotes these; before others it stands for itself, and before a line's end both vanish. */
static void
read_double_quoted(struct slice *text, struct value *value)
{
	for (; text->len > 0 && text->at[0] != '"'; text->at++, text->len--) {
		if (text->at[0] == '$' || text->at[0] == '`')
			value->malformed = true;
		if (text->at[0] == '\\' && text->len > 1 && strchr("$`\"\\\n", text->at[1]) && text->at[1] != '\0') {
			text->at++;
			text->len--;
			if (text->at[0] == '\n')
				continue;
		}
		take(value, text->at[0]);
	}
}

static void
read_single_quoted(struct slice *text, struct value *value)
{
	for (; text->len > 0 && text->at[0] != '\''; text->at++, text->len--)
		take(value, text->at[0]);
}

static void
read_quoted(struct slice *text, struct value *value)
{
	uint8_t quote = text->at[0];

	text->at++;
	text->len--;
	if (quote == '"')
		read_double_quoted(text, value);
	else
		read_single_quoted(text, value);
	if (text->len == 0) {
		value->malformed = true;
		return;
	}
	text->at++;
	text->len--;
}

/* From behind the "=" to the line's end. What the shell would run, expand or take for a second word makes the value malformed. */
static void
read_value(struct slice *text, struct value *value)
{
	bool ended = false;

	while (text->len > 0 && text->at[0] != '\n') {
		uint8_t c = text->at[0];

		if (c == ' ' || c == '\t' || c == '\r') {
			ended = true;
		} else if (c == '#' && ended) {
			while (text->len > 0 && text->at[0] != '\n')
				text->at++, text->len--;
			return;
		} else if (ended || strchr("$`;&|<>()", c)) {
			value->malformed = true;
		} else if (c == '"' || c == '\'') {
			read_quoted(text, value);
			continue;
		} else if (c == '\\' && text->len > 1) {
			text->at++;
			text->len--;
			if (text->at[0] != '\n')
				take(value, text->at[0]);
		} else {
			take(value, c);
		}
		text->at++;
		text->len--;
	}
}

static bool
is_name(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* The name before "=", which is taken too; an empty one if the line is no assignment. */
static struct slice
read_name(struct slice *text)
{
	struct slice name;

	while (text->len > 0 && (text->at[0] == ' ' || text->at[0] == '\t'))
		text->at++, text->len--;
	name.at = text->at;
	while (text->len > 0 && is_name(text->at[0]))
		text->at++, text->len--;
	name.len = (size_t)(text->at - name.at);
	if (text->len == 0 || text->at[0] != '=')
		return (struct slice){NULL, 0};
	text->at++;
	text->len--;
	return name;
}

static void
keep(struct os_release *out, struct slice name, const struct value *value)
{
	for (size_t i = 0; i < RELEASE_FIELDS; i++) {
		if (!text_is(name, release_names[i]))
			continue;
		out->fields[i].state = value->malformed ? RELEASE_MALFORMED : RELEASE_SET;
		memcpy(out->fields[i].text, value->text, value->len);
		out->fields[i].text[value->len] = '\0';
	}
}

void
os_release_parse(struct slice text, struct os_release *out)
{
	struct slice name, line;
	struct value value;

	memset(out, 0, sizeof *out);
	while (text.len > 0) {
		name = read_name(&text);
		if (name.at) {
			value.len = 0;
			value.malformed = false;
			read_value(&text, &value);
			keep(out, name, &value);
		}
		(void)!text_line(&text, &line);
	}
}

const char *
os_release_text(const struct os_release *release, enum release field)
{
	if (release->fields[field].state != RELEASE_SET || release->fields[field].text[0] == '\0')
		return NULL;
	return release->fields[field].text;
}

const char *
os_release_distro(const struct os_release *release, char out[DISTRO_SIZE])
{
	const char *id = os_release_text(release, RELEASE_ID),
		   *code = os_release_text(release, RELEASE_VERSION_CODENAME),
		   *version = os_release_text(release, RELEASE_VERSION_ID);

	if (code)
		return code;
	if (!id || !version)
		return NULL;
	snprintf(out, DISTRO_SIZE, "%s-%s", id, version);
	return out;
}

/* os-release(5): /etc first, and /usr/lib only if there is none. */
void
os_release_read(struct probe *p)
{
	struct slice text = source_read(p->source, "etc/os-release", SOURCE_FILE);

	if (!text.at && source_missing(p->source))
		text = source_read(p->source, "usr/lib/os-release", SOURCE_FILE);
	os_release_parse(text, &p->release);
	p->release_why[0] = '\0';
	if (!text.at)
		snprintf(p->release_why, sizeof p->release_why, "%s",
			 source_missing(p->source) ? "no os-release" : source_why(p->source));
}

static void
from_release(struct probe *p, enum fact fact, enum release field)
{
	const char *text = os_release_text(&p->release, field);

	if (text)
		facts_set_text(p->facts, fact, text);
	else if (p->release_why[0])
		facts_unknown(p->facts, fact, p->release_why);
	else if (p->release.fields[field].state == RELEASE_MALFORMED)
		facts_unknown(p->facts, fact, "os-release has it in a malformed line");
	else
		facts_unknown(p->facts, fact, "os-release does not say");
}

bool
uptime_parse(struct slice text, uint64_t *seconds)
{
	struct slice word;
	size_t whole = 0;

	if (!text_word(&text, &word))
		return false;
	while (whole < word.len && word.at[whole] != '.')
		whole++;
	return whole < word.len && text_number((struct slice){word.at, whole}, 10, seconds);
}

static void
uptime(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/uptime", SOURCE_ATTRIBUTE);
	uint64_t seconds;

	if (!text.at)
		facts_unknown(p->facts, FACT_OS_UPTIME, probe_why(p));
	else if (uptime_parse(text, &seconds))
		facts_set_uint(p->facts, FACT_OS_UPTIME, seconds);
	else
		facts_unknown(p->facts, FACT_OS_UPTIME, "proc/uptime is malformed");
}

bool
probe_loads_no_modules(struct probe *p)
{
	return source_is_live(p->source) && !source_exists(p->source, "proc/modules") && source_missing(p->source) &&
	       source_exists(p->source, "proc/version");
}

static void
modules(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/modules", SOURCE_FILE), line, name, taint;
	char shown[128];

	if (!text.at && !probe_loads_no_modules(p)) {
		facts_unknown(p->facts, FACT_OS_MODULES, probe_why(p));
		return;
	}
	facts_begin_list(p->facts, FACT_OS_MODULES);
	while (text.at && text_line(&text, &line)) {
		if (!module_parse(line, &name, &taint))
			continue;
		snprintf(shown, sizeof shown, "%.*s", (int)(name.len < 127 ? name.len : 127), (const char *)name.at);
		facts_add_text(p->facts, FACT_OS_MODULES, shown);
	}
}

void
probe_os(struct probe *p)
{
	for (size_t i = 0; i < sizeof release_facts / sizeof release_facts[0]; i++)
		from_release(p, release_facts[i].fact, release_facts[i].field);
	probe_text(p, FACT_OS_KERNEL, "proc/sys/kernel/osrelease");
	probe_text(p, FACT_OS_KERNEL_BUILD, "proc/sys/kernel/version");
	modules(p);
	uptime(p);
}
