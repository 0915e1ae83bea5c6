/*
 * The probes: each looks at one subject below the root and states facts about it. And the parsers they are made of, which are pure: bytes in,
 * values out, nothing allocated, whatever the bytes hold.
 *
 * Before the probes run every fact is unknown; a probe sets a fact or gives its reason, so that no fact is ever both, or neither.
 */
#ifndef FLEETSTATE_PROBES_H
#define FLEETSTATE_PROBES_H

#include <stdbool.h>

#include "emitter/collect.h"
#include "emitter/default_password.h"
#include "emitter/self.h"
#include "emitter/source.h"
#include "emitter/text.h"
#include "schema/facts.h"
#include "schema/limits.h"

/* os-release(5). */
enum release {
	RELEASE_ID,
	RELEASE_PRETTY_NAME,
	RELEASE_VERSION_ID,
	RELEASE_VERSION_CODENAME,
	RELEASE_BUILD_ID,
	RELEASE_VARIANT_ID,
	RELEASE_SUPPORT_END,
	RELEASE_IMAGE_ID,
	RELEASE_IMAGE_VERSION,
	RELEASE_FIELDS
};

struct os_release {
	struct {
		enum { RELEASE_ABSENT, RELEASE_MALFORMED, RELEASE_SET } state;
		char text[256];
	} fields[RELEASE_FIELDS];
};

/* As the shell would read it, but that a value with control characters, an expansion, or over 255 bytes is malformed. The last one counts. */
void os_release_parse(struct slice text, struct os_release *out);
const char *os_release_text(const struct os_release *, enum release);	/* NULL unless it is set and not empty */

/* What /proc/cpuinfo says in whichever of its architectures' spellings. Texts are cut; empty: it does not say. */
#define CPUINFO_TEXT 128
struct cpuinfo {
	char model[CPUINFO_TEXT], machine[CPUINFO_TEXT], revision[CPUINFO_TEXT], serial[CPUINFO_TEXT];
	size_t processors;
};
void cpuinfo_parse(struct slice text, struct cpuinfo *out);
bool cpu_list_parse(struct slice text, uint64_t *count) WARN_UNUSED;	/* "0-3,6" is 5 */
bool meminfo_parse(struct slice text, uint64_t *bytes) WARN_UNUSED;	/* MemTotal */

/* What the board's maker forgot to fill in: "To be filled by O.E.M.", "00000000" ... */
bool is_placeholder(struct slice);
/* "raspberrypi" of "raspberrypi,4-model-b\0brcm,bcm2711\0". */
bool compatible_vendor(struct slice, struct slice *vendor) WARN_UNUSED;
#define HOST_ID_SIZE 33	/* with the NUL */
/* 32 hex digits that are not all zero, and a line's end. */
bool host_id(struct slice machine_id, char out[HOST_ID_SIZE]) WARN_UNUSED;

bool uptime_parse(struct slice text, uint64_t *seconds) WARN_UNUSED;
bool efi_flag(struct slice variable, bool *out) WARN_UNUSED;	/* four bytes of attributes and one that is 0 or 1 */
bool lockdown_parse(struct slice text, struct slice *mode) WARN_UNUSED;	/* "none [integrity] confidentiality" */
/* Calls `risk` for each argument of a kernel command line that weakens the system. */
void command_line_risks(struct slice, void (*risk)(void *, const char *), void *);

/* A row of /proc/net/{tcp,tcp6,udp,udp6}. */
struct socket_row {
	uint8_t address[16];
	size_t address_len;	/* 4 or 16 */
	uint16_t port;
	unsigned state;	/* 0x0a: listening; 0x07: no peer */
	bool has_peer;
	uint64_t inode;
};
bool socket_parse(struct slice line, struct socket_row *) WARN_UNUSED;
/* What `ip link` calls an ARPHRD number: "ether"; "[4321]" for one without a name. */
void network_type(uint64_t number, char *out, size_t size);
bool mac_parse(struct slice text, uint8_t out[6]) WARN_UNUSED;

/* What a probe gets. */
struct measured;
struct probe {
	struct source *source;
	struct facts *facts;
	const struct declared *declared;
	const struct self *self;	/* the emitter's own, or that of the image; NULL: nothing is known, in an image because of: */
	char self_why[256];
	struct os_release release;
	char release_why[256];	/* empty: it was read */
	struct cpuinfo cpuinfo;
	struct said *said;	/* what declared executables printed last; kept between sweeps */
	struct measured *measured;	/* likewise */
	char endorsement[2 * DIGEST_SIZE + 1];	/* likewise: what the TPM answered; empty: nothing */
	unsigned endorsement_tries;	/* in vain */
	struct inventory *inventory;	/* kept between sweeps; its `encoded` is allocated */
	struct default_passwords default_passwords;	/* kept between sweeps */
	bool no_memory;
};

void probe_identity(struct probe *);
void probe_hardware(struct probe *);
void probe_os(struct probe *);
void probe_boot(struct probe *);
void probe_packages(struct probe *);
void probe_interfaces(struct probe *);
void probe_clock(struct probe *);
void probe_tpm(struct probe *);	/* the maker's marks in silicon: TPM endorsement key, system on a chip, permanent hardware addresses */
void probe_ports(struct probe *);	/* local interfaces: serial consoles, USB, removable media, radios */
void probe_firewall(struct probe *);	/* the packet filter and what it does by default */
void probe_updaters(struct probe *);	/* what can update the system */
void probe_pending(struct probe *);	/* what waits; by itself, since it takes long and seldom changes */
void probe_update(struct probe *);	/* how the system is updated, who may, and the way back */
void probe_configuration(struct probe *);	/* declared files against the secure baseline */
void probe_packaged(struct probe *);	/* packages' configuration files against what they brought */
void probe_authority(struct probe *);	/* who may change what, and who may become root */
void probe_restore(struct probe *);	/* whether it can be changed, and how the secure one comes back */
void probe_access(struct probe *);	/* accounts, lock-out, sshd */
void probe_logins(struct probe *);	/* failed ones */
void probe_data(struct probe *);	/* what protects data at rest, and where keys can lie */
void probe_cryptography(struct probe *);	/* which the system is told to use */
void probe_integrity(struct probe *);	/* what the kernel knows of its own and of files' integrity */
void probe_health(struct probe *);	/* health that bears on security */
void probe_forwarding(struct probe *);	/* where the system's own log is sent */
void probe_declared(struct probe *);	/* what the maker declares */
void probe_self(struct probe *);	/* the emitter itself; after all others, whose refusals it tells */

void os_release_read(struct probe *);
/* What purls call the system and its release: "debian" and "bookworm", or "alpine-3.20" for one without a name. NULL: it does not say. */
#define DISTRO_SIZE 520
const char *os_release_distro(const struct os_release *, char out[DISTRO_SIZE]) WARN_UNUSED;

/* Sets the fact from a small file's text, or says why it is unknown. */
void probe_text(struct probe *, enum fact, const char *path);
/* The running kernel has no modules at all, rather than a /proc that hides them. */
bool probe_loads_no_modules(struct probe *);
/* Why `path` could not be read: an image is no running system, so that its empty /proc says nothing. */
const char *probe_why(const struct probe *);

#endif
