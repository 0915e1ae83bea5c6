#include "collector/tls.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "collector/client_trust.h"
#include "schema/limits.h"
#include "schema/log.h"

#define FILE_MAX LIMIT_CRL
#define HANDSHAKE_MAX                                                                                                  \
	(4 * LIMIT_CHAIN) /* bytes of one handshake message: a chain, and that is what clients may send most of */
#define SHOWN_MAX 8 /* certificates of a chain that are looked at; too many are refused as such */
/* AEAD suites with ephemeral keys, nothing of SHA-1; compression GnuTLS has not, tickets and resumption only when asked for. */
#define SUITES                                                                                                         \
	":-CIPHER-ALL:+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-MAC-ALL:+AEAD"     \
	":-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"

enum { CERTIFICATE, KEY, AUTHORITIES, LISTS, FILES };

/* By which a file is known to be another than before. */
struct stamp {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
};

struct tls_pair {
	gnutls_certificate_credentials_t credentials;
	struct client_trust *trust; /* NULL: clients are not asked for certificates */
	size_t users; /* sessions, and one more while it is in force */
};

struct tls {
	const char *files[FILES]; /* NULL: not configured */
	const char *priorities;
	pthread_mutex_t lock;
	struct tls_pair *pair;
	unsigned generation;
	struct stamp tried[FILES], seen[FILES]; /* as they were read last, and as they were at the last look */
	char trouble[TLS_WHY]; /* empty: what was tried is in force */
};

static const char *const names[FILES] = {"http_certificate", "http_key", "http_client_ca", "http_client_crl"};

static struct stamp
stamp_of(const char *file)
{
	struct stamp stamp;
	struct stat st;

	memset(&stamp, 0, sizeof stamp);
	if (file == NULL || stat(file, &st) != 0)
		return stamp;
	stamp.device = st.st_dev;
	stamp.inode = st.st_ino;
	stamp.size = st.st_size;
	stamp.changed = st.st_ctim;
	return stamp;
}

static void
stamp_all(const struct tls *tls, struct stamp stamps[FILES])
{
	for (int i = 0; i < FILES; i++)
		stamps[i] = stamp_of(tls->files[i]);
}

/* A whole file, owned by the caller, who cleanses it. -1: `why` says what stands against it. */
static int
read_file(const struct tls *tls, int i, struct slice *out, char why[TLS_WHY])
{
	FILE *in = fopen(tls->files[i], "re");
	uint8_t *at = NULL;
	struct stat st;
	size_t len = 0;

	if (in == NULL || fstat(fileno(in), &st) != 0)
		snprintf(why, TLS_WHY, "%s: %s: %m", names[i], tls->files[i]);
	else if (i == KEY && (st.st_mode & S_IRWXO) != 0)
		snprintf(why, TLS_WHY, "%s: %s: others may read it", names[i], tls->files[i]);
	else if (st.st_size > FILE_MAX)
		snprintf(why, TLS_WHY, "%s: %s: it is over %d bytes", names[i], tls->files[i], FILE_MAX);
	else if ((at = malloc(FILE_MAX + 1)) == NULL)
		snprintf(why, TLS_WHY, "no memory");
	else
		len = fread(at, 1, FILE_MAX, in);
	if (in != NULL)
		fclose(in);
	if (at == NULL)
		return -1;
	*out = (struct slice){at, len};
	return 0;
}

static void
free_file(struct slice *file)
{
	union {
		const uint8_t *in;
		uint8_t *out;
	} at = {.in = file->at};

	if (at.in == NULL)
		return;
	OPENSSL_cleanse(at.out, file->len);
	free(at.out);
}

static gnutls_datum_t
datum(struct slice file)
{
	union {
		const uint8_t *in;
		uint8_t *out; /* it only reads, but does not say so */
	} at = {.in = file.at};

	return (gnutls_datum_t){at.out, (unsigned)file.len};
}

static void
pair_free(struct tls_pair *pair)
{
	if (pair == NULL)
		return;
	if (pair->credentials != NULL)
		gnutls_certificate_free_credentials(pair->credentials);
	client_trust_free(pair->trust);
	free(pair);
}

