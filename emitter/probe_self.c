#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emitter/probes.h"
#include "emitter/self.h"
#include "schema/key.h"
#include "schema/topics.h"

#define OWN_USER "fleetstate-emitter"
#define DPKG_INFO "var/lib/dpkg/info"
#define BINARY_MAX (64 * 1024 * 1024)
#define FDS_MAX 4096
#define HEX (2 * DIGEST_SIZE + 1)

/*
 * One's own files. The settings name them as the emitter opens them; below the root they stand without the slash.
 */
static bool
below_root(const struct probe *p, const char *path, char out[PATH_MAX])
{
	char whole[PATH_MAX];

	if (source_is_live(p->source) && path[0] != '/') {
		if (!realpath(path, whole))
			return false;
		path = whole;
	}
	return (size_t)snprintf(out, PATH_MAX, "%s", path + strspn(path, "/")) < PATH_MAX && out[0] != '\0';
}

static struct slice
read_own(struct probe *p, const char *path)
{
	char below[PATH_MAX];

	return below_root(p, path, below) ? source_read(p->source, below, SOURCE_FILE) : (struct slice){NULL, 0};
}

static void
set_digest(struct probe *p, enum fact fact, const uint8_t digest[DIGEST_SIZE])
{
	char hex[HEX];

	hex_print(digest, DIGEST_SIZE, hex);
	facts_set_text(p->facts, fact, hex);
}

/* ---- what the settings say ---- */

static void
tell_settings(struct probe *p, const struct settings *s)
{
	bool signs = self_is_set(s->sign_key), mutual = strncmp(s->broker, "ssl://", 6) == 0 && self_is_set(s->tls_key);

	if (!signs) {
		facts_unknown(p->facts, FACT_EMITTER_SIGNING_KEY, "no key configured");
		facts_unknown(p->facts, FACT_EMITTER_INTERVAL, "no key configured: nothing is reported");
		facts_unknown(p->facts, FACT_EMITTER_TRANSPORT, "no key configured: nothing is reported");
		return;
	}
	facts_set_text(p->facts, FACT_EMITTER_SIGNING_KEY, self_key_place(s->sign_key));
	facts_set_uint(p->facts, FACT_EMITTER_INTERVAL, (uint64_t)s->interval);
	facts_set_text(p->facts, FACT_EMITTER_TRANSPORT, mutual ? "mutual TLS" : "plain");
}

static void
tell_configuration(struct probe *p, const char *file)
{
	uint8_t digest[DIGEST_SIZE];
	struct slice text;

	if (!file) {
		facts_unknown(p->facts, FACT_EMITTER_CONFIGURATION_SHA256, "no configuration file");
		return;
	}
	text = read_own(p, file);
	if (!text.at) {
		facts_unknown(p->facts, FACT_EMITTER_CONFIGURATION_SHA256, source_why(p->source));
		return;
	}
	sha256(text, digest);
	set_digest(p, FACT_EMITTER_CONFIGURATION_SHA256, digest);
}

/* The key may lie in hardware; its certificate has the public part, and the signer starts with no other. */
static bool
public_digest(struct slice pem, uint8_t digest[DIGEST_SIZE])
{
	BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
	X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	uint8_t *spki = NULL;
	int len = certificate ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &spki) : -1;

	if (len > 0)
		sha256((struct slice){spki, (size_t)len}, digest);
	OPENSSL_free(spki);
	X509_free(certificate);
	BIO_free(bio);
	return len > 0;
}

static void
tell_key(struct probe *p, const struct settings *s)
{
	uint8_t digest[DIGEST_SIZE];
	struct slice pem;

	if (!self_is_set(s->sign_certificate)) {
		facts_unknown(p->facts, FACT_EMITTER_KEY_SHA256, "no key configured");
		return;
	}
	pem = read_own(p, s->sign_certificate);
	if (!pem.at)
		facts_unknown(p->facts, FACT_EMITTER_KEY_SHA256, source_why(p->source));
	else if (!public_digest(pem, digest))
		facts_unknown(p->facts, FACT_EMITTER_KEY_SHA256,
			      "no certificate in the file of the signing certificate");
	else
		set_digest(p, FACT_EMITTER_KEY_SHA256, digest);
}

