#include "emitter/forwarding.h"

#include <string.h>
#include <strings.h>

#include "emitter/text.h"

#define BLOCK                                                                                                          \
	4096 /* bytes of one action or destination that are looked at; each is passed over as a whole, so that the work is bounded by the text */

/* Without the case of letters, as these configurations have it. */
static const uint8_t *
find(struct slice text, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= text.len; i++)
		if (strncasecmp((const char *)text.at + i, word, len) == 0)
			return text.at + i;
	return NULL;
}

static bool
has(struct slice text, const char *word)
{
	return find(text, word) != NULL;
}

static struct slice
rest_after(struct slice text, const uint8_t *at)
{
	return (struct slice){at, text.len - (size_t)(at - text.at)};
}

static struct slice
without_comment(struct slice line)
{
	const uint8_t *mark = memchr(line.at, '#', line.len);

	return text_trim((struct slice){line.at, mark ? (size_t)(mark - line.at) : line.len});
}

static void
add(struct forwarding *f, bool tls)
{
	f->tls |= tls;
	f->plain |= !tls;
}

/* ---- rsyslog ---- */

/* What is sent: "*.* @@host:port", "@host" by UDP, ":omrelp:host"; the selector goes before. */
static void
classic(struct slice line, struct forwarding *f)
{
	struct slice word, action = {NULL, 0};
	size_t words = 0;

	while (text_word(&line, &word) && words < 2) {
		action = word;
		words++;
	}
	if (words < 2)
		return;
	if (text_begins(action, "@@"))
		add(f, f->driver);
	else if (text_begins(action, "@") || text_begins(action, ":omrelp:") || text_begins(action, ":omfwd:"))
		add(f, false);
}

/* What stands before `end`, at most a block of it. */
static struct slice
block_until(struct slice text, char end)
{
	size_t len = text.len < BLOCK ? text.len : BLOCK;
	const uint8_t *mark = memchr(text.at, end, len);

	return (struct slice){text.at, mark ? (size_t)(mark - text.at) : len};
}

/* The parameters of action(...), which may go over lines. */
static void
action(struct slice own, struct forwarding *f)
{
	bool forwards = has(own, "\"omfwd\""), relp = has(own, "\"omrelp\"");
	bool off = has(own, "streamdrivermode=\"0\""), tcp = has(own, "\"tcp\"");

	if (relp)
		add(f, has(own, "tls=\"on\""));
	else if (forwards)
		add(f, tcp && !off && (f->driver || has(own, "streamdrivermode=\"1\"")));
}

static bool
is_driver(struct slice line)
{
	return has(line, "$ActionSendStreamDriverMode 1");
}

void
forwarding_rsyslog(struct slice text, struct forwarding *f)
{
	struct slice rest = text, line;
	const uint8_t *done = text.at, *at;

	while (text_line(&rest, &line)) {
		line = without_comment(line);
		f->driver |= is_driver(line);
		classic(line, f);
		while (line.at >= done && (at = find(line, "action("))) {
			struct slice own = block_until(rest_after((struct slice){at, text.len - (size_t)(at - text.at)},
								  at + strlen("action(")),
						       ')');

			action(own, f);
			done = own.at + own.len;
			line = done < line.at + line.len ? rest_after(line, done)
							 : (struct slice){line.at + line.len, 0};
		}
	}
}

/* ---- syslog-ng ---- */

/* destination d { network("host" transport("tls")); }; */
static void
destination(struct slice own, struct forwarding *f)
{
	static const char *const drivers[] = {"network(", "syslog(", "tcp(", "udp(", "tcp6(", "udp6(", "relp("};
	bool sends = false;

	for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
		sends |= has(own, drivers[i]);
	if (sends)
		add(f, has(own, "transport(\"tls\")") || has(own, "transport(tls)"));
}

void
forwarding_syslog_ng(struct slice text, struct forwarding *f)
{
	struct slice rest = text, line, word;
	const uint8_t *done = text.at;

	while (text_line(&rest, &line)) {
		struct slice from = {line.at, text.len - (size_t)(line.at - text.at)}, words = without_comment(line);

		if (line.at < done || !text_word(&words, &word) || !text_is(word, "destination"))
			continue;
		from = block_until(from, '}');
		destination(from, f);
		done = from.at + from.len;
	}
}

/* ---- the others ---- */

void
forwarding_journal_upload(struct slice text, struct forwarding *f)
{
	struct slice line, key, value;

	while (text_line(&text, &line))
		if (text_cut(without_comment(line), '=', &key, &value) && text_is(key, "URL") && value.len > 0)
			add(f, !text_begins(value, "http://")); /* https is the default */
}

void
forwarding_openwrt(struct slice text, struct forwarding *f)
{
	struct slice line, word;

	while (text_line(&text, &line)) {
		line = without_comment(line);
		if (text_word(&line, &word) && text_is(word, "option") && text_word(&line, &word) &&
		    text_is(word, "log_ip") && text_word(&line, &word) && word.len > 2)
			add(f, false);
	}
}
