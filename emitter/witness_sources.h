/*
 * The sources of events, one file each: what a witness opens, waits for and asks.
 */
#ifndef FLEETSTATE_WITNESS_SOURCES_H
#define FLEETSTATE_WITNESS_SOURCES_H

#include "emitter/witness.h"

/* Log-ins: the journal, else the log of authentication, else utmp's files. */
struct log_source;
struct log_source *log_source_new(void) WARN_UNUSED;
void log_source_free(struct log_source *);
int log_source_fd(const struct log_source *);	/* -1: none, it is looked at with each sweep */
void log_source_look(struct log_source *, struct events *);

/* Configuration: inotify on declared files and what of /etc decides over access and updates. */
struct file_source;
struct file_source *file_source_new(const char *declared) WARN_UNUSED;
void file_source_free(struct file_source *);
int file_source_fd(const struct file_source *);
void file_source_look(struct file_source *, struct events *);

/* USB: the kernel's own announcements. */
int usb_source_open(void) WARN_UNUSED;	/* -1: not to be had here */
void usb_source_look(int fd, struct events *);

/* Listening sockets, from sweep to sweep. */
struct socket_source {
	uint8_t *rows;	/* of the last sweep */
	size_t len;
	bool known;
};
void socket_source_sweep(struct socket_source *, const struct facts *, struct events *);

/* Packages, from inventory to inventory. The last one that was told of lies in the state directory. */
void package_source_sweep(int dir, const struct inventory *, struct events *);

#endif
