/* What the probes of the platform parse. The first byte chooses: answers of a TPM, of netlink, a table of iptables, or texts. */
#include <stdlib.h>
#include <string.h>

#include "emitter/boot_arguments.h"
#include "emitter/expected.h"
#include "emitter/firewall_conf.h"
#include "emitter/health.h"
#include "emitter/kernel.h"
#include "emitter/links.h"
#include "emitter/measured.h"
#include "emitter/modprobe.h"
#include "emitter/netfilter.h"
#include "emitter/serial.h"
#include "emitter/text.h"
#include "emitter/tpm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
within(struct slice part, struct slice whole)
{
	if (part.len > 0 && (part.at < whole.at || part.len > whole.len - (size_t)(part.at - whole.at)))
		abort();
}

static void
ignore_slice(void *context, struct slice value)
{
	within(value, *(struct slice *)context);
}

static void
ignore_name(void *context, const char *name)
{
	(void)context;
	if (name[0] == '\0')
		abort();
}

static void
tpm(struct slice text)
{
	struct slice parameters, part;
	uint32_t code;
	uint16_t len;

	if (!tpm_response_parse(text, &code, &parameters))
		parameters = text;
	(void)!tpm_nv_public_parse(parameters, &len);
	if (tpm_nv_data_parse(parameters, &part))
		within(part, text);
	if (tpm_public_parse(parameters, &part))
		within(part, text);
	if (tpm_certificate_trim(text, &part))
		within(part, text);
}

static void
netlink(struct slice text)
{
	struct nft_chain chain;
	char name[IFNAMSIZ];
	uint8_t mac[6];

	if (nft_chain_parse(text, &chain) &&
	    (strlen(chain.table) >= sizeof chain.table || strlen(chain.name) >= sizeof chain.name))
		abort();
	(void)nft_rule_drops(text);
	if (link_permanent_parse(text, name, mac) && strlen(name) >= sizeof name)
		abort();
}

static void
iptables(struct slice text, bool ipv6)
{
	bool drops;

	for (size_t policy = 0; policy <= text.len && policy < 1024; policy += 8)
		(void)!xt_input_drops(text, 0, policy, ipv6, &drops);
	(void)!xt_input_drops(text, text.len, SIZE_MAX, ipv6, &drops);
}

static void
line_of_text(struct slice line)
{
	struct slice name, rest;
	struct modprobe_rule rule;
	uint8_t md5[16];

	if (module_parse(line, &name, &rest)) {
		within(name, line);
		within(rest, line);
	}
	if (modprobe_parse(line, &rule))
		within(rule.module, line);
	if (inittab_parse(line, &name) && !text_is(name, "console") && !serial_is(name))
		abort();
	if (md5sums_parse(line, md5, &rest))
		within(rest, line);
	(void)profile_enforces(line);
}

static void
texts(struct slice text)
{
	struct firewall_defaults defaults = {0};
	struct slice rest = text, line;
	uint8_t modulus[256];
	uint64_t number;
	bool flag;

	while (text_line(&rest, &line))
		line_of_text(line);
	nft_conf_parse(text, &defaults);
	if ((defaults.drop_ipv4 && !defaults.ipv4) || (defaults.drop_ipv6 && !defaults.ipv6))
		abort();
	(void)!iptables_save_parse(text, &flag);
	within(shell_value(text, "A"), text);
	within(uci_input(text), text);
	boot_arguments_find(text, "console", ignore_slice, &text);
	(void)!oom_kills_parse(text, &number);
	(void)!sysctl_find(text, "kernel.sysrq", &number);
	(void)!kernel_config_has(text, "CONFIG_A", &flag);
	(void)ima_policy_has(text, "appraise");
	(void)!pubek_parse(text, modulus);
}

static void
patterns(struct slice text)
{
	char copy[512];
	size_t len = text.len < sizeof copy - 1 ? text.len : sizeof copy - 1;

	memcpy(copy, text.at, len);
	copy[len] = '\0';
	(void)expects_interface(copy, "eth0");
	(void)expects_socket(copy, "tcp", 22, "sshd");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = {data, size};
	uint64_t bits = 0;

	if (size == 0)
		return 0;
	text.at++;
	text.len--;
	memcpy(&bits, data, size < sizeof bits ? size : sizeof bits);
	taint_names(bits, ignore_name, NULL);
	switch (data[0] % 6) {
	case 0:
		tpm(text);
		break;
	case 1:
		netlink(text);
		break;
	case 2:
	case 3:
		iptables(text, data[0] % 6 == 3);
		break;
	case 4:
		texts(text);
		break;
	default:
		patterns(text);
	}
	return 0;
}
