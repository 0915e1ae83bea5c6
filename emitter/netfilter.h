/*
 * The packet filter as the kernel answers: nftables' chains and rules over netlink, and the table of the older iptables. Pure.
 */
#ifndef FLEETSTATE_NETFILTER_H
#define FLEETSTATE_NETFILTER_H

#include <stdbool.h>

#include "schema/slice.h"

#define NFT_NAME 256	/* with the NUL; the kernel's own bound */

/* A chain that packets for this machine pass: the payload of a NFT_MSG_NEWCHAIN. */
struct nft_chain {
	uint8_t family;	/* NFPROTO_IPV4, NFPROTO_IPV6 or NFPROTO_INET */
	char table[NFT_NAME], name[NFT_NAME];
	bool drops;	/* what no rule decides */
};
/* false: malformed, or another chain. */
bool nft_chain_parse(struct slice payload, struct nft_chain *) WARN_UNUSED;
/* Whether a rule, the payload of a NFT_MSG_NEWRULE, drops or rejects all that reaches it. */
bool nft_rule_drops(struct slice payload);

/* What the input chain of an iptables blob does with what no rule decides: between the two offsets lie its rules, at the second its policy. */
bool xt_input_drops(struct slice blob, size_t begin, size_t policy, bool ipv6, bool *drops) WARN_UNUSED;

#endif
