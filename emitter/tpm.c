#include "emitter/tpm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "emitter/text.h"

#define PATIENCE_MS 3000 /* for all commands: a discrete TPM takes a tenth of a second for each */
#define CHUNK 512 /* bytes of stored data that any TPM gives at once */
#define CERTIFICATE_MAX 4096
#define HEADER 10

enum { TAG_PLAIN = 0x8001, TAG_SESSIONS = 0x8002 };
enum { CC_NV_READ = 0x14e, CC_NV_READ_PUBLIC = 0x169, CC_READ_PUBLIC = 0x173 };
#define PASSWORD UINT32_C(0x40000009) /* TPM_RS_PW: authorised by an empty password */

/* TCG EK Credential Profile 2.2.1.4 and 2.2.1.5, TCG Provisioning Guidance 7.8. The RSA key first: it is what most makers certify. */
static const uint32_t certificates[] = {0x01c00002, 0x01c0000a, 0x01c00012, 0x01c00014, 0x01c00016, 0x01c0001c};
static const uint32_t keys[] = {0x81010001, 0x81010002, 0x81010016};

static uint32_t
big_endian(const uint8_t *at, size_t len)
{
	uint32_t number = 0;

	for (size_t i = 0; i < len; i++)
		number = number << 8 | at[i];
	return number;
}

/* Takes a number, or what a 16-bit length announces, off the front. */
static bool
take_number(struct slice *text, size_t len, uint32_t *out)
{
	if (text->len < len)
		return false;
	*out = big_endian(text->at, len);
	text->at += len;
	text->len -= len;
	return true;
}

static bool
take_sized(struct slice *text, struct slice *out)
{
	uint32_t len;

	if (!take_number(text, 2, &len) || len > text->len)
		return false;
	*out = (struct slice){text->at, len};
	text->at += len;
	text->len -= len;
	return true;
}

bool
tpm_response_parse(struct slice response, uint32_t *code, struct slice *parameters)
{
	uint32_t tag, size;
	size_t len = response.len;

	if (!take_number(&response, 2, &tag) || (tag != TAG_PLAIN && tag != TAG_SESSIONS && tag != 0x00c4) ||
	    !take_number(&response, 4, &size) || size != len || !take_number(&response, 4, code))
		return false;
	*parameters = response;
	return true;
}

/* A TPM2B_NV_PUBLIC: index, hash, attributes, policy, size of the data. */
bool
tpm_nv_public_parse(struct slice parameters, uint16_t *size)
{
	struct slice area, policy;
	uint32_t index, hash, attributes, data;

	if (!take_sized(&parameters, &area) || !take_number(&area, 4, &index) || !take_number(&area, 2, &hash) ||
	    !take_number(&area, 4, &attributes) || !take_sized(&area, &policy) || !take_number(&area, 2, &data) ||
	    area.len > 0)
		return false;
	*size = (uint16_t)data;
	return true;
}

/* With sessions there is the length of the parameters first. */
bool
tpm_nv_data_parse(struct slice parameters, struct slice *data)
{
	uint32_t len;

	if (!take_number(&parameters, 4, &len) || len > parameters.len)
		return false;
	parameters.len = len;
	return take_sized(&parameters, data) && parameters.len == 0;
}

bool
tpm_public_parse(struct slice parameters, struct slice *area)
{
	return take_sized(&parameters, area) && area->len > 0;
}

bool
tpm_certificate_trim(struct slice stored, struct slice *der)
{
	const size_t head = 4;
	size_t len;

	if (stored.len < head || stored.at[0] != 0x30 || stored.at[1] != 0x82)
		return false;
	len = big_endian(stored.at + 2, 2) + head;
	if (len > stored.len)
		return false;
	*der = (struct slice){stored.at, len};
	return true;
}

bool
pubek_parse(struct slice text, uint8_t modulus[256])
{
	struct slice line, word;
	bool begun = false;
	uint64_t byte;
	size_t len = 0;

	while (text_line(&text, &line)) {
		if (!begun) {
			begun = text_is(text_trim(line), "Modulus:");
			continue;
		}
		while (text_word(&line, &word)) {
			if (word.len != 2 || !text_number(word, 16, &byte) || len == 256)
				return false;
			modulus[len++] = (uint8_t)byte;
		}
	}
	return len == 256;
}

struct tpm {
	int fd;
	struct timespec end;
	uint8_t response[TPM_RESPONSE];
};

static int
milliseconds_left(const struct tpm *tpm)
{
	struct timespec now;
	int64_t left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = (tpm->end.tv_sec - now.tv_sec) * 1000 + (tpm->end.tv_nsec - now.tv_nsec) / 1000000;
	return left > 0 ? (int)left : 0;
}

static bool
wait_for(const struct tpm *tpm, short events)
{
	struct pollfd fd = {tpm->fd, events, 0};
	int ready;

	do
		ready = poll(&fd, 1, milliseconds_left(tpm));
	while (ready < 0 && errno == EINTR);
	if (ready == 0)
		errno = ETIMEDOUT;
	return ready > 0;
}

