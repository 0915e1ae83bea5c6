#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "emitter/uevent.h"
#include "emitter/witness_sources.h"

#define DATAGRAM_MAX 8192
#define DATAGRAMS_MAX 1024 /* of one look */

int
usb_source_open(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Only the kernel speaks here: what comes from a process is passed over. */
void
usb_source_look(int fd, struct events *events)
{
	uint8_t buffer[DATAGRAM_MAX];
	uint64_t now = (uint64_t)time(NULL);

	for (size_t i = 0; i < DATAGRAMS_MAX; i++) {
		struct sockaddr_nl from = {0};
		socklen_t len = sizeof from;
		ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &len);
		struct usb_event event;

		if (n < 0 && errno == ENOBUFS)
			events_say(events, EVENT_LOST, now, (const char *const[]){"usb", "more than the kernel keeps"},
				   2);
		else if (n < 0)
			return;
		else if (from.nl_pid == 0 && uevent_parse((struct slice){buffer, (size_t)n}, &event))
			events_say(events, event.added ? EVENT_USB_ADDED : EVENT_USB_REMOVED, now,
				   (const char *const[]){event.device, event.class}, 2);
	}
}
