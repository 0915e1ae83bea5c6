#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/jwt.h"
#include "schema/ecdsa.h"

#define NOW INT64_C(1800000000)
#define TEXT(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static const struct jwt_rules rules = {
	.issuer = "https://login.example",
	.audience = "fleet",
	.leeway_s = 10,
	.tenant_claim = "https://fleet.example/tenant",
	.tenants = "a=b=acme g=globex",
	.role_claim = "x.roles",
	.roles = "look=viewer all=operator",
	.name_claim = "name",
};

static EVP_PKEY *rsa, *ec;
static struct jwk_set *keys;

static char *
encode(struct slice bytes)
{
	char *out = malloc(bytes.len / 3 * 4 + 5);

	base64url_encode(bytes.at, bytes.len, out);
	return out;
}

/* Header and claims as they are, signed by the key that the header's algorithm wants. */
static char *
make(const char *header, const char *claims)
{
	EVP_PKEY *key = strstr(header, "RS256") != NULL ? rsa : ec;
	uint8_t signature[512], raw[64];
	size_t len = sizeof signature;
	char *h = encode((struct slice){(const uint8_t *)header, strlen(header)});
	char *c = encode((struct slice){(const uint8_t *)claims, strlen(claims)}), *s, *out;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int n;

	out = malloc(strlen(h) + strlen(c) + 1024);
	n = sprintf(out, "%s.%s", h, c);
	assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(EVP_DigestSign(context, signature, &len, (const unsigned char *)out, (size_t)n), 1);
	EVP_MD_CTX_free(context);
	if (key == ec) {
		assert_int_equal(ecdsa_parse((struct slice){signature, len}, 64, raw), 0);
		s = encode((struct slice){raw, 64});
	} else {
		s = encode((struct slice){signature, len});
	}
	sprintf(out + n, ".%s", s);
	free(h);
	free(c);
	free(s);
	return out;
}

static enum jwt_refusal
judge_by(const struct jwt_rules *by, const char *header, const char *claims, struct jwt *out)
{
	char *text = make(header, claims);
	enum jwt_refusal refusal = jwt_verify(keys, by, text, NOW, out);

	free(text);
	return refusal;
}

#define GOOD_HEADER "{\"alg\":\"ES256\",\"kid\":\"e\"}"
#define CLAIMS(more)                                                                                                   \
	"{\"iss\":\"https://login.example\",\"aud\":\"fleet\",\"sub\":\"s\",\"https://fleet.example/"                  \
	"tenant\":\"a=b\"," more "}"
#define GOOD CLAIMS("\"exp\":1800000100,\"x\":{\"roles\":[\"look\"]}")

static void
append(char *out, const char *name, EVP_PKEY *key, const char *parameter)
{
	BIGNUM *number = NULL;
	uint8_t bytes[512];
	int len;
	char *text;

	assert_int_equal(EVP_PKEY_get_bn_param(key, parameter, &number), 1);
	len = key == ec ? BN_bn2binpad(number, bytes, 32) : BN_bn2bin(number, bytes);
	text = encode((struct slice){bytes, (size_t)len});
	sprintf(out + strlen(out), ",\"%s\":\"%s\"", name, text);
	free(text);
	BN_free(number);
}

/* A key with further members. */
static const char *
key_of(EVP_PKEY *key, const char *more)
{
	static char text[2048];

	sprintf(text, "{\"kty\":\"%s\"%s", key == ec ? "EC" : "RSA", more);
	append(text, key == ec ? "x" : "n", key, key == ec ? OSSL_PKEY_PARAM_EC_PUB_X : OSSL_PKEY_PARAM_RSA_N);
	append(text, key == ec ? "y" : "e", key, key == ec ? OSSL_PKEY_PARAM_EC_PUB_Y : OSSL_PKEY_PARAM_RSA_E);
	return strcat(text, "}");
}

/* How many keys of the list, which may be no JSON at all, are taken; -1: the whole is refused. */
static int
count_keys(const char *list)
{
	char text[8192], why[JWT_WHY_SIZE] = "";
	struct jwk_set *set;
	int n = -1;

	snprintf(text, sizeof text, "{\"keys\":[%s]}", list);
	set = jwk_set_parse((struct slice){(const uint8_t *)text, strlen(text)}, why);
	assert_true((set == NULL) == (why[0] != '\0'));
	if (set != NULL)
		n = (int)jwk_set_len(set);
	jwk_set_free(set);
	return n;
}

