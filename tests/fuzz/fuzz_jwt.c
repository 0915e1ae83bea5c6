/* What identity providers and their tokens say, and client certificates: the first byte chooses a set of keys, a token, the header or the claims of a token whose
   signature is good, or a certificate. What is taken says who it is. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/client_certificate.h"
#include "collector/jwt.h"
#include "schema/ecdsa.h"

#define NOW INT64_C(1800000000)
#define TEXT_MAX (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Made for this, and of use for nothing else. */
static const char private_key[] = "-----BEGIN PRIVATE KEY-----\n"
				  "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgY0n6OTiRkZCBZ2xB\n"
				  "1ROO69JYoKkQAcpXwX8ZjbcEIwmhRANCAAS6iKz1EMsg9cBaS5OmXpbCydKbhPoQ\n"
				  "JJIwvyIxeViOpv8gcwtbev2jSQ76HiYugKUO2BxXrUxTz9d8stpClwMs\n"
				  "-----END PRIVATE KEY-----\n";
static const char key_set[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k\",\"x\":"
			      "\"uois9RDLIPXAWkuTpl6WwsnSm4T6ECSSML8iMXlYjqY\","
			      "\"y\":\"_yBzC1t6_aNJDvoeJi6ApQ7YHFetTFPP13yy2kKXAyw\"}]}";
static const struct jwt_rules rules = {
	.issuer = "i",
	.audience = "a",
	.leeway_s = 30,
	.tenant_claim = "t",
	.role_claim = "r.s",
	.roles = "v=viewer o=operator",
	.scope_claim = "scp",
	.name_claim = "n",
};

static EVP_PKEY *key;
static struct jwk_set *keys;

static void
prepare(void)
{
	BIO *in = BIO_new_mem_buf(private_key, -1);
	char why[JWT_WHY_SIZE];

	key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
	BIO_free(in);
	keys = jwk_set_parse((struct slice){(const uint8_t *)key_set, strlen(key_set)}, why);
	if (key == NULL || keys == NULL)
		abort();
}

static void
judge(const char *text)
{
	struct jwt jwt;
	enum jwt_refusal refusal = jwt_verify(keys, &rules, text, NOW, &jwt);

	if (refusal != JWT_OK) {
		if (jwt_why(refusal) == NULL)
			abort();
		return;
	}
	if (jwt.subject[0] == '\0' || jwt.name[0] == '\0' || jwt.scopes == 0 || jwt.expires + rules.leeway_s <= NOW ||
	    (jwt.role == ROLE_VIEWER) != (jwt.tenant[0] != '\0') ||
	    (jwt.role != ROLE_VIEWER && jwt.role != ROLE_OPERATOR))
		abort();
}

static void
sign(const uint8_t *header, size_t header_len, const uint8_t *claims, size_t claims_len)
{
	static char text[TEXT_MAX];
	uint8_t der[256], raw[64];
	size_t len = sizeof der;
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	base64url_encode(header, header_len, text);
	strcat(text, ".");
	base64url_encode(claims, claims_len, text + strlen(text));
	if (EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) != 1 ||
	    EVP_DigestSign(context, der, &len, (const uint8_t *)text, strlen(text)) != 1 ||
	    ecdsa_parse((struct slice){der, len}, sizeof raw, raw) < 0)
		abort();
	EVP_MD_CTX_free(context);
	strcat(text, ".");
	base64url_encode(raw, sizeof raw, text + strlen(text));
	judge(text);
}

static void
read_keys(struct slice json)
{
	char why[JWT_WHY_SIZE] = "";
	struct jwk_set *set = jwk_set_parse(json, why);

	if (set == NULL ? why[0] == '\0' : jwk_set_len(set) == 0 || jwk_set_len(set) > JWK_SET_KEYS)
		abort();
	jwk_set_free(set);
}

static void
read_certificate(struct slice der)
{
	static struct certificate_marks marks;

	if (certificate_marks(der, &marks) < 0)
		return;
	if (marks.n == 0 || marks.n > CERTIFICATE_MARKS)
		abort();
	for (size_t i = 0; i < marks.n; i++)
		if (!certificate_mark_ok(marks.text[i]))
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char header[] = "{\"alg\":\"ES256\",\"kid\":\"k\"}";
	static const char claims[] =
		"{\"iss\":\"i\",\"aud\":\"a\",\"sub\":\"s\",\"exp\":1800000100,\"t\":\"x\",\"r\":{\"s\":\"v\"},"
		"\"scp\":\"state\"}";
	char *text;

	if (key == NULL)
		prepare();
	if (size == 0 || size > 16384)
		return 0;
	switch (data[0]) {
	case 'k':
		read_keys((struct slice){data + 1, size - 1});
		break;
	case 'h':
		sign(data + 1, size - 1, (const uint8_t *)claims, strlen(claims));
		break;
	case 'c':
		sign((const uint8_t *)header, strlen(header), data + 1, size - 1);
		break;
	case 'x':
		read_certificate((struct slice){data + 1, size - 1});
		break;
	default:
		text = malloc(size);
		memcpy(text, data + 1, size - 1);
		text[size - 1] = '\0';
		judge(text);
		free(text);
	}
	return 0;
}