/* ---- who can read its files ---- */

/* The group may be the emitter's own; whose group it is in an image only the device will tell. */
static bool
is_private(const struct probe *p, const struct stat *st)
{
	mode_t others = S_IRWXO | S_IWGRP;

	if (source_is_live(p->source) && st->st_gid != getegid())
		others |= S_IRGRP;
	return (st->st_mode & others) == 0;
}

static void
tell_files(struct probe *p, const struct self *self)
{
	const struct settings *s = self->settings;
	const char *const files[] = {self->configuration, self_key_file(s->sign_key), s->tls_key, s->state_dir};
	bool private = true, any = false;
	char below[PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		if (!self_is_set(files[i]) || !below_root(p, files[i], below))
			continue;
		if (source_stat(p->source, below, &st) == 0) {
			/* A configuration of /dev/null holds nothing that could be read. */
			if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
				continue;
			private &= is_private(p, &st);
			any = true;
		} else if (!source_missing(p->source)) {
			facts_unknown(p->facts, FACT_EMITTER_PRIVATE_FILES, source_why(p->source));
			return;
		}
	}
	if (any)
		facts_set_bool(p->facts, FACT_EMITTER_PRIVATE_FILES, private);
	else
		facts_unknown(p->facts, FACT_EMITTER_PRIVATE_FILES, "none of its files is there");
}

/* ---- its program ---- */

struct digests {
	EVP_MD_CTX *sha256, *md5;
	bool failed;
};

static bool
feed_digests(void *context, struct slice piece)
{
	struct digests *d = context;

	d->failed |= EVP_DigestUpdate(d->sha256, piece.at, piece.len) != 1 ||
		     EVP_DigestUpdate(d->md5, piece.at, piece.len) != 1;
	return !d->failed;
}

/* The file that this process runs can't change, but another may lie in its place: so its own descriptor is read, once. */
static int
stream_own_binary(struct digests *d)
{
	uint8_t piece[16384];
	ssize_t got = 0;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while ((got = read(fd, piece, sizeof piece)) > 0)
		(void)feed_digests(d, (struct slice){piece, (size_t)got});
	close(fd);
	return got < 0 ? -1 : 0;
}

struct md5sums {
	const char *path; /* without the slash */
	struct probe *probe;
	char hex[33];
};

/* "0123...  usr/bin/fleetstate-emitter" */
static bool
find_md5(struct slice text, const char *path, char hex[33])
{
	struct slice line, sum;

	while (text_line(&text, &line))
		if (text_word(&line, &sum) && sum.len == 32 && text_is(text_trim(line), path)) {
			snprintf(hex, 33, "%.32s", (const char *)sum.at);
			return true;
		}
	return false;
}

static bool
search_package(void *context, int directory, const char *name)
{
	struct md5sums *m = context;
	size_t len = strlen(name);
	char path[PATH_MAX];
	struct slice text;

	(void)directory;
	if (strncmp(name, "fleetstate", 10) != 0 || len < 8 || strcmp(name + len - 8, ".md5sums") != 0)
		return true;
	if ((size_t)snprintf(path, sizeof path, DPKG_INFO "/%s", name) >= sizeof path)
		return true;
	text = source_read(m->probe->source, path, SOURCE_FILE);
	return !(text.at && find_md5(text, m->path, m->hex));
}

static void
tell_intact(struct probe *p, const char *path, const char *md5)
{
	struct md5sums m = {.path = path + strspn(path, "/"), .probe = p};

	(void)!source_list(p->source, DPKG_INFO, SOURCE_NAMES, search_package, &m);
	if (m.hex[0])
		facts_set_bool(p->facts, FACT_EMITTER_BINARY_INTACT, strcmp(m.hex, md5) == 0);
	else
		facts_unknown(p->facts, FACT_EMITTER_BINARY_INTACT, "no package says that it installed it");
}

static const char *
image_binary(struct probe *p)
{
	static const char *const places[] = {"usr/bin/" OWN_USER, "usr/sbin/" OWN_USER, "usr/local/bin/" OWN_USER,
					     "bin/" OWN_USER, "sbin/" OWN_USER};

	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (source_exists(p->source, places[i]))
			return places[i];
	return NULL;
}

