/* First, so that the kernel's headers leave out what it has. */
#include <netinet/in.h>

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emitter/firewall_conf.h"
#include "emitter/netfilter.h"
#include "emitter/netlink.h"
#include "emitter/probes.h"

#define CHAINS_MAX 64 /* input filters; one or two are usual */
#define BLOB_MAX (16 * 1024 * 1024)

/* What was found, over all filters: packets pass each of them, so one that drops is enough. */
struct firewall {
	struct probe *probe;
	bool nftables, iptables;
	struct firewall_defaults defaults;
	struct nft_chain chains[CHAINS_MAX];
	size_t chains_len;
	char why[128]; /* it can't be known */
};

static void
add(struct firewall *f, bool ipv4, bool ipv6, bool drops)
{
	f->defaults.ipv4 = f->defaults.ipv4 || ipv4;
	f->defaults.ipv6 = f->defaults.ipv6 || ipv6;
	f->defaults.drop_ipv4 = f->defaults.drop_ipv4 || (ipv4 && drops);
	f->defaults.drop_ipv6 = f->defaults.drop_ipv6 || (ipv6 && drops);
}

static void
refused(struct firewall *f, const char *what)
{
	if (errno == EPERM || errno == EACCES)
		source_add_denied(f->probe->source, 1);
	snprintf(f->why, sizeof f->why, "%s: %s", what,
		 errno == EPERM || errno == EACCES ? "to ask takes the capability CAP_NET_ADMIN" : strerror(errno));
}

static bool
take_chain(void *context, struct slice payload)
{
	struct firewall *f = context;

	if (f->chains_len < CHAINS_MAX && nft_chain_parse(payload, &f->chains[f->chains_len]))
		f->chains_len++;
	return true;
}

static bool
take_rule(void *context, struct slice payload)
{
	*(bool *)context = nft_rule_drops(payload);
	return true;
}

static size_t
put_text(uint8_t *out, unsigned type, const char *text)
{
	size_t len = strlen(text) + 1;
	struct nlattr head = {(unsigned short)(sizeof head + len), (unsigned short)type};

	memset(out, 0, NETLINK_ALIGN(sizeof head + len));
	memcpy(out, &head, sizeof head);
	memcpy(out + sizeof head, text, len);
	return NETLINK_ALIGN(sizeof head + len);
}

/* A chain that lets pass what no rule decides may end in a rule that decides about all. */
static bool
ends_in_drop(struct firewall *f, const struct nft_chain *chain)
{
	uint8_t message[sizeof(struct nfgenmsg) + 2 * (sizeof(struct nlattr) + NFT_NAME)];
	struct nfgenmsg head = {.nfgen_family = chain->family, .version = NFNETLINK_V0};
	size_t len = sizeof head;
	bool drops = false;

	memcpy(message, &head, sizeof head);
	len += put_text(message + len, NFTA_RULE_TABLE, chain->table);
	len += put_text(message + len, NFTA_RULE_CHAIN, chain->name);
	if (netlink_dump(NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, (struct slice){message, len},
			 take_rule, &drops) < 0)
		refused(f, "nftables");
	return drops;
}

/* To ask a kernel that has nftables as a module would load it. */
static bool
may_ask(struct probe *p)
{
	struct slice release, text, line;
	char path[128];

	if (source_exists(p->source, "sys/module/nf_tables") || !source_exists(p->source, "proc/modules"))
		return true;
	release = text_trim(source_read(p->source, "proc/sys/kernel/osrelease", SOURCE_ATTRIBUTE));
	if (release.len == 0 || release.len > 64 || memchr(release.at, '/', release.len))
		return true;
	snprintf(path, sizeof path, "lib/modules/%.*s/modules.builtin", (int)release.len, (const char *)release.at);
	text = source_read(p->source, path, SOURCE_FILE);
	if (!text.at)
		return true;
	while (text_line(&text, &line))
		if (text_is(line, "kernel/net/netfilter/nf_tables.ko"))
			return true;
	return false;
}

