/*
 * What the files of an image say of the packet filter: nft(8)'s, iptables-save(8)'s and those of front ends. Pure.
 */
#ifndef FLEETSTATE_FIREWALL_CONF_H
#define FLEETSTATE_FIREWALL_CONF_H

#include <stdbool.h>

#include "schema/slice.h"

/* What becomes of incoming packets that no rule decides. */
struct firewall_defaults {
	bool ipv4, ipv6;	/* they are filtered at all */
	bool drop_ipv4, drop_ipv6;
	bool includes;	/* other files have a say, which are not read */
};

void nft_conf_parse(struct slice text, struct firewall_defaults *);	/* adds to what is there */
/* ":INPUT DROP [0:0]" of the table filter, or a last "-A INPUT -j DROP". false: it has no such chain. */
bool iptables_save_parse(struct slice text, bool *drops) WARN_UNUSED;
/* The last NAME=value, without quotes around it; an absent slice if there is none. */
struct slice shell_value(struct slice text, const char *name);
/* OpenWrt's: option input of the section "defaults". */
struct slice uci_input(struct slice text);

#endif
