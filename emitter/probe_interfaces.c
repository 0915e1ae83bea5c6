#include <linux/if.h>
#include <linux/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emitter/expected.h"
#include "emitter/probes.h"

#define NETWORKS_MAX 4096 /* a host of containers has hundreds */
#define SOCKETS_MAX 4096 /* the fact takes 512; more only to find the repeated ones */
#define TABLE_MAX (16 * 1024 * 1024) /* 100,000 sockets; those that are connected are not read */
#define DESCRIPTORS_MAX 65536 /* looked at in a sweep, to find out whose a socket is: 50 ms */
#define PROGRAM_SIZE 16 /* the kernel's name of a process, with the NUL */
#define STATE_LISTEN 0x0a
#define STATE_CLOSE 0x07
#define STATE_SYN_RECV 0x03

static const struct {
	unsigned number;
	const char *name;
} types[] = {
	{ARPHRD_ETHER, "ether"},
	{ARPHRD_LOOPBACK, "loopback"},
	{ARPHRD_PPP, "ppp"},
	{ARPHRD_SLIP, "slip"},
	{ARPHRD_CAN, "can"},
	{ARPHRD_TUNNEL, "ipip"},
	{ARPHRD_TUNNEL6, "tunnel6"},
	{ARPHRD_SIT, "sit"},
	{ARPHRD_IPGRE, "gre"},
	{ARPHRD_IP6GRE, "gre6"},
	{ARPHRD_INFINIBAND, "infiniband"},
	{ARPHRD_IEEE80211, "ieee802.11"},
	{ARPHRD_IEEE80211_PRISM, "ieee802.11/prism"},
	{ARPHRD_IEEE80211_RADIOTAP, "ieee802.11/radiotap"},
	{ARPHRD_IEEE802154, "ieee802.15.4"},
	{ARPHRD_6LOWPAN, "6lowpan"},
	{ARPHRD_NETLINK, "netlink"},
	{ARPHRD_VSOCKMON, "vsockmon"},
	{ARPHRD_NONE, "none"},
};

void
network_type(uint64_t number, char *out, size_t size)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (types[i].number != number)
			continue;
		snprintf(out, size, "%s", types[i].name);
		return;
	}
	snprintf(out, size, "[%llu]", (unsigned long long)number);
}

bool
mac_parse(struct slice text, uint8_t out[6])
{
	uint64_t byte;

	text = text_trim(text);
	if (text.len != 17)
		return false;
	for (size_t i = 0; i < 6; i++) {
		if (i > 0 && text.at[3 * i - 1] != ':')
			return false;
		if (!text_number((struct slice){text.at + 3 * i, 2}, 16, &byte))
			return false;
		out[i] = (uint8_t)byte;
	}
	return true;
}

static struct slice
attribute(struct probe *p, const char *interface, const char *name)
{
	char path[192];

	snprintf(path, sizeof path, "sys/class/net/%.64s/%s", interface, name);
	return source_read(p->source, path, SOURCE_ATTRIBUTE);
}

static bool
number_attribute(struct probe *p, const char *interface, const char *name, unsigned base, uint64_t *out)
{
	struct slice text = text_trim(attribute(p, interface, name));

	if (base == 16 && text_begins(text, "0x"))
		text.at += 2, text.len -= 2;
	return text_number(text, base, out);
}