static void
tell_binary(struct probe *p)
{
	static char own_md5[HEX], own_sha256[HEX]; /* of the running program: never another */
	struct digests d = {.sha256 = EVP_MD_CTX_new(), .md5 = EVP_MD_CTX_new()};
	bool live = source_is_live(p->source);
	uint8_t digest[EVP_MAX_MD_SIZE];
	char sha256_hex[HEX] = "", md5_hex[HEX] = "", link[PATH_MAX] = "";
	const char *path = live ? link : image_binary(p), *why = "can't read its own program";
	ssize_t len;

	if (live && (len = readlink("/proc/self/exe", link, sizeof link - 1)) > 0)
		link[len] = '\0';
	if (live && own_sha256[0]) {
		strcpy(sha256_hex, own_sha256);
		strcpy(md5_hex, own_md5);
	} else if (!path) {
		why = "no emitter is installed in the image";
	} else if (d.sha256 && d.md5 && EVP_DigestInit_ex(d.sha256, EVP_sha256(), NULL) == 1 &&
		   EVP_DigestInit_ex(d.md5, EVP_md5(), NULL) == 1 &&
		   (live ? stream_own_binary(&d) : source_stream(p->source, path, BINARY_MAX, feed_digests, &d)) == 0 &&
		   !d.failed && EVP_DigestFinal_ex(d.sha256, digest, NULL) == 1) {
		hex_print(digest, DIGEST_SIZE, sha256_hex);
		if (EVP_DigestFinal_ex(d.md5, digest, NULL) == 1)
			hex_print(digest, 16, md5_hex);
	}
	EVP_MD_CTX_free(d.sha256);
	EVP_MD_CTX_free(d.md5);
	if (!sha256_hex[0] || !path) {
		facts_unknown(p->facts, FACT_EMITTER_BINARY_SHA256, why);
		facts_unknown(p->facts, FACT_EMITTER_BINARY_INTACT, why);
		return;
	}
	if (live) {
		strcpy(own_sha256, sha256_hex);
		strcpy(own_md5, md5_hex);
	}
	facts_set_text(p->facts, FACT_EMITTER_BINARY_SHA256, sha256_hex);
	tell_intact(p, path, md5_hex);
}

/* ---- the running process ---- */

static const char *
user_kind(const struct settings *s)
{
	uid_t uid = geteuid();
	const struct passwd *entry;

	if (uid == 0)
		return "root";
	entry = getpwuid(uid);
	if (entry && (strcmp(entry->pw_name, OWN_USER) == 0 ||
		      (s && self_is_set(s->user) && strcmp(entry->pw_name, s->user) == 0)))
		return "own";
	return "other";
}

static void
tell_capabilities(struct probe *p, struct slice value)
{
	uint64_t held;

	if (!text_number(value, 16, &held)) {
		facts_unknown(p->facts, FACT_EMITTER_CAPABILITIES, "/proc/self/status is malformed");
		return;
	}
	facts_begin_list(p->facts, FACT_EMITTER_CAPABILITIES);
	for (unsigned cap = 0; cap < 64; cap++) {
		const char *name = held >> cap & 1 ? capng_capability_to_name(cap) : NULL;

		if (name)
			facts_add_text(p->facts, FACT_EMITTER_CAPABILITIES, name);
	}
}

static void
tell_confinement(struct probe *p)
{
	struct slice text = source_read(p->source, "proc/self/status", SOURCE_ATTRIBUTE), line, key, value;

	if (!text.at) {
		facts_unknown(p->facts, FACT_EMITTER_CAPABILITIES, source_why(p->source));
		facts_unknown(p->facts, FACT_EMITTER_SECCOMP, source_why(p->source));
		return;
	}
	facts_unknown(p->facts, FACT_EMITTER_SECCOMP, "the kernel does not tell");
	while (text_line(&text, &line)) {
		if (!text_cut(line, ':', &key, &value))
			continue;
		if (text_is(key, "CapEff"))
			tell_capabilities(p, value);
		else if (text_is(key, "Seccomp"))
			facts_set_bool(p->facts, FACT_EMITTER_SECCOMP, text_is(value, "2"));
	}
}