static int
setup(void **state)
{
	char list[4096], text[8192], why[JWT_WHY_SIZE];

	(void)state;
	rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	sprintf(list, "%s,", key_of(ec, ",\"crv\":\"P-256\",\"kid\":\"e\",\"use\":\"sig\""));
	strcat(list, key_of(rsa, ",\"kid\":\"r\",\"alg\":\"RS256\",\"key_ops\":[\"verify\"]"));
	sprintf(text, "{\"keys\":[%s]}", list);
	keys = jwk_set_parse((struct slice){(const uint8_t *)text, strlen(text)}, why);
	return keys != NULL && jwk_set_len(keys) == 2 ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	jwk_set_free(keys);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(ec);
	return 0;
}

static void
test_keys(void **state)
{
	static const char curve[] = ",\"crv\":\"P-256\"";
	EVP_PKEY *small = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), *kept = rsa;
	char text[256];
	const struct {
		EVP_PKEY *key;
		const char *more;
		int n;
	} rows[] = {
		{ec, ",\"crv\":\"P-256\",\"kid\":\"k\"", 1},
		{rsa, ",\"kid\":\"k\"", 1},
		{rsa, ",\"kid\":\"k\",\"x5c\":[\"AA\"],\"x\":1", 1},
		{ec, ",\"kid\":\"k\"", -1}, /* of no curve */
		{ec, ",\"crv\":\"P-384\",\"kid\":\"k\"", -1},
		{ec, curve, -1}, /* nameless */
		{rsa, ",\"kid\":\"\"", -1},
		{rsa, ",\"kid\":7", -1},
		{rsa, ",\"kid\":\"k\",\"use\":\"enc\"", -1},
		{rsa, ",\"kid\":\"k\",\"use\":1", -1},
		{rsa, ",\"kid\":\"k\",\"alg\":\"RS512\"", -1},
		{rsa, ",\"kid\":\"k\",\"alg\":\"HS256\"", -1},
		{rsa, ",\"kid\":\"k\",\"alg\":\"ES256\"", -1},
		{rsa, ",\"kid\":\"k\",\"alg\":null", -1},
		{rsa, ",\"kid\":\"k\",\"key_ops\":[\"sign\"]", -1},
		{rsa, ",\"kid\":\"k\",\"key_ops\":\"verify\"", -1},
		{rsa, ",\"kid\":\"k\",\"kid\":\"k\"", -1}, /* the whole is no good then */
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(count_keys(key_of(rows[i].key, rows[i].more)), rows[i].n);
	rsa = small;
	assert_int_equal(count_keys(key_of(rsa, ",\"kid\":\"k\"")), -1);
	rsa = kept;
	EVP_PKEY_free(small);
	/* Points that are none, and numbers in another spelling. */
	for (int i = 0; i < 3; i++) {
		static const char *const xs[] = {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AA", "!"};

		sprintf(text, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k\",\"x\":\"%s\",\"y\":\"%s\"}", xs[i],
			xs[i]);
		assert_int_equal(count_keys(text), -1);
	}
	assert_int_equal(count_keys("{\"kty\":\"RSA\",\"kid\":\"k\",\"n\":\"AQAB\",\"e\":\"AQAB\"}"), -1);
	assert_int_equal(count_keys("{\"kty\":\"oct\",\"kid\":\"k\",\"k\":\"AQAB\"}"), -1);
	assert_int_equal(count_keys("1,\"a\",[],null"), -1);
	assert_int_equal(count_keys(""), -1);
	assert_int_equal(count_keys("]"), -1);
}

static void
test_what_is_taken(void **state)
{
	struct jwt jwt;

	(void)state;
	assert_int_equal(judge_by(&rules, GOOD_HEADER, GOOD, &jwt), JWT_OK);
	assert_string_equal(jwt.subject, "s");
	assert_string_equal(jwt.name, "s");
	assert_string_equal(jwt.tenant, "acme");
	assert_int_equal(jwt.role, ROLE_VIEWER);
	assert_int_equal(jwt.scopes, 0);
	assert_int_equal(jwt.expires, NOW + 100);
	assert_int_equal(
		judge_by(&rules,
			 "{\"typ\":\"at+JWT\",\"alg\":\"RS256\",\"kid\":\"r\",\"jku\":\"https://x\",\"jwk\":{}}",
			 CLAIMS("\"exp\":1799999990.5,\"nbf\":1800000010,\"iat\":1800000010,\"name\":\"n\",\"x\":{"
				"\"roles\":\"all look\"}"),
			 &jwt),
		JWT_EXPIRED);
	assert_int_equal(
		judge_by(&rules,
			 "{\"typ\":\"at+JWT\",\"alg\":\"RS256\",\"kid\":\"r\",\"jku\":\"https://x\",\"jwk\":{}}",
			 CLAIMS("\"exp\":1799999991.5,\"nbf\":1800000010,\"iat\":1800000010,\"name\":\"n\",\"x\":{"
				"\"roles\":\"all look\"}"),
			 &jwt),
		JWT_OK);
	assert_int_equal(jwt.role, ROLE_OPERATOR);
	assert_string_equal(jwt.name, "n");
	assert_string_equal(jwt.tenant, "");
	assert_int_equal(judge_by(&rules, GOOD_HEADER, CLAIMS("\"exp\":1800000100,\"x\":{\"roles\":\" \"}"), &jwt),
			 JWT_ROLE);
}

static void
test_scopes(void **state)
{
	struct jwt_rules narrow = rules;
	struct jwt jwt;

	(void)state;
	narrow.scope_claim = "scp";
	assert_int_equal(judge_by(&narrow, GOOD_HEADER, GOOD, &jwt), JWT_SCOPES);
	assert_int_equal(
		judge_by(&narrow, GOOD_HEADER,
			 CLAIMS("\"exp\":1800000100,\"scp\":\"openid state any fleet\",\"x\":{\"roles\":[\"look\"]}"),
			 &jwt),
		JWT_OK);
	assert_int_equal(jwt.scopes, SCOPE_BIT(SCOPE_STATE) | SCOPE_BIT(SCOPE_FLEET));
	narrow.scopes = "Fleet.Read=fleet";
	assert_int_equal(judge_by(&narrow, GOOD_HEADER,
				  CLAIMS("\"exp\":1800000100,\"scp\":\"state\",\"x\":{\"roles\":[\"look\"]}"), &jwt),
			 JWT_SCOPES);
	assert_int_equal(judge_by(&narrow, GOOD_HEADER,
				  CLAIMS("\"exp\":1800000100,\"scp\":[\"Fleet.Read\"],\"x\":{\"roles\":[\"look\"]}"),
				  &jwt),
			 JWT_OK);
	assert_int_equal(jwt.scopes, SCOPE_BIT(SCOPE_FLEET));
}

static void
test_maps(void **state)
{
	(void)state;
	assert_null(jwt_roles_fault(NULL));
	assert_null(jwt_roles_fault("a=viewer b=c=admin"));
	assert_string_equal(jwt_roles_fault("a=viewer b"), "b");
	assert_string_equal(jwt_roles_fault("a=none"), "a=none");
	assert_string_equal(jwt_roles_fault("=viewer"), "=viewer");
	assert_null(jwt_scopes_fault("a=state"));
	assert_string_equal(jwt_scopes_fault("a=any"), "a=any");
}

/* Every character of a token matters: none can be exchanged or left out, and a shorter one is none. */
static void
test_every_character(void **state)
{
	char *text = make(GOOD_HEADER, GOOD);
	size_t len = strlen(text);
	struct jwt jwt;

	(void)state;
	for (size_t i = 0; i < len; i++) {
		char kept = text[i];

		text[i] = kept == 'A' ? 'B' : 'A';
		assert_int_not_equal(jwt_verify(keys, &rules, text, NOW, &jwt), JWT_OK);
		text[i] = '\0';
		assert_int_not_equal(jwt_verify(keys, &rules, text, NOW, &jwt), JWT_OK);
		text[i] = kept;
	}
	assert_int_equal(jwt_verify(keys, &rules, text, NOW, &jwt), JWT_OK);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys), cmocka_unit_test(test_what_is_taken),   cmocka_unit_test(test_scopes),
		cmocka_unit_test(test_maps), cmocka_unit_test(test_every_character),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
