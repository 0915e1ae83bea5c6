/*
 * Which SSH server the system has, and its settings, read below the root.
 */
#ifndef FLEETSTATE_SSH_SERVER_H
#define FLEETSTATE_SSH_SERVER_H

#include "emitter/dropbear.h"
#include "emitter/source.h"
#include "emitter/sshd_config.h"

enum ssh_kind { SSH_NONE, SSH_OPENSSH, SSH_DROPBEAR };

struct ssh_server {
	enum ssh_kind kind;
	struct sshd_config config;	/* OpenSSH's */
	struct dropbear dropbear;
	char why[256];	/* its settings are not known; empty: they are */

	unsigned files;	/* read so far */
	size_t bytes;
	struct source *source;
};

void ssh_server_read(struct source *, struct ssh_server *);
bool ssh_server_takes_keys(const struct ssh_server *);
bool ssh_server_takes_passwords(const struct ssh_server *);

#endif