static bool
count_listening(void *context, int directory, const char *name)
{
	uint64_t *listening = context, fd;
	int accepts = 0;
	socklen_t size = sizeof accepts;

	(void)directory;
	if (text_number((struct slice){(const uint8_t *)name, strlen(name)}, 10, &fd) && fd <= INT_MAX &&
	    getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0)
		*listening += accepts != 0;
	return true;
}

static void
tell_sockets(struct probe *p)
{
	uint64_t listening = 0;

	if (source_list(p->source, "proc/self/fd", FDS_MAX, count_listening, &listening) == 0)
		facts_set_uint(p->facts, FACT_EMITTER_LISTENING, listening);
	else
		facts_unknown(p->facts, FACT_EMITTER_LISTENING, source_why(p->source));
}

static void
tell_process(struct probe *p, const struct self *self)
{
	static const char *user; /* it does not change any more */

	if (!user)
		user = user_kind(self ? self->settings : NULL);
	facts_set_text(p->facts, FACT_EMITTER_USER, user);
	tell_confinement(p);
	tell_sockets(p);
	if (self && self->hears)
		facts_set_uint(p->facts, FACT_EMITTER_RECEIPTS_AHEAD, self->receipts_ahead);
	else
		facts_unknown(p->facts, FACT_EMITTER_RECEIPTS_AHEAD, "no receipts are heard");
}

/* ---- the one that an image would run ---- */

/* "User=fleetstate-emitter" of its unit. */
static bool
unit_user(struct probe *p, char user[64])
{
	static const char *const units[] = {
		"etc/systemd/system/" OWN_USER ".service", "usr/local/lib/systemd/system/" OWN_USER ".service",
		"usr/lib/systemd/system/" OWN_USER ".service", "lib/systemd/system/" OWN_USER ".service"};
	struct slice text, line, key, value;

	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		text = source_read(p->source, units[i], SOURCE_ATTRIBUTE);
		if (!text.at)
			continue;
		snprintf(user, 64, "root"); /* systemd's default */
		while (text_line(&text, &line))
			if (text_cut(line, '=', &key, &value) && text_is(key, "User") && value.len > 0)
				snprintf(user, 64, "%.*s", (int)value.len, (const char *)value.at);
		return true;
	}
	return false;
}

static void
tell_image(struct probe *p, const struct settings *s)
{
	char user[64] = "";
	bool known = self_is_set(s->user);

	if (known)
		snprintf(user, sizeof user, "%s", s->user);
	else
		known = unit_user(p, user);
	if (known)
		facts_set_text(p->facts, FACT_EMITTER_USER, strcmp(user, "root") == 0 ? "root" : "own");
	else
		facts_unknown(p->facts, FACT_EMITTER_USER, "neither its configuration nor a unit says whom it runs as");
	facts_set_bool(p->facts, FACT_EMITTER_SECCOMP, s->seccomp);
	facts_unknown(p->facts, FACT_EMITTER_CAPABILITIES, COLLECT_IMAGE);
	facts_unknown(p->facts, FACT_EMITTER_LISTENING, COLLECT_IMAGE);
	facts_unknown(p->facts, FACT_EMITTER_RECEIPTS_AHEAD, COLLECT_IMAGE);
}

void
probe_self(struct probe *p)
{
	const struct self *self = p->self;
	bool live = source_is_live(p->source);

	source_trace_transient(p->source);
	for (unsigned fact = FACT_EMITTER_VERSION; fact <= FACT_EMITTER_TRANSPORT; fact++)
		facts_unknown(p->facts, (enum fact)fact, live ? "no settings are known" : p->self_why);
	facts_set_text(p->facts, FACT_EMITTER_VERSION, FLEETSTATE_VERSION);
	if (live)
		tell_process(p, self);
	else if (self)
		tell_image(p, self->settings);
	if (self) {
		tell_settings(p, self->settings);
		tell_configuration(p, self->configuration);
		tell_key(p, self->settings);
		tell_files(p, self);
	}
	tell_binary(p);
	facts_set_text(p->facts, FACT_EMITTER_PRIVILEGES, source_denied(p->source) ? "reduced" : "full");
}
