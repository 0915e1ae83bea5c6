#include "collector/jwt.h"

#include <jansson.h>
#include <math.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/ecdsa.h"

#define KID_MAX 256
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define RSA_BYTES_MAX (RSA_BITS_MAX / 8)
#define P256_BYTES 32
#define TIME_LAST 253402300799.0 /* the year 9999 */
#define STRICT (JSON_REJECT_DUPLICATES)

const char *
jwt_why(enum jwt_refusal refusal)
{
	static const char *const texts[] = {
#define JWT_REFUSAL(symbol, why) [JWT_##symbol] = why,
#include "collector/jwt_refusals.def"
#undef JWT_REFUSAL
	};

	return texts[refusal];
}

/* Keys. */

enum algorithm { RS256, ES256 };

static const struct {
	const char *name, *type; /* of a token, of a key */
} algorithms[] = {[RS256] = {"RS256", "RSA"}, [ES256] = {"ES256", "EC"}};

#define ALGORITHMS (sizeof algorithms / sizeof *algorithms)

struct jwk {
	char *kid;
	enum algorithm algorithm;
	EVP_PKEY *key;
};

struct jwk_set {
	struct jwk keys[JWK_SET_KEYS];
	size_t len;
};

static const char *
member(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

/* Bytes of a text in base64url: 3 for each 4 characters. 0: it has not that form, or more than `max`. */
static size_t
decode(const char *text, uint8_t *out, size_t max)
{
	size_t chars = text == NULL ? 0 : strlen(text), len = chars / 4 * 3 + (chars % 4 == 0 ? 0 : chars % 4 - 1);

	return len > 0 && len <= max && chars % 4 != 1 && base64url_decode(text, out, len) ? len : 0;
}

/* NULL: OpenSSL does not take it for a key. */
static EVP_PKEY *
make_key(const char *type, OSSL_PARAM_BLD *build)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *key = NULL;

	if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
	    EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(context);
	OSSL_PARAM_free(params);
	return key;
}

