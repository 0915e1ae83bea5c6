/*
 * A fleet's worth of reports, signed beforehand and then published as fast as wanted, so that what the collector costs can be measured apart from
 * making them. Devices have keys and certificates of a CA made for the run. QoS 1 over TLS, through the collectors' listener, whose access list the
 * bench opens for it.
 *	load DEVICES BROKER CA CERTIFICATE KEY ANCHOR
 * Writes the CA's certificate to ANCHOR and prints "ready". Each line "ROUNDS RATE ORDER" on standard input asks for so many reports of each device, at
 * RATE a second (0: as fast as they are taken), in turn (ORDER t) or one device's after another's (b: as backlogs, so as many in one message as go into
 * it): it signs them, prints "signed", waits for another line, publishes them, and prints how many messages that were in how many seconds. A device's first report has state, inventory and chain; the others are quiet.
 */
#include <MQTTAsync.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "schema/facts.h"
#include "schema/report.h"

#define OUTSTANDING 500
#define MESSAGE_MAX 4096

struct sender {
	struct ueid ueid;
	struct cose_key *key;
	struct slice certificate;
	char topic[LIMIT_TOPIC];
	uint64_t epoch, seq;
	uint8_t prev[DIGEST_SIZE];
};

struct message {
	const struct sender *sender;
	uint8_t *at;
	size_t len;
};

static struct {
	EVP_PKEY *key;
	X509 *certificate;
} authority;
static struct facts *facts;
static uint8_t state_bytes[MESSAGE_MAX], inventory_bytes[MESSAGE_MAX];
static struct slice state, inventory;
static uint8_t state_digest[DIGEST_SIZE], inventory_digest[DIGEST_SIZE], facts_digest[FACTS_SIZE];
static atomic_long outstanding, acknowledged;
static atomic_int connected;

static void
must(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "load: %s\n", what);
	exit(1);
}

/* Certificates. */

static void
add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	must(extension != NULL && X509_add_ext(certificate, extension, -1) == 1, "extension");
	X509_EXTENSION_free(extension);
}

static X509 *
make_certificate(EVP_PKEY *key, const char *name, int is_authority)
{
	X509 *certificate = X509_new();
	X509 *issuer = is_authority ? certificate : authority.certificate;
	X509_NAME *subject = X509_get_subject_name(certificate);
	uint64_t serial;

	must(getrandom(&serial, sizeof serial, 0) == (ssize_t)sizeof serial, "getrandom");
	X509_set_version(certificate, 2);
	ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400 * 30);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
	X509_set_pubkey(certificate, key);
	add_extension(certificate, issuer, NID_basic_constraints,
		      is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
	add_extension(certificate, issuer, NID_key_usage,
		      is_authority ? "critical,keyCertSign" : "critical,digitalSignature");
	must(X509_sign(certificate, authority.key, EVP_sha256()) > 0, "sign a certificate");
	return certificate;
}

static void
make_authority(const char *file)
{
	FILE *out = fopen(file, "w");

	authority.key = EVP_EC_gen("P-256");
	authority.certificate = make_certificate(authority.key, "bench-ca", 1);
	must(out != NULL && PEM_write_X509(out, authority.certificate) == 1 && fclose(out) == 0, "write the anchor");
}

/* The schema's codec takes keys by name only. */
static struct cose_key *
open_key(EVP_PKEY *key)
{
	char file[] = "/dev/shm/fleetstate-load-XXXXXX", error[256] = "";
	int fd = mkstemp(file);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	struct cose_key *opened;

	must(out != NULL && PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(out) == 0,
	     "write a key");
	opened = cose_key_open(file, error);
	unlink(file);
	must(opened != NULL, error);
	return opened;
}

static void
make_sender(struct sender *s)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	char name[UEID_HEX];
	uint8_t *der = NULL;
	X509 *certificate;
	int len;

	s->ueid.bytes[0] = 1;
	must(getrandom(s->ueid.bytes + 1, UEID_SIZE - 1, 0) == UEID_SIZE - 1 &&
		     getrandom(&s->epoch, sizeof s->epoch, 0) == (ssize_t)sizeof s->epoch,
	     "getrandom");
	ueid_print(&s->ueid, name);
	topic_print_report(&s->ueid, s->topic, sizeof s->topic);
	certificate = make_certificate(key, name, 0);
	len = i2d_X509(certificate, &der);
	must(len > 0, "encode a certificate");
	s->certificate = (struct slice){der, (size_t)len};
	s->key = open_key(key);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* Reports. */

