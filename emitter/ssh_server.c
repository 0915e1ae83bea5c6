#include "emitter/ssh_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emitter/glob.h"
#include "emitter/pam.h"
#include "emitter/text.h"

#define FILES_MAX 512 /* that may be included, all together */
#define BYTES_MAX (4 * 1024 * 1024)

static const struct {
	enum ssh_kind kind;
	const char *path;
} servers[] = {
	{SSH_OPENSSH, "usr/sbin/sshd"},      {SSH_OPENSSH, "sbin/sshd"},
	{SSH_OPENSSH, "usr/bin/sshd"},       {SSH_OPENSSH, "usr/local/sbin/sshd"},
	{SSH_DROPBEAR, "usr/sbin/dropbear"}, {SSH_DROPBEAR, "sbin/dropbear"},
	{SSH_DROPBEAR, "usr/bin/dropbear"},  {SSH_DROPBEAR, "usr/bin/dropbearmulti"},
};

static void
fail(struct ssh_server *s, const char *why)
{
	if (!s->why[0])
		snprintf(s->why, sizeof s->why, "%s", why);
}

static void include(void *context, struct sshd_config *config, const char *pattern, const struct sshd_place *place);

/* A copy, since what it includes is read meanwhile. */
static void
read_config(struct ssh_server *s, const char *path, const struct sshd_place *place)
{
	const struct sshd_include files = {include, s};
	struct slice text;
	uint8_t *copy;

	if (s->files++ >= FILES_MAX) {
		fail(s, "sshd_config includes more than 512 files");
		return;
	}
	text = source_read(s->source, path, SOURCE_FILE);
	if (!text.at) {
		fail(s, source_why(s->source));
		return;
	}
	copy = malloc(text.len + 1);
	if (!copy || text.len > BYTES_MAX - s->bytes) {
		free(copy);
		fail(s, copy ? "sshd_config includes more than 4 MiB" : "memory ran out");
		return;
	}
	s->bytes += text.len;
	memcpy(copy, text.at, text.len);
	sshd_config_parse(&s->config, (struct slice){copy, text.len}, place, &files);
	free(copy);
}

struct matches {
	struct ssh_server *server;
	const struct sshd_place *place;
};

static bool
include_one(void *context, const char *path)
{
	struct matches *m = context;

	read_config(m->server, path, m->place);
	return m->server->why[0] == '\0';
}

static void
include(void *context, struct sshd_config *config, const char *pattern, const struct sshd_place *place)
{
	struct ssh_server *s = context;
	struct matches matches = {s, place};
	char whole[1024];

	(void)config;
	if (s->why[0])
		return;
	if ((size_t)snprintf(whole, sizeof whole, "%s%s", pattern[0] == '/' ? "" : "etc/ssh/", pattern) >= sizeof whole)
		fail(s, "sshd_config includes too long a path");
	else if (source_glob(s->source, whole, FILES_MAX, include_one, &matches) < 0)
		fail(s, "what sshd_config includes can't be listed");
}

/* Debian's: SSHD_OPTS="-o Name=Value -f FILE". What is said here goes before the file. */
static void
read_arguments(struct ssh_server *s, char file[256])
{
	struct slice text = source_read(s->source, "etc/default/ssh", SOURCE_ATTRIBUTE), arguments, word;

	if (!text.at || !setting_find(text, "SSHD_OPTS", &arguments))
		return;
	while (text_word(&arguments, &word)) {
		bool option = text_begins(word, "-o"), other = text_begins(word, "-f");

		if (!option && !other)
			continue;
		word.at += 2;
		word.len -= 2;
		if (word.len == 0 && !text_word(&arguments, &word))
			return;
		if (option)
			sshd_config_parse(&s->config, word, NULL, NULL);
		else if (word.len < 256)
			snprintf(file, 256, "%.*s", (int)word.len, (const char *)word.at);
	}
}

static void
read_openssh(struct ssh_server *s)
{
	char file[256] = "etc/ssh/sshd_config";

	sshd_config_init(&s->config);
	read_arguments(s, file);
	if (!source_exists(s->source, file) && source_exists(s->source, "usr/etc/ssh/sshd_config"))
		strcpy(file, "usr/etc/ssh/sshd_config");
	read_config(s, file, NULL);
	if (s->config.broken[0])
		fail(s, s->config.broken);
}

static void
read_dropbear(struct ssh_server *s)
{
	struct slice text;

	dropbear_init(&s->dropbear);
	text = source_read(s->source, "etc/config/dropbear", SOURCE_ATTRIBUTE);
	if (text.at) {
		dropbear_uci(text, &s->dropbear);
		return;
	}
	if (!source_missing(s->source))
		fail(s, source_why(s->source));
	text = source_read(s->source, "etc/default/dropbear", SOURCE_ATTRIBUTE);
	if (text.at)
		dropbear_arguments(text, &s->dropbear);
	else if (!source_missing(s->source))
		fail(s, source_why(s->source));
}

void
ssh_server_read(struct source *source, struct ssh_server *s)
{
	memset(s, 0, sizeof *s);
	s->source = source;
	for (size_t i = 0; i < sizeof servers / sizeof servers[0] && s->kind == SSH_NONE; i++)
		if (source_exists(source, servers[i].path))
			s->kind = servers[i].kind;
	if (s->kind == SSH_OPENSSH)
		read_openssh(s);
	else if (s->kind == SSH_DROPBEAR)
		read_dropbear(s);
}

bool
ssh_server_takes_keys(const struct ssh_server *s)
{
	return s->kind == SSH_DROPBEAR || (s->kind == SSH_OPENSSH && sshd_config_flag(&s->config, SSHD_PUBKEY));
}

bool
ssh_server_takes_passwords(const struct ssh_server *s)
{
	if (s->kind == SSH_DROPBEAR)
		return !s->dropbear.no_password;
	return s->kind == SSH_OPENSSH && sshd_takes_passwords(&s->config);
}