/* RFC 7518 6.3.1 */
static EVP_PKEY *
read_rsa(const json_t *jwk)
{
	uint8_t n[RSA_BYTES_MAX], e[8];
	size_t n_len = decode(member(jwk, "n"), n, sizeof n), e_len = decode(member(jwk, "e"), e, sizeof e);
	BIGNUM *modulus = n_len == 0 ? NULL : BN_bin2bn(n, (int)n_len, NULL);
	BIGNUM *exponent = e_len == 0 ? NULL : BN_bin2bn(e, (int)e_len, NULL);
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	EVP_PKEY *key = NULL;

	if (modulus != NULL && exponent != NULL && build != NULL && BN_num_bits(modulus) >= RSA_BITS_MIN &&
	    BN_is_odd(modulus) && BN_is_odd(exponent) && !BN_is_one(exponent) &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
		key = make_key("RSA", build);
	OSSL_PARAM_BLD_free(build);
	BN_free(modulus);
	BN_free(exponent);
	return key;
}

/* RFC 7518 6.2.1. That the point is on the curve is looked at when it is taken in. */
static EVP_PKEY *
read_ec(const json_t *jwk)
{
	uint8_t point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
	const char *curve = member(jwk, "crv");
	OSSL_PARAM_BLD *build;
	EVP_PKEY *key = NULL;

	if (curve == NULL || strcmp(curve, "P-256") != 0 ||
	    decode(member(jwk, "x"), point + 1, P256_BYTES) != P256_BYTES ||
	    decode(member(jwk, "y"), point + 1 + P256_BYTES, P256_BYTES) != P256_BYTES)
		return NULL;
	build = OSSL_PARAM_BLD_new();
	if (build != NULL && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1)
		key = make_key("EC", build);
	OSSL_PARAM_BLD_free(build);
	return key;
}

/* RFC 7517 4.2 to 4.4: what it says of its use must fit, if it says. */
static bool
is_for(const json_t *jwk, enum algorithm algorithm)
{
	const json_t *use = json_object_get(jwk, "use"), *operations = json_object_get(jwk, "key_ops"),
		     *alg = json_object_get(jwk, "alg");
	const char *type = member(jwk, "kty");
	bool verifies = operations == NULL;

	for (size_t i = 0; i < json_array_size(operations); i++) {
		const char *operation = json_string_value(json_array_get(operations, i));

		verifies = verifies || (operation != NULL && strcmp(operation, "verify") == 0);
	}
	return type != NULL && strcmp(type, algorithms[algorithm].type) == 0 && verifies &&
	       (use == NULL || (json_is_string(use) && strcmp(json_string_value(use), "sig") == 0)) &&
	       (alg == NULL ||
		(json_is_string(alg) && strcmp(json_string_value(alg), algorithms[algorithm].name) == 0));
}

static void
add_key(struct jwk_set *set, const json_t *jwk)
{
	const char *kid = member(jwk, "kid");
	struct jwk *fresh = &set->keys[set->len];

	if (kid == NULL || kid[0] == '\0' || strlen(kid) > KID_MAX || set->len == JWK_SET_KEYS)
		return;
	for (size_t i = 0; i < ALGORITHMS; i++) {
		if (!is_for(jwk, (enum algorithm)i))
			continue;
		fresh->algorithm = (enum algorithm)i;
		fresh->key = i == RS256 ? read_rsa(jwk) : read_ec(jwk);
		fresh->kid = fresh->key == NULL ? NULL : strdup(kid);
		if (fresh->kid != NULL) {
			set->len++;
			return;
		}
		EVP_PKEY_free(fresh->key);
		fresh->key = NULL;
	}
}

struct jwk_set *
jwk_set_parse(struct slice json, char why[JWT_WHY_SIZE])
{
	json_t *whole = json.len > JWK_SET_MAX ? NULL : json_loadb((const char *)json.at, json.len, STRICT, NULL);
	const json_t *keys = json_object_get(whole, "keys");
	struct jwk_set *set = calloc(1, sizeof *set);

	for (size_t i = 0; set != NULL && i < json_array_size(keys); i++)
		add_key(set, json_array_get(keys, i));
	ERR_clear_error();
	if (json.len > JWK_SET_MAX)
		snprintf(why, JWT_WHY_SIZE, "it is over %d bytes", JWK_SET_MAX);
	else if (!json_is_array(keys))
		snprintf(why, JWT_WHY_SIZE, "it is no set of keys (RFC 7517), with each name once");
	else if (set == NULL)
		snprintf(why, JWT_WHY_SIZE, "out of memory");
	else if (set->len == 0)
		snprintf(why, JWT_WHY_SIZE, "no key in it is for RS256 or ES256 and has a name");
	else
		goto good;
	jwk_set_free(set);
	set = NULL;
good:
	json_decref(whole);
	return set;
}

void
jwk_set_free(struct jwk_set *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->len; i++) {
		EVP_PKEY_free(set->keys[i].key);
		free(set->keys[i].kid);
	}
	free(set);
}

size_t
jwk_set_len(const struct jwk_set *set)
{
	return set->len;
}

static const struct jwk *
find_key(const struct jwk_set *set, const char *kid, enum algorithm algorithm)
{
	for (size_t i = 0; i < set->len; i++)
		if (set->keys[i].algorithm == algorithm && strcmp(set->keys[i].kid, kid) == 0)
			return &set->keys[i];
	return NULL;
}

/* A token. */

bool
jwt_has_form(const char *text)
{
	const char *first = strchr(text, '.'), *second = first == NULL ? NULL : strchr(first + 1, '.');

	return strncmp(text, "eyJ", 3) == 0 && second != NULL && strchr(second + 1, '.') == NULL;
}

/* One of its parts, as JSON. NULL: it is none. */
static json_t *
read_part(const char *text)
{
	uint8_t bytes[JWT_MAX];
	size_t len = decode(text, bytes, sizeof bytes);
	json_t *json = len == 0 ? NULL : json_loadb((const char *)bytes, len, STRICT, NULL);

	if (json_is_object(json))
		return json;
	json_decref(json);
	return NULL;
}

