#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "emitter/links.h"
#include "emitter/netlink.h"
#include "emitter/probes.h"
#include "emitter/tpm.h"
#include "schema/topics.h"

#define NETWORKS_MAX 4096
#define TRIES 3 /* of a TPM that answers wrongly or too late: each may take seconds */

static void
state_endorsement(struct probe *p, const uint8_t digest[DIGEST_SIZE])
{
	char hex[2 * DIGEST_SIZE + 1];

	hex_print(digest, DIGEST_SIZE, hex);
	snprintf(p->endorsement, sizeof p->endorsement, "%s", hex);
	facts_set_text(p->facts, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, hex);
}

static bool
from_tpm_1_2(struct probe *p)
{
	static const char *const paths[] = {"sys/class/tpm/tpm0/pubek", "sys/class/tpm/tpm0/device/pubek"};
	uint8_t modulus[256], digest[DIGEST_SIZE];

	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct slice text = source_read(p->source, paths[i], SOURCE_ATTRIBUTE);

		if (!text.at || !pubek_parse(text, modulus))
			continue;
		sha256((struct slice){modulus, sizeof modulus}, digest);
		state_endorsement(p, digest);
		return true;
	}
	return false;
}

/* The key is the TPM's for as long as the machine runs, so that it is asked for once. */
static void
endorsement(struct probe *p)
{
	const char *device = p->declared && p->declared->tpm && p->declared->tpm[0] ? p->declared->tpm : "/dev/tpmrm0";
	uint8_t digest[DIGEST_SIZE];
	char why[128];

	if (p->endorsement[0]) {
		facts_set_text(p->facts, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, p->endorsement);
		return;
	}
	if (from_tpm_1_2(p))
		return;
	if (!source_is_live(p->source)) {
		facts_unknown(p->facts, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, "root is an image");
		return;
	}
	source_trace_transient(p->source);
	if (p->endorsement_tries == TRIES) {
		facts_unknown(p->facts, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, "the TPM did not answer, three times");
		return;
	}
	if (tpm_endorsement(device, digest) == 0) {
		state_endorsement(p, digest);
		return;
	}
	if (errno == EACCES || errno == EPERM)
		source_add_denied(p->source, 1);
	else if (errno != ENOENT)
		p->endorsement_tries++;
	if (errno == ENOENT)
		snprintf(why, sizeof why, "there is no TPM");
	else if (errno == ENODATA)
		snprintf(why, sizeof why, "the TPM holds neither a certificate of its endorsement key nor the key");
	else
		snprintf(why, sizeof why, "%.60s: %s", device, strerror(errno));
	facts_unknown(p->facts, FACT_DEVICE_ENDORSEMENT_KEY_SHA256, why);
}

static size_t
append(struct probe *p, char *out, size_t size, size_t len, const char *path)
{
	struct slice text = text_trim(source_read(p->source, path, SOURCE_ATTRIBUTE));

	if (text.len == 0 || text.len > 64 || is_placeholder(text) || size - len < text.len + 3)
		return len;
	return len +
	       (size_t)snprintf(out + len, size - len, "%s%.*s", len ? " " : "", (int)text.len, (const char *)text.at);
}

/* The most general of a device tree's compatible names, "brcm,bcm2711", is that of its system on a chip. */
static bool
from_device_tree(struct probe *p)
{
	struct slice text = text_trim(source_read(p->source, "proc/device-tree/compatible", SOURCE_ATTRIBUTE)), first;

	if (!text.at)
		return false;
	while (text_cut(text, '\0', &first, &text))
		;
	if (text.len > 0)
		facts_set_textn(p->facts, FACT_DEVICE_SOC, text);
	return text.len > 0;
}

static void
soc(struct probe *p)
{
	static const char *const parts[] = {"sys/devices/soc0/family", "sys/devices/soc0/soc_id",
					    "sys/devices/soc0/revision"};
	const char *why = source_is_live(p->source) ? "the kernel describes no system on a chip" : "root is an image";
	char text[256] = "";
	size_t len = 0;
	struct slice serial;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		len = append(p, text, sizeof text, len, parts[i]);
	if (len > 0)
		facts_set_text(p->facts, FACT_DEVICE_SOC, text);
	else if (!from_device_tree(p))
		facts_unknown(p->facts, FACT_DEVICE_SOC, why);
	serial = text_trim(source_read(p->source, "sys/devices/soc0/serial_number", SOURCE_ATTRIBUTE));
	if (serial.len > 0 && !is_placeholder(serial))
		facts_set_textn(p->facts, FACT_DEVICE_SOC_SERIAL, serial);
	else if (!serial.at && !source_missing(p->source))
		facts_unknown(p->facts, FACT_DEVICE_SOC_SERIAL, source_why(p->source));
	else
		facts_unknown(p->facts, FACT_DEVICE_SOC_SERIAL,
			      serial.at ? "sys/devices/soc0/serial_number holds a placeholder" : why);
}

/* A virtual machine calls its address permanent too; IEEE 802's bit for local administration tells that no maker burned it in. */
static void
add_mac(struct probe *p, const char *name, const uint8_t mac[6])
{
	char text[96];

	if (mac[0] & 0x02)
		return;
	snprintf(text, sizeof text, "%.63s %02x:%02x:%02x:%02x:%02x:%02x", name, mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
	facts_add_text(p->facts, FACT_DEVICE_PERMANENT_MACS, text);
}

static bool
take_link(void *context, struct slice payload)
{
	char name[IFNAMSIZ];
	uint8_t mac[6];

	if (link_permanent_parse(payload, name, mac))
		add_mac(context, name, mac);
	return true;
}

/* The address in use is the permanent one if the kernel says that nobody assigned it (0). */
static bool
take_interface(void *context, int directory, const char *name)
{
	static const uint8_t none[6];
	struct probe *p = context;
	char path[128];
	uint64_t assigned;
	struct slice text;
	uint8_t mac[6];

	(void)directory;
	snprintf(path, sizeof path, "sys/class/net/%.64s/addr_assign_type", name);
	text = source_read(p->source, path, SOURCE_ATTRIBUTE);
	if (!text.at || !text_number(text_trim(text), 10, &assigned) || assigned != 0)
		return true;
	snprintf(path, sizeof path, "sys/class/net/%.64s/address", name);
	text = source_read(p->source, path, SOURCE_ATTRIBUTE);
	if (text.at && mac_parse(text, mac) && memcmp(mac, none, sizeof mac) != 0)
		add_mac(p, name, mac);
	return true;
}

static void
permanent_macs(struct probe *p)
{
	struct ifinfomsg head = {.ifi_family = AF_UNSPEC};

	facts_begin_list(p->facts, FACT_DEVICE_PERMANENT_MACS);
	if (source_is_live(p->source) &&
	    netlink_dump(NETLINK_ROUTE, RTM_GETLINK, (struct slice){(const uint8_t *)&head, sizeof head}, take_link,
			 p) == 0)
		return;
	facts_begin_list(p->facts, FACT_DEVICE_PERMANENT_MACS);
	if (source_list(p->source, "sys/class/net", NETWORKS_MAX, take_interface, p) < 0)
		facts_unknown(p->facts, FACT_DEVICE_PERMANENT_MACS, probe_why(p));
}

void
probe_tpm(struct probe *p)
{
	endorsement(p);
	soc(p);
	permanent_macs(p);
	source_trace_transient(p->source);
}