static struct slice
string(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* NULL: nobody said what is expected. */
static const char *
expected(const struct probe *p, bool interfaces)
{
	const char *patterns = !p->declared ? NULL
			       : interfaces ? p->declared->expected_interfaces
					    : p->declared->expected_sockets;

	return patterns && patterns[0] ? patterns : NULL;
}

/* What has no flags is no interface: "bonding_masters" is a file. */
static bool
take_network(void *context, int directory, const char *name)
{
	struct probe *p = context;
	struct fact_field row[4] = {{.kind = FIELD_TEXT, .bytes = string(name)}};
	uint8_t mac[6];
	char type[32] = "";
	struct slice text;
	uint64_t number;

	(void)directory;
	if (!number_attribute(p, name, "flags", 16, &number))
		return true;
	row[2] = (struct fact_field){.kind = FIELD_BOOL, .flag = number & IFF_UP};
	text = attribute(p, name, "address");
	if (text.at && mac_parse(text, mac))
		row[1] = (struct fact_field){.kind = FIELD_BYTES, .bytes = {mac, sizeof mac}};
	if (number_attribute(p, name, "type", 10, &number)) {
		network_type(number, type, sizeof type);
		row[3] = (struct fact_field){.kind = FIELD_TEXT, .bytes = string(type)};
	}
	facts_add_row(p->facts, FACT_INTERFACES_NETWORK, row, 4);
	if (row[2].flag && strcmp(type, "loopback") != 0 && expected(p, true) &&
	    !expects_interface(expected(p, true), name))
		facts_add_text(p->facts, FACT_INTERFACES_UNNECESSARY, name);
	return true;
}

static void
networks(struct probe *p)
{
	facts_begin_list(p->facts, FACT_INTERFACES_NETWORK);
	facts_begin_list(p->facts, FACT_INTERFACES_UNNECESSARY);
	if (source_list(p->source, "sys/class/net", NETWORKS_MAX, take_network, p) < 0) {
		facts_unknown(p->facts, FACT_INTERFACES_NETWORK, probe_why(p));
		facts_unknown(p->facts, FACT_INTERFACES_UNNECESSARY, probe_why(p));
	} else if (!expected(p, true)) {
		facts_unknown(p->facts, FACT_INTERFACES_UNNECESSARY, "expected_interfaces is not set");
	}
}

/* The kernel prints each 32-bit word of an address as this machine's number; memory then holds it in the network's order. */
static bool
parse_address(struct slice text, uint8_t out[16], size_t *len, uint64_t *port)
{
	struct slice hex, port_hex;
	uint64_t word;
	uint32_t word32;

	if (!text_cut(text, ':', &hex, &port_hex) || (hex.len != 8 && hex.len != 32) || port_hex.len != 4)
		return false;
	for (size_t i = 0; i < hex.len / 8; i++) {
		if (!text_number((struct slice){hex.at + 8 * i, 8}, 16, &word))
			return false;
		word32 = (uint32_t)word;
		memcpy(out + 4 * i, &word32, sizeof word32);
	}
	*len = hex.len / 2;
	return text_number(port_hex, 16, port);
}

bool
socket_parse(struct slice line, struct socket_row *out)
{
	static const uint8_t none[16];
	struct slice words[10], slot = {NULL, 0};
	uint64_t port, peer_port, state;
	uint8_t peer[16];
	size_t peer_len;

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (!text_word(&line, &words[i]))
			return false;
	slot = words[0];
	if (slot.at[slot.len - 1] != ':' || !text_number(words[3], 16, &state) || state > UINT8_MAX ||
	    !text_number(words[9], 10, &out->inode))
		return false;
	if (!parse_address(words[1], out->address, &out->address_len, &port) ||
	    !parse_address(words[2], peer, &peer_len, &peer_port) || peer_len != out->address_len)
		return false;
	out->port = (uint16_t)port;
	out->state = (unsigned)state;
	out->has_peer = peer_port != 0 || memcmp(peer, none, peer_len) != 0;
	return true;
}

struct socket {
	const char *protocol;
	struct socket_row row;
	char program[PROGRAM_SIZE];
	bool init_only; /* so far only process 1 was seen to hold it */
};

struct sockets {
	struct probe *probe;
	struct socket *at;
	size_t len, size;
	const char *protocol; /* of the table being read */
	unsigned state; /* that makes a row one of ours */
	bool heading; /* the first line is to come */
	const char *why; /* the fact can't be known */
	size_t descriptors; /* looked at */
	const char *process; /* being looked at: its number, and its name once it is needed */
	char program[PROGRAM_SIZE];
	struct text_feed feed;
};

static bool
add_socket(struct sockets *s, const struct socket_row *row)
{
	size_t size = s->size ? 2 * s->size : 64;
	struct socket *moved;

	if (s->len == SOCKETS_MAX) {
		s->why = "more than 4096 sockets";
		return false;
	}
	if (s->len == s->size) {
		moved = realloc(s->at, size * sizeof *moved);
		if (!moved) {
			s->probe->no_memory = true;
			return false;
		}
		s->at = moved;
		s->size = size;
	}
	s->at[s->len++] = (struct socket){.protocol = s->protocol, .row = *row};
	return true;
}

/* TCP's table begins with the listening sockets. Behind them stand all connections, which may be very many: reading ends there. (Old kernels put
   half-open connections between the listening ones.) */
static bool
take_socket(void *context, struct slice line, bool cut)
{
	struct sockets *s = context;
	struct socket_row row;

	if (s->heading) {
		s->heading = false;
		return true;
	}
	if (cut || !socket_parse(line, &row)) {
		s->why = "a table of sockets is malformed";
		return false;
	}
	if (row.state == s->state && !row.has_peer)
		return add_socket(s, &row);
	return s->state != STATE_LISTEN || row.state == STATE_LISTEN || row.state == STATE_SYN_RECV;
}

static bool
feed(void *context, struct slice piece)
{
	struct sockets *s = context;

	return text_feed(&s->feed, piece, take_socket, s);
}

static const struct {
	const char *path, *protocol;
	unsigned state;
	bool may_lack; /* IPv6 can be switched off */
} tables[] = {
	{"proc/self/net/tcp", "tcp", STATE_LISTEN, false},
	{"proc/self/net/tcp6", "tcp", STATE_LISTEN, true},
	{"proc/self/net/udp", "udp", STATE_CLOSE, false},
	{"proc/self/net/udp6", "udp", STATE_CLOSE, true},
};

static void
read_tables(struct sockets *s)
{
	for (size_t i = 0; i < sizeof tables / sizeof tables[0] && !s->why; i++) {
		s->protocol = tables[i].protocol;
		s->state = tables[i].state;
		s->heading = true;
		memset(&s->feed, 0, sizeof s->feed);
		if (source_stream(s->probe->source, tables[i].path, TABLE_MAX, feed, s) == 0)
			continue;
		if (!tables[i].may_lack || !source_missing(s->probe->source))
			s->why = probe_why(s->probe);
	}
}

static int
by_inode(const void *a, const void *b)
{
	uint64_t x = ((const struct socket *)a)->row.inode, y = ((const struct socket *)b)->row.inode;

	return (x > y) - (x < y);
}

static const char *
program_name(struct sockets *s)
{
	char path[64];
	struct slice name;

	if (s->program[0] == '\0') {
		snprintf(path, sizeof path, "proc/%.20s/comm", s->process);
		name = text_trim(source_read(s->probe->source, path, SOURCE_ATTRIBUTE));
		if (name.len >= sizeof s->program)
			name.len = sizeof s->program - 1;
		memcpy(s->program, name.len ? (const char *)name.at : "", name.len);
		s->program[name.len] = '\0';
	}
	return s->program;
}

/* Of several holders the one that does not depend on process numbers: the first by name, and process 1, which opens sockets for others, last. */
static void
hold(struct sockets *s, struct socket *socket)
{
	const char *name = program_name(s);
	bool init = strcmp(s->process, "1") == 0;

	if (name[0] == '\0')
		return;
	if (socket->program[0] &&
	    ((init && !socket->init_only) || (init == socket->init_only && strcmp(name, socket->program) >= 0)))
		return;
	strcpy(socket->program, name);
	socket->init_only = init;
}

static bool
take_descriptor(void *context, int directory, const char *name)
{
	struct sockets *s = context;
	struct socket key = {0}, *found;
	char link[64];
	ssize_t len = readlinkat(directory, name, link, sizeof link);
	struct slice text = {(const uint8_t *)link, len > 0 ? (size_t)len : 0};

	if (++s->descriptors > DESCRIPTORS_MAX)
		return false;
	if (text.len < 10 || !text_begins(text, "socket:[") || link[text.len - 1] != ']')
		return true;
	if (!text_number((struct slice){text.at + 8, text.len - 9}, 10, &key.row.inode) || key.row.inode == 0)
		return true;
	found = bsearch(&key, s->at, s->len, sizeof key, by_inode);
	if (found)
		hold(s, found);
	return true;
}

static bool
take_process(void *context, int directory, const char *name)
{
	struct sockets *s = context;
	char path[64];

	(void)directory;
	if (name[0] < '0' || name[0] > '9')
		return true;
	s->process = name;
	s->program[0] = '\0';
	snprintf(path, sizeof path, "proc/%.20s/fd", name);
	/* A process that has ended meanwhile holds nothing, and one that may not be looked at is counted as refused. */
	(void)!source_list(s->probe->source, path, DESCRIPTORS_MAX, take_descriptor, s);
	return s->descriptors <= DESCRIPTORS_MAX;
}

static int
by_fields(const void *a, const void *b)
{
	const struct socket *x = a, *y = b;
	int order = strcmp(x->protocol, y->protocol);

	if (order == 0)
		order = (x->row.address_len > y->row.address_len) - (x->row.address_len < y->row.address_len);
	if (order == 0)
		order = memcmp(x->row.address, y->row.address, x->row.address_len);
	if (order == 0)
		order = (x->row.port > y->row.port) - (x->row.port < y->row.port);
	return order ? order : strcmp(x->program, y->program);
}

/* Workers that share a port have a socket each, which differ in nothing: one row stands for them. */
static void
state(struct sockets *s)
{
	facts_begin_list(s->probe->facts, FACT_INTERFACES_SOCKETS);
	if (s->len > 0)
		qsort(s->at, s->len, sizeof s->at[0], by_fields);
	for (size_t i = 0; i < s->len; i++) {
		struct socket *socket = &s->at[i];
		struct fact_field row[4] = {
			{.kind = FIELD_TEXT, .bytes = string(socket->protocol)},
			{.kind = FIELD_BYTES, .bytes = {socket->row.address, socket->row.address_len}},
			{.kind = FIELD_UINT, .number = socket->row.port},
		};

		if (i > 0 && by_fields(socket - 1, socket) == 0)
			continue;
		if (socket->program[0])
			row[3] = (struct fact_field){.kind = FIELD_TEXT, .bytes = string(socket->program)};
		facts_add_row(s->probe->facts, FACT_INTERFACES_SOCKETS, row, 4);
	}
}

static bool
is_loopback(const struct socket_row *row)
{
	static const uint8_t one[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (row->address_len == 4)
		return row->address[0] == 127;
	if (memcmp(row->address, mapped, sizeof mapped) == 0)
		return row->address[12] == 127;
	return memcmp(row->address, one, sizeof one) == 0;
}

/* That one is bad can be known without being told what is expected; that none is, can't. */
static void
unexpected(struct sockets *s)
{
	struct facts *facts = s->probe->facts;
	const char *patterns = expected(s->probe, false);
	char shown[64], last[64] = "";
	bool any = false;

	facts_begin_list(facts, FACT_INTERFACES_UNEXPECTED_SOCKETS);
	for (size_t i = 0; i < s->len; i++) {
		struct socket *socket = &s->at[i];

		if (is_loopback(&socket->row))
			continue;
		if (patterns ? expects_socket(patterns, socket->protocol, socket->row.port, socket->program)
			     : !is_never_expected(socket->protocol, socket->row.port))
			continue;
		snprintf(shown, sizeof shown, "%s %u%s%s", socket->protocol, socket->row.port,
			 socket->program[0] ? " " : "", socket->program);
		if (strcmp(shown, last) != 0)
			facts_add_text(facts, FACT_INTERFACES_UNEXPECTED_SOCKETS, shown);
		strcpy(last, shown);
		any = true;
	}
	if (!patterns && !any)
		facts_unknown(facts, FACT_INTERFACES_UNEXPECTED_SOCKETS, "expected_sockets is not set");
}

static int
by_port(const void *a, const void *b)
{
	const struct socket *x = a, *y = b;
	int order = strcmp(x->protocol, y->protocol);

	if (order == 0)
		order = (x->row.port > y->row.port) - (x->row.port < y->row.port);
	return order ? order : strcmp(x->program, y->program);
}

static void
sockets(struct probe *p)
{
	struct sockets s = {.probe = p};

	read_tables(&s);
	if (s.why) {
		facts_unknown(p->facts, FACT_INTERFACES_SOCKETS, s.why);
		facts_unknown(p->facts, FACT_INTERFACES_UNEXPECTED_SOCKETS, s.why);
	} else {
		if (s.len > 0) {
			qsort(s.at, s.len, sizeof s.at[0], by_inode);
			(void)!source_list(p->source, "proc", SOURCE_NAMES, take_process, &s);
		}
		state(&s);
		if (s.len > 0)
			qsort(s.at, s.len, sizeof s.at[0], by_port);
		unexpected(&s);
	}
	free(s.at);
}

void
probe_interfaces(struct probe *p)
{
	networks(p);
	sockets(p);
}