/* A device gives a response whole, a socket maybe in pieces. */
static bool
exchange(struct tpm *tpm, const uint8_t *command, size_t len, uint32_t *code, struct slice *parameters)
{
	size_t got = 0;
	ssize_t n;

	if (!wait_for(tpm, POLLOUT) || write(tpm->fd, command, len) != (ssize_t)len)
		return false;
	do {
		if (!wait_for(tpm, POLLIN))
			return false;
		n = read(tpm->fd, tpm->response + got, sizeof tpm->response - got);
		if (n <= 0) {
			errno = n == 0 ? EPROTO : errno;
			return false;
		}
		got += (size_t)n;
	} while (got < HEADER || (got < big_endian(tpm->response + 2, 4) && got < sizeof tpm->response));
	if (tpm_response_parse((struct slice){tpm->response, got}, code, parameters))
		return true;
	errno = EPROTO;
	return false;
}

static size_t
put(uint8_t *out, size_t at, uint32_t number, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[at + i] = (uint8_t)(number >> 8 * (len - 1 - i));
	return at + len;
}

static bool
ask(struct tpm *tpm, uint32_t command, uint32_t handle, uint32_t *code, struct slice *parameters)
{
	uint8_t bytes[HEADER + 4];

	(void)put(bytes, put(bytes, put(bytes, put(bytes, 0, TAG_PLAIN, 2), sizeof bytes, 4), command, 4), handle, 4);
	return exchange(tpm, bytes, sizeof bytes, code, parameters);
}

/* The index authorises itself, with the empty password that the profile gives it. */
static bool
read_stored(struct tpm *tpm, uint32_t index, size_t size, size_t from, uint32_t *code, struct slice *parameters)
{
	uint8_t bytes[HEADER + 4 + 4 + 4 + 9 + 2 + 2];
	size_t len = put(bytes, put(bytes, put(bytes, 0, TAG_SESSIONS, 2), sizeof bytes, 4), CC_NV_READ, 4);

	len = put(bytes, put(bytes, len, index, 4), index, 4);
	len = put(bytes, put(bytes, put(bytes, len, 9, 4), PASSWORD, 4), 0, 2); /* no nonce */
	len = put(bytes, put(bytes, len, 0, 1), 0, 2); /* no attributes, no password */
	len = put(bytes, put(bytes, len, (uint32_t)size, 2), (uint32_t)from, 2);
	return exchange(tpm, bytes, len, code, parameters);
}

/* 1: `digest` is set; 0: nothing is stored there; -1: the TPM does not answer. */
static int
certificate(struct tpm *tpm, uint32_t index, uint8_t digest[DIGEST_SIZE])
{
	uint8_t stored[CERTIFICATE_MAX];
	struct slice parameters, data, der;
	uint16_t size;
	uint32_t code;

	if (!ask(tpm, CC_NV_READ_PUBLIC, index, &code, &parameters))
		return -1;
	if (code != 0 || !tpm_nv_public_parse(parameters, &size) || size > sizeof stored)
		return 0;
	for (size_t from = 0, part; from < size; from += part) {
		part = size - from < CHUNK ? size - from : CHUNK;
		if (!read_stored(tpm, index, part, from, &code, &parameters))
			return -1;
		if (code != 0 || !tpm_nv_data_parse(parameters, &data) || data.len != part)
			return 0;
		memcpy(stored + from, data.at, part);
	}
	if (!tpm_certificate_trim((struct slice){stored, size}, &der))
		return 0;
	sha256(der, digest);
	return 1;
}

static int
key(struct tpm *tpm, uint32_t handle, uint8_t digest[DIGEST_SIZE])
{
	struct slice parameters, area;
	uint32_t code;

	if (!ask(tpm, CC_READ_PUBLIC, handle, &code, &parameters))
		return -1;
	if (code != 0 || !tpm_public_parse(parameters, &area))
		return 0;
	sha256(area, digest);
	return 1;
}

static int
open_tpm(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return -1;
	if (S_ISCHR(st.st_mode))
		return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (!S_ISSOCK(st.st_mode) || strlen(path) >= sizeof address.sun_path) {
		errno = ENOTTY;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int
tpm_endorsement(const char *path, uint8_t digest[DIGEST_SIZE])
{
	struct tpm tpm = {.fd = open_tpm(path)};
	int found = 0, error;

	if (tpm.fd < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &tpm.end);
	tpm.end.tv_sec += PATIENCE_MS / 1000;
	for (size_t i = 0; i < sizeof certificates / sizeof certificates[0] && found == 0; i++)
		found = certificate(&tpm, certificates[i], digest);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0] && found == 0; i++)
		found = key(&tpm, keys[i], digest);
	error = found == 0 ? ENODATA : errno;
	close(tpm.fd);
	errno = error;
	return found > 0 ? 0 : -1;
}