static void
make_sections(void)
{
	static const char *const packages[] = {"busybox", "dropbear", "linux-image"};
	struct cbor_writer w;

	facts = facts_new();
	facts_set_text(facts, FACT_DEVICE_VENDOR, "acme");
	facts_set_text(facts, FACT_DEVICE_HWMODEL, "gate-2");
	facts_set_text(facts, FACT_DEVICE_SWVERSION, "3.1.4");
	facts_set_text(facts, FACT_OS_KERNEL, "6.1.0-18");
	cbor_writer_init(&w, state_bytes, sizeof state_bytes);
	facts_encode_state(facts, &w);
	state = (struct slice){state_bytes, w.len};
	cbor_writer_init(&w, inventory_bytes, sizeof inventory_bytes);
	cbor_write_array(&w, 3);
	for (size_t i = 0; i < 3; i++)
		component_encode(&(struct component){.type = COMPONENT_OPKG,
						     .name = {(const uint8_t *)packages[i], strlen(packages[i])},
						     .version = {(const uint8_t *)"1", 1}},
				 &w);
	inventory = (struct slice){inventory_bytes, w.len};
	sha256(state, state_digest);
	sha256(inventory, inventory_digest);
	report_facts_digest(state_digest, inventory_digest, facts_digest);
}

static void
sign_report(struct sender *s, struct message *m)
{
	int first = s->seq++ == 0;
	struct report r = {.iat = (uint64_t)time(NULL),
			   .ueid = s->ueid,
			   .bootcount = 1,
			   .seq = s->seq,
			   .epoch = s->epoch,
			   .interval = 300};
	uint8_t payload[MESSAGE_MAX], out[2 * MESSAGE_MAX];
	struct cbor_writer w;

	memcpy(r.facts, facts_digest, FACTS_SIZE);
	r.has_prev = !first;
	memcpy(r.prev, s->prev, DIGEST_SIZE);
	if (first) {
		r.state = state;
		r.inventory = inventory;
		memcpy(r.inventory_digest, inventory_digest, DIGEST_SIZE);
	}
	cbor_writer_init(&w, payload, sizeof payload);
	report_encode(&r, &w);
	must(!w.overflow, "report too large");
	m->sender = s;
	m->len = cose_sign(s->key, &s->certificate, first ? 1 : 0, (struct slice){payload, w.len}, out, sizeof out);
	must(m->len > 0, "sign");
	m->at = malloc(m->len);
	must(m->at != NULL, "memory");
	memcpy(m->at, out, m->len);
	sha256((struct slice){m->at, m->len}, s->prev);
}

/* Publishing. */

static void
on_connected(void *context, MQTTAsync_successData5 *data)
{
	(void)context;
	(void)data;
	atomic_store(&connected, 1);
}

static void
on_refused(void *context, MQTTAsync_failureData5 *data)
{
	(void)context;
	fprintf(stderr, "load: broker: %s\n",
		data->message == NULL ? MQTTReasonCode_toString(data->reasonCode) : data->message);
	exit(1);
}

static void
on_published(void *context, MQTTAsync_successData5 *data)
{
	(void)context;
	must(data->reasonCode == MQTTREASONCODE_SUCCESS, MQTTReasonCode_toString(data->reasonCode));
	atomic_fetch_sub(&outstanding, 1);
	atomic_fetch_add(&acknowledged, 1);
}

static int
on_message(void *context, char *topic, int len, MQTTAsync_message *message)
{
	(void)context;
	(void)len;
	MQTTAsync_freeMessage(&message);
	MQTTAsync_free(topic);
	return 1;
}

