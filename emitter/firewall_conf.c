#include "emitter/firewall_conf.h"

#include <string.h>

#include "emitter/text.h"

/* What is known while a ruleset of nft is read. */
struct nft {
	struct firewall_defaults *out;
	bool four, six; /* the table's families */
	bool hooked; /* the chain is one of input filters */
	bool drops; /* its policy, or its last rule */
	bool last_drops;
};

static void
end_chain(struct nft *nft)
{
	bool drops = nft->drops || nft->last_drops;

	if (nft->hooked) {
		nft->out->ipv4 = nft->out->ipv4 || nft->four;
		nft->out->ipv6 = nft->out->ipv6 || nft->six;
		nft->out->drop_ipv4 = nft->out->drop_ipv4 || (nft->four && drops);
		nft->out->drop_ipv6 = nft->out->drop_ipv6 || (nft->six && drops);
	}
	nft->hooked = nft->drops = nft->last_drops = false;
}

static void
take_family(struct nft *nft, struct slice family)
{
	bool inet = text_is(family, "inet"),
	     other = text_is(family, "arp") || text_is(family, "bridge") || text_is(family, "netdev");

	nft->six = inet || text_is(family, "ip6");
	nft->four = inet || (!nft->six && !other);
}

/* Words of a rule that every packet passes: "counter packets 0 bytes 0 log prefix". */
static bool
is_plain(struct slice word)
{
	static const char *const words[] = {"counter", "packets", "bytes", "log", "prefix", "level"};
	uint64_t number;

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (text_is(word, words[i]))
			return true;
	return word.at[0] == '"' || text_number(word, 10, &number);
}

/* A statement stands between two of ";", braces and line ends. */
static void
take_statement(struct nft *nft, struct slice statement)
{
	struct slice word, last = {NULL, 0}, before = {NULL, 0};
	bool filter = false, input = false, plain = true, drops = false, first = true;

	while (text_word(&statement, &word)) {
		if (text_is(word, "include") && first)
			nft->out->includes = true;
		if (last.at && (text_is(last, "table") || (text_is(last, "chain") && before.at)))
			take_family(nft, word);
		if (text_is(word, "table") || text_is(word, "chain"))
			end_chain(nft);
		filter = filter || (last.at && text_is(last, "type") && text_is(word, "filter"));
		input = input || (last.at && text_is(last, "hook") && text_is(word, "input"));
		if (nft->hooked && last.at && text_is(last, "policy"))
			nft->drops = text_is(word, "drop");
		drops = drops || (plain && (text_is(word, "drop") || text_is(word, "reject")));
		plain = plain && is_plain(word);
		before = last;
		last = word;
		first = false;
	}
	if (filter && input)
		nft->hooked = true;
	else if (last.at)
		nft->last_drops = drops;
}

void
nft_conf_parse(struct slice text, struct firewall_defaults *out)
{
	struct nft nft = {.out = out};
	struct slice statement = {text.at, 0};
	bool quoted = false;

	for (size_t i = 0; i <= text.len; i++) {
		uint8_t c = i < text.len ? text.at[i] : '\n';

		if (c == '"')
			quoted = !quoted;
		if (c == '\n')
			quoted = false;
		if (quoted || (c != ';' && c != '{' && c != '}' && c != '\n' && c != '#'))
			continue;
		statement.len = (size_t)(text.at + i - statement.at);
		take_statement(&nft, statement);
		/* The braces of a set within a rule end no chain: only "}" behind a line or ";" does, and such a rule is not plain. */
		if (c == '}' && text_trim(statement).len == 0)
			end_chain(&nft);
		while (c == '#' && i + 1 < text.len && text.at[i + 1] != '\n')
			i++;
		statement.at = text.at + (i < text.len ? i + 1 : text.len);
	}
	end_chain(&nft);
}

bool
iptables_save_parse(struct slice text, bool *drops)
{
	struct slice line, word, policy;
	bool filter = true, found = false, last = false;

	while (text_line(&text, &line)) {
		line = text_trim(line);
		if (line.len > 0 && line.at[0] == '*')
			filter = text_is(line, "*filter");
		if (!filter || !text_word(&line, &word))
			continue;
		if (text_is(word, ":INPUT") && text_word(&line, &policy)) {
			found = true;
			*drops = text_is(policy, "DROP");
		} else if (text_is(word, "-A") && text_word(&line, &word) && text_is(word, "INPUT")) {
			line = text_trim(line);
			last = text_begins(line, "-j DROP") || text_begins(line, "-j REJECT");
		}
	}
	*drops = found && (*drops || last);
	return found;
}

struct slice
shell_value(struct slice text, const char *name)
{
	struct slice line, key, value, found = {NULL, 0};

	while (text_line(&text, &line)) {
		if (!text_cut(line, '=', &key, &value) || !text_is(key, name))
			continue;
		if (value.len > 1 && (value.at[0] == '"' || value.at[0] == '\'') &&
		    value.at[value.len - 1] == value.at[0])
			value.at++, value.len -= 2;
		found = value;
	}
	return found;
}

struct slice
uci_input(struct slice text)
{
	struct slice line, word, found = {NULL, 0};
	bool defaults = false;

	while (text_line(&text, &line)) {
		if (!text_word(&line, &word))
			continue;
		if (text_is(word, "config") && text_word(&line, &word))
			defaults = text_is(word, "defaults");
		else if (defaults && text_is(word, "option") && text_word(&line, &word) && text_is(word, "input") &&
			 text_word(&line, &word))
			found = word;
	}
	if (found.len > 1 && (found.at[0] == '"' || found.at[0] == '\'') && found.at[found.len - 1] == found.at[0])
		found.at++, found.len -= 2;
	return found;
}