static void
nftables(struct firewall *f)
{
	struct nfgenmsg head = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0};
	struct slice message = {(const uint8_t *)&head, sizeof head};

	if (!may_ask(f->probe))
		return;
	if (netlink_dump(NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, message, take_chain, f) < 0) {
		/* These two: the kernel has no nftables. */
		if (errno != EINVAL && errno != EPROTONOSUPPORT)
			refused(f, "nftables");
		return;
	}
	for (size_t i = 0; i < f->chains_len && !f->why[0]; i++) {
		struct nft_chain *chain = &f->chains[i];

		f->nftables = true;
		add(f, chain->family != NFPROTO_IPV6, chain->family != NFPROTO_IPV4,
		    chain->drops || ends_in_drop(f, chain));
	}
}

/* The table of the older iptables, as the tool itself gets it. */
static bool
ask_table(int fd, bool ipv6, bool *drops)
{
	int level = ipv6 ? SOL_IPV6 : SOL_IP;
	struct ipt_getinfo info = {.name = "filter"}; /* both families' structures are alike */
	struct ipt_get_entries *entries;
	socklen_t len = sizeof info;
	bool done = false;

	_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "alike");
	_Static_assert(offsetof(struct ipt_get_entries, entrytable) == offsetof(struct ip6t_get_entries, entrytable),
		       "alike");
	if (getsockopt(fd, level, IPT_SO_GET_INFO, &info, &len) < 0)
		return false;
	if (info.size > BLOB_MAX) {
		errno = EFBIG;
		return false;
	}
	len = (socklen_t)(sizeof *entries + info.size);
	entries = calloc(1, len);
	if (!entries)
		return false;
	strcpy(entries->name, "filter");
	entries->size = info.size;
	if (getsockopt(fd, level, IPT_SO_GET_ENTRIES, entries, &len) == 0) {
		done = xt_input_drops((struct slice){(const uint8_t *)entries->entrytable, info.size},
				      info.hook_entry[NF_INET_LOCAL_IN], info.underflow[NF_INET_LOCAL_IN], ipv6, drops);
		errno = EPROTO;
	}
	free(entries);
	return done;
}

/* Only a table that is there already is asked for: to ask would make it. */
static bool
has_filter(struct firewall *f, const char *path)
{
	struct slice text = source_read(f->probe->source, path, SOURCE_ATTRIBUTE), word;

	if (!text.at && !source_missing(f->probe->source))
		snprintf(f->why, sizeof f->why, "%s", source_why(f->probe->source));
	while (text.at && text_word(&text, &word))
		if (text_is(word, "filter"))
			return true;
	return false;
}

static void
iptables(struct firewall *f, const char *names, bool ipv6)
{
	bool drops;
	int fd;

	if (!has_filter(f, names))
		return;
	fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && ask_table(fd, ipv6, &drops)) {
		f->iptables = true;
		add(f, !ipv6, ipv6, drops);
	} else {
		refused(f, "iptables");
	}
	if (fd >= 0)
		close(fd);
}

static bool
exists(struct firewall *f, const char *path)
{
	return source_exists(f->probe->source, path);
}

static bool
is_enabled(struct firewall *f, const char *service)
{
	static const char *const forms[] = {"etc/systemd/system/sysinit.target.wants/%s.service",
					    "etc/systemd/system/multi-user.target.wants/%s.service",
					    "etc/systemd/system/basic.target.wants/%s.service",
					    "etc/runlevels/default/%s", "etc/runlevels/boot/%s"};
	char path[128];

	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(path, sizeof path, forms[i], service);
#pragma GCC diagnostic pop
		if (exists(f, path))
			return true;
	}
	return false;
}

static struct slice
read_text(struct firewall *f, const char *path)
{
	return source_read(f->probe->source, path, SOURCE_FILE);
}

static void
image_nftables(struct firewall *f)
{
	static const char *const files[] = {"etc/nftables.conf", "etc/sysconfig/nftables.conf", "etc/nftables.nft"};

	for (size_t i = 0; i < sizeof files / sizeof files[0] && is_enabled(f, "nftables"); i++) {
		struct slice text = read_text(f, files[i]);

		if (text.at)
			nft_conf_parse(text, &f->defaults);
	}
	f->nftables = f->defaults.ipv4 || f->defaults.ipv6;
}