static void
nap(long us)
{
	nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

static MQTTAsync
connect_to(char **argv)
{
	MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
	MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
	MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
	MQTTAsync client;

	create.maxBufferedMessages = 2 * OUTSTANDING;
	must(MQTTAsync_createWithOptions(&client, argv[0], "fleetstate-load", MQTTCLIENT_PERSISTENCE_NONE, NULL,
					 &create) == MQTTASYNC_SUCCESS,
	     "paho");
	MQTTAsync_setCallbacks(client, NULL, NULL, on_message, NULL);
	ssl.trustStore = argv[1];
	ssl.keyStore = argv[2];
	ssl.privateKey = argv[3];
	ssl.verify = 1;
	options.ssl = &ssl;
	options.maxInflight = 2 * OUTSTANDING;
	options.onSuccess5 = on_connected;
	options.onFailure5 = on_refused;
	must(MQTTAsync_connect(client, &options) == MQTTASYNC_SUCCESS, "connect");
	while (!atomic_load(&connected))
		nap(1000);
	return client;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
publish(MQTTAsync client, const struct message *messages, size_t n, double rate)
{
	MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
	double begun = now();

	response.onSuccess5 = on_published;
	response.onFailure5 = on_refused;
	atomic_store(&acknowledged, 0);
	for (size_t i = 0; i < n; i++) {
		while (atomic_load(&outstanding) >= OUTSTANDING || (rate > 0 && now() - begun < (double)i / rate))
			nap(500);
		atomic_fetch_add(&outstanding, 1);
		must(MQTTAsync_send(client, messages[i].sender->topic, (int)messages[i].len, messages[i].at, 1, 0,
				    &response) == MQTTASYNC_SUCCESS,
		     "send");
	}
	while (atomic_load(&acknowledged) < (long)n)
		nap(1000);
	printf("%zu %.3f\n", n, now() - begun);
	fflush(stdout);
}

/* Puts those of one device behind one another. Returns how many messages are left. */
static size_t
join(struct message *messages, size_t n)
{
	size_t joined = 0;

	for (size_t i = 1; i < n; i++) {
		struct message *to = &messages[joined], *from = &messages[i];

		if (to->sender != from->sender || from->len > LIMIT_SEQUENCE || to->len > LIMIT_SEQUENCE - from->len) {
			messages[++joined] = *from;
			continue;
		}
		to->at = realloc(to->at, to->len + from->len);
		must(to->at != NULL, "memory");
		memcpy(to->at + to->len, from->at, from->len);
		to->len += from->len;
		free(from->at);
	}
	return joined + 1;
}

static int
play(MQTTAsync client, struct sender *senders, size_t devices, size_t rounds, double rate, char order)
{
	size_t n = rounds * devices;
	struct message *messages = calloc(n, sizeof *messages);
	char line[16];
	int asked;

	must(messages != NULL, "memory");
	for (size_t i = 0; i < n; i++)
		sign_report(&senders[order == 'b' ? i / rounds : i % devices], &messages[i]);
	if (order == 'b')
		n = join(messages, n);
	puts("signed");
	fflush(stdout);
	asked = fgets(line, sizeof line, stdin) != NULL;
	if (asked)
		publish(client, messages, n, rate);
	for (size_t i = 0; i < n; i++)
		free(messages[i].at);
	free(messages);
	return asked;
}

int
main(int argc, char **argv)
{
	size_t devices, rounds;
	double rate;
	struct sender *senders;
	MQTTAsync client;
	char line[64], order;

	must(argc == 7, "DEVICES BROKER CA CERTIFICATE KEY ANCHOR");
	devices = strtoul(argv[1], NULL, 10);
	make_authority(argv[6]);
	make_sections();
	senders = calloc(devices, sizeof *senders);
	must(senders != NULL, "memory");
	for (size_t i = 0; i < devices; i++)
		make_sender(&senders[i]);
	client = connect_to(argv + 2);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL) {
		must(sscanf(line, "%zu %lf %c", &rounds, &rate, &order) == 3, "ROUNDS RATE ORDER");
		if (!play(client, senders, devices, rounds, rate, order))
			break;
	}
	MQTTAsync_disconnect(client, &(MQTTAsync_disconnectOptions)MQTTAsync_disconnectOptions_initializer5);
	return 0;
}