/* RFC 9068 4, RFC 8725 3.11: what was signed for another purpose says so. */
static bool
is_access_token(const json_t *header)
{
	static const char *const types[] = {"JWT", "at+jwt", "application/at+jwt"};
	const json_t *type = json_object_get(header, "typ");

	for (size_t i = 0; json_is_string(type) && i < sizeof types / sizeof *types; i++)
		if (strcasecmp(json_string_value(type), types[i]) == 0)
			return true;
	return type == NULL;
}

/* What else it has, a key of its own or where to get one, is not looked at. */
static enum jwt_refusal
read_header(const struct jwk_set *set, const char *text, const struct jwk **key)
{
	json_t *header = read_part(text);
	const char *alg = member(header, "alg"), *kid = member(header, "kid");
	enum jwt_refusal refusal = JWT_OK;
	size_t i = 0;

	while (i < ALGORITHMS && (alg == NULL || strcmp(algorithms[i].name, alg) != 0))
		i++;
	/* RFC 7515 4.1.11, RFC 7797: there is no extension that we know. */
	if (header == NULL || json_object_get(header, "crit") != NULL || json_object_get(header, "b64") != NULL)
		refusal = JWT_HEADER;
	else if (i == ALGORITHMS)
		refusal = JWT_ALGORITHM;
	else if (!is_access_token(header))
		refusal = JWT_TYPE;
	else if (kid == NULL)
		refusal = JWT_NO_KEY;
	else if ((*key = find_key(set, kid, (enum algorithm)i)) == NULL)
		refusal = JWT_UNKNOWN_KEY;
	json_decref(header);
	return refusal;
}

static bool
verify(const struct jwk *key, struct slice text, const char *signature)
{
	uint8_t bytes[RSA_BYTES_MAX], der[ECDSA_DER_MAX];
	struct slice s = {bytes, decode(signature, bytes, sizeof bytes)};
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = false;

	/* RFC 7518 3.3, 3.4: as wide as the key, or r || s. */
	if (context == NULL ||
	    s.len != (key->algorithm == ES256 ? 2 * P256_BYTES : (size_t)EVP_PKEY_get_size(key->key)))
		goto out;
	if (key->algorithm == ES256)
		s = (struct slice){der, ecdsa_print(s, der)};
	good = EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key->key) == 1 &&
	       EVP_DigestVerify(context, s.at, s.len, text.at, text.len) == 1;
out:
	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return good;
}

/* Claims. */

/* A name in which a URL stands is no way. */
static const json_t *
find_claim(const json_t *claims, const char *name)
{
	const json_t *at = claims;

	if (name == NULL || name[0] == '\0')
		return NULL;
	if (strstr(name, "://") != NULL)
		return json_object_get(claims, name);
	for (size_t len; at != NULL && name[0] != '\0'; name += len + (name[len] == '.')) {
		len = strcspn(name, ".");
		at = json_object_getn(at, name, len);
	}
	return at;
}

/* Calls with each text that a claim has: of a text its words, of a list its members. */
static void
each_value(const json_t *claim, void (*take)(void *context, const char *value, size_t len), void *context)
{
	const char *text = json_string_value(claim);

	for (size_t len; text != NULL && text[0] != '\0'; text += len + strspn(text + len, " ")) {
		len = strcspn(text, " ");
		if (len > 0)
			take(context, text, len);
	}
	for (size_t i = 0; i < json_array_size(claim); i++) {
		const json_t *item = json_array_get(claim, i);

		if (json_is_string(item))
			take(context, json_string_value(item), json_string_length(item));
	}
}