/* The names of the authorities go to the client, so that it shows what may be good. */
static int
ask_clients(struct tls_pair *pair, const struct slice files[FILES], char why[TLS_WHY])
{
	gnutls_datum_t authorities = datum(files[AUTHORITIES]);
	char text[CLIENT_TRUST_WHY];

	pair->trust = client_trust_new(files[AUTHORITIES], files[LISTS], text);
	if (pair->trust == NULL) {
		snprintf(why, TLS_WHY, "%s: %s", names[files[LISTS].at == NULL ? AUTHORITIES : LISTS], text);
		return -1;
	}
	if (gnutls_certificate_set_x509_trust_mem(pair->credentials, &authorities, GNUTLS_X509_FMT_PEM) >= 0)
		return 0;
	snprintf(why, TLS_WHY, "%s can't be used", names[AUTHORITIES]);
	return -1;
}

static struct tls_pair *
make_pair(const struct slice files[FILES], char why[TLS_WHY])
{
	struct tls_pair *pair = calloc(1, sizeof *pair);
	gnutls_datum_t certificate = datum(files[CERTIFICATE]), key = datum(files[KEY]);
	int rc;

	snprintf(why, TLS_WHY, "no memory");
	if (pair == NULL || gnutls_certificate_allocate_credentials(&pair->credentials) != 0)
		goto fail;
	pair->users = 1;
	rc = gnutls_certificate_set_x509_key_mem2(pair->credentials, &certificate, &key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (rc < 0) {
		/* It ends its sentences, and we ours. */
		snprintf(why, TLS_WHY, "%s and %s: %.*s", names[CERTIFICATE], names[KEY],
			 (int)strcspn(gnutls_strerror(rc), "."), gnutls_strerror(rc));
		goto fail;
	}
	if (files[AUTHORITIES].at == NULL || ask_clients(pair, files, why) == 0)
		return pair;
fail:
	pair_free(pair);
	return NULL;
}

static struct tls_pair *
read_pair(const struct tls *tls, char why[TLS_WHY])
{
	struct slice files[FILES] = {{NULL, 0}};
	struct tls_pair *pair = NULL;
	int i = 0;

	while (i < FILES && (tls->files[i] == NULL || read_file(tls, i, &files[i], why) == 0))
		i++;
	if (i == FILES)
		pair = make_pair(files, why);
	for (i = 0; i < FILES; i++)
		free_file(&files[i]);
	return pair;
}

/* Under the lock. */
static void
give_back(struct tls_pair *pair)
{
	if (pair != NULL && --pair->users == 0)
		pair_free(pair);
}

void
tls_reload(struct tls *tls)
{
	struct stamp stamps[FILES];
	char why[TLS_WHY] = "";
	struct tls_pair *pair;

	stamp_all(tls, stamps);
	pair = read_pair(tls, why);
	if (pair == NULL)
		log_error("tls: %s; what was read before stays in use", why);
	else
		log_info("tls: certificate read file=%s", tls->files[CERTIFICATE]);
	pthread_mutex_lock(&tls->lock);
	memcpy(tls->tried, stamps, sizeof stamps);
	memcpy(tls->seen, stamps, sizeof stamps);
	if (pair != NULL) {
		give_back(tls->pair);
		tls->pair = pair;
		tls->generation++;
		why[0] = '\0';
	}
	memcpy(tls->trouble, why, sizeof why);
	pthread_mutex_unlock(&tls->lock);
}

void
tls_look(struct tls *tls)
{
	struct stamp stamps[FILES];
	bool due;

	stamp_all(tls, stamps);
	pthread_mutex_lock(&tls->lock);
	due = memcmp(stamps, tls->tried, sizeof stamps) != 0 && memcmp(stamps, tls->seen, sizeof stamps) == 0;
	memcpy(tls->seen, stamps, sizeof stamps);
	pthread_mutex_unlock(&tls->lock);
	if (due)
		tls_reload(tls);
}

bool
tls_trouble(struct tls *tls, int64_t now, char why[TLS_WHY])
{
	pthread_mutex_lock(&tls->lock);
	memcpy(why, tls->trouble, TLS_WHY);
	if (why[0] == '\0' && tls->pair->trust != NULL && client_trust_ends(tls->pair->trust) < now)
		snprintf(why, TLS_WHY, "%s: a list in it is past its time", names[LISTS]);
	pthread_mutex_unlock(&tls->lock);
	return why[0] != '\0';
}

struct tls *
tls_open(const struct settings *settings)
{
	struct tls *tls = calloc(1, sizeof *tls);
	char why[TLS_WHY] = "no memory";

	if (tls == NULL)
		return NULL;
	pthread_mutex_init(&tls->lock, NULL);
	tls->files[CERTIFICATE] = setting_given(settings->http_certificate);
	tls->files[KEY] = setting_given(settings->http_key);
	tls->files[AUTHORITIES] = setting_given(settings->http_client_ca);
	tls->files[LISTS] = setting_given(settings->http_client_crl);
	tls->priorities = strcmp(settings->http_tls, "1.2") == 0
				  ? "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" SUITES
				  : "SECURE128:-VERS-ALL:+VERS-TLS1.3" SUITES;
	stamp_all(tls, tls->tried);
	memcpy(tls->seen, tls->tried, sizeof tls->tried);
	tls->pair = read_pair(tls, why);
	if (tls->pair != NULL)
		return tls;
	log_error("tls: %s", why);
	tls_free(tls);
	return NULL;
}

void
tls_free(struct tls *tls)
{
	if (tls == NULL)
		return;
	give_back(tls->pair);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

const char *
tls_priorities(const struct tls *tls)
{
	return tls->priorities;
}

static int
find_none(gnutls_session_t session, const gnutls_datum_t *names_asked, int n, const gnutls_pk_algorithm_t *algorithms,
	  int algorithms_n, gnutls_pcert_st **pcert, unsigned *len, gnutls_privkey_t *key)
{
	(void)session, (void)names_asked, (void)n, (void)algorithms, (void)algorithms_n;
	*pcert = NULL;
	*len = 0;
	*key = NULL;
	return -1;
}

void *
tls_callback(void)
{
	union {
		gnutls_certificate_retrieve_function2 *function;
		void *pointer;
	} callback = {.function = find_none};

	return callback.pointer;
}

/* What is in force, until tls_leave. */
static struct tls_pair *
hold(struct tls *tls)
{
	struct tls_pair *pair;

	pthread_mutex_lock(&tls->lock);
	pair = tls->pair;
	pair->users++;
	pthread_mutex_unlock(&tls->lock);
	return pair;
}

struct tls_pair *
tls_enter(struct tls *tls, void *session)
{
	struct tls_pair *pair = hold(tls);

	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, pair->credentials);
	gnutls_handshake_set_max_packet_length(session, HANDSHAKE_MAX);
	if (pair->trust != NULL)
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
	return pair;
}

void
tls_leave(struct tls *tls, struct tls_pair *pair)
{
	pthread_mutex_lock(&tls->lock);
	give_back(pair);
	pthread_mutex_unlock(&tls->lock);
}

const char *
tls_client(struct tls *tls, void *session, int64_t now, struct slice *leaf)
{
	struct slice chain[SHOWN_MAX];
	const gnutls_datum_t *shown;
	struct tls_pair *pair;
	const char *fault;
	unsigned n = 0;

	*leaf = (struct slice){NULL, 0};
	shown = gnutls_certificate_get_peers(session, &n);
	if (shown == NULL || n == 0)
		return NULL;
	for (unsigned i = 0; i < n && i < SHOWN_MAX; i++)
		chain[i] = (struct slice){shown[i].data, shown[i].size};
	pair = hold(tls);
	fault = pair->trust == NULL ? "none is asked for"
				    : client_trust_judge(pair->trust, chain, n < SHOWN_MAX ? n : SHOWN_MAX, now);
	tls_leave(tls, pair);
	*leaf = chain[0];
	return fault;
}

unsigned
tls_generation(struct tls *tls)
{
	unsigned generation;

	pthread_mutex_lock(&tls->lock);
	generation = tls->generation;
	pthread_mutex_unlock(&tls->lock);
	return generation;
}
