#include "emitter/links.h"

#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "emitter/netlink.h"

bool
link_permanent_parse(struct slice payload, char name[IFNAMSIZ], uint8_t mac[6])
{
	static const uint8_t none[6];
	struct netlink_attribute a;
	struct ifinfomsg head;

	if (payload.len < sizeof head)
		return false;
	memcpy(&head, payload.at, sizeof head);
	if (head.ifi_type != ARPHRD_ETHER)
		return false;
	payload.at += sizeof head;
	payload.len -= sizeof head;
	name[0] = '\0';
	memset(mac, 0, 6);
	while (netlink_attribute(&payload, &a)) {
		if (a.type == IFLA_IFNAME && a.value.len > 0 && a.value.len <= IFNAMSIZ &&
		    a.value.at[a.value.len - 1] == '\0')
			memcpy(name, a.value.at, a.value.len);
		if (a.type == IFLA_PERM_ADDRESS && a.value.len == 6)
			memcpy(mac, a.value.at, 6);
	}
	return name[0] != '\0' && memcmp(mac, none, 6) != 0;
}
