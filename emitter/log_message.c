#include "emitter/log_message.h"

#include <string.h>

#include "emitter/text.h"

static struct slice
literal(const char *text)
{
	return (struct slice){(const uint8_t *)text, strlen(text)};
}

static struct slice
skip(struct slice text, size_t n)
{
	return (struct slice){text.at + n, text.len - n};
}

static bool
drop(struct slice *text, const char *beginning)
{
	if (!text_begins(*text, beginning))
		return false;
	*text = skip(*text, strlen(beginning));
	return true;
}

/* Cuts at the first mark. */
static bool
cut(struct slice text, const char *mark, struct slice *before, struct slice *after)
{
	const uint8_t *at = text.len > 0 ? memmem(text.at, text.len, mark, strlen(mark)) : NULL;

	if (!at)
		return false;
	*before = (struct slice){text.at, (size_t)(at - text.at)};
	*after = skip(text, before->len + strlen(mark));
	return true;
}

/* Cuts at the last mark: what stands behind it is not the stranger's. */
static bool
cut_last(struct slice text, const char *mark, struct slice *before, struct slice *after)
{
	struct slice head, rest = text;
	bool found = false;

	while (cut(rest, mark, &head, &rest)) {
		*before = (struct slice){text.at, (size_t)(rest.at - text.at) - strlen(mark)};
		*after = rest;
		found = true;
	}
	return found;
}

/* "NAME from ADDRESS port N ssh2: more"; the name may be anything, also words like these. */
static bool
parse_sshd(struct slice message, struct log_event *out)
{
	struct slice method, rest, name, tail, address, port;

	if (drop(&message, "Accepted "))
		out->kind = EVENT_LOGIN;
	else if (drop(&message, "Failed "))
		out->kind = EVENT_LOGIN_FAILED;
	else
		return false;
	if (!cut(message, " for ", &method, &rest) || text_is(method, "none"))
		return false;
	(void)drop(&rest, "invalid user ");
	if (!cut_last(rest, " from ", &name, &tail) || !cut(tail, " port ", &address, &port) || address.len == 0)
		return false;
	out->parts[0] = name;
	out->parts[1] = literal("sshd");
	out->parts[2] = address;
	return true;
}

/* "ACCOUNT : TTY=... ; PWD=... ; USER=TARGET ; COMMAND=...", with why it was refused before TTY. The directory and the command are the caller's own
   words: when they hold such a mark too, the target is not known. */
static bool
parse_sudo(struct slice message, struct log_event *out)
{
	struct slice account, rest, before, target, more;

	message = text_trim(message);
	if (!cut(message, " : ", &account, &rest) || account.len == 0 || memchr(account.at, ' ', account.len) ||
	    !memmem(rest.at, rest.len, "COMMAND=", 8))
		return false;
	out->kind = text_begins(rest, "TTY=") || text_begins(rest, "PWD=") ? EVENT_PRIVILEGE : EVENT_PRIVILEGE_REFUSED;
	out->parts[0] = account;
	if (cut(rest, " ; USER=", &before, &target) && !memmem(target.at, target.len, " ; USER=", 8) &&
	    cut(target, " ; ", &target, &more))
		out->parts[1] = target;
	out->parts[2] = literal("sudo");
	return true;
}

/* "(to TARGET) ACCOUNT on TERMINAL", with "FAILED SU " before it. */
static bool
parse_su(struct slice message, struct log_event *out)
{
	struct slice target, rest, account, terminal;

	out->kind = drop(&message, "FAILED SU ") ? EVENT_PRIVILEGE_REFUSED : EVENT_PRIVILEGE;
	if (!drop(&message, "(to ") || !cut_last(message, ") ", &target, &rest) ||
	    !cut_last(rest, " on ", &account, &terminal))
		return false;
	out->parts[0] = account;
	out->parts[1] = target;
	out->parts[2] = literal("su");
	return true;
}

/* "pam_unix(login:session): session opened for user NAME(uid=N) by ...", "FAILED LOGIN (1) on '/dev/tty1' FOR 'NAME', ...". */
static bool
parse_login(struct slice message, struct log_event *out)
{
	struct slice before, name, rest;

	if (drop(&message, "pam_unix(login:session): session opened for user ")) {
		out->kind = EVENT_LOGIN;
		if (!cut_last(message, " by ", &name, &rest))
			return false;
		(void)cut_last(name, "(uid=", &name, &rest);
	} else if (drop(&message, "FAILED LOGIN ")) {
		out->kind = EVENT_LOGIN_FAILED;
		if (!cut(message, " FOR '", &before, &name) || !cut_last(name, "', ", &name, &rest))
			return false;
	} else {
		return false;
	}
	out->parts[0] = name;
	out->parts[1] = literal("login");
	return true;
}

static const struct {
	const char *name;
	bool (*parse)(struct slice, struct log_event *);
} programs[] = {
	{"sshd", parse_sshd}, {"sshd-session", parse_sshd}, {"sudo", parse_sudo},
	{"su", parse_su},     {"login", parse_login},
};

bool
log_message_parse(struct slice program, struct slice message, struct log_event *out)
{
	memset(out, 0, sizeof *out);
	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
		if (text_is(program, programs[i].name))
			return programs[i].parse(message, out);
	return false;
}

bool
log_line_parse(struct slice line, struct slice *program, struct slice *message)
{
	struct slice word, tag, rest;
	size_t words = line.len > 0 && line.at[0] >= '0' && line.at[0] <= '9' ? 2 : 4; /* the time and the host */

	for (size_t i = 0; i < words; i++)
		if (!text_word(&line, &word))
			return false;
	if (!cut(line, ": ", &tag, message))
		return false;
	tag = text_trim(tag);
	*program = tag;
	if (cut(tag, "[", &tag, &rest))
		*program = tag;
	return program->len > 0 && !memchr(program->at, ' ', program->len);
}

bool
log_is_trusted(struct slice uid, struct slice exe)
{
	static const char *const known[] = {
		"/usr/bin/sudo",
		"/bin/sudo",
		"/usr/bin/su",
		"/bin/su",
		"/usr/sbin/sshd",
		"/usr/lib/openssh/sshd-session",
		"/usr/libexec/openssh/sshd-session",
		"/bin/login",
		"/usr/bin/login",
	};

	if (text_is(uid, "0"))
		return true;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (text_is(exe, known[i]))
			return true;
	return false;
}
