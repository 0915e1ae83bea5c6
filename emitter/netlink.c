#include "emitter/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER (32 * 1024) /* as iproute2; the kernel cuts its answers to it */
#define ANSWERS_MAX 4096 /* of so many bytes at most */
#define REQUEST_MAX 1024

bool
netlink_attribute(struct slice *text, struct netlink_attribute *out)
{
	struct nlattr head;
	size_t len;

	if (text->len < sizeof head)
		return false;
	memcpy(&head, text->at, sizeof head);
	if (head.nla_len < sizeof head || head.nla_len > text->len)
		return false;
	out->type = (unsigned)(head.nla_type & NLA_TYPE_MASK);
	out->value = (struct slice){text->at + sizeof head, head.nla_len - sizeof head};
	len = NETLINK_ALIGN(head.nla_len);
	len = len < text->len ? len : text->len;
	text->at += len;
	text->len -= len;
	return true;
}

/* 1: more is to come; 0: that was all. */
static int
take_answers(struct slice text, unsigned sequence, bool (*take)(void *, struct slice), void *context)
{
	struct nlmsghdr head;
	int error;

	while (text.len >= sizeof head) {
		struct slice payload;
		size_t len;

		memcpy(&head, text.at, sizeof head);
		if (head.nlmsg_len < sizeof head || head.nlmsg_len > text.len) {
			errno = EPROTO;
			return -1;
		}
		payload = (struct slice){text.at + sizeof head, head.nlmsg_len - sizeof head};
		len = NLMSG_ALIGN((size_t)head.nlmsg_len);
		len = len < text.len ? len : text.len;
		text.at += len;
		text.len -= len;
		if (head.nlmsg_seq != sequence)
			continue;
		if (head.nlmsg_type == NLMSG_DONE)
			return 0;
		if (head.nlmsg_type == NLMSG_ERROR) {
			memcpy(&error, payload.at, payload.len >= sizeof error ? sizeof error : 0);
			errno = payload.len >= sizeof error && error < 0 ? -error : EPROTO;
			return -1;
		}
		if (!take(context, payload))
			return 0;
	}
	return 1;
}

static int
ask(int fd, unsigned type, struct slice message, unsigned sequence)
{
	union {
		struct nlmsghdr head;
		uint8_t bytes[sizeof(struct nlmsghdr) + REQUEST_MAX];
	} request;
	size_t len = NLMSG_LENGTH(message.len);

	if (message.len > REQUEST_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	memset(&request, 0, sizeof request.head);
	request.head.nlmsg_len = (unsigned)len;
	request.head.nlmsg_type = (unsigned short)type;
	request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request.head.nlmsg_seq = sequence;
	memcpy(request.bytes + sizeof request.head, message.at, message.len);
	return send(fd, &request, len, 0) == (ssize_t)len ? 0 : -1;
}

int
netlink_dump(int protocol, unsigned type, struct slice message, bool (*take)(void *, struct slice), void *context)
{
	static _Alignas(struct nlmsghdr) uint8_t answer[ANSWER];
	static const struct timeval patience = {0, 500000};
	const unsigned sequence = 1;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), more = 1, error;
	ssize_t got;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
	    ask(fd, type, message, sequence) < 0)
		more = -1;
	for (size_t i = 0; more > 0; i++) {
		got = i < ANSWERS_MAX ? recv(fd, answer, sizeof answer, 0) : -1;
		if (i == ANSWERS_MAX)
			errno = EOVERFLOW;
		more = got < 0 ? -1 : take_answers((struct slice){answer, (size_t)got}, sequence, take, context);
	}
	error = errno;
	close(fd);
	errno = error;
	return more;
}