/* What a map says of a value; absent: nothing. A value may have "=" in it, a name has none. */
static struct slice
mapped(const char *map, const char *value, size_t len)
{
	while (map != NULL && *(map += strspn(map, " \t")) != '\0') {
		size_t word = strcspn(map, " \t");
		const char *equals = memrchr(map, '=', word);

		if (equals != NULL && (size_t)(equals - map) == len && memcmp(map, value, len) == 0)
			return (struct slice){(const uint8_t *)equals + 1, word - len - 1};
		map += word;
	}
	return (struct slice){NULL, 0};
}

struct grant {
	const struct jwt_rules *rules;
	struct jwt *jwt;
	bool several; /* tenants */
};

static bool
read_role(struct slice name, enum role *role)
{
	char text[16] = "";

	if (name.at == NULL || name.len >= sizeof text)
		return false;
	memcpy(text, name.at, name.len);
	return role_parse(text, role);
}

/* The highest counts. */
static void
take_role(void *context, const char *value, size_t len)
{
	struct grant *g = context;
	enum role role;

	if (read_role(mapped(g->rules->roles, value, len), &role) && role > g->jwt->role)
		g->jwt->role = role;
}

static void
take_tenant(void *context, const char *value, size_t len)
{
	struct grant *g = context;
	struct slice name = g->rules->tenants == NULL ? (struct slice){(const uint8_t *)value, len}
						      : mapped(g->rules->tenants, value, len);
	char *tenant = g->jwt->tenant;

	if (name.at == NULL || name.len == 0 || name.len >= sizeof g->jwt->tenant)
		return;
	if (tenant[0] != '\0' && (strlen(tenant) != name.len || memcmp(tenant, name.at, name.len) != 0))
		g->several = true;
	memcpy(tenant, name.at, name.len);
	tenant[name.len] = '\0';
}

static void
take_scope(void *context, const char *value, size_t len)
{
	struct grant *g = context;
	struct slice name = g->rules->scopes == NULL ? (struct slice){(const uint8_t *)value, len}
						     : mapped(g->rules->scopes, value, len);
	enum scope scope = name.at == NULL ? SCOPE_ANY : scope_parse((const char *)name.at, name.len);

	if (scope != SCOPE_ANY)
		g->jwt->scopes |= SCOPE_BIT(scope);
}