static void
image_iptables(struct firewall *f)
{
	static const struct {
		const char *service, *file;
		bool ipv6;
	} files[] = {
		{"netfilter-persistent", "etc/iptables/rules.v4", false},
		{"netfilter-persistent", "etc/iptables/rules.v6", true},
		{"iptables", "etc/sysconfig/iptables", false},
		{"ip6tables", "etc/sysconfig/ip6tables", true},
		{"iptables", "etc/iptables/rules-save", false},
		{"ip6tables", "etc/iptables/rules6-save", true},
	};

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		struct slice text =
			is_enabled(f, files[i].service) ? read_text(f, files[i].file) : (struct slice){NULL, 0};
		bool drops;

		if (!text.at || !iptables_save_parse(text, &drops))
			continue;
		f->iptables = true;
		add(f, !files[i].ipv6, files[i].ipv6, drops);
	}
}

/* ufw, firewalld and OpenWrt's: each has one setting for the default. */
static void
image_front_ends(struct firewall *f)
{
	struct slice text = read_text(f, "etc/ufw/ufw.conf"), value;
	bool drops;

	if (text.at && text_is(shell_value(text, "ENABLED"), "yes")) {
		text = read_text(f, "etc/default/ufw");
		value = text.at ? shell_value(text, "DEFAULT_INPUT_POLICY") : text;
		drops = value.at && !text_is(value, "ACCEPT");
		value = text.at ? shell_value(text, "IPV6") : text;
		f->iptables = true;
		add(f, true, value.at && text_is(value, "yes"), drops);
	}
	if (is_enabled(f, "firewalld")) {
		text = read_text(f, "etc/firewalld/firewalld.conf");
		value = text.at ? shell_value(text, "DefaultZone") : text;
		f->nftables = true;
		add(f, true, true, !value.at || !text_is(value, "trusted"));
	}
	text = exists(f, "etc/rc.d/S19firewall") ? read_text(f, "etc/config/firewall") : (struct slice){NULL, 0};
	if (text.at) {
		value = uci_input(text);
		f->nftables = true;
		add(f, true, true, text_is(value, "REJECT") || text_is(value, "DROP"));
	}
}

/* Without an address no packet comes in over IPv6. */
static bool
has_ipv6(struct probe *p)
{
	struct slice text;

	if (!source_is_live(p->source))
		return true;
	text = source_read(p->source, "proc/self/net/if_inet6", SOURCE_FILE);
	return text.at ? text_trim(text).len > 0 : !source_missing(p->source);
}

static void
state(struct firewall *f)
{
	bool six = has_ipv6(f->probe), drops = f->defaults.drop_ipv4 && (f->defaults.drop_ipv6 || !six);
	struct facts *facts = f->probe->facts;

	if (!drops && f->defaults.includes)
		snprintf(f->why, sizeof f->why, "the configuration of nftables includes other files");
	if (f->why[0]) {
		facts_unknown(facts, FACT_INTERFACES_FIREWALL, f->why);
		facts_unknown(facts, FACT_INTERFACES_FIREWALL_INPUT, f->why);
		return;
	}
	facts_set_text(facts, FACT_INTERFACES_FIREWALL,
		       f->nftables && f->iptables ? "nftables and iptables"
		       : f->nftables              ? "nftables"
		       : f->iptables              ? "iptables"
						  : "none");
	facts_set_text(facts, FACT_INTERFACES_FIREWALL_INPUT, drops ? "drop" : "accept");
}

void
probe_firewall(struct probe *p)
{
	struct firewall f = {.probe = p};

	if (source_is_live(p->source)) {
		source_trace_transient(p->source);
		nftables(&f);
		if (!f.why[0])
			iptables(&f, "proc/self/net/ip_tables_names", false);
		if (!f.why[0])
			iptables(&f, "proc/self/net/ip6_tables_names", true);
	} else if (!exists(&f, "etc")) {
		snprintf(f.why, sizeof f.why, "root is an image");
	} else {
		image_nftables(&f);
		image_iptables(&f);
		image_front_ends(&f);
	}
	state(&f);
}
