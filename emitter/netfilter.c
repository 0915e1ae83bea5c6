#include "emitter/netfilter.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/netlink.h>
#include <string.h>

#include "emitter/netlink.h"

static struct slice
find(struct slice text, unsigned type)
{
	struct netlink_attribute a;

	while (netlink_attribute(&text, &a))
		if (a.type == type)
			return a.value;
	return (struct slice){NULL, 0};
}

static bool
number(struct slice value, uint32_t *out)
{
	uint32_t network;

	if (value.len != sizeof network)
		return false;
	memcpy(&network, value.at, sizeof network);
	*out = ntohl(network);
	return true;
}

static bool
name(struct slice value, char out[NFT_NAME])
{
	if (value.len == 0 || value.len > NFT_NAME || memchr(value.at, '\0', value.len) != value.at + value.len - 1)
		return false;
	memcpy(out, value.at, value.len);
	return true;
}

static bool
is(struct slice value, const char *text)
{
	return value.len == strlen(text) + 1 && memcmp(value.at, text, value.len) == 0;
}

static bool
message(struct slice *payload, struct nfgenmsg *head)
{
	if (payload->len < sizeof *head)
		return false;
	memcpy(head, payload->at, sizeof *head);
	payload->at += sizeof *head;
	payload->len -= sizeof *head;
	return true;
}

bool
nft_chain_parse(struct slice payload, struct nft_chain *out)
{
	uint32_t hook, policy = NF_ACCEPT;
	struct nfgenmsg head;
	struct slice value;

	if (!message(&payload, &head) || (head.nfgen_family != NFPROTO_IPV4 && head.nfgen_family != NFPROTO_IPV6 &&
					  head.nfgen_family != NFPROTO_INET))
		return false;
	value = find(payload, NFTA_CHAIN_HOOK);
	if (!value.at || !number(find(value, NFTA_HOOK_HOOKNUM), &hook) || hook != NF_INET_LOCAL_IN ||
	    !is(find(payload, NFTA_CHAIN_TYPE), "filter"))
		return false;
	value = find(payload, NFTA_CHAIN_POLICY);
	if (value.at && !number(value, &policy))
		return false;
	out->family = head.nfgen_family;
	out->drops = policy == NF_DROP;
	return name(find(payload, NFTA_CHAIN_TABLE), out->table) && name(find(payload, NFTA_CHAIN_NAME), out->name);
}

/* An "immediate" whose verdict is to drop. */
static bool
is_drop(struct slice data)
{
	struct slice verdict = find(find(data, NFTA_IMMEDIATE_DATA), NFTA_DATA_VERDICT);
	uint32_t code;

	return number(find(verdict, NFTA_VERDICT_CODE), &code) && code == NF_DROP;
}

bool
nft_rule_drops(struct slice payload)
{
	struct nfgenmsg head;
	struct netlink_attribute expression;
	struct slice list, called;

	if (!message(&payload, &head))
		return false;
	list = find(payload, NFTA_RULE_EXPRESSIONS);
	while (netlink_attribute(&list, &expression)) {
		called = find(expression.value, NFTA_EXPR_NAME);
		if (is(called, "reject"))
			return true;
		/* As iptables writes it for nftables. */
		if (is(called, "target"))
			return is(find(find(expression.value, NFTA_EXPR_DATA), NFTA_TARGET_NAME), "REJECT");
		if (is(called, "immediate"))
			return is_drop(find(expression.value, NFTA_EXPR_DATA));
		/* All others but these two may stop a packet from getting further in the rule. */
		if (!is(called, "counter") && !is(called, "log"))
			return false;
	}
	return false;
}

/* The parts of an entry that both families have, at their own offsets. */
struct entry {
	size_t target, next;
	bool conditional;
};

static bool
entry_at(struct slice blob, size_t at, bool ipv6, struct entry *out)
{
	static const struct ip6t_ip6 any6;
	static const struct ipt_ip any4;
	struct ip6t_entry six;
	struct ipt_entry four;
	size_t size = ipv6 ? sizeof six : sizeof four;

	if (at > blob.len || blob.len - at < size)
		return false;
	if (ipv6) {
		memcpy(&six, blob.at + at, sizeof six);
		*out = (struct entry){six.target_offset, six.next_offset, memcmp(&six.ipv6, &any6, sizeof any6) != 0};
	} else {
		memcpy(&four, blob.at + at, sizeof four);
		*out = (struct entry){four.target_offset, four.next_offset, memcmp(&four.ip, &any4, sizeof any4) != 0};
	}
	out->conditional = out->conditional || out->target != size;
	return out->target >= size && out->next >= out->target && out->next <= blob.len - at;
}

static bool
target_drops(struct slice blob, size_t at, const struct entry *entry, bool *drops)
{
	struct xt_standard_target target;
	size_t left = entry->next - entry->target;

	*drops = false;
	if (left < sizeof target.target)
		return false;
	memset(&target, 0, sizeof target);
	memcpy(&target, blob.at + at + entry->target, left < sizeof target ? left : sizeof target);
	if (strncmp(target.target.u.user.name, "REJECT", sizeof target.target.u.user.name) == 0)
		*drops = true;
	else if (target.target.u.user.name[0] == '\0' && left >= sizeof target)
		*drops = target.verdict == -NF_DROP - 1;
	return true;
}

bool
xt_input_drops(struct slice blob, size_t begin, size_t policy, bool ipv6, bool *drops)
{
	bool last = false;
	struct entry entry;

	for (size_t at = begin; at < policy; at += entry.next) {
		if (!entry_at(blob, at, ipv6, &entry) || entry.next == 0 || !target_drops(blob, at, &entry, &last))
			return false;
		last = last && !entry.conditional;
	}
	if (!entry_at(blob, policy, ipv6, &entry) || !target_drops(blob, policy, &entry, drops))
		return false;
	*drops = *drops || last;
	return true;
}