/* A text for the audit log: of bounded length, without control characters. */
static bool
read_name(const json_t *claim, char out[JWT_NAME_SIZE])
{
	const char *text = json_string_value(claim);

	if (text == NULL || text[0] == '\0' || strlen(text) >= JWT_NAME_SIZE)
		return false;
	for (const char *at = text; *at != '\0'; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return false;
	strcpy(out, text);
	return true;
}

static enum jwt_refusal
read_grant(const json_t *claims, const struct jwt_rules *rules, struct jwt *jwt)
{
	struct grant g = {.rules = rules, .jwt = jwt};

	if (!read_name(json_object_get(claims, "sub"), jwt->subject))
		return JWT_SUBJECT;
	if (!read_name(find_claim(claims, rules->name_claim), jwt->name))
		strcpy(jwt->name, jwt->subject);
	each_value(find_claim(claims, rules->role_claim), take_role, &g);
	if (jwt->role == ROLE_NONE)
		return JWT_ROLE;
	each_value(find_claim(claims, rules->tenant_claim), take_tenant, &g);
	if (jwt->role == ROLE_OPERATOR)
		jwt->tenant[0] = '\0'; /* it stands above them */
	else if (jwt->tenant[0] == '\0' || g.several)
		return JWT_TENANT;
	if (rules->scope_claim == NULL)
		return JWT_OK;
	each_value(find_claim(claims, rules->scope_claim), take_scope, &g);
	return jwt->scopes == 0 ? JWT_SCOPES : JWT_OK;
}

/* RFC 7519 2: seconds, maybe with a fraction. False: it is there, and none. */
static bool
read_time(const json_t *claims, const char *name, bool required, double *out)
{
	const json_t *claim = json_object_get(claims, name);

	if (claim == NULL)
		return !required;
	*out = json_number_value(claim);
	return json_is_number(claim) && *out >= 0 && *out <= TIME_LAST;
}

static enum jwt_refusal
judge_times(const json_t *claims, int64_t now, int64_t leeway, int64_t *expires)
{
	double exp = 0, nbf = 0, iat = 0;

	if (!read_time(claims, "exp", true, &exp) || !read_time(claims, "nbf", false, &nbf) ||
	    !read_time(claims, "iat", false, &iat))
		return JWT_TIMES;
	*expires = (int64_t)floor(exp);
	if (*expires + leeway <= now)
		return JWT_EXPIRED;
	return nbf > (double)(now + leeway) || iat > (double)(now + leeway) ? JWT_NOT_YET : JWT_OK;
}

static bool
is_text(const json_t *json, const char *wanted)
{
	const char *text = json_string_value(json);

	return text != NULL && strcmp(text, wanted) == 0;
}

/* RFC 7519 4.1.3 */
static bool
is_for_us(const json_t *audience, const char *wanted)
{
	for (size_t i = 0; i < json_array_size(audience); i++)
		if (is_text(json_array_get(audience, i), wanted))
			return true;
	return is_text(audience, wanted);
}

static enum jwt_refusal
read_claims(const char *text, const struct jwt_rules *rules, int64_t now, struct jwt *jwt)
{
	json_t *claims = read_part(text);
	enum jwt_refusal refusal = JWT_OK;

	if (claims == NULL)
		return JWT_CLAIMS;
	if (!is_text(json_object_get(claims, "iss"), rules->issuer))
		refusal = JWT_ISSUER;
	else if (!is_for_us(json_object_get(claims, "aud"), rules->audience))
		refusal = JWT_AUDIENCE;
	else if (json_object_get(claims, "cnf") != NULL) /* RFC 7800: who merely has it is not who may use it */
		refusal = JWT_BOUND;
	else
		refusal = judge_times(claims, now, rules->leeway_s, &jwt->expires);
	if (refusal == JWT_OK)
		refusal = read_grant(claims, rules, jwt);
	json_decref(claims);
	return refusal;
}

enum jwt_refusal
jwt_verify(const struct jwk_set *set, const struct jwt_rules *rules, const char *text, int64_t now, struct jwt *out)
{
	char copy[JWT_MAX + 1];
	size_t len = strnlen(text, JWT_MAX + 1);
	const struct jwk *key = NULL;
	struct jwt jwt = {.expires = 0};
	enum jwt_refusal refusal;
	char *claims, *signature;

	if (len > JWT_MAX)
		return JWT_TOO_LONG;
	if (!jwt_has_form(text))
		return JWT_MALFORMED;
	memcpy(copy, text, len + 1);
	claims = strchr(copy, '.');
	signature = strrchr(copy, '.');
	*claims++ = '\0';
	*signature++ = '\0';
	refusal = read_header(set, copy, &key);
	if (refusal != JWT_OK)
		return refusal;
	if (!verify(key, (struct slice){(const uint8_t *)text, (size_t)(signature - copy) - 1}, signature))
		return JWT_SIGNATURE;
	refusal = read_claims(claims, rules, now, &jwt);
	if (refusal == JWT_OK)
		*out = jwt;
	return refusal;
}

static const char *
map_fault(const char *map, bool (*fits)(struct slice))
{
	while (map != NULL && *(map += strspn(map, " \t")) != '\0') {
		size_t word = strcspn(map, " \t");
		const char *equals = memrchr(map, '=', word);

		if (equals == NULL || equals == map ||
		    !fits((struct slice){(const uint8_t *)equals + 1, (size_t)(map + word - equals - 1)}))
			return map;
		map += word;
	}
	return NULL;
}

static bool
fits_role(struct slice name)
{
	enum role role;

	return read_role(name, &role);
}

static bool
fits_scope(struct slice name)
{
	return scope_parse((const char *)name.at, name.len) != SCOPE_ANY;
}

const char *
jwt_roles_fault(const char *map)
{
	return map_fault(map, fits_role);
}

const char *
jwt_scopes_fault(const char *map)
{
	return map_fault(map, fits_scope);
}
